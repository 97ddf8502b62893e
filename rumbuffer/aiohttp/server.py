"""The requests that an `aiohttp.web` application serves.

A handler returns its response before it is written, and much is decided only then: a `FileResponse`
becomes a 304, a 206 or a 404, a body fails halfway, the client is gone, aiohttp makes a 500 of whatever
it was given. A middleware cannot wait for that by preparing the response itself: middlewares outside of
it, and signals, may still change its headers, or put another one in its place.

But aiohttp serves every request in a task of its own, from the first middleware to the response's last
byte (since 3.7, so that context variables are apart). So the middleware leaves a callback with that task,
and a request is recorded when its task is done: once, whichever way it ended. ``on_response_prepare``
tells which response is written in the end, and makes the session the current one again, for a body that
is made while it is written. Nothing is changed in what aiohttp does.

Where a middleware outside of ours runs the handler in another task (``asyncio.shield``), the request is
over for us when that task is: recorded as the handler left it.

Sizes are bytes: the ``Content-Length``, else what was read and written; of a chunked response with the
framing of its chunks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from time import perf_counter
from typing import Any, TypeAlias

from aiohttp import hdrs, web

from rumbuffer.buffer import RumBuffer
from rumbuffer.cookies import SessionCookie
from rumbuffer.core.encoding import shape_of
from rumbuffer.errors import InvalidSetting
from rumbuffer.events import Session, current_session
from rumbuffer.settings import check_rate
from rumbuffer.tracing import trace_of
from rumbuffer.web.door import Door
from rumbuffer.web.filters import Filter, Which
from rumbuffer.web.lifecycle import Lifecycle
from rumbuffer.web.recorder import BeforeRecord, Exchange, Recorder
from rumbuffer.web.redaction import redact_path
from rumbuffer.web.sessions import Found, SessionFinder
from rumbuffer.web.set_cookie import may_be_shared

__all__ = ["BUFFER", "setup"]

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Served: TypeAlias = "asyncio.Task[Any]"

BUFFER: web.AppKey[RumBuffer] = web.AppKey("rumbuffer.BUFFER", RumBuffer)
"""The application's buffer: ``request.app[BUFFER].record("com.example.checkout", {...})``."""

_VISITS: Any = (  # aiohttp 3.14 warns of keys that are strings, and older ones have no other
    web.RequestKey("rumbuffer.visits", dict) if hasattr(web, "RequestKey") else "rumbuffer.visits"
)
"""Where a request keeps its visits, one for each buffer that it is recorded in."""

_ABORTED = 499

_LAST_REQUESTS = 1.0
"""Seconds that the closing of the buffer waits for requests which aiohttp has cancelled and left."""


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
    out the request. Call it before the application runs. A request that passes two applications with one
    buffer, an outer and an inner one, is recorded by the outer one.

    The buffer starts at the end of the application's startup, unless somebody started it by then (an
    ``async with buffer`` in a `cleanup_ctx` of yours), and closes at the end of its cleanup, unless it is
    somebody else's. If it cannot start, that is logged, and the application runs without. Where you start
    it in an ``on_startup`` handler that is added later than this, set `manage_buffer` to false.

    Raises `InvalidSetting`. Nothing that goes wrong later reaches a request: it is logged once, and
    counted.
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
        Lifecycle(door, manage=manage_buffer),
    )

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await server.handle(request, handler)

    app[BUFFER] = buffer
    app.middlewares.insert(0, middleware)
    app.on_response_prepare.append(server.prepare)
    app.on_startup.append(server.start)  # after the cleanup contexts' beginnings, which are its first
    app.cleanup_ctx.insert(0, server.close_at_last)  # the first of them is the last to end


class _Server:
    """The middleware of one application."""

    def __init__(
        self, door: Door, filter: Filter, sessions: SessionFinder, recorder: Recorder, lifecycle: Lifecycle
    ) -> None:
        self.recorder = recorder
        self._door = door
        self._filter = filter
        self._sessions = sessions
        self._header = None if sessions.header is None else sessions.header.decode()
        self._lifecycle = lifecycle
        self._serving: set[Served] = set()

    async def start(self, app: web.Application) -> None:
        """Start the buffer, if nobody has."""
        await self._lifecycle.start()

    async def close_at_last(self, app: web.Application) -> AsyncIterator[None]:
        """Close the buffer at the end of the cleanup; it comes to that also when the startup fails."""
        yield
        if self._serving:  # cancelled by aiohttp, which did not wait for their ends
            await asyncio.wait(self._serving, timeout=_LAST_REQUESTS)
        await self._lifecycle.close()

    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve a request: the middleware."""
        visits: dict[RumBuffer, _Visit] | None = request.get(_VISITS)
        if visits is not None and self._door.buffer in visits:
            return await handler(request)
        visit = self._visit(request)
        if visit is not None:
            if visits is None:
                visits = request[_VISITS] = {}
            visits[self._door.buffer] = visit
        token = current_session.set(None if visit is None else visit.session)
        try:
            return await (handler(request) if visit is None else visit.watch(handler))
        finally:
            # A handler may be ended in another context than its beginning.
            with suppress(ValueError):
                current_session.reset(token)

    async def prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Take note of the response that is about to be written: aiohttp's signal."""
        visits: dict[RumBuffer, _Visit] = request.get(_VISITS) or {}
        visit = visits.get(self._door.buffer)
        if visit is not None and visit.server is self:
            try:
                visit.prepare(response)
            except Exception as defect:  # noqa: BLE001 - a defect of ours must not become a failed request
                self.recorder.failed(defect)

    def _visit(self, request: web.Request) -> _Visit | None:
        """Return what watches over a request; `None` where it has no session."""
        try:
            found = self._find(request)
            if found is None:
                return None
            visit = _Visit(self, request, found)
            if visit.is_sampled:
                task = asyncio.current_task()
                assert task is not None
                self._serving.add(task)
                task.add_done_callback(self._serving.discard)
                task.add_done_callback(visit.finish)
            else:
                self._door.count_sampled_out(visit.session)
            return visit
        except Exception as defect:  # noqa: BLE001 - a defect of ours must not become a failed request
            self.recorder.failed(defect)
            return None

    def _find(self, request: web.Request) -> Found | None:
        if not (self._filter.takes_all or self._filter.takes(request.path, request)):
            return None
        cookies = "; ".join(request.headers.getall(hdrs.COOKIE, ()))
        header = None if self._header is None else request.headers.get(self._header)
        return self._sessions.find(_bytes(cookies), _bytes(header), request)


class _Visit:
    """One request, from the middleware to the end of its task."""

    def __init__(self, server: _Server, request: web.Request, found: Found) -> None:
        self.server = server
        self.session, self.is_sampled, self._cookie = found
        self._request = request
        self._started = perf_counter()
        self._response: web.StreamResponse | None = None
        """What is written to the client, or was about to be."""
        self._returned: web.StreamResponse | None = None
        """What the handler answered with."""
        self._error: BaseException | None = None
        self._had_begun = False
        """Whether the response had begun before the error."""
        self._is_unsent = False
        """Whether the client had left before anything of the response could be written."""
        self._left_midway = False
        """Whether the handler failed because the client had left."""

    async def watch(self, handler: Handler) -> web.StreamResponse:
        """Run the handler."""
        try:
            response = await handler(self._request)
        except web.HTTPException as response_raised:
            self._returned = response_raised
            raise
        except BaseException as error:
            self._fail(error)
            raise
        self._note(response)
        return response

    def _note(self, answer: object) -> None:
        if isinstance(answer, web.StreamResponse):
            self._returned = answer
        else:  # aiohttp makes a 500 of it, or closes the connection, as old as it is
            self._fail(TypeError(f"the handler returned {type(answer).__name__}, and not a response"))

    def _fail(self, error: BaseException) -> None:
        # Another ConnectionError is the application's own: of its database, say.
        self._left_midway = isinstance(error, ConnectionError) and self._has_left()
        self._error = None if self._left_midway else error
        self._had_begun = self._response is not None

    def _has_left(self) -> bool:
        transport = self._request.transport
        return transport is None or transport.is_closing()

    def prepare(self, response: web.StreamResponse) -> None:
        """The response is about to be written, its headers first."""
        self._response = response
        self._is_unsent = self._has_left()
        if current_session.get() is None:
            current_session.set(self.session)
        if self._cookie is not None and not _may_be_kept(response):
            response.headers.add(hdrs.SET_COOKIE, self._cookie.decode("latin-1"))

    def finish(self, task: Served) -> None:
        """Record the request: its task is done."""
        try:
            exchange = self._exchange()
            if task.cancelled() or self._left_midway:
                self._abort(exchange)
            elif self._error is not None:
                self._tell_error(exchange, self._error, had_begun=self._had_begun)
            elif (failure := self._failure_of(task)) is not None:
                self._tell_error(exchange, failure, had_begun=self._response is not None)
            elif self._is_unsent or self._is_incomplete():
                self._abort(exchange)
            self.server.recorder.record(exchange)
        except Exception as defect:  # noqa: BLE001 - a defect of ours must not become a failed request
            self.server.recorder.failed(defect)

    def _failure_of(self, task: Served) -> BaseException | None:
        """Return what went wrong while the response was written."""
        failure = task.exception()
        # Of a task that is not aiohttp's own, it may be the answer.
        return None if self._response is None and isinstance(failure, web.HTTPException) else failure

    def _is_incomplete(self) -> bool:
        """Tell whether writing the response ended early: aiohttp passes a lost connection over in silence."""
        response = self._response
        return not (
            response is None or isinstance(response, web.WebSocketResponse) or response.body_length > 0
        )

    def _abort(self, exchange: Exchange) -> None:
        if isinstance(self._response, web.WebSocketResponse):
            return
        exchange.aborted = True
        if self._response is None or self._is_unsent:
            exchange.status, exchange.response_bytes = _ABORTED, 0

    def _tell_error(self, exchange: Exchange, error: BaseException, *, had_begun: bool) -> None:
        answered = None if self._response is None else self._response.status
        if had_begun:
            exchange.status, exchange.sent_status, exchange.error = 500, answered, error
        elif answered is None:
            exchange.status, exchange.error = 500, error
        elif answered >= 500:
            exchange.error = error
        # else a middleware outside of ours made an answer of it

    def _exchange(self) -> Exchange:
        request, recorder = self._request, self.server.recorder
        resource = request.match_info.route.resource
        headers, length = request.headers, request.content_length
        exchange = Exchange(
            session=self.session,
            method=request.method,
            host=_bytes(headers.get(hdrs.HOST)) or b"",  # `request.host` may ask the DNS
            url=recorder.address(None if resource is None else resource.canonical, request.path),
            query=request.query_string,
            seconds=perf_counter() - self._started,
            request_bytes=request.content.total_bytes if length is None else length,
            trace=trace_of(_bytes(headers.get("X-Amzn-Trace-Id")), _bytes(headers.get("traceparent"))),
            context=request,
        )
        response = self._returned if self._response is None else self._response
        if response is not None:
            exchange.status = response.status
            if isinstance(response, web.WebSocketResponse):
                exchange.more = {"ws_close_code": int(response.close_code or 1006)}
            else:
                exchange.response_bytes = self._size_of(response)
        return exchange

    def _size_of(self, response: web.StreamResponse) -> int:
        """Return the bytes of a response's body, or of what was written of it."""
        length = response.content_length
        if length is not None and not self._is_incomplete():
            return length
        return max(0, self._request.writer.output_size - self._size_of_head(response))

    def _size_of_head(self, response: web.StreamResponse) -> int:
        first = len(f"HTTP/1.1 {response.status} {response.reason}\r\n\r\n")
        return first + sum(
            len(f"{name}: {value}\r\n".encode("utf-8", "replace")) for name, value in response.headers.items()
        )


def _may_be_kept(response: web.StreamResponse) -> bool:
    """Tell whether a shared cache may keep a response, which then carries nobody's cookie."""
    return any(
        may_be_shared(name.encode("latin-1", "replace"), value.encode("latin-1", "replace"))
        for name, value in response.headers.items()
    )


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogateescape")
