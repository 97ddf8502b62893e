"""What watches over one request while the application serves it, and records it when it is done."""

from __future__ import annotations

from collections.abc import Awaitable, MutableMapping
from operator import index
from time import perf_counter, time
from typing import Any, TypeAlias

from rumbuffer.events import Session
from rumbuffer.ids import new_event_id
from rumbuffer.tracing import Trace
from rumbuffer.web.frameworks import taken_error
from rumbuffer.web.leaving import has_left, tells_of_leaving
from rumbuffer.web.lifecycle import Message, Receive, Send
from rumbuffer.web.recorder import Exchange, Recorder, tracing_members
from rumbuffer.web.routes import route_template
from rumbuffer.web.set_cookie import WITH_HEADERS, with_cookie

__all__ = [
    "BODILESS",
    "HttpVisit",
    "Scope",
    "Visit",
    "WebSocketVisit",
    "size_of",
]

Scope: TypeAlias = MutableMapping[str, Any]

_ABORTED = 499
"""The status of a request whose client left before a response began; nginx's number."""

BODILESS = frozenset(("GET", "HEAD", "OPTIONS", "DELETE", "TRACE", "CONNECT"))
"""Methods whose requests have no body as a rule; with the others and no length, the body is counted."""

_WORTH_ASKING = 0.001
"""Seconds of a request after which the server is asked whether its client has left: it costs 60 ns, and few
clients leave sooner."""

_BROKEN = (OSError, BrokenPipeError, ConnectionResetError)
"""What a server's `send` raises when the client is gone (ASGI 2.4)."""

_SENT_BY_THE_SERVER = frozenset(("http.response.pathsend", "http.response.zerocopysend"))
"""Extensions of ASGI by which a server sends a file that it reads itself."""


class Visit:
    """What a request is served with: its session, and the server's `receive` and `send`, or ours around them.

    As it is, it watches over nothing: for a session that is not sampled.
    """

    __slots__ = ("is_over", "receive", "send", "session")

    session: Session
    receive: Receive
    send: Send
    is_over: bool
    """Whether nothing is left to be recorded."""

    def ended(self) -> None:
        """Record what is not recorded yet: the application returned."""

    def failed(self, error: BaseException) -> None:
        """Record what is not recorded yet: the application raised."""


class WatchedVisit(Visit):
    """What an HTTP request and a websocket have in common, from the beginning to the event."""

    __slots__ = (
        "cookie",
        "host",
        "path",
        "recorder",
        "request_bytes",
        "response_bytes",
        "root_path",
        "scope",
        "server_receive",
        "server_send",
        "started",
        "status",
        "trace",
        "unsendable",
    )

    server_receive: Receive
    server_send: Send
    recorder: Recorder
    scope: Scope
    path: str
    root_path: str
    started: float
    cookie: bytes | None
    host: bytes | None
    trace: Trace | None
    status: int
    request_bytes: int
    response_bytes: int
    unsendable: bool

    def _is_disconnect(self, error: BaseException) -> bool:
        """Tell whether the client's leaving, and not the application, is behind an exception."""
        return self.unsendable or tells_of_leaving(error)

    def _exchange(
        self, method: str, seconds: float, status: int, *, error: BaseException | None = None
    ) -> Exchange:
        scope = self.scope
        template = route_template(scope, self.root_path)
        return Exchange(
            session=self.session,
            method=method,
            host=self.host or _host_of(scope),
            url=self.recorder.address(template, self.path),
            query=scope.get("query_string", b"").decode("latin-1"),
            status=status,
            sent_status=self.status or None,
            seconds=seconds,
            request_bytes=self.request_bytes,
            response_bytes=self.response_bytes,
            trace=self.trace,
            error=error,
            context=scope,
        )


class HttpVisit(WatchedVisit):
    """One HTTP request. `seconds` is below zero until its response is complete."""

    __slots__ = ("method", "seconds", "start")

    receive: Receive
    is_over: bool
    request_bytes: int
    response_bytes: int
    status: int
    method: str
    seconds: float
    start: Message

    def count(self, receive: Receive) -> None:
        """Count the request's body as it is read."""
        self.server_receive = receive
        self.receive = self._receive_and_count

    async def _receive_and_count(self) -> Message:
        message = await self.server_receive()
        self.request_bytes += len(message.get("body") or b"")
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message of the application's, and take from it what the event tells.

        Not a coroutine of its own for each message, which would cost more than all that is done here.
        A message that is none goes to the server as it is, whose answer it is to give.
        """
        try:
            kind = message["type"]
            if kind == "http.response.body":
                if message.get("more_body", False):
                    return self._send_part(message)
                seconds = perf_counter() - self.started
                if seconds > _WORTH_ASKING and self.status < 500 and has_left(self.receive):
                    self._break_off()
                    return self.server_send(message)
                self.seconds = seconds
                body = message.get("body")
                if body:
                    self.response_bytes += len(body)
                # The event of an error waits until the application ends, which may say why.
                if self.status < 500:
                    self.returned()
            elif kind == "http.response.start":
                self.start = message
                if self.cookie is not None:
                    message = with_cookie(message, self.cookie)
                self.status = index(message["status"])
            elif kind in _SENT_BY_THE_SERVER:
                self._send_file(message)
        except Exception as error:  # noqa: BLE001 - as above
            self.recorder.misread(error)
        return self.server_send(message)

    def _break_off(self) -> None:
        """Record the request: the server knows that its client has left, and the application does not."""
        if not self.response_bytes:
            self.status = 0
        self.returned()

    @property
    def disconnected(self) -> bool:
        """Whether the server knows that the client has left, where `receive` is ours."""
        return has_left(self.server_receive)

    def _send_file(self, message: Message) -> None:
        """Note what the server sends of a file: a part of `count` bytes, or all that the headers tell of."""
        count = message.get("count")
        if isinstance(count, int):
            self.response_bytes += count
        elif self.status:
            for name, value in self.start.get("headers") or ():
                if name == b"content-length":
                    self.response_bytes = max(self.response_bytes, size_of(value))
        if not message.get("more_body", False):
            self.seconds = perf_counter() - self.started
            if self.status < 500:
                self.returned()

    async def _send_part(self, message: Message) -> None:
        try:
            await self.server_send(message)
        except OSError:  # the client is gone (ASGI 2.4)
            self.unsendable = True
            raise
        try:
            self.response_bytes += len(message.get("body") or b"")
        except Exception as error:  # noqa: BLE001 - the server took it, whatever it is
            self.recorder.misread(error)

    def returned(self) -> None:
        """Record the request: its response is complete, or the application returned without."""
        if self.is_over:
            return
        self.is_over = True
        try:
            recorder, seconds = self.recorder, self.seconds
            path, method, trace = self.path, self.method, self.trace
            template = route_template(self.scope, self.root_path)
            if seconds < 0.0 or not recorder.is_plain:
                self._record()
                return
            # The rest is `_record` for the usual case, at a tenth of its cost.
            host = self.host or _host_of(self.scope)
            kind = (template, method, self.status, host, path if template is None else None)
            mold = recorder.molds.get(kind) or recorder.mold(kind)
            if mold is None:
                self._record()
                return
            recorder.offer(
                mold
                % (
                    new_event_id(),
                    # `%.3f` rounds and the intake cuts: with half a millisecond less, events' times compare.
                    time() - 0.0005,
                    b"" if trace is None else tracing_members(trace),
                    seconds * 1000,
                    self.response_bytes,
                    self.request_bytes,
                ),
                self.session,
            )
        except Exception as defect:  # noqa: BLE001 - a defect of ours must not become a failed request
            self.recorder.failed(defect)

    def _record(self) -> None:
        if self.seconds >= 0.0:
            exchange = self._exchange(self.method, self.seconds, self.status)
        else:  # applications return without an answer, or in the middle of it, when nobody listens
            seconds = perf_counter() - self.started
            exchange = self._exchange(self.method, seconds, self.status or _ABORTED)
            exchange.aborted = True
        self.recorder.record(exchange)

    def ended(self) -> None:
        """Record the request, and the exception that the framework answered with a 5xx, if it told of one."""
        error = taken_error(self.scope)
        if error is None or self.status < 500 or self._is_disconnect(error):
            self.returned()
            return
        self.is_over = True
        try:
            seconds = perf_counter() - self.started if self.seconds < 0.0 else self.seconds
            self.recorder.record(self._exchange(self.method, seconds, self.status, error=error))
        except Exception as defect:  # noqa: BLE001 - a defect of ours must not become a failed request
            self.recorder.failed(defect)

    def failed(self, error: BaseException) -> None:
        """The application raised."""
        was_over = self.is_over
        try:
            # What else is an OSError is the application's own: a file, a mail server.
            if self._is_disconnect(error) or (was_over and type(error) in _BROKEN):
                self.returned()
                return
            self.is_over = True
            seconds = perf_counter() - self.started if self.seconds < 0.0 else self.seconds
            if was_over:
                self.recorder.record_error(error, self._exchange(self.method, seconds, self.status))
            else:
                self.recorder.record(self._exchange(self.method, seconds, 500, error=error))
        except Exception as defect:  # noqa: BLE001 - a defect of ours must not hide the application's error
            self.recorder.failed(defect)


class WebSocketVisit(WatchedVisit):
    """One websocket connection, from its handshake to its close."""

    __slots__ = ("close_code",)

    receive: Receive
    send: Send
    is_over: bool
    request_bytes: int
    response_bytes: int
    status: int
    close_code: int | None

    def listen(self, receive: Receive) -> None:
        """Listen to both sides."""
        self.close_code = None
        self.server_receive = receive
        self.receive = self._receive_and_note
        self.send = self._send_and_note

    async def _receive_and_note(self) -> Message:
        message = await self.server_receive()
        try:
            kind = message["type"]
            if kind == "websocket.receive":
                self.request_bytes += _payload(message)
            elif kind == "websocket.disconnect" and self.close_code is None:
                self.close_code = index(message.get("code") or 1005)
        except Exception as error:  # noqa: BLE001 - the application may know what it is
            self.recorder.misread(error)
        return message

    async def _send_and_note(self, message: Message) -> None:
        kind = message.get("type")
        if self.cookie is not None and kind in WITH_HEADERS:
            message = with_cookie(message, self.cookie)
        try:
            await self.server_send(message)
        except OSError:
            self.unsendable = True
            raise
        try:
            self._note(kind, message)
        except Exception as error:  # noqa: BLE001 - the server took it, whatever it is
            self.recorder.misread(error)

    def _note(self, kind: str | None, message: Message) -> None:
        """Take from a message that was sent what the event tells."""
        if kind == "websocket.send":
            self.response_bytes += _payload(message)
        elif kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.close":
            if self.status == 101 and self.close_code is None:
                self.close_code = index(message.get("code") or 1000)
            elif not self.status:
                self.status = 403  # as the ASGI specification has the server answer the handshake
        elif kind == "websocket.http.response.start":
            self.status = index(message["status"])
        elif kind == "websocket.http.response.body":
            self.response_bytes += len(message.get("body") or b"")

    def ended(self) -> None:
        """Record the connection, and the exception that the framework kept, if it told of one."""
        error = taken_error(self.scope)
        self._record(None if error is None or self._is_disconnect(error) else error)

    def failed(self, error: BaseException) -> None:
        """The application raised."""
        self._record(None if self._is_disconnect(error) else error)

    def _record(self, error: BaseException | None) -> None:
        self.is_over = True
        try:
            status = 500 if error is not None else self.status or _ABORTED
            exchange = self._exchange("GET", perf_counter() - self.started, status, error=error)
            if self.status == 101:
                # Where neither side closed it, the server does: 1011 after an error, else as lost.
                unsaid = 1006 if error is None else 1011
                exchange.more = {"ws_close_code": self.close_code or unsaid}
            elif error is None and not self.status:
                exchange.aborted = True
            self.recorder.record(exchange)
        except Exception as defect:  # noqa: BLE001 - a defect of ours must not become a failed request
            self.recorder.failed(defect)


def _payload(message: Message) -> int:
    """Return the bytes of a websocket message."""
    data = message.get("bytes")
    if data is not None:
        return len(data)
    text = message.get("text") or ""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def size_of(length: bytes | None) -> int:
    """Return what a ``Content-Length`` says; nothing where it says nonsense."""
    return int(length) if length is not None and length.isdigit() and len(length) < 16 else 0


def _host_of(scope: Scope) -> bytes:
    """Return the server's own name, for a client that named no host."""
    server = scope.get("server")
    return str(server[0]).encode("latin-1", "replace") if server and server[0] else b""
