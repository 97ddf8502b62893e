"""The generator: offers what the plan says is due, and measures each `record()`.

It shares the loop with the buffer, as handlers of a web server do. It gives way to the loop after a few
milliseconds however far behind it is; then it is late, and says so: a run in which it was is no measurement
of the rate that was asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

from rumbuffer.bench.load import EVENT_TYPE, Load
from rumbuffer.core.admission import Admission
from rumbuffer.events import Session

__all__ = ["Generator", "Record"]

_TURN = 2_000_000
"""Nanoseconds of events at one go."""

_NAP = 0.001
_OVERTIME = 1.0
"""Seconds after the planned end that a generator which is behind may go on for."""


class Record(Protocol):
    """`RumBuffer.record`."""

    def __call__(
        self, type: str, details: dict[str, Any], *, session: Session, metadata: dict[str, Any] | None
    ) -> Admission:
        """Offer an event."""
        ...


class Generator:
    """Offers a `Load`. Times are in seconds since the start of the load, as `clock` tells them.

    `latencies` (nanoseconds of `record()`) and `delays` (microseconds from an event's planned time until it
    was offered) hold what is new since `take()`; `own` are the nanoseconds that the generator itself has
    taken.
    """

    def __init__(
        self,
        load: Load,
        record: Record,
        clock: Callable[[], float],
        timer: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._load = load
        self._record = record
        self._clock = clock
        self._timer = timer
        self.latencies: list[int] = []
        self.delays: list[int] = []
        self.offered: int = 0
        self.not_offered: int = 0
        self.own: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Offer everything, until it is over or `stop` is set; what is then left is `not_offered`."""
        end = self._load.settings.end
        while not stop.is_set():
            now = self._clock()
            if now > end + _OVERTIME or (not self.turn(now) and now >= end):
                break
            wait = min(self._load.at, end) - self._clock()
            await asyncio.sleep(0 if wait <= 0 else min(max(wait, _NAP), 0.1))
        self.not_offered = self._load.skip(min(self._clock(), end))

    def turn(self, now: float) -> bool:
        """Offer what is due, for some milliseconds at most; tell whether anything is to come."""
        load, record, timer, metadata = self._load, self._record, self._timer, self._load.metadata
        latencies, delays = self.latencies, self.delays
        began, recorded = timer(), 0
        give_way_at = began + _TURN
        after = began
        start = now - began / 1e9  # the clock's time where the timer is at 0
        while load.at <= now and after < give_way_at:
            planned = load.at - start
            session, details = load.take()
            before = timer()
            record(EVENT_TYPE, details, session=session, metadata=metadata)
            after = timer()
            latencies.append(after - before)
            delays.append(int(before / 1e3 - planned * 1e6))
            recorded += after - before
            self.offered += 1
        self.own += timer() - began - recorded
        return load.at != float("inf")

    def take(self) -> tuple[list[int], list[int]]:
        """Return latencies and delays since the last call."""
        taken = self.latencies, self.delays
        self.latencies, self.delays = [], []
        return taken
