"""Which requests are recorded: filters, sampling and hooks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rumbuffer import Event, Overflow, Session
from rumbuffer.builtin import HttpEvent
from tests.web.helpers import (
    BROWSER,
    Oops,
    Scope,
    Site,
    answering,
    failing,
    get,
    rum,
    session_cookie,
    with_cookies,
)


async def test_exclude(site: Site) -> None:
    """Excluded paths pass through untouched."""
    app = rum(answering(), site, exclude=["/health", "/static/*"])
    for path in ("/health", "/static/a/b.js"):
        assert (await get(app, path)).cookies == []
    await get(app, "/health/more", headers=BROWSER)
    assert (await site.event()).url == "/health/more"


@pytest.mark.parametrize(
    ("pattern", "path", "excluded"),
    [
        ("/health", "/health", True),
        ("/health", "/health/x", False),
        ("/health", "/Health", False),
        ("/a?c", "/abc", True),
        ("/a?c", "/a/c", True),
        ("/a?c", "/ac", False),
        ("/v[12]/*", "/v2/items/7", True),
        ("/v[12]/*", "/v3/items/7", False),
        ("/v[!12]/*", "/v3/", True),
        ("/[[]x]", "/[x]", True),
        ("/a.c", "/abc", False),
        ("*/live", "/a/b/live", True),
        ("/x", "/x\n", False),
    ],
)
async def test_patterns(site: Site, pattern: str, path: str, excluded: bool) -> None:
    """A pattern is read as by fnmatch, of the whole path, in its case."""
    await get(rum(answering(), site, exclude=[pattern]), path, headers=BROWSER)
    assert len(await site.events()) == (not excluded)


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


async def test_before_record_that_returns_an_invalid_event(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the member of a typed event that breaks a rule."""
    wrong: Any = "jane"
    app = rum(answering(), site, before_record=lambda *_: HttpEvent(method="GET", status=wrong))
    assert (await get(app, headers=BROWSER)).status == 200
    assert site.buffer.stats().refused_by_reason == {"invalid_event": 1}
    assert "details.response.status: must be a finite number" in caplog.text
    assert "jane" not in caplog.text


@pytest.mark.parametrize("setting", ["exclude", "session", "before_record"])
async def test_a_callable_that_raises_a_cancellation(site: Site, setting: str) -> None:
    """Whatever a user's callable raises stays with us."""

    def cancelled(*_: object) -> Any:
        raise asyncio.CancelledError

    assert (await get(rum(answering(), site, **{setting: cancelled}))).status == 200
