"""`Overflow.SHED_SESSIONS` and `pressure`, from the producer's side."""

from __future__ import annotations

import asyncio
import logging

import orjson
import pytest

from rumbuffer import (
    Dropped,
    Event,
    Limits,
    Notice,
    Overflow,
    RumBuffer,
    Session,
    ShedRateChanged,
)
from tests.fakes import FakeSender, assert_laws, buffer_of, event_of, session_of, simulated

SMALL = Limits(max_batch_events=1_000, max_pending_bytes=100_000, linger=1e6)
POINTS = sorted((session_of(number).sample_point, number) for number in range(1_000))


def session_at(point: float) -> Session:
    """The session with the first sample point from there on."""
    return session_of(next(number for at, number in POINTS if at >= point))


def fill(buffer: RumBuffer, share: float, session: Session) -> None:
    """Record events of a session until that share of the memory is taken."""
    while buffer.pressure < share:
        assert buffer.record("a", {"padding": "x" * 500}, session=session)


def shedding(sender: FakeSender, notices: list[Notice] | None = None, **arguments: object) -> RumBuffer:
    """A buffer that sheds sessions, which sends nothing by itself."""
    hooks = [] if notices is None else [notices.append]
    arguments = {"limits": SMALL, "overflow": Overflow.SHED_SESSIONS, "hooks": hooks, **arguments}
    return buffer_of(sender, **arguments)


@simulated
async def test_sessions_are_shed_and_kept_ones_say_so(caplog: pytest.LogCaptureFixture) -> None:
    """Under pressure a session is kept or left out by its hash, and what is kept tells the rate."""
    caplog.set_level(logging.INFO, "rumbuffer")
    notices: list[Notice] = []
    sender = FakeSender()
    kept, shed = session_at(0.1), session_at(0.95)
    async with shedding(sender, notices) as buffer:
        assert buffer.record("before", {}, session=kept)
        fill(buffer, 0.9, shed)
        lost = buffer.stats().pending - 1
        await asyncio.sleep(1.5)
        stats = buffer.stats()
        assert (stats.shed_rate, stats.pending, stats.dropped_by_reason) == (0.7, 1, {"shed": lost})
        assert buffer.record("a", {}, session=shed).status == "sampled_out"
        assert buffer.put_nowait(Event("a", {}), session=shed).status == "sampled_out"
        assert buffer.record("a", {}, session=kept)
        assert buffer.record(
            "b", {}, session=Session(session_at(0.2).id, attributes={"domain": "example.com"})
        )
        stats = buffer.stats()
        assert (stats.sampled_out, stats.shed_out) == (2, 2)
        assert_laws(stats)
        await asyncio.sleep(60)
        assert buffer.stats().shed_rate == 1.0
        assert buffer.record("after", {}, session=shed)
    assert_laws(buffer.stats(), closed=True)
    told = {
        event["type"]: orjson.loads(orjson.loads(batch.attributes or b'"{}"'))
        for batch in sender.arrived
        for event in orjson.loads(batch.body())["RumEvents"]
    }
    assert told == {
        "before": {"rumbuffer:shed_rate": 0.7},  # it shares a batch with what came under the rate
        "a": {"rumbuffer:shed_rate": 0.7},
        "b": {"domain": "example.com", "rumbuffer:shed_rate": 0.7},
        "after": {},
    }
    assert [notice.rate for notice in notices if isinstance(notice, ShedRateChanged)] == pytest.approx(
        [0.7, 1.0]
    )
    assert sum(notice.count for notice in notices if isinstance(notice, Dropped)) == lost
    assert "it keeps 70 % of them" in caplog.text
    assert "keeps all sessions again" in caplog.text
    assert f"rumbuffer lost events: {lost} dropped (shed)" in caplog.text


@simulated
async def test_what_waits_is_not_shed() -> None:
    """`put()` and `deliver()` do not ask the overflow policy, and only the sample rate leaves theirs out."""
    sender = FakeSender()
    unsampled, shed = session_at(0.95), session_at(0.8)
    async with shedding(sender, sample_rate=0.9) as buffer:
        fill(buffer, 0.9, shed)
        await asyncio.sleep(1.5)
        assert buffer.record("a", {}, session=shed).status == "sampled_out"
        assert await buffer.put(event_of(1), session=shed)
        assert not (await buffer.deliver(event_of(2), session=shed)).sampled_out
        assert not await buffer.put(event_of(3), session=unsampled)
        assert (await buffer.deliver(event_of(4), session=unsampled)).sampled_out
        assert buffer.record("a", {}, session=unsampled).status == "sampled_out"
        stats = buffer.stats()
        assert (stats.sampled_out, stats.shed_out) == (4, 1)
        assert sender.numbers() == [1, 2]
    assert_laws(buffer.stats(), closed=True)


@simulated
async def test_each_step_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The steps between the first cut and the last are for those who want to know."""
    caplog.set_level(logging.INFO, "rumbuffer")
    async with shedding(FakeSender()) as buffer:
        for _ in range(2):
            fill(buffer, 0.9, session_at(0.1))
            await asyncio.sleep(1.2)
    assert "it keeps 70 % of them" in caplog.text
    assert "keeps 49 % of the sessions" in caplog.text


@simulated
async def test_it_sheds_while_the_sender_does_not_start() -> None:
    """Where nothing can be sent for want of a client, sessions are thinned out all the same."""

    class Unstartable(FakeSender):
        async def start(self, *, max_in_flight: int) -> None:
            await asyncio.sleep(60)
            raise RuntimeError("no")

    async with shedding(Unstartable(), close_timeout=0) as buffer:
        fill(buffer, 0.9, session_at(0.1))
        await asyncio.sleep(1.5)
        assert buffer.stats().shed_rate == 0.7


@simulated
async def test_at_the_limit_itself_the_oldest_is_dropped() -> None:
    """What comes in faster than the rate can follow evicts, as `DROP_OLDEST` does."""
    async with shedding(FakeSender()) as buffer:
        for _ in range(1_000):
            assert buffer.record("a", {"padding": "x" * 500}, session=session_at(0.1))
        stats = buffer.stats()
        assert stats.dropped_by_reason.keys() == {"overflow"}
        assert_laws(stats)


@simulated
async def test_pressure_is_the_share_of_the_memory() -> None:
    """It goes from 0 to 1 with what is charged, and a `put()` that waits is as much as there can be."""
    sender = FakeSender()
    buffer = buffer_of(sender, limits=SMALL)
    assert buffer.pressure == 0.0
    async with buffer:
        fill(buffer, 0.5, session_of())
        stats = buffer.stats()
        assert buffer.pressure == pytest.approx(stats.pending_bytes / stats.max_pending_bytes)
        fill(buffer, 0.95, session_of())
        sender.pause()
        waiting = asyncio.create_task(buffer.put(event_of(1, padding=6_000), session=session_of(2)))
        await asyncio.sleep(0)
        assert buffer.pressure == 1.0
        sender.resume()
        await waiting
    assert buffer.pressure == 0.0
