"""What a token is spent on: full batches, quiet sessions, and who goes before whom."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from rumbuffer.core.notices import DropReason
from rumbuffer.core.outcomes import Failed, Outcome, Throttled
from rumbuffer.core.sealed import SealedBatch
from tests.core.helpers import DELIVERED, OTHER, Rig, make_store, number_of, numbers


def backlog(*, full: int, quiet: int) -> Rig:
    """Full batches of some sessions, and due ones of others that were there first; one token at a time."""
    rig = Rig(make_store(linger=0.0), rate=10.0, burst=1)
    for number in range(quiet):
        rig.record(1_000 + number)
    for number in range(full):
        rig.fill(number)
    return rig


def test_one_token_in_four_goes_to_the_oldest_due_batch_that_is_not_full() -> None:
    """Three tokens go to full batches, in their order, the fourth to the batch that waits for longest."""
    rig = backlog(full=9, quiet=3)
    rig.run(lambda _: DELIVERED)
    sizes = [len(batch.events) for _, batch in rig.requests]
    assert sizes == [1, 4, 4, 4, 1, 4, 4, 4, 1, 4, 4, 4]
    full = [numbers(batch)[0] for _, batch in rig.requests if len(batch.events) == 4]
    assert full == sorted(full)


def test_without_full_batches_every_token_serves_what_is_due() -> None:
    """The order of due batches is that of their opening, over all app monitors."""
    rig = Rig(rate=10.0, burst=1)
    for number in range(6):
        rig.record(number, monitor=OTHER if number % 2 else rig.home.app_monitor)
    rig.batcher.make_due()
    rig.run(lambda _: DELIVERED)
    assert [numbers(batch) for _, batch in rig.requests] == [[1], [2], [3], [4], [5], [6]]


def test_the_oldest_full_batch_goes_first_over_all_app_monitors() -> None:
    """No app monitor's full batches stand behind another's."""
    rig = Rig(rate=10.0, burst=1)
    for number in range(6):
        rig.fill(number, monitor=OTHER if number % 2 else rig.home.app_monitor)
    rig.run(lambda _: DELIVERED)
    assert [numbers(batch)[0] for _, batch in rig.requests] == [1, 5, 9, 13, 17, 21]


@pytest.mark.parametrize(
    ("offered", "rate", "seconds", "lingers"), [(44, 50, 100, 1), (55, 50, 300, 4), (200, 50, 60, 4)]
)
def test_quiet_sessions_are_not_starved_by_55_busy_ones(
    offered: int, rate: int, seconds: int, lingers: int
) -> None:
    """Beside 55 sessions that could fill every batch, a quiet one's event goes as soon as it is due.

    While more full batches are offered than can be sent, and the busy sessions' backlog grows, it goes
    after four lingers.
    """
    choose = random.Random(1)
    rig = Rig(
        make_store(max_batch_events=20, max_pending_bytes=1 << 30), rate=rate, burst=10, max_in_flight=32
    )
    recorded_at: dict[int, float] = {}
    ages: list[float] = []
    fills: list[int] = []

    def answer(batch: SealedBatch) -> Outcome:
        fills.append(len(batch.events))
        if int(batch.session_id[:8], 16) >= 1_000:
            ages.extend(rig.now - recorded_at[number_of(encoded)] for encoded in batch.events)
        return DELIVERED

    for step in range(seconds * 10):
        rig.run(answer, until=step / 10)
        for _ in range(offered * 2):
            rig.record(choose.randrange(55), number=0)
        if step % 4 == 0:
            recorded_at[step] = rig.now
            rig.record(1_000 + step, number=step)
    longest = lingers * rig.store.linger + 1.0
    assert len(ages) >= (seconds - longest) * 2.5
    assert max(ages) <= longest
    assert sum(fills) / len(fills) > 18


def quiet_beside(rig: Rig, busy: Callable[[int], None], seconds: int) -> list[float]:
    """Run quiet sessions, 2.5 a second, beside what `busy` records in each tenth; return their ages."""
    recorded_at: dict[int, float] = {}
    ages: list[float] = []

    def answer(batch: SealedBatch) -> Outcome:
        if int(batch.session_id[:8], 16) >= 1_000:
            ages.extend(rig.now - recorded_at[number_of(encoded)] for encoded in batch.events)
        return DELIVERED

    for step in range(seconds * 10):
        rig.run(answer, until=step / 10)
        busy(step)
        if step % 4 == 0:
            recorded_at[step] = rig.now
            rig.record(1_000 + step, number=step)
    return ages


def test_an_overflow_does_not_starve_quiet_sessions() -> None:
    """The batch that the overflow eats from stands in front of all, and takes no quiet one's token."""
    choose = random.Random(4)
    store = make_store(max_batch_events=20, max_batch_bytes=1_000_000, max_pending_bytes=300_000)
    rig = Rig(store, rate=10.0, burst=1, max_in_flight=32)

    def busy(step: int) -> None:
        for _ in range(25):
            rig.record(choose.randrange(12), number=0)

    ages = quiet_beside(rig, busy, 300)
    assert rig.store.counters.dropped[DropReason.OVERFLOW] > 1_000
    assert len(ages) > 500
    assert max(ages) <= 4 * rig.store.linger + 2.0


def test_a_session_with_many_full_batches_does_not_starve_quiet_ones() -> None:
    """A batch that may fill, and stands behind full ones of its session, has its turn after them."""
    store = make_store(max_batch_events=20, max_batch_bytes=1_000_000, max_pending_bytes=1 << 30)
    rig = Rig(store, rate=10.0, burst=1, max_in_flight=32)
    rig.fill(1, 20 * 200 + 5)
    choose = random.Random(4)

    def busy(step: int) -> None:
        for _ in range(20):
            rig.record(10 + choose.randrange(12), number=0)

    ages = quiet_beside(rig, busy, 200)
    assert len(ages) > 400
    assert max(ages) <= 4 * rig.store.linger + 2.0


def test_what_is_eaten_from_goes_when_there_is_no_quiet_one() -> None:
    """When the overflow is over, the batch that lost events does not wait behind full ones for ever."""
    rig = Rig(make_store(linger=1.0, max_pending_bytes=5_000), rate=10.0, burst=1)
    rig.fill(1)
    while not rig.store.counters.dropped[DropReason.OVERFLOW]:
        rig.record(2)
    oldest = rig.home.oldest
    assert oldest is not None
    assert len(oldest.events) < 4
    rig.now = 4.0
    for _ in range(12):
        rig.fill(2, 1)
        rig.run(lambda _: DELIVERED, until=rig.now + 0.1)
    assert len(rig.requests[0][1].events) < 4


def test_deliveries_and_quiet_ones_share_the_fourth_tokens() -> None:
    """Neither waits for the other: of the fourth tokens each gets every second one."""
    rig = Rig(make_store(linger=1.0), rate=10.0, burst=1)
    for of in range(20):
        rig.record(1_000 + of)
    rig.now = 10.0
    for of in range(20):
        rig.deliver(2_000 + of)
    for of in range(100):
        rig.fill(of)
    rig.run(lambda _: DELIVERED, until=rig.now + 6.5)
    kinds = [int(batch.session_id[:8], 16) // 1_000 for _, batch in rig.requests]
    others = [kind for kind in kinds if kind]
    assert len(others) * 4 == pytest.approx(len(kinds), abs=4)
    assert others[:14] in ([1, 2] * 7, [2, 1] * 7)


def test_while_full_ones_wait_a_quiet_batch_may_fill_for_four_lingers() -> None:
    """It goes at the first fourth token after that, and at once when no full one is left."""
    rig = Rig(make_store(linger=1.0), rate=10.0, burst=1)
    rig.record(1_000)
    for number in range(60):
        rig.fill(number)
    rig.run(lambda _: DELIVERED)
    (quiet,) = [time for time, batch in rig.requests if len(batch.events) == 1]
    assert 4.0 <= quiet <= 4.5

    rig = Rig(make_store(linger=1.0), rate=10.0, burst=1)
    rig.record(1_000)
    for number in range(20):
        rig.fill(number)
    rig.run(lambda _: DELIVERED)
    assert [len(batch.events) for _, batch in rig.requests] == [4] * 20 + [1]


def test_patience_with_a_long_linger_is_a_quarter_of_a_minute() -> None:
    """Who lets batches linger for a minute does not make them wait for four behind full ones."""
    rig = Rig(make_store(linger=60.0), rate=1.0, burst=1)
    rig.record(1_000)
    for number in range(100):
        rig.fill(number)
    rig.run(lambda _: DELIVERED)
    (quiet,) = [time for time, batch in rig.requests if len(batch.events) == 1]
    assert 75.0 <= quiet <= 79.0


def test_what_is_asked_for_does_not_wait_behind_full_ones() -> None:
    """A flush and a `deliver()` make a batch due without any patience."""
    rig = Rig(make_store(linger=1.0), rate=10.0, burst=1)
    rig.record(1_000)
    rig.deliver(1_001)
    for number in range(20):
        rig.fill(number)
    rig.run(lambda _: DELIVERED, until=0.35)
    assert sorted(len(batch.events) for _, batch in rig.requests) == [1, 4, 4, 4]
    assert 1_001 in [int(batch.session_id[:8], 16) for _, batch in rig.requests]
    rig.batcher.make_due()
    rig.run(lambda _: DELIVERED, until=0.75)
    assert 1_000 in [int(batch.session_id[:8], 16) for _, batch in rig.requests]


def test_pressure_sends_the_oldest_batch_without_its_linger() -> None:
    """When an event met the memory limit, one batch goes early for it, and then lingering is kept again."""
    rig = Rig(make_store(max_pending_bytes=2_000, linger=60.0), burst=1)
    rig.record(1)
    rig.record(2)
    assert rig.wait() == 60.0
    rig.record(3, size=300)
    rig.run(lambda _: DELIVERED, until=1.0)
    assert len(rig.requests) == 1


def test_no_more_batches_are_sealed_than_there_are_slots() -> None:
    """What waits for a retry holds its slot, and nothing else is sealed in its place."""
    rig = Rig(max_in_flight=2)
    for number in range(4):
        rig.fill(number)
    one, two = rig.send()
    rig.settle(one, Throttled(20.0))
    assert rig.send() == []
    rig.settle(two, DELIVERED)
    third = rig.send_one()
    rig.settle(third, Failed("500", 9.0))
    assert rig.wait() == 9.0


def test_no_token_is_taken_while_nothing_is_to_be_sent() -> None:
    """A pause saves up the burst, and asking does not spend it."""
    rig = Rig(rate=1.0, burst=3)
    for _ in range(50):
        rig.wait()
    for number in range(5):
        rig.fill(number)
    assert len(rig.send()) == 3
    assert rig.wait() == pytest.approx(1.0)


def test_late_answers_do_not_exceed_the_connections() -> None:
    """There are never more requests out than `max_in_flight`, whatever is due."""
    rig = Rig(max_in_flight=3)
    for number in range(10):
        rig.fill(number)
    assert len(rig.send()) == 3
    assert rig.wait() == float("inf"), "the next answer comes first"
