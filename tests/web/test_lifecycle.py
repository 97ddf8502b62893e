from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Iterable

import pytest

from rumbuffer import AppMonitor, RumBuffer
from rumbuffer.asgi import RumMiddleware
from tests.web.helpers import BROWSER, MONITOR, App, Message, Receive, Scope, Send, Site, answering, get

LIFESPAN: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}


async def live(app: App, asked: Iterable[str] = ("startup", "shutdown")) -> list[str]:
    """Run a lifespan; what was answered."""
    messages = [f"lifespan.{name}" for name in asked]
    answers: list[str] = []

    async def receive() -> Message:
        return {"type": messages.pop(0)}

    async def send(message: Message) -> None:
        answers.append(message["type"].removeprefix("lifespan."))

    await app(dict(LIFESPAN), receive, send)
    return answers


def with_lifespan(site: Site, seen: list[str], *, own: bool = False) -> App:
    """An application that notes the buffer's state, and may start the buffer itself."""

    def note() -> None:
        seen.append(site.buffer._intake.state)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        note()
        if own:
            await site.buffer.start()
        await send({"type": "lifespan.startup.complete"})
        note()
        await receive()
        note()
        await send({"type": "lifespan.shutdown.complete"})
        note()

    return app


async def test_lifespan(site: Site) -> None:
    """The buffer starts when the application is up, and closes when it is down."""
    seen: list[str] = []
    app = RumMiddleware(with_lifespan(site, seen), buffer=site.buffer)
    assert await live(app) == ["startup.complete", "shutdown.complete"]
    assert seen == ["new", "running", "running", "closed"]
    assert site.service.is_closed


async def test_buffer_that_the_application_starts(site: Site) -> None:
    """A buffer that the application starts itself is left to it."""
    seen: list[str] = []
    app = RumMiddleware(with_lifespan(site, seen, own=True), buffer=site.buffer)
    await live(app)
    assert seen[-1] == "running"


async def test_buffer_that_nobody_may_start(site: Site) -> None:
    """With manage_buffer off, the buffer is left alone."""
    seen: list[str] = []
    app = RumMiddleware(with_lifespan(site, seen), buffer=site.buffer, manage_buffer=False)
    await live(app)
    assert set(seen) == {"new"}


@pytest.mark.parametrize("raises", [True, False])
async def test_application_without_a_lifespan(site: Site, raises: bool) -> None:
    """For an application that knows no lifespan, the middleware answers the server."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if raises:
            raise ValueError("HTTP only")

    assert await live(RumMiddleware(app, buffer=site.buffer)) == ["startup.complete", "shutdown.complete"]
    assert site.service.is_closed


async def test_application_that_leaves_after_its_startup(site: Site) -> None:
    """An application that returns once it is up leaves the rest to the middleware."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})

    assert await live(RumMiddleware(app, buffer=site.buffer)) == ["startup.complete", "shutdown.complete"]
    assert site.service.is_closed


async def test_startup_that_fails(site: Site) -> None:
    """An application that says that its startup failed has no buffer to start."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    assert await live(RumMiddleware(app, buffer=site.buffer)) == ["startup.failed"]
    assert site.buffer._intake.state == "new"


async def test_startup_that_raises(site: Site) -> None:
    """An application that knows the lifespan and raises in it is raised on."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise LookupError("no database")

    with pytest.raises(LookupError):
        await live(RumMiddleware(app, buffer=site.buffer))
    assert site.buffer._intake.state == "new"


@pytest.mark.parametrize("error", [LookupError, asyncio.CancelledError])
async def test_shutdown_that_raises(site: Site, error: type[BaseException]) -> None:
    """A lifespan that ends with an exception closes the buffer all the same."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise error

    with pytest.raises(error):
        await live(RumMiddleware(app, buffer=site.buffer))
    assert site.service.is_closed


async def test_buffer_that_does_not_start(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A buffer that cannot start or close does not keep the application from it."""

    async def fail(self: RumBuffer) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(RumBuffer, "start", fail)
    app = RumMiddleware(with_lifespan(site, []), buffer=site.buffer)
    assert await live(app) == ["startup.complete", "shutdown.complete"]
    assert "starting the buffer" in caplog.text


async def test_buffer_that_does_not_close(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A buffer that fails at its close is logged, and the application's shutdown goes on."""

    async def fail(self: RumBuffer) -> None:
        raise RuntimeError("no")

    with monkeypatch.context() as patch:
        patch.setattr(RumBuffer, "aclose", fail)
        app = RumMiddleware(with_lifespan(site, []), buffer=site.buffer)
        assert await live(app) == ["startup.complete", "shutdown.complete"]
    assert "closing the buffer" in caplog.text


def test_lifespan_off() -> None:
    """Without a lifespan the buffer starts with the first request, and closes when the loop ends."""
    site = Site()

    async def serve() -> None:
        app = RumMiddleware(answering(), buffer=site.buffer)
        await asyncio.gather(*(get(app, headers=BROWSER) for _ in range(10)))
        assert site.buffer.stats().accepted == 10

    asyncio.run(serve())
    assert len(site.service.events()) == 10
    assert site.service.is_closed


def test_lifespan_off_and_the_loop_left(caplog: pytest.LogCaptureFixture) -> None:
    """Where the loop is left without ending its tasks, the interpreter's exit closes the buffer."""
    site = Site()
    app = RumMiddleware(answering(), buffer=site.buffer)
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(get(app, headers=BROWSER))
        app._lifecycle._close_at_exit()
        app._lifecycle._close_at_exit()
    finally:
        loop.close()
    assert len(site.service.events()) == 1
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_lifespan_off_and_the_loop_closed(caplog: pytest.LogCaptureFixture) -> None:
    """Where the loop is closed over the buffer, what is left is counted and logged at the exit."""
    site = Site()
    app = RumMiddleware(answering(), buffer=site.buffer)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(get(app, headers=BROWSER))
    loop.close()
    app._lifecycle._close_at_exit()
    stats = site.buffer.stats()
    assert (stats.accepted, stats.dropped) == (1, 1)
    assert "the event loop ended" in caplog.text
    del app, loop, site
    gc.collect()  # asyncio complains of the tasks that nobody ended: here, and not in another test


async def test_aws_is_imported_beforehand() -> None:
    """Where the buffer sends by itself, what that needs is imported before the first request."""
    RumMiddleware(answering(), buffer=RumBuffer(AppMonitor(id=MONITOR), region_name="eu-west-1"))
    assert "rumbuffer.aws" in sys.modules


async def test_a_start_that_goes_wrong_fails_no_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where something of ours raises around the start, every request is answered, and it is logged."""

    def defect(*_: object) -> None:
        raise RuntimeError("no signals here")

    site = Site()
    monkeypatch.setattr("rumbuffer.web.lifecycle.Lifecycle._delay_sigterm", defect)
    app = RumMiddleware(answering(), buffer=site.buffer)
    replies = await asyncio.gather(*(get(app, headers=BROWSER) for _ in range(3)))
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert "starting the buffer raised RuntimeError" in caplog.text
    await site.buffer.aclose()


async def test_a_start_that_was_cancelled_is_made_again() -> None:
    """A loop that cancels all its tasks at the wrong moment does not end the recording for good."""
    site = Site()
    app = RumMiddleware(answering(), buffer=site.buffer)
    first = asyncio.create_task(get(app, headers=BROWSER))
    await asyncio.sleep(0)
    assert app._lifecycle._beginning is not None
    app._lifecycle._beginning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await get(app, headers=BROWSER)).status == 200
    assert site.buffer.stats().accepted == 1
    await site.buffer.aclose()
