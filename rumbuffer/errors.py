"""What rumbuffer raises.

    RumBufferError
    ├── InvalidEvent    (also a ValueError)  an event breaks a rule; nothing was admitted
    ├── InvalidSetting  (also a ValueError)  a setting breaks a rule; nothing was started
    ├── BufferFull      no room under Overflow.RAISE
    ├── BufferClosed    the buffer is not running: not started, closing, closed, or forked
    ├── WrongLoop       (also a RuntimeError)  an awaitable was used from another event loop
    └── DeliveryError   an event that deliver() waited for was lost, with the reason

`record()` raises none of them. What the service answers is an `Outcome`, never an exception.
The texts name fields, shapes and rules, never the content of an event, which may be personal.
"""

from __future__ import annotations

__all__ = [
    "BufferClosed",
    "BufferFull",
    "DeliveryError",
    "InvalidEvent",
    "InvalidSetting",
    "RumBufferError",
    "WrongLoop",
]


class RumBufferError(Exception):
    """The base of every error that rumbuffer raises."""


class _RuleBroken(RumBufferError, ValueError):
    """A value breaks a rule; says which, what it looks like, and what is allowed."""

    def __init__(self, field: str, rule: str, shape: str) -> None:
        super().__init__(field, rule, shape)
        self.field = field
        self.rule = rule
        self.shape = shape

    def __str__(self) -> str:
        return f"{self.field}: {self.rule}; got {self.shape}"


class InvalidEvent(_RuleBroken):
    """An event, or the session or app monitor that it was given with, breaks a rule.

    `field` names the argument (``details``, ``metadata.version``), `rule` says what is allowed,
    and `shape` describes what was given by type and size.
    """


class InvalidSetting(_RuleBroken):
    """A setting breaks a rule. `field` names the argument or the environment variable."""


class BufferFull(RumBufferError):
    """No room for the event under `Overflow.RAISE`. Sizes are in bytes, charges included."""

    def __init__(self, pending_bytes: int, max_pending_bytes: int) -> None:
        super().__init__(pending_bytes, max_pending_bytes)
        self.pending_bytes = pending_bytes
        self.max_pending_bytes = max_pending_bytes

    def __str__(self) -> str:
        return (
            f"the buffer is full: {self.pending_bytes} of max_pending_bytes={self.max_pending_bytes} are "
            f"taken; wait with put(), or choose another overflow policy"
        )


_WHY_CLOSED = {
    "new": (
        "it was not started yet; use `async with`, `await buffer.start()`, "
        "or the middleware under an ASGI server (WSGI starts nothing)"
    ),
    "closing": "it is closing",
    "closed": "it is closed",
    "forked": (
        "it was started in the parent process, and a started buffer does not survive a fork; "
        "start one in each child (in the lifespan, or in gunicorn's post_fork hook)"
    ),
}


class BufferClosed(RumBufferError):
    """The buffer takes no events. `state` is ``new``, ``closing``, ``closed`` or ``forked``."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state

    def __str__(self) -> str:
        return f"the buffer is not running: {_WHY_CLOSED.get(self.state, self.state)}"


class WrongLoop(RumBufferError, RuntimeError):
    """An awaitable of the buffer was used from another event loop than the one it runs on."""

    def __init__(self, call: str) -> None:
        super().__init__(call)
        self.call = call

    def __str__(self) -> str:
        return (
            f"{self.call}() belongs to the event loop that started the buffer; from other loops and "
            f"threads use record() or put_nowait()"
        )


class DeliveryError(RumBufferError):
    """An event that `deliver()` waited for did not arrive, or nobody knows whether it did.

    `reason` is the `DropReason` or `DeadLetterReason` under which it was counted; `detail` is what
    the service said, if it said anything.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"the event was not delivered: {self.reason}" + (f" ({self.detail})" if self.detail else "")
