"""Losses: every event that is lost is counted under its reason, and handed to the host.

An overflow can lose events at the rate they come in. So losses are gathered and handed over at most
once a second, and of the lost events themselves a bounded amount is kept for the hooks; the counts
are always exact.
"""

from __future__ import annotations

from collections.abc import Sequence

from rumbuffer.core.counters import Counters
from rumbuffer.core.flights import TrackedEvent, Waiter
from rumbuffer.core.notices import DeadLetterReason, Dropped, DropReason

__all__ = ["Losses"]

_KEPT_BYTES = 1 << 20
_HAND_OVER_EVERY = 1.0


class _Gathered:
    __slots__ = ("count", "events", "size")

    def __init__(self) -> None:
        self.count = 0
        self.size = 0
        self.events: list[bytes] = []


class Losses:
    """Counts drops, and keeps what hooks and `deliver()` calls must hear of them."""

    __slots__ = ("_counters", "_gathered", "_keep_dropped", "_kept", "hand_over_at", "unheard")

    def __init__(self, counters: Counters, *, keep_dropped: bool) -> None:
        self._counters = counters
        self._keep_dropped = keep_dropped
        self._gathered: dict[DropReason, _Gathered] = {}
        self._kept = 0
        self.hand_over_at = float("-inf")
        self.unheard: list[tuple[Waiter, DropReason | DeadLetterReason, str]] = []
        """Losses of events that somebody waits for."""

    def drop(self, reason: DropReason, events: Sequence[bytes]) -> bool:
        """Count accepted events as dropped; tell whether these are the first since the hand-over."""
        first = not self._gathered
        gathered = self._gathered.setdefault(reason, _Gathered())
        gathered.count += len(events)
        self._counters.dropped[reason] += len(events)
        self.note_waiters(events, reason, "")
        for event in events:
            gathered.size += len(event)
            if self._keep_dropped and self._kept + len(event) <= _KEPT_BYTES:
                self._kept += len(event)
                gathered.events.append(event)
        return first

    def note_waiters(
        self, events: Sequence[bytes], reason: DropReason | DeadLetterReason, detail: str
    ) -> None:
        """Remember who must hear of the loss."""
        for event in events:
            if event.__class__ is TrackedEvent:
                self.unheard.append((event.waiter, reason, detail))

    def pending_since_hand_over(self) -> bool:
        """Tell whether there are drops to hand over."""
        return bool(self._gathered)

    def take(self, now: float) -> list[Dropped]:
        """Return the gathered drops, not oftener than once a second."""
        if not self._gathered or now < self.hand_over_at:
            return []
        self.hand_over_at = now + _HAND_OVER_EVERY
        gathered, self._gathered, self._kept = self._gathered, {}, 0
        return [
            Dropped(reason, lost.count, lost.size, tuple(bytes(event) for event in lost.events))
            for reason, lost in gathered.items()
        ]
