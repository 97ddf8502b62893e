"""Typed events: the built-in types that a server can know, and your own.

    buffer.put_nowait(HttpEvent(method="GET", url="/items/{id}", status=200))
    buffer.put_nowait(JsErrorEvent.of(error))


    class Checkout(CustomEvent, type="com.example.checkout"):
        total: float
        currency: str = "EUR"


    buffer.put_nowait(Checkout(total=42))

The constructors have types that a type checker sees, and raise nothing. When an event is admitted, its
details and metadata are checked against the service's schemas (aws-rum-web's, 2026-11), and
`InvalidEvent` names the member: ``details.response.status``. Any other event, a plain `Event` of a
built-in type among them, passes through as given: schemas grow, and the browser's own events come by here.
"""

from __future__ import annotations

from rumbuffer.builtin.custom import CustomEvent
from rumbuffer.builtin.events import (
    HttpEvent,
    JsErrorEvent,
    PageViewEvent,
    SessionStartEvent,
    XrayTraceEvent,
)
from rumbuffer.builtin.parts import (
    ErrorDetails,
    TraceHttp,
    TraceRequest,
    TraceResponse,
    TraceSubsegment,
)

__all__ = [
    "CustomEvent",
    "ErrorDetails",
    "HttpEvent",
    "JsErrorEvent",
    "PageViewEvent",
    "SessionStartEvent",
    "TraceHttp",
    "TraceRequest",
    "TraceResponse",
    "TraceSubsegment",
    "XrayTraceEvent",
]
