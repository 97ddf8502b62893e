# ruff: noqa: SLF001 - see below
"""Which line each event on its way is of; the one module of `send` that knows a `RumBuffer` from inside.

Neither `put()` nor `deliver()` serves here: the one does not tell what became of an event, and the other
makes its batch due at once, so that no batch would ever be full. So the buffer sends through a sender that
notes what the service took, and a hook hears of dead letters. Events are known by their bytes, which the
buffer keeps anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rumbuffer import DeadLettered, Delivered, Notice, Outcome, RumBuffer, SealedBatch, Sender
from rumbuffer.cli.send.book import Line
from rumbuffer.cli.send.lines import Offer

__all__ = ["Ledger", "NotingSender", "offer"]

OnDeath = Callable[[Line, bytes, DeadLettered], None]


class _Twins:
    """Several lines, or places in one, with the very same event; they are settled when all have arrived."""

    __slots__ = ("arrived", "lines")

    def __init__(self, first: Line) -> None:
        self.arrived = 0
        self.lines = [first]


class Ledger:
    """The events that were handed to the buffer and have no outcome yet.

    `on_death` hears of each event that was given up; `moved` is set at each outcome.
    """

    def __init__(self, on_death: OnDeath) -> None:
        self.delivered: int = 0
        self.moved: asyncio.Event = asyncio.Event()
        self._on_death = on_death
        self._lines: dict[bytes, Line | _Twins] = {}

    def note(self, event: bytes, line: Line) -> None:
        """This event is the line's, and about to be handed over."""
        line.left += 1
        known = self._lines.get(event)
        if known is None:
            self._lines[event] = line
            return
        if not isinstance(known, _Twins):
            known = self._lines[event] = _Twins(known)
        known.lines.append(line)

    def forget(self, event: bytes, line: Line) -> None:
        """The buffer did not take the event that was noted last."""
        known = self._lines[event]
        if isinstance(known, _Twins):
            known.lines.pop()
            self._settle_if_all_arrived(event, known)
        else:
            del self._lines[event]
        line.left -= 1

    def arrived(self, batch: SealedBatch) -> None:
        """The service took this batch."""
        for event in batch.events:
            known = self._lines.get(event)
            if isinstance(known, _Twins):
                known.arrived += 1
                self._settle_if_all_arrived(event, known)
            elif known is not None:
                del self._lines[event]
                known.event_delivered()
        self.delivered += len(batch.events)
        self.moved.set()

    def _settle_if_all_arrived(self, event: bytes, twins: _Twins) -> None:
        if twins.arrived == len(twins.lines):
            del self._lines[event]
            for line in twins.lines:
                line.event_delivered()

    def hear(self, notice: Notice) -> None:
        """Take in what the buffer tells; a hook."""
        if not isinstance(notice, DeadLettered):
            return
        for event in notice.events:
            known = self._lines.get(event)
            if isinstance(known, _Twins):
                line = known.lines.pop(0)
                self._settle_if_all_arrived(event, known)
            elif known is not None:
                line = known
                del self._lines[event]
            else:  # it had arrived in a request whose answer was lost
                continue
            self._on_death(line, event, notice)
            line.event_died(str(notice.reason))
        self.moved.set()


class NotingSender:
    """Sends through another sender, and notes what arrived. `hold()` lets nothing new go out."""

    def __init__(self, sender: Sender, ledger: Ledger) -> None:
        self._sender = sender
        self._ledger = ledger
        self._held = False
        self._out = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self, *, max_in_flight: int) -> None:
        """Start the other."""
        await self._sender.start(max_in_flight=max_in_flight)

    async def send(self, batch: SealedBatch) -> Outcome:
        """Send through the other; held, wait to be cancelled."""
        if self._held:
            await asyncio.get_running_loop().create_future()
        self._out += 1
        self._idle.clear()
        try:
            outcome = await self._sender.send(batch)
        finally:
            self._out -= 1
            if not self._out:
                self._idle.set()
        if isinstance(outcome, Delivered):
            self._ledger.arrived(batch)
        return outcome

    async def aclose(self) -> None:
        """Close the other."""
        await self._sender.aclose()

    async def hold(self) -> None:
        """Send nothing more, and wait for the answers to what is out."""
        self._held = True
        await self._idle.wait()


async def offer(buffer: RumBuffer, offered: Offer) -> None:
    """Hand an encoded event to the buffer as `put()` does, whatever is sampled.

    Raises `InvalidEvent` for what exceeds a limit of the batches, and `BufferClosed`.
    """
    await buffer._admit_encoded(offered.event, offered.session, offered.app_monitor, None)
