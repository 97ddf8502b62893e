"""How it is known that a client has left: from the server, or from what the application raises."""

from __future__ import annotations

from asyncio import CancelledError

from rumbuffer.web.lifecycle import Receive

__all__ = ["has_left", "tells_of_leaving"]

_DISCONNECTS = frozenset(("ClientDisconnect", "ClientDisconnected", "WebSocketDisconnect"))
"""How Starlette, and uvicorn, tell an application that its client is gone."""

_MOST_LOOKED_AT = 100
"""Exceptions of a group that are looked at for a client's leaving, the groups in it included."""


def has_left(receive: Receive) -> bool:
    """Tell whether the client has left, where the server's `receive` belongs to an object that knows.

    uvicorn's does (`RequestResponseCycle`, read 2026-11), and takes a response that nobody gets in silence.
    """
    return bool(getattr(getattr(receive, "__self__", None), "disconnected", False))


def tells_of_leaving(error: BaseException) -> bool:
    """Tell whether an exception is how an application learns that its client is gone, or a group of such."""
    left = [error]
    for _ in range(_MOST_LOOKED_AT):
        one = left.pop()
        if isinstance(one, BaseExceptionGroup):
            left.extend(one.exceptions)
        elif not (isinstance(one, (CancelledError, GeneratorExit)) or type(one).__name__ in _DISCONNECTS):
            return False
        if not left:
            return True
    return False
