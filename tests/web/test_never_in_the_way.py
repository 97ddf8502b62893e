"""No request waits for us or fails because of us, and no memory fills."""

from __future__ import annotations

from contextvars import ContextVar
from http import HTTPStatus
from typing import Any

import pytest

from rumbuffer import Limits, Outcome, SealedBatch
from tests.web.helpers import (
    BROWSER,
    END,
    PART,
    START,
    Headers,
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
    session_cookie,
    with_cookies,
)


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


async def test_long_paths_fill_no_more_memory_than_short_ones(site: Site) -> None:
    """The cache is bounded in bytes, whatever the length of the paths that a client makes up."""
    app = rum(answering(), site)
    molds, most = app._recorder.molds, 0
    for number in range(1100):
        await get(app, f"/{chr(0x4E00 + number)}{'/a' * 450}", headers=BROWSER)
        most = max(most, sum(len(mold) + len(str(kind)) for kind, mold in molds.items()))
    assert 1_000_000 < most < 2_200_000
    assert len(molds) > 1


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


@pytest.mark.parametrize("cookies", [BROWSER, []])
@pytest.mark.parametrize(
    ("start", "status"),
    [
        ({"status": "200"}, None),
        ({"status": HTTPStatus.CREATED}, 201),
        ({"status": 200, "headers": [(b"a",)]}, 200),
        ({"status": 200, "headers": [[b"a", None]]}, 200),
        ({"status": 200, "headers": [("a", "b")]}, 200),
    ],
)
async def test_messages_that_break_asgi_s_rules(
    site: Site, start: Message, status: int | None, cookies: Headers
) -> None:
    """What an application sends is the server's to judge; the event tells what was understood."""
    begin = {"type": "http.response.start", **start}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(begin)
        await send(PART)
        await send(END)

    reply = await get(rum(app, site), headers=cookies)
    assert [message["type"] for message in reply.messages] == [begin["type"], PART["type"], END["type"]]
    event = await site.event()
    assert event.details.get("response", {}).get("status") == status
    assert event.metadata["http_response_bytes"] == 6


@pytest.mark.parametrize("body", [{"body": 5}, {"body": 5, "more_body": True}])
async def test_body_that_is_none(site: Site, body: Message, caplog: pytest.LogCaptureFixture) -> None:
    """A body that is no bytes reaches the server, and is spoken of once."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", **body})

    for _ in range(2):
        assert len((await get(rum(app, site), headers=BROWSER)).messages) == 2
    assert caplog.text.count("ASGI messages") == 1
    assert {event.status for event in await site.events()} == {200}


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
