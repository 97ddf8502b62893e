"""Senders that misbehave: whatever they do, events are kept, counted and, in the end, delivered."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from rumbuffer import Delivered, Failed, Limits, Outcome, Rejected, SealedBatch, Throttled
from tests.fakes import FakeSender, assert_laws, buffer_of, event_of, session_of, simulated


@pytest.mark.parametrize("error", [ValueError("x"), OSError("x"), asyncio.CancelledError(), TimeoutError()])
@simulated
async def test_one_that_raises(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """A sender that raises, against its contract, has failed: the batch goes again, with the same id."""
    sender = FakeSender(error, error)
    async with buffer_of(sender) as buffer:
        await buffer.deliver(event_of(1), session=session_of())
        stats = buffer.stats()
        assert (stats.delivered, stats.failures, stats.retries, stats.health) == (1, 2, 2, "ok")
    assert len({batch.id for batch in sender.requests}) == 1
    assert ("Traceback" in caplog.text) is not isinstance(error, asyncio.CancelledError)


@pytest.mark.parametrize("garbage", [None, True, "ok", 200, Delivered, [Delivered()], {}, object()])
@simulated
async def test_one_that_returns_garbage(garbage: Any) -> None:
    """What is no outcome counts as a failure, and the batch goes again."""
    sender = FakeSender(lambda _: garbage)
    async with buffer_of(sender) as buffer:
        await buffer.deliver(event_of(1), session=session_of())
        assert (buffer.stats().delivered, buffer.stats().failures) == (1, 1)


@simulated
async def test_one_that_never_answers_one_batch() -> None:
    """A request that never returns holds its slot and nothing else, and the close does not wait for it."""
    never = asyncio.Event()

    class Hanging(FakeSender):
        async def send(self, batch: SealedBatch) -> Outcome:
            if batch.session_id == session_of(0).id:
                await never.wait()
            return await super().send(batch)

    sender = Hanging()
    buffer = buffer_of(sender, limits=Limits(linger=0.01, max_in_flight=2))
    await buffer.start()
    for number in range(50):
        buffer.put_nowait(event_of(number), session=session_of(number))
    await asyncio.sleep(10)
    assert (buffer.stats().delivered, buffer.stats().in_flight) == (49, 1)
    report = await buffer.aclose(timeout=5)
    assert report.dropped_by_reason == {"outcome_unknown": 1}
    assert_laws(buffer.stats(), closed=True)


@pytest.mark.parametrize("deaf", ["send", "aclose", "start"])
@simulated
async def test_one_that_ignores_cancellation(deaf: str, caplog: pytest.LogCaptureFixture) -> None:
    """A sender that ignores its cancellation holds a close up for some seconds, not for ever."""
    release = asyncio.Event()

    async def hang() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    class Deaf(FakeSender):
        async def start(self, *, max_in_flight: int) -> None:
            if deaf == "start":
                await hang()

        async def send(self, batch: SealedBatch) -> Outcome:
            if deaf == "send":
                await hang()
            return Delivered()

        async def aclose(self) -> None:
            if deaf == "aclose":
                await hang()

    buffer = buffer_of(Deaf())
    await buffer.start()
    buffer.put_nowait(event_of(1), session=session_of())
    await asyncio.sleep(1)
    async with asyncio.timeout(15):
        await buffer.aclose(timeout=1)
    assert "closed" in repr(buffer)
    assert "ignored" in caplog.text
    assert_laws(buffer.stats(), closed=True)
    release.set()
    await asyncio.sleep(1)


@simulated
async def test_one_whose_start_fails_at_first(caplog: pytest.LogCaptureFixture) -> None:
    """A start that raises is tried again, said once, and seen in the health; events wait and arrive."""

    class Late(FakeSender):
        async def start(self, *, max_in_flight: int) -> None:
            await super().start(max_in_flight=max_in_flight)
            if self.starts < 4:
                raise ConnectionError

    sender = Late()
    async with buffer_of(sender) as buffer:
        buffer.put_nowait(event_of(1), session=session_of())
        await asyncio.sleep(1)
        assert buffer.stats().health == "failed"
        report = await buffer.flush()
        assert report.complete
        assert buffer.stats().health == "ok"
    assert (sender.starts, sender.closes, sender.numbers()) == (4, 1, [1])
    assert caplog.text.count("Traceback") == 1


@simulated
async def test_one_whose_start_never_succeeds() -> None:
    """A buffer whose sender never starts can be closed, within its time, and the sender is closed too."""

    class Never(FakeSender):
        async def start(self, *, max_in_flight: int) -> None:
            raise ConnectionError

    sender = Never()
    async with buffer_of(sender, close_timeout=7.0) as buffer:
        buffer.put_nowait(event_of(1), session=session_of())
        await asyncio.sleep(100)
    assert buffer.stats().dropped_by_reason == {"closed": 1}
    assert sender.closes == 1


@simulated
async def test_one_whose_close_raises(caplog: pytest.LogCaptureFixture) -> None:
    """A sender that cannot be closed is logged, and the close succeeds."""

    class Stuck(FakeSender):
        async def aclose(self) -> None:
            raise OSError("still in use")

    async with buffer_of(Stuck()) as buffer:
        await buffer.deliver(event_of(1), session=session_of())
    assert "could not be closed" in caplog.text
    assert buffer.stats().delivered == 1


@simulated
async def test_a_defect_in_the_pump(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error of our own in the pump is logged and seen in the health, and the pump goes on."""
    sender = FakeSender()
    async with buffer_of(sender) as buffer:
        await buffer.deliver(event_of(1), session=session_of())
        next_action = buffer._batcher.next_action
        monkeypatch.setattr(buffer._batcher, "next_action", lambda _: 1 / 0)
        buffer.put_nowait(event_of(2), session=session_of())
        await asyncio.sleep(0.5)
        assert buffer.stats().health == "failed"
        assert "ZeroDivisionError" in caplog.text
        monkeypatch.setattr(buffer._batcher, "next_action", next_action)
        await asyncio.sleep(2)
        assert sender.numbers() == [1, 2]


@simulated
async def test_a_defect_in_settling(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error of our own while an answer is taken in does not stop the others."""
    sender = FakeSender()
    async with buffer_of(sender) as buffer:
        await buffer.deliver(event_of(1), session=session_of())
        with monkeypatch.context() as patch:
            patch.setattr(buffer._batcher, "settle", lambda *_: 1 / 0)
            buffer.put_nowait(event_of(2), session=session_of(2))
            await asyncio.sleep(0.5)
        assert buffer.stats().health == "failed"
        await buffer.deliver(event_of(3), session=session_of(3))
        await buffer.aclose(timeout=1)
    assert buffer.stats().delivered == 2
    assert_laws(buffer.stats(), closed=True)


@simulated
async def test_a_sealed_batch_never_changes() -> None:
    """Through every retry and half a batch's id stands for the same bytes (the sender checks)."""
    script: list[Outcome] = [
        Failed("500"),
        Throttled(0.1),
        Rejected("x"),
        Failed("y"),
        Throttled(),
        Rejected("z"),
    ]
    sender = FakeSender(*script)
    async with buffer_of(sender) as buffer:
        for number in range(40):
            buffer.put_nowait(event_of(number), session=session_of())
        assert (await buffer.flush()).complete
    assert len(sender.requests) > len({batch.id for batch in sender.requests}) > 2


def test_other_senders_cost_no_botocore() -> None:
    """With a sender of one's own, running a buffer imports neither aiobotocore nor botocore nor aiohttp."""
    script = """
import asyncio, sys
from rumbuffer import *
from tests.fakes import FakeSender, buffer_of, event_of, session_of

async def main():
    async with buffer_of(FakeSender()) as buffer:
        await buffer.deliver(event_of(1), session=session_of())

asyncio.run(main())
print([name for name in ("aiobotocore", "botocore", "aiohttp") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=True
    )
    assert done.stdout == "[]\n"
