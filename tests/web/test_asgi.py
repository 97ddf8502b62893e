from __future__ import annotations

import asyncio
import json
import logging
import threading
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from rumbuffer import (
    Event,
    InvalidSetting,
    Limits,
    Outcome,
    Overflow,
    SealedBatch,
    Session,
    current_session,
)
from rumbuffer.asgi import RumMiddleware, SessionCookie
from tests.web.helpers import (
    BROWSER,
    HTTP,
    JS_ERROR,
    NIL,
    SESSION,
    USER,
    XRAY,
    App,
    Message,
    Receive,
    Scope,
    Send,
    Site,
    answering,
    call,
    get,
    scope_of,
    session_cookie,
    with_cookies,
)

OTHER = "00000000-1111-4222-8333-444444444444"


def rum(app: App, site: Site, **options: Any) -> RumMiddleware:
    """Wrap an application."""
    return RumMiddleware(app, buffer=site.buffer, **options)


# What an event tells -----------------------------------------------------------------------------


async def test_request_becomes_an_http_event(site: Site) -> None:
    """A request is one http_event in the browser's session, with status, duration and sizes beside it."""
    reply = await get(rum(answering(201, b"hello"), site), "/items/search", headers=BROWSER)
    assert (reply.status, reply.body) == (201, b"hello")
    event = await site.event()
    assert event.details == {
        "version": "1.0.0",
        "request": {"method": "GET", "url": "/items/search"},
        "response": {"status": 201},
    }
    duration = event.metadata.pop("http_duration_ms")
    assert 0 <= duration < 10_000
    assert event.metadata == {
        "version": "1.0.0",
        "domain": "shop.example.com",
        "http_side": "server",
        "http_status": 201,
        "http_request_bytes": 0,
        "http_response_bytes": 5,
    }
    assert (event.session_id, event.user_id) == (SESSION, USER)


async def test_metadata_travels_in_the_event(site: Site) -> None:
    """Version and domain are no session attributes, so that the event may share a batch with any other."""
    app = rum(answering(), site)
    await get(app, headers=BROWSER)
    site.buffer.record("com.example.other", {}, session=Session(SESSION, USER, {"a": 1}))
    await site.buffer.aclose()
    assert len(site.service.batches) == 1


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        (b"example.com", "example.com"),
        (b"EXAMPLE.com:80", "example.com"),
        (b"[2001:db8::1]:8080", "[2001:db8::1]"),
        (b"192.0.2.1:8080", "192.0.2.1"),
        (b'x"y', "unknown"),
        (b"\xff\xfe", "unknown"),
        (b"", "203.0.113.5"),
        (b"a" * 2000, "unknown"),
        (None, "203.0.113.5"),
    ],
)
async def test_domain(site: Site, host: bytes | None, domain: str) -> None:
    """The domain is the request's host without its port; the server's own where there is none."""
    await get(rum(answering(), site), host=host, headers=BROWSER)
    assert (await site.event()).metadata["domain"] == domain


async def test_domain_that_is_set(site: Site) -> None:
    """A domain that is set stands in every event."""
    await get(rum(answering(), site, domain="shop.test"), headers=BROWSER)
    assert (await site.event()).metadata["domain"] == "shop.test"


async def test_no_server_name() -> None:
    """Where nobody names a host (a unix socket, HTTP/1.0), the domain is unknown."""
    site = Site()
    await get(rum(answering(), site), host=None, headers=BROWSER, server=None)
    assert (await site.event()).metadata["domain"] == "unknown"


async def test_path_without_a_route_is_redacted(site: Site) -> None:
    """Where no route is known the path stands in the event, without ids, and never the query string."""
    await get(rum(answering(404), site), "/orders/12345/jane@example.com", query=b"q=1", headers=BROWSER)
    assert (await site.event()).url == "/orders/*/*"


async def test_path_with_percent_and_quotes(site: Site) -> None:
    """A path with what JSON and formatting treat specially stands in the event as it is."""
    for _ in range(2):
        await get(rum(answering(), site), '/100%/%d"\\/é\u2028/{}', headers=BROWSER)
    assert {event.url for event in await site.events()} == {'/100%/%d"\\/é\u2028/{}'}


async def test_path_with_lone_surrogates(site: Site) -> None:
    """A path that UTF-8 cannot hold is written with question marks."""
    await get(rum(answering(), site), "/\ud800x", headers=BROWSER)
    assert (await site.event()).url == "/?x"


async def test_long_path_and_method_are_bounded(site: Site) -> None:
    """A path of any length makes an event of bounded size."""
    app = rum(answering(), site, redact=None)
    await get(app, "/" + "é" * 50_000, method="M" * 5000, headers=BROWSER)
    event = await site.event()
    assert len(event.url) == 1024
    assert event.details["request"]["method"] == "M" * 32


async def test_redact_may_be_replaced(site: Site) -> None:
    """A redact of the user's decides about paths without a route."""
    await get(rum(answering(), site, redact=lambda path: path.upper()), "/a/42", headers=BROWSER)
    assert (await site.event()).url == "/A/42"


async def test_redact_that_raises(site: Site) -> None:
    """A redact that raises leaves nothing of the path."""

    def redact(path: str) -> str:
        raise KeyError(path)

    await get(rum(answering(), site, redact=redact), "/secret", headers=BROWSER)
    assert (await site.event()).url == "/"


async def test_query_when_asked_for(site: Site) -> None:
    """The query string is added when asked for, with what is secret starred out."""
    app = rum(answering(), site, query=True)
    await get(app, "/search", query=b"q=tea&token=abc", headers=BROWSER)
    await get(app, "/plain", headers=BROWSER)
    assert [event.url for event in await site.events()] == ["/search?q=tea&token=*", "/plain"]


async def test_query_unredacted(site: Site) -> None:
    """Without redaction the query string stands as it came."""
    app = rum(answering(), site, query=True, redact=None)
    await get(app, "/search", query=b"token=abc\xff", headers=BROWSER)
    assert (await site.event()).url == "/search?token=abc\xff"


async def test_attributes(site: Site) -> None:
    """The user's own attributes stand in every event's metadata."""
    await get(rum(answering(), site, attributes={"region": "eu", "blue": True}), headers=BROWSER)
    metadata = (await site.event()).metadata
    assert (metadata["region"], metadata["blue"]) == ("eu", True)


@pytest.mark.parametrize(
    "attributes",
    [
        {"a.b": 1},
        {"aws:x": 1},
        {"pageTags": 1},
        {"a": "x" * 257},
        {"a": None},
        {"a": float("nan")},
        {f"a{number}": 1 for number in range(5)},
    ],
)
def test_attributes_that_break_a_rule(site: Site, attributes: dict[str, Any]) -> None:
    """An attribute that the service would not take is refused when the middleware is made."""
    with pytest.raises(InvalidSetting, match="attributes"):
        rum(answering(), site, attributes=attributes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("domain", 7),
        ("domain", ""),
        ("session", "x"),
        ("session_header", "a b"),
        ("own_session", "x"),
        ("redact", "x"),
        ("before_record", "x"),
        ("sample_rate", 2),
        ("include", [7]),
        ("exclude", [None]),
    ],
)
def test_settings_that_break_a_rule(site: Site, name: str, value: Any) -> None:
    """A setting that means nothing is refused by name when the middleware is made."""
    with pytest.raises(InvalidSetting, match=name):
        rum(answering(), site, **{name: value})


def test_buffer_that_is_none() -> None:
    """Whatever is given for the buffer must be one."""
    with pytest.raises(InvalidSetting, match="buffer"):
        RumMiddleware(answering(), buffer=None)  # type: ignore[arg-type]


async def test_trace_id(site: Site) -> None:
    """A trace header gives the event its trace id, in both of the forms."""
    app = rum(answering(), site)
    parent = (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    root = (b"x-amzn-trace-id", b"Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1")
    await get(app, headers=[*BROWSER, parent])
    await get(app, headers=[*BROWSER, root])
    await get(app, headers=[*BROWSER, (b"traceparent", b'00-x","y":"')])
    assert [event.details.get("trace_id") for event in await site.events()] == [
        "1-4bf92f35-77b34da6a3ce929d0e0e4736",
        "1-5759e988-bd862e3fe1be46a994272793",
        None,
    ]


async def test_xray_event(site: Site) -> None:
    """An xray_trace_event brings the request's start and end, and its id stands in the http_event."""
    app = rum(answering(404, b"no"), site, xray=True)
    root = (b"x-amzn-trace-id", b"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8")
    await get(app, "/x", headers=[*BROWSER, root])
    trace, http = sorted(await site.events(), key=lambda event: event.type == HTTP)
    assert (trace.type, http.type) == (XRAY, HTTP)
    assert http.details["segment_id"] == trace.details["id"]
    assert http.details["trace_id"] == trace.details["trace_id"] == "1-5759e988-bd862e3fe1be46a994272793"
    assert trace.details["parent_id"] == "53995c3f42cd8ad8"
    assert trace.details["end_time"] >= trace.details["start_time"] > 1_700_000_000
    assert trace.details["http"] == {
        "request": {"method": "GET", "url": "/x"},
        "response": {"status": 404, "content_length": 2},
    }
    assert trace.details["error"] is True


async def test_xray_event_without_a_header(site: Site) -> None:
    """Without a trace header a trace of our own begins; one that is not sampled makes no segment."""
    app = rum(answering(429), site, xray=True)
    await get(app, headers=BROWSER)
    await get(
        app, headers=[*BROWSER, (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")]
    )
    events = await site.events()
    (trace,) = [event for event in events if event.type == XRAY]
    assert len(trace.details["trace_id"]) == 35
    assert trace.details["throttle"] is True
    assert len([event for event in events if event.type == HTTP]) == 2


async def test_xray_event_of_an_error(site: Site) -> None:
    """A request that failed is a fault in its segment."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await get(rum(app, site, xray=True), headers=BROWSER)
    (trace,) = [event for event in await site.events() if event.type == XRAY]
    assert trace.details["fault"] is True


# Sizes ---------------------------------------------------------------------------------------------


async def test_request_size_from_the_header(site: Site) -> None:
    """The request's size is what its header says."""
    await get(rum(answering(), site), method="POST", headers=[*BROWSER, (b"content-length", b"123")])
    assert (await site.event()).metadata["http_request_bytes"] == 123


@pytest.mark.parametrize("length", [b"", b"x", b"-1", b"1" * 5000, "²".encode()])
async def test_hostile_content_length(site: Site, length: bytes) -> None:
    """A length that is no number counts as nothing."""
    await get(rum(answering(), site), method="POST", headers=[*BROWSER, (b"content-length", length)])
    assert (await site.event()).metadata["http_request_bytes"] == 0


async def test_request_size_without_a_header(site: Site) -> None:
    """A request without a length is counted as the application reads it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await answering()(scope, receive, send)

    await call(rum(app, site), scope_of(method="POST", headers=BROWSER), [b"ab", b"cde"])
    assert (await site.event()).metadata["http_request_bytes"] == 5


async def test_streamed_response(site: Site) -> None:
    """A streamed response is one event, with all of its parts, when the last one is sent."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"ab", b"cde"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
            assert site.buffer.stats().offered == 0
        await send({"type": "http.response.body"})
        assert site.buffer.stats().offered == 1
        assert current_session.get() is not None

    await get(rum(app, site), headers=BROWSER)
    assert (await site.event()).metadata["http_response_bytes"] == 5


async def test_file_that_the_server_sends(site: Site) -> None:
    """A file that the server sends by its path is as large as the headers say."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"77")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.pathsend", "path": "/x"})

    await get(rum(app, site), headers=BROWSER)
    assert (await site.event()).metadata["http_response_bytes"] == 77


@pytest.mark.parametrize("query", [False, True])
async def test_head(site: Site, query: bool) -> None:
    """A HEAD's response has no size, even where the application sends a body that the server drops."""
    await get(rum(answering(200, b"x" * 50), site, query=query), method="HEAD", headers=BROWSER)
    event = await site.event()
    assert (event.status, event.metadata["http_response_bytes"]) == (200, 0)


async def test_not_modified(site: Site) -> None:
    """A 304 is an event like any other."""
    await get(rum(answering(304, b""), site), headers=BROWSER)
    event = await site.event()
    assert (event.status, event.metadata["http_response_bytes"]) == (304, 0)


async def test_background_task_does_not_count(site: Site) -> None:
    """The event is there when the response is out; what goes on after it is not waited for."""
    seen: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answering()(scope, receive, send)
        seen.append(site.buffer.stats().accepted)
        session = current_session.get()
        assert session is not None
        assert session.id == SESSION
        assert site.buffer.record("com.example.later", {})

    await get(rum(app, site), headers=BROWSER)
    assert seen == [1]
    assert {event.session_id for event in await site.events()} == {SESSION}


# Errors --------------------------------------------------------------------------------------------


class Oops(Exception):
    pass


def failing(error: BaseException, after: tuple[Message, ...] = ()) -> App:
    """Make an application that raises, after it sent some messages."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in after:
            await send(message)
        raise error

    return app


START: Message = {"type": "http.response.start", "status": 200, "headers": []}
PART: Message = {"type": "http.response.body", "body": b"abc", "more_body": True}
END: Message = {"type": "http.response.body", "body": b"abc"}


async def test_exception(site: Site) -> None:
    """An exception is an http_event with status 500 and an error, and a js_error_event; and is raised on."""
    error = Oops("the teapot is empty")
    with pytest.raises(Oops) as raised:
        await get(rum(failing(error), site), "/tea", headers=BROWSER)
    assert raised.value is error
    http, js = sorted(await site.events(), key=lambda event: event.type)
    assert (http.type, js.type) == (HTTP, JS_ERROR)
    assert http.status == http.metadata["http_status"] == 500
    assert http.details["error"]["type"] == "Oops"
    assert http.details["error"]["message"] == "the teapot is empty"
    assert js.details["type"] == "Oops"
    assert js.details["message"] == "the teapot is empty"
    assert js.details["filename"].endswith("test_asgi.py")
    raising = Path(__file__).read_text().splitlines()[js.details["lineno"] - 1]
    assert raising.strip() == "raise error"
    assert js.details["stack"].splitlines()[1].startswith("    at failing.<locals>.app (")
    assert js.session_id == http.session_id == SESSION


async def test_message_may_be_left_out(site: Site) -> None:
    """An exception's text, which may be personal, can be left out everywhere."""
    cause = KeyError("jane@example.com")
    error = Oops("jane@example.com")
    error.__cause__ = cause
    with pytest.raises(Oops):
        await get(rum(failing(error), site, error_messages=False), headers=BROWSER)
    assert "jane" not in json.dumps([event.details for event in await site.events()])


async def test_errors_may_be_left_out(site: Site) -> None:
    """Without error events an exception is in the http_event alone."""
    with pytest.raises(Oops):
        await get(rum(failing(Oops()), site, errors=False), headers=BROWSER)
    assert (await site.event()).details["error"]["type"] == "Oops"


async def test_exception_in_the_middle_of_a_response(site: Site) -> None:
    """An exception after the response began has status 500, and says what the client got."""
    with pytest.raises(Oops):
        await get(rum(failing(Oops(), (START, PART)), site), headers=BROWSER)
    http = min(await site.events(), key=lambda event: event.type)
    assert (http.status, http.metadata["http_status"]) == (500, 200)
    assert http.metadata["http_response_bytes"] == 3


async def test_error_response_and_then_the_exception(site: Site) -> None:
    """A framework that answers 500 and raises on makes one http_event, with the error."""
    start = {**START, "status": 500}
    with pytest.raises(Oops):
        await get(rum(failing(Oops(), (start, END)), site), headers=BROWSER)
    http, js = sorted(await site.events(), key=lambda event: event.type)
    assert (http.status, http.details["error"]["type"], js.type) == (500, "Oops", JS_ERROR)


async def test_error_response_without_an_exception(site: Site) -> None:
    """A response with status 500 that nobody explains is an event like any other."""
    await get(rum(answering(503), site), headers=BROWSER)
    event = await site.event()
    assert event.status == 503
    assert "error" not in event.details


async def test_exception_after_the_response(site: Site) -> None:
    """An exception of a background task is a js_error_event; the response was what it was."""
    with pytest.raises(Oops):
        await get(rum(failing(Oops(), (START, END)), site), headers=BROWSER)
    http, js = sorted(await site.events(), key=lambda event: event.type)
    assert (http.status, js.type) == (200, JS_ERROR)
    assert "error" not in http.details


@pytest.mark.parametrize("message", ["x" * 100_000, "语" * 100_000, "\ud800", '"\\\n' * 9000])
async def test_errors_are_bounded(site: Site, message: str) -> None:
    """However long its text, an exception makes events that the service takes."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        def deep(levels: int) -> None:
            if not levels:
                raise Oops(message)
            deep(levels - 1)

        deep(200)

    with pytest.raises(Oops):
        await get(rum(app, site), "/" + "é" * 900, headers=BROWSER)
    assert [event.type for event in await site.events()] == [HTTP, JS_ERROR]


async def test_errors_are_cut_to_the_limit() -> None:
    """Where events must be small, an exception's texts are cut until they fit."""
    site = Site(limits=Limits(max_event_bytes=800))
    with pytest.raises(Oops):
        await get(rum(failing(Oops("语" * 500)), site), headers=BROWSER)
    http, js = sorted(await site.events(), key=lambda event: event.type)
    assert http.details["error"]["message"].startswith("语语")
    assert js.details["stack"].startswith("Oops: 语语")


async def test_exception_that_cannot_be_told(site: Site) -> None:
    """An exception whose text cannot be made is told by its type."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with pytest.raises(Mute):
        await get(rum(failing(Mute()), site), headers=BROWSER)
    assert {event.details.get("message", "") for event in await site.events()} == {""}


async def test_base_exception(site: Site) -> None:
    """What stops the whole process is recorded, too, and raised on."""
    with pytest.raises(SystemExit):
        await get(rum(failing(SystemExit(3)), site), headers=BROWSER)
    assert {event.type for event in await site.events()} == {HTTP, JS_ERROR}


# Clients that leave --------------------------------------------------------------------------------


@pytest.mark.parametrize(("after", "status"), [((), 499), ((START, PART), 200)])
async def test_cancelled(site: Site, after: tuple[Message, ...], status: int) -> None:
    """A request that the server cancels because its client left is no error of the application's."""
    with pytest.raises(asyncio.CancelledError):
        await get(rum(failing(asyncio.CancelledError(), after), site), headers=BROWSER)
    event = await site.event()
    assert (event.status, event.metadata["http_aborted"]) == (status, True)


async def test_returned_without_an_answer(site: Site) -> None:
    """An application that returns without an answer has nobody to answer to."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    await get(rum(app, site), headers=BROWSER)
    event = await site.event()
    assert (event.status, event.metadata["http_aborted"]) == (499, True)


async def test_returned_in_the_middle(site: Site) -> None:
    """An application that stops in the middle of a response has lost its client."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(PART)

    await get(rum(app, site), headers=BROWSER)
    event = await site.event()
    assert (event.status, event.metadata["http_aborted"]) == (200, True)
    assert event.metadata["http_response_bytes"] == 3


@pytest.mark.parametrize("converted", [False, True])
async def test_send_that_fails(site: Site, converted: bool) -> None:
    """A part that cannot be sent any more means that the client left, whatever the application raises."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        try:
            await send(PART)
        except OSError:
            if converted:
                raise Oops from None
            raise

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise OSError("gone")

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(Oops if converted else OSError):
        await rum(app, site)(scope_of(headers=BROWSER), receive, send)
    event = await site.event()
    assert (event.status, event.metadata["http_aborted"]) == (200, True)


async def test_last_part_that_fails(site: Site) -> None:
    """A client that leaves at the very end makes no error of the application's."""

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise OSError("gone")

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(OSError, match="gone"):
        await rum(answering(), site)(scope_of(headers=BROWSER), receive, send)
    assert (await site.event()).status == 200


async def test_disconnect_that_starlette_raises(site: Site) -> None:
    """Starlette's own exception for a client that left is no error of the application's."""
    disconnect = type("ClientDisconnect", (Exception,), {})
    with pytest.raises(disconnect):
        await get(rum(failing(disconnect()), site), headers=BROWSER)
    assert (await site.event()).status == 499


# Sessions ------------------------------------------------------------------------------------------


async def test_session_is_current(site: Site) -> None:
    """Inside a request the session is the current one, and outside it is not."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert site.buffer.record("com.example.checkout", {"total": 42})
        await answering()(scope, receive, send)

    await get(rum(app, site), headers=BROWSER)
    assert current_session.get() is None
    events = await site.events()
    assert {(event.session_id, event.user_id) for event in events} == {(SESSION, USER)}
    assert {event.type for event in events} == {HTTP, "com.example.checkout"}


async def test_session_in_threads_and_tasks(site: Site) -> None:
    """The session is current in the tasks and threads that a handler starts."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.to_thread(site.buffer.record, "com.example.thread", {})
        await asyncio.create_task(record())
        await answering()(scope, receive, send)

    async def record() -> None:
        site.buffer.record("com.example.task", {})

    await get(rum(app, site), headers=BROWSER)
    assert {event.session_id for event in await site.events()} == {SESSION}
    assert threading.active_count() >= 1


async def test_session_is_reset_after_an_exception(site: Site) -> None:
    """A request that fails leaves no session behind."""
    with pytest.raises(Oops):
        await get(rum(failing(Oops()), site), headers=BROWSER)
    assert current_session.get() is None


async def test_requests_at_the_same_time(site: Site) -> None:
    """Requests that overlap in one task each have their own session."""
    sessions = [f"00000000-0000-4000-8000-{number:012x}" for number in range(20)]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)
        current = current_session.get()
        assert current is not None
        site.buffer.record("com.example.seen", {"id": current.id})
        await answering()(scope, receive, send)

    wrapped = rum(app, site)
    await asyncio.gather(
        *(get(wrapped, headers=with_cookies(session_cookie(session))) for session in sessions)
    )
    seen = [event for event in await site.events() if event.type == "com.example.seen"]
    assert sorted(event.details["id"] for event in seen) == sessions
    assert all(event.details["id"] == event.session_id for event in seen)


async def test_record_false_is_honoured(site: Site) -> None:
    """In a session that the browser did not sample nothing is recorded, by us or by a handler."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        admission = site.buffer.record("com.example.checkout", {})
        assert admission.status == "sampled_out"
        await answering()(scope, receive, send)

    reply = await get(rum(app, site), headers=with_cookies(session_cookie(record=False)))
    assert reply.cookies == []
    stats = site.buffer.stats()
    assert (stats.sampled_out, stats.accepted, stats.refused) == (2, 0, 0)
    assert await site.events() == []


async def test_header_session(site: Site) -> None:
    """A header may bring the session's id, where no browser does; the browser's wins."""
    app = rum(answering(), site, session_header="X-Session")
    header = (b"x-session", OTHER.encode())
    reply = await get(app, headers=[header])
    assert reply.cookies == []
    await get(app, headers=[header, *BROWSER])
    assert [event.session_id for event in await site.events()] == [OTHER, SESSION]


async def test_hostile_header_session(site: Site) -> None:
    """A header that brings no UUID is the same as none."""
    app = rum(answering(), site, session_header="X-Session", own_session=None)
    await get(app, headers=[(b"x-session", b"'; drop table")])
    assert await site.events() == []


@pytest.mark.parametrize("answer", [Session(OTHER, USER), OTHER])
async def test_callable_session(site: Site, answer: Session | str) -> None:
    """A callable of the user's may give the session, as a session or as its id."""
    app = rum(answering(), site, session=lambda scope: answer if scope["path"] == "/a" else None)
    await get(app, "/a")
    event = await site.event()
    assert (event.session_id, event.user_id) == (OTHER, USER if isinstance(answer, Session) else NIL)


async def test_callable_session_with_attributes(site: Site) -> None:
    """A session of the user's keeps its attributes."""
    session = Session(OTHER, USER, {"tier": "gold"})
    await get(rum(answering(), site, session=lambda _: session))
    await site.buffer.aclose()
    assert site.service.batches[0].attributes is not None


@pytest.mark.parametrize("answer", [KeyError("jane@example.com"), "no uuid", 7])
async def test_callable_session_that_fails(
    site: Site, answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    """A callable that raises or answers nonsense is logged once, without its text, and costs nothing."""

    def session(scope: Scope) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    app = rum(answering(), site, session=session)
    with caplog.at_level(logging.WARNING, "rumbuffer"):
        assert (await get(app)).status == 200
        assert (await get(app)).status == 200
    assert len([record for record in caplog.records if "session callable" in record.message]) == 1
    assert "jane" not in caplog.text
    assert len(await site.events()) == 2


async def test_own_session(site: Site) -> None:
    """A visitor without the browser client gets a session of our own, in our own cookie."""
    app = rum(answering(), site)
    (cookie,) = (await get(app)).cookies
    name_and_value, *rest = cookie.split("; ")
    assert rest == ["Max-Age=1800", "Path=/", "Secure", "HttpOnly", "SameSite=Lax"]
    again = await get(app, headers=with_cookies("a=b", name_and_value))
    assert again.cookies == []
    first, second = await site.events()
    assert first.session_id == second.session_id == name_and_value.partition("=")[2][:36]
    assert first.user_id == NIL


async def test_own_session_slides(site: Site) -> None:
    """Our own cookie is set anew once it is a minute old, with the same session."""
    app = rum(answering(), site)
    (cookie,) = (await get(app, headers=with_cookies(f"rum_session={OTHER}.{_minutes_ago(10):x}"))).cookies
    assert cookie.startswith(f"rum_session={OTHER}.")
    assert (await site.event()).session_id == OTHER


async def test_own_session_expires(site: Site) -> None:
    """Our own cookie that a browser kept for too long begins a new session."""
    app = rum(answering(), site)
    (cookie,) = (await get(app, headers=with_cookies(f"rum_session={OTHER}.{_minutes_ago(31):x}"))).cookies
    assert OTHER not in cookie
    assert (await site.event()).session_id != OTHER


def _minutes_ago(minutes: int) -> int:
    import time

    return int(time.time()) - 60 * minutes


async def test_own_session_with_a_known_user(site: Site) -> None:
    """Where the browser's session is gone and its user is not, our own session is that user's."""
    await get(rum(answering(), site), headers=with_cookies(f"cwr_u={USER}"))
    assert (await site.event()).user_id == USER


async def test_own_session_off(site: Site) -> None:
    """With our own session off, a visitor without one is not recorded, and gets no cookie."""
    app = rum(answering(), site, own_session=None)
    assert (await get(app)).cookies == []
    assert site.buffer.stats().offered == 0


async def test_own_session_keeps_the_response_s_cookies(site: Site) -> None:
    """Our cookie is added to those of the application's, and leaves its message as it was."""
    headers = [(b"set-cookie", b"a=b")]
    start: Message = {"type": "http.response.start", "status": 200, "headers": headers}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start)
        await send(END)

    wrapped = rum(app, site, own_session=SessionCookie("visit"))
    cookies = [(await get(wrapped)).cookies for _ in range(2)]
    assert [len(pair) for pair in cookies] == [2, 2]
    assert cookies[0][1] != cookies[1][1]
    assert headers == [(b"set-cookie", b"a=b")]


@pytest.mark.parametrize("caching", [b"public, max-age=60", b"s-maxage=60"])
async def test_no_cookie_into_shared_caches(site: Site, caching: bytes) -> None:
    """A response that a shared cache may keep gets no cookie, or its readers would share a session."""
    app = rum(answering(headers=[(b"Cache-Control", caching)]), site)
    assert (await get(app)).cookies == []


async def test_cookies_in_several_headers(site: Site) -> None:
    """HTTP/2 may bring the cookies in several headers."""
    await get(
        rum(answering(), site),
        headers=[*with_cookies(f"cwr_u={USER}"), *with_cookies(session_cookie()), *with_cookies("a=b")],
    )
    event = await site.event()
    assert (event.session_id, event.user_id) == (SESSION, USER)


@pytest.mark.parametrize(
    "cookie", [b"", b"cwr_s", b"\xff" * 60_000, b"cwr_s=" * 5000, b";;==;cwr_u=;cwr_s=;"]
)
async def test_hostile_cookies(site: Site, cookie: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """No cookie makes a request fail, or gets into the log."""
    with caplog.at_level(logging.DEBUG):
        reply = await get(rum(answering(), site), headers=[(b"cookie", cookie)])
    assert reply.status == 200
    assert "cwr" not in caplog.text
    assert (await site.event()).session_id != SESSION


# Which requests ------------------------------------------------------------------------------------


async def test_exclude(site: Site) -> None:
    """Excluded paths pass through untouched."""
    app = rum(answering(), site, exclude=["/health", "/static/*"])
    for path in ("/health", "/static/a/b.js"):
        assert (await get(app, path)).cookies == []
    await get(app, "/health/more", headers=BROWSER)
    assert (await site.event()).url == "/health/more"


async def test_include(site: Site) -> None:
    """With an include, only what it names is recorded, less what the exclude names."""
    app = rum(answering(), site, include="/api/*", exclude=lambda scope: scope["method"] == "OPTIONS")
    await get(app, "/", headers=BROWSER)
    await get(app, "/api/a", headers=BROWSER)
    await get(app, "/api/b", method="OPTIONS", headers=BROWSER)
    assert (await site.event()).url == "/api/a"


async def test_exclude_that_raises(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """A callable that raises is logged, and its request is not recorded."""

    def exclude(scope: Scope) -> bool:
        raise KeyError("jane")

    app = rum(answering(), site, exclude=exclude)
    assert (await get(app, headers=BROWSER)).status == 200
    assert "KeyError" in caplog.text
    assert "jane" not in caplog.text
    assert site.buffer.stats().offered == 0


@pytest.mark.parametrize("settings", [{"sample_rate": 0.5}, {}])
async def test_sampling(settings: dict[str, float]) -> None:
    """Sampling keeps whole sessions, by the middleware's rate or the buffer's, whichever is lower."""
    site = Site(**settings)
    app = rum(answering(), site, **({} if settings else {"sample_rate": 0.5}))
    sessions = [f"00000000-0000-4000-8000-{number:012x}" for number in range(100)]
    for session in sessions * 2:
        await get(app, headers=with_cookies(session_cookie(session)))
    stats = site.buffer.stats()
    assert stats.offered == 200
    kept = {event.session_id for event in await site.events()}
    assert kept == {session for session in sessions if Session(session).sample_point < 0.5}
    assert stats.accepted == 2 * len(kept)


async def test_sessions_are_shed_whole() -> None:
    """Under `Overflow.SHED_SESSIONS` the middleware leaves out the sessions that `record()` would."""
    site = Site(overflow=Overflow.SHED_SESSIONS)
    app = rum(answering(), site, sample_rate=0.9)
    sessions = [f"00000000-0000-4000-8000-{number:012x}" for number in range(100)]
    await site.buffer.start()
    store = site.buffer._store
    store.shed_rate = store.keep_rate = 0.7
    for session in sessions:
        await get(app, headers=with_cookies(session_cookie(session)))
    stats = site.buffer.stats()
    assert stats.sampled_out == stats.shed_out == sum(Session(each).sample_point >= 0.7 for each in sessions)
    kept = {event.session_id for event in await site.events()}
    assert kept == {session for session in sessions if Session(session).sample_point < 0.7}


async def test_own_session_that_is_not_sampled_keeps_its_cookie() -> None:
    """A session of our own that is not sampled gets its cookie all the same, or it would be drawn anew."""
    site = Site()
    app = rum(answering(), site, sample_rate=0.0)
    (cookie,) = (await get(app)).cookies
    again = await get(app, headers=with_cookies(cookie.partition(";")[0]))
    assert again.cookies == []
    assert site.buffer.stats().sampled_out == 2
    with pytest.raises(Oops):
        await get(rum(failing(Oops()), site, sample_rate=0.0))
    assert await site.events() == []


async def test_before_record_changes(site: Site) -> None:
    """A hook sees each event with the scope, and may change it."""

    def hook(event: Event, scope: Any) -> Event:
        assert isinstance(event.metadata, dict)
        event.metadata["tenant"] = scope["headers"][0][1].decode().partition(".")[0]
        return event

    await get(rum(answering(), site, before_record=hook), headers=BROWSER)
    assert (await site.event()).metadata["tenant"] == "shop"


async def test_before_record_drops(site: Site) -> None:
    """A hook that returns nothing drops the event."""
    await get(rum(answering(), site, before_record=lambda _, __: None), headers=BROWSER)
    assert site.buffer.stats().offered == 0


@pytest.mark.parametrize("answer", [ValueError("jane"), 7])
async def test_before_record_that_fails(site: Site, answer: object, caplog: pytest.LogCaptureFixture) -> None:
    """A hook that raises or answers nonsense loses the event, counted, and never the request."""

    def hook(event: Event, scope: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    app = rum(answering(), site, before_record=hook)
    assert (await get(app, headers=BROWSER)).status == 200
    assert site.buffer.stats().refused == 1
    assert "jane" not in caplog.text


# Never in the way ----------------------------------------------------------------------------------


async def test_buffer_that_is_not_started() -> None:
    """Where nobody starts the buffer, requests go on and their events are counted as refused."""
    site = Site()
    app = rum(answering(), site, manage_buffer=False)
    assert (await get(app, headers=BROWSER)).status == 200
    assert site.buffer.stats().refused_by_reason == {"not_running": 1}


async def test_buffer_that_is_closed(site: Site) -> None:
    """After the buffer's end requests go on, sampled or not."""
    app = rum(answering(), site)
    await get(app, headers=BROWSER)
    await site.buffer.aclose()
    assert (await get(app, headers=BROWSER)).status == 200
    assert (await get(app, headers=with_cookies(session_cookie(record=False)))).status == 200
    assert site.buffer.stats().refused == 1


async def test_buffer_that_is_full() -> None:
    """A full buffer makes room or refuses, as it is set; requests go on."""
    site = Site(limits=Limits(max_pending_bytes=2000))
    app = rum(answering(), site)
    for number in range(20):
        session = session_cookie(f"00000000-0000-4000-8000-{number:012x}")
        assert (await get(app, headers=with_cookies(session))).status == 200
    stats = site.buffer.stats()
    assert stats.offered == stats.accepted == 20
    assert stats.dropped > 0
    await site.buffer.aclose()


async def test_event_that_is_too_large() -> None:
    """Where an event may hardly be of any size, it is refused and counted, and requests go on."""
    site = Site(limits=Limits(max_event_bytes=50))
    app = rum(answering(), site)
    assert (await get(app, headers=BROWSER)).status == 200
    assert site.buffer.stats().refused_by_reason == {"invalid_event": 1}
    await site.buffer.aclose()


async def test_batch_that_holds_no_event() -> None:
    """Where no event fits the memory limit, it is refused and counted, and requests go on."""
    site = Site(limits=Limits(max_pending_bytes=1024))
    app = rum(answering(), site)
    assert (await get(app, headers=BROWSER)).status == 200
    assert site.buffer.stats().refused_by_reason == {"invalid_event": 1}
    await site.buffer.aclose()


@pytest.mark.parametrize("where", ["_find_session", "_recorder.mold", "_door.count_sampled_out"])
async def test_defect_of_ours(
    site: Site, where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong inside of us, the request is answered."""
    app = rum(answering(), site)

    def defect(*arguments: object, **more: object) -> None:
        raise RuntimeError("defect")

    *owners, name = where.split(".")
    owner: Any = app
    for attribute in owners:
        owner = getattr(owner, attribute)
    if name in ("mold", "count_sampled_out"):
        monkeypatch.setattr(type(owner), name, defect)
    else:
        monkeypatch.setattr(owner, name, defect)
    cookies = with_cookies(session_cookie(record=name != "count_sampled_out"))
    assert (await get(app, headers=cookies)).status == 200
    assert "please report it" in caplog.text


async def test_defect_in_the_long_way(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong inside of us, the application's own exception is the one that is raised."""
    app = rum(failing(Oops()), site)

    def defect(*arguments: object, **more: object) -> None:
        raise RuntimeError("defect")

    monkeypatch.setattr("rumbuffer.web.recorder.error_members", defect)
    with pytest.raises(Oops):
        await get(app, headers=BROWSER)
    monkeypatch.setattr("rumbuffer.web.visits.route_template", defect)
    with pytest.raises(Oops):
        await get(app, headers=BROWSER)
    assert "please report it" in caplog.text


async def test_many_paths_do_not_fill_the_memory(site: Site) -> None:
    """A client that makes up paths makes no cache grow beyond its bound."""
    app = rum(answering(), site)
    for number in range(2100):
        await get(app, f"/{chr(0x4E00 + number)}", headers=BROWSER)
    assert len(app._recorder.molds) <= 2048


async def test_long_paths_and_hosts_are_not_kept(site: Site) -> None:
    """What a client sends at length is not kept, so that the cache is bounded in bytes too."""
    app = rum(answering(), site)
    await get(app, "/" + "a/" * 5000, headers=BROWSER)
    await get(app, host=b"a" * 5000, headers=BROWSER)
    await get(app, method="M" * 5000, headers=BROWSER)
    assert app._recorder.molds == {}
    assert len(await site.events()) == 3


async def test_response_without_a_status(site: Site) -> None:
    """A message that the server will refuse reaches the server."""
    messages: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start"})
        await send({"type": "http.response.body", "body": None})

    messages = (await get(rum(app, site), headers=BROWSER)).messages
    assert [message["type"] for message in messages] == ["http.response.start", "http.response.body"]


async def test_other_scopes_pass_through(site: Site) -> None:
    """A kind of connection that we do not know is the application's alone."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    await get(rum(app, site), type="mqtt")
    assert seen == ["mqtt"]
    assert site.buffer.stats().offered == 0


async def test_another_context_at_the_end(site: Site) -> None:
    """A server that ends a request in another context than it began has no trouble with us."""
    import contextvars

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Pause()
        await answering()(scope, receive, send)

    class Pause:
        def __await__(self) -> Any:
            yield

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        pass

    await site.buffer.start()
    request = rum(app, site)(scope_of(headers=BROWSER), receive, send)
    contextvars.Context().run(request.send, None)
    with pytest.raises(StopIteration):
        contextvars.Context().run(request.send, None)
    assert (await site.event()).status == 200


# Websockets ----------------------------------------------------------------------------------------


async def talk(app: App, messages: list[Message], path: str = "/chat", **scope: Any) -> list[Message]:
    """Hold a conversation of which the client's part is given."""
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope_of(path, type="websocket", **scope), receive, send)
    return sent


CONNECT: Message = {"type": "websocket.connect"}
ACCEPT: Message = {"type": "websocket.accept"}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Say everything back."""
    await receive()
    await send(ACCEPT)
    while (message := await receive())["type"] == "websocket.receive":
        site_session = current_session.get()
        assert site_session is not None
        await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})


@pytest.mark.parametrize(("disconnect", "code"), [({"code": 1001}, 1001), ({}, 1005)])
async def test_websocket_that_the_client_closes(site: Site, disconnect: Message, code: int) -> None:
    """A connection is one event for its life, with its close code and what went over it."""
    said: list[Message] = [
        CONNECT,
        {"type": "websocket.receive", "text": "tea"},
        {"type": "websocket.receive", "text": "é"},
        {"type": "websocket.receive", "bytes": b"12345"},
        {"type": "websocket.disconnect", **disconnect},
    ]
    await talk(rum(echo, site), said, headers=BROWSER)
    event = await site.event()
    assert (event.url, event.status) == ("/chat", 101)
    assert event.metadata["ws_close_code"] == code
    assert event.metadata["http_request_bytes"] == event.metadata["http_response_bytes"] == 10
    assert event.session_id == SESSION


@pytest.mark.parametrize(("close", "code"), [({"code": 4000}, 4000), ({}, 1000)])
async def test_websocket_that_the_server_closes(site: Site, close: Message, code: int) -> None:
    """The application's own close code counts, also where the client answers it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.close", **close})
        await receive()

    await talk(rum(app, site), [CONNECT, {"type": "websocket.disconnect", "code": 1006}], headers=BROWSER)
    assert (await site.event()).metadata["ws_close_code"] == code


async def test_websocket_that_is_refused(site: Site) -> None:
    """A handshake that the application closes is a 403, as servers answer it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.close"})

    await talk(rum(app, site), [CONNECT], headers=BROWSER)
    event = await site.event()
    assert event.status == 403
    assert "ws_close_code" not in event.metadata


async def test_websocket_that_is_answered(site: Site) -> None:
    """A handshake that the application answers with a response has that response's status."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    await talk(rum(app, site), [CONNECT], headers=BROWSER)
    event = await site.event()
    assert (event.status, event.metadata["http_response_bytes"]) == (401, 2)


async def test_websocket_that_fails(site: Site) -> None:
    """An exception ends a connection with 1011 and makes the same two events as in a request."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        raise Oops

    with pytest.raises(Oops):
        await talk(rum(app, site), [], headers=BROWSER)
    http, js = sorted(await site.events(), key=lambda event: event.type)
    assert (http.status, http.metadata["http_status"], http.metadata["ws_close_code"]) == (500, 101, 1011)
    assert js.type == JS_ERROR


async def test_websocket_that_fails_before_it_is_accepted(site: Site) -> None:
    """An exception before the handshake is answered has no close code."""
    with pytest.raises(Oops):
        await talk(rum(failing(Oops()), site), [], headers=BROWSER)
    http = min(await site.events(), key=lambda event: event.type)
    assert (http.status, http.metadata["http_status"]) == (500, 500)
    assert "ws_close_code" not in http.metadata


async def test_websocket_that_is_left(site: Site) -> None:
    """A connection that nobody closes is lost: 1006; and one that nobody answers was left: 499."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/chat":
            await send(ACCEPT)

    await talk(rum(app, site), [], headers=BROWSER)
    await talk(rum(app, site), [], headers=BROWSER, path="/left")
    lost, left = await site.events()
    assert lost.metadata["ws_close_code"] == 1006
    assert (left.status, left.metadata["http_aborted"]) == (499, True)


async def test_websocket_whose_client_is_gone(site: Site) -> None:
    """A message that cannot be sent any more is no error of the application's."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await send({"type": "websocket.send", "text": "x"})

    async def send(message: Message) -> None:
        if message["type"] == "websocket.send":
            raise OSError

    async def receive() -> Message:
        return CONNECT

    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        await rum(app, site)(scope_of(type="websocket", headers=BROWSER), receive, send)
    event = await site.event()
    assert (event.status, event.metadata["ws_close_code"]) == (101, 1006)


async def test_websocket_own_cookie(site: Site) -> None:
    """A handshake may bring our own cookie, too."""
    sent = await talk(rum(echo, site), [CONNECT, {"type": "websocket.disconnect"}])
    assert sent[0]["headers"][0][0] == b"set-cookie"
    await site.event()


async def test_websocket_of_a_session_that_is_not_sampled(site: Site) -> None:
    """A connection in a session that is not sampled is left alone."""
    said: list[Message] = [
        CONNECT,
        {"type": "websocket.receive", "text": "x"},
        {"type": "websocket.disconnect"},
    ]
    sent = await talk(rum(echo, site), said, headers=with_cookies(session_cookie(record=False)))
    assert len(sent) == 2
    assert await site.events() == []


async def test_defect_at_the_end_of_a_websocket(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong inside of us, a connection ends as it would have."""

    def defect(*arguments: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("rumbuffer.web.visits.route_template", defect)
    await talk(rum(echo, site), [CONNECT, {"type": "websocket.disconnect"}], headers=BROWSER)
    assert "please report it" in caplog.text


async def test_a_foreign_session_does_not_bleed_in(site: Site) -> None:
    """What a server left current from another request is nobody's where a request has no session."""
    seen: list[Session | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(current_session.get())
        await answering()(scope, receive, send)

    token = current_session.set(Session(SESSION))
    try:
        assert (await get(rum(app, site, exclude=["/*"]))).status == 200
        assert (await get(rum(app, site, own_session=None))).status == 200
        with pytest.raises(Oops):
            await get(rum(failing(Oops()), site, own_session=None))
        assert current_session.get() == Session(SESSION)
    finally:
        current_session.reset(token)
    assert seen == [None, None]
    assert site.buffer.stats().offered == 0


async def test_an_error_of_a_background_task_is_the_applications(site: Site) -> None:
    """A lost mail server is no client that left."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answering()(scope, receive, send)
        raise ConnectionRefusedError("the mail server")

    with pytest.raises(ConnectionRefusedError):
        await get(rum(app, site), headers=BROWSER)
    types = [event.type for event in await site.events()]
    assert types == ["com.amazon.rum.http_event", "com.amazon.rum.js_error_event"]


async def test_addresses_in_messages_are_redacted(site: Site) -> None:
    """An HTTP client's exception tells the whole address; the event does not."""
    text = "404, url='http://api.example/a/alice@example.com?token=T0PSECRET' and https://x.example/1234"
    with pytest.raises(Oops):
        await get(rum(failing(Oops(text)), site), headers=BROWSER)
    told = "".join(json.dumps(event.details) for event in await site.events())
    assert "alice" not in told
    assert "T0PSECRET" not in told
    assert "http://api.example/a/*' and https://x.example/*" in told


@pytest.mark.parametrize("caching", ["max-age=31536000, immutable", "Public, max-age=5", "PUBLIC"])
async def test_no_cookie_where_a_shared_cache_might_keep_it(site: Site, caching: str) -> None:
    """A cache may keep what names an age, in any letters; headers from an iterator arrive all the same."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = iter([(b"cache-control", caching.encode()), (b"x-other", b"1")])
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    answer = await get(rum(app, site))
    assert answer.cookies == []
    assert (b"x-other", b"1") in answer.messages[0]["headers"]


@pytest.mark.parametrize("setting", ["exclude", "session", "before_record"])
async def test_a_callable_that_raises_a_cancellation(site: Site, setting: str) -> None:
    """Whatever a user's callable raises stays with us."""

    def cancelled(*_: object) -> Any:
        raise asyncio.CancelledError

    assert (await get(rum(answering(), site, **{setting: cancelled}))).status == 200


@pytest.mark.parametrize(
    "attributes", [{"version": "4.2.0"}, {"http_status": 3}, {"title": 7}, {"n": 2**70}, {"n": 10**400}]
)
def test_attributes_that_would_break_events(site: Site, attributes: dict[str, Any]) -> None:
    """A name that is ours, or a value that the service refuses, is an error at the start."""
    with pytest.raises(InvalidSetting, match=next(iter(attributes))):
        rum(answering(), site, attributes=attributes)


async def test_the_buffer_does_not_keep_the_first_requests_context() -> None:
    """The buffer's tasks live on; what was current in the request that started them does not."""
    whose: ContextVar[str] = ContextVar("whose", default="nobody's")
    seen: list[str] = []
    site = Site()
    send_batch = site.service.send

    async def send(batch: SealedBatch) -> Outcome:
        seen.append(whose.get())
        return await send_batch(batch)

    site.service.send = send  # type: ignore[method-assign]
    app = rum(answering(), site)
    whose.set("the first visitor's")
    await get(app, headers=BROWSER)
    await site.buffer.flush()
    await site.buffer.aclose()
    assert seen == ["nobody's"]
