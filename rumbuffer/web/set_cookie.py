"""Our own cookie, in the responses that are one visitor's alone."""

from __future__ import annotations

from collections.abc import Awaitable

from rumbuffer.web.lifecycle import Message, Send

__all__ = ["WITH_HEADERS", "may_be_shared", "send_with_cookie", "with_cookie"]

WITH_HEADERS = frozenset(("http.response.start", "websocket.accept", "websocket.http.response.start"))
"""The ASGI messages that can carry a cookie."""

_CONTROL = b"-control"
"""How the names end of headers that tell caches what they may keep (``CDN-Cache-Control``)."""


def send_with_cookie(send: Send, cookie: bytes, message: Message) -> Awaitable[None]:
    """Send a message, with the cookie where it can carry one."""
    return send(with_cookie(message, cookie) if message.get("type") in WITH_HEADERS else message)


def with_cookie(message: Message, cookie: bytes) -> Message:
    """Return the message with the cookie; without where a shared cache might keep the response.

    Headers that are none are left to the server.
    """
    headers = list(message.get("headers") or ())  # which may be an iterator, good for one time
    try:
        for name, value in headers:
            if may_be_shared(name, value):
                break
        else:
            headers.append((b"set-cookie", cookie))
    except (TypeError, ValueError, AttributeError):
        pass
    # A copy: an application may send one and the same message to everybody.
    return {**message, "headers": headers}


def may_be_shared(name: bytes, value: bytes) -> bool:
    """Tell whether a response with this header may be kept by a cache that serves others too.

    By RFC 9111, and RFC 9213 for those of the networks that deliver content (``CDN-Cache-Control``).
    """
    name = name.lower()
    if name == b"expires":
        return True
    if not name.endswith(_CONTROL):
        return False
    value = value.lower()
    # With names behind it, ``private`` is about these headers alone.
    if b"no-store" in value or (b"private" in value and b"private=" not in value):
        return False
    return b"public" in value or b"max-age" in value or b"s-maxage" in value
