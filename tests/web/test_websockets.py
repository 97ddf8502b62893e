"""One event for the life of a websocket."""

from __future__ import annotations

from typing import Any

import pytest

from rumbuffer import current_session
from tests.web.helpers import (
    BROWSER,
    JS_ERROR,
    SESSION,
    App,
    Headers,
    Message,
    Oops,
    Receive,
    Scope,
    Send,
    Site,
    failing,
    rum,
    scope_of,
    session_cookie,
    with_cookies,
)


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


@pytest.mark.parametrize("cookies", [BROWSER, [], with_cookies(session_cookie(record=False))])
@pytest.mark.parametrize(
    "said",
    [
        {"type": "websocket.send", "text": 5},
        {"type": "websocket.close", "code": [1]},
        {"type": "websocket.send"},
        {},
    ],
)
async def test_messages_that_break_asgi_s_rules(site: Site, said: Message, cookies: Headers) -> None:
    """What is said is the other side's to judge; the event tells what was understood."""
    heard: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append(await receive())
        await send({**ACCEPT, "headers": [(b"a",)]})
        await send(said)

    strange: Message = {"type": "websocket.receive", "text": 5}
    sent = await talk(rum(app, site), [strange], headers=cookies)
    assert (heard, sent[1]) == ([strange], said)
    events = await site.events()
    assert [event.metadata["ws_close_code"] for event in events] == [1006] * (cookies in (BROWSER, []))
