"""The close and what it leaves; order among retries; what a debugger shows."""

from __future__ import annotations

import math
import random

import pytest

from rumbuffer.core.notices import DropReason
from rumbuffer.core.outcomes import Failed, HoldScope, Misconfigured, Rejected, Throttled
from rumbuffer.settings import RetryPolicy
from tests.core.helpers import DELIVERED, OTHER, Rig, numbers

FAILED = Failed("InternalServerException")


def test_the_close_makes_everything_due_and_hurries_what_waits() -> None:
    """At the close, lingering and backoffs end; what the service asked for with `Retry-After` is kept."""
    rig = Rig(jitter=lambda: 0.0)
    rig.fill(1)
    rig.fill(2)
    one, two = rig.send()
    rig.settle(one, Failed("500", 20.0))
    rig.settle(two, Throttled(30.0))
    rig.record(3)
    rig.batcher.begin_close(rig.now)
    sent = rig.send()
    assert [numbers(flight.batch)[0] for flight in sent] == [1, 9]
    assert not rig.batcher.settled_before(1 << 62)
    assert rig.wait() == 30.0
    rig.settle(sent, DELIVERED)
    rig.run(lambda _: DELIVERED)
    assert rig.batcher.settled_before(1 << 62)
    assert rig.wait() == math.inf


@pytest.mark.parametrize("scope", HoldScope)
def test_the_close_tries_a_hold_at_once_and_soon_again(scope: HoldScope) -> None:
    """A hold that had a minute to wait is probed as soon as the close begins, and each few seconds then."""
    wrong = Misconfigured(scope, "AccessDeniedException")
    rig = Rig()
    rig.fill(1)
    rig.run(lambda _: wrong, until=200.0)
    assert rig.wait() > 205.0
    rig.batcher.begin_close(200.0)
    rig.requests.clear()
    rig.run(lambda _: wrong, until=206.0)
    assert len(rig.requests) == 2
    rig.run(lambda _: DELIVERED, until=220.0)
    assert rig.idle()


def test_the_close_tries_an_outage_at_once() -> None:
    """The backoff between an outage's probes is not waited out by a close."""
    rig = Rig(jitter=lambda: 0.9, max_in_flight=8)
    for number in range(8):
        rig.fill(number)
    rig.run(lambda _: FAILED, until=1000.0)
    while (at := rig.wait()) < rig.now + 2.0:
        rig.run(lambda _: FAILED, until=at)
    rig.batcher.begin_close(rig.now)
    rig.run(lambda _: DELIVERED, until=rig.now + 1.0)
    assert rig.idle()


def test_abandoning_counts_what_is_left_with_its_reason() -> None:
    """At the deadline, what may have been stored is `outcome_unknown`, all else `closed`."""
    rig = Rig(max_in_flight=3)
    for number in range(4):
        rig.fill(number)
    sending, failed, unsent = rig.send()
    rig.settle(failed, FAILED)
    rig.settle(unsent, Failed("ConnectionRefused", unsent=True))
    rig.batcher.abandon()
    stats = rig.batcher.stats(0.0)
    assert stats.dropped_by_reason == {DropReason.OUTCOME_UNKNOWN: 8, DropReason.CLOSED: 8}
    assert (stats.pending, stats.in_flight, stats.pending_bytes) == (0, 0, 0)
    rig.settle(sending, DELIVERED)
    assert rig.batcher.stats(0.0).delivered == 0


def test_of_a_halved_batch_only_the_part_under_way_may_have_been_stored() -> None:
    """Parts that were never sent are `closed`, not `outcome_unknown`."""
    rig = Rig()
    rig.fill(1)
    rig.settle(rig.send_one(), Rejected("bad"))
    rig.send_one()
    rig.batcher.abandon()
    assert rig.batcher.stats(0.0).dropped_by_reason == {DropReason.OUTCOME_UNKNOWN: 2, DropReason.CLOSED: 2}


def test_of_several_throttled_batches_the_oldest_goes_first() -> None:
    """Throttled batches go before failed ones and before new ones, in the order of their opening."""
    rig = Rig()
    for number in (1, 2, 3):
        rig.fill(number)
    failed, one, two = rig.send()
    rig.settle(two, Throttled(0.0))
    rig.settle(one, Throttled(0.0))
    rig.settle(failed, FAILED)
    rig.fill(4)
    rig.now = 60.0
    assert [numbers(flight.batch)[0] for flight in rig.send()] == [5, 9, 1, 13]


def share_of_retries(budget: float) -> float:
    """The share of retries while three requests in ten fail and new batches never end."""
    choose = random.Random(3)
    policy = RetryPolicy(budget=budget, max_failures=1_000)
    rig = Rig(rate=50.0, burst=1, max_in_flight=1_000, retry=policy)
    for step in range(800):
        rig.fill(step)
        rig.settle(rig.send_next(), FAILED if choose.random() < 0.3 else DELIVERED)
    stats = rig.batcher.stats(rig.now)
    return stats.retries / (stats.requests - stats.retries)


def test_the_retry_budget_bounds_the_share_of_retries() -> None:
    """While new batches wait, retries take the budget's share of the first tries and one a second."""
    assert share_of_retries(0.1) == pytest.approx(0.1 + 1 / 50, abs=0.03)
    assert share_of_retries(0.0) < 0.04
    assert share_of_retries(5.0) > 0.3


def test_a_wrong_setting_is_told_from_an_outage() -> None:
    """Health says `held` where a setting is wrong, also while another app monitor has an outage."""
    rig = Rig(max_in_flight=20)
    for number in range(9):
        rig.fill(number)
    rig.fill(1, monitor=OTHER)
    assert rig.batcher.health() == "ok"
    wrong = Misconfigured(HoldScope.APP_MONITOR, "ResourceNotFoundException", "no such app monitor")
    rig.run(lambda batch: wrong if batch.app_monitor == OTHER else FAILED, until=10.0)
    assert rig.batcher.health() == "held"
    holds = {hold.code: hold for hold in rig.batcher.stats(rig.now).holds}
    assert set(holds) == {"ResourceNotFoundException", FAILED.reason}
    hold = holds["ResourceNotFoundException"]
    assert (hold.scope, hold.app_monitor_id) == (HoldScope.APP_MONITOR, OTHER.id)
    assert hold.message == "no such app monitor"
    assert hold.seconds == pytest.approx(9.95)
    assert 0.0 < hold.next_try <= 10.0


def test_a_flight_and_a_batch_tell_counts_and_ids_only() -> None:
    """What a debugger or a log shows of a batch holds no content of an event."""
    rig = Rig()
    rig.fill(1)
    flight = rig.send_one()
    assert repr(flight) == "<Flight sending of 4 events in 1 parts>"
    assert repr(flight.batch) == "<SealedBatch 00000000-0000-0000-0000-000000000001 of 4 events>"
