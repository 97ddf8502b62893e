"""Flights: sealed batches on their way, and what is left of them.

A flight is one batch from its sealing to its final outcome, in one slot. Where the service refuses
the content, the batch is halved (and halved again) until the bad events are alone; the parts are sent
one after the other, so that a flight never needs a second slot, and each part's id derives from its
parent's, so that a repeat repeats it.

Halving spends little: when the first half of a refused batch is delivered whole, the second must hold
the bad event, and is halved without being sent. One bad event among 100 costs 8 to 15 requests.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from rumbuffer.core.sealed import SealedBatch

if TYPE_CHECKING:
    from rumbuffer.core.lanes import Lane
    from rumbuffer.events import Session

__all__ = ["Flight", "FlightState", "Part"]


class FlightState(Enum):
    """Where a flight is."""

    WAITING = auto()
    """For its time, a token, credit; it holds a slot."""
    SENDING = auto()
    """A request is out; it holds a slot."""
    PARKED = auto()
    """It keeps its id and events, and has given back its slot: behind a shut gate, or back from there, or
    because it is doubtful or being halved."""


class Part:
    """A batch that is still to be sent."""

    __slots__ = ("batch", "rest_is_bad")

    def __init__(self, batch: SealedBatch) -> None:
        self.batch: SealedBatch = batch
        self.rest_is_bad: bool = False  # if this part is delivered whole, the next one holds a bad event


class Flight:
    """One slot's worth of sealed events, with what happened to them so far.

    `charge` is the batch's own; its events are charged one by one. `seq`, `opened`, `attributes`,
    `is_exempt` and `shed_rate` are its open batch's, for a flight may go back to being one.
    """

    __slots__ = (
        "ambiguous",
        "attributes",
        "charge",
        "delivered",
        "failures",
        "failures_counted",
        "halving_answers",
        "held",
        "is_exempt",
        "is_halving",
        "lane",
        "last_failure_at",
        "not_before",
        "opened",
        "outlived_outage",
        "parts",
        "retry_costs_credit",
        "sent_at",
        "seq",
        "session",
        "shed_rate",
        "stale_excused",
        "state",
        "throttled",
    )

    def __init__(
        self,
        lane: Lane,
        batch: SealedBatch,
        session: Session,
        *,
        seq: int,
        opened: float,
        charge: int,
        now: float,
        attributes: bytes | None = None,
        is_exempt: bool = False,
        shed_rate: float = 1.0,
    ) -> None:
        self.lane: Lane = lane
        self.session: Session = session
        self.attributes: bytes | None = attributes
        self.is_exempt: bool = is_exempt
        self.shed_rate: float = shed_rate
        self.seq: int = seq
        self.opened: float = opened
        self.charge: int = charge
        self.parts: list[Part] = [Part(batch)]
        self.state: FlightState = FlightState.WAITING
        self.sent_at: float = now
        self.delivered: int = 0
        self.is_halving: bool = False
        self.halving_answers: int = 0
        self.last_failure_at: float = now
        self._start_part()

    def _start_part(self) -> None:
        """What was learnt about the last part says nothing about the next."""
        self.ambiguous: bool = False  # whether a try may have been stored without our knowing
        self.held: bool = False  # whether its last answer was that a setting is wrong
        self.throttled: bool = False
        self.failures: int = 0
        self.failures_counted: int = 0
        self.outlived_outage: bool = False
        self.retry_costs_credit: bool = False
        self.stale_excused: bool = False
        self.not_before: float = 0.0

    @property
    def batch(self) -> SealedBatch:
        """The part that is to be sent, or is being sent."""
        return self.parts[-1].batch

    @property
    def is_doubtful(self) -> bool:
        """Whether the batch may be what fails, and not the service."""
        return self.failures_counted > 0 or self.outlived_outage

    def event_count(self) -> int:
        """Return how many events have no final outcome yet."""
        return sum(len(part.batch.events) for part in self.parts)

    def part_delivered(self) -> SealedBatch:
        """The present part arrived whole; return it."""
        part = self.parts.pop()
        self.delivered += len(part.batch.events)
        self._start_part()
        # A single event is sent all the same: only the service's own word makes a dead letter.
        if part.rest_is_bad and len(self.parts[-1].batch.events) > 1:
            self._split(known_bad=True)
        return part.batch

    def part_given_up(self) -> SealedBatch:
        """The present part is given up for good; return it."""
        part = self.parts.pop()
        self._start_part()
        return part.batch

    def halve(self) -> None:
        """The service refused the content of the present part, which has several events."""
        self.is_halving = True
        self._split(known_bad=True)

    def split(self) -> None:
        """The present part, which has several events, is too large."""
        self._split(known_bad=False)

    def _split(self, *, known_bad: bool) -> None:
        parent = self.parts.pop()
        first, second = (Part(half) for half in parent.batch.halves())
        first.rest_is_bad = known_bad
        second.rest_is_bad = parent.rest_is_bad and not known_bad
        self.parts += (second, first)
        self._start_part()

    def rest(self) -> list[SealedBatch]:
        """Return all that is left, in order, and forget it."""
        left = [part.batch for part in reversed(self.parts)]
        self.parts = []
        return left

    def __repr__(self) -> str:
        return f"<Flight {self.state.name.lower()} of {self.event_count()} events in {len(self.parts)} parts>"
