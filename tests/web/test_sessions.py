"""Whose request it is."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from rumbuffer import Session, current_session
from rumbuffer.asgi import SessionCookie
from tests.web.helpers import (
    BROWSER,
    END,
    HTTP,
    NIL,
    OTHER,
    SESSION,
    USER,
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
    session_cookie,
    with_cookies,
)


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
    for header in (b"'; drop table", NIL.encode()):
        await get(app, headers=[(b"x-session", header)])
    assert await site.events() == []


@pytest.mark.parametrize("answer", [Session(OTHER, USER), OTHER])
async def test_callable_session(site: Site, answer: Session | str) -> None:
    """A callable of the user's may give the session, as a session or as its id."""
    app = rum(answering(), site, session=lambda scope: answer if scope["path"] == "/a" else None)
    await get(app, "/a")
    event = await site.event()
    assert (event.session_id, event.user_id) == (OTHER, USER if isinstance(answer, Session) else NIL)


@pytest.mark.parametrize("answer", [Session(NIL), NIL])
async def test_nil_session(site: Site, answer: Session | str) -> None:
    """The nil UUID, which stands for nobody, is nobody's session."""
    await get(rum(answering(), site, session=lambda _: answer, own_session=None))
    assert await site.events() == []


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


@pytest.mark.parametrize("header", [b"CDN-Cache-Control", b"Example-CDN-Cache-Control", b"surrogate-control"])
async def test_no_cookie_into_content_networks(site: Site, header: bytes) -> None:
    """Headers for the networks that deliver content count for themselves (RFC 9213)."""
    app = rum(answering(headers=[(b"cache-control", b"no-store"), (header, b"max-age=600")]), site)
    assert (await get(app)).cookies == []


async def test_private_header_of_a_shared_response(site: Site) -> None:
    """`private` with names behind it is about these headers, and the response may be shared."""
    assert (await get(rum(answering(headers=[(b"cache-control", b"private, max-age=9")]), site))).cookies
    app = rum(answering(headers=[(b"cache-control", b'max-age=9, private="x-user"')]), site)
    assert (await get(app)).cookies == []


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


@pytest.mark.parametrize("rate", [1.0, 0.0])
async def test_two_middlewares_with_one_buffer(site: Site, rate: float) -> None:
    """An inner middleware with the same buffer leaves the request, and its session, to the outer one."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        session = current_session.get()
        assert session is not None
        seen.append(session.id)
        await answering()(scope, receive, send)

    (cookie,) = (await get(rum(rum(app, site), site, sample_rate=rate))).cookies
    assert f"={seen[0]}." in cookie
    assert [event.session_id for event in await site.events()] == seen * int(rate)


async def test_inner_middleware_where_the_outer_one_excludes(site: Site) -> None:
    """What the outer middleware excludes, an inner one may record."""
    await get(rum(rum(answering(), site), site, exclude=["/*"]), headers=BROWSER)
    assert (await site.event()).session_id == SESSION


async def test_two_middlewares_with_two_buffers(site: Site) -> None:
    """Each of two buffers gets its event."""
    other = Site()
    await other.buffer.start()
    await get(rum(rum(answering(), site), other), headers=BROWSER)
    assert (await site.event()).session_id == (await other.event()).session_id == SESSION
