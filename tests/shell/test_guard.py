"""The guard around the core: what strikes inside a change is done as soon as that is over."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable

import pytest

from rumbuffer import Admission, AppMonitor, InvalidEvent
from rumbuffer.guard import Guard
from tests.fakes import OTHER_MONITOR, FakeSender, assert_laws, buffer_of, event_of, session_of, simulated


@simulated
async def test_what_strikes_inside_is_done_on_the_way_out() -> None:
    """Events and refusals that come up inside a change are answered at once and counted after it."""
    sender = FakeSender()
    async with buffer_of(sender) as buffer:
        before = buffer.stats()
        with buffer._intake.guard:
            assert buffer.put_nowait(event_of(1), session=session_of())
            assert not buffer.record("a", {})
            assert buffer.stats() == before
        stats = buffer.stats()
        assert (stats.accepted, stats.refused_by_reason) == (1, {"no_session": 1})
        await buffer.flush()
    assert sender.numbers() == [1]


@simulated
async def test_an_event_that_strikes_as_the_close_begins() -> None:
    """An event that was taken in the very change that closes the buffer is counted as dropped."""
    buffer = buffer_of(FakeSender())
    await buffer.start()
    stop = buffer._intake.stop

    def struck(state: str) -> None:
        assert buffer.record("a", {}, session=session_of())
        stop(state)

    buffer._intake.stop = struck  # type: ignore[method-assign]
    await buffer.aclose()
    assert buffer.stats().dropped_by_reason == {"closed": 1}
    assert_laws(buffer.stats(), closed=True)


@simulated
async def test_an_event_that_strikes_and_finds_no_place_is_a_counted_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An event that was taken inside a change, of one app monitor too many, is dropped and counted."""
    monkeypatch.setattr("rumbuffer.core.open_batches._LANES_MAX", 2)
    sender = FakeSender()
    sender.pause()
    third = AppMonitor("22222222-2222-3333-4444-555555555555")
    async with buffer_of(sender) as buffer:
        assert buffer.record("a", {}, session=session_of())
        assert buffer.record("a", {}, session=session_of(), app_monitor=OTHER_MONITOR)
        assert not buffer.record("a", {}, session=session_of(), app_monitor=third)
        with buffer._intake.guard:
            assert buffer.record("a", {}, session=session_of(), app_monitor=third)
        assert (buffer.stats().accepted, buffer.stats().dropped) == (3, 1)
        sender.resume()
    assert_laws(buffer.stats(), closed=True)


def test_entering_from_inside_is_an_error() -> None:
    """A thread that is inside already gets an error, not a deadlock and not a half-changed core."""
    exits: list[str] = []
    guard = Guard(lambda: exits.append("out"))
    with guard, pytest.raises(RuntimeError, match="from inside itself"), guard:
        pytest.fail("got in")
    assert exits == ["out"]


def test_changes_are_made_in_order_and_one_that_fails_harms_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Changes that were left are made in order, those that they leave too; a defect among them is logged."""
    made: list[int] = []
    guard = Guard(lambda: made.append(-1))

    def first() -> None:
        made.append(1)
        guard.run(lambda: made.append(3))
        guard.leave()  # does nothing inside

    with guard:
        guard.run(first)
        guard.run(lambda: 1 / 0)
        guard.run(lambda: made.append(2))
        assert not made
    assert made == [1, 2, 3, -1]
    assert "ZeroDivisionError" in caplog.text


def test_another_thread_may_have_done_it() -> None:
    """A change that another thread took away meanwhile is no error."""

    class Emptied(deque[Callable[[], object]]):
        def popleft(self) -> Callable[[], object]:
            self.clear()
            return super().popleft()

    made: list[int] = []
    guard = Guard(lambda: made.append(1))
    guard.deferred = Emptied([lambda: made.append(2)])
    guard.leave()
    assert made == [1]


class Struck:
    """A lock whose taking is interrupted by an exception, just before or just after."""

    def __init__(self, lock: threading.RLock, *, taken: bool) -> None:
        self._lock = lock
        self._taken = taken
        self.release = lock.release

    def acquire(self) -> bool:
        """Take it, perhaps, and raise."""
        if self._taken:
            self._lock.acquire()
        raise KeyboardInterrupt


@pytest.mark.parametrize("taken", [True, False])
@simulated
async def test_an_exception_as_the_lock_is_taken(*, taken: bool) -> None:
    """A signal handler's exception that strikes as the lock is taken goes on, and leaves the lock free."""
    buffer = buffer_of(FakeSender())
    async with buffer:
        guard = buffer._intake.guard
        lock = guard.lock
        guard.lock = Struck(lock, taken=taken)  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            buffer.record("a", {}, session=session_of())
        with pytest.raises(KeyboardInterrupt):
            buffer._intake.offer_encoded(b"{}", session_of())
        guard.lock = lock
        free: list[bool] = []
        prober = threading.Thread(target=lambda: free.append(lock.acquire(timeout=0.5)))
        prober.start()
        prober.join()
        assert free == [True]
        guard.lock = threading.RLock()  # the prober's is held by a thread that is gone
        assert buffer.record("a", {}, session=session_of())
        assert buffer.stats().accepted == 1


@pytest.mark.parametrize("encoded", [True, False])
@simulated
async def test_what_strikes_inside_does_not_take_the_lock_once_more(*, encoded: bool) -> None:
    """An event from inside a change needs no lock, so that no exception can leave it taken twice."""
    sender = FakeSender()
    async with buffer_of(sender) as buffer:
        guard = buffer._intake.guard
        lock = guard.lock
        with guard:
            guard.lock = Struck(lock, taken=True)  # type: ignore[assignment]
            guard.lock._is_owned = lock._is_owned  # type: ignore[attr-defined]
            if encoded:
                assert buffer._intake.offer_encoded(b'{"id":"x"}', session_of())
            else:
                assert buffer.record("a", {}, session=session_of())
            guard.lock = lock
        free: list[bool] = []
        prober = threading.Thread(target=lambda: free.append(lock.acquire(timeout=0.5)))
        prober.start()
        prober.join()
        assert free == [True]
        guard.lock = threading.RLock()  # the prober's is held by a thread that is gone
        assert buffer.stats().accepted == 1


@pytest.mark.parametrize("taken", [True, False])
def test_an_exception_as_the_guard_is_entered(*, taken: bool) -> None:
    """The same for those who enter by `with`: the lock is free, and nobody is taken to be inside."""
    guard = Guard(lambda: None)
    lock = guard.lock
    guard.lock = Struck(lock, taken=taken)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt), guard:
        pytest.fail("got in")
    guard.lock = lock
    assert not guard.busy
    assert not lock._is_owned()  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoded", [True, False])
@simulated
async def test_what_strikes_inside_a_change_that_fails_is_done(*, encoded: bool) -> None:
    """An event from inside the admission of one that is refused goes out, though nothing else happens."""
    sender = FakeSender()
    async with buffer_of(sender) as buffer:
        intake = buffer._intake
        admit = intake._admit_unjoined
        await asyncio.sleep(60.0)  # the pump has nothing to do any more

        def struck(*_: object) -> Admission:
            intake._admit_unjoined = admit
            assert buffer.put_nowait(event_of(1), session=session_of())
            raise InvalidEvent("event", "must fit", "a large one")

        intake._admit_unjoined = struck
        if encoded:
            assert not intake.offer_encoded(b"{}", session_of())
        else:
            assert not buffer.record("a", {}, session=session_of())
        await asyncio.sleep(60.0)
        assert sender.numbers() == [1]
