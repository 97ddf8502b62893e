"""Hooks and the log: what the host hears, and that nothing it does with it hurts."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise

import pytest

from rumbuffer import (
    DeadLettered,
    DeadLetterReason,
    Delivered,
    Delivery,
    Dropped,
    DropReason,
    Failed,
    HoldEnded,
    HoldScope,
    HoldStarted,
    Limits,
    Misconfigured,
    Notice,
    OutageEnded,
    OutageStarted,
    RateChanged,
    Rejected,
    Throttled,
)
from tests.fakes import (
    MONITOR,
    FakeSender,
    assert_laws,
    buffer_of,
    event_of,
    numbers_of,
    pacing_of,
    session_of,
    simulated,
    uuid_of,
)

SMALL = Limits(max_pending_bytes=6000, linger=0.01, max_in_flight=1)
"""Room for a few events of 500 bytes; what is not in flight can be evicted."""


@simulated
async def test_a_dead_letter_is_handed_over() -> None:
    """A hook gets a dead letter with all that is needed to keep it."""
    heard: list[Notice] = []
    sender = FakeSender(Rejected("rumEvents.1.member.details"))
    async with buffer_of(sender, hooks=[heard.append]) as buffer:
        buffer.put_nowait(event_of(1), session=session_of(5))
        await buffer.flush()
        (letter,) = heard
        assert isinstance(letter, DeadLettered)
        assert (letter.reason, letter.detail) == (DeadLetterReason.INVALID, "rumEvents.1.member.details")
        assert (letter.app_monitor_id, letter.session_id) == (MONITOR.id, uuid_of(5))
        assert letter.batch_id == sender.requests[0].id
        assert uuid_of(1).encode() in letter.events[0]


@simulated
async def test_drops_are_gathered(caplog: pytest.LogCaptureFixture) -> None:
    """Hooks hear of drops once a second at most, and the sums are exact; the log has a line a minute."""
    heard: list[Notice] = []
    sender = FakeSender()
    sender.pause()
    async with buffer_of(sender, hooks=[heard.append], limits=SMALL) as buffer:
        for number in range(3000):
            buffer.put_nowait(event_of(number, padding=500), session=session_of())
            await asyncio.sleep(0.01)
        await asyncio.sleep(2)
        drops = [notice for notice in heard if isinstance(notice, Dropped)]
        assert sum(drop.count for drop in drops) == buffer.stats().dropped > 2900
        assert all(drop.reason is DropReason.OVERFLOW and drop.size >= drop.count * 500 for drop in drops)
        assert 25 <= len(drops) <= 35
        assert len([line for line in caplog.messages if "overflow" in line]) <= 2
        await buffer.aclose(timeout=0)
    lost = [line for line in caplog.messages if "dropped (overflow)" in line]
    assert sum(int(line.split("events: ")[1].split()[0]) for line in lost) == sum(
        drop.count for drop in drops
    )


@simulated
async def test_the_log_catches_up_without_further_losses(caplog: pytest.LogCaptureFixture) -> None:
    """A loss whose line was put off is logged a minute later, though nothing else happens."""
    sender = FakeSender()
    sender.pause()
    async with buffer_of(sender, limits=SMALL) as buffer:
        for number in range(20):
            buffer.put_nowait(event_of(number, padding=500), session=session_of())
            await asyncio.sleep(0.5)
        await asyncio.sleep(120)
        lost = [line for line in caplog.messages if "dropped (overflow)" in line]
        assert sum(int(line.split("events: ")[1].split()[0]) for line in lost) == buffer.stats().dropped > 10
        await buffer.aclose(timeout=0)


@simulated
async def test_holds_and_outages_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """A hold and an outage are each told when they begin and when they end, loudly once."""
    heard: list[Notice] = []
    held = Misconfigured(HoldScope.APP_MONITOR, "AccessDeniedException", "no permission.")
    sender = FakeSender(then=held)
    async with buffer_of(sender, hooks=[heard.append]) as buffer:
        buffer.put_nowait(event_of(1), session=session_of())
        await buffer.flush(timeout=100)
        assert heard == [
            HoldStarted(HoldScope.APP_MONITOR, MONITOR.id, "AccessDeniedException", "no permission.")
        ]
        [error] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert error.endswith(
            "AccessDeniedException: no permission; events stay pending and it is tried again"
        )
        sender.then = Delivered()
        await buffer.flush()
        assert isinstance(heard[1], HoldEnded)
        assert heard[1].seconds > 99
        sender.then = Failed("HTTP 503")
        for number in range(20):
            buffer.put_nowait(event_of(number), session=session_of(number))
        await buffer.flush(timeout=100)
        assert heard[2:] == [OutageStarted(MONITOR.id, "HTTP 503")]
        assert buffer.stats().health == "outage"
        sender.then = Delivered()
        await buffer.flush()
        assert isinstance(heard[3], OutageEnded)
    assert len(heard) == 4


@simulated
async def test_a_hook_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """A hook that raises is logged once, the other hooks hear everything, and delivery goes on."""
    heard: list[Notice] = []
    raised = 0

    def broken(notice: Notice) -> None:
        nonlocal raised
        raised += 1
        raise ZeroDivisionError

    sender = FakeSender(*[Rejected("bad")] * 2)
    async with buffer_of(sender, hooks=[broken, heard.append]) as buffer:
        for number in range(2):
            buffer.put_nowait(event_of(number), session=session_of())
            await buffer.flush()
        await buffer.deliver(event_of(7), session=session_of())
    assert (raised, len(heard)) == (2, 2)
    assert caplog.text.count("raise ZeroDivisionError") == 1
    assert buffer.stats().health == "ok"


@simulated
async def test_a_hook_that_is_cancelled() -> None:
    """A hook that lets a cancellation out, as a cancelled future's `result()` does, hurts nobody."""
    heard: list[Notice] = []

    def broken(notice: Notice) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        future.result()

    sender = FakeSender(Rejected("bad"))
    async with buffer_of(sender, hooks=[broken, heard.append]) as buffer:
        buffer.put_nowait(event_of(1), session=session_of())
        await asyncio.sleep(1)
        buffer.put_nowait(event_of(2), session=session_of())
        await asyncio.sleep(1)
        assert (buffer.stats().delivered, len(heard)) == (1, 1)


@simulated
async def test_a_hook_that_records() -> None:
    """A hook may record, put, ask for stats and start tasks; what it records is delivered."""
    sender = FakeSender(then=lambda batch: Rejected("bad") if numbers_of([batch]) < [2] else Delivered())
    tasks: set[asyncio.Task[Delivery]] = set()

    def hook(notice: Notice) -> None:
        assert_laws(buffer.stats())
        assert buffer.put_nowait(event_of(100), session=session_of(2))
        tasks.add(asyncio.ensure_future(buffer.deliver(event_of(200), session=session_of(3))))

    async with buffer_of(sender, hooks=[hook]) as buffer:
        for number in range(2):
            buffer.put_nowait(event_of(number), session=session_of())
            await buffer.flush()
        await asyncio.sleep(60)
        assert len(await asyncio.gather(*tasks)) == 2
        assert (buffer.stats().dead_lettered, buffer.stats().pending) == (2, 0)
    assert sorted(sender.numbers()) == [100, 100, 200, 200]
    assert_laws(buffer.stats(), closed=True)


@simulated
async def test_a_hook_that_hears_of_the_close() -> None:
    """What is lost at the close reaches the hooks, before the close returns."""
    heard: list[Notice] = []
    sender = FakeSender()
    sender.pause()
    buffer = buffer_of(sender, hooks=[heard.append], limits=Limits(linger=3600.0, max_in_flight=1))
    await buffer.start()
    for number in range(3):
        buffer.put_nowait(event_of(number), session=session_of(number))
    await buffer.aclose(timeout=1)
    assert {(notice.reason, notice.count) for notice in heard if isinstance(notice, Dropped)} == {
        (DropReason.OUTCOME_UNKNOWN, 1),
        (DropReason.CLOSED, 2),
    }
    lost = b"".join(event for notice in heard if isinstance(notice, Dropped) for event in notice.events)
    assert all(uuid_of(number).encode() in lost for number in range(3))


@simulated
async def test_nothing_personal_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """No line of the log holds an event's content, a session's or a user's id."""
    caplog.set_level(logging.DEBUG, logger="rumbuffer")
    secret = "tell-nobody"
    sender = FakeSender(Rejected("bad"), ValueError(), Failed("x"))
    session = session_of(5, user_id=uuid_of(6), attributes={"secret": secret})
    async with buffer_of(sender, limits=SMALL) as buffer:
        for details in ({"a": secret}, {"a": secret * 2000}, {secret: object()}, secret, [secret]):
            buffer.record("com.example", details, session=session)  # type: ignore[arg-type]
            await buffer.flush(timeout=10)
        buffer.record(secret + " ", {}, session=session, metadata={"a": secret}, id=secret)
        buffer.record("a", {}, session=secret)  # type: ignore[arg-type]
        for number in range(20):
            buffer.record("a", {secret: secret * 40}, session=session, timestamp=number)
        sender.pause()
        await buffer.aclose(timeout=1)
    assert len(caplog.messages) > 5
    for word in (secret, uuid_of(5), uuid_of(6)):
        assert word not in caplog.text


@simulated
async def test_throttles_and_the_rate_are_told() -> None:
    """A hook hears each refusal for the quota, and the pace as it falls and comes back."""
    heard: list[Notice] = []
    sender = FakeSender()
    async with buffer_of(sender, pacing=pacing_of(quota=50.0, use=1.0), hooks=[heard.append]) as buffer:
        for second in range(120):
            if second == 20:
                sender.script.extend([Throttled(1.0)] * 3)
            for number in range(60):
                buffer.record("a", {}, session=session_of(second * 60 + number))
            await asyncio.sleep(1)
    assert heard.count(Throttled(1.0)) == 3 == buffer.stats().throttled
    told = [notice for notice in heard if isinstance(notice, RateChanged)]
    assert told[0].previous == 50.0
    assert min(notice.rate for notice in told) < 50.0 * 0.91
    assert told[-1].rate > 47.0
    for earlier, later in pairwise(told):
        assert later.previous == earlier.rate
        assert abs(later.rate - later.previous) >= 0.05 * later.previous
