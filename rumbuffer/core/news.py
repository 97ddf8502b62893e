"""News: what the core leaves for the pump to hand over, and whether it must look at all.

Nothing is told from inside the core: hooks, futures and the log belong to the shell, outside the lock.
So whatever happens to someone who waits, and whatever the host must hear, is left here and taken by the
pump under the lock. `wake` says that the pump must look earlier than it planned.

An overflow can lose events at the rate they come in. So drops are gathered and handed over at most once
a second, and of the dropped events themselves a bounded amount is kept for the hooks; the counts are
always exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from rumbuffer.core.counters import Counters
from rumbuffer.core.notices import DeadLetterReason, Dropped, DropReason, Notice

if TYPE_CHECKING:
    from rumbuffer.core.room import RoomWaiter

__all__ = ["Arrived", "Fate", "Lost", "News", "Taken", "Waiter"]

_KEPT_BYTES = 1 << 20
_DROPS_EVERY = 1.0


class Waiter:
    """Someone who waits for an event's fate; the shell knows what to do with it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Arrived:
    """The event was delivered in this batch."""

    batch_id: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The event was dropped or dead-lettered."""

    reason: DropReason | DeadLetterReason
    detail: str = ""


Fate: TypeAlias = Arrived | Lost


@dataclass(frozen=True, slots=True)
class Taken:
    """What there was to hand over."""

    granted: list[RoomWaiter]
    fates: list[tuple[Waiter, Fate]]
    notices: list[Notice]


class _Drops:
    __slots__ = ("count", "events", "size")

    def __init__(self) -> None:
        self.count = 0
        self.size = 0
        self.events: list[bytes] = []


class News:
    """Collects what is to be handed over."""

    __slots__ = (
        "_counters",
        "_drops",
        "_fates",
        "_granted",
        "_keep_dropped",
        "_kept",
        "_notices",
        "_watched",
        "drops_due",
        "wake",
    )

    def __init__(self, counters: Counters, *, keep_dropped: bool) -> None:
        self.wake: bool = False
        self.drops_due: float = float("-inf")
        """When gathered drops may be handed over next."""
        self._counters = counters
        self._keep_dropped = keep_dropped
        self._drops: dict[DropReason, _Drops] = {}
        self._kept = 0
        self._granted: list[RoomWaiter] = []
        self._fates: list[tuple[Waiter, Fate]] = []
        self._notices: list[Notice] = []
        self._watched: dict[bytes, list[Waiter]] = {}

    # Who waits for what ---------------------------------------------------------------------------------

    def grant(self, waiter: RoomWaiter) -> None:
        """Room was reserved for a `put()`."""
        self._granted.append(waiter)
        self.wake = True

    def watch(self, event: bytes, waiter: Waiter) -> None:
        """Someone waits for the fate of this admitted event."""
        self._watched.setdefault(event, []).append(waiter)

    def is_watched(self, events: Sequence[bytes]) -> bool:
        """Tell whether somebody waits for one of them."""
        return bool(self._watched) and any(event in self._watched for event in events)

    def decide(self, events: Sequence[bytes], fate: Fate) -> None:
        """These events have their final outcome: tell those who wait for one."""
        if not self._watched:
            return
        for event in events:
            waiters = self._watched.get(event)
            if waiters is not None:
                self._fates.append((waiters.pop(0), fate))
                self.wake = True
                if not waiters:
                    del self._watched[event]

    # What the host hears --------------------------------------------------------------------------------

    def notice(self, *notices: Notice) -> None:
        """Something happened that the host must hear."""
        if notices:
            self._notices += notices
            self.wake = True

    def drop(self, reason: DropReason, events: Sequence[bytes]) -> None:
        """Count accepted events as dropped, and gather them for the next hand-over."""
        if not self._drops:
            self.wake = True  # later ones ride along
        drops = self._drops.setdefault(reason, _Drops())
        drops.count += len(events)
        self._counters.dropped[reason] += len(events)
        self.decide(events, Lost(reason))
        for event in events:
            drops.size += len(event)
            if self._keep_dropped and self._kept + len(event) <= _KEPT_BYTES:
                self._kept += len(event)
                drops.events.append(event)

    def next_hand_over(self) -> float:
        """Return when the pump must look for gathered drops."""
        return self.drops_due if self._drops else float("inf")

    def take(self, now: float) -> Taken:
        """Take everything; gathered drops not oftener than once a second (infinity takes them all)."""
        notices, self._notices = self._notices, []
        granted, self._granted = self._granted, []
        fates, self._fates = self._fates, []
        if self._drops and now >= self.drops_due:
            if now < float("inf"):
                self.drops_due = now + _DROPS_EVERY
            drops, self._drops, self._kept = self._drops, {}, 0
            notices += [
                Dropped(reason, lost.count, lost.size, tuple(lost.events)) for reason, lost in drops.items()
            ]
        return Taken(granted, fates, notices)
