"""Cancellation at each await: nothing hangs, nothing is left behind, every event is accounted for.

Each operation is run again and again, and cancelled at its first suspension, its second, and so on until
it gets through uncancelled; each time in three ways: as it suspends, while it is suspended, and in the very
turn in which it would have been resumed.
"""

from __future__ import annotations

import ast
import asyncio
import gc
import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

import rumbuffer.buffer
import rumbuffer.pump
from rumbuffer import BufferClosed, DeliveryError, Failed, HoldScope, Limits, Misconfigured, RumBuffer
from tests.fakes import (
    FakeSender,
    SimulatedLoop,
    assert_laws,
    buffer_of,
    event_of,
    run_on,
    session_of,
    simulated,
)

SMALL = Limits(max_pending_bytes=4096, linger=0.01, max_in_flight=2)

reached: set[tuple[str, int]] = set()
"""The awaits of the library at which a cancellation struck: file and line."""


Way = Callable[[asyncio.Task[Any], Any], None]


def as_it_suspends(task: asyncio.Task[Any], _: Any) -> None:
    """Cancel before the awaited future knows that it is awaited."""
    task.cancel()


def while_suspended(task: asyncio.Task[Any], _: Any) -> None:
    """Cancel in the next turn of the loop."""
    asyncio.get_running_loop().call_soon(task.cancel)


def as_it_is_resumed(task: asyncio.Task[Any], future: Any) -> None:
    """Cancel when the awaited future has its result already, just before the task is told."""
    if future is None:
        task.cancel()
    else:
        future.add_done_callback(lambda _: task.cancel())


WAYS = [as_it_suspends, while_suspended, as_it_is_resumed]


@types.coroutine
def struck(coroutine: Coroutine[Any, Any, Any], at: int, way: Way) -> Generator[Any, Any, bool]:
    """Run a coroutine, cancelled at its `at`-th suspension; return whether it came to that."""
    task = asyncio.current_task()
    assert task is not None
    count = 0
    step: Callable[[], Any] = lambda: coroutine.send(None)  # noqa: E731 - it changes
    while True:
        try:
            future = step()
        except StopIteration:
            return count >= at
        count += 1
        if count == at:
            note_awaits(coroutine)
            way(task, future)
        try:
            yield future
        except BaseException as error:
            step = lambda error=error: coroutine.throw(error)  # type: ignore[misc]  # noqa: E731
        else:
            step = lambda: coroutine.send(None)  # noqa: E731


def note_awaits(coroutine: Any) -> None:
    """Note where in the library the coroutine is suspended."""
    while coroutine is not None and (inspect.iscoroutine(coroutine) or inspect.isgenerator(coroutine)):
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            reached.add((Path(frame.f_code.co_filename).name, frame.f_lineno))
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)


async def fill(buffer: RumBuffer) -> None:
    """Leave no room."""
    for number in range(100, 104):
        await buffer.put(event_of(number, padding=500), session=session_of(number))


# What is cancelled: each gets a running buffer, and says how many events it may have offered.


async def put_at_once(buffer: RumBuffer) -> None:
    """A put that finds room."""
    await buffer.put(event_of(1), session=session_of())


async def put_when_there_is_room(buffer: RumBuffer) -> None:
    """A put that waits."""
    await fill(buffer)
    await buffer.put(event_of(1, padding=1500), session=session_of())


async def deliver(buffer: RumBuffer) -> None:
    """A delivery."""
    await buffer.deliver(event_of(1), session=session_of())


async def deliver_when_there_is_room(buffer: RumBuffer) -> None:
    """A delivery that waits for room."""
    await fill(buffer)
    await buffer.deliver(event_of(1, padding=1500), session=session_of())


async def flush(buffer: RumBuffer) -> None:
    """A flush, with and without a timeout."""
    await fill(buffer)
    await buffer.flush()
    await buffer.put(event_of(1), session=session_of())
    await buffer.flush(timeout=0.05)


async def aclose(buffer: RumBuffer) -> None:
    """A close that drains."""
    await fill(buffer)
    await buffer.aclose()


async def aclose_in_no_time(buffer: RumBuffer) -> None:
    """A close that drops."""
    await fill(buffer)
    await buffer.aclose(timeout=0)


async def aclose_twice(buffer: RumBuffer) -> None:
    """Two closes at a time."""
    await fill(buffer)
    await asyncio.gather(buffer.aclose(), buffer.aclose(timeout=5))


async def use_in_a_block(_: RumBuffer) -> None:
    """A buffer's whole life in an `async with`."""
    sender = FakeSender(seconds=0.1)
    buffer = buffer_of(sender)
    try:
        async with buffer:
            await buffer.put(event_of(1), session=session_of())
            await asyncio.sleep(0.05)
            await buffer.deliver(event_of(2), session=session_of())
    finally:
        assert_laws(buffer.stats(), closed=True)
        assert sender.closes == 1


OPERATIONS = [
    *(put_at_once, put_when_there_is_room, deliver, deliver_when_there_is_room, flush),
    *(aclose, aclose_in_no_time, aclose_twice, use_in_a_block),
]

SENDERS: dict[str, Callable[[], FakeSender]] = {
    "quick": FakeSender,
    "slow": lambda: FakeSender(seconds=0.1),
    "troubled": lambda: FakeSender(
        Failed("500"), Misconfigured(HoldScope.SENDER, "ExpiredToken"), Failed("x"), seconds=0.02
    ),
}


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_cancelled_at_each_await(
    operation: Callable[[RumBuffer], Coroutine[Any, Any, None]],
    way: Way,
    sender: str,
) -> None:
    """Wherever a call is cancelled, the buffer goes on, can be closed, and has every event in one counter."""
    for at in range(1, 60):
        if not run_on(SimulatedLoop, one_life(operation, at, way, SENDERS[sender]())):
            break
    else:
        pytest.fail("it suspends for ever")
    if operation != put_at_once:
        assert at > 1
    gc.collect()


async def one_life(
    operation: Callable[[RumBuffer], Coroutine[Any, Any, None]],
    at: int,
    way: Way,
    sender: FakeSender,
) -> bool:
    """Run an operation, cancelled at one place; return whether it was."""
    buffer = buffer_of(sender, limits=SMALL)
    await buffer.start()
    before = buffer.stats()

    async def strike() -> bool:
        return await struck(operation(buffer), at, way)

    task = asyncio.create_task(strike())
    try:
        was_struck = await task
    except asyncio.CancelledError:
        was_struck = True
    except (BufferClosed, DeliveryError):
        was_struck = True
    stats = buffer.stats()
    assert_laws(stats)
    assert stats.waiters == 0, "somebody who is gone still waits for room"
    assert stats.offered >= before.offered
    if "closed" not in repr(buffer) and "closing" not in repr(buffer):
        # It still works, and remembers nobody who is gone.
        await buffer.deliver(event_of(999), session=session_of(99))
        assert (await buffer.flush()).complete
        assert buffer._pump is not None
        assert not buffer._pump.rooms
        assert not buffer._pump._settled
        assert buffer.stats().pending_bytes == 0
        assert 999 in sender.numbers()
    await buffer.aclose()
    stats = buffer.stats()
    assert_laws(stats, closed=True)
    assert sender.closes == 1
    assert len(sender.numbers()) == len(set(sender.numbers())) == stats.delivered
    return was_struck


def awaits_of(module: types.ModuleType, functions: set[str]) -> dict[tuple[str, int], str]:
    """The lines of the awaits in some functions of a module, each with its text."""
    assert module.__file__ is not None
    path = Path(module.__file__)
    text = path.read_text()
    found = {}
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, ast.AsyncFunctionDef) and function.name in functions:
            for node in ast.walk(function):
                if isinstance(node, ast.Await):
                    line = text.splitlines()[node.lineno - 1].strip()
                    found[path.name, node.lineno] = f"{function.name}: {line}"
    return found


def test_each_await_was_struck() -> None:
    """No await of the buffer's calls was left out above: the list is read off the source."""
    if not reached:
        pytest.skip("the tests above did not run")
    calls = {"aclose", "__aenter__", "__aexit__", "put", "deliver", "_admit_when_room", "flush"}
    awaits = {**awaits_of(rumbuffer.buffer, calls), **awaits_of(rumbuffer.pump, {"settled"})}
    never_suspend = {
        place
        for place, text in awaits.items()
        # A cancelled close waits once more for its end: see the test below. A start gives no way.
        if "self.start()" in text or "asyncio.wait((self._closing,))" in text
    }
    missed = {text for place, text in awaits.items() if place not in reached | never_suspend}
    assert not missed
    assert len(awaits) >= 8


@pytest.mark.parametrize("turns", range(12))
@simulated
async def test_a_close_cancelled_again_and_again(turns: int) -> None:
    """However often the caller of a close is cancelled, in whatever turn, the close comes to its end."""
    sender = FakeSender(seconds=5.0)
    buffer = buffer_of(sender, limits=Limits(linger=60.0, max_in_flight=2))
    await buffer.start()
    for number in range(10):
        buffer.put_nowait(event_of(number), session=session_of(number))
    closing = asyncio.create_task(buffer.aclose(timeout=3600))
    await asyncio.sleep(1)
    while not closing.done():
        closing.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        if not turns:
            await asyncio.wait((closing,), timeout=0)
    assert closing.cancelled()
    await buffer.aclose()
    assert sender.closes == 1
    assert_laws(buffer.stats(), closed=True)


async def closing_under_way(buffer: RumBuffer) -> None:
    """A close at whose end everything is gone."""
    await buffer.aclose(timeout=5)


@pytest.mark.parametrize("life", [deliver_when_there_is_room, flush, closing_under_way, use_in_a_block])
@pytest.mark.parametrize("sender", SENDERS)
def test_every_task_cancelled_in_each_turn(life: Callable[[RumBuffer], Awaitable[None]], sender: str) -> None:
    """When all tasks are cancelled at once, in whatever turn, a later close still accounts for all."""

    async def main(turn: int) -> bool:
        server = SENDERS[sender]()
        buffer = buffer_of(server, limits=SMALL)
        await buffer.start()
        buffer.put_nowait(event_of(50), session=session_of(50))
        working = asyncio.ensure_future(life(buffer))
        for _ in range(turn):
            if working.done():
                break
            await asyncio.sleep(0.001 if turn > 20 else 0)
        was_done = working.done()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.wait((working,), timeout=30)
        assert working.done()
        async with asyncio.timeout(60):
            await buffer.aclose()
        assert_laws(buffer.stats(), closed=True)
        assert len(server.numbers()) == len(set(server.numbers()))
        assert buffer.stats().delivered <= len(server.numbers())
        assert server.closes == 1
        assert working.cancelled() or not working.exception() or was_done
        return was_done

    for turn in (*range(20), *range(21, 400, 7)):
        if run_on(SimulatedLoop, main(turn)):
            break


@pytest.mark.parametrize("turns", range(1, 40, 3))
def test_a_loop_that_ends_in_any_turn(turns: int) -> None:
    """`asyncio.run` may end in whatever turn of the buffer's life: it ends, and leaves no task behind."""
    sender = FakeSender(seconds=0.001)
    buffer = buffer_of(sender)

    async def main() -> None:
        await buffer.start()
        for number in range(5):
            buffer.put_nowait(event_of(number), session=session_of(number))
        closing = asyncio.ensure_future(asyncio.sleep(0.001 * turns))
        closing.add_done_callback(lambda _: asyncio.ensure_future(buffer.aclose()))
        for _ in range(turns):
            await asyncio.sleep(0.001 if turns > 15 else 0)

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        complaints: list[str] = []
        runner.get_loop().set_exception_handler(lambda _, context: complaints.append(str(context)))
        runner.run(main())
    assert not complaints
    assert_laws(buffer.stats())
    asyncio.run(close_elsewhere(buffer))
    assert_laws(buffer.stats(), closed=True)
    assert sender.closes <= 1


async def close_elsewhere(buffer: RumBuffer) -> None:
    """Close what may have been left open, so that it does not warn."""
    await buffer.aclose(timeout=0)
