"""Each rule for outcomes, through aiobotocore and a socket, against a service that misbehaves on demand."""

from __future__ import annotations

import asyncio

import pytest

from rumbuffer import DeadLetterReason, HoldEnded, HoldScope, HoldStarted, Limits, OutageEnded, OutageStarted
from rumbuffer.aws import AwsSender
from rumbuffer.emulator import Emulator, Fault, Quota, ReceivedEvent
from tests.end_to_end.helpers import (
    MONITOR,
    OTHER_MONITOR,
    PATIENT,
    Run,
    running,
    stored_ids,
    uuid_of,
)

# Throttles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retry_after", [None, 0, 1, "nonsense", "Wed, 21 Oct 2015 07:28:00 GMT"])
async def test_a_throttled_batch_goes_again_with_its_id(emulator: Emulator, retry_after: str | None) -> None:
    """A 429 costs one more request of the same batch, whatever its Retry-After says."""
    emulator.script(Fault.throttle(retry_after=retry_after))
    async with running(emulator) as run:
        run.add(range(5))
        batch_id = await run.deliver(5)
        assert [batch.batch_id for batch in emulator.batches] == [batch_id]
    stats = run.compare()
    assert (stats.throttled, stats.failures, stats.requests, stats.retries) == (1, 0, 2, 1)


async def test_retry_after_is_obeyed(emulator: Emulator) -> None:
    """A batch that is throttled with a Retry-After of two seconds is not sent any sooner."""
    emulator.script(Fault.throttle(retry_after=2))
    async with running(emulator) as run:
        before = asyncio.get_running_loop().time()
        await run.deliver(1)
        assert asyncio.get_running_loop().time() - before >= 2.0


async def test_throttles_by_the_quota_lose_nothing(emulator: Emulator) -> None:
    """A service that takes less than the pace loses no event, and no throttle counts as a failure."""
    emulator.quota = Quota(rate=100.0, burst=5)
    async with running(emulator) as run:
        for session in range(40):
            run.add(range(session * 10, session * 10 + 10), session=session)
        await run.flush()
    stats = run.compare()
    assert stats.throttled == emulator.requests.throttled > 0
    assert stats.failures == 0


# Failures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(500),
        Fault.status(502, body="<html>Bad Gateway</html>"),
        Fault.status(503, body=b""),
        Fault.status(500, retry_after=0),
        Fault.status(408, body=b""),
        Fault.status(418, body="a teapot"),
        Fault.status(400, body="<html>a proxy's page</html>"),
        Fault.reset(),
        Fault.garbage(status=500),
    ],
    ids=lambda fault: f"{fault.name} {fault.answer.body[:12]!r}",
)
async def test_a_failed_batch_goes_again_with_its_id(emulator: Emulator, fault: Fault) -> None:
    """A failure that may pass costs retries of the same batch, and no event."""
    emulator.script(fault, fault)
    async with running(emulator) as run:
        run.add(range(5))
        batch_id = await run.deliver(5)
        assert [batch.batch_id for batch in emulator.batches] == [batch_id]
    stats = run.compare()
    assert (stats.failures, stats.requests, stats.retries, stats.throttled) == (2, 3, 2, 0)
    assert emulator.requests.repeated == 0


@pytest.mark.parametrize(
    "fault",
    [Fault.store_then_status(500), Fault.store_then_reset(), Fault.status(500, body="?", store=True)],
    ids=lambda fault: fault.name,
)
async def test_what_failed_after_it_was_stored_is_an_identical_repeat(
    emulator: Emulator, fault: Fault
) -> None:
    """Where the service stored a batch and said it failed, the same id and body come again."""
    emulator.script(fault, fault)
    async with running(emulator) as run:
        run.add(range(5))
        await run.deliver(5)
        run.add(range(6, 9))
    run.compare()
    [first, _] = emulator.batches
    assert (first.repeats, first.conflicts) == (2, 0)


async def test_a_cut_answer_is_no_loss(emulator: Emulator) -> None:
    """Half an answer with a status of success counts once, whether it is sent again or not."""
    emulator.script(Fault.cut_answer(), Fault.cut_answer())
    async with running(emulator) as run:
        run.add(range(5))
        await run.deliver(5)
    run.compare()
    assert emulator.requests.accepted - emulator.requests.repeated == 1


async def test_a_slow_answer_is_waited_for(emulator: Emulator) -> None:
    """An answer that takes its time, within the read timeout, is no failure."""
    emulator.script(Fault.slow_answer(0.2))
    async with running(emulator) as run:
        await run.deliver(1)
    assert run.compare().requests == 1


@pytest.mark.parametrize("store", [False, True])
async def test_a_service_that_never_answers(emulator: Emulator, store: bool) -> None:
    """A request without an answer ends by the read timeout, and its batch goes again."""
    emulator.script(Fault.hang(store=store))
    sender = AwsSender(region_name=emulator.region, endpoint_url=emulator.endpoint_url, read_timeout=0.2)
    async with running(emulator, sender=sender, region_name=None, endpoint_url=None) as run:
        run.add(range(5))
        await run.deliver(5)
    stats = run.compare()
    assert (stats.failures, stats.requests) == (1, 2)
    assert emulator.requests.repeated == store


@pytest.mark.parametrize("body", [b"", b"\x00<html>not JSON", b"[]", b'"text"', b"{" * 10_000])
async def test_garbage_with_a_status_of_success(emulator: Emulator, body: bytes) -> None:
    """Any answer of 2xx is a delivery, whatever its body holds."""
    emulator.script(Fault.garbage(body, store=True), Fault.status(202, body=body, store=True))
    async with running(emulator) as run:
        await run.deliver(1)
        await run.deliver(2)
    assert run.compare().requests == 2


# Connections -----------------------------------------------------------------------------------------


async def test_a_kept_connection_that_is_gone_is_excused_once(emulator: Emulator) -> None:
    """A batch that met a closed kept connection goes again at once, without backoff."""
    async with running(emulator, retry=PATIENT) as run:
        run.buffer._batcher._random = lambda: 0.999
        await run.deliver(1)
        sender = run.buffer._pump and run.buffer._pump._sender
        if not (isinstance(sender, AwsSender) and sender._link is not None and sender._link._tells):
            pytest.skip("this aiobotocore takes no socket factory, so that no failure is called stale")
        emulator.script(Fault.reset())
        await asyncio.wait_for(run.deliver(2), 10)
    assert run.compare().failures == 1


async def test_a_new_connection_that_breaks_is_not_excused(emulator: Emulator) -> None:
    """A batch whose new connection is reset waits for its backoff; a close does not."""
    emulator.script(Fault.reset())
    async with running(emulator, retry=PATIENT) as run:
        run.buffer._batcher._random = lambda: 0.999
        run.add([1])
        await emulator.until(lambda emulator: emulator.requests.failed)
        report = await run.buffer.flush(0.2)
        assert (report.complete, report.remaining) == (False, 1)
    stats = run.compare()
    assert (stats.requests, stats.failures, stats.delivered) == (2, 1, 1)


async def test_connections_that_the_server_closes_while_idle(emulator: Emulator) -> None:
    """Closing idle connections between batches costs nothing but a new connection."""
    async with running(emulator, retry=PATIENT) as run:
        run.buffer._batcher._random = lambda: 0.999
        for number in range(20):
            await asyncio.wait_for(run.deliver(number), 10)
            emulator.close_connections(only_idle=True)
    run.compare()


async def test_connections_that_close_unannounced_after_each_answer(emulator: Emulator) -> None:
    """A server that closes after each answer without saying so delays nobody."""
    emulator.script(*[Fault.close()] * 20)
    async with running(emulator, retry=PATIENT) as run:
        run.buffer._batcher._random = lambda: 0.999
        for number in range(20):
            await asyncio.wait_for(run.deliver(number), 10)
    run.compare()


# Outages ---------------------------------------------------------------------------------------------


async def test_a_service_that_goes_and_comes_back(emulator: Emulator) -> None:
    """In an outage nothing is lost and one batch at a time probes; afterwards everything arrives."""
    async with running(emulator) as run:
        run.add(range(10))
        await run.flush()
        await emulator.stop()
        for session in range(30):
            run.add(range(100 + session * 10, 110 + session * 10), session=session)
        await run.until_heard(OutageStarted)
        stats = run.buffer.stats()
        assert (stats.health, stats.delivered) == ("outage", 10)
        assert stats.pending + stats.in_flight == 300
        await emulator.start()
        await run.flush()
        assert run.buffer.stats().health == "ok"
    stats = run.compare()
    assert stats.dead_lettered == 0
    assert len(run.heard(OutageStarted)) == len(run.heard(OutageEnded)) == 1


async def test_an_outage_that_begins_in_the_midst_of_requests(emulator: Emulator) -> None:
    """Batches that were on their way when the service went are sent again under their ids."""
    async with running(emulator) as run:
        emulator.script(*[Fault.delay(60)] * 5, *[Fault.store_then_status().after(0)] * 5)
        for session in range(10):
            run.add(range(session * 10, session * 10 + 10), session=session)
        # More, where one of the five is there again before the last of the ten has come for the first time.
        await emulator.until(lambda emulator: emulator.scripted == 0 and emulator.requests.accepted >= 5)
        await emulator.stop()
        await emulator.start()
        await run.flush()
    run.compare()
    assert sum(batch.repeats for batch in emulator.batches) == 5


async def test_a_port_that_speaks_something_else(emulator: Emulator) -> None:
    """Answers that are no HTTP are an outage like any other."""

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
        writer.close()

    await emulator.stop()
    async with running(emulator) as run:
        async with await asyncio.start_server(babble, "127.0.0.1", emulator.port):
            run.add(range(10))
            await run.until_heard(OutageStarted)
        await emulator.start()
        await run.flush()
    run.compare()


# Invalid events --------------------------------------------------------------------------------------


def is_bad(event: ReceivedEvent) -> bool:
    """Refuse the events that `uuid_of` numbered with a multiple of 29."""
    return int(event.id[-12:], 16) % 29 == 0


BAD = frozenset(range(0, 60, 29))


async def test_bad_events_among_good_ones(emulator: Emulator) -> None:
    """The bad events of a refused batch are dead-lettered alone, and each waiter gets its own verdict."""
    emulator.service.refuse_event = is_bad
    async with running(emulator, limits=Limits(linger=60.0)) as run:
        run.add(range(50))
        verdicts = await asyncio.gather(*(run.deliver(number) for number in range(50, 60)))
        await run.flush()
    stats = run.compare()
    assert run.dead() == {uuid_of(number) for number in BAD}
    assert stats.dead_lettered_by_reason == {DeadLetterReason.INVALID: len(BAD)}
    batch_of = {event.id: batch.batch_id for batch in emulator.batches for event in batch.events}
    wanted = [batch_of.get(uuid_of(number), DeadLetterReason.INVALID) for number in range(50, 60)]
    assert verdicts == wanted
    assert DeadLetterReason.INVALID in verdicts
    assert [event.id for event in emulator.events()] == [uuid_of(n) for n in range(60) if n not in BAD]


async def test_bad_events_that_meet_other_faults(emulator: Emulator) -> None:
    """The search for bad events goes through throttles, failures and repeats, and stays exact."""
    emulator.service.refuse_event = is_bad
    emulator.script(
        Fault.throttle(retry_after=0), Fault.store_then_status(), Fault.reset(), Fault.cut_answer()
    )
    async with running(emulator, limits=Limits(linger=60.0)) as run:
        run.add(range(60))
        await run.flush()
    run.compare()
    assert run.dead() == {uuid_of(number) for number in BAD}


async def test_a_search_that_takes_too_many_requests(emulator: Emulator) -> None:
    """Bad events that are too many to find end with what is around them as dead letters, all counted."""
    emulator.service.refuse_event = lambda event: int(event.id[-12:], 16) % 2 == 0
    async with running(emulator, limits=Limits(linger=60.0)) as run:
        run.add(range(100))
        await run.flush()
    stats = run.compare()
    assert stats.dead_lettered_by_reason.keys() == {DeadLetterReason.INVALID, DeadLetterReason.UNRESOLVED}
    assert stats.requests <= 33 + 32


@pytest.mark.usefixtures("quick_probes")
async def test_details_that_are_wrong_for_every_event(emulator: Emulator) -> None:
    """Three batches without one good event hold the app monitor, until one gets through."""
    emulator.service.refuse_event = lambda _: True
    async with running(emulator) as run:
        for session in range(3):
            assert await run.deliver(session, session=session) == DeadLetterReason.INVALID
        await run.until_heard(HoldStarted)
        run.add(range(3, 103), session=3)
        stats = run.buffer.stats()
        assert (stats.health, stats.pending + stats.in_flight, stats.dead_lettered) == ("held", 100, 3)
        emulator.service.refuse_event = None
        await run.flush()
        assert run.buffer.stats().health == "ok"
    assert run.compare().delivered == 100
    assert len(run.heard(HoldStarted)) == len(run.heard(HoldEnded)) == 1


# Sizes -----------------------------------------------------------------------------------------------


async def test_a_batch_that_is_too_large(emulator: Emulator) -> None:
    """A 413 splits the batch and halves the limit for later ones; nothing is lost."""
    emulator.service.max_body_bytes = 20_000
    async with running(emulator, limits=Limits(linger=60.0)) as run:
        run.add(range(60), size=1000)
        await run.flush()
        limit = run.buffer.stats().max_batch_bytes
        assert 16_384 <= limit < 20_000
        before = emulator.requests
        run.add(range(60, 120), size=1000)
        await run.flush()
        assert emulator.requests.rejected == before.rejected
    run.compare()
    assert max(len(batch.body) for batch in emulator.batches) <= 20_000
    # Which of two batches on the way arrives first is not promised.
    assert sorted(event.id for event in emulator.events()) == [uuid_of(number) for number in range(120)]


async def test_a_single_event_that_is_too_large(emulator: Emulator) -> None:
    """An event that is refused for its size when it is alone is a dead letter, its neighbours arrive."""
    emulator.service.max_body_bytes = 5_000
    async with running(emulator, limits=Limits(linger=60.0)) as run:
        run.add(range(3))
        verdict = asyncio.ensure_future(run.deliver(3, size=5_500))
        await asyncio.sleep(0)
        run.add(range(4, 7))
        assert await verdict == DeadLetterReason.TOO_LARGE
        await run.flush()
    stats = run.compare()
    assert run.dead() == {uuid_of(3)}
    assert stats.dead_lettered_by_reason == {DeadLetterReason.TOO_LARGE: 1}


# Holds -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick_probes")
@pytest.mark.parametrize("status", [403, 404])
async def test_an_app_monitor_that_is_refused_for_a_while(
    emulator: Emulator, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A hold is said once, keeps its events, leaves other app monitors alone, and ends by itself."""
    emulator.fail_monitor(MONITOR.id, 403 if status == 403 else 404)
    async with running(emulator) as run:
        run.add(range(10))
        await run.until_heard(HoldStarted)
        for session in range(2, 10):
            run.add(range(session * 10, session * 10 + 10), session=session)
        run.add(range(1000, 1010), app_monitor=OTHER_MONITOR)
        refused = sum(emulator.requests.rejected.values())
        await emulator.until(lambda emulator: sum(emulator.requests.rejected.values()) >= refused + 3)
        await emulator.until(lambda emulator: emulator.requests.events == 10)
        stats = run.buffer.stats()
        assert (stats.health, stats.pending + stats.in_flight) == ("held", 90)
        assert stats.in_flight <= 10  # the probe's
        [hold] = stats.holds
        assert (hold.scope, hold.app_monitor_id) == (HoldScope.APP_MONITOR, MONITOR.id)
        emulator.recover()
        await run.flush()
        assert run.buffer.stats().health == "ok"
    stats = run.compare()
    assert stats.dead_lettered == 0
    [started], [ended] = run.heard(HoldStarted), run.heard(HoldEnded)
    assert (started.scope, started.app_monitor_id) == (ended.scope, ended.app_monitor_id)
    assert started.app_monitor_id == MONITOR.id
    assert len([record for record in caplog.records if "rumbuffer holds" in record.getMessage()]) == 1


@pytest.mark.parametrize("status", [403, 404])
async def test_a_close_tries_once_more_what_is_held(emulator: Emulator, status: int) -> None:
    """A hold that was mended unnoticed loses nothing at the close, which does not wait for the next probe."""
    emulator.script(*[Fault.status(status)] * 3)
    async with running(emulator, limits=Limits(linger=0.01, max_in_flight=3)) as run:
        for session in range(3):
            run.add(range(session * 10, session * 10 + 10), session=session)
        await run.until_heard(HoldStarted)
        await emulator.until(lambda emulator: emulator.scripted == 0)
        report = await run.buffer.aclose(timeout=20)
        assert report.lossless
        assert report.seconds < 4


KEYS_AND_REGION = (
    ("AWS_SECRET_ACCESS_KEY", "another-secret"),
    ("AWS_ACCESS_KEY_ID", "ANOTHERKEY"),
    ("AWS_SECRET_ACCESS_KEY", None),
    ("AWS_SESSION_TOKEN", "unexpected"),
    ("AWS_DEFAULT_REGION", "eu-west-1"),
    ("AWS_DEFAULT_REGION", None),
)


@pytest.mark.usefixtures("quick_probes")
@pytest.mark.parametrize(("name", "value"), KEYS_AND_REGION)
async def test_credentials_or_a_region_that_are_wrong_for_a_while(
    emulator: Emulator,
    name: str,
    value: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Everything is held and said once; the right settings in the environment are found without a restart."""
    monkeypatch.delenv("AWS_REGION")
    right = emulator.environment().get(name)
    set_or_not(monkeypatch, name, value)
    async with running(emulator, region_name=None) as run:
        run.add(range(10))
        run.add(range(100, 110), app_monitor=OTHER_MONITOR)
        await run.until_heard(HoldStarted)
        run.add(range(10, 20))
        await asyncio.sleep(0.2)
        stats = run.buffer.stats()
        assert (stats.health, stats.delivered, stats.pending + stats.in_flight) == ("held", 0, 30)
        assert [hold.scope for hold in stats.holds] == [HoldScope.SENDER]
        set_or_not(monkeypatch, name, right)
        await run.flush()
        assert run.buffer.stats().health == "ok"
    run.compare()
    assert len(run.heard(HoldStarted)) == len(run.heard(HoldEnded)) == 1
    said = [record.getMessage() for record in caplog.records if "rumbuffer holds" in record.getMessage()]
    assert len(said) == 1
    assert emulator.secret_access_key not in caplog.text
    assert emulator.access_key_id not in caplog.text


def set_or_not(monkeypatch: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    """Set an environment variable, or unset it."""
    if value is None:
        monkeypatch.delenv(name, raising=False)
    else:
        monkeypatch.setenv(name, value)


async def test_what_is_held_at_the_close_is_counted(emulator: Emulator) -> None:
    """Events of a hold that is not mended are dropped at the close's deadline, for a reason."""
    emulator.fail_monitor(MONITOR.id)
    run = Run(emulator)
    async with run.buffer:
        run.add(range(10))
        await run.until_heard(HoldStarted)
        run.add(range(10, 15), session=2)
        report = await run.buffer.aclose(timeout=0.2)
        assert (report.dropped, report.lossless) == (15, False)
    stats = run.buffer.stats()
    assert stats.dropped_by_reason.keys() <= {"closed", "outcome_unknown"}
    assert stored_ids(emulator) == set()
