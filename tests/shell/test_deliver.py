"""`deliver()`: the fate of one event, whatever happens to its batch."""

from __future__ import annotations

import asyncio
import random

import pytest

from rumbuffer import (
    BufferClosed,
    Delivered,
    Delivery,
    DeliveryError,
    Event,
    Failed,
    HoldScope,
    InvalidEvent,
    Limits,
    Misconfigured,
    Outcome,
    Rejected,
    RetryPolicy,
    RumBuffer,
    SealedBatch,
    Throttled,
    TooLarge,
)
from tests.fakes import (
    FakeSender,
    assert_laws,
    buffer_of,
    event_of,
    events_of,
    numbers_of,
    session_of,
    simulated,
    uuid_of,
)

SLOW = Limits(linger=3600.0)


async def fate(buffer: RumBuffer, number: int, **more: object) -> str:
    """Deliver an event and tell what became of it, in a word."""
    try:
        delivery = await buffer.deliver(event_of(number), session=session_of(), **more)  # type: ignore[arg-type]
    except DeliveryError as error:
        return error.reason
    assert delivery.event_id == uuid_of(number)
    assert delivery.batch_id is not None
    return "delivered"


def refusing(bad: set[int], outcome: Outcome) -> FakeSender:
    """A sender that answers `outcome` to each batch with one of the bad events."""

    def answer(batch: SealedBatch) -> Outcome:
        return outcome if bad & set(numbers_of([batch])) else Delivered()

    return FakeSender(then=answer)


@simulated
async def test_it_does_not_wait_for_the_linger() -> None:
    """Delivering makes the batch due at once, with what lingers in it, and tells in which batch it went."""
    sender = FakeSender(seconds=0.1)
    loop = asyncio.get_running_loop()
    async with buffer_of(sender, limits=SLOW) as buffer:
        buffer.put_nowait(event_of(1), session=session_of())
        buffer.put_nowait(event_of(2), session=session_of(2))
        started = loop.time()
        delivery = await buffer.deliver(event_of(3), session=session_of())
        assert loop.time() - started < 0.2
        (batch,) = sender.arrived
        assert numbers_of([batch]) == [1, 3]
        assert delivery == Delivery(uuid_of(3), batch.id)
        assert buffer.stats().pending == 1


@simulated
async def test_an_event_without_an_id_gets_one() -> None:
    """The delivery names the id under which the event went out."""
    sender = FakeSender()
    async with buffer_of(sender) as buffer:
        delivery = await buffer.deliver(Event("a", {}), session=session_of())
    assert [event["id"] for event in events_of(sender.arrived)] == [delivery.event_id]


@simulated
async def test_each_event_gets_its_own_verdict() -> None:
    """Good and bad events that shared a batch each hear what became of them, and of them alone."""
    bad = {3, 4, 17, 63}
    sender = refusing(bad, Rejected("rumEvents.1.member.details"))
    async with buffer_of(sender, limits=Limits(linger=0.01, max_batch_events=70)) as buffer:
        fates = await asyncio.gather(*(fate(buffer, number) for number in range(70)))
        assert [number for number, word in enumerate(fates) if word == "invalid"] == sorted(bad)
        assert fates.count("delivered") == 66
        stats = buffer.stats()
        assert (stats.delivered, stats.dead_lettered_by_reason) == (66, {"invalid": 4})
        assert_laws(stats)
    assert sorted(sender.numbers()) == sorted(set(range(70)) - bad)


@pytest.mark.parametrize("seed", range(5))
@simulated
async def test_verdicts_agree_with_what_arrived(seed: int) -> None:
    """Under random outcomes every delivery that succeeds has arrived, and every error is counted."""
    dice = random.Random(seed)

    def answer(batch: SealedBatch) -> Outcome:
        if {3, 40, 41} & set(numbers_of([batch])) and dice.random() < 0.9:
            return Rejected("bad")
        answers: list[Outcome] = [Delivered(), Delivered(), Failed("500"), Throttled(0.5), Throttled()]
        answers += [TooLarge(), Failed("x", 1.0)]
        return dice.choice(answers)

    sender = FakeSender(then=answer, seconds=0.01)
    async with buffer_of(sender, retry=RetryPolicy(max_failures=2, base_delay=0.01)) as buffer:
        fates = await asyncio.gather(*(fate(buffer, number) for number in range(120)))
        stats = buffer.stats()
        assert fates.count("delivered") == stats.delivered
        assert len(fates) - stats.delivered == stats.dead_lettered
        assert_laws(stats)
    told = {number for number, word in enumerate(fates) if word == "delivered"}
    assert set(sender.numbers()) == told
    assert len(sender.numbers()) == len(told)


@simulated
async def test_too_large_alone_is_an_error() -> None:
    """A single event that the service calls too large is a dead letter, and its neighbours arrive."""
    async with buffer_of(refusing({2}, TooLarge("413"))) as buffer:
        assert await asyncio.gather(*(fate(buffer, number) for number in range(5))) == [
            *("delivered", "delivered", "too_large", "delivered", "delivered")
        ]


@simulated
async def test_an_event_given_up_after_failures() -> None:
    """A batch that fails while others are delivered is given up, and the error says so."""

    def answer(batch: SealedBatch) -> Outcome:
        return Failed("HTTP 500") if 1 in numbers_of([batch]) else Delivered()

    sender = FakeSender(then=answer)
    async with buffer_of(sender, retry=RetryPolicy(max_failures=3, base_delay=0.01)) as buffer:
        deliveries = asyncio.create_task(fate(buffer, 1))
        number = 100
        while not deliveries.done():
            number += 1
            await buffer.deliver(event_of(number), session=session_of(2))
            await asyncio.sleep(0.1)
        assert await deliveries == "too_many_failures"
        with pytest.raises(DeliveryError, match=r"too_many_failures \(HTTP 500\)"):
            raise DeliveryError("too_many_failures", "HTTP 500")


@simulated
async def test_a_dropped_event_is_an_error() -> None:
    """An event that is evicted while it waits behind a hold tells its deliverer so, at once."""
    sender = FakeSender(then=Misconfigured(HoldScope.SENDER, "NoCredentialsError"))
    async with buffer_of(sender, limits=Limits(max_pending_bytes=4096, linger=0.01)) as buffer:
        delivery = asyncio.create_task(fate(buffer, 1))
        await asyncio.sleep(1)
        assert not delivery.done()
        assert buffer.stats().health == "held"
        for number in range(20):
            buffer.put_nowait(event_of(number, padding=500), session=session_of(2))
        async with asyncio.timeout(2):
            assert await delivery == "overflow"
        await buffer.aclose(timeout=0)


@simulated
async def test_a_dropped_event_is_an_error_while_the_sender_starts() -> None:
    """An event that is evicted before the sender has started tells its deliverer so, too."""

    class Slow(FakeSender):
        async def start(self, *, max_in_flight: int) -> None:
            await asyncio.sleep(600)

    async with buffer_of(Slow(), limits=Limits(max_pending_bytes=4096, linger=0.01)) as buffer:
        delivery = asyncio.create_task(fate(buffer, 1))
        await asyncio.sleep(1)
        for number in range(20):
            buffer.put_nowait(event_of(number, padding=500), session=session_of(2))
        try:
            async with asyncio.timeout(5):
                assert await delivery == "overflow"
        finally:
            await buffer.aclose(timeout=0)


@pytest.mark.parametrize(("in_flight", "reason"), [(True, "outcome_unknown"), (False, "closed")])
@simulated
async def test_an_event_left_at_the_close_is_an_error(in_flight: bool, reason: str) -> None:
    """At the close's deadline a deliverer hears whether the event certainly was not sent."""
    sender = FakeSender()
    if not in_flight:
        sender.script.append(Misconfigured(HoldScope.SENDER, "ExpiredToken"))
    buffer = buffer_of(sender)
    await buffer.start()
    sender.pause()
    delivery = asyncio.create_task(fate(buffer, 1))
    await asyncio.sleep(0.1)
    if not in_flight:
        sender.resume()
        await asyncio.sleep(1)
        sender.pause()
        sender.script.append(Misconfigured(HoldScope.SENDER, "ExpiredToken"))
        sender.resume()
        sender.then = Misconfigured(HoldScope.SENDER, "ExpiredToken")
    report = await buffer.aclose(timeout=3)
    assert await delivery == reason
    assert report.dropped_by_reason == {reason: 1}
    assert_laws(buffer.stats(), closed=True)


@simulated
async def test_cancelling_does_not_withdraw() -> None:
    """A cancelled delivery leaves its event in the buffer, which delivers it."""
    sender = FakeSender()
    sender.pause()
    async with buffer_of(sender) as buffer:
        delivery = asyncio.create_task(fate(buffer, 1))
        await asyncio.sleep(1)
        delivery.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivery
        sender.resume()
        await buffer.flush()
        assert sender.numbers() == [1]


@simulated
async def test_it_waits_for_room() -> None:
    """Without room a delivery waits its turn, and a close meanwhile raises `BufferClosed`."""

    def pausing(_: SealedBatch) -> Outcome:
        sender.pause()
        return Delivered()

    sender = FakeSender(pausing)
    sender.pause()
    buffer = buffer_of(sender, limits=Limits(max_pending_bytes=1024, linger=0.01))
    await buffer.start()
    first, second, third = (asyncio.create_task(fate(buffer, number)) for number in (1, 2, 3))
    await asyncio.sleep(1)
    assert (buffer.stats().accepted, buffer.stats().waiters) == (1, 2)
    sender.resume()
    assert await first == "delivered"
    await asyncio.sleep(1)
    closing = asyncio.create_task(buffer.aclose())
    with pytest.raises(BufferClosed):
        await third
    sender.resume()
    assert await second == "delivered"
    await closing
    assert_laws(buffer.stats(), closed=True)


@simulated
async def test_what_is_wrong_is_raised_at_once() -> None:
    """An invalid event, a missing session and a closed buffer raise, and count."""
    buffer = buffer_of(FakeSender())
    with pytest.raises(BufferClosed, match="not started"):
        await buffer.deliver(event_of(1), session=session_of())
    async with buffer:
        for event, session in [
            (Event("a", {}, id="7"), session_of()),
            (event_of(1), None),
            ("a", session_of()),
        ]:
            with pytest.raises(InvalidEvent):
                await buffer.deliver(event, session=session)  # type: ignore[arg-type]
        assert buffer.stats().refused == 3
    with pytest.raises(BufferClosed, match="is closed"):
        await buffer.deliver(event_of(1), session=session_of())


@simulated
async def test_a_session_that_is_not_sampled() -> None:
    """A delivery of a session that is left out says so at once."""
    async with buffer_of(FakeSender(), sample_rate=0.0) as buffer:
        assert await buffer.deliver(event_of(5), session=session_of()) == Delivery(
            uuid_of(5), None, sampled_out=True
        )
