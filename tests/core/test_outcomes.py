"""Throttles and failures: when the same batch goes again, and when it is given up."""

from __future__ import annotations

import math

import pytest

from rumbuffer.core.notices import DeadLettered, DeadLetterReason, OutageEnded, OutageStarted
from rumbuffer.core.outcomes import Delivered, Failed, Outcome, Rejected, Throttled
from rumbuffer.core.sealed import SealedBatch
from rumbuffer.settings import RetryPolicy
from tests.core.helpers import DELIVERED, HOME, OTHER, Rig, make_store, session

FAILED = Failed("503")


def dead_letters(rig: Rig) -> list[DeadLettered]:
    """What was given up so far."""
    rig.notices()
    return [notice for notice in rig.heard if isinstance(notice, DeadLettered)]


def deliver_another(rig: Rig, of: int = 99) -> None:
    """Let a batch of another session be sent and delivered now."""
    rig.fill(of)
    (flight,) = (sent for sent in rig.send() if sent.batch.session_id == session(of).id)
    rig.settle(flight, DELIVERED)


# Delivered ------------------------------------------------------------------------------------------------


def test_a_delivered_batch_is_counted_and_its_room_is_free() -> None:
    """A delivered batch leaves nothing behind but its counts."""
    rig = Rig()
    rig.fill()
    rig.settle(rig.send_one(), DELIVERED)
    stats = rig.batcher.stats(0.0)
    assert (stats.delivered, stats.batches_delivered, stats.requests, stats.retries) == (4, 1, 1, 0)
    assert (stats.pending, stats.in_flight, stats.pending_bytes, stats.open_batches) == (0, 0, 0, 0)
    assert stats.health == "ok"
    assert rig.wait() == math.inf


# Throttled ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_a_throttled_batch_goes_again_after_its_retry_after(jitter: float) -> None:
    """The same batch, id and bytes, goes not before `Retry-After`, and at most a quarter later."""
    rig = Rig(jitter=lambda: jitter)
    rig.fill()
    flight = rig.send_one()
    sealed, body = flight.batch, flight.batch.body()
    rig.settle(flight, Throttled(8.0))
    assert rig.wait() == pytest.approx(8.0 + 2.0 * jitter)
    assert rig.send_next() is flight
    assert flight.batch is sealed
    assert flight.batch.body() == body
    assert rig.batcher.stats(rig.now).retries == 1


@pytest.mark.parametrize("wish", [60.1, 3600.0, 1e300, math.inf])
def test_a_retry_after_is_cut_at_a_minute(wish: float) -> None:
    """However long the service's wish, the batch is tried again after a minute and its jitter."""
    rig = Rig(jitter=lambda: 0.0)
    rig.fill()
    rig.settle(rig.send_one(), Throttled(wish))
    assert rig.wait() == 60.0


@pytest.mark.parametrize("wish", [None, -3.0, 0.0, math.nan])
def test_a_throttle_without_a_sensible_retry_after_waits_all_the_same(wish: float | None) -> None:
    """Without a wish that makes sense the batch goes again after a pause of the pacer's."""
    rig = Rig(jitter=lambda: 0.0)
    rig.fill()
    rig.settle(rig.send_one(), Throttled(wish))
    assert 0.0 < rig.wait() <= 1.0


def test_a_throttled_batch_goes_in_front() -> None:
    """When its time has come, it is sent before older failed batches and before full new ones."""
    rig = Rig(jitter=lambda: 0.0)
    rig.fill(1)
    failed = rig.send_one()
    rig.fill(2)
    throttled = rig.send_one()
    rig.settle(failed, FAILED)
    rig.settle(throttled, Throttled(2.0))
    rig.fill(3)
    rig.now = 2.0
    assert [flight.batch.session_id for flight in rig.send()] == [session(n).id for n in (2, 1, 3)]


def test_throttles_never_count_against_a_batch() -> None:
    """A batch that is throttled a hundred times while others are delivered is still delivered in the end."""
    rig = Rig(retry=RetryPolicy(max_failures=1))
    rig.fill(1)
    flight = rig.send_one()
    for _ in range(100):
        rig.settle(flight, Throttled(1.0))
        deliver_another(rig)
        rig.now += 2.0
        assert rig.send() == [flight]
    rig.settle(flight, DELIVERED)
    stats = rig.batcher.stats(rig.now)
    assert (stats.throttled, stats.failures, stats.dead_lettered) == (100, 0, 0)
    assert rig.idle()


def test_throttles_need_no_retry_credit() -> None:
    """However many batches are throttled at once, all go again before new ones."""
    rig = Rig(max_in_flight=40, retry=RetryPolicy(budget=0.0), jitter=lambda: 0.0)
    for of in range(30):
        rig.fill(of)
    flights = rig.send()
    rig.settle(flights, Throttled(1.0))
    rig.fill(50)
    rig.now = 1.0
    again = rig.send()
    assert set(again[:30]) == set(flights)
    assert len(again) == 31


def test_what_is_throttled_keeps_its_slot() -> None:
    """A batch that waits out its `Retry-After` is in flight: with no slot left nothing else is sealed."""
    rig = Rig(max_in_flight=1)
    rig.fill(1)
    rig.settle(rig.send_one(), Throttled(5.0))
    rig.fill(2)
    assert rig.send() == []
    assert rig.counts == (4, 4, 0)


# Failed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jitter", [0.0, 0.3, 0.999])
def test_backoff_doubles_with_full_jitter(jitter: float) -> None:
    """The delay is drawn from 0 up to a bound that doubles with each failure, until `max_delay`."""
    rig = Rig(retry=RetryPolicy(base_delay=0.2, max_delay=5.0), jitter=lambda: jitter)
    rig.fill()
    flight = rig.send_one()
    for bound in (0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0):
        rig.settle(flight, FAILED)
        assert flight.not_before - rig.now == pytest.approx(jitter * bound)
        rig.now = flight.not_before
        assert rig.send_next() is flight


def test_a_failed_batch_goes_again_unchanged() -> None:
    """A retry carries the same id and bytes, for the first try may have been stored."""
    rig = Rig()
    rig.fill()
    rig.settle(rig.send_one(), FAILED)
    rig.send_next()
    (_, first), (_, second) = rig.requests
    assert first is second


@pytest.mark.parametrize(
    ("wish", "delay"), [(7.0, 7.0), (1e9, 60.0), (0.0, 0.1), (-5.0, 0.1), (math.nan, 0.1), (None, 0.1)]
)
def test_a_failures_retry_after_is_honoured(wish: float | None, delay: float) -> None:
    """`Retry-After` of a 503 lengthens the backoff, up to a minute, and never shortens it."""
    rig = Rig()
    rig.fill()
    rig.settle(rig.send_one(), Failed("503", retry_after=wish))
    assert rig.wait() == pytest.approx(delay)


def test_the_retry_budget_only_ranks() -> None:
    """Retries beyond the budget stand behind new batches, but go when nobody else wants the token."""
    rig = Rig(max_in_flight=20, retry=RetryPolicy(budget=0.0), jitter=lambda: 0.0)
    for of in range(13):
        rig.fill(of, monitor=HOME if of < 7 else OTHER)  # eight failures of one would be an outage
    failed = rig.send()
    rig.settle(failed, FAILED)
    rig.fill(50)
    again = rig.send()
    assert [flight in failed for flight in again] == [True] * 10 + [False] + [True] * 3


def test_one_retry_a_second_is_always_allowed() -> None:
    """Credit comes back with time, so that a retry goes before new batches even without a budget."""
    rig = Rig(max_in_flight=20, retry=RetryPolicy(budget=0.0), jitter=lambda: 0.0)
    for of in range(12):
        rig.fill(of, monitor=HOME if of < 6 else OTHER)
    failed = rig.send()
    rig.settle(failed, FAILED)
    rig.settle(rig.send(), DELIVERED)  # spends all credit
    rig.fill(1)
    late = rig.send_one()
    rig.settle(late, FAILED)
    rig.now += 1.0
    rig.fill(50)
    assert rig.send()[0] is late


def test_first_tries_earn_credit_for_retries() -> None:
    """Five first tries earn one retry at a budget of 0.2, and it goes before new batches."""
    rig = Rig(max_in_flight=20, retry=RetryPolicy(budget=0.2), jitter=lambda: 0.0)
    for of in range(14):
        rig.fill(of, monitor=HOME if of < 7 else OTHER)
    failed = rig.send()
    rig.settle(failed, FAILED)
    rig.fill(50)
    again = rig.send()
    assert [flight in failed for flight in again] == [True] * 12 + [False] + [True] * 2  # 10 + 14 x 0.2


# A connection that the server had closed ------------------------------------------------------------------


def test_a_stale_connection_is_worth_one_immediate_retry() -> None:
    """The first time it goes again at once; the second time it is a failure with backoff."""
    rig = Rig()
    rig.fill()
    flight = rig.send_one()
    rig.settle(flight, Failed("reset", stale_connection=True))
    assert rig.send_one() is flight
    rig.settle(flight, Failed("reset", stale_connection=True))
    assert rig.wait() == pytest.approx(0.1)


def test_the_retry_on_a_fresh_connection_counts_against_nothing() -> None:
    """It takes no credit, no part in an outage, and is none of the failures that a batch may have."""
    rig = Rig(max_in_flight=20, retry=RetryPolicy(max_failures=1, budget=0.0), jitter=lambda: 0.0)
    for of in range(15):
        rig.fill(of)
    flights = rig.send()
    deliver_another(rig)
    rig.settle(flights, Failed("reset", stale_connection=True))
    assert rig.batcher.health() == "ok"
    rig.fill(50)
    assert rig.send()[:15] == flights
    assert dead_letters(rig) == []


# Giving up ------------------------------------------------------------------------------------------------


def test_a_batch_is_given_up_after_eight_failures_while_others_are_delivered() -> None:
    """The eighth failure with a delivery before each ends it, with all that a host needs to keep it."""
    rig = Rig(jitter=lambda: 0.0)
    rig.fill(1)
    flight = rig.send_one()
    batch = flight.batch
    for failures in range(8):
        assert rig.counts[1] == 4, f"given up after {failures} failures"
        rig.now += 1.0
        deliver_another(rig)
        rig.settle(flight, Failed("InternalServerException"))
        if failures < 7:
            assert rig.send_next() is flight
    assert dead_letters(rig) == [
        DeadLettered(
            DeadLetterReason.TOO_MANY_FAILURES,
            "InternalServerException",
            batch.id,
            batch.app_monitor.id,
            batch.session_id,
            batch.user_id,
            batch.events,
        )
    ]
    stats = rig.batcher.stats(rig.now)
    assert stats.dead_lettered_by_reason == {"too_many_failures": 4}
    assert (stats.in_flight, stats.failures, stats.pending_bytes) == (0, 8, 0)


def test_a_failure_counts_only_if_another_was_delivered_since_the_last() -> None:
    """Failures in between which nothing was delivered count as one."""
    rig = Rig(retry=RetryPolicy(max_failures=2), jitter=lambda: 0.0)
    rig.fill(1)
    flight = rig.send_one()
    rig.now += 1.0
    deliver_another(rig)
    for _ in range(6):
        rig.settle(flight, FAILED)
        rig.now += 1.0
        assert rig.send_next() is flight
    assert dead_letters(rig) == []
    deliver_another(rig)
    rig.settle(flight, FAILED)
    assert len(dead_letters(rig)) == 1


def test_a_delivery_that_was_sent_before_the_last_failure_counts_nothing() -> None:
    """A late answer tells of an older state of the service."""
    rig = Rig(retry=RetryPolicy(max_failures=1), jitter=lambda: 0.0)
    rig.fill(1)
    rig.fill(2)
    flight, early = rig.send()
    rig.now = 1.0
    rig.settle(flight, FAILED)
    rig.settle(early, DELIVERED)
    assert rig.send_one() is flight
    rig.settle(flight, FAILED)
    assert dead_letters(rig) == []


def test_another_app_monitors_deliveries_do_not_count() -> None:
    """What is delivered for one app monitor does not give up batches of another, which may be down."""
    rig = Rig(retry=RetryPolicy(max_failures=1), jitter=lambda: 0.0)
    rig.fill(1, monitor=OTHER)
    flight = rig.send_one()
    for _ in range(5):
        rig.now += 1.0
        deliver_another(rig)
        rig.settle(flight, FAILED)
        assert rig.send_one() is flight
    assert dead_letters(rig) == []


# Outage ---------------------------------------------------------------------------------------------------


class Traffic:
    """Visitors who record ten events a second, and a service that is down for a while."""

    def __init__(self, rig: Rig, *, down: tuple[float, float], poison: frozenset[int] = frozenset()) -> None:
        self.rig = rig
        self.down = down
        self.poisoned = {session(of).id for of in poison}
        self.recorded = 0

    def answer(self, batch: SealedBatch) -> Outcome:
        """Fail while it is down, and for poisoned sessions always."""
        if self.down[0] <= self.rig.now < self.down[1] or batch.session_id in self.poisoned:
            return FAILED
        return DELIVERED

    def go_on(self, until: float, *, every: float = 0.1, sessions: int = 12) -> None:
        """Record and send until that time."""
        while self.rig.now < until:
            self.rig.record(self.recorded % sessions)
            self.recorded += 1
            self.rig.run(self.answer, until=self.rig.now + every)


def test_an_outage_of_an_hour_expires_nothing() -> None:
    """Sealing stops, a few requests probe, nothing is lost, and all is delivered soon after the end."""
    rig = Rig(make_store(max_batch_events=100, max_pending_bytes=1 << 26), rate=40.0, max_in_flight=32)
    traffic = Traffic(rig, down=(60.0, 3660.0))
    traffic.go_on(60.0)
    before = len(rig.requests)
    traffic.go_on(3660.0)
    stats = rig.batcher.stats(rig.now)
    assert stats.health == "outage"
    assert (stats.dropped, stats.dead_lettered) == (0, 0)
    assert len(rig.requests) - before < 400
    assert len({batch.id for _, batch in rig.requests[before:]}) <= 40
    delivered_before = rig.counts[2]
    traffic.go_on(3720.0)
    stats = rig.batcher.stats(rig.now)
    assert stats.health == "ok"
    assert stats.delivered > delivered_before + 35_000
    assert stats.pending < 700  # what lingers
    assert (stats.dropped, stats.dead_lettered) == (0, 0)
    (started,) = (notice for notice in rig.heard if isinstance(notice, OutageStarted))
    assert started == OutageStarted(HOME.id, "503")
    (ended,) = (notice for notice in rig.heard if isinstance(notice, OutageEnded))
    assert 3590.0 < ended.seconds < 3640.0


def test_an_outage_starts_with_eight_failures_in_a_row() -> None:
    """Fewer failures happen by chance; from the eighth on nothing new is sealed."""
    rig = Rig(max_in_flight=10)
    for of in range(8):
        rig.fill(of)
    flights = rig.send()
    rig.settle(flights[:7], FAILED)
    assert rig.batcher.health() == "ok"
    rig.settle(flights[7], FAILED)
    assert rig.batcher.health() == "outage"
    rig.fill(50)
    rig.now += 0.01
    assert rig.send() == []


def test_a_delivery_between_failures_is_no_outage() -> None:
    """Failures must be in a row: one answer in eight that is no failure keeps all going."""
    rig = Rig(max_in_flight=20, jitter=lambda: 0.0)
    for of in range(16):
        rig.fill(of)
    flights = rig.send()
    rig.settle(flights[:7], FAILED)
    rig.settle(flights[7], Rejected("no"))
    rig.settle(flights[8:15], FAILED)
    assert rig.batcher.health() == "ok"


def test_in_an_outage_one_batch_at_a_time_probes_with_backoff() -> None:
    """Each probe waits for the answer to the one before, and then for a longer time, to half a minute."""
    rig = Rig(max_in_flight=10, jitter=lambda: 0.999)
    for of in range(8):
        rig.fill(of)
    rig.settle(rig.send(), FAILED)
    gaps = []
    for _ in range(10):
        at = rig.now
        probe = rig.send_next()
        gaps.append(rig.now - at)
        assert rig.send() == []
        assert rig.wait() == math.inf
        rig.settle(probe, FAILED)
    assert gaps[-1] == pytest.approx(30.0, rel=0.01)
    assert all(gap <= 30.0 for gap in gaps)


def test_what_the_probes_retry_after_says_is_kept() -> None:
    """In an outage too, a 503's `Retry-After` is honoured."""
    rig = Rig(max_in_flight=10, jitter=lambda: 0.0)
    for of in range(8):
        rig.fill(of)
    rig.settle(rig.send(), FAILED)
    rig.settle(rig.send_next(), Failed("503", retry_after=45.0))
    assert rig.wait() == rig.now + 45.0


@pytest.mark.parametrize("answer", [DELIVERED, Rejected("x"), Throttled(1.0)])
def test_an_outage_ends_with_the_services_first_answer(answer: Outcome) -> None:
    """Then all that was parked goes again soon, unchanged, and what is pending is sealed."""
    rig = Rig(max_in_flight=10)
    for of in range(8):
        rig.fill(of)
    flights = rig.send()
    sealed = {flight.batch.id: flight.batch for flight in flights}
    rig.settle(flights, FAILED)
    rig.fill(50)
    probe = rig.send_next()
    parked = sealed.keys() - {probe.batch.id}
    rig.settle(probe, answer)
    assert rig.batcher.health() == "ok"
    before = len(rig.requests)
    rig.run(lambda _: DELIVERED, until=rig.now + 60.0)
    again = [batch for _, batch in rig.requests[before:]]
    assert parked <= {batch.id for batch in again}
    assert all(sealed[batch.id] is batch for batch in again if batch.id in sealed)
    assert rig.idle()
    assert rig.counts[2] == 36


def test_the_other_app_monitors_go_on_in_an_outage_of_one() -> None:
    """An outage is one app monitor's; the tokens and slots are the others'."""
    rig = Rig(max_in_flight=8)
    for of in range(8):
        rig.fill(of, monitor=OTHER)
    rig.settle(rig.send(), FAILED)
    for of in range(8):
        rig.fill(of)
    assert len(rig.send()) == 8


# Poison ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("poison", "within"), [(1, 900.0), (8, 900.0), (12, 900.0), (13, 900.0), (32, 900.0), (40, 3600.0)]
)
def test_batches_that_always_fail_do_not_pass_for_an_outage_for_ever(poison: int, within: float) -> None:
    """A service that chokes on some batches gets everything else, and those are given up."""
    rig = Rig(rate=40.0, max_in_flight=32)
    poisoned = range(1000, 1000 + poison)
    traffic = Traffic(rig, down=(0.0, 0.0), poison=frozenset(poisoned))
    for of in (*poisoned, *range(40)):
        rig.fill(of)
    traffic.go_on(within, every=0.5, sessions=60)
    lost = dead_letters(rig)
    assert {notice.reason for notice in lost} == {DeadLetterReason.TOO_MANY_FAILURES}
    assert {notice.session_id for notice in lost} == traffic.poisoned
    stats = rig.batcher.stats(rig.now)
    assert stats.health == "ok"
    assert stats.pending + stats.in_flight < 15
    assert stats.delivered > 2.0 * within


def test_sessions_that_keep_failing_are_given_up_while_others_are_delivered() -> None:
    """Where one session in six always fails, the others go on, and failed batches don't pile up."""
    rig = Rig(rate=40.0, max_in_flight=32)
    traffic = Traffic(rig, down=(0.0, 0.0), poison=frozenset(range(10)))
    traffic.go_on(1800.0, every=0.5, sessions=60)
    stats = rig.batcher.stats(rig.now)
    assert stats.delivered > 2500
    assert stats.dead_lettered > 300
    assert len(rig.home.flights) < 64


def test_a_poison_batch_of_a_lone_session_does_not_stop_the_next_ones() -> None:
    """Also when all batches are one session's, the good ones arrive and the others are given up."""
    rig = Rig(make_store(max_batch_events=4), rate=40.0, max_in_flight=32)

    def answer(batch: SealedBatch) -> Outcome:
        return FAILED if any(b'"p"' in event for event in batch.events) else DELIVERED

    for number in range(1600):
        rig.record(1, size=60 if number < 40 and number % 4 == 0 else 0)
        rig.run(answer, until=rig.now + 0.5)
    rig.run(answer, until=rig.now + 900.0)
    stats = rig.batcher.stats(rig.now)
    assert stats.health == "ok"
    assert rig.idle()
    assert stats.dead_lettered_by_reason == {"too_many_failures": 1600 - stats.delivered}
    assert 10 <= stats.dead_lettered <= 40  # ten batches of four at most


def test_the_outcomes_are_plain_values() -> None:
    """Outcomes compare by value, so that a sender's tests can."""
    assert Delivered() == DELIVERED
    assert Failed("503") == FAILED != Failed("500")
