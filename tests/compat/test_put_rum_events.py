"""`buffer.put_rum_events()`: when a call is admitted, as a whole, and what it counts."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError

from rumbuffer import (
    AppMonitor,
    BufferClosed,
    Delivered,
    Limits,
    Misconfigured,
    Outcome,
    Overflow,
    RumBuffer,
    SealedBatch,
    Session,
    TooLarge,
    WrongLoop,
    calls,
)
from rumbuffer.calls import load_checks
from rumbuffer.compat import ThrottlingException, ValidationException
from rumbuffer.core.outcomes import HoldScope
from tests.compat.helpers import MONITOR, SESSION, USER, call, event, uuid_of
from tests.fakes import (
    FakeSender,
    assert_laws,
    buffer_of,
    event_of,
    events_of,
    numbers_of,
    session_of,
    simulated,
)

SLOW = Limits(linger=3600.0)

calls._load()  # in simulated time a thread takes for ever


def numbered(*numbers: int, padding: int = 0, **changes: Any) -> Any:
    """A call of events that tell their numbers."""
    text = '{{"n":{},"padding":"{}"}}'
    events = [event(number, details=text.format(number, "x" * padding)) for number in numbers]
    return call(RumEvents=events, **changes)


@simulated
async def test_events_join_their_session() -> None:
    """A call's events go into the same batch as others of their session, whatever its `BatchId`."""
    sender = FakeSender()
    home = AppMonitor(MONITOR, name="shop", version="1.4.2")
    async with buffer_of(sender, limits=SLOW) as buffer:
        await buffer.put_rum_events(**numbered(1, 2, BatchId=uuid_of(1)))
        buffer.put_nowait(event_of(3), session=Session(SESSION, USER), app_monitor=home)
        await buffer.put_rum_events(**numbered(4, BatchId=uuid_of(1)))
        assert (buffer.stats().pending, buffer.stats().open_batches) == (4, 1)
    (batch,) = sender.arrived
    assert numbers_of([batch]) == [1, 2, 3, 4]
    assert batch.id != uuid_of(1)


@simulated
async def test_what_is_another_batch() -> None:
    """App monitor, alias, session, user and session metadata each make a batch of their own."""
    sender = FakeSender()
    async with buffer_of(sender, limits=SLOW) as buffer:
        for changes in (
            {},
            {"Alias": "a"},
            {"AppMonitorDetails": {"id": MONITOR}},
            {"AppMonitorDetails": {"id": "shop"}},
            {"UserDetails": {"userId": uuid_of(2), "sessionId": SESSION}},
            {"UserDetails": {"userId": USER, "sessionId": uuid_of(2)}},
            {"Alias": "a", "SessionMetadata": '{"a":1}'},
            {"Alias": "a", "SessionMetadata": '{"a":2}'},
        ):
            for number in (1, 2):
                assert await buffer.put_rum_events(**numbered(number, **changes)) == {}
    bodies = {batch.body().replace(batch.id.encode(), b"") for batch in sender.arrived}
    assert len(bodies) == len(sender.arrived) == 7
    assert sorted(len(batch.events) for batch in sender.arrived) == [2, 2, 2, 2, 2, 2, 4]


@simulated
async def test_nothing_is_sampled_out_or_shed() -> None:
    """A session that is sampled out goes through, and batches of calls are not shed."""
    sender = FakeSender()
    async with buffer_of(sender, sample_rate=0.0, overflow=Overflow.SHED_SESSIONS) as buffer:
        assert not buffer.record("com.example.test", {}, session=Session(SESSION, USER))
        await buffer.put_rum_events(**numbered(1))
        assert [batch.is_exempt for lane in buffer._store.lanes.values() for batch in lane.open.values()] == [
            True
        ]
    assert sender.numbers() == [1]
    assert (buffer.stats().sampled_out, buffer.stats().delivered) == (1, 1)


@simulated
async def test_nothing_of_an_invalid_call_gets_in() -> None:
    """One wrong event keeps all out; each event counts as refused, and an invalid call once at least."""
    sender = FakeSender()
    async with buffer_of(sender) as buffer:
        refused = 0
        for error, request, count in (
            (ParamValidationError, numbered(1, 2, 3) | {"Id": "x"}, 3),
            (ParamValidationError, call(RumEvents=[event(1), event(2, details="x")]), 2),
            (ParamValidationError, call(RumEvents=[event(1), event(2), event(3, id="x")]), 3),
            (ValidationException, call(RumEvents=[event(1), event(2, type="?")]), 2),
            (ParamValidationError, call(RumEvents=[], BatchId="x"), 1),
            (ParamValidationError, {}, 1),
        ):
            with pytest.raises(error):
                await buffer.put_rum_events(**request)
            refused += count
            assert buffer.stats().refused_by_reason == {"invalid_event": refused}
            assert_laws(buffer.stats())
    assert sender.requests == []


@pytest.mark.parametrize(
    "limits",
    [
        Limits(max_batch_bytes=1024),
        Limits(max_pending_bytes=1024),
        Limits(max_event_bytes=100),
    ],
)
@simulated
async def test_an_event_too_large_for_the_limits(limits: Limits) -> None:
    """An event that no request, the buffer or the service would take is named; nothing else gets in."""
    async with buffer_of(FakeSender(), limits=limits) as buffer:
        request = call(RumEvents=[event(1), *numbered(2, padding=1000)["RumEvents"]])
        with pytest.raises(ParamValidationError, match=r"parameter RumEvents\[1\].*max_"):
            await buffer.put_rum_events(**request)
        assert (buffer.stats().accepted, buffer.stats().refused) == (0, 2)
        assert len(buffer._store.lanes) == 1


@simulated
async def test_replay_events_may_be_sent() -> None:
    """`oversize="send"` lets larger events pass here too."""
    sender = FakeSender()
    async with buffer_of(sender, limits=Limits(oversize="send")) as buffer:
        await buffer.put_rum_events(**numbered(1, padding=20_000))
    assert sender.numbers() == [1]


@simulated
async def test_a_call_waits_for_room_as_a_whole() -> None:
    """Where there is no room for all events of a call, none is admitted until there is, in turn."""
    sender = FakeSender()
    sender.pause()
    async with buffer_of(sender, limits=Limits(max_pending_bytes=6000, linger=0.01)) as buffer:
        await buffer.put_rum_events(**numbered(1, padding=3000))
        waiting = asyncio.create_task(buffer.put_rum_events(**numbered(2, 3, 4, padding=800)))
        after = asyncio.create_task(buffer.put(event_of(5), session=session_of(9)))
        await asyncio.sleep(1)
        stats = buffer.stats()
        assert (stats.accepted, stats.waiters, stats.offered) == (1, 2, 1)
        sender.resume()
        assert await waiting == {}
        await after
        assert_laws(buffer.stats())
        assert buffer.stats().waiters == 0
    assert sorted(sender.numbers()) == [1, 2, 3, 4, 5]
    assert numbers_of([sender.arrived[1]])[:3] in ([2, 3, 4], [5])


@simulated
async def test_a_cancelled_call_was_never_made() -> None:
    """Cancelled while it waits for room, nothing of a call is admitted or counted."""
    sender = FakeSender()
    sender.pause()
    async with buffer_of(sender, limits=Limits(max_pending_bytes=6000, linger=0.01)) as buffer:
        await buffer.put_rum_events(**numbered(1, padding=3000))
        waiting = asyncio.create_task(buffer.put_rum_events(**numbered(2, 3, 4, padding=800)))
        after = asyncio.create_task(buffer.put_rum_events(**numbered(5)))
        await asyncio.sleep(1)
        assert not after.done()
        waiting.cancel()
        assert await after == {}
        assert buffer.stats().offered == 2
        sender.resume()
    assert sender.numbers() == [1, 5]


@simulated
async def test_a_call_larger_than_the_buffer() -> None:
    """A call of more than there can ever be room for is admitted piece by piece, in its order."""
    sender = FakeSender(seconds=0.1)
    async with buffer_of(sender, limits=Limits(max_pending_bytes=8000, linger=0.01)) as buffer:
        await buffer.put_rum_events(**numbered(*range(60), padding=400))
        assert_laws(buffer.stats())
        assert (await buffer.flush()).complete
    assert sender.numbers() == list(range(60))
    assert max(len(batch.events) for batch in sender.arrived) > 3


@simulated
async def test_a_close_refuses_the_pieces_that_wait() -> None:
    """A close ends a call that waits; what was admitted goes out, the others count as refused."""
    sender = FakeSender()
    sender.pause()
    buffer = buffer_of(sender, limits=Limits(max_pending_bytes=8000, linger=0.01))
    await buffer.start()
    waiting = asyncio.create_task(buffer.put_rum_events(**numbered(*range(60), padding=400)))
    await asyncio.sleep(1)
    admitted = buffer.stats().accepted
    assert 0 < admitted < 60
    closing = asyncio.create_task(buffer.aclose())
    with pytest.raises(BufferClosed):
        await waiting
    sender.resume()
    await closing
    stats = buffer.stats()
    assert (stats.delivered, stats.refused_by_reason) == (admitted, {"not_running": 60 - admitted})
    assert_laws(stats, closed=True)


@simulated
async def test_a_limit_that_falls_while_a_call_waits() -> None:
    """A call that waits when a 413 halves the batches gets in all the same, within the memory limit."""

    def answer(batch: SealedBatch) -> Outcome:
        return Delivered() if len(batch.body()) <= 20_000 else TooLarge()

    sender = FakeSender(then=answer, seconds=0.1)
    limits = Limits(max_pending_bytes=64_000, linger=0.01)
    async with buffer_of(sender, limits=limits) as buffer:
        first = asyncio.create_task(buffer.put_rum_events(**numbered(*range(50), padding=1000)))
        second = asyncio.create_task(buffer.put_rum_events(**numbered(*range(50, 99), padding=1000)))
        while not (first.done() and second.done()):
            await asyncio.sleep(0.01)
            assert_laws(buffer.stats())
        assert (await buffer.flush()).complete
    assert sorted(sender.numbers()) == list(range(99))


@simulated
async def test_too_many_app_monitors() -> None:
    """An app monitor more than a buffer takes at once is a throttle: nothing is wrong with the call."""
    sender = FakeSender()
    sender.pause()
    async with buffer_of(sender, limits=SLOW) as buffer:
        for number in range(255):
            await buffer.put_rum_events(**numbered(number, Id=uuid_of(number)))
        with pytest.raises(ThrottlingException, match="at most 256 app monitors") as caught:
            await buffer.put_rum_events(**numbered(1, 2, Id=uuid_of(1000)))
        assert caught.value.response["Error"]["Code"] == "ThrottlingException"
        assert (buffer.stats().accepted, buffer.stats().refused) == (255, 2)
        sender.resume()
        await buffer.flush()
        await buffer.put_rum_events(**numbered(1, 2, Id=uuid_of(1000)))
    assert buffer.stats().delivered == 257


@simulated
async def test_too_many_app_monitors_while_it_waits() -> None:
    """The same when others take the last places while a call waits for room."""

    def once(_: SealedBatch) -> Outcome:
        sender.pause()
        return Delivered()

    sender = FakeSender(once)
    sender.pause()
    limits = Limits(max_pending_bytes=600_000, linger=3600.0, max_in_flight=1)
    async with buffer_of(sender, limits=limits) as buffer:
        await buffer.put_rum_events(**numbered(*range(30), padding=5000))
        flushing = asyncio.create_task(buffer.flush())
        await asyncio.sleep(1)
        assert buffer.stats().in_flight == 30
        while buffer.stats().pending_bytes < 590_000:
            await buffer.put(event_of(0, padding=5000), session=session_of(2))
        waiting = asyncio.create_task(
            buffer.put_rum_events(**numbered(*range(20), padding=5000, Id=uuid_of(1000)))
        )
        await asyncio.sleep(1)
        for number in range(255):  # each evicts what it needs
            assert buffer.put_nowait(
                event_of(1), session=session_of(3), app_monitor=AppMonitor(uuid_of(number))
            )
        assert buffer.stats().waiters == 1
        sender.resume()
        with pytest.raises(ThrottlingException, match="256 app monitors"):
            await waiting
        assert (buffer.stats().refused, buffer.stats().waiters) == (20, 0)
        assert_laws(buffer.stats())
        sender.resume()
        await flushing


@simulated
async def test_when_it_is_not_running() -> None:
    """Before the start and after the close a call raises `BufferClosed`."""
    buffer = buffer_of(FakeSender())
    with pytest.raises(BufferClosed, match="not started"):
        await buffer.put_rum_events(**numbered(1))
    async with buffer:
        pass
    with pytest.raises(BufferClosed, match="is closed"):
        await buffer.put_rum_events(**numbered(1, 2))
    assert buffer.stats().refused_by_reason == {"not_running": 2}


@simulated
async def test_a_hold_keeps_the_events() -> None:
    """A call returns on admission also while everything is held."""
    sender = FakeSender(then=Misconfigured(HoldScope.SENDER, "NoCredentialsError"))
    async with buffer_of(sender) as buffer:
        await buffer.put_rum_events(**numbered(1))
        await asyncio.sleep(1)
        assert await buffer.put_rum_events(**numbered(2)) == {}
        assert (buffer.stats().health, buffer.stats().pending) == ("held", 2)
        sender.then = Delivered()
        await buffer.flush()
    assert sender.numbers() == [1, 2]


async def test_another_loop() -> None:
    """From another loop than the buffer's a call raises `WrongLoop`."""
    async with buffer_of(FakeSender()) as buffer:

        def elsewhere() -> None:
            asyncio.run(buffer.put_rum_events(**numbered(1)))

        with pytest.raises(WrongLoop, match="put_rum_events"):
            await asyncio.to_thread(elsewhere)


async def test_the_first_call_does_not_stall_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore's model is loaded in a thread, once; a call that is cancelled meanwhile does no harm."""
    calls._load.cache_clear()
    monkeypatch.delitem(sys.modules, "rumbuffer.compat.checks")
    async with buffer_of(FakeSender()) as buffer:
        cancelled = asyncio.create_task(buffer.put_rum_events(**numbered(1)))
        await asyncio.sleep(0)
        assert not cancelled.done()
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert await buffer.put_rum_events(**numbered(2)) == {}
        assert await load_checks() is await load_checks()
        assert buffer.stats().offered == 1


@simulated
async def test_arguments_are_not_kept() -> None:
    """What a caller does with its lists after the call changes nothing."""
    sender = FakeSender()
    request = numbered(1)
    async with buffer_of(sender, limits=SLOW) as buffer:
        await buffer.put_rum_events(**request)
        request["RumEvents"][0]["details"] = "{}"
        request["RumEvents"].clear()
    assert [sent["details"] for sent in events_of(sender.arrived)] == ['{"n":1,"padding":""}']


def test_errors_are_botocores() -> None:
    """The service's errors are `ClientError`s, as code that catches these expects."""
    assert issubclass(ValidationException, ClientError)
    assert RumBuffer.put_rum_events.__doc__
