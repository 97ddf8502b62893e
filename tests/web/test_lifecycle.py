from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from rumbuffer import AppMonitor, InvalidSetting, Limits, Outcome, RumBuffer, SealedBatch
from rumbuffer.asgi import RumMiddleware
from tests.web.helpers import (
    BROWSER,
    MONITOR,
    App,
    Message,
    Receive,
    Scope,
    Send,
    Service,
    Site,
    answering,
    get,
)

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


async def test_setting_that_keeps_the_buffer_from_starting(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the setting, and what it must be."""

    async def fail(self: RumBuffer) -> None:
        raise InvalidSetting("endpoint_url", "must be an http or https URL", "str of 4 characters")

    monkeypatch.setattr(RumBuffer, "start", fail)
    assert (await get(RumMiddleware(answering(), buffer=site.buffer), headers=BROWSER)).status == 200
    assert "endpoint_url: must be an http or https URL; got str of 4 characters" in caplog.text


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
    monkeypatch.setattr("rumbuffer.web.lifecycle.sigterm.wait_for", defect)
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


async def test_a_loop_that_ends_with_a_send_under_way() -> None:
    """A close waits for the sends that the loop's end breaks off, however long that takes, and no more."""
    sending = asyncio.Event()

    class Slow(Service):
        """Takes ten turns of the loop to be cancelled, the first time."""

        async def send(self, batch: SealedBatch) -> Outcome:
            if not sending.is_set():
                sending.set()
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    for _ in range(10):
                        await asyncio.sleep(0)
            return await super().send(batch)

    service = Slow()
    buffer = RumBuffer(AppMonitor(id=MONITOR), sender=service, limits=Limits(linger=0.0))
    app = RumMiddleware(answering(), buffer=buffer)
    await get(app, headers=BROWSER)
    await sending.wait()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    started = asyncio.get_running_loop().time()
    await asyncio.wait(tasks)
    assert asyncio.get_running_loop().time() - started < 1
    stats = buffer.stats()
    assert (stats.delivered, stats.dropped) == (1, 0)
    assert service.is_closed


async def test_requests_that_the_loop_s_end_breaks_off() -> None:
    """A request that the loop's end breaks off is recorded before the buffer closes."""
    site, served = Site(), asyncio.Event()

    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        served.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            for _ in range(10):
                await asyncio.sleep(0)

    request = asyncio.ensure_future(get(RumMiddleware(never, buffer=site.buffer), headers=BROWSER))
    await served.wait()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert request.cancelled()
    (event,) = site.service.events()
    assert event.metadata["http_aborted"] is True


# SIGTERM --------------------------------------------------------------------------------------------


class Server:
    """What uvicorn does with a SIGTERM: it notes it, puts the old handler back, and sends it again."""

    def __init__(self) -> None:
        self._captured_signals: list[int] = []
        self.exits = 0

    def handle_exit(self, number: int, frame: FrameType | None) -> None:
        """Note a signal."""
        self._captured_signals.append(number)
        self.exits += 1

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Note the signals that come meanwhile."""
        original = signal.signal(signal.SIGTERM, self.handle_exit)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, original)
        for number in reversed(self._captured_signals):
            signal.raise_signal(number)


@pytest.fixture
def ends() -> Iterator[list[str]]:
    """What happens at the end, in its order; ``end`` stands where the process would end by its SIGTERM."""
    seen: list[str] = []

    def end(number: int, frame: FrameType | None) -> None:
        seen.append("end")

    original = signal.signal(signal.SIGTERM, end)
    yield seen
    assert signal.getsignal(signal.SIGTERM) is end  # everybody has tidied up
    signal.signal(signal.SIGTERM, original)


class NotingSite(Site):
    """A site that notes its buffer's close in `ends`."""

    def __init__(self, ends: list[str]) -> None:
        super().__init__()
        close = self.service.aclose

        async def note() -> None:
            ends.append("closed")
            await close()

        self.service.aclose = note  # type: ignore[method-assign]


def blocked_in_a_child() -> str:
    """The signals that a child process inherits as blocked."""
    script = "import signal; print(len(signal.pthread_sigmask(signal.SIG_BLOCK, ())))"
    return subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_sigterm_waits_for_the_close(ends: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """The signal that the server sends itself at its end comes after the close; children inherit nothing."""
    site, server = NotingSite(ends), Server()

    async def serve() -> None:
        with server.capture_signals():
            await get(RumMiddleware(answering(), buffer=site.buffer), headers=BROWSER)
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            assert blocked_in_a_child() == "0"
        assert (server.exits, ends) == (2, [])

    asyncio.run(serve())
    assert ends == ["closed", "end"]
    assert len(site.service.events()) == 1
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_sigterm_in_a_loop_that_goes_on(ends: list[str]) -> None:
    """Where the server was a part of a program, the buffer closes, and the program ends, when it is done."""
    site, server = NotingSite(ends), Server()

    async def serve() -> None:
        with server.capture_signals():
            await get(RumMiddleware(answering(), buffer=site.buffer), headers=BROWSER)
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0.12)
            assert site.buffer._intake.state == "running"  # while the server is stopping
        async with asyncio.timeout(5):
            while "end" not in ends:  # noqa: ASYNC110 - a signal's handler tells of it
                await asyncio.sleep(0.01)

    asyncio.run(serve())
    assert ends == ["closed", "end"]


def test_loop_that_ends_while_events_are_on_their_way(ends: list[str]) -> None:
    """A loop that ends just when the buffer has begun to empty itself loses nothing."""
    site, server = NotingSite(ends), Server()
    sending = asyncio.Event()
    send = site.service.send

    async def send_the_second_time(batch: SealedBatch) -> Outcome:
        if not sending.is_set():
            sending.set()
            await asyncio.get_running_loop().create_future()
        return await send(batch)

    site.service.send = send_the_second_time  # type: ignore[method-assign]

    async def serve() -> None:
        with server.capture_signals():
            await get(RumMiddleware(answering(), buffer=site.buffer), headers=BROWSER)
            signal.raise_signal(signal.SIGTERM)
        await sending.wait()

    asyncio.run(serve())
    assert ends == ["closed", "end"]
    stats = site.buffer.stats()
    assert (stats.delivered, stats.dropped) == (1, 0)


def test_second_sigterm_during_the_close(ends: list[str]) -> None:
    """A SIGTERM that comes while the buffer closes, after the server is done, ends the process at once."""
    site, server = NotingSite(ends), Server()
    close = site.service.aclose

    async def terminated() -> None:
        signal.raise_signal(signal.SIGTERM)
        assert ends == ["end"]
        await close()

    site.service.aclose = terminated  # type: ignore[method-assign]

    async def serve() -> None:
        with server.capture_signals():
            await get(RumMiddleware(answering(), buffer=site.buffer), headers=BROWSER)
            signal.raise_signal(signal.SIGTERM)

    asyncio.run(serve())
    assert ends == ["end", "closed", "end"]


def test_sigterm_with_two_buffers(ends: list[str]) -> None:
    """The last buffer that closes sends the signal."""
    sites, server = [NotingSite(ends), NotingSite(ends)], Server()
    close = sites[0].service.aclose

    async def close_slowly() -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        await close()

    sites[0].service.aclose = close_slowly  # type: ignore[method-assign]

    async def serve() -> None:
        with server.capture_signals():
            for site in sites:
                await get(RumMiddleware(answering(), buffer=site.buffer), headers=BROWSER)
            signal.raise_signal(signal.SIGTERM)

    asyncio.run(serve())
    assert ends == ["closed", "closed", "end"]


def test_no_sigterm(ends: list[str]) -> None:
    """A server that ends without a signal gets none, nor one that tells of no list of signals."""
    site, server = NotingSite(ends), Server()

    async def serve(handler: Any) -> None:
        original = signal.signal(signal.SIGTERM, handler)
        await get(RumMiddleware(answering(), buffer=site.buffer), headers=BROWSER)
        if handler != server.handle_exit:
            signal.raise_signal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, original)

    asyncio.run(serve(server.handle_exit))
    assert ends == ["closed"]
    site = NotingSite(ends)
    seen: list[int] = []
    asyncio.run(serve(lambda number, _: seen.append(number)))
    assert ends == ["closed", "closed"]
    assert seen == [signal.SIGTERM]


def test_handler_that_stays(ends: list[str]) -> None:
    """Once the buffer is closed, the server's handler is there again."""
    server = Server()

    async def serve() -> None:
        site = Site()
        app = RumMiddleware(answering(), buffer=site.buffer)
        await get(app, headers=BROWSER)
        assert signal.getsignal(signal.SIGTERM) != server.handle_exit
        guardian = app._lifecycle._guardian
        assert guardian is not None
        guardian.cancel()
        await asyncio.wait((guardian,))
        assert signal.getsignal(signal.SIGTERM) == server.handle_exit

    with server.capture_signals():
        asyncio.run(serve())


def test_forked_child_and_the_handler(ends: list[str]) -> None:
    """In a child that was forked, the handler is the server's alone."""
    site, server = NotingSite(ends), Server()

    async def serve() -> None:
        with server.capture_signals():
            await get(RumMiddleware(answering(), buffer=site.buffer), headers=BROWSER)
            child = os.fork()
            if child == 0:
                signal.raise_signal(signal.SIGTERM)
                os._exit(0 if server._captured_signals == [signal.SIGTERM] else 1)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0

    asyncio.run(serve())
    assert ends == ["closed"]


def test_forked_child_and_a_loop_that_was_left() -> None:
    """A child that is forked while the loop stands still does not run it at its exit; the parent does."""
    site = Site()
    app = RumMiddleware(answering(), buffer=site.buffer)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(get(app, headers=BROWSER))
    ran: list[bool] = []
    loop.call_soon(ran.append, True)
    child = os.fork()
    if child == 0:
        app._lifecycle._close_at_exit()
        os._exit(len(ran))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    app._lifecycle._close_at_exit()
    loop.close()
    assert ran == [True]
    assert site.buffer.stats().delivered == 1


def test_sigterm_is_left_alone_off_the_main_thread(ends: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """A loop of another thread has no signals, and its buffer closes with it."""
    site = NotingSite(ends)

    async def serve() -> None:
        await get(RumMiddleware(answering(), buffer=site.buffer), headers=BROWSER)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
    assert ends == ["closed"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_sigterm_that_nobody_handles() -> None:
    """A SIGTERM that nobody handles goes on to end the process at once."""
    site = Site()

    async def serve() -> None:
        await get(RumMiddleware(answering(), buffer=site.buffer), headers=BROWSER)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    original = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        asyncio.run(serve())
    finally:
        signal.signal(signal.SIGTERM, original)


def test_sigterm_after_a_loop_that_was_left(ends: list[str]) -> None:
    """A loop that was left without an end does not keep the next one's server from its signal."""
    left, site, server = NotingSite(ends), NotingSite(ends), Server()
    app = RumMiddleware(answering(), buffer=left.buffer)
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        await get(RumMiddleware(answering(), buffer=site.buffer), headers=BROWSER)
        signal.raise_signal(signal.SIGTERM)

    with server.capture_signals():
        loop.run_until_complete(get(app, headers=BROWSER))
        asyncio.run(serve())
    assert ends == ["closed", "end"]
    app._lifecycle._close_at_exit()
    loop.close()
    assert ends.count("closed") == 2
