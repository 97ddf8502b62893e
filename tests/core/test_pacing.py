from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rumbuffer.core.pace import LONGEST_WAIT, Pace, pauses
from rumbuffer.core.pacing import Ledger, OwnLedger, Pacer, QuotaPacer, TokenBucket

NO_JITTER = 0.0
ROUND_TRIP = 0.06


def known(ceiling: float = 40.0, burst: float = 10.0, ledger: Ledger | None = None) -> QuotaPacer:
    """A pacer under a known quota."""
    return QuotaPacer(ceiling, burst, ledger)


def unknown(ledger: Ledger | None = None) -> QuotaPacer:
    """A pacer that has to find the quota."""
    return QuotaPacer(None, 10.0, ledger)


def send_all_day(pacer: Pacer, start: float, end: float) -> list[float]:
    """The times of the requests of a sender that always has something to send."""
    sent, now = [], start
    while (now := max(now, pacer.next_slot(now))) < end:
        pacer.take(now)
        sent.append(now)
    return sent


def refuse(pacer: Pacer, sent_at: float, now: float, retry_after: float | None = None) -> float:
    """Tell the pacer of a 429 and return how long the batch is held back."""
    return pacer.throttled(sent_at, now, retry_after, NO_JITTER) - now


class Elsewhere:
    """A ledger that somebody else may have."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.is_busy = False
        self.lent = 0

    def begin(self, now: float) -> Pace | None:
        """Lend it, unless somebody else has it."""
        if self.is_busy:
            return None
        self.lent += 1
        return self.pace

    def commit(self) -> None:
        """Take it back."""
        self.lent -= 1


# Slots ----------------------------------------------------------------------------------------------


def test_start_burst_is_an_advance_on_the_slots_that_follow() -> None:
    """A known quota's start sends its burst at once, and every second, the first too, has the rate."""
    sent = send_all_day(known(40.0, burst=10), 0.0, 100.0)
    assert sum(time < 0.001 for time in sent) == 10
    for start in (0.0, 0.9, 1.0, 50.0):
        assert sum(start <= time < start + 1.0 for time in sent) == pytest.approx(40, abs=1)


def test_without_a_burst_the_start_comes_up_to_the_rate() -> None:
    """The first five seconds of demand are worked off a little below the pace."""
    sent = send_all_day(known(40.0, burst=0), 0.0, 100.0)
    first, rest = (sum(start <= time < start + 5.0 for time in sent) for start in (0.001, 50.0))
    assert first == pytest.approx(0.96 * 40 * 5, abs=1)
    assert rest == pytest.approx(40 * 5, abs=1)


def test_after_the_start_there_are_no_bursts() -> None:
    """However long the pause, a second request comes half an interval after the first."""
    pacer = known()
    send_all_day(pacer, 0.0, 10.0)
    sent = send_all_day(pacer, 500.0, 501.0)
    assert [time - 500.0 for time in sent[:3]] == pytest.approx([0.0, 0.5 / 38.4, 1.5 / 38.4])


@given(st.lists(st.floats(0.0, 2.0), max_size=60))
def test_no_second_has_more_than_its_rate(gaps: list[float]) -> None:
    """Whatever the demand, no window of a second after the start sees more than the rate and one."""
    pacer = known(20.0, burst=0)
    now, sent = 0.0, []
    for gap in gaps:
        now += gap
        for _ in range(5):
            now = max(now, pacer.next_slot(now))
            pacer.take(now)
            sent.append(now)
    for first in sent:
        assert sum(first <= time < first + 0.999 for time in sent) <= 20 + 1


def test_a_late_pump_catches_up_by_one_request_at_most() -> None:
    """A slot that was missed by two intervals or more is lost, so that lateness makes no burst."""
    pacer = known(10.0, burst=0)
    send_all_day(pacer, 0.0, 1.0)
    slot = pacer.next_slot(1.0)
    assert slot > 1.0
    assert pacer.next_slot(slot + 0.15) == slot
    late = slot + 5.0
    sent = send_all_day(pacer, late, late + 0.06)
    assert len(sent) == 2


def test_a_slot_is_asked_for_often_and_reserved_once() -> None:
    """Asking again changes nothing."""
    pacer = known(10.0, burst=0)
    send_all_day(pacer, 0.0, 1.0)
    slot = pacer.next_slot(1.0)
    assert {pacer.next_slot(1.0 + n / 1000) for n in range(20)} == {slot}


def test_taking_without_a_reservation_changes_nothing() -> None:
    """The start burst is drawn on by reservations alone."""
    pacer = known(10.0, burst=0)
    pacer.take(0.0)
    assert pacer.next_slot(0.0) == 0.0


def test_senders_that_share_a_ledger_are_served_in_turn() -> None:
    """Four senders on one pace get a quarter each, and together what one would get."""
    pace = Pace(40.0, 10.0)
    pacers = [known(ledger=OwnLedger(pace)) for _ in range(4)]
    sent = dict.fromkeys(range(4), 0)
    now = 0.0
    while now < 50.0:
        slots = [(pacer.next_slot(now), number) for number, pacer in enumerate(pacers)]
        slot, number = min(slots)
        now = max(now, slot)
        if pacers[number].next_slot(now) <= now:
            pacers[number].take(now)
            sent[number] += 1
    assert sum(sent.values()) == pytest.approx(40 * 50 + 11 - 8, abs=3)
    assert max(sent.values()) - min(sent.values()) <= 12  # the start burst went to the first


# Cuts -----------------------------------------------------------------------------------------------


def cruising(pacer: QuotaPacer, until: float = 20.0) -> float:
    """Let the start pass; return the time of the last request."""
    return send_all_day(pacer, 0.0, until)[-1]


def test_refusals_of_one_round_trip_cut_once() -> None:
    """What was sent before the cut has not felt it."""
    pacer = known()
    now = cruising(pacer)
    refuse(pacer, now - 0.01, now)
    rate = pacer.rate
    assert rate < 40.0
    for _ in range(5):
        refuse(pacer, now - 0.01, now + 0.05)
    assert pacer.rate == rate


def test_a_lone_refusal_at_the_ceiling_cuts_little() -> None:
    """At a known quota's pace it is the network's bunching, most likely."""
    pacer = known()
    now = cruising(pacer)
    refuse(pacer, now, now + ROUND_TRIP)
    assert 0.95 * 40.0 < pacer.rate < 40.0


def test_a_refusal_below_the_ceiling_cuts_by_a_tenth() -> None:
    """Somebody else is sending too."""
    pacer = known()
    now = cruising(pacer)
    refuse(pacer, now, now)
    now = send_all_day(pacer, now, now + 1.0)[-1]
    before = pacer.rate
    assert before < 40.0
    pacer.delivered(now, now)
    refuse(pacer, now, now)
    assert pacer.rate == pytest.approx(0.91 * before)


def test_cuts_in_a_row_are_deeper_and_rest_longer() -> None:
    """While nothing is delivered, each cut takes three tenths and doubles the rest that follows."""
    pacer = known()
    now = cruising(pacer)
    rests, rates = [], []
    for _ in range(7):
        refuse(pacer, now, now)
        rates.append(pacer.rate)
        slot = pacer.next_slot(now)
        rests.append(slot - now)
        pacer.next_slot(slot)
        pacer.take(slot)
        now = slot + 1.0
    assert rests == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 1.6, 1.6], rel=0.01)
    assert all(later < 0.75 * earlier for earlier, later in pairwise(rates))


def test_a_delivery_ends_the_row_of_cuts() -> None:
    """It must have been sent after the cut; others say nothing about it."""
    pacer = known()
    now = cruising(pacer)
    refuse(pacer, now, now)
    pacer.delivered(now - 1.0, now + 1.0)
    refuse(pacer, now + 1.0, now + 1.0)
    assert pacer.next_slot(now + 1.0) - now == pytest.approx(1.2, abs=0.005)
    pacer.delivered(now + 1.0, now + 2.0)
    refuse(pacer, now + 2.0, now + 2.0)
    assert pacer.next_slot(now + 2.0) - now == pytest.approx(2.1, abs=0.005)


def test_a_delivery_from_before_another_senders_cut_does_not_count() -> None:
    """The sender could not know yet."""
    pace = Pace(40.0, 0.0)
    one, other = known(ledger=OwnLedger(pace)), known(ledger=OwnLedger(pace))
    refuse(one, 1.0, 1.0)
    other.next_slot(1.5)
    refuse(one, 2.0, 2.0)
    other.delivered(1.6, 2.1)
    assert pace.cuts == 2


def test_the_rate_never_falls_below_one_request_in_five_seconds() -> None:
    """Whatever happens, the quota is looked for."""
    pacer = known()
    now = cruising(pacer)
    for _ in range(100):
        refuse(pacer, now, now)
        now += 1.0
    assert pacer.rate == pytest.approx(0.2)
    assert len(send_all_day(pacer, now, now + 60.0)) >= 10


def test_a_quota_below_the_lowest_rate_is_kept() -> None:
    """A user who may send once a minute is not pushed up by a refusal."""
    pacer = known(1 / 60, burst=0)
    pacer.next_slot(0.0)
    pacer.take(0.0)
    refuse(pacer, 0.0, 1.0)
    assert pacer.rate <= 1 / 60


def test_a_refusal_of_the_start_burst_ends_it_and_cuts_nothing() -> None:
    """A limiter with a small bucket refuses the burst; the rate is not to blame."""
    pacer = known(40.0, burst=10)
    for _ in range(4):
        assert pacer.next_slot(0.0) == 0.0
        pacer.take(0.0)
    refuse(pacer, 0.0, 0.01)
    assert pacer.rate == 40.0
    # The four that were sent have taken their slots.
    assert len(send_all_day(pacer, 0.01, 1.0)) == pytest.approx(36, abs=1)


def test_a_reserved_slot_is_void_after_another_senders_cut() -> None:
    """Slots that were reserved at the old pace would be refused again."""
    pace = Pace(40.0, 0.0)
    one, other = known(ledger=OwnLedger(pace)), known(ledger=OwnLedger(pace))
    for pacer in (one, other, one):
        pacer.next_slot(0.0)
        pacer.take(0.0)
    slot = other.next_slot(0.0)
    assert slot > 0.0
    refuse(one, 0.0, slot / 2)
    assert other.next_slot(slot) == pytest.approx(slot / 2 + 0.1, abs=0.001)


# Growth ---------------------------------------------------------------------------------------------


def test_the_rate_grows_back_to_the_ceiling_and_no_further() -> None:
    """While there is demand."""
    pacer = known()
    now = cruising(pacer)
    for _ in range(3):
        refuse(pacer, now, now)
        now += 0.5
    low = pacer.rate
    send_all_day(pacer, now, now + 5.0)
    assert low < pacer.rate < 40.0
    send_all_day(pacer, now + 5.0, now + 60.0)
    assert pacer.rate == 40.0


@pytest.mark.parametrize("make", [known, unknown])
def test_an_idle_hour_does_not_change_the_rate(make: Callable[[], QuotaPacer]) -> None:
    """Growth needs demand, in a slow start too."""
    pacer = make()
    now = cruising(pacer, 3.0)
    refuse(pacer, now, now)
    rate = pacer.rate
    pacer.next_slot(now + 3600.0)
    assert pacer.rate == rate


def test_a_slept_laptop_does_not_change_the_rate() -> None:
    """A slot that was waited for when the machine fell asleep is lost when it wakes."""
    pacer = known()
    now = cruising(pacer)
    refuse(pacer, now, now)
    slot = pacer.next_slot(now)
    rate = pacer.rate
    woken = pacer.next_slot(slot + 8 * 3600.0)
    assert woken == slot + 8 * 3600.0
    assert pacer.rate == rate


def test_a_load_below_the_rate_does_not_raise_it() -> None:
    """Bursts of a second or less are no lack of quota."""
    pacer = unknown()
    now = send_all_day(pacer, 0.0, 1.0)[-1]
    refuse(pacer, now, now)
    rate = pacer.rate
    for _ in range(1000):
        now += 0.6
        for _ in range(3):
            now = max(now, pacer.next_slot(now))
            pacer.take(now)
    assert pacer.rate == rate


def test_a_pump_that_is_late_for_every_slot_still_finds_the_quota() -> None:
    """Lateness is no lack of demand."""
    pacer = known()
    now = cruising(pacer)
    for _ in range(3):
        refuse(pacer, now, now)
        now += 0.5
    low = pacer.rate
    for _ in range(400):
        slot = pacer.next_slot(now)
        now = max(now, slot) + 1.8 / pacer.rate
        if pacer.next_slot(now) <= now:
            pacer.take(now)
    assert pacer.rate > 1.2 * low


def test_an_unknown_quota_is_found_from_a_slow_start() -> None:
    """Doubling each second up to the service's default, then by 15 % a second."""
    pacer = unknown()
    assert pacer.rate == 10.0
    send_all_day(pacer, 0.0, 1.1)
    assert pacer.rate == pytest.approx(20.0, rel=0.1)
    send_all_day(pacer, 1.1, 2.6)
    assert pacer.rate == pytest.approx(51.0, rel=0.1)
    now = send_all_day(pacer, 2.6, 4.6)[-1]
    fast = pacer.rate
    assert fast == pytest.approx(69.0, rel=0.1)
    refuse(pacer, now, now)
    assert pacer.rate == pytest.approx(0.6 * fast)
    send_all_day(pacer, now, now + 1.0)
    assert pacer.rate < 0.7 * fast


def test_a_cut_leaves_a_third_of_the_starts_growth() -> None:
    """Who is refused soon again has found the quota; a late joiner is refused seldom."""

    def growth(*refused_at: float) -> float:
        """By how much (a logarithm) the rate grows in a second, five seconds after the start."""
        pacer = unknown()
        send_all_day(pacer, 0.0, 4.0)
        for time in refused_at:
            refuse(pacer, time, time)
            send_all_day(pacer, time, time + 0.9)
        send_all_day(pacer, refused_at[-1] + 0.9, 9.0)
        before = pacer.rate
        send_all_day(pacer, 9.0, 10.0)
        return math.log(pacer.rate / before)

    later = 0.0065  # what is left when the start is long over
    assert growth(4.0, 5.0) - later == pytest.approx((growth(4.0) - later) / math.e, rel=0.1)


def test_a_quota_that_grew_is_found() -> None:
    """Long without a refusal, the rate rises ever faster."""
    pacer = unknown()
    now = send_all_day(pacer, 0.0, 4.0)[-1]
    refuse(pacer, now, now)
    send_all_day(pacer, now, now + 15.0)
    before = pacer.rate
    send_all_day(pacer, now + 15.0, now + 30.0)
    assert pacer.rate > 2.0 * before


# Retry-After ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retry_after", "held"),
    [
        (None, 0.2),
        (0.0, 0.2),
        (-5.0, 0.2),
        (math.nan, 0.2),
        (1.0, 1.0),
        (30.0, 30.0),
        (3600.0, LONGEST_WAIT),
        (math.inf, LONGEST_WAIT),
    ],
)
def test_retry_after_holds_back_the_refused_batch(retry_after: float | None, held: float) -> None:
    """Up to a minute; nonsense counts as nothing, and jitter adds up to a quarter."""
    pacer = known()
    assert pacer.throttled(0.0, 10.0, retry_after, 0.0) == 10.0 + held
    assert pacer.throttled(0.0, 10.0, retry_after, 1.0) == 10.0 + 1.25 * held


def test_a_short_retry_after_does_not_stop_the_others() -> None:
    """A frozen second costs as much as the quota gives."""
    pacer = known()
    now = cruising(pacer)
    refuse(pacer, now, now, retry_after=5.0)
    assert pacer.next_slot(now) < now + 0.2


def test_a_long_retry_after_freezes_all_sending() -> None:
    """Above five seconds the service means it; an hour is taken for a minute."""
    pacer = known()
    now = cruising(pacer)
    refuse(pacer, now, now, retry_after=6.0)
    assert pacer.next_slot(now) == pytest.approx(now + 6.0)
    pacer = known()
    now = cruising(pacer)
    refuse(pacer, now, now, retry_after=3600.0)
    assert pacer.next_slot(now) == pytest.approx(now + LONGEST_WAIT)


def test_being_refused_again_after_a_cut_freezes_all_sending() -> None:
    """The cut was not enough, so the service's own wish is followed."""
    pacer = known()
    now = cruising(pacer)
    refuse(pacer, now, now, retry_after=1.0)
    refuse(pacer, now + 0.3, now + 0.36, retry_after=2.0)
    slot = pacer.next_slot(now + 0.36)
    assert slot == pytest.approx(now + 2.36)
    assert len(send_all_day(pacer, slot, slot + 1.0)) > 10


@given(st.none() | st.floats(allow_nan=True, allow_infinity=True), st.floats(0.0, 1.0, exclude_max=True))
def test_pauses_are_finite_and_not_nothing(retry_after: float | None, jitter: float) -> None:
    """Whatever the service says."""
    hold, freeze = pauses(retry_after, jitter)
    assert 0.2 <= hold <= 1.25 * LONGEST_WAIT
    assert 0.0 <= freeze <= 1.25 * LONGEST_WAIT


# Clocks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("back", [0.5, 10.0, 3600.0, 1e9])
def test_a_clock_set_back_stops_nothing(back: float) -> None:
    """Sending goes on within seconds, at the same pace."""
    pacer = known()
    now = cruising(pacer)
    refuse(pacer, now, now, retry_after=20.0)
    pacer.next_slot(now)
    sent = send_all_day(pacer, now - back, now - back + 100.0)
    assert sent[0] <= now - back + 31.0
    assert len(sent) > 0.6 * 40 * 100


@pytest.mark.parametrize("make", [known, unknown])
def test_a_clock_set_back_at_the_start_stops_nothing(make: Callable[[], QuotaPacer]) -> None:
    """The times of the burst and of the slow start's end are mended too."""
    pacer = make()
    send_all_day(pacer, 1e6, 1e6 + 1.0)
    refuse(pacer, 1e6 + 1.0, 1e6 + 1.0)
    send_all_day(pacer, 10.0, 12.0)
    rate = pacer.rate
    refuse(pacer, 12.0, 12.0)
    assert 0.5 * rate < pacer.rate < rate


@given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.sampled_from(["ask", "refuse", "deliver"])), max_size=40))
def test_no_clock_breaks_the_pacer(steps: list[tuple[float, str]]) -> None:
    """With a clock that jumps at will, rates and waits stay finite."""
    pacer = known()
    now = 0.0
    for step, what in steps:
        now += step
        if what == "ask":
            slot = pacer.next_slot(now)
            assert now - 11.0 <= slot <= now + 1.25 * LONGEST_WAIT + 1.0 + 258 / 0.2
            if slot <= now:
                pacer.take(now)
        elif what == "refuse":
            refuse(pacer, now, now, retry_after=7.0)
        else:
            pacer.delivered(now, now)
        assert 0.2 <= pacer.rate <= 40.0


# The ledger -----------------------------------------------------------------------------------------


def test_a_busy_ledger_is_asked_again_in_a_moment() -> None:
    """Nothing waits for it, and nothing is sent without it."""
    ledger = Elsewhere(Pace(40.0, 0.0))
    pacer = known(ledger=ledger)
    ledger.is_busy = True
    assert pacer.next_slot(5.0) == pytest.approx(5.001)
    ledger.is_busy = False
    assert pacer.next_slot(5.001) == 5.001
    assert ledger.lent == 0


def test_a_refusal_is_entered_once_the_ledger_is_free() -> None:
    """A cut is never lost; a delivery that finds the ledger busy may be."""
    ledger = Elsewhere(Pace(40.0, 0.0))
    pacer = known(ledger=ledger)
    now = cruising(pacer)
    pacer.next_slot(now)
    ledger.is_busy = True
    refuse(pacer, now, now)
    assert ledger.pace.rate == 40.0
    ledger.is_busy = False
    pacer.next_slot(now + 0.05)
    assert ledger.pace.rate < 40.0
    ledger.is_busy = True
    pacer.delivered(now + 0.2, now + 0.2)
    assert ledger.pace.cuts == 1
    ledger.is_busy = False
    pacer.delivered(now + 0.2, now + 0.2)
    assert (ledger.pace.cuts, ledger.lent) == (0, 0)


def test_a_lower_ceiling_than_the_shared_rate_is_kept() -> None:
    """Who names a smaller quota than others of its group keeps to it."""
    pace = Pace(40.0, 0.0)
    modest = QuotaPacer(5.0, 0.0, OwnLedger(pace))
    assert len(send_all_day(modest, 0.0, 10.0)) == pytest.approx(50, abs=1)
    assert modest.rate == 5.0


def test_a_pace_can_be_written_down_and_read_back() -> None:
    """All its fields, an infinite start included."""
    pacer_pace = Pace(math.inf, 3.0)
    pacer_pace.reserve(1.0, math.inf)
    copy = Pace(40.0, 0.0)
    assert copy.restore(Pace.values(pacer_pace))
    assert Pace.values(copy) == Pace.values(pacer_pace)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rate", 0.0),
        ("rate", math.nan),
        ("rate", math.inf),
        ("rate", 1e16),
        ("due", math.inf),
        ("burst", -1.0),
        ("cuts", -1.0),
        ("started_at", math.nan),
    ],
)
def test_a_record_that_makes_no_sense_is_told(field: str, value: float) -> None:
    """What a file holds is not trusted."""
    pace = Pace(40.0, 0.0)
    setattr(pace, field, value)
    assert not Pace(40.0, 0.0).restore(Pace.values(pace))


# The plain bucket -----------------------------------------------------------------------------------


def test_token_bucket_keeps_to_its_rate() -> None:
    """A burst, then the rate; answers change nothing."""
    bucket = TokenBucket(10.0, 5.0)
    sent = send_all_day(bucket, 0.0, 100.0)
    assert len(sent) == pytest.approx(1005, abs=1)
    bucket.delivered(0.0, 100.0)
    assert bucket.throttled(0.0, 100.0, None, 0.0) == 101.0
    assert bucket.throttled(0.0, 100.0, 3.0, 0.0) == 103.0
    assert bucket.rate == 10.0


def test_token_bucket_survives_a_clock_set_back() -> None:
    """Nothing is gained, and nothing is lost."""
    bucket = TokenBucket(10.0, 1.0)
    bucket.take(100.0)
    assert bucket.next_slot(50.0) == pytest.approx(50.1)
    assert bucket.next_slot(100.2) == 100.2
