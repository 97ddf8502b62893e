"""The answer to an offered event."""

from __future__ import annotations

from enum import StrEnum

from rumbuffer.errors import InvalidEvent

__all__ = ["ACCEPTED", "SAMPLED_OUT", "Admission", "RefusalReason", "refusal"]


class RefusalReason(StrEnum):
    """Why an event was not admitted."""

    INVALID_EVENT = "invalid_event"
    """It breaks a rule; `Admission.error` says which."""
    NO_SESSION = "no_session"
    """No session was given and none is current."""
    BUFFER_FULL = "buffer_full"
    """No room, under the overflow policy."""
    NOT_RUNNING = "not_running"
    """The buffer is not started yet, closing or closed."""
    FORKED = "forked"
    """The buffer was started in the parent process; start one in each child."""
    INTERNAL_ERROR = "internal_error"
    """A defect of rumbuffer, logged with its traceback."""


class Admission:
    """The decision on one event; true only when it was accepted.

    `status` is ``accepted``, ``sampled_out`` or ``refused``; a refusal has a `reason`, and one for an
    invalid event also the `error` that `put_nowait` would have raised.
    """

    __slots__ = ("error", "reason", "status")

    def __init__(
        self, status: str, reason: RefusalReason | None = None, error: InvalidEvent | None = None
    ) -> None:
        self.status: str = status
        self.reason: RefusalReason | None = reason
        self.error: InvalidEvent | None = error

    def __bool__(self) -> bool:
        return self.status == "accepted"

    def __repr__(self) -> str:
        return f"<Admission {self.status}{f' ({self.reason})' if self.reason else ''}>"


ACCEPTED = Admission("accepted")
SAMPLED_OUT = Admission("sampled_out")

_REFUSALS = {reason: Admission("refused", reason) for reason in RefusalReason}


def refusal(reason: RefusalReason, error: InvalidEvent | None = None) -> Admission:
    """Return the admission that refuses for `reason`; one object a reason where there is no error."""
    return _REFUSALS[reason] if error is None else Admission("refused", reason, error)
