"""The simulated loop itself: the other tests believe it."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.fakes import DeadlockError, FakeSender, SimulatedLoop, buffer_of, event_of, run_on, session_of


def test_hours_pass_in_no_time() -> None:
    """Sleeping for a day of simulated time takes less than a second, and the loop's clock shows the day."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.sleep(86_400)
        return loop.time() - before

    started = time.monotonic()
    assert run_on(SimulatedLoop, main()) == pytest.approx(86_400)
    assert time.monotonic() - started < 1


def test_a_deadlock_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that waits for what never comes fails the test instead of hanging it."""
    monkeypatch.setattr("tests.fakes._GRACE_FOR_THREADS", 0.01)

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError):
        run_on(SimulatedLoop, main())


def test_a_thread_may_wake_the_loop() -> None:
    """What a thread brings is waited for in real time."""

    def work() -> int:
        time.sleep(0.01)
        return 7

    async def main() -> int:
        return await asyncio.to_thread(work)

    assert run_on(SimulatedLoop, main()) == 7


def test_a_task_left_behind_is_an_error() -> None:
    """A test that leaves a task running fails."""

    async def main() -> None:
        main.task = asyncio.create_task(asyncio.sleep(5))  # type: ignore[attr-defined]

    with pytest.raises(AssertionError, match="left"):
        run_on(SimulatedLoop, main())


def test_an_unheard_error_is_an_error() -> None:
    """A callback's exception, which asyncio only logs, fails the test."""

    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0.1)

    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run_on(SimulatedLoop, main())


def test_the_buffer_takes_its_clock_from_such_a_loop() -> None:
    """An event whose linger is an hour goes out after an hour of simulated time, not of real time."""

    async def main() -> None:
        from rumbuffer import Limits

        sender = FakeSender()
        async with buffer_of(sender, limits=Limits(linger=3600.0)) as buffer:
            buffer.put_nowait(event_of(1), session=session_of())
            await asyncio.sleep(3599)
            assert not sender.requests
            await asyncio.sleep(2)
            assert sender.numbers() == [1]

    run_on(SimulatedLoop, main())
