"""Where open batches stand: their order, their siblings, and the way back from a flight."""

from __future__ import annotations

import json
import random
from itertools import pairwise

import pytest

from rumbuffer.core.flights import Flight
from rumbuffer.core.lanes import Lane, OpenBatch
from rumbuffer.core.outcomes import HoldScope, Misconfigured
from rumbuffer.core.sealed import SealedBatch
from tests.core.helpers import DELIVERED, HOME, OTHER, Rig, event, make_store, numbers, session

A, B = '{"a":1}', '{"b":2}'
GONE = Misconfigured(HoldScope.APP_MONITOR, "ResourceNotFoundException")


def walk(lane: Lane) -> list[OpenBatch]:
    """The lane's batches from the oldest, with both directions of the list compared."""
    batches: list[OpenBatch] = []
    batch = lane.oldest
    while batch is not None:
        batches.append(batch)
        batch = batch.newer
    assert lane.newest is (batches[-1] if batches else None)
    assert all(newer.older is older for older, newer in pairwise(batches))
    assert lane.batch_count == len(batches)
    return batches


def opened(lane: Lane, of: int, seq: int, attributes: str | None = None) -> OpenBatch:
    """Open a batch with one event."""
    its = session(of, attributes)
    batch = lane.add(its, lane.envelope_for(its), 0.0, seq)
    batch.append(event(seq))
    return batch


def sealed(lane: Lane, batch: OpenBatch) -> Flight:
    """Take a batch out of its lane, as a flight."""
    lane.remove(batch)
    its = batch.session
    content = SealedBatch(
        its.id, lane.app_monitor, its.id, its.user_id, batch.attributes, tuple(batch.events)
    )
    return Flight(lane, content, its, seq=batch.seq, opened=batch.opened, charge=batch.charge, now=1.0)


# The list -------------------------------------------------------------------------------------------------


def test_batches_stand_in_the_order_of_their_opening_and_leave_from_anywhere() -> None:
    """One list holds all; the first, one in the middle and the last can be taken out."""
    lane = Lane(HOME)
    batches = [opened(lane, of, of) for of in range(5)]
    assert walk(lane) == batches
    for gone in (batches[2], batches[0], batches[4], batches[3], batches[1]):
        lane.remove(gone)
        batches.remove(gone)
        assert walk(lane) == batches
        assert gone.lane is None
    assert lane.is_empty
    assert lane.open == {}


def test_an_empty_lane_has_nothing_due() -> None:
    """Nothing is due or full where nothing is open."""
    lane = Lane(HOME)
    assert lane.oldest_quiet() is None
    assert lane.next_urgent() is None
    assert lane.oldest_full() is None


def test_the_oldest_quiet_batch_is_found_behind_all_others() -> None:
    """Whatever fills, leaves or comes back: the first that may fill, and is the first of its session."""
    choose = random.Random(3)
    lane = Lane(HOME)
    flights: list[Flight] = []
    for seq in range(0, 6_000, 2):
        batches = walk(lane)
        if len(batches) < 20 or choose.random() < 0.3:
            of = choose.randrange(12) if choose.random() < 0.7 else seq + 100
            batches.append(opened(lane, of, seq))
        batch = choose.choice(batches)
        match choose.randrange(4):
            case 0:
                flights.append(sealed(lane, batch))
            case 1 if flights:
                flight = flights.pop(choose.randrange(len(flights)))
                lane.restore(flight, None, list(flight.batch.events))
            case _:
                batch.closed = True
        may_fill = (each for each in walk(lane) if not each.closed and each.first_of_session() is each)
        if choose.random() < 0.5:
            assert lane.oldest_quiet() is next(may_fill, None)


# Siblings -------------------------------------------------------------------------------------------------


def test_a_sessions_batches_know_their_order() -> None:
    """Whichever of them is asked, the one that was opened first must be sealed first."""
    lane = Lane(HOME)
    batches = [opened(lane, 1, seq, attributes) for seq, attributes in enumerate((A, B, A, B))]
    assert {batch.first_of_session() for batch in batches} == {batches[0]}
    assert lane.open == {session(1).key: batches[3]}
    lane.remove(batches[0])
    assert batches[3].first_of_session() is batches[1]
    stranger = opened(lane, 2, 9)
    assert stranger.first_of_session() is stranger


def test_when_the_newest_leaves_the_one_before_is_the_sessions_newest() -> None:
    """A batch may leave from anywhere among its siblings too."""
    lane = Lane(HOME)
    first, second, third = (opened(lane, 1, seq, text) for seq, text in enumerate((A, B, A)))
    lane.remove(third)
    assert lane.open == {session(1).key: second}
    lane.remove(first)
    assert lane.open == {session(1).key: second}
    lane.remove(second)
    assert lane.open == {}


@pytest.mark.parametrize(
    ("attributes", "joins"), [((None, None), 1), ((None, A), 1), ((A, None), 1), ((A, A), 1), ((A, B), 2)]
)
def test_which_events_share_a_batch(attributes: tuple[str | None, str | None], joins: int) -> None:
    """Only different attributes start another batch; what is sent tells them apart."""
    rig = Rig()
    for text in attributes:
        rig.record(session(1, text))
    assert rig.store.open_batches() == joins
    rig.batcher.make_due()
    rig.run(lambda _: DELIVERED)
    sent = [json.loads(batch.body()).get("SessionMetadata") for _, batch in rig.requests]
    assert [text for text in sent if text] == list(dict.fromkeys(text for text in attributes if text))


def test_alternating_attributes_fill_two_batches() -> None:
    """Events go back to the open batch with their attributes, and those without to the newest."""
    rig = Rig()
    for text in (A, B, A, B, None):
        rig.record(session(1, text))
    rig.batcher.make_due()
    rig.run(lambda _: DELIVERED)
    assert [numbers(batch) for _, batch in rig.requests] == [[1, 3], [2, 4, 5]]


@pytest.mark.parametrize("attributes", [None, A])
@pytest.mark.parametrize("monitor", [HOME, OTHER])
def test_the_size_of_an_open_batch_is_that_of_its_body(monitor: object, attributes: str | None) -> None:
    """After every event, adopted attributes included, `size` is what the sealed body will have."""
    rig = Rig(make_store(max_batch_events=50))
    of_monitor = OTHER if monitor is OTHER else HOME
    for count in range(1, 21):
        rig.record(session(1, attributes if count > 10 else None), size=count * 7, monitor=of_monitor)
        batch = rig.store.lane_for(of_monitor).oldest
        assert batch is not None
        content = SealedBatch(
            session(9).id,
            of_monitor,
            session(1).id,
            session(1).user_id,
            batch.attributes,
            tuple(batch.events),
        )
        assert batch.body_size == len(content.body())


# Partly fitting -------------------------------------------------------------------------------------------


def test_one_event_is_taken_even_if_it_does_not_fit() -> None:
    """An event that is larger than a limit that fell goes alone, and the service decides."""
    rig = Rig()
    rig.fill(1, 2, size=30_000)
    rig.store.max_batch_bytes = 20_000  # as after a 413
    rig.batcher.make_due()
    rig.run(lambda _: DELIVERED)
    assert [numbers(batch) for _, batch in rig.requests] == [[1], [2]]


def test_the_rest_of_a_partly_sealed_batch_keeps_its_place_and_urgency() -> None:
    """Renumbering moves a batch within the queues of full and of urgent ones, and not in the list."""
    lane = Lane(HOME)
    batches = [opened(lane, of, of * 10) for of in range(3)]
    lane.full[10] = lane.urgent[10] = batches[1]
    lane.renumber(batches[1], 11)
    lane.renumber(batches[2], 21)
    assert dict(lane.full) == dict(lane.urgent) == {11: batches[1]}
    assert (batches[1].seq, batches[2].seq) == (11, 21)
    assert walk(lane) == batches


# The way back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_flight_goes_back_to_its_place_in_the_lane(gone: int) -> None:
    """Its events are again what is due first, or last, as they were."""
    lane = Lane(HOME)
    batches = [opened(lane, of, of) for of in range(3)]
    flight = sealed(lane, batches[gone])
    back = lane.restore(flight, None, list(flight.batch.events))
    batches[gone] = back
    assert walk(lane) == batches
    assert (back.body_size, back.charge, back.opened) == (
        len(flight.batch.body()),
        flight.charge,
        flight.opened,
    )
    assert not back.closed


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_flights_of_one_session_go_back_in_order(order: tuple[int, int]) -> None:
    """In whatever order they come back, their session's newest events stay the last to be sealed."""
    lane = Lane(HOME)
    batches = [opened(lane, 1, seq, text) for seq, text in enumerate((A, B))]
    flights = [sealed(lane, batch) for batch in batches]
    later = opened(lane, 1, 7)
    for index in order:
        lane.restore(flights[index], flights[index].attributes, list(flights[index].batch.events))
    assert [batch.seq for batch in walk(lane)] == [0, 1, 7]
    assert [batch.seq for batch in later.siblings or ()] == [0, 1, 7]
    assert lane.open == {session(1).key: later}


def test_nothing_joins_a_batch_that_came_back_before_later_ones() -> None:
    """Or it would be sent before events that were there earlier."""
    lane = Lane(HOME)
    flight = sealed(lane, opened(lane, 1, 0))
    later = opened(lane, 1, 1)
    back = lane.restore(flight, None, list(flight.batch.events))
    assert back.closed
    assert lane.joinable(session(1)) is later


def test_a_session_goes_on_in_the_batch_that_came_back_last() -> None:
    """With nothing newer open, the next event joins what a hold gave back."""
    lane = Lane(HOME)
    flights = [sealed(lane, opened(lane, 1, seq)) for seq in range(2)]
    for flight in flights:
        lane.restore(flight, None, list(flight.batch.events))
    joined = lane.joinable(session(1))
    assert joined is not None
    assert joined.seq == 1


# Foreign lanes --------------------------------------------------------------------------------------------


def test_a_foreign_lane_is_forgotten_when_all_arrived() -> None:
    """Nothing is kept of an app monitor that has nothing left here."""
    rig = Rig()
    rig.fill(1, monitor=OTHER)
    flight = rig.send_one()
    assert OTHER in rig.store.lanes
    rig.settle(flight, DELIVERED)
    assert set(rig.store.lanes) == {HOME}


def test_a_held_foreign_lane_is_remembered_without_events() -> None:
    """Its hold goes on, so that the next event does not start it anew."""
    rig = Rig(make_store(max_pending_bytes=2000))
    rig.fill(1, monitor=OTHER)
    rig.settle(rig.send_one(), GONE)
    for of in range(10):
        rig.record(of)
    assert rig.store.lanes[OTHER].is_empty
    assert rig.batcher.health() == "held"


def test_a_batch_is_equal_to_itself_alone() -> None:
    """Two batches with the same events are two; what is shown of one are no events."""
    lane = Lane(HOME)
    one, other = opened(lane, 1, 1), opened(lane, 2, 1)
    assert one == one  # noqa: PLR0124
    assert one != other
    assert len({one, other}) == 2
    assert repr(one) == "<OpenBatch 1 of 1 events>"
