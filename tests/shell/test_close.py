"""`aclose()`: drains until its deadline, counts the rest, frees everything, and says what was lost."""

from __future__ import annotations

import asyncio
import logging

import pytest

from rumbuffer import (
    BufferClosed,
    Delivered,
    Failed,
    HoldScope,
    Limits,
    Misconfigured,
    Outcome,
    RefusalReason,
    RumBuffer,
    SealedBatch,
    Throttled,
)
from tests.fakes import FakeSender, assert_laws, buffer_of, event_of, session_of, simulated

SLOW = Limits(linger=3600.0)
HELD = Misconfigured(HoldScope.SENDER, "ExpiredTokenException")


async def started(sender: FakeSender, events: int = 10, **arguments: object) -> RumBuffer:
    """A running buffer with events of as many sessions."""
    buffer = buffer_of(sender, **{"limits": SLOW, **arguments})
    await buffer.start()
    for number in range(events):
        buffer.put_nowait(event_of(number), session=session_of(number))
    return buffer


def losses(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings about lost events."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING and "lost" in record.getMessage()
    ]


@simulated
async def test_it_drains(caplog: pytest.LogCaptureFixture) -> None:
    """Closing delivers what is there, refuses what comes, closes the sender once, and loses nothing."""
    sender = FakeSender(seconds=0.5)
    buffer = await started(sender)
    closing = asyncio.create_task(buffer.aclose())
    await asyncio.sleep(0.1)
    assert buffer.record("a", {}, session=session_of()).reason is RefusalReason.NOT_RUNNING
    with pytest.raises(BufferClosed, match="closing"):
        buffer.put_nowait(event_of(1), session=session_of())
    with pytest.raises(BufferClosed, match="closing"):
        await buffer.flush()
    with pytest.raises(BufferClosed, match="closing"):
        await buffer.start()
    assert "closing" in repr(buffer)
    report = await closing
    assert report.lossless
    assert (report.delivered, report.dropped, report.dead_lettered, report.spooled) == (10, 0, 0, 0)
    assert report.dropped_by_reason == {}
    assert report.seconds == pytest.approx(0.5, abs=0.01)
    assert sorted(sender.numbers()) == list(range(10))
    assert (sender.starts, sender.closes) == (1, 1)
    assert not losses(caplog)
    assert_laws(buffer.stats(), closed=True)


@simulated
async def test_twice() -> None:
    """A second close, at the same time or later, gives the same report and frees nothing twice."""
    sender = FakeSender(seconds=0.5)
    buffer = await started(sender)
    first, second = await asyncio.gather(buffer.aclose(), buffer.aclose())
    third = await buffer.aclose(timeout=0)
    assert first == second == third
    assert (first.delivered, sender.closes) == (10, 1)


@simulated
async def test_the_shorter_time_wins() -> None:
    """A second close with a shorter timeout cuts the first one short; one with a longer leaves it."""
    loop = asyncio.get_running_loop()
    for timeouts, seconds in (((60, 5), 6), ((5, 60), 5)):
        sender = FakeSender()
        sender.pause()
        buffer = await started(sender)
        began = loop.time()
        first = asyncio.create_task(buffer.aclose(timeout=timeouts[0]))
        await asyncio.sleep(1)
        second = asyncio.create_task(buffer.aclose(timeout=timeouts[1]))
        assert await first == await second
        assert loop.time() - began == pytest.approx(seconds, abs=0.1)
        assert_laws(buffer.stats(), closed=True)


@simulated
async def test_a_timeout_of_zero(caplog: pytest.LogCaptureFixture) -> None:
    """With a timeout of 0 nothing is waited for: what is left is counted and logged."""
    sender = FakeSender(seconds=5.0)
    loop = asyncio.get_running_loop()
    buffer = await started(sender, limits=Limits(linger=3600.0, max_in_flight=4))
    began = loop.time()
    report = await buffer.aclose(timeout=0)
    assert loop.time() - began < 0.01
    assert report.dropped == 10
    assert report.dropped == sum(report.dropped_by_reason.values())
    assert not report.lossless
    assert sum(int(line.split("lost events: ")[1].split()[0]) for line in losses(caplog)) == 10
    assert (sender.busy, sender.closes) == (0, 1)
    assert_laws(buffer.stats(), closed=True)


@simulated
async def test_what_can_arrive_at_once_does_with_a_timeout_of_zero() -> None:
    """Nothing hangs or breaks when a buffer with nothing in it is closed with a timeout of 0."""
    buffer = await started(FakeSender(), events=0)
    assert (await buffer.aclose(timeout=0)).lossless


@simulated
async def test_an_answer_that_never_came_is_unknown(caplog: pytest.LogCaptureFixture) -> None:
    """At the deadline what is on its way counts as `outcome_unknown`, and what never was as `closed`."""
    sender = FakeSender()
    sender.pause()
    buffer = await started(sender, limits=Limits(linger=3600.0, max_in_flight=4))
    report = await buffer.aclose(timeout=30)
    assert report.seconds == pytest.approx(30, abs=0.1)
    assert len(sender.requests) == 4
    assert report.dropped_by_reason == {"outcome_unknown": 4, "closed": 6}
    assert any("4 dropped (outcome_unknown)" in line for line in losses(caplog))
    assert any("6 dropped (closed)" in line for line in losses(caplog))
    assert_laws(buffer.stats(), closed=True)


@pytest.mark.parametrize(
    ("outcome", "reasons"),
    [
        (Failed("HTTP 500"), {"outcome_unknown", "closed"}),
        (Failed("ClientConnectorError", unsent=True), {"closed"}),
        (Throttled(300.0), {"closed"}),
        (HELD, {"closed"}),
        (Misconfigured(HoldScope.APP_MONITOR, "AccessDeniedException"), {"closed"}),
    ],
)
@simulated
async def test_a_deadline_while_nothing_gets_through(outcome: Outcome, reasons: set[str]) -> None:
    """Through an outage, throttling or a hold a close tries until its deadline, and tells what it knows."""
    sender = FakeSender(then=outcome)
    buffer = await started(sender, events=40)
    await buffer.flush(timeout=600)
    tries = len(sender.requests)
    report = await buffer.aclose(timeout=20)
    assert report.seconds == pytest.approx(20, abs=0.1)
    assert report.dropped_by_reason.keys() == reasons
    assert report.dropped == 40
    if not isinstance(outcome, Throttled):
        assert len(sender.requests) > tries
    assert_laws(buffer.stats(), closed=True)


@pytest.mark.parametrize("outcome", [Failed("HTTP 500"), HELD])
@simulated
async def test_a_close_finds_out_that_all_is_well_again(outcome: Outcome) -> None:
    """After an outage or a hold a close tries at once, and delivers everything within its time."""
    sender = FakeSender(then=outcome)
    buffer = await started(sender, events=40)
    await buffer.flush(timeout=3000)
    sender.then = Delivered()
    report = await buffer.aclose(timeout=10)
    assert report.lossless
    assert report.delivered == 40


@simulated
async def test_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    """A cancelled close stops draining, counts the rest, frees everything, and is cancelled."""
    sender = FakeSender()
    sender.pause()
    buffer = await started(sender)
    closing = asyncio.create_task(buffer.aclose(timeout=3600))
    await asyncio.sleep(1)
    closing.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await closing
    assert (sender.closes, sender.busy) == (1, 0)
    assert losses(caplog)
    assert_laws(buffer.stats(), closed=True)
    assert (await buffer.aclose()).dropped == 10


@simulated
async def test_cancelled_twice_it_is_finished_by_the_next_close() -> None:
    """A close whose caller lost patience twice still ends, and another call waits for its end."""

    class Stubborn(FakeSender):
        async def aclose(self) -> None:
            await asyncio.sleep(1)
            await super().aclose()

    sender = Stubborn()
    sender.pause()
    buffer = await started(sender)
    closing = asyncio.create_task(buffer.aclose(timeout=3600))
    await asyncio.sleep(1)
    for _ in range(2):
        closing.cancel()
        await asyncio.sleep(0.1)
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert (await buffer.aclose()).dropped == 10
    assert sender.closes == 1
    assert_laws(buffer.stats(), closed=True)


@simulated
async def test_a_buffer_that_never_ran() -> None:
    """Closing a buffer that was not started is allowed, and it cannot be started then."""
    buffer = buffer_of(FakeSender())
    for _ in range(2):
        report = await buffer.aclose()
        assert (report.lossless, report.seconds) == (True, 0.0)
    with pytest.raises(BufferClosed, match="is closed"):
        await buffer.start()


@simulated
async def test_async_with_closes_after_an_error() -> None:
    """`async with` drains within `close_timeout` when its body raises, and lets the error through."""

    async def fail(buffer: RumBuffer) -> None:
        async with buffer:
            buffer.put_nowait(event_of(1), session=session_of())
            raise ZeroDivisionError

    sender = FakeSender(seconds=0.5)
    with pytest.raises(ZeroDivisionError):
        await fail(buffer_of(sender, limits=SLOW))
    assert sender.numbers() == [1]
    assert sender.closes == 1
    sender = FakeSender()
    sender.pause()
    loop = asyncio.get_running_loop()
    began = loop.time()
    buffer = buffer_of(sender, limits=SLOW, close_timeout=7.0)
    with pytest.raises(ZeroDivisionError):
        await fail(buffer)
    assert loop.time() - began == pytest.approx(7.0, abs=0.1)
    assert buffer.stats().dropped_by_reason == {"outcome_unknown": 1}


@simulated
async def test_async_with_drains_after_a_cancellation() -> None:
    """A body that is cancelled is drained like any other: one cancellation ends the body, not the close."""
    sender = FakeSender(seconds=0.5)

    async def serve() -> None:
        async with buffer_of(sender, limits=SLOW) as buffer:
            buffer.put_nowait(event_of(1), session=session_of())
            await asyncio.sleep(3600)

    serving = asyncio.create_task(serve())
    await asyncio.sleep(1)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert sender.numbers() == [1]


@simulated
async def test_stats_answer_after_the_close() -> None:
    """After the close `stats()` and `repr()` tell how it ended."""
    sender = FakeSender()
    buffer = await started(sender, events=3)
    await buffer.aclose()
    stats = buffer.stats()
    assert (stats.offered, stats.accepted, stats.delivered) == (3, 3, 3)
    assert stats.open_batches == 0
    assert repr(buffer) == "<RumBuffer closed: 0 pending, 0 in flight>"
    assert_laws(stats, closed=True)


@simulated
async def test_an_answer_after_the_deadline_changes_nothing() -> None:
    """A sender that ignores its cancellation and answers late changes no count."""

    class Deaf(FakeSender):
        async def send(self, batch: SealedBatch) -> Outcome:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                await asyncio.sleep(1)
            return Delivered()

    buffer = await started(Deaf())
    report = await buffer.aclose(timeout=1)
    assert report.dropped_by_reason == {"outcome_unknown": 10}
    assert buffer.stats().delivered == 0
    assert_laws(buffer.stats(), closed=True)
