"""Real applications, called as a server calls them."""

from __future__ import annotations

import asyncio
import warnings
from pathlib import Path
from typing import Any

import pytest

from rumbuffer import current_session
from rumbuffer.asgi import RumMiddleware
from tests.web.helpers import (
    BROWSER,
    JS_ERROR,
    SESSION,
    App,
    Message,
    Site,
    call,
    get,
    scope_of,
    urls_of,
)
from tests.web.packages import needed


def current_id() -> str:
    """Return the current session's id."""
    session = current_session.get()
    return "none" if session is None else session.id


# Starlette and FastAPI -----------------------------------------------------------------------------


def starlette_app(site: Site) -> App:
    """Make a Starlette application."""
    applications, routing = needed("starlette.applications"), needed("starlette.routing")
    responses, background = needed("starlette.responses"), needed("starlette.background")

    async def item(request: Any) -> Any:
        return responses.PlainTextResponse(current_id())

    def in_thread(request: Any) -> Any:
        return responses.PlainTextResponse(current_id())

    async def streamed(request: Any) -> Any:
        async def parts() -> Any:
            for _ in range(3):
                yield current_id()

        later = background.BackgroundTask(site.buffer.record, "com.example.later", {})
        return responses.StreamingResponse(parts(), background=later)

    async def failing(request: Any) -> Any:
        raise LookupError("no such item")

    async def socket(websocket: Any) -> None:
        await websocket.accept()
        await websocket.close(4001)

    app = applications.Starlette(
        routes=[
            routing.Route("/items/{item_id:int}", item),
            routing.Route("/thread/{name}", in_thread),
            routing.Route("/streamed", streamed),
            routing.Route("/failing/{item_id}", failing),
            routing.WebSocketRoute("/socket/{room}", socket),
            routing.Mount("/shops/{shop}", routes=[routing.Route("/items/{item_id}", item)]),
        ]
    )
    app.add_middleware(RumMiddleware, buffer=site.buffer)
    return app  # type: ignore[no-any-return]


async def test_starlette(site: Site) -> None:
    """Starlette's routes stand in the events with their parameters' names, mounts included."""
    app = starlette_app(site)
    for path in ("/items/42", "/thread/jane", "/shops/tea/items/7", "/nowhere/42"):
        await get(app, path, headers=BROWSER)
    assert await urls_of(site) == [
        "/items/{item_id}",
        "/thread/{name}",
        "/shops/{shop}/items/{item_id}",
        "/nowhere/*",
    ]


async def test_starlette_below_a_root_path(site: Site) -> None:
    """A server's root path stands before the route, once."""
    app = starlette_app(site)
    for path in ("/items/42", "/shops/tea/items/7"):
        await get(app, path, root_path="/public", headers=BROWSER)
    assert await urls_of(site) == ["/public/items/{item_id}", "/public/shops/{shop}/items/{item_id}"]


async def test_starlette_session_everywhere(site: Site) -> None:
    """The session is current in handlers, in their threads, in streams and in background tasks."""
    app = starlette_app(site)
    for path in ("/items/42", "/thread/jane", "/streamed"):
        reply = await get(app, path, headers=BROWSER)
        assert set(reply.body.decode().split(SESSION)) == {""}
    assert "com.example.later" in {event.type for event in await site.events()}


async def test_starlette_exception(site: Site) -> None:
    """An exception of a handler is told with its route, from inside Starlette's own error handler."""
    app = starlette_app(site)
    with pytest.raises(LookupError):
        await get(app, "/failing/42", headers=BROWSER)
    http, js = sorted(await site.events(), key=lambda event: event.type)
    assert (http.url, http.status, js.type) == ("/failing/{item_id}", 500, JS_ERROR)
    assert js.details["message"] == "no such item"


async def test_starlette_exception_from_outside(site: Site) -> None:
    """Around the whole application, where its 500 went out first, an exception is told just the same."""
    app = starlette_app(Site())
    with pytest.raises(LookupError):
        await get(RumMiddleware(app, buffer=site.buffer), "/failing/42", headers=BROWSER)
    http = min(await site.events(), key=lambda event: event.type)
    assert (http.status, http.details["error"]["type"]) == (500, "LookupError")


async def test_starlette_websocket(site: Site) -> None:
    """A websocket's event has its route and its close code."""
    said: list[Message] = [{"type": "websocket.connect"}, {"type": "websocket.disconnect"}]

    async def receive() -> Message:
        return said.pop(0)

    async def send(message: Message) -> None:
        pass

    await starlette_app(site)(scope_of("/socket/tea", type="websocket", headers=BROWSER), receive, send)
    event = await site.event()
    assert (event.url, event.status, event.metadata["ws_close_code"]) == ("/socket/{room}", 101, 4001)


def fastapi_app(site: Site) -> App:
    """Make a FastAPI application."""
    fastapi = needed("fastapi")
    app, router, inner = fastapi.FastAPI(), fastapi.APIRouter(prefix="/v1"), fastapi.FastAPI()

    async def item(item_id: int) -> str:
        return current_id()

    def in_thread(item_id: int) -> str:
        return current_id()

    router.add_api_route("/items/{item_id}", item)
    inner.add_api_route("/things/{item_id}", in_thread)
    app.add_api_route("/plain/{item_id}", in_thread)
    app.add_api_route("/items", item, methods=["POST"])
    app.include_router(router, prefix="/api")
    app.mount("/inner/{tenant}", inner)
    app.add_middleware(RumMiddleware, buffer=site.buffer)
    return app  # type: ignore[no-any-return]


async def test_fastapi(site: Site) -> None:
    """FastAPI's routes stand in the events with the prefixes of their routers and applications."""
    app = fastapi_app(site)
    for path in ("/api/v1/items/42", "/plain/42", "/inner/jane/things/1", "/plain/no-number", "/none"):
        reply = await get(app, path, headers=BROWSER)
        assert reply.status in (200, 404, 422)
        if reply.status == 200:
            assert reply.body.decode() == f'"{SESSION}"'
    assert await urls_of(site) == [
        "/api/v1/items/{item_id}",
        "/plain/{item_id}",
        "/inner/{tenant}/things/{item_id}",
        "/plain/{item_id}",
        "/none",
    ]


async def test_fastapi_method_that_is_not_allowed(site: Site) -> None:
    """A route that is asked with another method is told as that route."""
    await get(fastapi_app(site), "/items", headers=BROWSER)
    event = await site.event()
    assert (event.url, event.status) == ("/items", 405)


# Litestar ------------------------------------------------------------------------------------------


def litestar_app() -> App:
    """Make a Litestar application."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        litestar = needed("litestar")

        async def item(item_id: int) -> str:
            return current_id()

        def in_thread(item_id: int) -> str:
            return current_id()

        async def failing() -> None:
            raise LookupError

        return litestar.Litestar(  # type: ignore[no-any-return]
            [
                litestar.get("/items/{item_id:int}")(item),
                litestar.get("/thread/{item_id:int}", sync_to_thread=True)(in_thread),
                litestar.get("/failing")(failing),
            ],
            logging_config=None,
            openapi_config=None,
        )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_litestar(site: Site) -> None:
    """Litestar's routes stand in the events, and its error pages are responses."""
    app = RumMiddleware(litestar_app(), buffer=site.buffer)
    for path in ("/items/42", "/thread/42"):
        assert (await get(app, path, headers=BROWSER)).body.decode() == SESSION
    await get(app, "/items/7", root_path="/public", headers=BROWSER)
    assert (await get(app, "/failing", headers=BROWSER)).status == 500
    await get(app, "/none/42", headers=BROWSER)
    assert await urls_of(site) == [
        "/items/{item_id}",
        "/thread/{item_id}",
        "/public/items/{item_id}",
        "/failing",
        "/none/*",
    ]


# Quart ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_quart(site: Site) -> None:
    """Quart's rules stand in the events in the same form as all others'."""
    quart = needed("quart")
    app = quart.Quart(__name__, root_path=str(Path(__file__).parent))

    async def item(item_id: int) -> str:
        return current_id()

    def in_thread(name: str) -> str:
        return current_id()

    async def socket(room: str) -> None:
        await quart.websocket.accept()
        await quart.websocket.close(4002)

    app.get("/items/<int:item_id>")(item)
    app.get("/thread/<name>")(in_thread)
    app.websocket("/socket/<room>")(socket)
    app.asgi_app = RumMiddleware(app.asgi_app, buffer=site.buffer)
    for path in ("/items/42", "/thread/jane"):
        assert (await get(app, path, headers=BROWSER)).body.decode() == SESSION
    await get(app, "/none/42", headers=BROWSER)
    said: list[Message] = [{"type": "websocket.connect"}]
    closed = asyncio.Event()

    async def receive() -> Message:
        if said:
            return said.pop()
        await closed.wait()
        return {"type": "websocket.disconnect", "code": 4002}

    async def send(message: Message) -> None:
        if message["type"] == "websocket.close":
            closed.set()

    scope = scope_of(
        "/socket/tea", type="websocket", scheme="wss", headers=BROWSER, subprotocols=[], extensions={}
    )
    await app(scope, receive, send)
    assert await urls_of(site) == ["/items/{item_id}", "/thread/{name}", "/none/*", "/socket/{room}"]


# None ----------------------------------------------------------------------------------------------


async def test_no_framework(site: Site) -> None:
    """An application may name its route itself, in the scope."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["rumbuffer.route"] = "/mine/{id}"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    await call(RumMiddleware(app, buffer=site.buffer), scope_of("/mine/42", headers=BROWSER))
    assert await urls_of(site) == ["/mine/{id}"]
