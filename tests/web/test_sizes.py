"""The sizes of requests and responses, and the end of a response."""

from __future__ import annotations

import pytest

from rumbuffer import current_session
from tests.web.helpers import (
    BROWSER,
    SESSION,
    XRAY,
    Message,
    Receive,
    Scope,
    Send,
    Site,
    answering,
    call,
    get,
    rum,
    scope_of,
)


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


@pytest.mark.parametrize(
    ("parts", "size"),
    [
        ([{"count": 50}], 50),
        ([{"count": 50, "more_body": True}, {"count": 7}], 57),
        ([{"offset": 7}], 77),
        ([{"more_body": True}, {}], 77),
    ],
)
async def test_file_that_the_server_copies(site: Site, parts: list[Message], size: int) -> None:
    """A file that the server copies is as large as the parts, or else as the headers say, once it is out."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"x/y"), (b"content-length", b"77")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in parts:
            assert site.buffer.stats().offered == 0
            await send({"type": "http.response.zerocopysend", "file": 7, **part})
        assert site.buffer.stats().offered == 1

    await get(rum(app, site), headers=BROWSER)
    event = await site.event()
    assert (event.status, event.metadata["http_response_bytes"]) == (200, size)
    assert "http_aborted" not in event.metadata


async def test_file_before_the_response_began(site: Site) -> None:
    """An application that does it wrong hears of it from the server, and not from us."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.pathsend", "path": "/x"})

    await get(rum(app, site), headers=BROWSER)
    assert (await site.event()).metadata["http_response_bytes"] == 0


@pytest.mark.parametrize("xray", [False, True])
@pytest.mark.parametrize("query", [False, True])
@pytest.mark.parametrize("status", [204, 304])
async def test_responses_without_a_body(site: Site, status: int, query: bool, xray: bool) -> None:
    """A body that the application sends with a 204 or a 304 is dropped by the server, and has no size."""
    await get(rum(answering(status, b"x" * 50), site, query=query, xray=xray), headers=BROWSER)
    events = await site.events()
    assert {event.metadata["http_response_bytes"] for event in events} == {0}
    segments = [event.details["http"]["response"] for event in events if event.type == XRAY]
    assert segments == [{"status": status, "content_length": 0}] * xray


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
