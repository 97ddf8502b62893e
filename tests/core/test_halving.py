"""Finding the bad events of a batch, and splitting one that is too large."""

from __future__ import annotations

import random
import uuid
from collections import Counter

import pytest

from rumbuffer.core.flights import Flight
from rumbuffer.core.notices import DeadLettered, DeadLetterReason, HoldEnded, HoldStarted
from rumbuffer.core.outcomes import Failed, HoldScope, Outcome, Rejected, TooLarge
from rumbuffer.core.sealed import SealedBatch
from rumbuffer.events import AppMonitor
from tests.core.helpers import DELIVERED, HOME, OTHER, Rig, make_store, numbers, session

REFUSED = Rejected("1 validation error detected")


class Picky:
    """A service that refuses batches with certain events, and keeps what it takes."""

    def __init__(self, bad: set[int]) -> None:
        self.bad = bad
        self.taken: list[int] = []
        self.requests = 0

    def __call__(self, batch: SealedBatch) -> Outcome:
        """Answer a request."""
        self.requests += 1
        if self.bad.intersection(numbers(batch)):
            return REFUSED
        self.taken += numbers(batch)
        return DELIVERED


def hundred_events(bad: set[int], *, jitter: float = 0.5) -> tuple[Rig, Picky]:
    """A rig that sent one batch of a hundred events to a picky service."""
    rig = Rig(make_store(max_batch_events=100), jitter=lambda: jitter)
    rig.fill(1, 100)
    service = Picky(bad)
    rig.run(service)
    return rig, service


def lost(rig: Rig) -> Counter[str]:
    """Dead letters by reason, in events."""
    rig.notices()
    count: Counter[str] = Counter()
    for notice in rig.heard:
        if isinstance(notice, DeadLettered):
            count[notice.reason.value] += len(notice.events)
    return count


# Rejected -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", range(1, 101))
def test_one_bad_event_is_found_and_all_others_arrive(position: int) -> None:
    """Wherever the bad event stands, it alone is a dead letter, after few requests."""
    rig, service = hundred_events({position})
    assert sorted(service.taken) == [number for number in range(1, 101) if number != position]
    assert lost(rig) == {DeadLetterReason.INVALID: 1}
    assert rig.idle()
    assert service.requests <= 14
    refused = [batch for _, batch in rig.requests if position in numbers(batch)]
    assert len(refused) <= 8


def test_a_half_that_must_be_bad_is_not_sent_as_a_whole() -> None:
    """When the first half is delivered, the second holds the bad event, and is halved at once."""
    rig, _ = hundred_events({100})
    sent = [len(batch.events) for _, batch in rig.requests]
    assert sent == [100, 50, 25, 12, 6, 3, 2, 1, 1]


def test_the_dead_letter_says_what_the_service_said() -> None:
    """A refused event comes with the service's words and its ids, so that a host can keep it to look at."""
    rig, _ = hundred_events({37})
    (notice,) = (notice for notice in rig.heard if isinstance(notice, DeadLettered))
    assert notice.detail == "1 validation error detected"
    assert notice.events == (b'{"n":37}',)
    assert (notice.app_monitor_id, notice.session_id) == (HOME.id, session(1).id)
    assert notice.batch_id == next(batch.id for _, batch in rig.requests if numbers(batch) == [37])


def test_the_halves_ids_derive_from_their_parents() -> None:
    """They are UUIDv5 of the parent's id and of which half it is, so that a repeat repeats them."""
    rig, _ = hundred_events({1, 100})
    ids = [batch.id for _, batch in rig.requests]
    derived = {ids[0]}
    for parent in list(ids):
        derived |= {str(uuid.uuid5(uuid.UUID(parent), half)) for half in ("first", "second")}
    for _ in range(7):  # parents that were never sent: halves known to be bad
        derived |= {
            str(uuid.uuid5(uuid.UUID(parent), half)) for parent in derived for half in ("first", "second")
        }
    assert derived.issuperset(ids)
    assert len(set(ids)) == len(ids)


def test_a_repeat_of_the_same_refusals_gives_the_same_ids() -> None:
    """Two runs with the same batch send the same parts under the same ids."""
    one, other = hundred_events({50}, jitter=0.1)[0], hundred_events({50}, jitter=0.9)[0]
    assert [batch for _, batch in one.requests] == [batch for _, batch in other.requests]


def test_a_halfs_retry_carries_its_id() -> None:
    """A half that failed goes again as it was."""
    rig = Rig()
    rig.fill()
    rig.settle(rig.send_one(), REFUSED)
    half = rig.send_next()
    sealed = half.batch
    assert sealed.id == str(uuid.uuid5(uuid.UUID(rig.requests[0][1].id), "first"))
    rig.settle(half, Failed("503"))
    assert rig.send_next().batch is sealed


def test_what_is_halved_keeps_to_one_slot() -> None:
    """The parts of a batch go one after the other."""
    rig = Rig(max_in_flight=1)
    rig.fill()
    flight = rig.send_one()
    rig.settle(flight, REFUSED)
    assert rig.send() == [flight]


@pytest.mark.parametrize("seed", range(20))
def test_halving_takes_at_most_32_requests_a_batch(seed: int) -> None:
    """What is unresolved by then is a dead letter, and every event has exactly one end."""
    chance = random.Random(seed)
    bad = {number for number in range(1, 101) if chance.random() < chance.choice((0.02, 0.1, 0.5))} | {7}
    rig, service = hundred_events(bad)
    assert service.requests <= 32
    assert rig.idle()
    reasons = lost(rig)
    assert reasons.total() + len(service.taken) == 100
    assert bad.isdisjoint(service.taken)
    if service.requests < 32:
        assert reasons == {DeadLetterReason.INVALID: len(bad)}


def test_what_is_unresolved_is_told() -> None:
    """The rest of a batch with too many bad events is dead-lettered with that reason, not sent for ever."""
    rig, service = hundred_events(set(range(1, 101, 3)))
    assert service.requests == 32
    reasons = lost(rig)
    assert reasons[DeadLetterReason.UNRESOLVED] > 0
    assert rig.batcher.stats(0.0).dead_lettered_by_reason == dict(reasons)


def run_with_bad_sessions(seconds: float) -> list[bool]:
    """Ten tokens a second, more full batches than that, and one bad batch a second.

    Returns for each request whether it was a part of a batch that is being halved.
    """
    rig = Rig(make_store(max_batch_events=20), rate=10.0, burst=1, max_in_flight=16)
    service = Picky(set(range(0, 100_000, 5)))
    halved: list[bool] = []

    def answer(batch: SealedBatch) -> Outcome:
        halved.append(uuid.UUID(batch.id).version == 5)
        return service(batch) if batch.session_id in bad_sessions else DELIVERED

    bad_sessions = {session(of).id for of in range(5)}
    while rig.now < seconds:
        for of in (int(rig.now) % 5, *range(10, 26)):
            rig.fill(of, 20)
        rig.run(answer, until=rig.now + 1.0)
    return halved


def test_halving_spends_a_tenth_of_the_tokens() -> None:
    """However many batches are refused, the search for bad events gets one token in ten."""
    halved = run_with_bad_sessions(200.0)
    assert 150 < sum(halved) <= 0.1 * 10.0 * 200.0 + 8 + 1  # a burst of eight at the start


def test_a_search_for_bad_events_leaves_slots_and_tokens_to_others() -> None:
    """Batches that wait for their turn in the search don't keep good ones from being sent."""
    halved = run_with_bad_sessions(200.0)
    assert halved.count(False) > 0.75 * 10.0 * 200.0


def test_rare_bad_events_do_not_slow_down_a_full_load() -> None:
    """At full load with one bad event in two thousand, nearly all tokens still carry good batches."""
    rig = Rig(
        make_store(max_batch_events=20, max_pending_bytes=1 << 25), rate=40.0, burst=10, max_in_flight=32
    )
    service = Picky(set(range(7, 200_000, 400)))  # as rare among batches as 1 in 2000 is among larger ones
    for tick in range(60 * 40):
        for _ in range(20):
            rig.record(tick % 400)
        rig.run(service, until=(tick + 1) / 40.0)
    assert len(rig.requests) > 0.8 * 60 * 40


def test_while_nothing_good_comes_of_several_no_other_batch_is_sealed() -> None:
    """With four refused batches being searched and nothing else delivered, the next ones wait."""
    rig = Rig(make_store(max_batch_events=8), max_in_flight=32)
    for of in range(4):
        rig.fill(of, 8)
    flights = rig.send()
    rig.settle(flights[:3], REFUSED)
    rig.fill(5, 8)
    assert session(5).id in {flight.batch.session_id for flight in rig.send()}
    rig.settle(flights[3], REFUSED)
    rig.fill(6, 8)
    assert session(6).id not in {flight.batch.session_id for flight in rig.send()}
    rig.settle(flights[0], DELIVERED)
    assert session(6).id in {flight.batch.session_id for flight in rig.send()}


def test_one_batch_is_halved_at_a_time_while_nothing_is_delivered() -> None:
    """Several refused batches are searched one after the other, until a good event is found."""
    rig = Rig()
    rig.fill(1)
    rig.fill(2)
    one, other = rig.send()
    rig.settle((one, other), REFUSED)
    assert rig.send_one() is one
    rig.settle(one, DELIVERED)
    assert set(rig.send()) == {one, other}


# Three batches without a good event -----------------------------------------------------------------------


def refuse_wholly(rig: Rig, of: int, monitor: AppMonitor) -> None:
    """Send a batch of two events, and refuse all of it."""
    rig.fill(of, 2, monitor=monitor)
    while rig.store.lanes.get(monitor) and (
        rig.store.lanes[monitor].flights or rig.store.lanes[monitor].oldest
    ):
        rig.settle(rig.send_next(), REFUSED)


@pytest.mark.parametrize("monitor", [HOME, OTHER])
def test_three_batches_without_a_good_event_hold_their_app_monitor(monitor: AppMonitor) -> None:
    """Then its details are wrong, not the events: the rest stays pending, and the host hears it once."""
    rig = Rig(make_store(max_batch_events=2))
    for of in range(3):
        assert rig.batcher.health() == "ok"
        refuse_wholly(rig, of, monitor)
    assert rig.batcher.health() == "held"
    rig.notices()
    holds = [notice for notice in rig.heard if isinstance(notice, HoldStarted)]
    assert holds == [
        HoldStarted(HoldScope.APP_MONITOR, monitor.id, "ValidationException", "1 validation error detected")
    ]
    rig.fill(9, 2, monitor=monitor)
    assert rig.send() == []
    rig.fill(9, 2, monitor=OTHER if monitor is HOME else HOME)
    assert rig.send_one().lane.app_monitor is not monitor


@pytest.mark.parametrize("monitor", [HOME, OTHER])
def test_a_good_event_ends_the_streak(monitor: AppMonitor) -> None:
    """Two wholly refused batches, one with a good event, and two refused ones are no hold."""
    rig = Rig(make_store(max_batch_events=2))
    refuse_wholly(rig, 1, monitor)
    refuse_wholly(rig, 2, monitor)
    rig.fill(3, 2, monitor=monitor)
    rig.settle(rig.send_next(), REFUSED)
    rig.settle(rig.send_next(), DELIVERED)
    rig.settle(rig.send_next(), REFUSED)
    refuse_wholly(rig, 4, monitor)
    refuse_wholly(rig, 5, monitor)
    assert rig.batcher.health() == "ok"


def test_a_hold_for_rejections_ends_with_a_delivery() -> None:
    """A later batch that the service takes ends the hold, and the rest goes on by itself."""
    rig = Rig(make_store(max_batch_events=2))
    for of in range(3):
        refuse_wholly(rig, of, HOME)
    rig.fill(7, 2)
    rig.fill(8, 2)
    probe = rig.send_next()
    rig.settle(probe, REFUSED)  # halved under the hold
    rig.settle(rig.send_next(), DELIVERED)
    assert rig.batcher.health() == "ok"
    rig.notices()
    assert any(isinstance(notice, HoldEnded) for notice in rig.heard)
    rig.run(lambda _: DELIVERED)
    assert rig.idle()


def test_a_parked_search_does_not_block_the_probe_of_its_own_gate() -> None:
    """A half-searched batch that a hold has parked lets the hold's probe be searched."""
    rig = Rig(max_in_flight=8)
    rig.fill(1)
    rig.fill(2)
    for of in range(3, 6):
        rig.record(of)
    rig.batcher.make_due()
    older, probe, *singles = sorted(rig.send(), key=lambda flight: flight.seq)
    rig.settle((older, probe), REFUSED)
    rig.now = 1.0
    assert rig.send_one() is older
    rig.settle(older, REFUSED)
    rig.settle(singles, REFUSED)
    assert rig.batcher.health() == "held"
    assert rig.send_next() is probe  # it was sent longer ago
    rig.settle(probe, REFUSED)
    assert rig.send_next() is probe
    rig.settle(probe, DELIVERED)
    rig.run(lambda _: DELIVERED)
    assert rig.idle()


# Too large ------------------------------------------------------------------------------------------------


def large(rig: Rig, of: int, size: int = 8_000) -> Flight:
    """Send a batch of four events of that size."""
    rig.fill(of, 4, size=size)
    return rig.send_one()


def test_a_batch_that_is_too_large_is_split() -> None:
    """Its halves go with derived ids and everything arrives."""
    rig = Rig()
    flight = large(rig, 1)
    parent = uuid.UUID(flight.batch.id)
    rig.settle(flight, TooLarge())
    first = rig.send_one()
    assert (first.batch.id, numbers(first.batch)) == (str(uuid.uuid5(parent, "first")), [1, 2])
    rig.settle(first, DELIVERED)
    second = rig.send_one()
    assert (second.batch.id, numbers(second.batch)) == (str(uuid.uuid5(parent, "second")), [3, 4])
    rig.settle(second, DELIVERED)
    assert rig.idle()


def test_a_413_halves_the_size_limit_once_for_several_at_a_time() -> None:
    """The limit becomes half of what was refused, so several refusals of one size halve it once."""
    rig = Rig(make_store(max_batch_bytes=100_000))
    flights = [large(rig, of, 20_000) for of in range(3)]
    size = len(flights[0].batch.body())
    rig.settle(flights, TooLarge())
    assert rig.store.max_batch_bytes == size // 2
    assert rig.batcher.stats(0.0).max_batch_bytes == size // 2


def test_later_batches_keep_to_the_halved_limit() -> None:
    """What was open already is sealed in pieces that fit, in order, and closed earlier from then on."""
    rig = Rig(make_store(max_batch_events=10, max_batch_bytes=100_000))
    rig.fill(2, 9, size=8_000)
    rig.store.max_batch_bytes = 40_000  # as after a 413
    rig.batcher.make_due()
    sent = []
    while flights := rig.send():
        for flight in flights:
            sent.append(flight.batch)
            rig.settle(flight, DELIVERED)
    assert all(len(batch.body()) <= 40_000 for batch in sent)
    assert [number for batch in sent for number in numbers(batch)] == list(range(1, 10))
    rig.fill(3, 9, size=8_000)
    assert {len(flight.batch.events) for flight in rig.send()} == {4}


def test_the_size_limit_has_a_floor() -> None:
    """However often the service refuses, the limit stays at 16 KiB, where single events fit."""
    rig = Rig()
    rig.run(lambda batch: TooLarge() if len(batch.events) > 1 else DELIVERED)
    for of in range(6):
        rig.fill(of, 4, size=6_000)
        rig.run(lambda batch: TooLarge() if len(batch.events) > 1 else DELIVERED)
    assert rig.store.max_batch_bytes == 16 * 1024
    assert rig.counts == (0, 0, 24)


def test_a_small_limit_is_never_raised_by_a_413() -> None:
    """A limit that was set below the floor stays as it is."""
    rig = Rig(make_store(max_batch_bytes=2_000))
    rig.fill(1, 4, size=300)
    rig.settle(rig.send_one(), TooLarge())
    assert rig.store.max_batch_bytes == 2_000


def test_a_single_event_that_is_too_large_is_a_dead_letter() -> None:
    """It is lost with that reason, and the others of its batch arrive."""
    rig = Rig()
    rig.fill(1)
    rig.run(lambda batch: TooLarge("RequestTooLarge") if 3 in numbers(batch) else DELIVERED)
    assert rig.counts == (0, 0, 3)
    (notice,) = (notice for notice in rig.heard if isinstance(notice, DeadLettered))
    assert (notice.reason, notice.detail, notice.events) == (
        DeadLetterReason.TOO_LARGE,
        "RequestTooLarge",
        (b'{"n":3}',),
    )


def test_splitting_spends_nothing_of_the_halving_share() -> None:
    """The parts of a batch that was too large go at once: no event of it is suspect."""
    rig = Rig(make_store(max_batch_events=64), rate=1.0, burst=100)
    rig.fill(1, 64)
    rig.run(lambda batch: TooLarge() if len(batch.events) > 1 else DELIVERED, latency=0.01)
    assert rig.idle()
    assert len(rig.requests) == 127
    assert rig.now < 30.0
