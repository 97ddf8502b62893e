"""Calls that interrupt the buffer on its own thread: destructors, log handlers, signals."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import rumbuffer
from rumbuffer import (
    BufferStats,
    Delivered,
    Failed,
    Limits,
    Overflow,
    Rejected,
    RumBuffer,
    SealedBatch,
    Throttled,
)
from tests.fakes import (
    OTHER_MONITOR,
    FakeSender,
    SimulatedLoop,
    assert_laws,
    buffer_of,
    event_of,
    run_on,
    session_of,
    simulated,
)

PACKAGE = str(Path(rumbuffer.__file__).parent)


class Interruption:
    """Calls `act` at chosen lines of the library, as a signal handler or a destructor might.

    `at(line)` is asked with the number of lines that were executed so far.
    """

    def __init__(self, act: Callable[[], object], at: Callable[[int], bool]) -> None:
        self.lines = 0
        self.count = 0
        self._act = act
        self._at = at

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Strike while the body runs."""
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            yield
        finally:
            sys.settrace(before)

    def _trace(self, frame: FrameType, kind: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if kind == "line":
            self.lines += 1
            if self._at(self.lines):
                self.count += 1
                self._act()  # Python does not trace this
        return self._trace


def whole_life(
    sender: FakeSender, buffer: RumBuffer, act: Callable[[], object], step: int, first: int
) -> int:
    """Let `act` interrupt every `step`-th line of a busy life of the buffer, and return how often it did."""
    interruption = Interruption(act, lambda line: line % step == first and interruption.count < 150)

    async def main() -> None:
        await buffer.start()
        with interruption.going_on():
            for number in range(12):
                buffer.put_nowait(event_of(number, padding=number * 20), session=session_of(number % 3))
                await buffer.put(event_of(100 + number), session=session_of(9), app_monitor=OTHER_MONITOR)
                buffer.record("a", {"n": 200 + number}, session=session_of(number % 4))
                buffer.record("a", {}, session=session_of(5, attributes={"domain": "example.com"}))
                assert_laws(buffer.stats())
                await asyncio.sleep(0.02)
            await buffer.flush(timeout=1)
        # Nothing more comes in to wake anybody: what is there must go out all the same.
        await asyncio.sleep(100)
        assert (buffer.stats().pending, buffer.stats().in_flight) == (0, 0)
        with interruption.going_on():
            await buffer.aclose()
        assert_laws(buffer.stats(), closed=True)

    run_on(SimulatedLoop, main())
    return interruption.count


def troubled() -> FakeSender:
    """A sender with some of every outcome that keeps events."""
    return FakeSender(Failed("500"), Throttled(0.1), Rejected("bad"), Delivered(), Failed("x", unsent=True))


STEP = 41
"""The tests below strike at every line: one in `STEP` in each of `STEP` runs."""


@pytest.mark.parametrize("first", range(STEP))
@pytest.mark.parametrize("overflow", [Overflow.DROP_OLDEST, Overflow.RAISE])
def test_recording_at_every_line(overflow: Overflow, first: int) -> None:
    """A `record()` that strikes at any line of the library neither deadlocks nor is lost or doubled."""
    sender = troubled()
    buffer = buffer_of(sender, overflow=overflow)
    numbers: list[int] = []
    refused = 0

    def act() -> None:
        nonlocal refused
        number = 1_000_000 + len(numbers)
        if buffer.record("b", {"n": number}, session=session_of(number % 5)):
            numbers.append(number)
        else:
            refused += 1

    count = whole_life(sender, buffer, act, STEP, first)
    stats = buffer.stats()
    assert count == len(numbers) + refused > 20
    assert stats.offered == count + 48
    assert stats.refused == refused
    assert stats.accepted == stats.delivered + stats.dead_lettered == len(numbers) + 48
    arrived = [number for number in sender_numbers(sender) if number >= 1_000_000]
    assert len(arrived) == len(set(arrived)) >= len(numbers) - stats.dead_lettered


def sender_numbers(sender: FakeSender) -> list[int]:
    """The numbers of the events that arrived and have one."""
    import orjson

    events = [orjson.loads(bytes(event)) for batch in sender.arrived for event in batch.events]
    return [orjson.loads(event["details"]).get("n", -1) for event in events]


@pytest.mark.parametrize("first", range(STEP))
def test_asking_at_every_line(first: int) -> None:
    """A `stats()` or `repr()` that strikes at any line gives a snapshot that obeys the laws."""
    seen: list[BufferStats] = []
    sender = troubled()
    buffer = buffer_of(sender)

    def act() -> None:
        stats = buffer.stats()
        assert_laws(stats)
        if seen:
            assert stats.offered >= seen[-1].offered
        seen.append(stats)
        assert "RumBuffer" in repr(buffer)

    assert whole_life(sender, buffer, act, STEP, first) == len(seen) > 20


@pytest.mark.parametrize("first", range(0, STEP, 2))
def test_garbage_at_every_line(first: int) -> None:
    """An invalid event that strikes at any line is refused and counted, and harms no other."""
    sender = troubled()
    buffer = buffer_of(sender)
    wrong: list[dict[str, Any]] = [
        {"details": 7, "session": session_of()},
        {"details": {}, "session": session_of(), "app_monitor": "shop"},
        {"details": {}},
        {"details": {}, "session": "me"},
    ]

    def act() -> None:
        wrong.append(wrong.pop(0))
        assert not buffer.record("a", **wrong[0])

    count = whole_life(sender, buffer, act, STEP, first)
    assert (buffer.stats().refused, buffer.stats().offered) == (count, count + 48)


def test_an_interrupted_first_snapshot() -> None:
    """A `stats()` from inside the very first change answers, though there is no earlier snapshot."""

    async def main() -> None:
        for line in range(1, 500):
            buffer = buffer_of(FakeSender())
            await buffer.start()
            interruption = Interruption(lambda: assert_laws(buffer.stats()), lambda at: at == line)  # noqa: B023
            with interruption.going_on():
                buffer.record("a", {}, session=session_of())
            await buffer.aclose()
            if not interruption.count:
                return
        pytest.fail("record() has more lines than that?")

    run_on(SimulatedLoop, main())


@simulated
async def test_a_destructor_records() -> None:
    """Objects that record when the garbage collector finds them lose nothing, wherever it strikes."""
    sender = FakeSender()
    count = 0

    class Dying:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            nonlocal count
            assert buffer.record("dying", {"n": count}, session=session_of(count % 7))
            count += 1

    thresholds = gc.get_threshold()
    async with buffer_of(sender, limits=Limits(linger=0.01, max_batch_events=10)) as buffer:
        gc.set_threshold(1, 1, 1000)
        try:
            for number in range(2000):
                Dying()
                buffer.put_nowait(event_of(number), session=session_of(number % 3))
                if number % 100 == 0:
                    await asyncio.sleep(0.01)
        finally:
            gc.set_threshold(*thresholds)
        gc.collect()
    assert count == 2000
    assert len(sender.numbers()) == len(set(map(str, sender.numbers()))) + 2000 == 4000
    assert_laws(buffer.stats(), closed=True)


class Telling(logging.Handler):
    """A log handler that records an event for every line."""

    def __init__(self, buffer: RumBuffer, **event: Any) -> None:
        super().__init__()
        self.buffer = buffer
        self.event = event
        self.lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Record."""
        self.lines += 1
        self.buffer.record("log", **self.event)


@pytest.mark.parametrize("details", [{"n": 1}, 7])
@simulated
async def test_a_log_handler_records(details: Any) -> None:
    """A log handler that records for every line, rumbuffer's own too, neither deadlocks nor recurses."""
    sender = FakeSender(Rejected("bad"), Delivered(), Delivered())
    buffer = buffer_of(
        sender, limits=Limits(linger=0.01, max_pending_bytes=4096), overflow=Overflow.DROP_OLDEST
    )
    handler = Telling(buffer, details=details, session=session_of(77))
    logger = logging.getLogger("rumbuffer")
    logger.addHandler(handler)
    try:
        async with buffer:
            await asyncio.sleep(1)
            buffer.record("a", {}, session=session_of())
            await buffer.flush()
            buffer.record("no spaces", {}, session=session_of())
            buffer.record("a", {})
            for number in range(20):
                buffer.put_nowait(event_of(number, padding=500), session=session_of())
            await buffer.flush()
    finally:
        logger.removeHandler(handler)
    assert handler.lines >= 4  # a dead letter, two refusals, drops
    assert buffer.stats().offered >= 23 + handler.lines - 2
    assert_laws(buffer.stats(), closed=True)


def test_a_handler_that_waits_for_another_thread() -> None:
    """The library logs outside its lock: a handler busy on another thread may record meanwhile."""
    buffer = buffer_of(FakeSender())
    about_to_log, done = threading.Event(), threading.Event()
    logger, other = logging.getLogger("rumbuffer"), logging.getLogger("somebody.else")

    class Busy(logging.Handler):
        """Records, holding the handler's lock as every handler does, while rumbuffer wants to log."""

        def emit(self, record: logging.LogRecord) -> None:
            if record.name == other.name:
                about_to_log.wait(10)
                buffer.record("a", {}, session=session_of())
                done.set()

    def note(record: logging.LogRecord) -> bool:
        about_to_log.set()
        return True

    async def main() -> None:
        await buffer.start()
        buffer.record("a", {}, session=session_of())

    asyncio.run(main())  # and no close: the next event finds the loop gone, and that is logged
    handler = Busy()
    for each in (logger, other):
        each.addHandler(handler)
    logger.addFilter(note)
    try:
        theirs = threading.Thread(target=other.warning, args=("busy",), daemon=True)
        ours = threading.Thread(target=lambda: buffer.record("a", 7, session=session_of()), daemon=True)  # type: ignore[arg-type]
        theirs.start()
        ours.start()
        assert done.wait(5), "a deadlock"
        theirs.join(10)
        ours.join(10)
    finally:
        logger.removeFilter(note)
        for each in (logger, other):
            each.removeHandler(handler)
    assert_laws(buffer.stats(), closed=True)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such timer")
def test_a_signal_handler_records() -> None:
    """Signals that strike thousands of times while the main thread records lose nothing."""
    sender = FakeSender()
    strikes = 0

    def strike(*_: object) -> None:
        nonlocal strikes
        if strikes < 5000 and buffer.record("signal", {"n": strikes}, session=session_of(strikes % 5)):
            strikes += 1

    buffer = buffer_of(sender, limits=Limits(linger=0.001, max_batch_events=20))

    async def main() -> int:
        count = 0
        async with buffer:
            before = signal.signal(signal.SIGVTALRM, strike)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0001, 0.0001)
            try:
                while strikes < 100 or count < 10_000:
                    assert buffer.put_nowait(event_of(count), session=session_of(count % 9))
                    count += 1
                    if not count % 500:
                        await asyncio.sleep(0)
            finally:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
                signal.signal(signal.SIGVTALRM, before)
        return count

    count = asyncio.run(main())
    stats = buffer.stats()
    assert strikes >= 100
    assert stats.accepted == stats.delivered == strikes + count == len(sender.numbers())


def test_a_signal_wakes_a_sleeping_loop() -> None:
    """An event from a signal handler goes out though the loop was asleep."""

    async def main() -> None:
        arrived = asyncio.Event()

        def answer(_: SealedBatch) -> Delivered:
            arrived.set()
            return Delivered()

        sender = FakeSender(then=answer)
        async with buffer_of(sender) as buffer:
            loop = asyncio.get_running_loop()
            loop.call_later(0.01, signal.raise_signal, signal.SIGUSR1)
            before = signal.signal(
                signal.SIGUSR1, lambda *_: buffer.put_nowait(event_of(5), session=session_of())
            )
            try:
                await arrived.wait()
            finally:
                signal.signal(signal.SIGUSR1, before)
        assert sender.numbers() == [5]

    asyncio.run(main())
