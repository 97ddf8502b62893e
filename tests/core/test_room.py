"""put() and room: first come, first served, and never starved by record()."""

from __future__ import annotations

import random

import pytest

from rumbuffer.core.room import RoomWaiter
from tests.core.helpers import DELIVERED, OTHER, Rig, event, make_store, numbers, session
from tests.core.structures import check_structures


def test_put_is_admitted_at_once_where_there_is_room() -> None:
    """put() does not wait without need."""
    rig = Rig()
    assert rig.put(1) is None
    assert rig.counts == (1, 0, 0)


def test_put_evicts_nothing_and_presses() -> None:
    """put() waits instead of dropping, and the oldest batch then goes without its linger."""
    rig = Rig(make_store(max_pending_bytes=1_300))
    rig.record(1)
    assert rig.wait() == 5.0
    room = rig.put(2, size=300)
    assert room is not None
    assert not room.granted
    assert rig.store.news.wake
    assert rig.counts == (1, 0, 0)
    assert numbers(rig.send_one().batch) == [1]


def test_a_waiting_put_is_not_counted_as_offered() -> None:
    """`offered` counts decisions: a put() that waits, or was cancelled, is none."""
    rig = Rig(make_store(max_pending_bytes=1_300))
    rig.record(1)
    room = rig.put(2, size=300)
    assert room is not None
    assert (rig.batcher.stats(0.0).offered, rig.batcher.stats(0.0).waiters) == (1, 1)
    rig.store.room.withdraw(room)
    assert (rig.batcher.stats(0.0).offered, rig.batcher.stats(0.0).waiters) == (1, 0)


def test_freed_room_is_reserved_in_order() -> None:
    """Room that gets free is promised to those who wait in their order; a small one does not overtake."""
    rig = Rig(make_store(max_pending_bytes=3_000), max_in_flight=1)
    rig.fill(1, 4, size=200)
    rig.fill(2, 2, size=200)
    large, small = rig.put(3, size=1_300), rig.put(4)
    assert large is not None
    assert small is not None
    rig.settle(rig.send_next(), DELIVERED)
    assert not small.granted
    rig.settle(rig.send_next(), DELIVERED)
    assert (large.granted, small.granted) == (True, True)
    rig.notices()
    assert rig.granted == [large, small]
    assert rig.batcher.stats(0.0).waiters == 2
    assert rig.put(3, encoded=event(77, 1_300), room=large) is None
    assert rig.put(4, encoded=event(78), room=small) is None
    check_structures(rig.store, [], 1)
    assert rig.counts[0] == 2


@pytest.mark.parametrize("short_by", [0, 1])
def test_room_is_granted_to_the_byte(short_by: int) -> None:
    """A put() gets its room as soon as there is exactly enough, and not for one byte less."""
    rig = Rig(make_store(max_pending_bytes=2_000))
    rig.fill(1, 2)
    room = rig.put(2, size=900)
    assert room is not None
    freed = room.needed - rig.store.room.free - short_by
    rig.store.room.free += freed
    rig.store.room.grant()
    assert room.granted is not bool(short_by)
    assert rig.store.room.free >= 0


def test_a_put_does_not_overtake_one_that_waits() -> None:
    """While somebody waits, another put() waits behind, even where its event would fit."""
    rig = Rig(make_store(max_pending_bytes=1_300))
    rig.record(1)
    first = rig.put(2, size=300)
    second = rig.put(1)
    assert first is not None
    assert second is not None
    assert list(rig.store.room.waiters) == [first, second]


def test_cancelling_gives_the_room_to_the_next() -> None:
    """A cancelled put() is nowhere, whether it had its room or not, and the next in line takes its turn."""
    rig = Rig(make_store(max_pending_bytes=1_600))
    rig.record(1)
    large, next_one = rig.put(2, size=700), rig.put(3)
    assert large is not None
    assert next_one is not None
    rig.store.room.withdraw(large)
    assert next_one.granted
    check_structures(rig.store, [next_one], 4)
    rig.store.room.withdraw(next_one)
    check_structures(rig.store, [], 4)


def test_record_may_not_take_what_is_free_while_a_put_waits() -> None:
    """Without eviction, record() is refused while a put() waits, though its event would fit."""
    rig = Rig(make_store(max_pending_bytes=1_300, evicts=False))
    rig.record(1)
    assert rig.put(2, size=300) is not None
    free = rig.store.room.free
    assert free > 200
    assert not rig.record(1)
    assert rig.store.room.free == free


def test_record_evicts_for_itself_while_a_put_waits() -> None:
    """Under DROP_OLDEST, record() pays with evictions of its own while a put() waits."""
    rig = Rig(make_store(max_pending_bytes=2_200))
    rig.fill(1, 4, size=30)
    room = rig.put(2, size=900)
    assert room is not None
    free = rig.store.room.free
    assert rig.record(3, size=30)
    dropped = rig.batcher.stats(0.0).dropped
    assert dropped > 0
    assert rig.store.room.free >= free or room.granted


@pytest.mark.parametrize("evicts", [True, False])
def test_no_waiter_starves_beside_record(evicts: bool) -> None:
    """With producers that never stop, every put() gets its room, in order and within seconds."""
    rig = Rig(make_store(evicts=evicts, max_pending_bytes=20_000), rate=20.0, burst=1)
    choose = random.Random(7)
    waiting: list[tuple[float, RoomWaiter, bytes, int]] = []
    waited: list[float] = []
    order: list[int] = []
    for step in range(1_000):
        rig.run(lambda _: DELIVERED, until=step / 50)
        for _ in range(15):  # far more than the quota carries
            rig.record(choose.randrange(40), size=choose.choice([30, 300]), number=9)
        if step % 5 == 0 and step < 750:
            encoded, of = event(step, choose.choice([30, 3_000])), choose.randrange(40)
            room = rig.put(of, encoded=encoded)
            if room is not None:
                waiting.append((rig.now, room, encoded, of))
        for since, room, encoded, of in list(waiting):
            if room.granted:
                assert rig.put(of, encoded=encoded, room=room) is None
                waiting.remove((since, room, encoded, of))
                waited.append(rig.now - since)
                order.append(int(since * 50))
    assert len(waited) > 100
    assert not waiting
    assert order == sorted(order)
    assert max(waited) < 5.0


def test_a_foreign_app_monitors_put_is_admitted_from_its_reservation() -> None:
    """A put() for another app monitor finds its lane again when its room is there."""
    rig = Rig(make_store(max_pending_bytes=1_300))
    rig.record(1)
    room = rig.put(2, size=300, monitor=OTHER)
    assert room is not None
    rig.settle(rig.send_one(), DELIVERED)
    assert room.granted
    assert rig.put(2, size=300, monitor=OTHER, room=room) is None
    assert rig.store.lanes[OTHER].open[session(2).key].events
