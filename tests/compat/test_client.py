"""`rumbuffer.compat.client`: a call that waits for its events, and the errors it raises."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import Any

import botocore.exceptions
import pytest
from botocore.exceptions import ClientError, ParamValidationError

from rumbuffer import (
    AppMonitor,
    BufferClosed,
    Delivered,
    DeliveryError,
    Failed,
    HoldScope,
    InvalidSetting,
    Limits,
    Misconfigured,
    Outcome,
    Rejected,
    RetryPolicy,
    RumBuffer,
    SealedBatch,
    Throttled,
    TooLarge,
    calls,
    compat,
)
from rumbuffer.aws import AwsSender
from rumbuffer.compat.exceptions import client_error
from rumbuffer.compat.waiting import _CODES
from rumbuffer.core.news import Arrived
from rumbuffer.core.notices import DeadLetterReason, DropReason
from rumbuffer.emulator import Emulator, Fault
from tests.compat.helpers import OTHER_MONITOR, USER, buffer_at, call, event, uuid_of
from tests.fakes import FakeSender, assert_laws, buffer_of, event_of, numbers_of, session_of, simulated

OTHER = AppMonitor(OTHER_MONITOR)

calls._load()  # in simulated time a thread takes for ever


def numbered(*numbers: int, padding: int = 0, **changes: Any) -> Any:
    """A call of events that tell their numbers."""
    text = '{{"n":{},"padding":"{}"}}'
    events = [event(number, details=text.format(number, "x" * padding)) for number in numbers]
    return call(RumEvents=events, **changes)


async def error_of(calling: Any) -> ClientError:
    """The error of a call that is refused."""
    with pytest.raises(ClientError) as caught:
        await calling
    return caught.value


# What arrives ----------------------------------------------------------------------------------------


@simulated
async def test_a_call_waits_for_its_delivery() -> None:
    """A call makes its batch due, returns when all of its events have arrived, and names the batch."""
    sender = FakeSender(seconds=0.5)
    loop = asyncio.get_running_loop()
    async with buffer_of(sender, limits=Limits(linger=3600.0)) as buffer, compat.client(buffer) as client:
        started = loop.time()
        response = await client.put_rum_events(**numbered(1, 2))
        assert 0.5 <= loop.time() - started < 1
        (batch,) = sender.arrived
        assert response == {
            "ResponseMetadata": {
                "RequestId": batch.id,
                "HTTPStatusCode": 200,
                "HTTPHeaders": {},
                "RetryAttempts": 0,
            }
        }
        assert sender.numbers() == [1, 2]
        assert buffer.stats().delivered == 2


@simulated
async def test_many_batches() -> None:
    """A call of several batches waits for the last of them."""
    sender = FakeSender(seconds=0.1)
    async with buffer_of(sender, limits=Limits(max_batch_events=10)) as buffer:
        client = compat.client(buffer)
        response = await client.put_rum_events(**numbered(*range(95)))
        assert sorted(sender.numbers()) == list(range(95))
        (last,) = (batch for batch in sender.arrived if 94 in numbers_of([batch]))
        assert response["ResponseMetadata"]["RequestId"] == last.id
        assert buffer._hooks.listeners == set()


@simulated
async def test_a_call_without_events() -> None:
    """A call without events is checked and returns at once; nothing is sent."""
    sender = FakeSender()
    async with buffer_of(sender) as buffer, compat.client(buffer) as client:
        response = await client.put_rum_events(**call(RumEvents=[]))
        assert response["ResponseMetadata"]["RequestId"] == uuid_of(999)
        with pytest.raises(ParamValidationError, match="BatchId"):
            await client.put_rum_events(**call(RumEvents=[], BatchId="x"))
    assert sender.requests == []


@simulated
async def test_nothing_is_sampled_out() -> None:
    """A session that is sampled out goes through."""
    sender = FakeSender()
    async with buffer_of(sender, sample_rate=0.0) as buffer, compat.client(buffer) as client:
        await client.put_rum_events(**numbered(1))
    assert sender.numbers() == [1]


@simulated
async def test_the_same_events_at_once() -> None:
    """Calls with equal events at the same time each hear of their own copy."""
    sender = FakeSender(seconds=0.1)
    async with buffer_of(sender) as buffer, compat.client(buffer) as client:
        responses = await asyncio.gather(*(client.put_rum_events(**numbered(1, 1)) for _ in range(5)))
        assert len(responses) == 5
    assert sender.numbers() == [1] * 10


@simulated
async def test_troubles_that_pass_are_not_raised() -> None:
    """Throttles, failures and lost answers are the buffer's business."""
    sender = FakeSender(Throttled(1.0), Failed("500"), Throttled(), Failed("x", stale_connection=True))
    async with buffer_of(sender) as buffer, compat.client(buffer) as client:
        await client.put_rum_events(**numbered(1))
    assert sender.numbers() == [1]
    assert len(sender.requests) == 5


# What is lost ----------------------------------------------------------------------------------------


def refusing(bad: set[int], outcome: Outcome) -> FakeSender:
    """A sender that answers `outcome` to each batch with one of the bad events."""

    def answer(batch: SealedBatch) -> Outcome:
        return outcome if bad & set(numbers_of([batch])) else Delivered()

    return FakeSender(then=answer)


@pytest.mark.parametrize(
    ("outcome", "reason"), [(Rejected("at details"), "invalid"), (TooLarge("413"), "too_large")]
)
@simulated
async def test_events_that_the_service_refuses(outcome: Outcome, reason: str) -> None:
    """A refusal of some events is raised, says how many arrived, and names those that did not."""
    async with buffer_of(refusing({2, 5}, outcome)) as buffer, compat.client(buffer) as client:
        with pytest.raises(client.exceptions.ValidationException, match="8 of the call's 10") as caught:
            await client.put_rum_events(**numbered(*range(10)))
        assert caught.value.response["LostEventIds"] == [uuid_of(2), uuid_of(5)]
        cause = caught.value.__cause__
        assert isinstance(cause, DeliveryError)
        assert cause.reason == reason
        assert buffer.stats().dead_lettered == 2
        assert_laws(buffer.stats())


@simulated
async def test_an_event_given_up_after_failures() -> None:
    """A batch that fails while others are delivered is given up, which is the service's own error."""

    def answer(batch: SealedBatch) -> Outcome:
        return Failed("HTTP 500") if 1 in numbers_of([batch]) else Delivered()

    retry = RetryPolicy(max_failures=2, base_delay=0.01)
    async with buffer_of(FakeSender(then=answer), retry=retry) as buffer, compat.client(buffer) as client:
        failing = asyncio.create_task(client.put_rum_events(**numbered(1)))
        while not failing.done():
            await buffer.deliver(event_of(7), session=session_of(2))
            await asyncio.sleep(0.1)
        with pytest.raises(client.exceptions.InternalServerException, match="HTTP 500"):
            await failing


@simulated
async def test_an_event_that_is_evicted() -> None:
    """What the memory limit drops is a throttle: the same call may do later."""
    sender = FakeSender(then=Failed("x"))
    limits = Limits(max_pending_bytes=4096, linger=0.01, max_in_flight=1)
    async with buffer_of(
        sender, limits=limits, retry=RetryPolicy(base_delay=3000.0, max_delay=3000.0)
    ) as buffer:
        client = compat.client(buffer, timeout=None)
        buffer.put_nowait(event_of(9), session=session_of(9))
        await asyncio.sleep(1)
        waiting = asyncio.create_task(client.put_rum_events(**numbered(1)))
        await asyncio.sleep(1)
        for number in range(20):
            buffer.put_nowait(event_of(number, padding=500), session=session_of(2))
        with pytest.raises(client.exceptions.ThrottlingException, match="overflow"):
            await waiting
        await buffer.aclose(timeout=0)


@pytest.mark.parametrize(("paused", "reason"), [(True, "outcome_unknown"), (False, "closed")])
@simulated
async def test_the_buffer_is_closed_meanwhile(paused: bool, reason: str) -> None:
    """A close that comes first is an error of the service's kind, for the call may be repeated."""
    sender = FakeSender(then=Throttled(1000.0))
    buffer = buffer_of(sender)
    await buffer.start()
    if paused:
        sender.pause()
    client = compat.client(buffer)
    waiting = asyncio.create_task(client.put_rum_events(**numbered(1)))
    await asyncio.sleep(1)
    await buffer.aclose(timeout=1)
    with pytest.raises(client.exceptions.InternalServerException, match=reason):
        await waiting
    with pytest.raises(BufferClosed):
        await client.put_rum_events(**numbered(1))
    assert_laws(buffer.stats(), closed=True)


def test_every_loss_has_its_error() -> None:
    """Each reason for which an event can be lost is one of the service's errors."""
    assert set(_CODES) == {*DropReason, *DeadLetterReason}
    for code in _CODES.values():
        assert issubclass(compat.Exceptions().from_code(code), ClientError)


# Holds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "name", "status"),
    [
        ("AccessDeniedException", "AccessDeniedException", 403),
        ("ResourceNotFoundException", "ResourceNotFoundException", 404),
        ("UnrecognizedClientException", "ClientError", 403),
        ("HTTP 407", "ClientError", 407),
    ],
)
@simulated
async def test_a_hold_is_raised(code: str, name: str, status: int) -> None:
    """What stops the sending ends the call with the service's error; its events stay in the buffer."""
    sender = FakeSender(then=Misconfigured(HoldScope.APP_MONITOR, code, "see to it"))
    async with buffer_of(sender) as buffer, compat.client(buffer) as client:
        error = await error_of(client.put_rum_events(**numbered(1, 2)))
        assert type(error).__name__ == name
        assert error.response["Error"]["Code"] == code.removeprefix("HTTP ")
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == status
        assert error.response["LostEventIds"] == [uuid_of(1), uuid_of(2)]
        assert "see to it; the buffer keeps the events" in str(error)
        assert buffer.stats().pending == 2
        # A repeat is refused at once, before anything of it is admitted.
        again = await error_of(client.put_rum_events(**numbered(1, 2)))
        assert type(again) is type(error)
        assert "nothing of the call was taken" in str(again)
        assert buffer.stats().offered == 2
        # Another app monitor's calls go through.
        sender.then = Delivered()
        await client.put_rum_events(**numbered(3, Id=OTHER_MONITOR))
        await buffer.flush()
        await client.put_rum_events(**numbered(4))
    assert sorted(sender.numbers()) == [1, 2, 3, 4]


@pytest.mark.parametrize("code", ["NoCredentialsError", "NoRegionError"])
@simulated
async def test_a_hold_of_botocores_own(code: str) -> None:
    """Where botocore would have stopped the call itself, its own error is raised, with a note."""
    sender = FakeSender(then=Misconfigured(HoldScope.SENDER, code, "set AWS_PROFILE"))
    async with buffer_of(sender) as buffer, compat.client(buffer) as client:
        for _ in range(2):
            with pytest.raises(getattr(botocore.exceptions, code)) as caught:
                await client.put_rum_events(**numbered(1))
            assert caught.value.__notes__[0].startswith("set AWS_PROFILE; ")
        assert buffer.stats().offered == 1
        sender.then = Delivered()


@simulated
async def test_a_hold_of_an_error_that_needs_more() -> None:
    """One of botocore's errors whose text has gaps becomes a `ClientError` with its name."""
    sender = FakeSender(then=Misconfigured(HoldScope.SENDER, "ProfileNotFound", "no profile x"))
    async with buffer_of(sender) as buffer, compat.client(buffer) as client:
        error = await error_of(client.put_rum_events(**numbered(1)))
        assert error.response["Error"]["Code"] == "ProfileNotFound"
        sender.then = Delivered()


@simulated
async def test_a_hold_with_nothing_to_try_it_with() -> None:
    """Where nothing is left that could find out that a hold is over, a call is admitted for it."""
    sender = FakeSender(then=Misconfigured(HoldScope.APP_MONITOR, "AccessDeniedException"))
    async with buffer_of(sender, limits=Limits(max_pending_bytes=2048, linger=0.01)) as buffer:
        client = compat.client(buffer)
        await error_of(client.put_rum_events(**numbered(1)))
        for number in range(20):  # which evict it
            buffer.put_nowait(event_of(number, padding=1000), session=session_of(2), app_monitor=OTHER)
        sender.then = Delivered()
        await asyncio.sleep(100)
        assert buffer.stats().health == "held"
        await client.put_rum_events(**numbered(2))
        assert buffer.stats().health == "ok"


@simulated
async def test_a_hold_that_goes_on() -> None:
    """A call that was admitted to try a hold raises it when its time is over."""
    sender = FakeSender(then=Misconfigured(HoldScope.APP_MONITOR, "AccessDeniedException"))
    async with buffer_of(sender, limits=Limits(max_pending_bytes=2048, linger=0.01)) as buffer:
        client = compat.client(buffer, timeout=5)
        await error_of(client.put_rum_events(**numbered(1)))
        sender.then = lambda batch: (
            Delivered()
            if batch.app_monitor == OTHER
            else Misconfigured(HoldScope.APP_MONITOR, "AccessDeniedException")
        )
        for number in range(20):
            buffer.put_nowait(event_of(number, padding=1000), session=session_of(2), app_monitor=OTHER)
        await asyncio.sleep(1)
        with pytest.raises(client.exceptions.AccessDeniedException, match="keeps the events"):
            await client.put_rum_events(**numbered(2))
        sender.then = Delivered()


@simulated
async def test_a_hold_of_another_app_monitor() -> None:
    """A hold that begins elsewhere does not end the call."""

    def answer(batch: SealedBatch) -> Outcome:
        if batch.app_monitor == OTHER:
            return Misconfigured(HoldScope.APP_MONITOR, "AccessDeniedException")
        return Delivered()

    sender = FakeSender(Failed("x"), then=answer)
    retry = RetryPolicy(base_delay=5.0, max_delay=5.0)
    async with buffer_of(sender, retry=retry) as buffer, compat.client(buffer) as client:
        waiting = asyncio.create_task(client.put_rum_events(**numbered(1)))
        await asyncio.sleep(0.001)
        other = asyncio.create_task(
            client.put_rum_events(**numbered(2, Id=OTHER_MONITOR, AppMonitorDetails={}))
        )
        assert (await error_of(other)).response["Error"]["Code"] == "AccessDeniedException"
        assert (await waiting)["ResponseMetadata"]["HTTPStatusCode"] == 200
        sender.then = Delivered()


@simulated
async def test_a_hold_while_it_waits_for_room() -> None:
    """A hold ends also a call that waits for room; nothing of it was taken."""
    sender = FakeSender(then=Misconfigured(HoldScope.SENDER, "ExpiredToken"))
    sender.pause()
    async with buffer_of(sender, limits=Limits(max_pending_bytes=4096, linger=0.01)) as buffer:
        client = compat.client(buffer)
        await buffer.put(event_of(1, padding=3000), session=session_of())
        waiting = asyncio.create_task(client.put_rum_events(**numbered(2, 3, padding=400)))
        await asyncio.sleep(1)
        sender.resume()
        error = await error_of(waiting)
        assert error.response["Error"]["Code"] == "ExpiredToken"
        assert "nothing of the call was taken" in str(error)
        assert (buffer.stats().offered, buffer.stats().waiters) == (1, 0)
        sender.then = Delivered()


@simulated
async def test_a_rejection_hold() -> None:
    """Batches in a row without a good event hold their app monitor; calls hear that it is the content."""
    sender = FakeSender(then=Rejected("at appMonitorDetails"))
    async with buffer_of(sender, limits=Limits(linger=0.01, max_in_flight=1)) as buffer:
        client = compat.client(buffer)
        users = [{"userId": USER, "sessionId": uuid_of(number)} for number in range(6)]
        requests = [client.put_rum_events(**numbered(n, UserDetails=user)) for n, user in enumerate(users)]
        errors = await asyncio.gather(*requests, return_exceptions=True)
        assert [type(error).__name__ for error in errors] == ["ValidationException"] * 6
        assert buffer.stats().health == "held"
        assert (buffer.stats().dead_lettered, buffer.stats().pending) == (3, 3)
        sender.then = Delivered()


# Time ------------------------------------------------------------------------------------------------


def unavailable() -> FakeSender:
    """An outage."""
    return FakeSender(then=Failed("HTTP 503"))


def silent() -> FakeSender:
    """A service that never answers."""
    sender = FakeSender()
    sender.pause()
    return sender


@pytest.mark.parametrize(
    ("make", "name", "retry_after"),
    [
        (unavailable, "InternalServerException", None),
        (silent, "InternalServerException", None),
        (lambda: FakeSender(then=Throttled(2.5)), "ThrottlingException", 3),
        (lambda: FakeSender(then=Throttled()), "ThrottlingException", None),
        (lambda: FakeSender(*[Failed("x")] * 2, then=lambda _: Failed("y")), "InternalServerException", None),
    ],
)
@simulated
async def test_a_call_whose_time_is_over(
    make: Callable[[], FakeSender], name: str, retry_after: int | None
) -> None:
    """After the time-out the call raises what stood in the way; the buffer goes on trying."""
    sender = make()
    async with buffer_of(sender) as buffer, compat.client(buffer, timeout=30) as client:
        started = asyncio.get_running_loop().time()
        error = await error_of(client.put_rum_events(**numbered(1)))
        assert asyncio.get_running_loop().time() - started == pytest.approx(30)
        assert type(error).__name__ == name
        assert error.response.get("retryAfterSeconds") == retry_after
        assert "30 s" in str(error)
        assert "do not send them again" in str(error)
        assert buffer.stats().accepted == 1
        assert buffer._hooks.listeners == set()
        sender.then = Delivered()
        sender.resume()
        assert (await buffer.flush()).complete
    assert sender.numbers() == [1]


@simulated
async def test_a_call_that_finds_no_room_in_time() -> None:
    """Without room until the time-out nothing of the call is taken, which is a throttle."""
    sender = silent()
    async with buffer_of(sender, limits=Limits(max_pending_bytes=4096, linger=0.01)) as buffer:
        client = compat.client(buffer, timeout=5)
        await buffer.put(event_of(1, padding=3000), session=session_of())
        with pytest.raises(
            client.exceptions.ThrottlingException, match=r"no room.*nothing of the call was taken"
        ):
            await client.put_rum_events(**numbered(2, 3, padding=400))
        assert (buffer.stats().offered, buffer.stats().waiters) == (1, 0)
        sender.resume()


async def test_a_call_whose_time_is_over_before_it_is_checked() -> None:
    """A time-out that ends while the checks are being loaded leaves nothing behind."""
    calls._load.cache_clear()
    async with buffer_of(FakeSender()) as buffer:
        error = await error_of(compat.client(buffer, timeout=0).put_rum_events(**numbered(1)))
        assert "nothing of the call was taken" in str(error)
        assert error.response["LostEventIds"] == []
        assert buffer.stats().offered == 0
        await compat.client(buffer).put_rum_events(**numbered(1))


@simulated
async def test_a_large_call_of_which_a_part_is_taken() -> None:
    """The error of a large call says how much of it the buffer has."""
    sender = silent()
    async with buffer_of(sender, limits=Limits(max_pending_bytes=8000, linger=0.01)) as buffer:
        client = compat.client(buffer, timeout=5)
        with pytest.raises(client.exceptions.ThrottlingException, match=r"the first \d+ of the call's 60"):
            await client.put_rum_events(**numbered(*range(60), padding=400))
        sender.resume()
        await buffer.flush()
        assert buffer.stats().delivered == buffer.stats().accepted < 60


@simulated
async def test_a_call_that_waits_for_its_turn() -> None:
    """A call that the pace keeps waiting is throttled."""
    sender = silent()
    async with buffer_of(sender, limits=Limits(linger=0.01, max_in_flight=1)) as buffer:
        client = compat.client(buffer, timeout=5)
        buffer.put_nowait(event_of(1), session=session_of())
        await asyncio.sleep(1)
        with pytest.raises(client.exceptions.ThrottlingException, match="turn"):
            await client.put_rum_events(**numbered(2))
        sender.resume()


@simulated
async def test_waiting_as_long_as_it_takes() -> None:
    """Without a time-out a call waits through any outage."""
    sender = unavailable()
    async with buffer_of(sender) as buffer, compat.client(buffer, timeout=None) as client:
        waiting = asyncio.create_task(client.put_rum_events(**numbered(1)))
        await asyncio.sleep(3600)
        assert not waiting.done()
        sender.then = Delivered()
        await waiting


@simulated
async def test_cancelling_does_not_withdraw() -> None:
    """A cancelled call leaves its events in the buffer, which delivers them."""
    sender = silent()
    async with buffer_of(sender) as buffer, compat.client(buffer) as client:
        waiting = asyncio.create_task(client.put_rum_events(**numbered(1)))
        await asyncio.sleep(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert buffer._hooks.listeners == set()
        sender.resume()
    assert sender.numbers() == [1]


@simulated
async def test_delivered_in_the_turn_in_which_its_time_is_over() -> None:
    """A call whose events have arrived returns, even if its time is over before it is told."""
    sender = silent()
    async with buffer_of(sender) as buffer, compat.client(buffer, timeout=5.0) as client:
        call_ = asyncio.create_task(client.put_rum_events(**numbered(1, 2)))
        await asyncio.sleep(1)
        (heard_by,) = buffer._hooks.listeners
        waiting = heard_by.__self__  # type: ignore[attr-defined]
        for fate in waiting.fates:
            fate.set_result(Arrived("the batch"))
        waiting.scope.reschedule(asyncio.get_running_loop().time())
        assert (await call_)["ResponseMetadata"]["RequestId"] == "the batch"
        sender.resume()


@simulated
async def test_a_call_in_an_outage() -> None:
    """A call that is made in an outage, and ends before the next try, says that the service fails."""
    sender = unavailable()
    async with buffer_of(sender) as buffer:
        buffer.put_nowait(event_of(1), session=session_of())
        await asyncio.sleep(600)
        assert buffer.stats().health == "outage"
        client = compat.client(buffer, timeout=0.001)
        with pytest.raises(client.exceptions.InternalServerException, match="failed or did not answer"):
            await client.put_rum_events(**numbered(2))
        sender.then = Delivered()


# The face --------------------------------------------------------------------------------------------


async def test_meta() -> None:
    """`meta` tells the model, region and endpoint: as they were given, and as botocore found them."""
    async with buffer_of(FakeSender()) as buffer, compat.client(buffer) as client:
        assert client.meta.service_model.service_name == "rum"
        assert client.meta.service_model.operation_model("PutRumEvents").name == "PutRumEvents"
        assert client.meta.method_to_api_mapping == {"put_rum_events": "PutRumEvents"}
        assert (client.meta.region_name, client.meta.endpoint_url) == (None, None)
    buffer = RumBuffer(OTHER, region_name="eu-west-1")
    assert compat.client(buffer).meta.region_name == "eu-west-1"
    buffer = RumBuffer(OTHER, sender=AwsSender(region_name="eu-north-1", endpoint_url="http://x"))
    meta = compat.client(buffer).meta
    assert (meta.region_name, meta.endpoint_url) == ("eu-north-1", "http://x")


async def test_closing_it() -> None:
    """A closed client takes no more calls; the buffer stays open, and calls that wait go on."""
    sender = FakeSender(seconds=0.05)
    async with buffer_of(sender) as buffer:
        async with compat.client(buffer) as client:
            waiting = asyncio.create_task(client.put_rum_events(**numbered(1)))
            await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="the client is closed"):
            await client.put_rum_events(**numbered(2))
        await client.close()
        await waiting
        assert buffer.put_nowait(event_of(3), session=session_of())


async def test_everything_else() -> None:
    """Other operations say where they are to be had; what a client is asked in general has an answer."""
    async with buffer_of(FakeSender()) as buffer, compat.client(buffer) as client:
        for name in ("create_app_monitor", "get_app_monitor", "get_paginator", "generate_presigned_url"):
            with pytest.raises(AttributeError, match=f"no {name}: .* aiobotocore client"):
                getattr(client, name)
            assert not hasattr(client, name)
        with pytest.raises(AttributeError, match="'Client' object has no attribute '_make_api_call'"):
            client._make_api_call  # type: ignore[attr-defined]  # noqa: B018
        assert client.can_paginate("put_rum_events") is False
        assert client.waiter_names == []
        assert "rumbuffer.compat.Client of <RumBuffer running" in repr(client)


@pytest.mark.parametrize(("buffer", "timeout"), [(None, 60.0), ("buffer", 60.0), (True, -1), (True, "60")])
def test_wrong_settings(buffer: Any, timeout: Any) -> None:
    """What is no buffer, or no time, is named."""
    if buffer is True:
        buffer = RumBuffer(OTHER)
    with pytest.raises(InvalidSetting, match=r"timeout|buffer"):
        compat.client(buffer, timeout=timeout)


def test_exceptions_are_like_botocores() -> None:
    """`exceptions` has the model's names and `from_code`; an error survives pickling, with its class."""
    exceptions = compat.Exceptions()
    assert exceptions.ClientError is ClientError
    assert exceptions.from_code("ThrottlingException") is exceptions.ThrottlingException
    assert exceptions.from_code("SlowDown") is ClientError
    error = client_error("ThrottlingException", "too much", retry_after=0.2)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(copy) is compat.ThrottlingException
    assert copy.response == error.response  # type: ignore[attr-defined]
    assert copy.response["retryAfterSeconds"] == 1
    assert copy.operation_name == "PutRumEvents"
    assert str(copy) == (
        "An error occurred (ThrottlingException) when calling the PutRumEvents operation: too much"
    )


# Over a socket ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (Fault.status(403), "AccessDeniedException"),
        (Fault.status(404), "ResourceNotFoundException"),
    ],
)
async def test_refusals_over_a_socket(emulator: Emulator, fault: Fault, name: str) -> None:
    """The service's refusals of an app monitor are raised under its own names."""
    emulator.script(fault)
    async with buffer_at(emulator) as buffer, compat.client(buffer) as client:
        with pytest.raises(getattr(client.exceptions, name)) as caught:
            await client.put_rum_events(**call())
        assert caught.value.operation_name == "PutRumEvents"
        assert client.meta.endpoint_url == emulator.endpoint_url
        assert client.meta.region_name == emulator.region
        await buffer.aclose()
    assert [event.id for event in emulator.events()] == [uuid_of(1)]


async def test_bad_events_over_a_socket(emulator: Emulator) -> None:
    """Events that the service refuses are named, and the others of the call arrive."""
    emulator.service.refuse_event = lambda event: event.id == uuid_of(3)
    async with buffer_at(emulator) as buffer, compat.client(buffer) as client:
        with pytest.raises(client.exceptions.ValidationException) as caught:
            await client.put_rum_events(**numbered(1, 2, 3, 4))
        assert caught.value.response["LostEventIds"] == [uuid_of(3)]
    assert sorted(event.id for event in emulator.events()) == [uuid_of(1), uuid_of(2), uuid_of(4)]


@pytest.mark.parametrize(
    ("fault", "name", "retry_after"),
    [
        (Fault.throttle(retry_after=7), "ThrottlingException", 7),
        (Fault.status(500), "InternalServerException", None),
    ],
)
async def test_overload_over_a_socket(
    emulator: Emulator, fault: Fault, name: str, retry_after: int | None
) -> None:
    """A throttle or failure that lasts is raised when the time is over, with the service's Retry-After."""
    async with buffer_at(emulator) as buffer:
        emulator.script(*[fault] * 10_000)
        timeout = 0.1
        error = await error_of(compat.client(buffer, timeout=timeout).put_rum_events(**call()))
        while not buffer.stats().throttled + buffer.stats().failures:  # the machine is slow
            timeout *= 4
            error = await error_of(compat.client(buffer, timeout=timeout).put_rum_events(**call()))
        assert type(error).__name__ == name
        assert error.response.get("retryAfterSeconds") == retry_after
        await buffer.aclose(timeout=0)
