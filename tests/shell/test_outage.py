"""Long troubles in simulated time: an hour's outage, a day's hold, minutes of throttling."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rumbuffer import (
    Delivered,
    Failed,
    HoldScope,
    Limits,
    Misconfigured,
    Outcome,
    RumBuffer,
    Throttled,
)
from tests.fakes import FakeSender, assert_laws, buffer_of, event_of, pacing_of, session_of, simulated

HOUR = 3600.0


@contextmanager
def producing(buffer: RumBuffer, *, every: float, sessions: int = 200) -> Iterator[list[int]]:
    """Put an event every so many seconds while the body runs; gives the numbers that were taken."""
    taken: list[int] = []

    async def produce() -> None:
        number = 0
        while True:
            if buffer.put_nowait(event_of(number), session=session_of(number % sessions)):
                taken.append(number)
            number += 1
            await asyncio.sleep(every)

    task = asyncio.ensure_future(produce())
    yield taken
    task.cancel()


@pytest.mark.parametrize("unsent", [True, False])
@simulated
async def test_an_hours_outage(unsent: bool) -> None:
    """Nothing expires in an hour without the service; few requests probe; within a minute all is well."""
    sender = FakeSender(seconds=0.05)
    async with buffer_of(sender, limits=Limits(linger=5.0), pacing=pacing_of()) as buffer:
        with producing(buffer, every=0.1) as taken:
            await asyncio.sleep(60)
            sender.then = Failed("ClientConnectorError", unsent=unsent)
            before = len(sender.requests)
            await asyncio.sleep(HOUR)
            stats = buffer.stats()
            assert stats.health == "outage"
            assert stats.dropped == stats.dead_lettered == 0
            assert stats.pending_bytes < stats.max_pending_bytes
            assert len(sender.requests) - before < 600
            assert_laws(stats)
            sender.then = Delivered()
            await asyncio.sleep(60)
            stats = buffer.stats()
            assert stats.health == "ok"
            assert stats.pending + stats.in_flight < 200
        await buffer.flush()
    assert sorted(sender.numbers()) == taken
    assert len(sender.numbers()) == len(set(sender.numbers())) > 36_000
    assert buffer.stats().delivered == len(taken)


@simulated
async def test_an_outage_in_little_memory() -> None:
    """Memory stays bounded through an outage; the oldest events go first, the newest arrive after it."""
    sender = FakeSender(then=Failed("HTTP 503"))
    limits = Limits(linger=5.0, max_pending_bytes=1_000_000)
    async with buffer_of(sender, limits=limits, pacing=pacing_of()) as buffer:
        with producing(buffer, every=0.1) as taken:
            for _ in range(20):
                await asyncio.sleep(60)
                assert_laws(buffer.stats())
        assert buffer.stats().dropped_by_reason.keys() == {"overflow"}
        sender.then = Delivered()
        assert (await buffer.flush(timeout=60)).complete
    arrived = sorted(sender.numbers())
    assert len(arrived) + buffer.stats().dropped == len(taken)
    assert arrived[-1] == taken[-1]
    # Not exactly the newest: a batch is eaten up from its front before the next one is.
    assert len(set(arrived) & set(taken[-1000:])) > 800


@pytest.mark.parametrize("scope", list(HoldScope))
@simulated
async def test_a_hold_of_some_hours(scope: HoldScope) -> None:
    """A wrong setting costs a request a minute and no event, and goes on by itself once it is mended."""
    sender = FakeSender(then=Misconfigured(scope, "AccessDeniedException"))
    async with buffer_of(sender, pacing=pacing_of()) as buffer:
        with producing(buffer, every=1.0) as taken:
            await asyncio.sleep(4 * HOUR)
            stats = buffer.stats()
            assert stats.health == "held"
            assert len(sender.requests) < 4 * 60 + 50
            assert stats.accepted == stats.pending + stats.in_flight == len(taken)
            sender.then = Delivered()
            await asyncio.sleep(120)
            assert buffer.stats().health == "ok"
    assert sorted(sender.numbers()) == taken


@pytest.mark.parametrize("retry_after", [None, 2.0])
@simulated
async def test_minutes_of_throttling(retry_after: float | None) -> None:
    """Where the service refuses nine requests in ten, no event is lost and every batch gets through."""
    count = 0

    def answer(_: object) -> Outcome:
        nonlocal count
        count += 1
        return Throttled(retry_after) if count % 10 else Delivered()

    sender = FakeSender(then=answer, seconds=0.05)
    async with buffer_of(sender, limits=Limits(linger=5.0), pacing=pacing_of()) as buffer:
        with producing(buffer, every=0.5, sessions=20) as taken:
            await asyncio.sleep(300)
        assert (await buffer.flush(timeout=HOUR)).complete
        stats = buffer.stats()
        assert (stats.dropped, stats.dead_lettered) == (0, 0)
        assert stats.throttled > 50
    assert sorted(sender.numbers()) == taken


@simulated
async def test_deliver_and_put_through_an_outage() -> None:
    """Those who wait for a delivery or for room wait through the outage, and are served after it."""
    sender = FakeSender(then=Failed("HTTP 503"))
    async with buffer_of(sender, limits=Limits(max_pending_bytes=4096, linger=0.01)) as buffer:
        delivery = asyncio.create_task(buffer.deliver(event_of(1), session=session_of()))
        puts = [
            asyncio.create_task(buffer.put(event_of(number, padding=500), session=session_of(number)))
            for number in range(2, 12)
        ]
        await asyncio.sleep(HOUR)
        assert not delivery.done()
        assert not all(put.done() for put in puts)
        sender.then = Delivered()
        async with asyncio.timeout(60):
            await delivery
            await asyncio.gather(*puts)
    assert sorted(sender.numbers()) == list(range(1, 12))
