"""Notices: what the host is told, as values. Hooks get each one on the buffer's loop."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from rumbuffer.core.outcomes import HoldScope, Throttled

__all__ = [
    "DeadLetterReason",
    "DeadLettered",
    "DropReason",
    "Dropped",
    "HoldEnded",
    "HoldStarted",
    "Notice",
    "OutageEnded",
    "OutageStarted",
    "RateChanged",
    "ShedRateChanged",
]


class DropReason(StrEnum):
    """Why an accepted event was lost."""

    OVERFLOW = "overflow"
    """The memory limit was reached (`Overflow.DROP_OLDEST`, or `SHED_SESSIONS` where that was too slow)."""
    CLOSED = "closed"
    """It was unsent when the close's deadline came."""
    OUTCOME_UNKNOWN = "outcome_unknown"
    """Its batch was without an answer when the close's deadline came; it may have arrived."""
    SHED = "shed"
    """Its session is not kept any more (`Overflow.SHED_SESSIONS`)."""


class DeadLetterReason(StrEnum):
    """Why an event was given up for good."""

    INVALID = "invalid"
    """The service refused it when it was alone in its batch."""
    TOO_LARGE = "too_large"
    """The service called it too large when it was alone in its batch."""
    UNRESOLVED = "unresolved"
    """Its batch held events that the service refuses, and finding out which would take too many requests."""
    TOO_MANY_FAILURES = "too_many_failures"
    """Its batch failed `max_failures` times while others were delivered."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """`count` accepted events of `size` bytes were lost.

    `events` holds their JSON texts: all of them, or, when more than a mebibyte is lost between two
    turns of the loop, the first.
    """

    reason: DropReason
    count: int
    size: int
    events: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """The events of a batch, or of the part of one that is left, were given up for good.

    `detail` is what the service said. `events` are the events' JSON texts; with them and the ids a
    hook can keep the batch to look at.
    """

    reason: DeadLetterReason
    detail: str
    batch_id: str
    app_monitor_id: str
    session_id: str
    user_id: str
    events: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class HoldStarted:
    """Sending stopped because a setting is wrong; events stay pending until it is mended.

    `app_monitor_id` is `None` where everything is held (`HoldScope.SENDER`).
    """

    scope: HoldScope
    app_monitor_id: str | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class HoldEnded:
    """The setting was mended, after `seconds`; sending goes on."""

    scope: HoldScope
    app_monitor_id: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class OutageStarted:
    """Nothing of an app monitor's is delivered any more; one batch at a time probes until that changes.

    `reason` is the last failure's.
    """

    app_monitor_id: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class OutageEnded:
    """The service answers again, after `seconds`."""

    app_monitor_id: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class RateChanged:
    """The pace is `rate` requests a second, after `previous`: the service's refusals were heeded, or ceased.

    Told when it differs by a twentieth from what was told last, at most once a second. `Throttled`, the
    refusal itself, is told each time.
    """

    rate: float
    previous: float


@dataclass(frozen=True, slots=True)
class ShedRateChanged:
    """The share `rate` of the sampled sessions is kept, after `previous` (`Overflow.SHED_SESSIONS`)."""

    rate: float
    previous: float


Notice: TypeAlias = (
    Dropped
    | DeadLettered
    | HoldStarted
    | HoldEnded
    | OutageStarted
    | OutageEnded
    | Throttled
    | RateChanged
    | ShedRateChanged
)
