"""Batching, attributes, sizes, limits, overflow and sealing."""

from __future__ import annotations

import itertools
import json

import pytest

from rumbuffer.core.admission import RefusalReason
from rumbuffer.core.lanes import BATCH_CHARGE, EVENT_CHARGE
from rumbuffer.core.news import Lost
from rumbuffer.core.notices import DropReason
from rumbuffer.core.outcomes import HoldScope, Misconfigured, TooLarge
from rumbuffer.errors import InvalidEvent
from rumbuffer.events import AppMonitor, Session
from tests.core.helpers import DELIVERED, HOME, OTHER, Rig, event, make_store, number_of, numbers, session
from tests.core.structures import body_size, envelope_size, open_batches

A, B = '{"a":1}', '{"b":2}'
MISCONFIGURED = Misconfigured(HoldScope.APP_MONITOR, "ResourceNotFoundException")


def batches_of(rig: Rig) -> list[list[int]]:
    """Flush, deliver, and return the numbers of the events in each batch."""
    rig.batcher.make_due()
    rig.run(lambda _: DELIVERED)
    return [numbers(batch) for _, batch in rig.requests]


# The batching key -----------------------------------------------------------------------------------


def test_events_of_one_session_share_a_batch_in_admission_order() -> None:
    """Events of one session travel together, in the order of their admission."""
    rig = Rig()
    rig.fill(1, 2)
    rig.fill(2, 1)
    rig.fill(1, 1)
    assert batches_of(rig) == [[1, 2, 4], [3]]


@pytest.mark.parametrize(
    ("of", "monitor"),
    [
        (session(2), HOME),
        (Session(session(1).id, "99999999-9999-4999-8999-999999999999"), HOME),
        (session(1), OTHER),
        (session(1), AppMonitor(HOME.id, name="home", alias="another")),
    ],
    ids=["session", "user", "app monitor", "alias"],
)
def test_another_key_makes_another_batch(of: Session, monitor: AppMonitor) -> None:
    """Another session, user, app monitor or alias makes another batch."""
    rig = Rig()
    rig.record(1)
    rig.record(of, monitor=monitor)
    assert batches_of(rig) == [[1], [2]]


def test_an_event_without_attributes_joins_any_batch_of_its_key() -> None:
    """An event whose session has no attributes joins a batch that has some."""
    rig = Rig()
    rig.record(session(1, A))
    rig.record(session(1))
    assert batches_of(rig) == [[1, 2]]


def test_a_batch_adopts_the_first_attributes_that_it_meets() -> None:
    """A batch without attributes takes those of the first event that brings some, and its size grows so."""
    rig = Rig()
    rig.record(session(1))
    rig.record(session(1, A))
    assert rig.home.oldest is not None
    assert rig.home.oldest.body_size == body_size(rig.home.oldest)
    assert batches_of(rig) == [[1, 2]]
    body = json.loads(rig.requests[0][1].body())
    assert body["SessionMetadata"] == A


def test_different_attributes_start_another_batch() -> None:
    """Other attributes start another batch; each event then finds the one with its own."""
    rig = Rig()
    for attributes in (A, B, A, B):
        rig.record(session(1, attributes))
    assert batches_of(rig) == [[1, 3], [2, 4]]
    assert [json.loads(batch.body())["SessionMetadata"] for _, batch in rig.requests] == [A, B]


def test_a_batch_with_the_same_attributes_is_looked_for_eight_batches_back() -> None:
    """A session that changes its attributes with each event costs no scan of all its batches."""
    rig = Rig()
    for number in (*range(9), 0):
        rig.record(session(1, f'{{"n":{number}}}'))
    assert batches_of(rig)[-1] == [10]
    assert len(rig.requests) == 10


def test_a_session_value_that_is_only_equal_joins_all_the_same() -> None:
    """What counts is the session's value, not the object."""
    rig = Rig()
    rig.record(session(1, A))
    rig.record(Session(session(1).id, attributes=A))
    assert batches_of(rig) == [[1, 2]]


# Sizes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attributes", [None, A])
@pytest.mark.parametrize("monitor", [HOME, OTHER])
@pytest.mark.parametrize("count", [1, 3])
def test_a_batchs_size_is_its_bodys(monitor: AppMonitor, attributes: str | None, count: int) -> None:
    """What a batch says of its size is exactly the length of the body that is sent."""
    rig = Rig()
    rig.fill(session(1, attributes), count, monitor=monitor, size=50)
    batch = rig.store.lanes[monitor].oldest
    assert batch is not None
    size = batch.body_size
    rig.batcher.make_due()
    assert len(rig.send_one().batch.body()) == size


def test_events_and_batches_are_charged_as_the_design_says() -> None:
    """An event costs its length + 100, an open batch 400 + its envelope, until the final outcome."""
    rig = Rig()
    rig.fill(session(1, A), 2, size=50)
    charges = (
        BATCH_CHARGE + envelope_size(rig.home, session(1, A).encoded_attributes) + 2 * (50 + EVENT_CHARGE)
    )
    assert (BATCH_CHARGE, EVENT_CHARGE) == (400, 100)
    assert rig.batcher.stats(0.0).pending_bytes == charges
    rig.batcher.make_due()
    flight = rig.send_one()
    assert rig.batcher.stats(0.0).pending_bytes == charges
    rig.settle(flight, DELIVERED)
    assert rig.batcher.stats(0.0).pending_bytes == 0


def test_max_batch_events_closes_a_batch() -> None:
    """A batch that has max_batch_events takes no more, and is due at once."""
    rig = Rig(make_store(max_batch_events=3))
    rig.fill(1, 4)
    assert numbers(rig.send_one().batch) == [1, 2, 3]


@pytest.mark.parametrize("short_by", [0, 1])
def test_max_batch_bytes_is_met_to_the_byte(short_by: int) -> None:
    """A body may have max_batch_bytes and not one more."""
    envelope = envelope_size(make_store().home, None)
    size = 1_000
    rig = Rig(make_store(max_batch_bytes=envelope + 2 * size + 1 - short_by))
    rig.fill(1, 2, size=size)
    assert rig.store.open_batches() == 1 + short_by
    batches = batches_of(rig)
    assert batches == ([[1], [2]] if short_by else [[1, 2]])
    assert len(rig.requests[0][1].body()) <= rig.store.max_batch_bytes


def test_adopted_attributes_count_against_max_batch_bytes() -> None:
    """A batch that has no room for the attributes is closed instead of adopting them."""
    envelope = envelope_size(make_store().home, None)
    rig = Rig(make_store(max_batch_bytes=envelope + 210))
    rig.record(1, size=100)
    rig.record(session(1, '{"a":"' + "x" * 50 + '"}'), size=100)
    assert batches_of(rig) == [[1], [2]]


def test_an_event_that_fits_into_no_request_is_invalid() -> None:
    """An event with which even an own request would be too large is invalid, and leaves no trace."""
    rig = Rig(make_store(max_batch_bytes=1_024))
    with pytest.raises(InvalidEvent, match="max_batch_bytes=1024") as caught:
        rig.record(1, size=1_000, monitor=OTHER)
    assert caught.value.field == "event"
    assert caught.value.shape == "1000 bytes"
    assert OTHER not in rig.store.lanes


def test_an_event_larger_than_the_whole_limit_is_invalid() -> None:
    """An event that costs more than max_pending_bytes is invalid, under every policy and for put()."""
    for evicts in (True, False):
        rig = Rig(make_store(max_pending_bytes=2_000, evicts=evicts))
        rig.fill(1, 2)
        with pytest.raises(InvalidEvent, match="max_pending_bytes=2000"):
            rig.record(2, size=1_400)
        with pytest.raises(InvalidEvent, match="max_pending_bytes=2000"):
            rig.put(2, size=1_400)
        assert rig.counts == (2, 0, 0)


def test_a_limit_that_fell_holds_for_open_batches_too() -> None:
    """After a 413 an open batch that is too large now is sealed in pieces, in order, the rest due at once."""
    rig = Rig(make_store(max_batch_events=100), max_in_flight=1)
    rig.fill(1, 8, size=6_000)
    rig.record(session(1, A), size=6_000)
    rig.batcher.make_due()
    rig.settle(rig.send_one(), TooLarge())
    assert rig.store.max_batch_bytes < 30_000
    rig.fill(2, 4, size=100)
    rig.run(lambda _: DELIVERED)
    assert [numbers(batch) for _, batch in rig.requests[1:]] == [
        [1, 2, 3, 4],
        [5, 6, 7, 8, 9],
        [10, 11, 12, 13],
    ]

    rig.requests.clear()
    rig.store.max_batch_bytes = 100_000
    rig.fill(3, 6, size=6_000)
    rig.record(session(3, '{"a":"' + "x" * 5_000 + '"}'), size=6_000)
    rig.store.max_batch_bytes = 16_384
    rig.batcher.make_due()
    rig.run(lambda _: DELIVERED)
    assert [numbers(batch) for _, batch in rig.requests] == [[14], [15], [16], [17], [18], [19], [20]]
    assert all(len(batch.body()) <= 16_384 for _, batch in rig.requests)
    assert rig.store.room.free == rig.store.room.capacity


@pytest.mark.parametrize("short_by", [0, 1])
def test_a_limit_that_fell_is_met_to_the_byte(short_by: int) -> None:
    """What is taken off a batch that is too large fills the new limit, and not one byte more."""
    rig = Rig()
    rig.fill(1, 3, size=1_000)
    rig.store.max_batch_bytes = envelope_size(rig.home, None) + 2 * 1_000 + 1 - short_by
    assert batches_of(rig) == ([[1], [2], [3]] if short_by else [[1, 2], [3]])


# Overflow -------------------------------------------------------------------------------------------


def three_batches(*, evicts: bool) -> Rig:
    """Three sessions with two events each, and no room for more."""
    rig = Rig(make_store(evicts=evicts))
    rig.fill(1, 2, size=100)
    rig.fill(2, 2, size=100, monitor=OTHER)
    rig.fill(3, 2, size=100)
    rig.store.room.capacity -= rig.store.room.free
    rig.store.room.free = 0
    return rig


def test_drop_oldest_takes_from_the_front_of_the_batch_that_was_opened_first() -> None:
    """DROP_OLDEST drops the oldest batch's first events, as many as are needed, over all app monitors."""
    rig = three_batches(evicts=True)
    for expected in (1, 2, 3):
        assert rig.record(3, size=100)
        assert rig.store.counters.dropped[DropReason.OVERFLOW] == expected
    # The batches that were emptied gave their charge back, so there is room for more without a loss.
    assert batches_of(rig) == [[4], [5, 6, 7, 8], [9]]


def test_drop_oldest_drops_nothing_for_an_event_that_could_not_get_in_even_so() -> None:
    """Nothing is sacrificed where the rest is in flight and the new event is refused all the same."""
    rig = three_batches(evicts=True)
    rig.batcher.make_due()
    rig.max_in_flight = 2
    first = rig.batcher.next_action(0.0)
    second = rig.batcher.next_action(0.0)
    assert not isinstance(first, float)
    assert not isinstance(second, float)
    admission = rig.record(4, size=1_200)
    assert (admission.status, admission.reason) == ("refused", RefusalReason.BUFFER_FULL)
    assert rig.store.counters.dropped[DropReason.OVERFLOW] == 0


def test_drop_oldest_never_takes_from_a_sealed_batch() -> None:
    """What is in flight stays, and the new event is refused where nothing else is there."""
    rig = three_batches(evicts=True)
    rig.batcher.make_due()
    sent = rig.send()
    assert not rig.record(4)
    assert [numbers(flight.batch) for flight in sent] == [[1, 2], [3, 4], [5, 6]]
    assert rig.counts == (0, 6, 0)


def test_a_lane_that_its_own_eviction_emptied_is_not_lost() -> None:
    """An event whose own app monitor's last batch was dropped for it is sent all the same."""
    rig = Rig(make_store(max_pending_bytes=1_200))
    rig.record(1, monitor=OTHER)
    assert rig.record(2, size=200, monitor=OTHER)
    assert batches_of(rig) == [[2]]


def test_a_half_eaten_batch_is_not_sent_as_full() -> None:
    """A batch that the overflow eats up gives its turn to whole ones."""
    rig = Rig(make_store(evicts=True, max_batch_events=2))
    rig.fill(1, 2, size=100)
    rig.fill(2, 2, size=100)
    rig.store.room.capacity -= rig.store.room.free
    rig.store.room.free = 0
    assert rig.home.oldest_full() is rig.home.oldest
    assert rig.store.admit(event(9), session(2), rig.home, 0.0)
    assert [len(batch.events) for batch in open_batches(rig.home)] == [2, 1]


@pytest.mark.parametrize("evicts", [True, False])
def test_the_other_policies_refuse_the_new_event(evicts: bool) -> None:
    """Without eviction the new event is refused and nothing is dropped."""
    rig = three_batches(evicts=evicts)
    admission = rig.record(4)
    assert bool(admission) is evicts
    stats = rig.batcher.stats(0.0)
    assert (stats.refused, stats.dropped) == ((0, 2) if evicts else (1, 0))


@pytest.mark.parametrize("size", [10, 300_000])
def test_a_reentrant_event_is_accepted_or_dropped_never_refused(size: int) -> None:
    """An event that was answered "accepted" already is a counted drop where it cannot be kept."""
    rig = three_batches(evicts=False)
    rig.store.admit_or_drop(event(99, size), session(9), rig.store.lane_for(OTHER), 0.0)
    stats = rig.batcher.stats(0.0)
    assert (stats.accepted, stats.refused, stats.dropped) == (7, 0, 1)
    assert rig.store.room.free == 0


def test_a_reentrant_event_finds_room_like_any_other() -> None:
    """An event that was answered "accepted" already is admitted where there is room."""
    rig = Rig()
    rig.store.admit_or_drop(event(99), session(9), rig.home, 0.0)
    assert batches_of(rig) == [[99]]


def test_overflow_tells_who_waits_for_a_dropped_event() -> None:
    """A deliver() whose event is dropped hears the reason."""
    rig = Rig(make_store(max_pending_bytes=1_000))
    waiter = rig.deliver(1)
    assert rig.record(2, size=200)
    rig.notices()
    assert rig.fates == {waiter: Lost(DropReason.OVERFLOW)}


# Lanes of foreign app monitors ----------------------------------------------------------------------


def test_an_idle_lane_of_a_foreign_app_monitor_is_forgotten() -> None:
    """Nothing is kept of an app monitor of which everything was delivered."""
    rig = Rig()
    rig.record(1, monitor=OTHER)
    assert batches_of(rig) == [[1]]
    assert list(rig.store.lanes) == [HOME]


def test_a_put_that_was_withdrawn_leaves_no_lane() -> None:
    """A put() that waits for room does not keep its app monitor's lane, and its end harms no newer one."""
    rig = Rig(make_store(max_pending_bytes=1_300))
    rig.record(1, size=200)
    room = rig.put(9, size=300, monitor=OTHER)
    assert room is not None
    assert OTHER not in rig.store.lanes
    assert rig.record(9, monitor=OTHER)
    rig.store.room.withdraw(room)
    assert batches_of(rig) == [[3]]


def test_what_is_remembered_of_refused_app_monitors_is_bounded() -> None:
    """Of app monitors that the service refused a record is kept, but not without limit."""
    rig = Rig()
    for number in range(300):
        monitor = AppMonitor(f"{number:08x}-3333-4333-8333-333333333333")
        rig.store.lane_for(monitor).bad_streak = 1
        rig.store.forget_if_idle(monitor)
        assert monitor in rig.store.lanes
    assert len(rig.store.lanes) <= 256
    assert HOME in rig.store.lanes


def test_events_of_256_app_monitors_at_most_are_pending() -> None:
    """Another app monitor's event is invalid then, until one of the others is done."""
    rig = Rig()
    for number in range(255):
        rig.record(1, monitor=AppMonitor(f"{number:08x}-3333-4333-8333-333333333333"))
    with pytest.raises(InvalidEvent, match="256 app monitors"):
        rig.record(1, monitor=OTHER)
    assert rig.record(1)
    rig.settle(rig.send_next(), DELIVERED)
    assert rig.record(1, monitor=OTHER)


# Kept sessions --------------------------------------------------------------------------------------------


def test_a_session_that_is_kept_holds_on_to_no_batch_that_is_gone() -> None:
    """A caller may keep its session for days; what was sealed, or dropped, is not kept with it."""
    rig = Rig()
    kept = Session.new()
    for number in range(3):
        rig.store.admit(event(number), kept, rig.home, rig.now)
    assert kept._batch is rig.home.oldest is not None
    rig.batcher.make_due()
    rig.run(lambda _: DELIVERED)
    assert kept._batch is None
    for number in range(3):
        rig.store.admit(event(number), kept, rig.home, rig.now)
    rig.store.drop_open(DropReason.CLOSED)
    assert kept._batch is None


def test_one_session_in_two_buffers_and_for_two_app_monitors() -> None:
    """One object may stand for a session in several places; each event goes where it was meant to."""
    rigs, kept = (Rig(), Rig()), Session.new()
    for number in range(12):
        store = rigs[number % 2].store
        lane = store.lane_for(OTHER if number % 3 else HOME)
        assert store.admit(event(number), kept, lane, 0.0)
    for rig in rigs:
        rig.batcher.make_due()
        rig.run(lambda _: DELIVERED)
    found = [{batch.app_monitor: numbers(batch) for _, batch in rig.requests} for rig in rigs]
    assert found == [{HOME: [0, 6], OTHER: [2, 4, 8, 10]}, {HOME: [3, 9], OTHER: [1, 5, 7, 11]}]
    assert kept._batch is None


def test_a_kept_session_joins_the_newest_batch_of_its_session() -> None:
    """Another object of the session, with other attributes, may have opened a newer one: that is joined."""
    rig, kept = Rig(make_store(max_batch_events=20)), Session.new()
    other = Session(kept.id, attributes=A)
    third = Session(kept.id, attributes=B)
    for number, by in enumerate((kept, kept, other, third, kept, kept, kept)):
        rig.store.admit(event(number), by, rig.home, rig.now)
        if number % 2:
            assert rig.store.admit_waiting(None, event(10 + number), kept, rig.home, rig.now) is None
    assert batches_of(rig) == [[0, 1, 11, 2], [3, 13, 4, 5, 15, 6]]


def test_a_kept_session_joins_no_batch_that_came_back_before_a_newer_one() -> None:
    """What came back is closed when a newer one is open, or comes back too."""
    rig, kept = Rig(make_store(max_batch_events=20)), Session.new()
    numbers_to_come = itertools.count()

    def record(count: int) -> None:
        for _ in range(count):
            assert rig.store.admit(event(next(numbers_to_come)), kept, rig.home, rig.now)

    flights = []
    for _ in range(2):
        record(2)
        rig.batcher.make_due()
        flights.append(rig.send_one())
    rig.settle(flights[0], MISCONFIGURED)
    record(2)
    rig.settle(flights[1], MISCONFIGURED)
    record(8)
    assert [[number_of(one) for one in batch] for batch in open_batches(rig.home)] == [
        [0, 1, 4, 5],
        [2, 3, 6, 7, 8, 9, 10, 11, 12, 13],
    ]


def test_an_event_that_is_refused_tells_nothing_of_those_that_are_taken() -> None:
    """Only what was admitted counts among the largest."""
    rig = Rig(make_store(max_batch_bytes=100_000, max_pending_bytes=20_000, evicts=False))
    rig.fill(1, 2)
    before = rig.store._always_fit
    with pytest.raises(InvalidEvent):
        rig.record(1, size=50_000)
    assert not rig.record(1, size=19_150)
    assert not rig.record(2, size=19_150)
    assert rig.store._always_fit == before
    assert rig.record(1, size=10_000)
    assert rig.store._always_fit == (100_000 - envelope_size(rig.home, None)) // 10_001
