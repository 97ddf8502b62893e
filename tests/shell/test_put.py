"""`put()`: backpressure, in order, and without a trace when it is cancelled."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from rumbuffer import (
    Admission,
    AppMonitor,
    BufferClosed,
    Event,
    InvalidEvent,
    Limits,
    Overflow,
    RefusalReason,
    RumBuffer,
    WrongLoop,
)
from tests.fakes import (
    OTHER_MONITOR,
    FakeSender,
    assert_laws,
    buffer_of,
    event_of,
    session_of,
    simulated,
)

SMALL = Limits(max_pending_bytes=4096, linger=0.01)


async def fill(buffer: RumBuffer, count: int = 4) -> None:
    """Put as many events of 500 bytes as fit."""
    for number in range(count):
        await buffer.put(event_of(number, padding=500), session=session_of())


def putting(buffer: RumBuffer, number: int, padding: int = 500) -> asyncio.Task[Admission]:
    """A task that puts an event; it waits if there is no room."""
    return asyncio.ensure_future(buffer.put(event_of(number, padding=padding), session=session_of()))


async def turns(count: int = 10) -> None:
    """Let everything that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("overflow", list(Overflow))
@simulated
async def test_puts_wait_for_room_in_order(overflow: Overflow) -> None:
    """Waiting puts are admitted first come, first served, and evict nothing under any policy."""
    sender = FakeSender()
    sender.pause()
    async with buffer_of(sender, limits=SMALL, overflow=overflow) as buffer:
        await fill(buffer)
        tasks = [putting(buffer, number) for number in range(4, 20)]
        await asyncio.sleep(10)
        stats = buffer.stats()
        done = sum(task.done() for task in tasks)
        assert (stats.offered, stats.waiters) == (4 + done, 16 - done)
        assert stats.waiters > 10
        assert_laws(stats)
        sender.resume()
        assert all(await asyncio.gather(*tasks))
        await buffer.flush()
        assert sender.numbers() == list(range(20))
        assert (buffer.stats().dropped, buffer.stats().waiters) == (0, 0)
        assert_laws(buffer.stats())


@simulated
async def test_a_cancelled_put_was_never_offered() -> None:
    """A put that is cancelled while it waits is neither admitted nor counted, and others move up."""
    sender = FakeSender()
    sender.pause()
    async with buffer_of(sender, limits=SMALL) as buffer:
        await fill(buffer)
        first, second, third = (putting(buffer, number, 2000) for number in (10, 11, 12))
        await turns()
        assert buffer.stats().waiters == 3
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert (buffer.stats().waiters, buffer.stats().offered) == (2, 4)
        sender.resume()
        await asyncio.gather(first, third)
        await buffer.flush()
        assert sender.numbers() == [0, 1, 2, 3, 10, 12]
        assert buffer.stats().offered == 6


@simulated
async def test_when_the_first_in_line_is_cancelled_the_next_may_fit() -> None:
    """A small put behind a large one gets in as soon as the large one gives up, though nothing was sent."""
    sender = FakeSender()
    sender.pause()
    async with buffer_of(sender, limits=SMALL) as buffer:
        await fill(buffer, 2)
        large, small = putting(buffer, 10, 3000), putting(buffer, 11, 10)
        await turns()
        assert buffer.stats().waiters == 2
        large.cancel()
        await asyncio.sleep(0.001)
        assert small.done()
        with suppress(asyncio.CancelledError):
            await large
        sender.resume()


@simulated
async def test_the_next_in_line_is_told_while_the_sender_starts() -> None:
    """Room that a cancelled put leaves is handed on even while the sender is still starting."""

    class Slow(FakeSender):
        async def start(self, *, max_in_flight: int) -> None:
            await asyncio.sleep(60)

    async with buffer_of(Slow(), limits=SMALL) as buffer:
        await fill(buffer, 2)
        large, small = putting(buffer, 10, 3000), putting(buffer, 11, 10)
        await turns()
        large.cancel()
        await asyncio.sleep(1)
        assert small.done()
        with suppress(asyncio.CancelledError):
            await large
        await buffer.aclose(timeout=100)


@simulated
async def test_waiters_do_not_starve_beside_record() -> None:
    """Under `DROP_OLDEST` a flood of `record()` takes no room from the puts that wait."""
    sender = FakeSender(seconds=0.5)
    waited: list[float] = []
    loop = asyncio.get_running_loop()
    limits = Limits(max_pending_bytes=20_000, linger=0.01, max_in_flight=2, max_batch_events=5)
    async with buffer_of(sender, limits=limits) as buffer:

        async def produce(first: int) -> None:
            for number in range(first, first + 20):
                started = loop.time()
                await buffer.put(event_of(number, padding=200), session=session_of(first))
                waited.append(loop.time() - started)

        async def flood() -> None:
            while True:
                for number in range(50):
                    assert buffer.record("flood", {"n": -1, "x": "x" * 200}, session=session_of(number))
                await asyncio.sleep(0.01)
                assert_laws(buffer.stats())

        flooding = asyncio.create_task(flood())
        await asyncio.gather(*(produce(100 * each) for each in range(1, 6)))
        flooding.cancel()
        stats = buffer.stats()
        assert len(waited) == 100
        assert max(waited) < 30
        assert stats.dropped > 1000
        await buffer.flush()
        assert_laws(buffer.stats())


@simulated
async def test_a_close_refuses_those_who_wait() -> None:
    """Puts that wait for room when the buffer closes raise `BufferClosed` and are counted as refused."""
    sender = FakeSender()
    sender.pause()
    buffer = buffer_of(sender, limits=SMALL)
    await buffer.start()
    await fill(buffer)
    tasks = [putting(buffer, number, 2000) for number in (10, 11)]
    await turns()
    closing = asyncio.create_task(buffer.aclose(timeout=5))
    for task in tasks:
        with pytest.raises(BufferClosed) as raised:
            await task
        assert raised.value.state == "closing"
    assert not closing.done()
    sender.resume()
    report = await closing
    assert (report.delivered, report.lossless) == (4, True)
    stats = buffer.stats()
    assert stats.refused_by_reason == {"not_running": 2}
    assert_laws(stats, closed=True)


@simulated
async def test_what_is_wrong_is_raised_at_once() -> None:
    """An invalid event, a missing session and an event that never fits raise without waiting, counted."""
    async with buffer_of(FakeSender(), limits=SMALL) as buffer:
        await fill(buffer)
        wrong: list[tuple[Event, dict[str, object]]] = [
            (Event("no spaces", {}), {"session": session_of()}),
            (event_of(1), {}),
            (event_of(1), {"session": "me"}),
            (event_of(1), {"session": session_of(), "app_monitor": "shop"}),
            (event_of(1, padding=5000), {"session": session_of()}),
        ]
        for event, arguments in wrong:
            with pytest.raises(InvalidEvent):
                await buffer.put(event, **arguments)  # type: ignore[arg-type]
        assert buffer.stats().refused == 5
        assert_laws(buffer.stats())


@simulated
async def test_what_went_wrong_while_it_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A put whose app monitor found no place when its turn came raises, and gives its room to the next."""
    monkeypatch.setattr("rumbuffer.core.open_batches._LANES_MAX", 2)
    third = AppMonitor("22222222-2222-3333-4444-555555555555")
    sender = FakeSender()
    sender.pause()
    async with buffer_of(sender, limits=SMALL) as buffer:
        await fill(buffer, 2)
        large = putting(buffer, 10, 2500)
        late = asyncio.ensure_future(buffer.put(event_of(11), session=session_of(), app_monitor=third))
        small = putting(buffer, 12, 10)
        await turns()
        assert buffer.stats().waiters == 3
        with monkeypatch.context() as busy:
            buffer._store.lane_for(OTHER_MONITOR)
            busy.setattr(type(buffer._store.home), "is_empty", False)  # nor may it be forgotten
            sender.resume()
            await asyncio.gather(large, small)
            with pytest.raises(InvalidEvent, match="app monitors"):
                await late
        await buffer.flush()
        assert (buffer.stats().waiters, buffer.stats().refused) == (0, 1)
        assert buffer.stats().pending_bytes == 0


@simulated
async def test_put_is_sampled_and_takes_another_app_monitor() -> None:
    """`put()` takes what `put_nowait()` takes."""
    sender = FakeSender()
    async with buffer_of(sender) as buffer:
        assert await buffer.put(event_of(1), session=session_of(), app_monitor=OTHER_MONITOR)
    assert sender.arrived[0].app_monitor == OTHER_MONITOR


@simulated
async def test_a_buffer_that_does_not_run_raises() -> None:
    """Before the start and after the close `put()` raises `BufferClosed`."""
    buffer = buffer_of(FakeSender())
    with pytest.raises(BufferClosed, match="not started"):
        await buffer.put(event_of(1), session=session_of())
    async with buffer:
        pass
    with pytest.raises(BufferClosed, match="is closed"):
        await buffer.put(event_of(1), session=session_of())
    assert buffer.stats().refused_by_reason.keys() <= {RefusalReason.NOT_RUNNING}


@pytest.mark.parametrize("call", ["put", "deliver", "flush", "aclose"])
def test_awaitables_belong_to_one_loop(call: str) -> None:
    """From another loop each awaitable raises `WrongLoop`, and changes nothing."""

    async def main() -> None:
        async with buffer_of(FakeSender()) as buffer:
            arguments = {"event": event_of(1), "session": session_of()} if call in ("put", "deliver") else {}

            async def elsewhere() -> None:
                with pytest.raises(WrongLoop, match=call) as raised:
                    await getattr(buffer, call)(**arguments)
                assert raised.value.call == call
                assert buffer.record("a", {}, session=session_of())

            await asyncio.to_thread(asyncio.run, elsewhere())
            assert buffer.stats().offered == 1
        assert buffer.stats().delivered == 1

    asyncio.run(main())
