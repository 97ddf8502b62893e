"""Visitors: who comes when, and what their browsers send. Plain values, told the time.

Arrivals are open-loop: they follow their own clock, whatever the buffer does. Sessions are heavy-tailed:
most have a handful of events, a few have hundreds. Each visitor replays one of the recorded sessions,
from its beginning, and over again when its own is longer.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rumbuffer.cli.recorded import RecordedEvent, RecordedSession
from rumbuffer.events import Session

__all__ = ["Visit", "Visitors"]

_FEWEST, _MOST = 4, 600
_TAIL = 0.9
"""Pareto's index: half of the visits have 8 events or fewer, and one in a hundred has 600."""

_GAP_MEDIAN, _GAP_SIGMA = 0.06, 0.6
"""Seconds between two events of a visit; the recorded browser sent 10 a second."""

_SESSION_START = "com.amazon.rum.session_start_event"


@dataclass(slots=True)
class Visit:
    """One visitor's session: `length` events, of which `sent` are past."""

    session: Session
    script: Sequence[RecordedEvent]
    length: int
    gap: float
    sent: int = 0

    def next_event(self) -> RecordedEvent:
        """Return the event that the browser sends now; a session starts once."""
        event = self.script[self.sent % len(self.script)]
        if self.sent and event.type == _SESSION_START:
            event = self.script[1]
        self.sent += 1
        return event


@dataclass(slots=True)
class Visitors:
    """All visitors; `rate` arrive a second from 0 on, for `seconds`."""

    recorded: Sequence[RecordedSession]
    rate: float
    seconds: float
    random: random.Random
    finished: list[Visit] = field(default_factory=list)
    _due: list[tuple[float, int, Visit]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _next_arrival: float = 0.0

    @property
    def present(self) -> int:
        """How many visits go on."""
        return len(self._due)

    @property
    def total(self) -> int:
        """How many visitors have come."""
        return len(self.finished) + len(self._due)

    @property
    def visits(self) -> list[Visit]:
        """Every visit so far."""
        return self.finished + [visit for _, _, visit in self._due]

    def due(self, now: float) -> Iterator[tuple[Visit, RecordedEvent]]:
        """Yield what was sent until `now` (seconds since the start), in order."""
        until = min(now, self.seconds)
        while True:
            at, number, visit = self._due[0] if self._due else (math.inf, 0, None)
            if self._next_arrival <= min(at, until):
                heapq.heappush(self._due, (self._next_arrival, next(self._numbers), self._arrive()))
                self._next_arrival += self.random.expovariate(self.rate)
            elif visit is None or at > until:
                return
            else:
                yield visit, visit.next_event()
                self._go_on(at, number, visit)

    def _go_on(self, at: float, number: int, visit: Visit) -> None:
        if visit.sent < visit.length:
            later = at + self.random.expovariate(1 / visit.gap)
            heapq.heapreplace(self._due, (later, number, visit))
        else:
            self.finished.append(heapq.heappop(self._due)[2])

    def _arrive(self) -> Visit:
        recorded = self.random.choice(self.recorded)
        return Visit(
            Session.new(user_id=str(uuid.uuid4()), attributes=recorded.attributes),
            recorded.events,
            min(_MOST, int(_FEWEST * self.random.paretovariate(_TAIL))),
            self.random.lognormvariate(0.0, _GAP_SIGMA) * _GAP_MEDIAN,
        )
