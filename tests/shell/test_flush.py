"""`flush()`: what is there when it is called gets its outcome, and nothing else is waited for."""

from __future__ import annotations

import asyncio

import pytest

from rumbuffer import (
    BufferClosed,
    Delivered,
    Failed,
    HoldScope,
    InvalidSetting,
    Limits,
    Misconfigured,
    Rejected,
    Throttled,
)
from tests.fakes import FakeSender, assert_laws, buffer_of, event_of, pacing_of, session_of, simulated

SLOW = Limits(linger=3600.0)
HELD = Misconfigured(HoldScope.APP_MONITOR, "ResourceNotFoundException", "no such app monitor")


@simulated
async def test_it_sends_what_lingers() -> None:
    """Flushing sends open batches at once, and the report tells what became of them."""
    sender = FakeSender(seconds=0.5)
    async with buffer_of(sender, limits=SLOW) as buffer:
        for number in range(30):
            buffer.put_nowait(event_of(number), session=session_of(number % 3))
        report = await buffer.flush()
        assert report.complete
        assert (report.delivered, report.remaining, report.dropped, report.dead_lettered) == (30, 0, 0, 0)
        assert report.spooled == 0
        assert report.seconds == pytest.approx(0.5, abs=0.01)
        assert len(sender.arrived) == 3


@simulated
async def test_an_empty_buffer_is_flushed_at_once() -> None:
    """With nothing to send a flush returns without a turn of the loop, with a timeout of 0 too."""
    async with buffer_of(FakeSender()) as buffer:
        for timeout in (None, 0, 5.0):
            report = await buffer.flush(timeout=timeout)
            assert (report.complete, report.seconds, report.remaining) == (True, 0.0, 0)


@simulated
async def test_new_events_do_not_prolong_it() -> None:
    """A flush ends when what was there before it has its outcome, however much is recorded meanwhile."""
    sender = FakeSender(seconds=1.0)
    async with buffer_of(sender, limits=SLOW) as buffer:
        buffer.put_nowait(event_of(0), session=session_of())

        async def produce() -> None:
            for number in range(1, 1_000_000):
                buffer.put_nowait(event_of(number), session=session_of(number % 7))
                await asyncio.sleep(0.05)

        producing = asyncio.create_task(produce())
        async with asyncio.timeout(1.5):
            report = await buffer.flush()
        assert report.complete
        assert report.remaining > 10
        assert 0 in sender.numbers()
        producing.cancel()


@simulated
async def test_flushes_overlap() -> None:
    """Each of several flushes waits for its own events only."""
    sender = FakeSender(seconds=1.0)
    async with buffer_of(sender, limits=Limits(linger=3600.0, max_in_flight=1)) as buffer:
        flushes = []
        for number in range(5):
            buffer.put_nowait(event_of(number), session=session_of(number))
            flushes.append(asyncio.create_task(buffer.flush()))
            await asyncio.sleep(0.01)
        reports = await asyncio.gather(*flushes)
        assert [round(report.seconds) for report in reports] == [1, 2, 3, 4, 5]
        assert all(report.complete for report in reports)


@simulated
async def test_it_obeys_the_pace() -> None:
    """A flush of many sessions takes as long as the quota demands."""
    sender = FakeSender()
    async with buffer_of(sender, limits=SLOW, pacing=pacing_of(quota=10.0, use=0.5, burst=1)) as buffer:
        for number in range(51):
            buffer.put_nowait(event_of(number), session=session_of(number))
        report = await buffer.flush()
        assert report.seconds == pytest.approx(10.0, abs=0.5)
        assert report.delivered == 51


@simulated
async def test_it_waits_through_throttling() -> None:
    """While the service throttles a flush goes on waiting, and completes when it stops."""
    sender = FakeSender(*[Throttled(3.0)] * 5)
    async with buffer_of(sender, limits=SLOW) as buffer:
        buffer.put_nowait(event_of(1), session=session_of())
        report = await buffer.flush(timeout=10)
        assert not report.complete
        assert (report.delivered, report.remaining) == (0, 1)
        assert report.seconds == pytest.approx(10.0, abs=0.1)
        report = await buffer.flush()
        assert report.complete
        assert (report.delivered, buffer.stats().throttled) == (1, 5)
        assert len({batch.id for batch in sender.requests}) == 1


@simulated
async def test_it_waits_through_a_hold() -> None:
    """During a hold a flush ends with its timeout, nothing is lost, and it completes once that is mended."""
    sender = FakeSender(then=HELD)
    async with buffer_of(sender) as buffer:
        buffer.put_nowait(event_of(1), session=session_of())
        report = await buffer.flush(timeout=60)
        assert (report.complete, report.remaining) == (False, 1)
        assert buffer.stats().health == "held"
        (hold,) = buffer.stats().holds
        assert (hold.code, hold.message) == ("ResourceNotFoundException", "no such app monitor")
        sender.then = Delivered()
        report = await buffer.flush()
        assert (report.complete, report.delivered) == (True, 1)
        assert (buffer.stats().health, buffer.stats().holds) == ("ok", ())


@simulated
async def test_a_timeout_of_zero_only_starts_it() -> None:
    """A flush with a timeout of 0 makes things due and returns."""
    sender = FakeSender(seconds=1.0)
    loop = asyncio.get_running_loop()
    async with buffer_of(sender, limits=SLOW) as buffer:
        buffer.put_nowait(event_of(1), session=session_of())
        started = loop.time()
        report = await buffer.flush(timeout=0)
        assert loop.time() == started
        assert (report.complete, report.remaining) == (False, 1)
        await asyncio.sleep(2)
        assert sender.numbers() == [1]


@simulated
async def test_a_loss_completes_it_too() -> None:
    """An event that ends as a dead letter or a drop is no longer waited for, and the report counts it."""
    sender = FakeSender(Rejected("bad"))
    async with buffer_of(sender, limits=SLOW) as buffer:
        buffer.put_nowait(event_of(1), session=session_of())
        report = await buffer.flush()
        assert (report.complete, report.dead_lettered, report.delivered) == (True, 1, 0)
    sender = FakeSender(then=HELD)
    buffer = buffer_of(sender, limits=Limits(linger=0.01, max_pending_bytes=4096))
    async with buffer:
        buffer.put_nowait(event_of(1), session=session_of())
        flushing = asyncio.create_task(buffer.flush())
        await asyncio.sleep(1)
        for number in range(20):
            buffer.put_nowait(event_of(number, padding=500), session=session_of(2))
        async with asyncio.timeout(2):
            report = await flushing
        assert report.complete
        assert report.dropped > 0
        await buffer.aclose(timeout=0)


@simulated
async def test_a_batch_put_back_is_still_waited_for() -> None:
    """A batch that a hold opens again keeps its place, and new events in it do not get lost to the flush."""
    sender = FakeSender(HELD, Failed("500"), HELD)
    async with buffer_of(sender, limits=SLOW) as buffer:
        buffer.put_nowait(event_of(1), session=session_of())
        flushing = asyncio.create_task(buffer.flush())
        await asyncio.sleep(1)
        buffer.put_nowait(event_of(2), session=session_of())
        report = await flushing
        assert report.complete
        assert sender.numbers() == [1, 2]


@simulated
async def test_many_that_time_out_leave_nothing_behind() -> None:
    """A flush that was given up is forgotten: an hour of them during a hold costs no memory."""
    sender = FakeSender(then=HELD)
    async with buffer_of(sender) as buffer:
        buffer.put_nowait(event_of(1), session=session_of())
        for _ in range(3600):
            assert not (await buffer.flush(timeout=1)).complete
        assert buffer._pump is not None
        assert len(buffer._pump._settled) <= 1
        await buffer.aclose(timeout=0)


@simulated
async def test_a_flush_ends_when_the_buffer_closes() -> None:
    """A flush that waits while the buffer closes returns with the close, and tells that it lost events."""
    sender = FakeSender()
    sender.pause()
    buffer = buffer_of(sender)
    await buffer.start()
    buffer.put_nowait(event_of(1), session=session_of())
    flushing = asyncio.create_task(buffer.flush())
    await asyncio.sleep(1)
    await buffer.aclose(timeout=1)
    async with asyncio.timeout(1):
        report = await flushing
    assert (report.dropped, report.remaining) == (1, 0)
    assert_laws(buffer.stats(), closed=True)


@simulated
async def test_a_buffer_that_does_not_run_raises() -> None:
    """Before the start and after the close a flush raises `BufferClosed`."""
    buffer = buffer_of(FakeSender())
    with pytest.raises(BufferClosed, match="not started"):
        await buffer.flush()
    async with buffer:
        pass
    with pytest.raises(BufferClosed, match="is closed"):
        await buffer.flush()


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5", True])
@simulated
async def test_a_wrong_timeout_is_an_error(timeout: object) -> None:
    """What is no duration raises `InvalidSetting` from `flush()` and from `aclose()`, and changes nothing."""
    async with buffer_of(FakeSender()) as buffer:
        for call in (buffer.flush, buffer.aclose):
            with pytest.raises(InvalidSetting, match="timeout"):
                await call(timeout=timeout)  # type: ignore[arg-type]
        assert buffer.record("a", {}, session=session_of())
