"""Exceptions that frameworks answer with a 500 themselves, and do not raise on."""

from __future__ import annotations

import asyncio
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rumbuffer.asgi import RumMiddleware
from rumbuffer.web import frameworks
from tests.web.helpers import (
    BROWSER,
    HTTP,
    JS_ERROR,
    App,
    Message,
    Receive,
    Scope,
    Seen,
    Send,
    Site,
    answering,
    call,
    get,
    scope_of,
)
from tests.web.packages import needed

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


async def told(site: Site, *, url: str, status: int = 500) -> Seen:
    """The one exception that was told, and that its request tells of it too."""
    http, js = sorted(await site.events(), key=lambda event: event.type)
    assert (http.type, js.type) == (HTTP, JS_ERROR)
    assert (http.url, http.status, http.details["error"]["type"]) == (url, status, js.details["type"])
    return js


async def talk(app: App, path: str) -> list[Message]:
    """Open a websocket, and return what the application sent."""
    said: list[Message] = [{"type": "websocket.connect"}]
    sent: list[Message] = []
    closed = asyncio.Event()

    async def receive() -> Message:
        if said:
            return said.pop()
        await closed.wait()
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(message: Message) -> None:
        sent.append(message)
        if message["type"] in ("websocket.close", "websocket.http.response.body"):
            closed.set()

    scope = scope_of(path, type="websocket", scheme="wss", headers=BROWSER, subprotocols=[])
    scope["extensions"] = {"websocket.http.response": {}}
    del scope["method"]
    await app(scope, receive, send)
    return sent


# An application's own ------------------------------------------------------------------------------


def noting(error: object, *messages: Message) -> App:
    """An application that answers, and leaves the exception in the scope."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["rumbuffer.error"] = error
        for message in messages:
            await send(message)

    return app


def start(status: int) -> Message:
    """Begin a response."""
    return {"type": "http.response.start", "status": status, "headers": []}


BODY: Message = {"type": "http.response.body", "body": b"sorry"}


async def test_exception_in_the_scope(site: Site) -> None:
    """An application may leave the exception behind its 503 in the scope; its request keeps the status."""
    app = RumMiddleware(noting(LookupError("no tea"), start(503), BODY), buffer=site.buffer)
    assert (await get(app, "/items", headers=BROWSER)).status == 503
    js = await told(site, url="/items", status=503)
    assert js.details["message"] == "no tea"


@pytest.mark.parametrize(
    ("error", "messages"),
    [
        (LookupError(), (start(404), BODY)),
        (LookupError(), (start(200), BODY)),
        (asyncio.CancelledError(), (start(500), BODY)),
        ("no exception", (start(500), BODY)),
        (LookupError(), ()),
    ],
)
async def test_exception_in_the_scope_that_does_not_count(
    site: Site, error: object, messages: tuple[Message, ...]
) -> None:
    """What is no exception, or stands behind another answer than a 5xx, is not told."""
    scope = scope_of("/items", headers=BROWSER)
    app = RumMiddleware(noting(error, *messages), buffer=site.buffer)

    async def send(_: Message) -> None:
        pass

    await app(scope, _silence, send)
    assert [event.type for event in await site.events()] == [HTTP]


async def _silence() -> Message:
    return {"type": "http.request"}


async def test_exception_does_not_stay_in_the_scope(site: Site) -> None:
    """An exception that was told is taken out of the scope, which its traceback holds."""
    scope = scope_of("/items", headers=BROWSER)

    async def send(_: Message) -> None:
        pass

    await RumMiddleware(noting(LookupError(), start(500), BODY), buffer=site.buffer)(scope, _silence, send)
    assert "rumbuffer.error" not in scope
    await told(site, url="/items")


async def test_file_that_the_server_sends_with_a_500(site: Site) -> None:
    """An error page that the server sends from a file waits for its exception, too."""
    page: Message = {"type": "http.response.pathsend", "path": "/srv/500.html"}
    app = RumMiddleware(noting(LookupError(), start(500), page), buffer=site.buffer)
    await get(app, "/items", headers=BROWSER)
    await told(site, url="/items")


# Litestar ------------------------------------------------------------------------------------------


def litestar_app(**settings: Any) -> App:
    """Make a Litestar application whose handlers raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        litestar, exceptions = needed("litestar"), needed("litestar.exceptions")

        async def failing(item_id: int) -> None:
            raise LookupError("no such item")

        async def mapped() -> None:
            raise KeyError("x")

        async def forbidden() -> None:
            raise exceptions.PermissionDeniedException

        async def closed() -> None:
            raise exceptions.ServiceUnavailableException

        async def socket(socket: Any) -> None:
            await socket.accept()
            raise LookupError("no such room")

        async def refused(socket: Any) -> None:
            raise exceptions.NotAuthorizedException

        def gone(request: Any, error: Exception) -> Any:
            return litestar.Response("gone", status_code=410)

        socket.__annotations__["socket"] = refused.__annotations__["socket"] = litestar.WebSocket
        return litestar.Litestar(  # type: ignore[no-any-return]
            [
                litestar.get("/failing/{item_id:int}")(failing),
                litestar.get("/mapped")(mapped),
                litestar.get("/forbidden")(forbidden),
                litestar.get("/closed")(closed),
                litestar.websocket("/socket")(socket),
                litestar.websocket("/refused")(refused),
            ],
            exception_handlers={KeyError: gone},
            logging_config=None,
            openapi_config=None,
            **settings,
        )


async def test_litestar(site: Site) -> None:
    """An exception that Litestar answers with a 500 is told once."""
    litestar: Any = litestar_app()
    app = RumMiddleware(litestar, buffer=site.buffer)
    RumMiddleware(litestar, buffer=site.buffer)
    assert len(litestar.after_exception) == 1
    assert (await get(app, "/failing/42", headers=BROWSER)).status == 500
    js = await told(site, url="/failing/{item_id}")
    assert (js.details["type"], js.details["message"]) == ("LookupError", "no such item")


async def test_litestar_with_a_middleware_around_it(site: Site) -> None:
    """Another middleware between Litestar and ours changes nothing."""

    class Middleware:
        def __init__(self, app: App) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await self.app(scope, receive, send)

    app = RumMiddleware(Middleware(litestar_app()), buffer=site.buffer)
    await get(app, "/failing/42", headers=BROWSER)
    await told(site, url="/failing/{item_id}")


async def test_litestar_that_is_made_later(site: Site) -> None:
    """An application that is there only when the server's lifespan begins is found then."""

    class Later:
        app: Any = None

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await self.app(scope, receive, send)

    later = Later()
    app = RumMiddleware(later, buffer=site.buffer)
    later.app = litestar_app()
    said: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    told_of: list[str] = []

    async def receive() -> Message:
        if len(said) == 1:
            await get(app, "/failing/42", headers=BROWSER)
        return said.pop(0)

    async def send(message: Message) -> None:
        told_of.append(message["type"])

    await app({"type": "lifespan", "asgi": {}, "state": {}}, receive, send)
    assert told_of == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    await told(site, url="/failing/{item_id}")


@pytest.mark.parametrize("manage_buffer", [True, False])
async def test_litestar_around_the_middleware(site: Site, manage_buffer: bool) -> None:
    """As Litestar's own middleware it tells exceptions too; where it does not manage, from the second."""
    middleware = needed("litestar.middleware")
    own = middleware.DefineMiddleware(RumMiddleware, buffer=site.buffer, manage_buffer=manage_buffer)
    app = litestar_app(middleware=[own])
    if not manage_buffer:
        await site.buffer.start()
        await get(app, "/failing/42", headers=BROWSER)
    await get(app, "/failing/42", headers=BROWSER)
    events = await site.events()
    assert [event.type for event in events].count(JS_ERROR) == 1


async def test_litestar_exceptions_that_are_answers(site: Site) -> None:
    """What Litestar, or the application's own handler, answers with a 4xx is no error."""
    app = RumMiddleware(litestar_app(), buffer=site.buffer)
    for path, status in (("/forbidden", 403), ("/mapped", 410), ("/none", 404), ("/failing/x", 404)):
        assert (await get(app, path, headers=BROWSER)).status == status
    assert {event.type for event in await site.events()} == {HTTP}


async def test_litestar_answers_are_not_kept(site: Site) -> None:
    """An answer does not stay in its scope, as its traceback would keep all that belongs to the request."""
    scope = scope_of("/forbidden", headers=BROWSER)
    await call(RumMiddleware(litestar_app(), buffer=site.buffer), scope)
    assert "rumbuffer.error" not in scope


async def test_litestar_that_is_out_of_order(site: Site) -> None:
    """An exception of Litestar's own that names a 5xx is told, with that status."""
    assert (
        await get(RumMiddleware(litestar_app(), buffer=site.buffer), "/closed", headers=BROWSER)
    ).status == 503
    await told(site, url="/closed", status=503)


async def test_litestar_websockets(site: Site) -> None:
    """An exception in a websocket is told; one that refuses it is an answer."""
    app = RumMiddleware(litestar_app(), buffer=site.buffer)
    assert (await talk(app, "/refused"))[-1]["type"] == "websocket.close"
    await talk(app, "/socket")
    events = await site.events()
    assert sorted(event.type for event in events) == [HTTP, HTTP, JS_ERROR]


# Quart ---------------------------------------------------------------------------------------------


def quart_app(site: Site) -> Any:
    """Make a Quart application whose handlers raise."""
    quart = needed("quart")
    app = quart.Quart(__name__, root_path=str(Path(__file__).parent))

    async def failing(item_id: int) -> str:
        raise LookupError("no such item")

    def in_thread(item_id: int) -> str:
        raise LookupError("no such item")

    async def mapped() -> str:
        raise KeyError

    async def forbidden() -> None:
        quart.abort(403)

    async def socket() -> None:
        raise LookupError("no such room")

    async def gone(error: Exception) -> Any:
        return "gone", 410

    app.get("/failing/<int:item_id>")(failing)
    app.get("/thread/<int:item_id>")(in_thread)
    app.get("/mapped")(mapped)
    app.get("/forbidden")(forbidden)
    app.websocket("/socket")(socket)
    app.register_error_handler(KeyError, gone)
    app.asgi_app = RumMiddleware(app.asgi_app, buffer=site.buffer)
    return app


@pytest.mark.parametrize("where", ["failing", "thread"])
async def test_quart(site: Site, where: str) -> None:
    """An exception that Quart answers with a 500 is told once, from the loop and from a thread."""
    assert (await get(quart_app(site), f"/{where}/42", headers=BROWSER)).status == 500
    js = await told(site, url=f"/{where}/{{item_id}}")
    assert (js.details["type"], js.details["message"]) == ("LookupError", "no such item")


async def test_quart_that_raises_on(site: Site) -> None:
    """Where Quart raises on, as it does in tests, the exception is told once all the same."""
    app = quart_app(site)
    app.testing = True
    with suppress(LookupError):
        await get(app, "/failing/42", headers=BROWSER)
    assert sorted(event.type for event in await site.events()) == [HTTP, JS_ERROR]


async def test_quart_exceptions_that_are_answers(site: Site) -> None:
    """What Quart, or the application's own handler, answers with a 4xx is no error."""
    app = quart_app(site)
    for path, status in (("/forbidden", 403), ("/mapped", 410), ("/none", 404)):
        assert (await get(app, path, headers=BROWSER)).status == status
    assert {event.type for event in await site.events()} == {HTTP}


async def test_quart_websocket(site: Site) -> None:
    """An exception in a websocket is told once."""
    await talk(quart_app(site), "/socket")
    await told(site, url="/socket")


# Frameworks that change ------------------------------------------------------------------------------


async def test_framework_whose_names_have_moved(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A framework that is not what we know is left alone, which is logged once, and the application works."""
    monkeypatch.setattr(frameworks, "_watched", set())
    monkeypatch.setattr(frameworks, "import_module", {}.__getitem__)
    monkeypatch.setattr(frameworks, "_WATCHES", {"quart.signals": frameworks._watch_quart})
    monkeypatch.setitem(sys.modules, "quart.signals", sys)
    RumMiddleware(answering(), buffer=site.buffer)
    app = RumMiddleware(answering(), buffer=site.buffer)
    assert caplog.messages == ["rumbuffer: no routes and errors from quart.signals: KeyError"]
    assert (await get(app, headers=BROWSER)).status == 200
