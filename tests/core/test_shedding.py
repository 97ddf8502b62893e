"""Shedding: when the rate falls and rises, what is dropped for it, and how an event tells it."""

from __future__ import annotations

import json
import random

import pytest

from rumbuffer.core import shedding
from rumbuffer.core.news import Lost
from rumbuffer.core.notices import DropReason, ShedRateChanged
from rumbuffer.core.outcomes import Failed
from rumbuffer.core.shedding import marked
from rumbuffer.errors import InvalidEvent
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


def test_four_fifths_full_is_answered_at_once_and_every_second() -> None:
    """Near the limit it is not waited for, until there is room again."""
    rig = full_rig(0.9)
    look(rig)
    assert rig.store.shed_rate == pytest.approx(0.7)
    while rig.store.room.pressure < 0.9:
        rig.record(session(0), size=500)
    pass_time(rig, 1.0)
    assert rig.store.shed_rate == pytest.approx(0.49)


def test_the_rate_recovers_step_by_step() -> None:
    """A tenth every ten seconds of calm, up to all sessions, and then nothing is looked at any more."""
    rig = full_rig(0.9)
    look(rig)
    assert rig.store.shed_rate == pytest.approx(0.7)
    rig.batcher.make_due()
    rig.run(lambda _: DELIVERED, until=9.0)
    assert rig.store.shed_rate == pytest.approx(0.7)
    pass_time(rig, 3.0)
    assert rig.store.shed_rate == pytest.approx(0.77)
    pass_time(rig, 60.0)
    assert rig.store.shed_rate == 1.0
    assert steps(rig) == pytest.approx([0.7, 0.77, 0.847, 0.9317, 1.0])
    assert rig.wait() == float("inf")


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
    rig.wait()
    rig.now = 0.0
    while rig.store.room.pressure < 0.9:
        rig.record(session(0), size=500)
    assert rig.wait() <= 1.0
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
    rig.wait()
    assert rig.store.keep_rate == pytest.approx(0.8 * 0.7)
    assert kept(rig) == set(before)
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
    assert rig.send_one().batch.session_id == session(shed).id
    assert rig.store.shed_rate < 1.0
    rig.notices()
    assert not isinstance(rig.fates.get(waiter), Lost)


def test_a_sweep_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large backlog is looked through in parts; what changes in between does no harm."""
    monkeypatch.setattr(shedding, "_SWEPT_AT_ONCE", 7)
    choose = random.Random(5)
    rig = full_rig(0.85, sessions=300)
    for of in range(100):
        rig.record(of, monitor=OTHER)
    turns = 0
    rig.store.pressed = False
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
    rig.send()
    assert room.granted
    assert rig.store.room.pressure < 1.0
    rig.store.room.withdraw(room)


def test_an_hours_outage_keeps_whole_sessions() -> None:
    """While nothing gets through, ever fewer sessions are kept, and nothing is evicted from them."""
    choose = random.Random(2)
    rig = Rig(make_store(max_batch_events=100, max_pending_bytes=400_000), sheds=True)
    lost: set[str] = set()
    for second in range(3_600):
        for _ in range(20):
            of = session(choose.randrange(500))
            if of.sample_point < rig.store.keep_rate:
                rig.record(of, size=100)
            else:
                lost.add(of.id)
        rig.run(lambda _: Failed("500"), until=float(second))
    stats = rig.batcher.stats(rig.now)
    assert set(stats.dropped_by_reason) <= {"shed"}
    assert 1 / 256 <= stats.shed_rate < 0.2
    assert not kept(rig) & {
        of.id for of in map(session, range(500)) if of.sample_point >= rig.store.keep_rate
    }
    assert rig.store.room.pressure < 0.9


# What an event tells --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (None, {}),
        ({}, {}),
        ("{}", {}),
        (" { } ", {}),
        ({"version": "1.0.0"}, {"version": "1.0.0"}),
        ('{"a": {"b": "{"}}\n', {"a": {"b": "{"}}),
        ({"text": "}"}, {"text": "}"}),
    ],
)
def test_metadata_tells_the_rate(
    metadata: dict[str, object] | str | None, expected: dict[str, object]
) -> None:
    """Whatever form the metadata has, the rate is one more member."""
    assert json.loads(marked(metadata, 0.3430000001)) == {**expected, "rumbuffer:shed_rate": 0.343}


def test_metadata_that_is_none_stays_wrong() -> None:
    """What is no object is refused by the same rule as otherwise."""
    with pytest.raises(InvalidEvent, match="metadata"):
        marked("[1]", 0.5)


def test_other_lanes_and_holds_are_swept_too() -> None:
    """What a hold keeps back is thinned out like the rest, and a lane that is empty then is forgotten."""
    rig = full_rig(0.9)
    shed = next(of for of in range(200, 300) if session(of).sample_point > 0.9)
    rig.record(shed, monitor=OTHER)
    assert set(rig.store.lanes) == {HOME, OTHER}
    rig.wait()
    assert set(rig.store.lanes) == {HOME}
