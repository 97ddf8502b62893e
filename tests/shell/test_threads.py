"""Producers on other threads, and beside other running loops."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable

import pytest

from rumbuffer import Delivered, Limits, Outcome, SealedBatch
from rumbuffer.core.store import Store
from tests.fakes import FakeSender, assert_laws, buffer_of, event_of, numbers_of, session_of


async def in_threads(count: int, work: Callable[[int], object]) -> None:
    """Run `work` on so many threads at once, each with its number, while the loop goes on."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert not errors, errors


async def test_every_event_from_a_thread_arrives_once() -> None:
    """What several threads offer at once, to the same sessions, is delivered once, in each one's order."""
    sender = FakeSender()

    def produce(thread: int) -> None:
        for number in range(500):
            event = event_of(thread * 500 + number)
            if number % 2:
                assert buffer.put_nowait(event, session=session_of(number % 7))
            else:
                assert buffer.record(event.type, event.details, session=session_of(number % 7))
            if not number % 50:
                assert_laws(buffer.stats())

    async with buffer_of(sender, limits=Limits(linger=0.01, max_batch_events=20)) as buffer:
        await in_threads(8, produce)
        await buffer.flush()
        assert_laws(buffer.stats())
        assert buffer.stats().delivered == 4000
    assert sorted(sender.numbers()) == list(range(4000))
    as_sealed = numbers_of(sender.requests)
    for session in range(7):
        mine = [n for n in range(1500, 2000) if n % 500 % 7 == session]
        assert [n for n in as_sealed if n // 500 == 3 and n % 500 % 7 == session] == mine


async def test_beside_another_running_loop() -> None:
    """A coroutine on another thread's loop records without waiting, and its events arrive."""
    sender = FakeSender()

    async def elsewhere() -> None:
        for number in range(50):
            assert buffer.put_nowait(event_of(number), session=session_of())
            await asyncio.sleep(0)

    async with buffer_of(sender) as buffer:
        await asyncio.to_thread(asyncio.run, elsewhere())
    assert sender.numbers() == list(range(50))


async def until(condition: Callable[[], object], seconds: float = 5.0) -> float:
    """Wait until something is so, and return how long that took."""
    started = time.monotonic()
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a thread changes it
            await asyncio.sleep(0.005)
    return time.monotonic() - started


async def test_a_full_batch_from_a_thread_goes_at_once() -> None:
    """A batch that a thread fills is sent without waiting for the linger, though the loop was asleep."""
    sent = asyncio.Event()

    def answer(_: SealedBatch) -> Outcome:
        sent.set()
        return Delivered()

    def produce() -> None:
        for number in range(10):
            assert buffer.put_nowait(event_of(number), session=session_of())

    sender = FakeSender(answer)
    async with buffer_of(sender, limits=Limits(linger=3600.0, max_batch_events=10)) as buffer:
        await asyncio.sleep(0.02)
        thread = threading.Thread(target=produce)
        thread.start()
        await asyncio.wait_for(sent.wait(), 5)  # nothing but the wake brings it: the loop has no other timer
        thread.join()
        assert numbers_of(sender.requests) == list(range(10))


async def test_a_lone_event_from_a_thread_arms_the_linger() -> None:
    """One event from a thread, on a sleeping buffer, goes out once its linger is over."""
    sender = FakeSender()
    async with buffer_of(sender, limits=Limits(linger=0.1)) as buffer:
        await asyncio.sleep(0.02)
        await asyncio.to_thread(lambda: buffer.record("a", {"n": 1}, session=session_of()))
        assert 0.05 < await until(lambda: sender.arrived) < 3


async def test_a_close_beside_busy_threads() -> None:
    """Threads that go on through a close are refused from then on, and nothing accepted is lost."""
    sender = FakeSender()
    accepted: list[int] = []
    stop = threading.Event()

    def produce(thread: int) -> None:
        number = thread * 1_000_000
        while not stop.is_set():
            number += 1
            if buffer.record("a", {"n": number}, session=session_of(number % 5)):
                accepted.append(number)

    async with buffer_of(sender) as buffer:
        producing = asyncio.create_task(in_threads(4, produce))
        await asyncio.sleep(0.1)
        report = await buffer.aclose()
        stop.set()
        await producing
    stats = buffer.stats()
    assert_laws(stats, closed=True)
    assert report.dropped == stats.dropped == 0
    assert stats.refused_by_reason.keys() == {"not_running"}
    assert sorted(sender.numbers()) == sorted(accepted)


class Counting:
    """A sender that only marks which numbers came."""

    def __init__(self, count: int) -> None:
        self.came = bytearray(count)
        self.requests = 0
        self._number = re.compile(rb'n\\":(\d+)')

    async def start(self, *, max_in_flight: int) -> None:
        """Do nothing."""

    async def send(self, batch: SealedBatch) -> Outcome:
        """Mark the batch's numbers."""
        self.requests += 1
        for number in self._number.findall(batch.body()):
            self.came[int(number)] += 1
        return Delivered()

    async def aclose(self) -> None:
        """Do nothing."""


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_million_events_from_eight_threads() -> None:
    """A million calls of `record()` from eight threads: every event arrives, and none of them twice."""
    count, threads = 1_000_000, 8
    sender = Counting(count)
    sessions = [session_of(number) for number in range(100)]

    def produce(thread: int) -> None:
        for number in range(thread, count, threads):
            buffer.record("a", {"n": number}, session=sessions[number % 100])

    started = time.monotonic()
    async with buffer_of(sender, limits=Limits(max_pending_bytes=1 << 30), close_timeout=60.0) as buffer:
        await in_threads(threads, produce)
        produced = time.monotonic() - started
    seconds = time.monotonic() - started
    stats = buffer.stats()
    print(f"{produced:.1f} s to record, {seconds:.1f} s in all, {sender.requests} requests")  # noqa: T201
    assert_laws(stats, closed=True)
    assert stats.accepted == stats.delivered == count
    assert sender.came == b"\x01" * count
    assert sender.requests <= count // 100 + 200
    assert seconds < 50


async def test_nothing_is_logged_under_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a line is logged another thread gets into the buffer, so that no order of locks hangs the two."""
    free: list[bool] = []

    class Prober(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            thread = threading.Thread(target=probe)
            thread.start()
            thread.join()

    def probe() -> None:
        lock = buffer._intake.guard.lock
        free.append(lock.acquire(timeout=0.5))
        if free[-1]:
            lock.release()

    logger, prober = logging.getLogger("rumbuffer"), Prober()
    logger.addHandler(prober)
    try:
        async with buffer_of(FakeSender()) as buffer:
            buffer.record("no spaces", {}, session=session_of())
            monkeypatch.setattr(Store, "admit_or_drop", lambda *_: 1 / 0)  # a defect in what was deferred
            with buffer._intake.guard:
                buffer.record("a", {}, session=session_of())
    finally:
        logger.removeHandler(prober)
    assert len(free) == 2
    assert all(free), free
