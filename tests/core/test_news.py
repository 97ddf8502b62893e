"""What is left for the pump to hand over: losses, fates, notices, and whether it must look."""

from __future__ import annotations

import math

import pytest

from rumbuffer.core.counters import Counters
from rumbuffer.core.news import Arrived, Lost, News, Waiter
from rumbuffer.core.notices import DeadLetterReason, Dropped, DropReason, OutageStarted
from tests.core.helpers import event


def news(*, keep_dropped: bool = True) -> News:
    """News that nobody has taken yet."""
    return News(Counters(), keep_dropped=keep_dropped)


def test_drops_are_gathered_by_reason_and_handed_over_once_a_second() -> None:
    """The first drop is told at once, and what follows within a second comes as one notice a reason."""
    some = news()
    some.drop(DropReason.OVERFLOW, [event(1)])
    assert some.wake
    assert some.take(10.0).notices == [Dropped(DropReason.OVERFLOW, 1, 7, (event(1),))]
    some.wake = False
    some.drop(DropReason.OVERFLOW, [event(2), event(3)])
    assert some.wake
    some.wake = False
    some.drop(DropReason.CLOSED, [event(4)])
    assert not some.wake, "it rides along"
    assert some.next_hand_over() == 11.0
    assert some.take(10.9).notices == []
    assert some.take(11.0).notices == [
        Dropped(DropReason.OVERFLOW, 2, 14, (event(2), event(3))),
        Dropped(DropReason.CLOSED, 1, 7, (event(4),)),
    ]
    assert some.next_hand_over() == math.inf


def test_at_the_end_everything_is_handed_over() -> None:
    """The close does not wait for the second to pass."""
    some = news()
    some.drop(DropReason.OVERFLOW, [event(1)])
    some.take(10.0)
    some.drop(DropReason.OVERFLOW, [event(2)])
    assert len(some.take(math.inf).notices) == 1


def test_a_mebibyte_of_dropped_events_is_kept_and_all_are_counted() -> None:
    """However many events are lost, a bounded amount is kept for the hooks; count and size are exact."""
    some = news()
    for number in range(3):
        some.drop(DropReason.OVERFLOW, [event(number, 500_000)])
    some.drop(DropReason.CLOSED, [event(3, 30_000)])
    overflow, closed = some.take(0.0).notices
    assert isinstance(overflow, Dropped)
    assert isinstance(closed, Dropped)
    assert (overflow.count, overflow.size) == (3, 1_500_000)
    assert overflow.events == (event(0, 500_000), event(1, 500_000))
    assert closed.events == (event(3, 30_000),)
    some.drop(DropReason.OVERFLOW, [event(4, 900_000)])
    (later,) = some.take(5.0).notices
    assert isinstance(later, Dropped)
    assert len(later.events) == 1, "after a hand-over there is room again"


def test_without_hooks_no_dropped_event_is_kept() -> None:
    """Where nobody asks for them, lost events take no memory."""
    some = news(keep_dropped=False)
    some.drop(DropReason.OVERFLOW, [event(1)])
    assert some.take(0.0).notices == [Dropped(DropReason.OVERFLOW, 1, 7, ())]


def test_each_waiter_hears_one_fate() -> None:
    """Who waits for an event hears what became of it, once, also where two events have the same bytes."""
    some = news()
    first, second, other = Waiter(), Waiter(), Waiter()
    some.watch(event(1), first)
    some.watch(event(1), second)
    some.watch(event(2), other)
    assert some.is_watched([event(3), event(2)])
    some.decide([event(1)], Arrived("an id"))
    some.decide([event(3)], Arrived("another"))
    some.drop(DropReason.OVERFLOW, [event(1)])
    assert some.wake
    assert some.take(0.0).fates == [(first, Arrived("an id")), (second, Lost(DropReason.OVERFLOW))]
    assert not some.is_watched([event(1)])
    some.decide([event(2)], Lost(DeadLetterReason.INVALID, "why"))
    assert some.take(0.0).fates == [(other, Lost(DeadLetterReason.INVALID, "why"))]
    some.decide([event(2)], Arrived("late"))
    assert some.take(0.0).fates == []
    assert not some.is_watched([event(2)])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_notices_are_taken_once_and_wake_the_pump(count: int) -> None:
    """Notices come in their order; nothing to tell wakes nobody."""
    some = news()
    notices = [OutageStarted("an app monitor", str(number)) for number in range(count)]
    some.notice(*notices)
    assert some.wake is bool(count)
    assert some.take(0.0).notices == notices
    assert some.take(0.0).notices == []
