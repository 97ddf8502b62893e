"""What the awaitables of a buffer return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CloseReport", "Delivery", "FlushReport"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event arrived, in the batch `batch_id`; or its session is not sampled, and nothing was sent."""

    event_id: str
    batch_id: str | None
    sampled_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushReport:
    """What happened while a flush ran.

    `complete` says that every event admitted before it has its final outcome. The counts are of all
    events that reached one meanwhile; `remaining` are pending or in flight at its end. `seconds` is how
    long it took.
    """

    complete: bool
    delivered: int
    dropped: int
    dead_lettered: int
    spooled: int
    remaining: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseReport:
    """What happened while the buffer closed: events by outcome, and how long it took (seconds).

    `dropped_by_reason` holds ``closed`` (surely not sent) and ``outcome_unknown`` (sent, without an
    answer at the deadline).
    """

    delivered: int
    dropped: int
    dead_lettered: int
    spooled: int
    dropped_by_reason: Mapping[str, int]
    seconds: float

    @property
    def lossless(self) -> bool:
        """Whether everything that was there at the close arrived or was spooled."""
        return not (self.dropped or self.dead_lettered)
