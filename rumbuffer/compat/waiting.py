"""A call that waits for its events, and what it raises.

It waits for all of them, so that what it says of the call is final. It raises early only for what no waiting
helps, a hold: there the service's answer would have ended the call as well. The events of such a call, of
one whose time is over and of one that is cancelled stay the buffer's, which sends them when it can, as
`deliver()` has it. While a hold is on and something is there to try it with, further calls are refused
before anything of them is admitted, so that repeating one does not pile up copies; they count as not offered.
"""

from __future__ import annotations

import asyncio
from collections import deque

from rumbuffer.buffer import RumBuffer
from rumbuffer.calls import Offered, hold_of
from rumbuffer.compat.checks import Call
from rumbuffer.compat.exceptions import client_error, hold_error
from rumbuffer.core.news import Arrived, Fate, Lost
from rumbuffer.core.notices import DeadLetterReason, DropReason, HoldStarted, Notice
from rumbuffer.core.outcomes import Throttled
from rumbuffer.errors import DeliveryError

__all__ = ["Waiting"]

_VALIDATION, _INTERNAL, _THROTTLING = "ValidationException", "InternalServerException", "ThrottlingException"

_CODES: dict[DropReason | DeadLetterReason, str] = {
    # Where a call's events were lost for several reasons, the first that stands here is told.
    DeadLetterReason.INVALID: _VALIDATION,
    DeadLetterReason.TOO_LARGE: _VALIDATION,
    DeadLetterReason.UNRESOLVED: _VALIDATION,
    DeadLetterReason.TOO_MANY_FAILURES: _INTERNAL,
    DropReason.OUTCOME_UNKNOWN: _INTERNAL,
    DropReason.CLOSED: _INTERNAL,
    DropReason.OVERFLOW: _THROTTLING,
    DropReason.SHED: _THROTTLING,
}


class Waiting:
    """One call: what it is about, what it waits for, what it has heard meanwhile."""

    def __init__(self, buffer: RumBuffer) -> None:
        self.call: Call | None = None
        self.fates: list[asyncio.Future[Fate]] = []
        self.left: Offered = deque()
        self.scope: asyncio.Timeout | None = None
        self._buffer = buffer
        self._before = buffer.stats()
        self._held: tuple[str, str] | None = None
        self._throttled: Throttled | None = None

    def hear(self, notice: Notice) -> None:
        """Note a throttle; end the waiting for a hold that stands in this call's way."""
        if isinstance(notice, Throttled):
            self._throttled = notice
        elif isinstance(notice, HoldStarted) and self.call is not None:
            self._held = self._held or hold_of(self._buffer, self.call.app_monitor)
            if self._held is not None and self.scope is not None and not self.scope.expired():
                self.scope.reschedule(asyncio.get_running_loop().time())

    @property
    def is_over(self) -> bool:
        """Whether every event has its outcome."""
        return bool(self.fates) and all(fate.done() for fate in self.fates)

    @property
    def batch_id(self) -> str | None:
        """The batch in which the last event arrived."""
        last = self.fates[-1].result() if self.fates else None
        return last.batch_id if isinstance(last, Arrived) else None

    def raise_for_losses(self) -> None:
        """Raise if an event of the call was lost."""
        lost = [fate for future in self.fates if isinstance(fate := future.result(), Lost)]
        if not lost:
            return
        worst = min(lost, key=lambda fate: list(_CODES).index(fate.reason))
        text = str(DeliveryError(worst.reason, worst.detail)).removeprefix("the event was ")
        if len(self.fates) > 1:
            arrived = len(self.fates) - len(lost)
            text += f"; {arrived} of the call's {len(self.fates)} events arrived"
        error = client_error(_CODES[worst.reason], text, {"LostEventIds": self._not_arrived()})
        raise error from DeliveryError(worst.reason, worst.detail)

    def held(self, code: str, message: str) -> Exception:
        """Return the error for a hold."""
        assert self.call is not None
        text = f"{message or 'the service refuses it'}; {self._whereabouts()}"
        members: dict[str, object] = {"LostEventIds": self._not_arrived()}
        if code == "ResourceNotFoundException":
            members |= {"resourceName": self.call.app_monitor.id, "resourceType": "AppMonitor"}
        return hold_error(code, text, members)

    def out_of_time(self, timeout: float | None) -> Exception:
        """Return the error for a call that was ended before all of its events had their outcome."""
        hold = self._held
        if hold is None and self.call is not None:
            hold = hold_of(self._buffer, self.call.app_monitor)
        if hold is not None:
            return self.held(*hold)
        code = self._reason()
        why = "the service failed or did not answer"
        if code == _THROTTLING:
            why = "there was no room for it" if self.left else "its turn to be sent did not come"
        return client_error(
            code,
            f"{why} within the time-out of {timeout} s; {self._whereabouts()}",
            {"LostEventIds": self._not_arrived()},
            retry_after=self._throttled.retry_after if code == _THROTTLING and self._throttled else None,
        )

    def _reason(self) -> str:
        """Tell what stood in the way, as far as it shows."""
        stats, before = self._buffer.stats(), self._before
        if stats.health == "outage":
            return _INTERNAL
        if self.left or self.call is None or stats.throttled > before.throttled:
            return _THROTTLING
        if stats.failures > before.failures or not stats.pending:
            return _INTERNAL
        return _THROTTLING

    def _not_arrived(self) -> list[str]:
        """Return the ids of the events that were not delivered, as far as is known."""
        if self.call is None:
            return []
        if not self.fates:
            return list(self.call.event_ids)
        return [
            event_id
            for event_id, future in zip(self.call.event_ids, self.fates, strict=True)
            if not (future.done() and isinstance(future.result(), Arrived))
        ]

    def _whereabouts(self) -> str:
        """Tell which of the events the buffer has."""
        taken = len(self.fates) - len(self.left)
        if not taken:
            return "nothing of the call was taken"
        which = "the events" if not self.left else f"the first {taken} of the call's {len(self.fates)} events"
        return f"the buffer keeps {which} and sends them when it can, so do not send them again"
