"""When a batch is sealed, in which order, and when the pump must look."""

from __future__ import annotations

import math

from tests.core.helpers import DELIVERED, Rig, make_store, numbers, session

A, B = '{"a":1}', '{"b":2}'


def test_sealing_is_late() -> None:
    """A batch gets its last event at the moment when it is sent."""
    rig = Rig(burst=1, rate=1.0, store=make_store(max_batch_events=100))
    rig.fill(1, 2)
    rig.batcher.make_due()
    rig.fill(2, 1)
    rig.batcher.make_due()
    assert numbers(rig.send_one().batch) == [1, 2]
    rig.record(2)
    assert numbers(rig.send_next().batch) == [3, 4]


def test_linger_makes_a_batch_due() -> None:
    """A batch is sent when its first event has waited for the linger, and not before."""
    rig = Rig(now=100.0)
    rig.record(1)
    rig.now = 103.0
    rig.record(2)
    rig.record(1)
    assert rig.wait() == 105.0
    rig.now = 105.0
    assert numbers(rig.send_one().batch) == [1, 3]
    assert rig.wait() == 108.0


def test_deliver_makes_its_batch_due_at_once() -> None:
    """deliver() does not wait for the linger, and takes along what its session has."""
    rig = Rig()
    rig.record(1)
    rig.deliver(1)
    assert numbers(rig.send_one().batch) == [1, 2]


def test_the_older_of_a_full_and_an_urgent_batch_goes_first() -> None:
    """Of batches that are due for different reasons, the older goes first."""
    rig = Rig(make_store(linger=100.0), max_in_flight=1)
    rig.deliver(1)
    rig.fill(2, 4)
    rig.fill(3, 4)
    rig.deliver(4)
    rig.run(lambda _: DELIVERED, until=50.0)
    assert [numbers(batch) for _, batch in rig.requests] == [[1], [2, 3, 4, 5], [6, 7, 8, 9], [10]]


def test_a_sessions_older_batch_is_sealed_first() -> None:
    """Where a session's second batch is full and its first is not, the first is sent."""
    rig = Rig(max_in_flight=1)
    rig.record(session(1, A))
    rig.fill(session(1, B), 4)
    rig.run(lambda _: DELIVERED, until=1.0)
    assert [numbers(batch) for _, batch in rig.requests] == [[1], [2, 3, 4, 5]]


def test_flush_makes_due_what_is_there_and_nothing_newer() -> None:
    """Batches that are opened after the flush linger, and do not prolong it."""
    rig = Rig()
    rig.record(1)
    mark = rig.batcher.make_due()
    rig.record(2)
    flight = rig.send_one()
    assert numbers(flight.batch) == [1]
    assert not rig.batcher.settled_before(mark)
    rig.settle(flight, DELIVERED)
    assert rig.batcher.settled_before(mark)
    assert rig.wait() == 5.0


def test_nothing_to_do_waits_for_ever() -> None:
    """An empty buffer needs no timer."""
    assert Rig().wait() == math.inf


def test_the_pump_is_woken_only_when_it_must_look_earlier() -> None:
    """A first batch and a full one wake the pump; nothing does while no token is there."""
    rig = Rig(burst=1, rate=0.1)
    news = rig.store.news

    def woken() -> bool:
        was, news.wake = news.wake, False
        return was

    rig.wait()
    rig.record(1)
    assert woken()
    rig.wait()
    rig.record(1)
    rig.record(2)
    assert not woken()
    rig.fill(1, 2)
    assert woken()
    rig.send()
    rig.fill(2, 3)
    rig.fill(3, 4)
    assert woken()
    rig.send()  # due now, but for the token
    rig.fill(4, 4)
    assert not woken()
