from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from rumbuffer import Event, InvalidSetting, Session, current_session
from rumbuffer.aiohttp import BUFFER, setup, trace_config
from rumbuffer.web.known import UnsampledSession
from tests.web.helpers import HTTP, JS_ERROR, SESSION, USER, XRAY, Site, session_cookie

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


def application(site: Site, **options: Any) -> web.Application:
    """Make an application with every kind of handler."""
    app = web.Application()
    app.router.add_route("*", "/items/{item_id}", item)
    app.router.add_get("/streamed", streamed)
    app.router.add_get("/failing", failing)
    app.router.add_get("/moved", moved)
    app.router.add_get("/cached", cached)
    app.router.add_get("/socket/{room}", socket)
    app.router.add_get("/never", never)
    setup(app, site.buffer, **options)
    return app


Client: TypeAlias = "TestClient[web.Request, web.Application]"  # not generic at run time before aiohttp 3.11


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[Client]:
    """A client of the application, which runs until the block ends."""
    async with TestClient(TestServer(app)) as client:
        yield client


async def ask(client: Client, path: str, **request: Any) -> aiohttp.ClientResponse:
    """Send a request and read its answer."""
    async with client.request(
        request.pop("method", "GET"), path, allow_redirects=False, **request
    ) as response:
        await response.read()
        return response


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
    while not site.buffer.stats().accepted:  # noqa: ASYNC110 - nothing tells of it but the count
        await asyncio.sleep(0.01)
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
        for path, expected in (("/streamed", True), ("/moved", True), ("/cached", False)):
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


@pytest.mark.parametrize("where", ["_find", "_exchange"])
async def test_defect_of_ours(
    where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong inside of us, the request is answered."""
    site = Site()

    def defect(*arguments: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(f"rumbuffer.aiohttp._Server.{where}", defect)
    async with serving(application(site)) as client:
        assert (await ask(client, "/items/1", headers=COOKIES)).status == 200
    assert "please report it" in caplog.text


def test_settings_that_break_a_rule() -> None:
    """A buffer that is none is refused by name."""
    with pytest.raises(InvalidSetting, match="buffer"):
        setup(web.Application(), None)  # type: ignore[arg-type]


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

    monkeypatch.setattr("rumbuffer.aiohttp.Exchange", defect)
    with caplog.at_level(logging.WARNING):
        async with calling(site) as ask_it:
            token = current_session.set(Session(SESSION))
            assert await ask_it("/200/tea") == 200
            current_session.reset(token)
    assert "please report it" in caplog.text
    await site.buffer.aclose()
