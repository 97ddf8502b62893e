"""The middlewares that `benchmarks.middleware` compares, each as it is set up in production.

A case is a name and a function that wraps an ASGI application; what it imports, it imports itself, so
that a process holds one middleware only. Exporters and transports are replaced by ones that do nothing:
what is measured is what a request pays.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Header: TypeAlias = tuple[bytes, bytes]

MONITOR = "8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11"


class _Route:
    path_format = "/items/{item_id}"
    path = "/items/{item_id}"


_ROUTE = _Route()


async def plain_app(scope: Scope, receive: Receive, send: Send) -> None:
    """The smallest application that is still one: it reads, routes and answers."""
    await receive()
    scope["route"] = _ROUTE
    scope["endpoint"] = plain_app
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"text/plain"), (b"content-length", b"2")],
        }
    )
    await send({"type": "http.response.body", "body": b"ok"})


def starlette_app() -> App:
    """Make the same application with a framework."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def item(request: Request) -> PlainTextResponse:
        await request.body()
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/items/{item_id}", item)])


def nothing(app: App) -> App:
    return app


def minimal(app: App) -> App:
    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_on(message: Message) -> None:
            await send(message)

        await app(scope, receive, send_on)

    return middleware


def _rumbuffer(app: App, **options: Any) -> App:
    from rumbuffer import AppMonitor, Delivered, Limits, Outcome, Pacing, RumBuffer, SealedBatch
    from rumbuffer.asgi import RumMiddleware

    served = "MIDDLEWARE_CASE" in os.environ

    class Service:
        """Takes every batch."""

        async def start(self, *, max_in_flight: int) -> None:
            pass

        async def send(self, batch: SealedBatch) -> Outcome:
            batch.body()
            await asyncio.sleep(0)
            return Delivered()

        async def aclose(self) -> None:
            pass

    buffer = RumBuffer(
        AppMonitor(id=MONITOR),
        sender=Service(),
        # In process, what a round of requests leaves must be gone before the next one.
        pacing=Pacing(share=None) if served else Pacing(quota=1e6, burst=1000, share=None),
        limits=Limits(linger=0.5),  # so that a server sends within the seconds of its measurement
        close_timeout=0.1,
    )
    return RumMiddleware(app, buffer=buffer, **options)


def rumbuffer(app: App) -> App:
    return _rumbuffer(app)


def rumbuffer_rarely_sampled(app: App) -> App:
    """So rarely that none of the sessions here is."""
    return _rumbuffer(app, sample_rate=1e-9)


def opentelemetry(app: App) -> App:
    from collections.abc import Sequence

    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    return OpenTelemetryMiddleware(app, tracer_provider=provider)


def _start_sentry(**options: Any) -> None:
    import sentry_sdk
    from sentry_sdk.transport import Transport

    class Nowhere(Transport):
        def capture_envelope(self, envelope: object) -> None:
            pass

    sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", transport=Nowhere, **options)


def _sentry(app: App, **options: Any) -> App:
    from sentry_sdk.integrations.asgi import SentryAsgiMiddleware

    _start_sentry(**options)
    return SentryAsgiMiddleware(app)


def sentry(app: App) -> App:
    return _sentry(app)


def sentry_tracing(app: App) -> App:
    return _sentry(app, traces_sample_rate=1.0)


def sentry_in_starlette(_: App) -> App:
    """With a framework, Sentry puts itself into what is made after its start."""
    _start_sentry()
    return starlette_app()


def sentry_tracing_in_starlette(_: App) -> App:
    """The same, with every request traced."""
    _start_sentry(traces_sample_rate=1.0)
    return starlette_app()


def prometheus(app: App) -> App:
    from prometheus_fastapi_instrumentator.middleware import PrometheusInstrumentatorMiddleware
    from starlette.applications import Starlette
    from starlette.routing import Route

    async def never(_: object) -> None:
        raise AssertionError

    middleware = PrometheusInstrumentatorMiddleware(app)
    # It looks the route up in the application that the scope names.
    starlette = Starlette(routes=[Route("/items/{item_id}", never)])

    async def with_app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = starlette
        await middleware(scope, receive, send)

    return with_app


def _seeded_uuid(source: random.Random) -> str:
    return str(uuid.UUID(int=source.getrandbits(128), version=4))


def browser_cookie(source: random.Random, *, record: bool = True) -> bytes:
    """What a browser with aws-rum-web sends, between two cookies of others."""
    session = {
        "sessionId": _seeded_uuid(source),
        "record": record,
        "eventCount": source.randrange(200),
        "page": {"pageId": "/items", "interaction": source.randrange(20), "start": 1_795_365_502_250},
    }
    value = base64.b64encode(json.dumps(session, separators=(",", ":")).encode()).decode()
    others = f"_ga=GA1.1.{source.randrange(10**9)}.1795365502"
    return f"{others}; cwr_u={_seeded_uuid(source)}; cwr_s={value}".encode()


def own_cookie(source: random.Random) -> bytes:
    """What a browser sends that was given our own cookie a moment ago."""
    others = f"_ga=GA1.1.{source.randrange(10**9)}.1795365502"
    return f"{others}; rum_session={_seeded_uuid(source)}.{int(time.time()):x}".encode()


def not_recorded_cookie(source: random.Random) -> bytes:
    """What a browser sends whose client was not sampled."""
    return browser_cookie(source, record=False)


def headers(cookie: bytes | None) -> list[Header]:
    """What a browser's request carries."""
    return [
        (b"host", b"shop.example.com"),
        (
            b"user-agent",
            b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0",
        ),
        (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        (b"accept-encoding", b"gzip, deflate, br"),
        (b"accept-language", b"en-GB,en;q=0.9"),
        (b"referer", b"https://shop.example.com/"),
        *([] if cookie is None else [(b"cookie", cookie)]),
        (b"connection", b"keep-alive"),
    ]


Case: TypeAlias = tuple[Callable[[], App], Callable[[App], App], Callable[[random.Random], bytes | None]]
"""How the application is made, how it is wrapped, and what cookies its visitors send."""


def plain() -> App:
    return plain_app


CASES: dict[str, Case] = {
    "nothing": (plain, nothing, browser_cookie),
    "minimal": (plain, minimal, browser_cookie),
    "rumbuffer": (plain, rumbuffer, browser_cookie),
    "rumbuffer, own cookie": (plain, rumbuffer, own_cookie),
    "rumbuffer, new visitor": (plain, rumbuffer, lambda _: None),
    "rumbuffer, not sampled: browser's record=false": (plain, rumbuffer, not_recorded_cookie),
    "rumbuffer, not sampled: browser's cookie": (plain, rumbuffer_rarely_sampled, browser_cookie),
    "rumbuffer, not sampled: own cookie": (plain, rumbuffer_rarely_sampled, own_cookie),
    "rumbuffer, not sampled: new visitor": (plain, rumbuffer_rarely_sampled, lambda _: None),
    "opentelemetry": (plain, opentelemetry, browser_cookie),
    "sentry, tracing off": (plain, sentry, browser_cookie),
    "sentry, tracing on": (plain, sentry_tracing, browser_cookie),
    "prometheus-fastapi-instrumentator": (plain, prometheus, browser_cookie),
    "Starlette: rumbuffer": (starlette_app, rumbuffer, browser_cookie),
    "Starlette: opentelemetry": (starlette_app, opentelemetry, browser_cookie),
    "Starlette: sentry, tracing off": (starlette_app, sentry_in_starlette, browser_cookie),
    "Starlette: sentry, tracing on": (starlette_app, sentry_tracing_in_starlette, browser_cookie),
    "Starlette: prometheus-fastapi-instrumentator": (starlette_app, prometheus, browser_cookie),
}
