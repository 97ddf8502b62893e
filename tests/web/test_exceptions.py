"""Applications that raise, and clients that leave."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from rumbuffer import Limits
from tests.web.helpers import (
    BROWSER,
    END,
    HTTP,
    JS_ERROR,
    PART,
    SESSION,
    START,
    Message,
    Oops,
    Receive,
    Scope,
    Send,
    Site,
    answering,
    failing,
    get,
    rum,
    scope_of,
)


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
    assert js.details["filename"].endswith("helpers.py")
    raising = Path(__file__).with_name("helpers.py").read_text().splitlines()[js.details["lineno"] - 1]
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


class Cycle:
    """What uvicorn serves a request with; it takes what is sent after the client left in silence."""

    def __init__(self) -> None:
        self.disconnected = False

    async def receive(self) -> Message:
        """Say that the body is over."""
        return {"type": "http.request", "body": b"ab", "more_body": False}

    async def send(self, message: Message) -> None:
        """Take it."""


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("parts", "status", "told"),
    [(0, 200, (499, 0, True)), (2, 200, (200, 6, True)), (0, 503, (503, 3, None))],
)
async def test_client_that_only_the_server_knows_to_have_left(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    parts: int,
    status: int,
    told: tuple[int, int, bool | None],
) -> None:
    """A response that comes after the client left is broken off, though the application never listened."""
    monkeypatch.setattr("rumbuffer.web.visits._WORTH_ASKING", 0.0)
    cycle = Cycle()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({**START, "status": status})
        for _ in range(parts):
            await send(PART)
        cycle.disconnected = True
        await send(END)

    await rum(app, site)(scope_of(headers=BROWSER, method=method), cycle.receive, cycle.send)
    event = await site.event()
    seen = event.metadata
    assert (event.status, seen["http_response_bytes"], seen.get("http_aborted")) == told


async def test_disconnects_in_a_group(site: Site) -> None:
    """A group of nothing but clients that left is no error; a mixed one is, and one too deep to tell."""
    gone = type("ClientDisconnect", (Exception,), {})()
    group = deep = ExceptionGroup("tasks", [gone, ExceptionGroup("more", [gone])])
    for _ in range(5000):
        deep = ExceptionGroup("tasks", [deep])
    for error in (group, ExceptionGroup("tasks", [gone, Oops()]), deep):
        with pytest.raises(ExceptionGroup):
            await get(rum(failing(error), site), headers=BROWSER)
    statuses = [event.status for event in await site.events() if event.type == HTTP]
    assert sorted(statuses) == [499, 500, 500]


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
