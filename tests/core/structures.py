"""The core's structures, walked and compared with each other and with what is charged for them."""

from __future__ import annotations

from collections.abc import Iterator

from rumbuffer.core.flights import Flight, FlightState
from rumbuffer.core.lanes import BATCH_CHARGE, EVENT_CHARGE, Lane, OpenBatch
from rumbuffer.core.room import RoomWaiter
from rumbuffer.core.sealed import SealedBatch
from rumbuffer.core.store import Store
from rumbuffer.events import Session

_ID = "00000000-0000-0000-0000-000000000000"


def open_batches(lane: Lane) -> Iterator[OpenBatch]:
    """Walk a lane's list from its oldest batch."""
    batch = lane.oldest
    while batch is not None:
        yield batch
        batch = batch.newer


def body_size(batch: OpenBatch) -> int:
    """The size of the body, if the batch were sealed now."""
    assert batch.lane is not None
    session = batch.session
    sealed = SealedBatch(
        _ID, batch.lane.app_monitor, session.id, session.user_id, batch.attributes, tuple(batch.events)
    )
    return len(sealed.body())


def envelope_size(lane: Lane, attributes: bytes | None) -> int:
    """The size of a body without events."""
    return len(SealedBatch(_ID, lane.app_monitor, _ID, _ID, attributes, ()).body())


def charges_of(events: list[bytes] | tuple[bytes, ...]) -> int:
    """What DESIGN.md charges for events."""
    return sum(len(encoded) + EVENT_CHARGE for encoded in events)


def check_structures(store: Store, granted: list[RoomWaiter], max_in_flight: int) -> None:
    """Compare lists, dicts, siblings, sizes, charges and counters; `granted` waiters hold reservations."""
    charged_open = sum(_check_lane(store, lane) for lane in store.lanes.values())
    flights = [flight for lane in store.lanes.values() for flight in lane.flights]
    charged_fixed = sum(_check_flight(flight) for flight in flights) + sum(
        waiter.needed for waiter in granted
    )
    room = store.room
    assert room.fixed == charged_fixed
    assert room.reserved == len(granted)
    assert room.capacity - room.free == charged_open + charged_fixed
    assert 0 <= room.free <= room.capacity
    assert sum(flight.state is FlightState.SENDING for flight in flights) <= max_in_flight
    assert store.counters.pending == sum(
        len(batch.events) for lane in store.lanes.values() for batch in open_batches(lane)
    )
    assert store.counters.in_flight == sum(flight.event_count() for flight in flights)
    assert store.open_batches() == sum(len(list(open_batches(lane))) for lane in store.lanes.values())


def _check_lane(store: Store, lane: Lane) -> int:
    """Check the lane's list; return what its open batches are charged."""
    assert store.lanes[lane.app_monitor] is lane
    batches = list(open_batches(lane))
    assert [batch.seq for batch in batches] == sorted({batch.seq for batch in batches})
    assert lane.newest is (batches[-1] if batches else None)
    charged = 0
    for older, batch in zip([None, *batches], batches, strict=False):
        assert batch.lane is lane
        assert batch.older is older
        assert batch.events
        assert len(batch.events) <= store.max_batch_events
        assert batch.body_size == body_size(batch)
        assert len(batch) > store._always_fit or batch.body_size <= store.max_batch_bytes
        _check_joined(batch.session)
        charged += _own_charge(batch.charge, lane, batch.attributes) + charges_of(batch.events)
    _check_siblings(lane, batches)
    for seq, batch in (*lane.full.items(), *lane.urgent.items()):
        assert batch.seq == seq
        assert batch in batches
    assert all(batch.closed for batch in lane.full.values())
    may_fill = (each for each in batches if not each.closed and each.first_of_session() is each)
    assert lane.oldest_quiet() is next(may_fill, None)
    # What is full is found as full, unless the overflow has eaten from it.
    for batch in batches:
        assert batch.closed or len(batch.events) < store.max_batch_events
    return charged


def _check_joined(session: Session) -> None:
    """Check that a session holds on to no batch but one that it opened, and that waits."""
    batch = session._batch
    if batch is not None:
        assert batch.session is session
        assert batch.lane is not None
        assert batch in list(open_batches(batch.lane))
        assert batch.lane.open[session.key] is batch


def _check_siblings(lane: Lane, batches: list[OpenBatch]) -> None:
    of_session: dict[str, list[OpenBatch]] = {}
    for batch in batches:
        of_session.setdefault(batch.session.key, []).append(batch)
    assert lane.open == {key: siblings[-1] for key, siblings in of_session.items()}
    for siblings in of_session.values():
        for batch in siblings:
            known = list(batch.siblings) if batch.siblings is not None else [batch]
            assert known == siblings
            assert batch.first_of_session() is siblings[0]


def _check_flight(flight: Flight) -> int:
    """Check a flight; return what it is charged."""
    assert flight.parts
    _check_joined(flight.session)
    own_charge = _own_charge(flight.charge, flight.lane, flight.attributes)
    return own_charge + sum(charges_of(part.batch.events) for part in flight.parts)


def _own_charge(charge: int, lane: Lane, attributes: bytes | None) -> int:
    """A batch is charged once; sealed in two pieces, because the size limit fell, the second bears it."""
    assert charge in (0, BATCH_CHARGE + envelope_size(lane, attributes))
    return charge
