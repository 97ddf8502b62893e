"""The events of one call: admitted together, in turn with all others who wait for room."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from rumbuffer.core.lanes import BATCH_CHARGE, EVENT_CHARGE
from rumbuffer.core.news import Waiter
from rumbuffer.core.notices import DropReason
from rumbuffer.core.store import Store
from rumbuffer.errors import InvalidEvent
from rumbuffer.events import AppMonitor, Session

MONITOR = AppMonitor("8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11")
EVENT = b"x" * 100
COST = len(EVENT) + EVENT_CHARGE
FIRST, SECOND = (Session(f"00000000-0000-4000-8000-00000000000{number}") for number in (1, 2))
RICH = Session(FIRST.id, attributes={"domain": "example.com"})

Left = deque[tuple[bytes, Waiter | None]]


def store_of(capacity: int, **limits: Any) -> Store:
    """A store with so many bytes of room."""
    limits = {"max_batch_events": 100, "max_batch_bytes": 100_000, "linger": 5.0, **limits}
    return Store(MONITOR, max_pending_bytes=capacity, evicts=True, keep_dropped=False, **limits)


def events(count: int, size: int = len(EVENT)) -> Left:
    """So many events for which nobody waits."""
    return deque((b"x" * size, None) for _ in range(count))


def worst(count: int, session: Session = FIRST) -> int:
    """What so many events are reserved at most: with a new batch, and attributes for another."""
    lane = store_of(10_000).home
    attributes = lane.envelope_for(session) - lane.envelope_size
    return BATCH_CHARGE + lane.envelope_for(session) + attributes + count * COST


@pytest.mark.parametrize("session", [FIRST, RICH])
@pytest.mark.parametrize("missing", [0, 1])
def test_all_or_none(session: Session, missing: int) -> None:
    """Where a byte of the room for all of them is missing, none is admitted."""
    store = store_of(100_000)
    store.room.free = worst(3, session) - missing
    left = events(3)
    waiter = store.admit_together(None, left, session, store.home, 0.0)
    assert (waiter is None, len(left), store.counters.accepted) == (
        (False, 3, 0) if missing else (True, 0, 3)
    )
    assert store.room.free >= 0


def test_no_more_than_was_reserved_while_others_wait() -> None:
    """A call that has its turn takes what was reserved for it; for the rest it stands behind the others."""
    store = store_of(100_000, max_batch_events=2)
    store.room.free = 0
    left, others = events(5), events(100, size=500)
    first = store.admit_together(None, left, FIRST, store.home, 0.0)
    other = store.admit_together(None, others, SECOND, store.home, 0.0)
    assert first is not None
    assert other is not None
    store.room.free = worst(2) + other.needed - 1  # not enough for the other
    store.room.grant()
    assert (first.granted, other.granted) == (True, False)
    again = store.admit_together(first, left, FIRST, store.home, 0.0)
    assert (len(left), store.counters.accepted) == (3, 2)
    assert list(store.room.waiters) == [again] if other.granted else [other, again]
    store.room.free += 100_000
    store.room.grant()
    assert other.granted


def test_room_that_nobody_waits_for_is_taken_at_once() -> None:
    """A call of several batches is admitted at once where there is room for all."""
    store = store_of(100_000, max_batch_events=2)
    left = events(7)
    assert store.admit_together(None, left, FIRST, store.home, 0.0) is None
    assert (len(left), store.counters.pending, store.open_batches()) == (0, 7, 4)
    assert store.room.free == 100_000 - 7 * COST - 4 * (BATCH_CHARGE + store.home.envelope_size)


def test_the_largest_event_that_there_can_be() -> None:
    """An event that takes the whole memory gets in once that is free, session attributes and all."""
    lane = store_of(10_000).home
    capacity = BATCH_CHARGE + lane.envelope_for(RICH) + 5000 + EVENT_CHARGE
    store = store_of(capacity)
    store.check_fit(b"x" * 5000, RICH, store.home)
    with pytest.raises(InvalidEvent, match="max_pending_bytes"):
        store.check_fit(b"x" * 5001, RICH, store.home)
    assert store.admit_together(None, events(1), SECOND, store.home, 0.0) is None
    left = events(2, size=5000)
    waiter = store.admit_together(None, left, RICH, store.home, 0.0)
    assert waiter is not None
    assert list(store.room.waiters) == [waiter]
    store.drop_open(DropReason.CLOSED)
    store.room.grant()
    assert waiter.granted
    waiter = store.admit_together(waiter, left, RICH, store.home, 0.0)
    assert (len(left), store.room.free) == (1, 0)
    assert waiter is not None


def test_some_join_an_open_batch() -> None:
    """What is reserved is enough where some join a batch, which adopts attributes, and some open one."""
    store = store_of(100_000, max_batch_events=4)
    assert store.admit_together(None, events(2), FIRST, store.home, 0.0) is None
    store.room.free = worst(4, RICH)
    assert store.admit_together(None, events(4), RICH, store.home, 0.0) is None
    assert (store.open_batches(), store.room.free) == (2, 0)


def test_a_limit_that_falls_meanwhile() -> None:
    """Where batches became smaller while a call waited, it takes what it reserved, and waits for the rest."""
    store = store_of(100_000)
    store.room.free = 0
    left = events(50)
    waiter = store.admit_together(None, left, FIRST, store.home, 0.0)
    assert waiter is not None
    store.max_batch_bytes = 1000
    store.room.free = waiter.needed
    store.room.grant()
    waiter = store.admit_together(waiter, left, FIRST, store.home, 0.0)
    assert waiter is not None
    assert 0 < len(left) < 50
    assert store.room.free >= 0
    assert waiter.needed <= worst(10)
