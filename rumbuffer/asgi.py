"""`RumMiddleware`: the server's side of each visit, from any ASGI application.

    app.add_middleware(RumMiddleware, buffer=buffer)     # FastAPI, Starlette
    app = RumMiddleware(app, buffer=buffer)              # anything else

What becomes an event, and when:

- An HTTP request is one `http_event` when its response is complete: the last body message was sent, so
  a background task does not count, and a streamed response counts until its end.
- A client that goes away: what was sent of the response is what is recorded, with ``http_aborted``;
  with status 499 where no response had begun. uvicorn knows of it even where the application did not listen.
- An exception that leaves the application: status 500 with `error`, and a `js_error_event`; it is
  raised on as it is. ``http_status`` in the metadata is what the client got, if a response had begun.
  From a background task, after the response, it is a `js_error_event` alone.
- An exception that a framework answers with a 5xx itself is told in the same way, once, with the status of
  the answer: Litestar, Quart and Django are asked for it, and any application may leave it in the scope,
  ``scope["rumbuffer.error"] = exception`` (and its route: ``scope["rumbuffer.route"] = "/items/{id}"``).
- A websocket is one `http_event` for the connection's life, with status 101 and ``ws_close_code``, or the
  status that the handshake was refused with.
- A request whose session is not sampled passes through as it is, and counts as sampled out.
- A request that passes two of these middlewares with one buffer, an application's and a mounted one's, is
  recorded by the outer one.

Inside the application, and in its threads and background tasks, the session is the current one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from time import perf_counter

from rumbuffer.buffer import RumBuffer
from rumbuffer.cookies import SessionCookie
from rumbuffer.events import Session, current_session
from rumbuffer.settings import check_rate
from rumbuffer.tracing import trace_of
from rumbuffer.web.door import Door
from rumbuffer.web.filters import Filter, Which
from rumbuffer.web.frameworks import watch_frameworks
from rumbuffer.web.lifecycle import App, Lifecycle, Receive, Send
from rumbuffer.web.recorder import BeforeRecord, Recorder
from rumbuffer.web.redaction import redact_path
from rumbuffer.web.sessions import SessionFinder
from rumbuffer.web.set_cookie import send_with_cookie
from rumbuffer.web.visits import (
    BODILESS,
    HttpVisit,
    Scope,
    Visit,
    WebSocketVisit,
    size_of,
)

__all__ = ["RumMiddleware", "SessionCookie", "redact_path"]


_WATCHED = "rumbuffer.buffer"
"""The scope's member that holds the buffer which a request is recorded in."""


class RumMiddleware:
    """Records each request of an ASGI application in `buffer`.

    Which requests: `include` and `exclude` are paths, in which ``*`` stands for anything (and ``?`` and
    ``[abc]`` for one character, as in `fnmatch`), or callables that take the scope; what is excluded
    passes through untouched. `sample_rate` keeps that share of the sessions, below the buffer's own; what
    the application records by itself is sampled by the buffer alone.

    Whose: the browser client's cookies tell the session; else the header `session_header` (a UUID) or
    the callable `session` (it takes the scope, and returns a `Session`, an id or `None`; it must not
    wait); else a cookie of our own, `own_session`, or none where that is `None`: then a request without
    a session is not recorded.

    What of them: `domain` stands for the request's host; `query` adds the query string, with what looks
    secret or personal starred out; `redact` changes paths for which no route is known (`redact_path` says
    what it stars out; `None` leaves them as they are); `attributes` (up to four) go into every event's
    metadata; `before_record` takes each event and the scope, and returns the event, changed or not, or
    `None` to drop it. `errors` makes `js_error_event`s, `error_messages` puts the exceptions' texts into
    events; `xray` adds an `xray_trace_event` to each request that is not excluded by its trace header.

    None of the callables is awaited: a coroutine function is refused.

    `manage_buffer` starts and closes the buffer with the application, if nobody else starts it. Raises
    `InvalidSetting`. Nothing that goes wrong later reaches a request: it is logged once, and counted.
    """

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        *,
        buffer: RumBuffer,
        domain: str | None = None,
        include: Which | None = None,
        exclude: Which | None = None,
        sample_rate: float = 1.0,
        session: Callable[[Scope], Session | str | None] | None = None,
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
        check_rate("sample_rate", sample_rate)
        self.app: App = app
        self.buffer = buffer
        self._door = Door(buffer)
        self._filter = Filter(self._door, include, exclude)
        self._sessions = SessionFinder(
            self._door,
            session=session,
            session_header=session_header,
            own_session=own_session,
            sample_rate=sample_rate,
        )
        self._recorder = Recorder(
            self._door,
            domain=domain,
            attributes=attributes,
            query=query,
            redact=redact,
            before_record=before_record,
            errors=errors,
            error_messages=error_messages,
            xray=xray,
        )
        self._lifecycle = Lifecycle(self._door, manage=manage_buffer)
        self._find_session = self._sessions.find
        self._session_header = self._sessions.header
        self._watched = frozenset(
            (b"cookie", b"host", b"content-length", b"traceparent", b"x-amzn-trace-id", self._session_header)
        )
        if manage_buffer and not self._door.brings_own_sender:
            import rumbuffer.aws  # noqa: F401 - 100 ms of imports, here and not in the first request
        watch_frameworks(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope of the application."""
        kind = scope["type"]
        if kind == "http" or kind == "websocket":  # noqa: PLR1714 - a quarter of what a tuple costs
            if not self._lifecycle.settled:
                watch_frameworks(scope.get("litestar_app"))
                await self._lifecycle.begin()
            if _WATCHED in scope and scope[_WATCHED] is self.buffer:  # `in` costs a third less than `get`
                await self.app(scope, receive, send)
                return
            try:
                visit = self._visit(kind, scope, receive, send)
            except Exception as error:  # noqa: BLE001 - a defect of ours must not become a failed request
                self._recorder.failed(error)
                visit = None
            if visit is not None:
                token = current_session.set(visit.session)
                try:
                    await self.app(scope, visit.receive, visit.send)
                    if not visit.is_over:
                        visit.ended()
                except BaseException as error:
                    visit.failed(error)
                    raise
                finally:
                    # A server may run the end of a request in another context than its beginning.
                    try:  # noqa: SIM105 - contextlib.suppress costs ten times as much
                        current_session.reset(token)
                    except ValueError:
                        pass
                return
            if current_session.get() is not None:
                # A server may begin a request in the context of another one: of the same connection, but
                # behind a proxy that says nothing about whose it is.
                token = current_session.set(None)
                try:
                    await self.app(scope, receive, send)
                finally:
                    with suppress(ValueError):
                        current_session.reset(token)
                return
        elif kind == "lifespan":
            watch_frameworks(self.app)
            await self._lifecycle.lifespan(self.app, scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _visit(  # noqa: PLR0915 - most of it is setting attributes
        self, kind: str, scope: Scope, receive: Receive, send: Send
    ) -> Visit | None:
        """Return what watches over a request; `None` where it has no session.

        Attributes are set here one by one: an ``__init__`` that takes them would cost as much again.
        """
        if not (self._filter.takes_all or self._filter.takes(scope["path"], scope)):
            return None
        cookies = host = length = traceparent = amzn = own_header = None
        watched, session_header = self._watched, self._session_header
        for name, value in scope["headers"]:
            if name in watched:
                if name == b"host":
                    host = value
                elif name == b"cookie":  # HTTP/2 may split it
                    cookies = value if cookies is None else cookies + b"; " + value
                elif name == b"content-length":
                    length = value
                elif name == b"traceparent":
                    traceparent = value
                elif name == b"x-amzn-trace-id":
                    amzn = value
                if name == session_header:
                    own_header = value
        found = self._find_session(cookies, own_header, scope)
        if found is None:
            return None
        session, sampled, cookie = found
        scope[_WATCHED] = self.buffer
        if not sampled:
            self._door.count_sampled_out(session)
            unwatched = Visit()
            unwatched.session = session
            unwatched.receive = receive
            unwatched.send = send if cookie is None else partial(send_with_cookie, send, cookie)
            unwatched.is_over = True
            return unwatched
        visit: HttpVisit | WebSocketVisit
        if kind == "http":
            visit = HttpVisit()
            visit.method = method = scope["method"]
            visit.request_bytes = 0 if length is None else size_of(length)
            visit.seconds = -1.0
            visit.receive = receive
            if length is None and method not in BODILESS:
                visit.count(receive)
        else:
            visit = WebSocketVisit()
            visit.request_bytes = 0
            visit.listen(receive)
        visit.session = session
        visit.cookie = cookie
        visit.server_send = send
        visit.recorder = self._recorder
        visit.scope = scope
        # The application changes both while it routes.
        visit.path = scope["path"]
        visit.root_path = scope.get("root_path", "")
        visit.host = host
        visit.trace = None if traceparent is None and amzn is None else trace_of(amzn, traceparent)
        visit.response_bytes = visit.status = 0
        visit.is_over = visit.unsendable = False
        visit.started = perf_counter()
        return visit
