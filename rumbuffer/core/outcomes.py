"""What a sender says became of one request, as values.

A sender answers each `send(batch)` with exactly one of these; it never raises for what the service
or the network did. The `Batcher` turns the outcome into what happens next. The table:

    Delivered      2xx                             the events are counted as delivered
    Throttled      429                             the same batch again, after `retry_after`
    Failed         5xx, time-out, connection       the same batch again, with backoff
    Rejected       400 ValidationException         halved until the bad events are alone
    TooLarge       413                             split, and the size limit halves
    Misconfigured  403, 404, credentials, region   no event's fault: a hold, tried again slowly
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

__all__ = [
    "Delivered",
    "Failed",
    "HoldScope",
    "Misconfigured",
    "Outcome",
    "Rejected",
    "Throttled",
    "TooLarge",
]


class HoldScope(StrEnum):
    """What a wrong setting stops: one app monitor, or everything that the sender sends."""

    APP_MONITOR = "app_monitor"
    SENDER = "sender"


@dataclass(frozen=True, slots=True)
class Delivered:
    """The service accepted the whole batch (any 2xx: there is no partial success)."""


@dataclass(frozen=True, slots=True)
class Throttled:
    """The service refused the request for its quota (429); nothing was stored.

    `retry_after` is the service's `Retry-After` in seconds, `None` where it gave none that makes
    sense.
    """

    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The request failed for a reason that may pass. The batch may have been stored.

    `reason` is for people (an error code or an exception's class, nothing personal).
    `retry_after` is the service's wish in seconds, if it gave one. `stale_connection` says that a
    kept connection turned out to be closed by the server before any answer, which is worth one
    immediate retry. `unsent` says that the request certainly never reached the service (no
    connection), so that the batch cannot have been stored by this try.
    """

    reason: str
    retry_after: float | None = None
    stale_connection: bool = False
    unsent: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """The service calls the content invalid (400); nothing was stored."""

    reason: str


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The service calls the request too large (413); nothing was stored."""

    reason: str = "413"


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """A setting is wrong, and no event can help it: a hold of `scope` until it is mended.

    `code` is the service's or botocore's name for it, `message` what it says to a person.
    """

    scope: HoldScope
    code: str
    message: str = ""


Outcome: TypeAlias = Delivered | Throttled | Failed | Rejected | TooLarge | Misconfigured
