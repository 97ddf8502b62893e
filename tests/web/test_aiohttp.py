from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from rumbuffer import Event, InvalidSetting, RumBuffer, Session, current_session
from rumbuffer.aiohttp import BUFFER, setup, trace_config
from rumbuffer.asgi import RumMiddleware
from rumbuffer.cookies import SessionCookie
from rumbuffer.web.known import UnsampledSession
from tests.web.helpers import (
    BROWSER,
    HTTP,
    JS_ERROR,
    SESSION,
    USER,
    XRAY,
    Receive,
    Scope,
    Send,
    Site,
    get,
    session_cookie,
)

COOKIES = {"Cookie": f"cwr_u={USER}; {session_cookie()}"}
UNSAMPLED = {"Cookie": session_cookie(record=False)}


async def item(request: web.Request) -> web.Response:
    """Answer with the current session's id."""
    session = current_session.get()
    return web.Response(text="none" if session is None else session.id)


async def streamed(request: web.Request) -> web.StreamResponse:
    """Answer in three parts."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(3):
        await response.write(b"part")
    await response.write_eof()
    return response


async def failing(request: web.Request) -> web.Response:
    """Fail."""
    raise LookupError("no such item")


async def moved(request: web.Request) -> web.Response:
    """Answer by raising, as aiohttp has it."""
    raise web.HTTPFound("/items/1")


async def cached(request: web.Request) -> web.Response:
    """Answer with what a shared cache may keep."""
    return web.Response(headers={"Cache-Control": "public"})


async def cached_nearby(request: web.Request) -> web.Response:
    """Answer with what a network that delivers content may keep."""
    return web.Response(headers={"Cache-Control": "no-store", "CDN-Cache-Control": "max-age=600"})


async def socket(request: web.Request) -> web.WebSocketResponse:
    """Say everything back."""
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for message in websocket:
        await websocket.send_str(message.data)
    return websocket


async def never(request: web.Request) -> web.Response:
    """Wait for ever."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError


HANDLERS = ("broken", "file", "half", "late", "made", "nothing", "room", "slow", "upload")


def application(site: Site, **options: Any) -> web.Application:
    """Make an application with every kind of handler, and those that a test brings by name."""
    app = web.Application()
    for name in HANDLERS:
        if name in options:
            app.router.add_route("*", f"/{name}", options.pop(name))
    app.router.add_route("*", "/items/{item_id}", item)
    app.router.add_get("/streamed", streamed)
    app.router.add_get("/failing", failing)
    app.router.add_get("/moved", moved)
    app.router.add_get("/cached", cached)
    app.router.add_get("/cached_nearby", cached_nearby)
    app.router.add_get("/socket/{room}", socket)
    app.router.add_get("/never", never)
    setup(app, site.buffer, **options)
    return app


Client: TypeAlias = "TestClient[web.Request, web.Application]"  # not generic at run time before aiohttp 3.11


class Server(TestServer):
    """Leaves a handler alone whose client has left, as aiohttp does outside of its own tests."""

    async def _make_runner(self, **settings: Any) -> web.AppRunner:
        return web.AppRunner(self.app, **{**settings, "handler_cancellation": False})


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[Client]:
    """A client of the application, which runs until the block ends."""
    async with TestClient(Server(app)) as client:
        yield client


async def ask(client: Client, path: str, **request: Any) -> aiohttp.ClientResponse:
    """Send a request and read its answer."""
    async with client.request(
        request.pop("method", "GET"), path, allow_redirects=False, **request
    ) as response:
        await response.read()
        return response


async def recorded(site: Site) -> None:
    """Wait until something was recorded."""
    while not site.buffer.stats().accepted:  # noqa: ASYNC110 - nothing tells of it but the count
        await asyncio.sleep(0.001)


async def test_request_becomes_an_http_event() -> None:
    """A request is one http_event in the browser's session, with its route and sizes."""
    site = Site()
    async with serving(application(site)) as client:
        response = await ask(client, "/items/42?q=1", headers=COOKIES, data=b"12345", method="POST")
        assert await response.text() == SESSION
    event = await site.event()
    assert event.details == {
        "version": "1.0.0",
        "request": {"method": "POST", "url": "/items/{item_id}"},
        "response": {"status": 200},
    }
    assert event.metadata["domain"] == "127.0.0.1"
    assert event.metadata["http_request_bytes"] == 5
    assert event.metadata["http_response_bytes"] == 36
    assert (event.session_id, event.user_id) == (SESSION, USER)


@pytest.mark.skipif(
    tuple(map(int, aiohttp.__version__.split(".")[:2])) < (3, 11),
    reason="the inner applications of aiohttp before 3.11 do not work with today's yarl",
)
async def test_inner_application() -> None:
    """Routes of inner applications have their prefix."""
    site = Site()
    app, inner = application(site), web.Application()
    inner.router.add_get("/things/{thing}", item)
    app.add_subapp("/inner/", inner)
    async with serving(app) as client:
        await ask(client, "/inner/things/7", headers=COOKIES)
    event = await site.event()
    assert (event.url, event.status) == ("/inner/things/{thing}", 200)


async def test_routes() -> None:
    """A path without a route is redacted; every kind of response has its status and its size."""
    site = Site()
    async with serving(application(site)) as client:
        for path in ("/none/42", "/streamed", "/moved"):
            await ask(client, path, headers=COOKIES)
    events = await site.events()
    assert [(event.url, event.status) for event in events] == [
        ("/none/*", 404),
        ("/streamed", 200),
        ("/moved", 302),
    ]
    assert events[1].metadata["http_response_bytes"] >= 12
    assert {event.type for event in events} == {HTTP}


async def test_head() -> None:
    """A HEAD's response has no size."""
    site = Site()
    async with serving(application(site)) as client:
        await ask(client, "/items/1", method="HEAD", headers=COOKIES)
    assert (await site.event()).metadata["http_response_bytes"] == 0


async def test_exception() -> None:
    """An exception is an http_event with its error and a js_error_event, and goes on to aiohttp."""
    site = Site()
    async with serving(application(site, xray=True)) as client:
        assert (await ask(client, "/failing", headers=COOKIES)).status == 500
    events = {event.type: event for event in await site.events()}
    assert set(events) == {HTTP, JS_ERROR, XRAY}
    assert events[HTTP].details["error"]["type"] == "LookupError"
    assert events[JS_ERROR].details["filename"].endswith("test_aiohttp.py")


async def test_websocket() -> None:
    """A websocket is one event, with its close code, when it is over."""
    site = Site()
    async with (
        serving(application(site)) as client,
        client.ws_connect("/socket/tea", headers=COOKIES) as websocket,
    ):
        await websocket.send_str("x")
        assert (await websocket.receive()).data == "x"
        await websocket.close(code=4003)
    event = await site.event()
    assert (event.url, event.status, event.metadata["ws_close_code"]) == ("/socket/{room}", 101, 4003)


async def test_client_that_leaves() -> None:
    """A handler that is cancelled because its client left is no error of the application's."""
    site = Site()
    app = application(site)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    where = web.TCPSite(runner, "127.0.0.1", 0)
    await where.start()
    port = runner.addresses[0][1]
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    request = f"GET /never HTTP/1.1\r\nHost: x\r\nCookie: {COOKIES['Cookie']}\r\n\r\n"
    writer.write(request.encode())
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()
    await writer.wait_closed()
    await recorded(site)
    await runner.cleanup()
    event = await site.event()
    assert (event.status, event.metadata["http_aborted"]) == (499, True)


async def test_own_session() -> None:
    """A visitor without a session gets our own cookie, on every kind of response but a shared one."""
    site = Site()
    async with serving(application(site)) as client:
        client.session.cookie_jar.clear()
        first = await ask(client, "/items/1")
        cookie = first.headers["Set-Cookie"]
        assert "Max-Age=1800; Path=/; Secure; HttpOnly; SameSite=Lax" in cookie
        client.session.cookie_jar.clear()
        again = await ask(client, "/items/1", headers={"Cookie": cookie.partition(";")[0]})
        assert "Set-Cookie" not in again.headers
        for path, expected in (
            ("/streamed", True),
            ("/moved", True),
            ("/cached", False),
            ("/cached_nearby", False),
        ):
            client.session.cookie_jar.clear()
            assert ("Set-Cookie" in (await ask(client, path)).headers) is expected
    events = await site.events()
    assert events[0].session_id == events[1].session_id == await first.text()


async def test_session_that_is_not_recorded() -> None:
    """In a session that the browser did not sample nothing is recorded."""
    site = Site()
    async with serving(application(site)) as client:
        await ask(client, "/items/1", headers=UNSAMPLED)
        await ask(client, "/failing", headers=UNSAMPLED)
        await ask(client, "/moved", headers=UNSAMPLED)
    assert site.buffer.stats().sampled_out == 3
    assert await site.events() == []


async def test_session_of_the_user_s() -> None:
    """A header or a callable may bring the session, and none at all may be allowed."""
    site = Site()
    options: dict[str, Any] = {"session_header": "X-Session", "own_session": None, "exclude": "/moved"}
    async with serving(application(site, **options)) as client:
        await ask(client, "/items/1", headers={"X-Session": SESSION})
        assert await (await ask(client, "/items/1")).text() == "none"
        await ask(client, "/moved", headers=COOKIES)
    assert (await site.event()).session_id == SESSION


async def test_before_record_gets_the_request() -> None:
    """A hook sees each event with its request."""
    site = Site()

    def hook(event: Event, request: web.Request) -> Event:
        assert isinstance(event.metadata, dict)
        event.metadata["version_seen"] = str(request.version.major)
        return event

    async with serving(application(site, before_record=hook, query=True)) as client:
        await ask(client, "/items/1?q=tea", headers=COOKIES)
    event = await site.event()
    assert (event.url, event.metadata["version_seen"]) == ("/items/{item_id}?q=tea", "1")


async def test_buffer_is_the_application_s() -> None:
    """The buffer is at its key, and runs as long as the application does."""
    site = Site()
    app = application(site)
    assert app[BUFFER] is site.buffer
    async with serving(app):
        assert site.buffer._intake.state == "running"
    assert site.buffer._intake.state == "closed"


@pytest.mark.parametrize("managed", [True, False])
async def test_buffer_that_is_left_alone(managed: bool) -> None:
    """A buffer that runs already, or that is not to be managed, is left to its owner."""
    site = Site()
    if managed:
        await site.buffer.start()
    async with serving(application(site, manage_buffer=managed)) as client:
        assert (await ask(client, "/items/1", headers=COOKIES)).status == 200
    assert site.buffer._intake.state == ("running" if managed else "new")
    await site.buffer.aclose()


@pytest.mark.parametrize("where", ["_Server._find", "_Visit.prepare", "_Visit._exchange"])
async def test_defect_of_ours(
    where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong inside of us, the request is answered."""
    site = Site()

    def defect(*arguments: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(f"rumbuffer.aiohttp.server.{where}", defect)
    async with serving(application(site)) as client:
        assert (await ask(client, "/items/1", headers=COOKIES)).status == 200
    assert "please report it" in caplog.text
    assert site.buffer._intake.state == "closed"


def test_settings_that_break_a_rule() -> None:
    """A buffer that is none is refused by name."""
    with pytest.raises(InvalidSetting, match="buffer"):
        setup(web.Application(), None)  # type: ignore[arg-type]


# What is decided while the response is written ------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status", "size"),
    [
        ({}, 200, 1000),
        ({"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, 304, 0),
        ({"Range": "bytes=0-99"}, 206, 100),
        ({"Range": "bytes=5000-"}, 416, None),
        ({"If-Unmodified-Since": "Fri, 01 Jan 1999 00:00:00 GMT"}, 412, 0),
    ],
)
async def test_file(headers: dict[str, str], status: int, size: int | None, tmp_path: Path) -> None:
    """A file's event has the status that aiohttp finds while it sends it, and the bytes that went out."""
    (tmp_path / "file").write_bytes(b"x" * 1000)
    site = Site()

    async def file(request: web.Request) -> web.FileResponse:
        return web.FileResponse(tmp_path / "file")

    async with serving(application(site, file=file)) as client:
        assert (await ask(client, "/file", headers={**COOKIES, **headers})).status == status
        await recorded(site)  # aiohttp may see to the connection's end, before the request's
    event = await site.event()
    assert (event.status, event.metadata["http_status"]) == (status, status)
    assert size is None or event.metadata["http_response_bytes"] == size
    assert "http_aborted" not in event.metadata


async def test_file_that_is_missing(tmp_path: Path) -> None:
    """A file that is not there is a 404, in our event too."""
    site = Site()

    async def file(request: web.Request) -> web.FileResponse:
        return web.FileResponse(tmp_path / "file")

    app = application(site, file=file)
    async with serving(app) as client:
        try:
            status = (await ask(client, "/file", headers=COOKIES)).status
        except aiohttp.ClientError:  # aiohttp before 3.10 fails
            status = 500
    assert (await site.events())[0].status == status


async def test_body_that_is_made_while_it_is_written() -> None:
    """In a body that is made while it is written, the session is the current one, and its time counts."""
    site = Site()

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"part"
            await asyncio.sleep(0.01)
        site.buffer.record("com.example.written", {})

    async def made(request: web.Request) -> web.Response:
        return web.Response(body=parts())

    async with serving(application(site, made=made)) as client:
        assert await (await ask(client, "/made", headers=COOKIES)).text() == "part" * 3
    events = {event.type: event for event in await site.events()}
    assert events["com.example.written"].session_id == SESSION
    assert events[HTTP].metadata["http_duration_ms"] >= 20
    assert 12 <= events[HTTP].metadata["http_response_bytes"] < 12 + 4 * 10  # with the chunks' framing
    assert "http_aborted" not in events[HTTP].metadata


async def test_body_that_fails() -> None:
    """An error in the middle of a body is a 500 with its error; the client had a 200."""
    site = Site()

    async def parts() -> AsyncIterator[bytes]:
        yield b"part"
        raise LookupError("no more")

    async def made(request: web.Request) -> web.Response:
        return web.Response(body=parts())

    async with serving(application(site, made=made)) as client:
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask(client, "/made", headers=COOKIES)
    events = {event.type: event for event in await site.events()}
    assert (events[HTTP].status, events[HTTP].metadata["http_status"]) == (500, 200)
    assert events[HTTP].details["error"]["type"] == events[JS_ERROR].details["type"] == "LookupError"


async def test_client_that_leaves_a_body() -> None:
    """A client that leaves in the middle of a body is told; what was sent of it counts, and no error."""
    site = Site()
    left = asyncio.Event()

    async def parts() -> AsyncIterator[bytes]:
        yield b"part"
        await left.wait()
        while True:
            yield b"part" * 100
            await asyncio.sleep(0)

    async def made(request: web.Request) -> web.Response:
        return web.Response(body=parts())

    async with serving(application(site, made=made)) as client:
        response = await client.get("/made", headers=COOKIES)
        assert await response.content.readexactly(4) == b"part"
        response.close()
        await asyncio.sleep(0.01)
        left.set()
        await recorded(site)
    event = await site.event()
    assert (event.status, event.metadata["http_aborted"]) == (200, True)
    assert event.metadata["http_response_bytes"] >= 4


async def test_client_that_leaves_before_the_answer() -> None:
    """A client that has left before anything could be sent had no answer: 499."""
    site = Site()
    left = asyncio.Event()

    async def late(request: web.Request) -> web.Response:
        await left.wait()
        return web.Response(text="nobody reads this")

    async with serving(application(site, late=late)) as client:
        with pytest.raises(TimeoutError):
            await client.get("/late", headers=COOKIES, timeout=aiohttp.ClientTimeout(total=0.05))
        await asyncio.sleep(0.01)
        left.set()
        await recorded(site)
    event = await site.event()
    assert (event.status, event.metadata["http_aborted"]) == (499, True)
    assert event.metadata["http_response_bytes"] == 0


@pytest.mark.parametrize("gone", [True, False])
async def test_connection_error(gone: bool) -> None:
    """A connection's error is the client's leaving only if the client has left; else the application's."""
    site = Site()
    left = asyncio.Event()

    async def broken(request: web.Request) -> web.StreamResponse:
        if not gone:
            raise ConnectionResetError("the database's")
        response = web.StreamResponse(headers={"Content-Length": "1000000000"})
        await response.prepare(request)
        await response.write(b"part")
        await left.wait()
        while True:
            await response.write(b"part")
            await asyncio.sleep(0)

    async with serving(application(site, broken=broken)) as client:
        response = await client.get("/broken", headers=COOKIES)
        response.close()
        await asyncio.sleep(0.01)
        left.set()
        await recorded(site)
    events = {event.type: event for event in await site.events()}
    if gone:
        assert set(events) == {HTTP}
        assert (events[HTTP].status, events[HTTP].metadata["http_aborted"]) == (200, True)
        assert 4 <= events[HTTP].metadata["http_response_bytes"] < 1_000_000_000
    else:
        assert set(events) == {HTTP, JS_ERROR}
        assert (events[HTTP].status, events[HTTP].metadata["http_status"]) == (500, 500)


async def test_answer_without_a_body() -> None:
    """A 304 has no body, whatever length it tells of."""
    site = Site()

    async def made(request: web.Request) -> web.Response:
        return web.Response(status=304, headers={"Content-Length": "1000"})

    async with serving(application(site, made=made)) as client:
        assert (await ask(client, "/made", headers=COOKIES)).status == 304
    assert (await site.event()).metadata["http_response_bytes"] == 0


async def test_upload_in_chunks() -> None:
    """A request's body without a length is counted as it is read."""
    site = Site()

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"part"

    async def upload(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async with serving(application(site, upload=upload)) as client:
        await ask(client, "/upload", method="POST", headers=COOKIES, data=parts())
    assert (await site.event()).metadata["http_request_bytes"] == 12


async def test_handler_without_an_answer() -> None:
    """A handler that returns nothing is a 500, and its event says why."""
    site = Site()

    async def nothing(request: web.Request) -> Any:
        return None

    async with serving(application(site, nothing=nothing)) as client:
        with suppress(aiohttp.ClientError):  # aiohttp before 3.9.4 closes the connection
            assert (await ask(client, "/nothing", headers=COOKIES)).status == 500
    events = {event.type: event for event in await site.events()}
    assert events[HTTP].status == 500
    assert events[JS_ERROR].details["message"] == "the handler returned NoneType, and not a response"


async def test_timeout_of_a_handler() -> None:
    """What aiohttp answers a TimeoutError with is the event's status."""
    site = Site()

    async def slow(request: web.Request) -> web.Response:
        raise TimeoutError

    async with serving(application(site, slow=slow)) as client:
        assert (await ask(client, "/slow", headers=COOKIES)).status == 504
    events = {event.type: event for event in await site.events()}
    assert (events[HTTP].status, events[HTTP].details["error"]["type"]) == (504, "TimeoutError")


async def test_error_in_the_middle_of_a_stream() -> None:
    """A handler that fails after it began to answer is a 500 of which the client saw a 200."""
    site = Site()

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"part")
        raise LookupError

    async with serving(application(site, half=half)) as client:
        with pytest.raises(aiohttp.ClientError):
            await ask(client, "/half", headers=COOKIES)
    events = {event.type: event for event in await site.events()}
    assert set(events) == {HTTP, JS_ERROR}
    assert (events[HTTP].status, events[HTTP].metadata["http_status"]) == (500, 200)


@pytest.mark.parametrize("fails", [True, False])
async def test_websocket_that_nobody_closes(fails: bool) -> None:
    """A websocket whose handler fails is an error; one whose client is lost is 1006."""
    site = Site()
    left = asyncio.Event()

    async def room(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        if fails:
            raise LookupError
        left.set()
        await websocket.receive()
        return websocket

    async with serving(application(site, room=room)) as client:
        websocket = await client.ws_connect("/room", headers=COOKIES)
        if not fails:
            await left.wait()
            connection = websocket._response.connection
            assert connection is not None
            assert connection.transport is not None
            connection.transport.abort()
        await recorded(site)
        await websocket.close()
    events = {event.type: event for event in await site.events()}
    assert set(events) == ({HTTP, JS_ERROR} if fails else {HTTP})
    assert events[HTTP].status == (500 if fails else 101)
    assert events[HTTP].metadata["http_status"] == 101
    assert events[HTTP].metadata["ws_close_code"] == 1006
    assert "http_aborted" not in events[HTTP].metadata


# Beside other middlewares ---------------------------------------------------------------------------


async def test_middleware_outside_of_ours() -> None:
    """A middleware outside of ours may change the response and its headers, and has no session."""
    site = Site()
    seen: list[Session | None] = []

    @web.middleware
    async def outer(request: web.Request, handler: Any) -> web.StreamResponse:
        seen.append(current_session.get())
        response: web.StreamResponse = await handler(request)
        seen.append(current_session.get())
        response.headers["X-Outer"] = "1"
        response.set_status(202)
        return response

    app = application(site)
    app.middlewares.insert(0, outer)
    async with serving(app) as client:
        response = await ask(client, "/items/1", headers=COOKIES)
        assert (response.status, response.headers["X-Outer"]) == (202, "1")
    assert (await site.event()).status == 202
    assert seen == [None, None]


async def test_middleware_that_answers_for_an_error() -> None:
    """An exception that a middleware outside of ours makes an answer of is none of the application's."""
    site = Site()

    @web.middleware
    async def outer(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await handler(request)
        except LookupError:
            return web.Response(status=404)
        return response

    app = application(site)
    app.middlewares.insert(0, outer)
    async with serving(app) as client:
        assert (await ask(client, "/failing", headers=COOKIES)).status == 404
    event = await site.event()
    assert event.status == 404
    assert "error" not in event.details


async def test_middleware_that_shields() -> None:
    """Where the handler runs in another task, the request is recorded once, as the handler left it."""
    site = Site()

    @web.middleware
    async def outer(request: web.Request, handler: Any) -> web.StreamResponse:
        response: web.StreamResponse = await asyncio.shield(handler(request))
        return response

    app = application(site)
    app.middlewares.insert(0, outer)
    async with serving(app) as client:
        assert (await ask(client, "/items/1", headers=COOKIES)).status == 200
        assert (await ask(client, "/moved", headers=COOKIES)).status == 302
        assert (await ask(client, "/failing", headers=COOKIES)).status == 500
    events = await site.events()
    assert [event.status for event in events if event.type == HTTP] == [200, 302, 500]
    assert events[0].metadata["http_response_bytes"] == 36
    assert not [event for event in events if "http_aborted" in event.metadata]


async def test_requests_of_one_connection() -> None:
    """The requests of one connection have nothing in common: neither session nor cookie."""
    site = Site()
    async with serving(
        application(site, exclude="/moved", own_session=SessionCookie(secure=False))
    ) as client:
        await ask(client, "/items/1")
        client.session.cookie_jar.clear()
        response = await ask(client, "/moved")
        assert "Set-Cookie" not in response.headers
        response = await ask(client, "/items/1", headers=COOKIES)
        assert "Set-Cookie" not in response.headers
        assert await response.text() == SESSION
    assert len(await site.events()) == 2


@pytest.mark.skipif(
    tuple(map(int, aiohttp.__version__.split(".")[:2])) < (3, 11),
    reason="the inner applications of aiohttp before 3.11 do not work with today's yarl",
)
async def test_inner_application_with_the_same_buffer() -> None:
    """A request that passes two applications with one buffer is one event, and gets one cookie."""
    site = Site()
    inner = web.Application()
    inner.router.add_get("/things/{thing}", item)
    setup(inner, site.buffer)
    app = application(site)
    app.add_subapp("/inner/", inner)
    async with serving(app) as client:
        response = await ask(client, "/inner/things/7")
        assert len(response.headers.getall("Set-Cookie")) == 1
    assert (await site.event()).url == "/inner/things/{thing}"


# The buffer's life ----------------------------------------------------------------------------------


async def test_buffer_that_cannot_start(caplog: pytest.LogCaptureFixture) -> None:
    """A buffer that cannot start is logged, and the application runs without."""
    site = Site()

    async def fail(*, max_in_flight: int) -> None:
        raise LookupError("no credentials")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RumBuffer, "start", lambda _: fail(max_in_flight=0))
        async with serving(application(site)) as client:
            assert (await ask(client, "/items/1", headers=COOKIES)).status == 200
    assert "starting the buffer raised LookupError" in caplog.text


async def test_buffer_that_the_application_enters() -> None:
    """A buffer that the application's own cleanup_ctx enters is left to that."""
    site = Site()
    states: list[str] = []

    async def enter(app: web.Application) -> AsyncIterator[None]:
        async with site.buffer:
            yield
        states.append(site.buffer._intake.state)

    app = application(site)
    app.cleanup_ctx.append(enter)
    async with serving(app) as client:
        assert (await ask(client, "/items/1", headers=COOKIES)).status == 200
    assert states == ["closed"]
    assert (await site.event()).status == 200


async def test_startup_that_fails_late() -> None:
    """A buffer that was started when the application's startup failed is closed."""
    site = Site()

    async def fail(app: web.Application) -> None:
        assert site.buffer._intake.state == "running"
        raise LookupError

    app = application(site)
    app.on_startup.append(fail)
    runner = web.AppRunner(app)
    with pytest.raises(LookupError):
        await runner.setup()
    await runner.cleanup()
    assert site.buffer._intake.state == "closed"


async def test_request_that_the_shutdown_breaks_off() -> None:
    """A request that still runs when aiohttp gives up waiting is recorded, and its event delivered."""
    site = Site()

    async def slow(request: web.Request) -> web.Response:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            for _ in range(20):
                await asyncio.sleep(0)
        raise AssertionError

    runner = web.AppRunner(application(site, slow=slow), shutdown_timeout=0.01)
    await runner.setup()
    where = web.TCPSite(runner, "127.0.0.1", 0)
    await where.start()
    async with aiohttp.ClientSession(headers=COOKIES) as client:
        request = asyncio.ensure_future(client.get(f"http://127.0.0.1:{runner.addresses[0][1]}/slow"))
        await asyncio.sleep(0.05)
        await runner.cleanup()
        with pytest.raises(aiohttp.ClientError):
            await request
    event = await site.event()
    assert (event.status, event.metadata["http_aborted"]) == (499, True)
    assert site.buffer.stats().refused == 0


# The client ----------------------------------------------------------------------------------------


@asynccontextmanager
async def calling(site: Site, **options: Any) -> AsyncIterator[Callable[..., Any]]:
    """A function that calls a server which answers with what its path asks for."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=int(request.match_info["status"]), text="hello")

    app = web.Application()
    app.router.add_get("/{status}/{rest}", answer)
    config = trace_config(site.buffer, **options)
    await site.buffer.start()
    async with TestServer(app) as server, aiohttp.ClientSession(trace_configs=[config]) as client:

        async def ask_it(path: str) -> int:
            async with client.get(server.make_url(path)) as response:
                await response.read()
                return response.status

        yield ask_it


async def test_call_becomes_an_http_event() -> None:
    """A call is an http_event of the current session, with an absolute address and nothing secret in it."""
    site = Site()
    async with calling(site, domain="shop.test", attributes={"region": "eu"}) as ask_it:
        token = current_session.set(Session(SESSION, USER))
        await ask_it("/404/orders?token=x#y")
        current_session.reset(token)
    event = await site.event()
    assert event.url.startswith("http://127.0.0.1:")
    assert event.url.endswith("/*/orders")
    assert event.status == event.metadata["http_status"] == 404
    assert event.metadata["http_side"] == "client"
    assert event.metadata["domain"] == "shop.test"
    assert event.metadata["region"] == "eu"
    assert event.metadata["http_response_bytes"] == 5
    assert (event.session_id, event.user_id) == (SESSION, USER)


async def test_call_with_its_query() -> None:
    """A query string is added when it is asked for, redacted."""
    site = Site()
    async with calling(site, query=True) as ask_it:
        token = current_session.set(Session(SESSION))
        await ask_it("/200/tea?token=x&q=1")
        current_session.reset(token)
    event = await site.event()
    assert event.url.endswith("/tea?token=*&q=*")
    assert event.metadata["domain"] == "127.0.0.1"


async def test_call_without_a_session() -> None:
    """A call outside of any session is not recorded."""
    site = Site()
    async with calling(site) as ask_it:
        assert await ask_it("/200/tea") == 200
    assert site.buffer.stats().offered == 0
    await site.buffer.aclose()


async def test_call_in_a_session_that_is_not_recorded() -> None:
    """A call in a session that the browser did not sample counts as sampled out."""
    site = Site()
    async with calling(site) as ask_it:
        token = current_session.set(UnsampledSession(SESSION))
        await ask_it("/200/tea")
        current_session.reset(token)
    assert site.buffer.stats().sampled_out == 1
    await site.buffer.aclose()


async def test_call_that_fails() -> None:
    """A call that finds nobody is an http_event without a response, with its error."""
    site = Site()
    await site.buffer.start()
    token = current_session.set(Session(SESSION))
    async with aiohttp.ClientSession(trace_configs=[trace_config(site.buffer)]) as client:
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.get("http://127.0.0.1:1/x")
    current_session.reset(token)
    event = await site.event()
    assert "response" not in event.details
    assert event.details["error"]["type"] == "ClientConnectorError"


async def test_call_that_is_cancelled() -> None:
    """A call that its caller gives up is told as that, and is no error."""
    site = Site()
    app = web.Application()
    app.router.add_get("/", never)
    await site.buffer.start()
    token = current_session.set(Session(SESSION))
    async with (
        TestServer(app) as server,
        aiohttp.ClientSession(trace_configs=[trace_config(site.buffer)]) as client,
    ):
        call = asyncio.ensure_future(client.get(server.make_url("/")))
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    current_session.reset(token)
    event = await site.event()
    assert "error" not in event.details
    assert event.metadata["http_aborted"] is True


async def test_call_and_a_defect_of_ours(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong inside of us, the call is answered."""
    site = Site()

    def defect(*arguments: object, **more: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("rumbuffer.aiohttp.client.Exchange", defect)
    with caplog.at_level(logging.WARNING):
        async with calling(site) as ask_it:
            token = current_session.set(Session(SESSION))
            assert await ask_it("/200/tea") == 200
            current_session.reset(token)
    assert "please report it" in caplog.text
    await site.buffer.aclose()


async def test_call_to_an_ipv6_host() -> None:
    """The domain of a call to an IPv6 address is the address in brackets, that of an IDN its ASCII form."""
    site = Site()
    await site.buffer.start()
    token = current_session.set(Session(SESSION))
    config = trace_config(site.buffer, redact=None)
    async with aiohttp.ClientSession(trace_configs=[config]) as client:
        for host in ("[::1]:1", "b\u00fccher.invalid:1", "[fe80::1%25lo]:1"):
            with pytest.raises(aiohttp.ClientConnectionError):
                await client.get(f"http://user:secret@{host}/x")
    current_session.reset(token)
    events = await site.events()
    assert [event.metadata["domain"] for event in events] == ["[::1]", "xn--bcher-kva.invalid", "[fe80::1]"]
    assert "secret" not in repr(events)


async def test_call_for_a_request_that_is_not_sampled() -> None:
    """Calls made for a request that the middleware leaves out are left out too, however it does that."""
    site = Site()
    config = trace_config(site.buffer)

    async def call(request: web.Request) -> web.Response:
        async with (
            aiohttp.ClientSession(trace_configs=[config]) as client,
            client.get(f"http://{request.headers['Host']}/cached"),
        ):
            return web.Response()

    app = application(site, sample_rate=0.0, exclude=["/cached", "/excluded"])
    app.router.add_get("/call", call)
    app.router.add_get("/excluded", call)
    async with serving(app) as client:
        await ask(client, "/call", headers=COOKIES)
        await ask(client, "/excluded", headers=COOKIES)
    assert await site.events() == []
    assert site.buffer.stats().sampled_out == 2


@pytest.mark.parametrize(("sample_rate", "calls"), [(0.0, 0), (1.0, 1)])
async def test_call_for_an_asgi_request(sample_rate: float, calls: int) -> None:
    """`RumMiddleware` decides of the calls too."""
    site = Site()
    await site.buffer.start()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async with aiohttp.ClientSession(trace_configs=[trace_config(site.buffer)]) as client:
            with pytest.raises(aiohttp.ClientConnectionError):
                await client.get("http://127.0.0.1:1/x")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    await get(RumMiddleware(app, buffer=site.buffer, sample_rate=sample_rate), headers=BROWSER)
    events = [event for event in await site.events() if event.metadata["http_side"] == "client"]
    assert len(events) == calls
