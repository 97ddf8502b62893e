"""The same for `aiohttp.web`, and for the calls that an aiohttp client makes.

    from rumbuffer.aiohttp import setup, trace_config

    setup(app, buffer)
    session = aiohttp.ClientSession(trace_configs=[trace_config(buffer)])

What becomes an event is as in `rumbuffer.asgi`, with two differences: a response that a handler returns
is sent after the middleware is done with it, so its duration is the handler's; and an `HTTPException` is
the response that it stands for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from time import perf_counter
from types import SimpleNamespace
from typing import TypeAlias

from aiohttp import (
    ClientResponseError,
    ClientSession,
    TraceConfig,
    TraceRequestEndParams,
    TraceRequestExceptionParams,
    TraceRequestStartParams,
    hdrs,
    web,
)

from rumbuffer.buffer import RumBuffer
from rumbuffer.cookies import SessionCookie
from rumbuffer.core.encoding import shape_of
from rumbuffer.errors import InvalidSetting
from rumbuffer.events import Session, current_session
from rumbuffer.settings import check_rate
from rumbuffer.tracing import trace_of
from rumbuffer.web.door import Door
from rumbuffer.web.filters import Filter, Which
from rumbuffer.web.known import UnsampledSession
from rumbuffer.web.recorder import BeforeRecord, Exchange, Recorder
from rumbuffer.web.redaction import redact_path, redact_url
from rumbuffer.web.sessions import SessionFinder
from rumbuffer.web.visits import may_be_shared

__all__ = ["BUFFER", "setup", "trace_config"]

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

BUFFER: web.AppKey[RumBuffer] = web.AppKey("rumbuffer.BUFFER", RumBuffer)
"""The application's buffer: ``request.app[BUFFER].record("com.example.checkout", {...})``."""

_cookie_to_set: ContextVar[str | None] = ContextVar("rumbuffer.cookie_to_set", default=None)
"""For the response of the request that is served; set with each, for a connection has one context."""

_ABORTED = 499


def setup(
    app: web.Application,
    buffer: RumBuffer,
    *,
    domain: str | None = None,
    include: Which | None = None,
    exclude: Which | None = None,
    sample_rate: float = 1.0,
    session: Callable[[web.Request], Session | str | None] | None = None,
    session_header: str | None = None,
    own_session: SessionCookie | None = SessionCookie(),  # noqa: B008 - frozen
    query: bool = False,
    redact: Callable[[str], str] | None = redact_path,
    attributes: Mapping[str, str | float | bool] | None = None,
    before_record: BeforeRecord | None = None,
    errors: bool = True,
    error_messages: bool = True,
    xray: bool = False,
    manage_buffer: bool = True,
) -> None:
    """Record each request of `app` in `buffer`, which is also at ``app[BUFFER]``.

    The arguments are those of `rumbuffer.asgi.RumMiddleware`; where that hands out the scope, this hands
    out the request. The buffer starts with the application and closes in its cleanup, unless it was
    started before. Call it before the application runs. Raises `InvalidSetting`.
    """
    if not isinstance(buffer, RumBuffer):
        raise InvalidSetting("buffer", "must be a rumbuffer.RumBuffer", shape_of(buffer))
    check_rate("sample_rate", sample_rate)
    door = Door(buffer)
    server = _Server(
        door,
        Filter(door, include, exclude),
        SessionFinder(
            door,
            session=session,
            session_header=session_header,
            own_session=own_session,
            sample_rate=sample_rate,
        ),
        Recorder(
            door,
            domain=domain,
            attributes=attributes,
            query=query,
            redact=redact,
            before_record=before_record,
            errors=errors,
            error_messages=error_messages,
            xray=xray,
        ),
    )

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await server.handle(request, handler)

    app[BUFFER] = buffer
    app.middlewares.insert(0, middleware)
    app.on_response_prepare.append(server.set_cookie)
    if manage_buffer:
        app.cleanup_ctx.insert(0, _run_buffer)


async def _run_buffer(app: web.Application) -> AsyncIterator[None]:
    buffer = app[BUFFER]
    if Door(buffer).state != "new":
        yield
        return
    await buffer.start()
    yield
    await buffer.aclose()


class _Server:
    """The middleware of one application."""

    def __init__(self, door: Door, filter: Filter, sessions: SessionFinder, recorder: Recorder) -> None:
        self._door = door
        self._filter = filter
        self._sessions = sessions
        self._header = None if sessions.header is None else sessions.header.decode()
        self._recorder = recorder

    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        started = perf_counter()
        _cookie_to_set.set(None)
        try:
            found = self._find(request)
        except Exception as defect:  # noqa: BLE001 - a defect of ours must not become a failed request
            self._recorder.failed(defect)
            found = None
        if found is None:
            return await handler(request)
        session, sampled = found
        token = current_session.set(session)
        try:
            response = await handler(request)
        except web.HTTPException as response_raised:
            if sampled:
                self._record(request, session, started, response_raised, None)
            raise
        except BaseException as error:
            if sampled:
                self._record(request, session, started, None, error)
            raise
        else:
            if sampled:
                self._record(request, session, started, response, None)
            return response
        finally:
            with suppress(ValueError):
                current_session.reset(token)

    def _find(self, request: web.Request) -> tuple[Session, bool] | None:
        if not (self._filter.takes_all or self._filter.takes(request.path, request)):
            return None
        cookies = "; ".join(request.headers.getall(hdrs.COOKIE, ()))
        header = None if self._header is None else request.headers.get(self._header)
        found = self._sessions.find(_bytes(cookies), _bytes(header), request)
        if found is None:
            return None
        session, sampled, cookie = found
        if cookie is not None:
            _cookie_to_set.set(cookie.decode("latin-1"))
        if not sampled:
            self._door.count_sampled_out(session)
        return session, sampled

    async def set_cookie(self, request: web.Request, response: web.StreamResponse) -> None:
        """Put our own session cookie on a response, unless a shared cache might keep it."""
        cookie = _cookie_to_set.get()
        if cookie is not None:
            caching = [
                (name.encode(), value.encode("latin-1", "replace"))
                for name in (hdrs.CACHE_CONTROL, hdrs.EXPIRES)
                for value in response.headers.getall(name, ())
            ]
            if not any(may_be_shared(*header) for header in caching):
                response.headers.add(hdrs.SET_COOKIE, cookie)

    def _record(
        self,
        request: web.Request,
        session: Session,
        started: float,
        response: web.StreamResponse | None,
        error: BaseException | None,
    ) -> None:
        try:
            self._recorder.record(self._exchange(request, session, started, response, error))
        except Exception as defect:  # noqa: BLE001 - a defect of ours must not become a failed request
            self._recorder.failed(defect)

    def _exchange(
        self,
        request: web.Request,
        session: Session,
        started: float,
        response: web.StreamResponse | None,
        error: BaseException | None,
    ) -> Exchange:
        resource = request.match_info.route.resource
        template = None if resource is None else resource.canonical
        headers = request.headers
        exchange = Exchange(
            session=session,
            method=request.method,
            host=_bytes(headers.get(hdrs.HOST)) or b"",  # `request.host` may ask the DNS
            url=self._recorder.address(template, request.path),
            query=request.query_string,
            seconds=perf_counter() - started,
            request_bytes=request.content_length or 0,
            trace=trace_of(_bytes(headers.get("X-Amzn-Trace-Id")), _bytes(headers.get("traceparent"))),
            context=request,
        )
        if response is not None:
            exchange.status = response.status
            if isinstance(response, web.WebSocketResponse):
                if response.close_code is not None:
                    exchange.more = {"ws_close_code": int(response.close_code)}
            elif request.method != hdrs.METH_HEAD:
                exchange.response_bytes = _size_of(response)
        elif isinstance(error, (asyncio.CancelledError, GeneratorExit, ConnectionError)):
            exchange.status, exchange.aborted = _ABORTED, True
        else:
            exchange.status, exchange.error = 500, error
        return exchange


def _size_of(response: web.StreamResponse) -> int:
    """Return the size of a response: of all that went out, if it was streamed, or of its body."""
    return response.body_length or response.content_length or 0


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogateescape")


def trace_config(
    buffer: RumBuffer,
    *,
    domain: str | None = None,
    query: bool = False,
    redact: Callable[[str], str] | None = redact_url,
    attributes: Mapping[str, str | float | bool] | None = None,
    before_record: BeforeRecord | None = None,
    error_messages: bool = True,
) -> TraceConfig:
    """Return a `TraceConfig` that records a client's calls as `http_event`s of the current session.

    A call without a current session is not recorded. `domain` is the site that the calls are made for;
    where it is left out, the host that is called stands for it. The addresses in the events are absolute;
    user, query and what looks like an id are cut out, or what `redact` makes of them stands there.
    `before_record` takes each event and the parameters of aiohttp's trace. Raises `InvalidSetting`.
    """
    door = Door(buffer)
    recorder = Recorder(
        door,
        domain=domain,
        attributes=attributes,
        query=query,
        redact=redact,
        before_record=before_record,
        errors=False,
        error_messages=error_messages,
        xray=False,
    )

    async def start(_: ClientSession, context: SimpleNamespace, __: TraceRequestStartParams) -> None:
        context.rumbuffer = (perf_counter(), current_session.get())

    async def end(_: ClientSession, context: SimpleNamespace, parameters: TraceRequestEndParams) -> None:
        record(context, parameters, parameters.response.status, parameters.response.content_length or 0, None)

    async def fail(
        _: ClientSession, context: SimpleNamespace, parameters: TraceRequestExceptionParams
    ) -> None:
        # With `raise_for_status` it was answered.
        error = parameters.exception
        record(context, parameters, error.status if isinstance(error, ClientResponseError) else 0, 0, error)

    def record(
        context: SimpleNamespace,
        parameters: TraceRequestEndParams | TraceRequestExceptionParams,
        status: int,
        size: int,
        error: BaseException | None,
    ) -> None:
        try:
            started, session = context.rumbuffer
            if session is None:
                return
            if isinstance(session, UnsampledSession):
                door.count_sampled_out(session)
                return
            url = parameters.url
            exchange = Exchange(
                session=session,
                method=parameters.method,
                host=_bytes(url.host) or b"",
                url=recorder.address(None, str(url.with_query(None).with_fragment(None))),
                query=url.raw_query_string,
                status=status,
                seconds=perf_counter() - started,
                response_bytes=size,
                side="client",
                context=parameters,
            )
            if isinstance(error, asyncio.CancelledError):
                exchange.aborted = True
            else:
                exchange.error = error
            recorder.record(exchange)
        except Exception as defect:  # noqa: BLE001 - a defect of ours must not become a failed call
            recorder.failed(defect)

    config = TraceConfig()
    config.on_request_start.append(start)
    config.on_request_end.append(end)
    config.on_request_exception.append(fail)
    return config
