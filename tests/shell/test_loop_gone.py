"""A buffer whose loop has ended, and threads that race with everything at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from rumbuffer import BufferClosed, Event, Limits, RefusalReason, RumBuffer
from tests.fakes import FakeSender, assert_laws, buffer_of, event_of, session_of


def in_threads(work: Callable[[int], None], threads: int) -> list[threading.Thread]:
    """Start threads that each do `work` with their number."""
    started = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(threads)]
    for thread in started:
        thread.start()
    return started


def test_the_next_events_find_out(caplog: pytest.LogCaptureFixture) -> None:
    """When the loop ended without a close, the next events find out: no hang, no error, a counted loss."""
    sender = FakeSender()
    sender.pause()
    buffer = buffer_of(sender)

    async def main() -> None:
        await buffer.start()
        for number in range(10):
            buffer.record("a", {}, session=session_of(number))
        await asyncio.sleep(0.05)
        assert buffer.stats().in_flight == 10

    asyncio.run(main())

    def produce(_: int) -> None:
        for number in range(2000):
            buffer.record("a", {}, session=session_of(number))

    for thread in in_threads(produce, 2):
        thread.join(20)
        assert not thread.is_alive()
    assert buffer.record("a", {}, session=session_of()).reason is RefusalReason.NOT_RUNNING
    with pytest.raises(BufferClosed):
        buffer.put_nowait(event_of(1), session=session_of())
    stats = buffer.stats()
    assert stats.dropped >= 10
    assert stats.dropped_by_reason["outcome_unknown"] == 10
    assert_laws(stats, closed=True)
    assert "aclose" in caplog.text
    asyncio.run(closed_elsewhere(buffer))


async def closed_elsewhere(buffer: RumBuffer) -> None:
    """Close on another loop what has no loop any more."""
    assert (await buffer.aclose()).delivered == 0
    assert "closed" in repr(buffer)


def test_a_close_on_a_later_loop() -> None:
    """A close on a later loop, where the buffer's own is gone, counts what was left and returns."""
    sender = FakeSender()
    sender.pause()
    buffer = buffer_of(sender)

    async def main() -> None:
        await buffer.start()
        buffer.record("a", {}, session=session_of())

    async def later() -> None:
        async with asyncio.timeout(20):
            report = await buffer.aclose()
        assert report.dropped == 1
        assert not report.lossless

    asyncio.run(main())
    asyncio.run(later())
    assert_laws(buffer.stats(), closed=True)


def test_laws_hold_while_threads_race() -> None:
    """Whatever threads do at once to a small buffer, every snapshot obeys the conservation laws."""
    sender = FakeSender()
    threads = 6
    answers = [0] * threads
    limits = Limits(linger=0.001, max_pending_bytes=20_000, max_in_flight=2)

    async def main() -> None:
        async with buffer_of(sender, limits=limits, sample_rate=0.9) as buffer:

            def produce(thread: int) -> None:
                for number in range(3000):
                    event = Event("a", {"n": thread * 3000 + number})
                    session = session_of(number % 40)
                    if thread % 2:
                        answers[thread] += bool(buffer.record(event.type, event.details, session=session))
                    else:
                        answers[thread] += bool(buffer.put_nowait(event, session=session))
                    if number % 100 == 0:
                        assert not buffer.record("a", 7, session=session)  # type: ignore[arg-type]
                        assert_laws(buffer.stats())

            started = in_threads(produce, threads)
            for number in range(300):
                await buffer.put(Event("a", {"n": -1 - number}), session=session_of(number))
            for thread in started:
                await asyncio.to_thread(thread.join)
        stats = buffer.stats()
        assert_laws(stats, closed=True)
        assert stats.offered == threads * (3000 + 30) + 300
        assert stats.delivered == stats.accepted - stats.dropped == len(sender.numbers())
        numbers = [number for number in sender.numbers() if number >= 0]
        assert len(numbers) == len(set(numbers)) <= sum(answers)

    asyncio.run(main())
