"""A site without a socket: a buffer, a service that keeps what it gets, and a client for ASGI."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, NamedTuple

from rumbuffer import AppMonitor, Delivered, Outcome, RumBuffer, SealedBatch
from rumbuffer.asgi import RumMiddleware
from tests.web.rules import faults_of

MONITOR = "8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11"
SESSION = "d35b7114-9426-4abc-9ace-6b4248e6d799"
USER = "5e3d1f0a-1b2c-4d3e-8f90-a1b2c3d4e5f6"
OTHER = "00000000-1111-4222-8333-444444444444"
"""Another session."""

NIL = "00000000-0000-0000-0000-000000000000"

HTTP = "com.amazon.rum.http_event"
JS_ERROR = "com.amazon.rum.js_error_event"
XRAY = "com.amazon.rum.xray_trace_event"

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
PART: Message = {"type": "http.response.body", "body": b"abc", "more_body": True}
END: Message = {"type": "http.response.body", "body": b"abc"}


class Seen(NamedTuple):
    """One event as the service got it."""

    type: str
    details: dict[str, Any]
    metadata: dict[str, Any]
    session_id: str
    user_id: str
    timestamp: float
    id: str

    @property
    def url(self) -> str:
        """The address of an `http_event`."""
        return str(self.details["request"]["url"])

    @property
    def status(self) -> int:
        """The status of an `http_event`."""
        return int(self.details["response"]["status"])


class Service:
    """Takes every batch and keeps it."""

    def __init__(self) -> None:
        self.batches: list[SealedBatch] = []
        self.is_closed = False

    async def start(self, *, max_in_flight: int) -> None:
        """Nothing is needed."""

    async def send(self, batch: SealedBatch) -> Outcome:
        """Keep it."""
        self.batches.append(batch)
        return Delivered()

    async def aclose(self) -> None:
        """Note it."""
        self.is_closed = True

    def events(self) -> list[Seen]:
        """All events, each of which must keep the service's rules."""
        seen = []
        for batch in self.batches:
            body = json.loads(batch.body())
            user = body["UserDetails"]
            for event in body["RumEvents"]:
                assert faults_of(event["type"], event["details"], event.get("metadata")) == []
                seen.append(
                    Seen(
                        event["type"],
                        json.loads(event["details"]),
                        json.loads(event.get("metadata", "{}")),
                        user["sessionId"],
                        user["userId"],
                        event["timestamp"],
                        event["id"],
                    )
                )
        return sorted(seen, key=lambda event: event.timestamp)


class Site:
    """A buffer that is not started yet, and its service."""

    def __init__(self, **settings: Any) -> None:
        self.service = Service()
        self.buffer = RumBuffer(AppMonitor(id=MONITOR), sender=self.service, **settings)

    async def events(self) -> list[Seen]:
        """Close the buffer; what arrived."""
        await self.buffer.aclose()
        stats = self.buffer.stats()
        assert stats.dropped == stats.dead_lettered == 0
        return self.service.events()

    async def event(self) -> Seen:
        """Close the buffer; the one event that arrived."""
        (event,) = await self.events()
        return event


class Reply(NamedTuple):
    """What an application sent."""

    messages: list[Message]

    @property
    def status(self) -> int:
        """The response's status."""
        return int(self.messages[0]["status"])

    @property
    def body(self) -> bytes:
        """The response's body."""
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def cookies(self) -> list[str]:
        """The values of its ``Set-Cookie`` headers."""
        headers = self.messages[0]["headers"]
        return [value.decode() for name, value in headers if name.lower() == b"set-cookie"]


def scope_of(
    path: str = "/",
    *,
    method: str = "GET",
    headers: Headers = (),
    query: bytes = b"",
    root_path: str = "",
    host: bytes | None = b"shop.example.com:8443",
    scheme: str = "https",
    **members: Any,
) -> dict[str, Any]:
    """What a server makes of a request."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": scheme,
        "method": method,
        "path": root_path + path,
        "raw_path": path.encode("utf-8", "replace"),
        "root_path": root_path,
        "query_string": query,
        "headers": [*([] if host is None else [(b"host", host)]), *headers],
        "client": ("192.0.2.7", 50123),
        "server": ("203.0.113.5", 8443),
        "state": {},
        **members,
    }


async def call(app: App, scope: Scope, body: Iterable[bytes] = (b"",)) -> Reply:
    """Send a request, its body in the given parts, and stay until it is answered."""
    parts = list(body)
    messages: list[Message] = []

    async def receive() -> Message:
        if not parts:
            await asyncio.get_running_loop().create_future()
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, send)
    return Reply(messages)


async def get(app: App, path: str = "/", **request: Any) -> Reply:
    """Send a request without a body."""
    return await call(app, scope_of(path, **request))


def answering(status: int = 200, body: bytes = b"ok", headers: Headers = ()) -> App:
    """An application with one answer."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body})

    return app


def session_cookie(
    session_id: str = SESSION, *, name: str = "cwr_s", padded: bool = True, **members: Any
) -> str:
    """The browser client's session cookie."""
    session = {
        "sessionId": session_id,
        "record": True,
        "eventCount": 7,
        "page": {"pageId": "/items", "interaction": 3, "start": 1795365502250},
        **members,
    }
    value = base64.b64encode(json.dumps(session, separators=(",", ":")).encode()).decode()
    return f"{name}={value if padded else value.rstrip('=')}"


def with_cookies(*cookies: str) -> list[tuple[bytes, bytes]]:
    """The header that brings cookies."""
    return [(b"cookie", "; ".join(cookies).encode())]


BROWSER = with_cookies("_ga=GA1.1.7.1795365502", f"cwr_u={USER}", session_cookie(), "theme=dark")
"""The cookies of a browser with aws-rum-web."""


def rum(app: App, site: Site, **options: Any) -> RumMiddleware:
    """Wrap an application."""
    return RumMiddleware(app, buffer=site.buffer, **options)


class Oops(Exception):
    """What an application raises."""


def failing(error: BaseException, after: tuple[Message, ...] = ()) -> App:
    """Make an application that raises, after it sent some messages."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in after:
            await send(message)
        raise error

    return app


async def urls_of(site: Site) -> list[str]:
    """The addresses of the events, which must all be the browser's."""
    events = await site.events()
    assert {event.session_id for event in events} == {SESSION}
    return [event.url for event in events if event.type == HTTP]
