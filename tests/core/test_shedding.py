"""Shedding: when the rate falls and rises, what is dropped for it, and how an event tells it."""

from __future__ import annotations

import json
import random
from collections import Counter, deque

import pytest

from rumbuffer.core import shedding
from rumbuffer.core.encoding import with_attribute
from rumbuffer.core.news import Arrived
from rumbuffer.core.notices import DropReason, ShedRateChanged
from rumbuffer.core.outcomes import Failed, HoldScope, Misconfigured, Outcome
from rumbuffer.core.room import RoomWaiter
from rumbuffer.core.sealed import SealedBatch
from tests.core.helpers import DELIVERED, HOME, OTHER, Rig, make_store, number_of, session
from tests.core.structures import check_structures, open_batches


def full_rig(share: float, *, sample_rate: float = 1.0, sessions: int = 100) -> Rig:
    """A buffer that sends nothing before its linger, filled to that share by as many sessions."""
    store = make_store(
        max_batch_events=10_000,
        max_batch_bytes=1_000_000,
        linger=1e9,
        max_pending_bytes=1_000_000,
        sample_rate=sample_rate,
    )
    rig = Rig(store, sheds=True)
    number = 0
    while rig.store.room.pressure < share:
        number += 1
        of = session(number % sessions)
        if of.sample_point < rig.store.keep_rate:
            rig.record(of, size=500)
    return rig


def look(rig: Rig) -> float:
    """Look as the pump does: nothing is sent, and the news is handed over."""
    wait = rig.wait()
    rig.notices()
    return min(wait, rig.wait())


def pass_time(rig: Rig, seconds: float) -> None:
    """Look whenever it is told to."""
    until = rig.now + seconds
    while (wait := look(rig)) <= until:
        rig.now = max(rig.now, wait)
    rig.now = until
    look(rig)


def steps(rig: Rig) -> list[float]:
    """The shed rates that were told."""
    return [notice.rate for notice in rig.heard if isinstance(notice, ShedRateChanged)]


def kept(rig: Rig) -> set[str]:
    """The sessions of which something is open."""
    return {batch.session.id for lane in rig.store.lanes.values() for batch in open_batches(lane)}


# The rate -------------------------------------------------------------------------------------------------


def test_half_full_for_five_seconds_is_lasting_pressure() -> None:
    """A cut comes after five seconds of it and not before; it relieves the memory at once."""
    rig = full_rig(0.6)
    pass_time(rig, 4.9)
    assert rig.store.shed_rate == 1.0
    pass_time(rig, 1.1)
    assert rig.store.shed_rate == pytest.approx(0.7)
    assert rig.store.room.pressure == pytest.approx(0.42, abs=0.06)
    check_structures(rig.store, [], rig.max_in_flight)
    pass_time(rig, 60.0)
    assert steps(rig) == [0.7], "between a quarter and a half the rate stays"


def test_a_passing_pressure_sheds_nobody() -> None:
    """Pressure that goes away within the five seconds begins anew the next time."""
    rig = full_rig(0.55)
    pass_time(rig, 4.0)
    while rig.store.room.pressure >= 0.5:
        batch = rig.home.oldest
        assert batch is not None
        rig.store.drop_batch(batch, DropReason.CLOSED)
    pass_time(rig, 2.0)
    while rig.store.room.pressure < 0.55:
        rig.record(session(rig.store.counters.accepted % 100), size=500)
    pass_time(rig, 4.0)
    assert rig.store.shed_rate == 1.0


def test_four_fifths_full_is_answered_after_a_second() -> None:
    """Near the limit it is not waited for so long, and again every second until there is room."""
    rig = full_rig(0.9)
    pass_time(rig, 0.9)
    assert rig.store.shed_rate == 1.0
    pass_time(rig, 0.1)
    assert rig.store.shed_rate == pytest.approx(0.7)
    while rig.store.room.pressure < 0.9:
        rig.record(session(0), size=500)
    pass_time(rig, 1.0)
    assert rig.store.shed_rate == pytest.approx(0.49)


@pytest.mark.parametrize(("share", "rates"), [(0.2, [0.7, 0.77, 0.847, 0.9317, 1.0]), (0.0, [0.7, 1.0])])
def test_the_rate_recovers_step_by_step(share: float, rates: list[float]) -> None:
    """A tenth every ten seconds of calm, a half where hardly anything is pending, up to all sessions."""
    rig = full_rig(0.9)
    pass_time(rig, 1.0)
    assert rig.store.shed_rate == pytest.approx(0.7)
    while rig.store.room.pressure > share:
        batch = rig.home.oldest
        assert batch is not None
        rig.store.drop_batch(batch, DropReason.CLOSED)
    pass_time(rig, 10.9)
    assert rig.store.shed_rate == pytest.approx(0.7)
    pass_time(rig, 60.0)
    assert steps(rig) == pytest.approx(rates)
    if not share:
        assert rig.wait() == float("inf"), "nothing is looked at any more"


def test_the_rate_has_a_floor() -> None:
    """One session in 256 is kept through the longest outage, and the notices end there."""
    rig = full_rig(0.9)
    for _ in range(40):
        while rig.store.room.pressure < 0.9:
            rig.record(session(0), size=500)
        pass_time(rig, 1.0)
    assert rig.store.shed_rate == 1 / 256
    assert steps(rig)[-1] == 1 / 256
    assert len(steps(rig)) == 16


def test_a_clock_that_is_set_back_stops_nothing() -> None:
    """The next look does not wait until an old time comes round again."""
    rig = full_rig(0.9)
    rig.now = 1e6
    pass_time(rig, 1.0)
    rig.now = 0.0
    while rig.store.room.pressure < 0.9:
        rig.record(session(0), size=500)
    pass_time(rig, 1.0)
    assert rig.store.shed_rate == pytest.approx(0.49)


def test_an_idle_buffer_is_not_looked_at() -> None:
    """No timer runs while nothing is pending and nothing is shed."""
    rig = Rig(sheds=True)
    assert rig.wait() == float("inf")
    rig.record(1)
    assert rig.wait() == 1.0


def test_a_close_sheds_nobody() -> None:
    """What is left at the close is delivered, not thinned out."""
    rig = full_rig(0.9)
    rig.batcher.begin_close(rig.now)
    rig.run(lambda _: DELIVERED)
    assert rig.store.counters.delivered == rig.store.counters.accepted
    assert rig.store.shed_rate == 1.0


def test_other_policies_shed_nobody() -> None:
    """Without the policy the rate stays, however full it is."""
    rig = Rig(make_store(linger=1e9, max_pending_bytes=10_000))
    while rig.store.counters.dropped[DropReason.OVERFLOW] == 0:
        rig.record(rig.store.counters.accepted)
    rig.run(lambda _: Failed("500"), until=100.0)
    assert rig.batcher.stats(rig.now).shed_rate == 1.0


# What is dropped ------------------------------------------------------------------------------------------


def test_a_cut_drops_whole_sessions_by_their_hash() -> None:
    """What is left pending is of kept sessions, with every event of theirs."""
    rig = full_rig(0.9, sample_rate=0.8)
    before = {
        batch.session.id: [number_of(each) for each in batch.events]
        for batch in open_batches(rig.home)
        if batch.session.sample_point < 0.8 * 0.7
    }
    held = rig.store.counters.pending
    pass_time(rig, 1.0)
    assert rig.store.keep_rate == pytest.approx(0.8 * 0.7)
    after = {batch.session.id: [number_of(each) for each in batch.events] for batch in open_batches(rig.home)}
    assert after == before
    assert all(of.sample_point < 0.56 for of in map(session, range(100)) if of.id in kept(rig))
    stats = rig.batcher.stats(rig.now)
    assert stats.dropped_by_reason == {"shed": held - stats.pending}
    assert rig.store.room.pressure < 0.9
    check_structures(rig.store, [], rig.max_in_flight)


def test_whoever_waits_for_a_delivery_is_not_shed() -> None:
    """A batch that `deliver()` made urgent is sent, whatever its session."""
    rig = full_rig(0.9)
    shed = next(of for of in range(200, 300) if session(of).sample_point > 0.9)
    waiter = rig.deliver(shed)
    rig.store.pressed = False
    rig.run(lambda _: DELIVERED, until=3.0)
    assert rig.store.shed_rate < 1.0
    rig.notices()
    assert isinstance(rig.fates.get(waiter), Arrived)


def test_a_sweep_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large backlog is looked through in parts; what changes in between does no harm."""
    monkeypatch.setattr(shedding, "_SWEPT_AT_ONCE", 7)
    choose = random.Random(5)
    rig = full_rig(0.85, sessions=300)
    for of in range(100):
        rig.record(of, monitor=OTHER)
    turns = 0
    rig.store.pressed = False
    look(rig)
    rig.now = 1.0
    while look(rig) <= rig.now:
        turns += 1
        # Somebody else takes batches away, from the very place where the sweep stands too.
        for lane in list(rig.store.lanes.values()):
            batches = list(open_batches(lane))
            if batches and choose.random() < 0.3:
                rig.store.drop_batch(choose.choice(batches), DropReason.CLOSED)
        at = rig.batcher._shedding._at  # type: ignore[union-attr]
        if at is not None and at.lane is not None and choose.random() < 0.3:
            rig.store.drop_batch(at, DropReason.CLOSED)
        check_structures(rig.store, [], rig.max_in_flight)
    assert turns > 50
    rate = rig.store.keep_rate
    assert all(of.sample_point < rate for of in map(session, range(300)) if of.id in kept(rig))


def test_room_that_a_cut_frees_goes_to_those_who_wait() -> None:
    """A `put()` that waits is full pressure, and is let in by the cut."""
    rig = full_rig(0.97)
    room = rig.put(1, size=60_000)
    assert room is not None
    assert rig.store.room.pressure == 1.0
    rig.store.pressed = False
    rig.wait()
    assert rig.store.room.waiters
    rig.now = 1.0
    rig.wait()
    assert room.granted
    assert rig.store.room.pressure < 1.0
    rig.store.room.withdraw(room)


def test_an_hours_outage_keeps_whole_sessions() -> None:
    """While nothing gets through, ever fewer sessions are kept, and nothing is evicted from them."""
    choose = random.Random(2)
    rig = Rig(make_store(max_batch_events=100, max_pending_bytes=400_000), sheds=True)
    offered: Counter[str] = Counter()
    for second in range(3_600):
        for _ in range(20):
            of = session(choose.randrange(500))
            if of.sample_point < rig.store.keep_rate:
                rig.record(of, size=100)
                offered[of.id] += 1
        rig.run(lambda _: Failed("500"), until=float(second))
    stats = rig.batcher.stats(rig.now)
    rig.notices()
    least = min(steps(rig))
    assert set(stats.dropped_by_reason) <= {"shed"}
    assert 1 / 256 <= stats.shed_rate < 0.2
    assert not kept(rig) & {
        of.id for of in map(session, range(500)) if of.sample_point >= rig.store.keep_rate
    }
    assert rig.store.room.pressure < 0.9
    held: Counter[str] = Counter()
    for batch in open_batches(rig.home):
        held[batch.session.id] += len(batch.events)
    for flight in rig.home.flights:
        held[flight.session.id] += flight.event_count()
    whole = {of.id for of in map(session, range(500)) if of.sample_point < least}
    assert len(whole & set(held)) > 3
    assert all(held[of] == offered[of] for of in whole)


# What a batch tells ---------------------------------------------------------------------------------------


def metadata_sent(rig: Rig) -> list[dict[str, object] | None]:
    """The session attributes of each request."""
    attributes = (batch.attributes for _, batch in rig.requests)
    return [None if each is None else json.loads(json.loads(each)) for each in attributes]


def test_a_batch_tells_the_lowest_rate_that_it_was_open_under() -> None:
    """Whatever its session has come through, however the rate rose later; one that knew no cut is plain."""
    rig = full_rig(0.9)
    pass_time(rig, 1.0)
    assert rig.store.shed_rate == pytest.approx(0.7)
    kept_one = next(of for of in range(2_000, 3_000) if session(of).sample_point < 0.3)
    rig.record(session(kept_one, '{"a":1}'))
    rig.batcher.make_due()
    rig.run(lambda _: DELIVERED, until=rig.now + 5.0)
    sent = metadata_sent(rig)
    assert sent.count({"rumbuffer:shed_rate": 0.7}) == len(sent) - 1
    assert sent.count({"a": 1, "rumbuffer:shed_rate": 0.7}) == 1
    pass_time(rig, 200.0)
    rig.requests.clear()
    rig.record(session(kept_one, '{"a":1}'))
    rig.batcher.make_due()
    rig.run(lambda _: DELIVERED, until=rig.now + 5.0)
    assert metadata_sent(rig) == [{"a": 1}]


def test_counts_can_be_weighed_by_the_rate() -> None:
    """Each delivered session stands for 1 / rate of those that there were, through an outage and after it."""
    choose = random.Random(2)
    limits = make_store(max_batch_events=100, max_batch_bytes=1_000_000, max_pending_bytes=2_000_000)
    rig = Rig(limits, sheds=True, max_in_flight=8)
    offered = 0

    def is_down(batch: SealedBatch) -> Outcome:
        return Failed("500", unsent=True)

    for second in range(1_000):
        for _ in range(30):
            offered += 1
            of = session(choose.randrange(1 << 32))
            if of.sample_point < rig.store.keep_rate:
                rig.record(of, size=100)
        rig.run(is_down if second < 600 else lambda _: DELIVERED, until=float(second))
    rig.batcher.make_due()
    rig.run(lambda _: DELIVERED)
    delivered = {batch.id: batch for _, batch in rig.requests}.values()
    stood_for = 0.0
    for batch in delivered:
        rate = json.loads(json.loads(batch.attributes))["rumbuffer:shed_rate"] if batch.attributes else 1.0
        stood_for += len(batch.events) / rate
    stats = rig.batcher.stats(rig.now)
    assert stats.dropped_by_reason["shed"] > 1_000
    assert set(stats.dropped_by_reason) == {"shed"}
    assert stood_for == pytest.approx(offered, rel=0.1)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (None, {}),
        ("{}", {}),
        (" { } ", {}),
        ('{"a": {"b": "{"}}\n', {"a": {"b": "{"}}),
        ('{"text":"}\\ud800é"}', {"text": "}\ud800é"}),
        (
            '{"rumbuffer:shed_rate": 1, "n": 123456789012345678901234567890}',
            {"n": 123456789012345678901234567890},
        ),
    ],
)
def test_session_attributes_get_one_more(attributes: str | None, expected: dict[str, object]) -> None:
    """Whatever text they are, the rate is one more member, once."""
    encoded = None if attributes is None else session(1, attributes).encoded_attributes
    more = json.loads(json.loads(with_attribute(encoded, "rumbuffer:shed_rate", 0.343)))
    assert more == {**expected, "rumbuffer:shed_rate": 0.343}


def test_a_full_body_goes_without_the_rate() -> None:
    """The limit on a request's body holds with the rate in it, so where there is no room it is left out."""
    rig = full_rig(0.9)
    pass_time(rig, 1.0)
    batch = rig.home.oldest
    assert batch is not None
    rig.store.max_batch_bytes = batch.body_size + 10
    flight = rig.store.seal(batch, "00000000-0000-4000-8000-000000000000", rig.now)
    assert flight.batch.attributes is None
    assert len(flight.batch.body()) == rig.store.max_batch_bytes - 10


def test_a_batch_that_a_hold_dissolved_keeps_its_rate() -> None:
    """It is told again, and its session's next event finds the batch by the session's own attributes."""
    rig = full_rig(0.9)
    pass_time(rig, 1.0)
    kept_one = next(of for of in range(2_000, 3_000) if session(of).sample_point < 0.3)
    rig.record(session(kept_one, '{"a":1}'))
    rig.batcher.make_due()
    flights = rig.send()
    rig.settle(flights, Misconfigured(HoldScope.APP_MONITOR, "ResourceNotFoundException"))
    batches = rig.home.batch_count
    rig.record(session(kept_one, '{"a":1}'))
    assert rig.home.batch_count == batches
    rig.requests.clear()
    rig.run(lambda _: DELIVERED)
    told = [each for each in metadata_sent(rig) if each is not None and each.get("a") == 1]
    assert len(told) == 1
    assert told[0]["rumbuffer:shed_rate"] in (0.7, 0.49)


# Where it does not apply ----------------------------------------------------------------------------------


def test_what_put_was_told_is_accepted_stays() -> None:
    """Producers that wait for room lose nothing to the policy, however long they keep the buffer full."""
    rig = Rig(make_store(max_pending_bytes=20_000), rate=5.0, burst=1, sheds=True)
    waiting: deque[tuple[RoomWaiter, int]] = deque()
    number = 0
    for second in range(300):
        while len(waiting) < 10:
            number += 1
            room = rig.put(number % 40, size=200)
            if room is not None:
                waiting.append((room, number % 40))
        rig.run(lambda _: DELIVERED, until=float(second))
        while waiting and waiting[0][0].granted:
            room, of = waiting.popleft()
            assert rig.put(of, size=200, room=room) is None
    assert rig.store.counters.delivered > 1_000
    assert rig.batcher.stats(rig.now).dropped == 0


def test_what_put_alone_keeps_tells_no_rate() -> None:
    """An event that was not thinned out stands for itself."""
    rig = full_rig(0.9)
    pass_time(rig, 1.0)
    shed = next(of for of in range(200, 300) if session(of).sample_point > 0.9)
    assert rig.put(shed) is None
    rig.batcher.make_due()
    rig.run(lambda _: DELIVERED, until=rig.now + 5.0)
    sent = {batch.session_id: told for (_, batch), told in zip(rig.requests, metadata_sent(rig), strict=True)}
    assert sent.pop(session(shed).id) is None
    assert set(map(str, sent.values())) == {"{'rumbuffer:shed_rate': 0.7}"}


def test_a_short_burst_is_not_shed() -> None:
    """What fills the memory and is gone within a second is no lasting pressure."""
    limits = make_store(max_batch_events=25, max_pending_bytes=95_000)
    rig = Rig(limits, rate=50.0, burst=10, max_in_flight=32, sheds=True)
    for of in range(14):
        rig.fill(of, 25, size=100)
    assert rig.store.room.pressure > 0.8
    rig.run(lambda _: DELIVERED, until=30.0)
    stats = rig.batcher.stats(rig.now)
    assert (stats.delivered, stats.dropped, stats.shed_rate) == (14 * 25, 0, 1.0)


def test_old_pressure_is_forgotten() -> None:
    """A second burst, long after the first, is not taken for its continuation."""
    rig = full_rig(0.6)
    look(rig)
    rig.batcher.make_due()
    rig.run(lambda _: DELIVERED, until=1.0)
    rig.now = 100.0
    while rig.store.room.pressure < 0.6:
        rig.record(session(1), size=500)
    pass_time(rig, 4.0)
    assert rig.store.shed_rate == 1.0


def test_a_held_app_monitor_does_not_shed_the_others() -> None:
    """What waits behind a wrong setting of its own is no reason to leave out others' sessions."""
    rig = Rig(make_store(max_pending_bytes=100_000), rate=50.0, sheds=True)
    for second in range(200):
        for of in range(5):
            rig.record(second * 5 + of, monitor=OTHER, size=100)
        rig.record(second, size=100)
        rig.run(
            lambda batch: (
                Misconfigured(HoldScope.APP_MONITOR, "ResourceNotFoundException")
                if batch.app_monitor is OTHER
                else DELIVERED
            ),
            until=float(second),
        )
    assert rig.store.room.pressure > 0.8
    assert rig.store.shed_rate == 1.0
    assert rig.store.counters.delivered > 150


def test_while_all_are_held_it_sheds() -> None:
    """With nothing else to send, the memory is what counts."""
    rig = full_rig(0.9)
    rig.batcher.make_due()
    rig.settle(rig.send(), Misconfigured(HoldScope.APP_MONITOR, "ResourceNotFoundException"))
    rig.run(lambda _: Misconfigured(HoldScope.APP_MONITOR, "ResourceNotFoundException"), until=5.0)
    assert rig.store.shed_rate < 1.0


def test_other_lanes_are_swept_too() -> None:
    """Every app monitor's sessions are thinned out alike, and a lane that is empty then is forgotten."""
    rig = full_rig(0.9)
    shed = next(of for of in range(200, 300) if session(of).sample_point > 0.9)
    rig.record(shed, monitor=OTHER)
    assert set(rig.store.lanes) == {HOME, OTHER}
    pass_time(rig, 1.0)
    assert set(rig.store.lanes) == {HOME}
