"""What looks on while the load runs: the sender's side, the loop, the process.

Nothing here computes while an event waits: values are put on lists, and counted where a sample is taken.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable

from rumbuffer.bench.load import AT_BASE
from rumbuffer.core.outcomes import Delivered, Outcome
from rumbuffer.core.sealed import SealedBatch
from rumbuffer.sender import Sender

__all__ = ["LoopLag", "WatchedSender", "memory_in_use"]

_MARK = b'{\\"at\\":'
"""How details begin that were made by `Load`, embedded in an event."""

_LAG_EVERY = 0.01


class WatchedSender:
    """Sends through another sender, and notes what came of each request.

    `clock` tells the seconds since the start of the load; `measured_from` is the end of its warm-up. Lists
    hold what is new since `take()`: microseconds of a request, events of a delivered batch, microseconds from
    an event's planned time to its delivery; `early_ages` are those of the warm-up's events.
    """

    def __init__(self, sender: Sender, clock: Callable[[], float], measured_from: float) -> None:
        self._sender = sender
        self._clock = clock
        self._measured_from = int(measured_from * 1e6)
        self.requests: list[int] = []
        self.fills: list[int] = []
        self.ages: list[int] = []
        self.early_ages: list[int] = []
        self.delivered: int = 0
        self.bytes_delivered: int = 0

    async def start(self, *, max_in_flight: int) -> None:
        """Start the other."""
        await self._sender.start(max_in_flight=max_in_flight)

    async def send(self, batch: SealedBatch) -> Outcome:
        """Let the other send, and note what came of it."""
        began = self._clock()
        outcome = await self._sender.send(batch)
        now = self._clock()
        self.requests.append(int((now - began) * 1e6))
        if isinstance(outcome, Delivered):
            self._note(batch, int(now * 1e6))
        return outcome

    async def aclose(self) -> None:
        """Close the other."""
        await self._sender.aclose()

    def _note(self, batch: SealedBatch, now: int) -> None:
        self.fills.append(len(batch.events))
        self.delivered += len(batch.events)
        measured_from = self._measured_from
        for event in batch.events:
            self.bytes_delivered += len(event)
            begin = event.find(_MARK) + len(_MARK)
            planned = int(event[begin : begin + 16]) - AT_BASE
            (self.ages if planned >= measured_from else self.early_ages).append(now - planned)

    def take(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """Return requests, fills, ages and early ages since the last call."""
        taken = self.requests, self.fills, self.ages, self.early_ages
        self.requests, self.fills, self.ages, self.early_ages = [], [], [], []
        return taken


class LoopLag:
    """Wakes up every 10 ms and notes how late that is (microseconds).

    A stall hides the wakes that were due in it: each is counted with the lag that it would have had. The
    loop's timers are up to a millisecond late by themselves (epoll counts in whole ones).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._planned = time.perf_counter() + _LAG_EVERY
        self._timer = loop.call_later(_LAG_EVERY, self._wake)
        self._lags: list[int] = []

    def _wake(self) -> None:
        now = time.perf_counter()
        while self._planned <= now:
            self._lags.append(int((now - self._planned) * 1e6))
            self._planned += _LAG_EVERY
        self._timer = self._loop.call_later(self._planned - now, self._wake)

    def take(self) -> list[int]:
        """Return the lags since the last call."""
        lags, self._lags = self._lags, []
        return lags

    def stop(self) -> None:
        """Wake up no more."""
        self._timer.cancel()


def memory_in_use() -> int:
    """The process's resident memory in bytes; where the system does not tell it, the most that it was."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - four times a second: as cheap as can be
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
