"""Holds and outages: what shuts a gate, what opens it, and how it is tried."""

from __future__ import annotations

import itertools
import math
from typing import cast

import pytest

from rumbuffer.core.flights import Flight, FlightState
from rumbuffer.core.gates import Gate, Obstacle
from rumbuffer.core.notices import (
    DeadLettered,
    Dropped,
    DropReason,
    HoldEnded,
    HoldStarted,
    OutageEnded,
    OutageStarted,
)
from rumbuffer.core.outcomes import Failed, HoldScope, Misconfigured, Outcome, Rejected, Throttled, TooLarge
from rumbuffer.events import AppMonitor
from tests.core.helpers import DELIVERED, HOME, OTHER, Rig, make_store, numbers, session

FAILED = Failed("503")
GONE = Misconfigured(HoldScope.APP_MONITOR, "ResourceNotFoundException", "no such app monitor")
DENIED = Misconfigured(HoldScope.APP_MONITOR, "AccessDeniedException", "not authorised")
EXPIRED = Misconfigured(HoldScope.SENDER, "ExpiredTokenException", "the token is expired")

ANSWERS: dict[str, Outcome] = {
    "delivered": DELIVERED,
    "rejected": Rejected("x"),
    "too large": TooLarge(),
    "throttled": Throttled(1.0),
    "failed": FAILED,
    "app monitor refused": GONE,
    "sender refused": EXPIRED,
}

OPENS: dict[tuple[Obstacle, HoldScope], set[str]] = {
    (Obstacle.OUTAGE, HoldScope.APP_MONITOR): {"delivered", "rejected", "too large", "throttled"},
    (Obstacle.SETTING, HoldScope.APP_MONITOR): {"delivered", "rejected", "too large"},
    (Obstacle.SETTING, HoldScope.SENDER): {"delivered", "rejected", "too large", "app monitor refused"},
    (Obstacle.REJECTIONS, HoldScope.APP_MONITOR): {"delivered"},
}


# The table ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(("obstacle", "scope"), OPENS)
def test_each_answer_opens_what_it_says(obstacle: Obstacle, scope: HoldScope, answer: str) -> None:
    """A gate opens for what proves that nothing stands in the way, and for nothing else."""
    gate = Gate(scope, None)
    gate.shut(obstacle, "code", "message", 10.0)
    assert gate.is_opened_by(ANSWERS[answer], 10.0) == (answer in OPENS[obstacle, scope])


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(("obstacle", "scope"), OPENS)
def test_an_answer_from_before_opens_nothing(obstacle: Obstacle, scope: HoldScope, answer: str) -> None:
    """A request that was sent before the gate was shut tells of an older state of the world."""
    gate = Gate(scope, None)
    gate.shut(obstacle, "code", "message", 10.0)
    assert not gate.is_opened_by(ANSWERS[answer], 9.999)


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_open_gate_is_not_opened(answer: str) -> None:
    """Nothing is to be done where nothing stands in the way."""
    gate = Gate(HoldScope.SENDER, None)
    assert not gate.is_opened_by(ANSWERS[answer], 0.0)
    assert gate.open(0.0) == []


def test_a_gate_tells_when_it_shuts_opens_and_changes() -> None:
    """The host hears each change once, with how long the old state lasted."""
    gate = Gate(HoldScope.APP_MONITOR, "id")
    assert gate.shut(Obstacle.OUTAGE, "503", "", 1.0) == [OutageStarted("id", "503")]
    assert gate.shut(Obstacle.OUTAGE, "504", "", 2.0) == []
    assert gate.shut(Obstacle.SETTING, "404", "gone", 3.0) == [
        OutageEnded("id", 2.0),
        HoldStarted(HoldScope.APP_MONITOR, "id", "404", "gone"),
    ]
    assert gate.shut(Obstacle.REJECTIONS, "400", "bad", 4.0) == [
        HoldEnded(HoldScope.APP_MONITOR, "id", 1.0),
        HoldStarted(HoldScope.APP_MONITOR, "id", "400", "bad"),
    ]
    assert gate.open(6.5) == [HoldEnded(HoldScope.APP_MONITOR, "id", 2.5)]
    assert not gate.is_shut


def test_probes_come_after_5_s_doubling_to_60() -> None:
    """The time between probes doubles up to a minute; a new obstacle starts over."""
    gate, flight = Gate(HoldScope.SENDER, None), cast("Flight", object())
    gate.shut(Obstacle.SETTING, "403", "", 0.0)
    waits = [gate.probe_at]
    for _ in range(5):
        gate.probe_sent(flight)
        gate.probe_failed(100.0)
        waits.append(gate.probe_at - 100.0)
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    gate.shut(Obstacle.REJECTIONS, "400", "", 200.0)
    assert gate.probe_at == 205.0


# Holds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [GONE, DENIED])
@pytest.mark.parametrize("monitor", [HOME, OTHER])
def test_a_refused_app_monitor_is_held_alone(answer: Misconfigured, monitor: AppMonitor) -> None:
    """403 and 404 stop one app monitor; its events stay pending, and the others' go on."""
    other = OTHER if monitor is HOME else HOME
    rig = Rig()
    rig.fill(1, monitor=monitor)
    rig.settle(rig.send_one(), answer)
    rig.fill(2, monitor=monitor)
    rig.fill(3, monitor=other)
    assert rig.send_one().lane.app_monitor is other
    assert rig.counts == (8, 4, 0)
    stats = rig.batcher.stats(1.0)
    assert stats.health == "held"
    (hold,) = stats.holds
    assert (hold.scope, hold.app_monitor_id) == (HoldScope.APP_MONITOR, monitor.id)
    assert (hold.code, hold.message, hold.seconds, hold.next_try) == (answer.code, answer.message, 1.0, 4.0)
    assert rig.notices() == [HoldStarted(HoldScope.APP_MONITOR, monitor.id, answer.code, answer.message)]


def test_a_senders_hold_stops_everything() -> None:
    """Without valid credentials nothing is sent for any app monitor."""
    rig = Rig()
    rig.fill(1)
    rig.settle(rig.send_one(), EXPIRED)
    rig.fill(2)
    rig.fill(3, monitor=OTHER)
    assert rig.send() == []
    assert rig.batcher.health() == "held"
    assert rig.notices() == [HoldStarted(HoldScope.SENDER, None, EXPIRED.code, EXPIRED.message)]


def test_what_was_surely_not_stored_is_pending_again() -> None:
    """A batch that a hold refused is dissolved: it takes more events, and a new id when it is sealed."""
    rig = Rig()
    rig.fill(1, 3)
    rig.batcher.make_due()
    rig.settle(rig.send_one(), GONE)
    assert rig.counts == (3, 0, 0)
    rig.record(1)
    assert rig.store.open_batches() == 1
    again = rig.send_next()
    assert numbers(again.batch) == [1, 2, 3, 4]
    assert again.batch.id != rig.requests[0][1].id


def test_what_may_have_been_stored_keeps_its_id_under_a_hold() -> None:
    """A batch that failed before the setting went wrong is sent again as it was, or not at all."""
    rig = Rig()
    rig.fill()
    flight = rig.send_one()
    sealed = flight.batch
    rig.settle(flight, Failed("time-out"))
    rig.settle(rig.send_next(), GONE)
    assert flight.state is FlightState.PARKED
    assert rig.counts == (0, 4, 0)
    assert rig.send_next().batch is sealed


def test_a_connection_that_never_was_stores_nothing() -> None:
    """A failure that never reached the service leaves the batch free to be dissolved."""
    rig = Rig()
    rig.fill()
    rig.settle(rig.send_one(), Failed("refused", unsent=True))
    rig.settle(rig.send_next(), GONE)
    assert rig.counts == (4, 0, 0)


def test_parts_of_a_batch_are_dissolved_too() -> None:
    """Halves of a refused batch that meet a hold become one open batch again, without what arrived."""
    rig = Rig()
    rig.fill()
    rig.settle(rig.send_one(), Rejected("x"))
    rig.settle(rig.send_one(), DELIVERED)
    rig.settle(rig.send_one(), GONE)
    assert rig.counts == (2, 0, 2)
    assert numbers(rig.send_next().batch) == [3, 4]


def test_a_held_batch_goes_back_to_its_place() -> None:
    """What was sealed first is sealed first again, also where a session has newer batches open."""
    rig = Rig(max_in_flight=3)
    rig.fill(1)
    rig.fill(2)
    rig.fill(1)
    flights = rig.send()
    rig.fill(1)
    for flight in reversed(flights):
        rig.settle(flight, GONE)
    rig.settle(rig.send_next(), DELIVERED)
    rig.run(lambda _: DELIVERED)
    of_one = [
        number
        for _, batch in rig.requests[3:]
        if batch.session_id == session(1).id
        for number in numbers(batch)
    ]
    assert of_one == sorted(of_one)
    assert rig.counts == (0, 0, 16)


def test_held_events_obey_the_overflow_policy() -> None:
    """A hold is no reason to grow: the oldest held events make room, and are counted with their reason."""
    rig = Rig(make_store(max_pending_bytes=3000))
    rig.fill(1)
    rig.settle(rig.send_one(), GONE)
    for of in range(2, 30):
        assert rig.record(of)
    stats = rig.batcher.stats(0.0)
    assert stats.pending_bytes <= 3000
    assert stats.dropped_by_reason == {"overflow": 32 - stats.pending}
    dropped = [notice for notice in rig.notices() if isinstance(notice, Dropped)]
    assert dropped[0].reason is DropReason.OVERFLOW
    assert dropped[0].events[:4] == tuple(b'{"n":%d}' % number for number in range(1, 5))
    refusing = Rig(make_store(max_pending_bytes=3000, evicts=False))
    refusing.fill(1)
    refusing.settle(refusing.send_one(), GONE)
    assert not all(refusing.record(of) for of in range(2, 30))
    assert refusing.batcher.stats(0.0).dropped == 0


def test_a_hold_is_tried_at_a_slow_pace_and_said_once() -> None:
    """In ten minutes of a wrong setting a dozen requests probe, and the host hears of it once."""
    rig = Rig()
    rig.fill()
    rig.settle(rig.send_one(), GONE)
    times: list[float] = []
    while rig.now < 600.0:
        probe = rig.send_next()
        times.append(rig.now)
        assert rig.send() == []
        rig.settle(probe, GONE)
    gaps = [later - earlier for earlier, later in itertools.pairwise([0.0, *times])]
    assert gaps[:6] == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    assert set(gaps[6:]) == {60.0}
    rig.notices()
    assert [type(notice) for notice in rig.heard] == [HoldStarted]


def test_another_text_for_the_same_hold_is_not_said_again() -> None:
    """The stats show the newest code; the host was told already."""
    rig = Rig()
    rig.fill()
    rig.settle(rig.send_one(), GONE)
    rig.settle(rig.send_next(), DENIED)
    rig.notices()
    assert len(rig.heard) == 1
    assert rig.batcher.stats(rig.now).holds[0].code == "AccessDeniedException"


@pytest.mark.parametrize("hold", [GONE, EXPIRED])
def test_it_goes_on_by_itself_when_it_is_mended(hold: Misconfigured) -> None:
    """The probe that gets through opens the gate; all that was held is sent, and the host hears of it."""
    rig = Rig()
    rig.fill(1)
    rig.settle(rig.send_one(), hold)
    for of in range(2, 6):
        rig.fill(of)
    rig.settle(rig.send_next(), DELIVERED)
    assert rig.batcher.health() == "ok"
    rig.run(lambda _: DELIVERED)
    assert rig.counts == (0, 0, 20)
    assert rig.now < 6.0
    assert [notice for notice in rig.heard if isinstance(notice, HoldEnded)] == [
        HoldEnded(hold.scope, HOME.id if hold is GONE else None, 5.0)
    ]


def test_a_refused_app_monitor_shows_that_the_sender_is_known() -> None:
    """The sender's hold becomes one of that app monitor's, and the others go on."""
    rig = Rig()
    rig.fill(1)
    rig.settle(rig.send_one(), EXPIRED)
    rig.fill(2, monitor=OTHER)
    rig.settle(rig.send_next(), DENIED)
    rig.notices()
    assert rig.heard == [
        HoldStarted(HoldScope.SENDER, None, EXPIRED.code, EXPIRED.message),
        HoldEnded(HoldScope.SENDER, None, 5.0),
        HoldStarted(HoldScope.APP_MONITOR, HOME.id, DENIED.code, DENIED.message),
    ]
    assert rig.send_one().lane.app_monitor is OTHER


def test_the_senders_gate_is_probed_from_a_lane_that_is_open() -> None:
    """What a refused app monitor answers says less than what a good one does."""
    rig = Rig()
    rig.fill(1)
    rig.fill(2, monitor=OTHER)
    home, other = rig.send()
    assert (home.lane.app_monitor, other.lane.app_monitor) == (HOME, OTHER)
    rig.settle(home, GONE)
    rig.settle(other, EXPIRED)
    assert rig.send_next().lane.app_monitor is OTHER


@pytest.mark.parametrize("answer", [Throttled(1.0), FAILED])
def test_a_hold_is_not_ended_by_what_proves_nothing(answer: Outcome) -> None:
    """A throttle or a failure of the probe leaves the hold, and the probes slow down all the same."""
    rig = Rig()
    rig.fill()
    rig.settle(rig.send_one(), GONE)
    rig.settle(rig.send_next(), answer)
    assert rig.batcher.health() == "held"
    at = rig.now
    rig.send_next()
    assert rig.now - at == pytest.approx(10.0)


# Stale answers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hold", [GONE, EXPIRED])
def test_a_delivery_that_was_sent_before_the_hold_does_not_end_it(hold: Misconfigured) -> None:
    """Of two requests that were out together, the one that is answered late says nothing new."""
    rig = Rig()
    rig.fill(1)
    rig.fill(2)
    one, other = rig.send()
    rig.now = 1.0
    rig.settle(one, hold)
    rig.settle(other, DELIVERED)
    assert rig.batcher.health() == "held"
    assert rig.counts == (4, 0, 4)


@pytest.mark.parametrize("hold", [GONE, EXPIRED])
def test_a_refusal_that_was_sent_before_the_hold_ended_does_not_start_it_again(hold: Misconfigured) -> None:
    """A late refusal of the old setting puts its batch back, and the next try is at once."""
    rig = Rig()
    rig.fill(1)
    rig.fill(2)
    one, late = rig.send()
    rig.now = 1.0
    rig.settle(one, hold)
    rig.settle(rig.send_next(), DELIVERED)
    rig.settle(late, hold)
    assert rig.batcher.health() == "ok"
    assert rig.send_one() is late
    rig.settle(late, DELIVERED)
    assert rig.idle()


def test_failures_from_before_an_outage_ended_do_not_start_the_next() -> None:
    """Late failures of the old outage count for nothing."""
    rig = Rig(max_in_flight=20)
    for of in range(17):
        rig.fill(of)
    flights = rig.send()
    rig.now = 1.0
    rig.settle(flights[:8], FAILED)
    rig.settle(rig.send_next(), DELIVERED)
    rig.settle(flights[8:], FAILED)
    assert rig.batcher.health() == "ok"


# The pace of probes ---------------------------------------------------------------------------------------


def test_all_probes_together_are_one_a_second() -> None:
    """However many app monitors are held, after the first ten their probes take a token a second."""
    rig = Rig(max_in_flight=100)
    monitors = [AppMonitor(f"{number:08x}-bbbb-4bbb-8bbb-bbbbbbbbbbbb") for number in range(60)]
    for monitor in monitors:
        rig.fill(1, monitor=monitor)
    rig.settle(rig.send(), GONE)
    rig.requests.clear()
    rig.run(lambda _: GONE, until=120.0)
    times = [time for time, _ in rig.requests]
    assert 100 < len(times) <= 130
    for second in range(120):
        assert sum(second <= time < second + 1 for time in times) <= 11
    late = [time for time in times if time > 20.0]
    assert all(later - earlier > 0.99 for earlier, later in itertools.pairwise(late))


def test_a_probe_waits_for_nothing_where_nothing_is_held() -> None:
    """A shut gate with no events behind it needs no timer."""
    rig = Rig(make_store(max_pending_bytes=2000))
    rig.fill(1, monitor=OTHER)
    rig.settle(rig.send_one(), GONE)
    for of in range(10):
        rig.record(of)  # evicts what was held
    assert not rig.store.lanes[OTHER].oldest
    rig.run(lambda _: DELIVERED)
    assert rig.wait() == math.inf


def test_an_event_behind_a_shut_gate_is_the_next_probe() -> None:
    """A batch that comes in later is what the gate is tried with, before its linger is over."""
    rig = Rig(make_store(linger=600.0, max_pending_bytes=2000))
    rig.fill(1, monitor=OTHER)
    rig.settle(rig.send_one(), GONE)
    for of in range(10):
        rig.record(of)
    rig.batcher.make_due()
    rig.run(lambda _: DELIVERED, until=1.0)
    assert rig.wait() == math.inf
    rig.record(7, monitor=OTHER)
    probe = rig.send_next()
    assert (rig.now, probe.lane.app_monitor) == (5.0, OTHER)


# Closing --------------------------------------------------------------------------------------------------


def test_a_close_hurries_the_probes() -> None:
    """There is no time for slow probes: one goes at once, and the next after 5 s again."""
    rig = Rig()
    rig.fill()
    rig.settle(rig.send_one(), GONE)
    for _ in range(4):
        rig.settle(rig.send_next(), GONE)
    rig.now += 1.0
    rig.batcher.begin_close(rig.now)
    probe = rig.send_one()
    rig.settle(probe, GONE)
    assert rig.wait() == rig.now + 5.0


def test_a_close_hurries_what_waits_for_its_backoff_but_not_what_was_throttled() -> None:
    """A failed batch is tried at once more; a throttled one keeps to what the service asked for."""
    rig = Rig()
    rig.fill(1)
    rig.fill(2)
    failed, throttled = rig.send()
    rig.settle(failed, Failed("503", retry_after=30.0))
    rig.settle(throttled, Throttled(30.0))
    rig.record(3)
    rig.batcher.begin_close(1.0)
    rig.now = 1.0
    assert [flight.batch.session_id for flight in rig.send()] == [session(1).id, session(3).id]


def test_what_is_left_at_the_deadline_is_dropped_with_its_reason() -> None:
    """What may have arrived is `outcome_unknown`; what surely did not is `closed`."""
    rig = Rig(max_in_flight=5)
    for of in range(1, 6):
        rig.fill(of)
    sending, ambiguous, unsent, throttled, halved = rig.send()
    rig.settle(ambiguous, Failed("time-out"))
    rig.settle(unsent, Failed("refused", unsent=True))
    rig.settle(throttled, Throttled(1.0))
    rig.settle(halved, Rejected("x"))
    (half,) = rig.send()
    assert half is halved
    rig.record(9)
    rig.batcher.abandon()
    stats = rig.batcher.stats(0.0)
    assert stats.dropped_by_reason == {"outcome_unknown": 4 + 4 + 2, "closed": 4 + 4 + 2 + 1}
    assert (stats.pending, stats.in_flight, stats.pending_bytes) == (0, 0, 0)
    rig.settle((sending, halved), DELIVERED)  # too late
    assert rig.batcher.stats(0.0) == stats


# Who is probed again --------------------------------------------------------------------------------------


def test_a_probe_that_another_gate_parked_does_not_block_its_own() -> None:
    """When the sender's gate shuts in the midst of a lane's probe, that lane is probed again afterwards."""
    rig = Rig(make_store(max_batch_events=2), max_in_flight=8)
    for of in range(3):
        rig.fill(of, 2)
        for _ in range(3):
            rig.settle(rig.send_next(), Rejected("x"))
    assert rig.batcher.health() == "held"
    rig.fill(4, 2, monitor=OTHER)
    late = rig.send_one()
    rig.fill(5, 2)
    probe = rig.send_next()
    rig.settle(probe, Rejected("x"))  # its halves are to go on
    rig.settle(late, EXPIRED)
    rig.run(lambda _: DELIVERED)
    assert rig.idle()
    assert rig.batcher.health() == "ok"
    assert not [notice for notice in rig.heard if isinstance(notice, Dropped)]
    assert sum(len(notice.events) for notice in rig.heard if isinstance(notice, DeadLettered)) == 6
