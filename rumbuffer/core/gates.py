"""Gates: what stops the sending for one app monitor, or for all, and how it is tried again.

A gate is shut for one of three reasons. Whatever the reason, nothing is sealed behind a shut gate, no
event expires, and one request at a time probes whether it may be opened:

    OUTAGE      failures in a row and nothing delivered     probed with backoff
    SETTING     the service refuses us: 403, 404, keys      probed after 5 s, doubling to 60 s
    REJECTIONS  batches in a row without one good event     likewise

An answer may open a gate; which opens what is in `_OPENED_BY`. An answer to a request that was sent
before the gate last changed neither opens nor shuts it: it tells of an older state of the world.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from rumbuffer.core.notices import HoldEnded, HoldStarted, Notice, OutageEnded, OutageStarted
from rumbuffer.core.outcomes import (
    Delivered,
    HoldScope,
    Misconfigured,
    Outcome,
    Rejected,
    Throttled,
    TooLarge,
)

if TYPE_CHECKING:
    from rumbuffer.core.flights import Flight

__all__ = ["Gate", "Obstacle"]

_FIRST_PROBE = 5.0
_SLOWEST_PROBE = 60.0


class Obstacle(StrEnum):
    """Why a gate is shut."""

    OUTAGE = "outage"
    SETTING = "setting"
    REJECTIONS = "rejections"


_OPENED_BY: dict[Obstacle, tuple[type[Outcome], ...]] = {
    Obstacle.OUTAGE: (Delivered, Rejected, TooLarge, Throttled),
    Obstacle.SETTING: (Delivered, Rejected, TooLarge),
    Obstacle.REJECTIONS: (Delivered,),
}
"""By what the service must have said. The sender's gate is opened also when the service refuses an app
monitor: then it knows the sender. A throttle proves no right, and a failure nothing."""


class Gate:
    """Open, or shut by an obstacle until a probe gets through."""

    __slots__ = (
        "_interval",
        "app_monitor_id",
        "changed_at",
        "code",
        "message",
        "obstacle",
        "probe",
        "probe_at",
        "probes",
        "scope",
        "since",
    )

    def __init__(self, scope: HoldScope, app_monitor_id: str | None) -> None:
        self.scope: HoldScope = scope
        self.app_monitor_id: str | None = app_monitor_id
        self.obstacle: Obstacle | None = None
        self.code: str = ""
        self.message: str = ""
        self.since: float = 0.0
        self.changed_at: float = float("-inf")
        self.probe: Flight | None = None
        self.probe_at: float = 0.0
        self.probes: int = 0
        self._interval = _FIRST_PROBE

    @property
    def is_shut(self) -> bool:
        """Whether something stands in the way."""
        return self.obstacle is not None

    def shut(self, obstacle: Obstacle, code: str, message: str, now: float) -> list[Notice]:
        """Shut the gate, or change what it is shut for; return what the host must hear."""
        if self.obstacle is obstacle:
            # The same thing said in other words is not said again, and is not tried any sooner.
            self.code, self.message = code, message
            return []
        notices = self.open(now)
        self.obstacle, self.code, self.message = obstacle, code, message
        self.since = self.changed_at = now
        self.probe = None
        self.probes = 0
        self._interval = _FIRST_PROBE
        self.probe_at = now + self._interval
        if obstacle is Obstacle.OUTAGE:
            return [*notices, OutageStarted(self.app_monitor_id, code)]
        return [*notices, HoldStarted(self.scope, self.app_monitor_id, code, message)]

    def is_opened_by(self, outcome: Outcome, sent_at: float) -> bool:
        """Tell whether this answer to a request sent then shows that nothing stands in the way."""
        if self.obstacle is None or sent_at < self.changed_at:
            return False
        if isinstance(outcome, Misconfigured):
            return self.scope is HoldScope.SENDER and outcome.scope is HoldScope.APP_MONITOR
        return isinstance(outcome, _OPENED_BY[self.obstacle])

    def open(self, now: float) -> list[Notice]:
        """Open the gate; return what the host must hear."""
        if self.obstacle is None:
            return []
        seconds = now - self.since
        ended: Notice = (
            OutageEnded(self.app_monitor_id, seconds)
            if self.obstacle is Obstacle.OUTAGE
            else HoldEnded(self.scope, self.app_monitor_id, seconds)
        )
        self.obstacle = self.probe = None
        self.changed_at = now
        return [ended]

    def probe_sent(self, flight: Flight) -> None:
        """A probe is on its way; there is no other until it has its answer."""
        self.probe = flight
        self.probes += 1

    def probe_failed(self, now: float, delay: float | None = None) -> None:
        """The probe did not get through: the next after `delay`, or after twice the last interval."""
        self.probe = None
        if delay is None:
            self._interval = min(self._interval * 2, _SLOWEST_PROBE)
            delay = self._interval
        self.probe_at = now + delay

    def hurry(self, now: float) -> None:
        """Try again at once, for a close that has no time."""
        self.probe_at = min(self.probe_at, now)
        self._interval = _FIRST_PROBE / 2
