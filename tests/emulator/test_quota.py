from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rumbuffer.emulator import Limiter, Quota


def admitted(limiter: Limiter, times: list[float]) -> int:
    """How many requests at these times are admitted."""
    return sum(limiter.admit(now) for now in times)


def steady(rate: float, seconds: float, start: float = 0.0) -> list[float]:
    """The times of requests at a steady rate."""
    return [start + n / rate for n in range(int(rate * seconds))]


@pytest.mark.parametrize("burst", [1, 5, 50, 200])
def test_bucket_admits_its_burst_and_then_exactly_its_rate(burst: int) -> None:
    """A caller that asks far too often gets the burst at once and the rate from then on."""
    limiter = Limiter(Quota(rate=50, burst=burst))
    assert admitted(limiter, [0.0] * 1000) == burst
    assert admitted(limiter, [n / 1000 for n in range(1, 100_001)]) == 50 * 100


def test_bucket_admits_every_request_of_a_caller_at_its_rate() -> None:
    """Rounding never refuses a caller that keeps to the rate, even without a burst."""
    limiter = Limiter(Quota(rate=50, burst=1))
    assert admitted(limiter, steady(50, 1000)) == 50_000


def test_bucket_saves_up_no_more_than_its_burst() -> None:
    """After an hour of rest a caller gets one burst."""
    limiter = Limiter(Quota(rate=50, burst=20))
    admitted(limiter, [0.0] * 20)
    assert admitted(limiter, [3600.0] * 100) == 20


def test_window_admits_its_rate_in_each_whole_second() -> None:
    """A window is filled by whoever comes first and opens again at the next whole second."""
    limiter = Limiter(Quota(rate=50, shape="window"), now=10.9)
    assert admitted(limiter, [10.9] * 60) == 50
    assert not limiter.admit(10.999)
    assert admitted(limiter, [11.0] * 60) == 50
    assert admitted(limiter, steady(500, 100, start=12.0)) == 50 * 100


def test_window_of_a_broken_rate_admits_whole_requests_that_average_to_it() -> None:
    """2.5 requests a second are two and three in turn."""
    limiter = Limiter(Quota(rate=2.5, shape="window"))
    assert [admitted(limiter, [second + 0.5] * 9) for second in range(4)] == [2, 3, 2, 3]


def test_refusals_that_consume_shut_out_a_caller_above_the_rate() -> None:
    """Where refusals consume, asking faster than the rate gets nothing once the burst is gone."""
    limiter = Limiter(Quota(rate=50, burst=50, refusals_consume=True))
    admitted(limiter, [0.0] * 51)
    assert admitted(limiter, steady(100, 20, start=0.01)) == 0


def test_refusals_that_consume_leave_no_debt() -> None:
    """A caller that slows down to the rate is admitted again at once."""
    limiter = Limiter(Quota(rate=50, burst=50, refusals_consume=True))
    admitted(limiter, [0.0] * 500)
    assert admitted(limiter, steady(50, 10, start=0.02)) == 500


def test_refusals_do_not_consume_by_default() -> None:
    """A caller at twice the rate gets the whole rate."""
    limiter = Limiter(Quota(rate=50, burst=1))
    assert admitted(limiter, steady(100, 20)) == 1000


def test_change_keeps_saved_up_tokens_within_the_new_burst() -> None:
    """A smaller burst cuts what was saved up, a greater one has to be saved up first."""
    limiter = Limiter(Quota(rate=10, burst=50))
    limiter.change(Quota(rate=10, burst=5), now=0.0)
    assert admitted(limiter, [0.0] * 50) == 5
    limiter.change(Quota(rate=100, burst=100), now=0.0)
    assert admitted(limiter, [0.0] * 50) == 0
    assert admitted(limiter, [1.0] * 200) == 100


def test_change_credits_the_time_before_it_at_the_old_rate() -> None:
    """Tokens of the time before a change came at the rate of that time."""
    limiter = Limiter(Quota(rate=10, burst=50))
    admitted(limiter, [0.0] * 50)
    limiter.change(Quota(rate=1000, burst=50), now=1.0)
    assert admitted(limiter, [1.0] * 50) == 10


def test_a_clock_that_steps_back_adds_no_tokens() -> None:
    """Time that runs again is not paid twice, and costs nothing."""
    limiter = Limiter(Quota(rate=10, burst=10), now=100.0)
    assert limiter.admit(50.0)
    assert admitted(limiter, [100.0] * 20) == 9
    assert admitted(limiter, [50.0, 60.0, 100.0]) == 0
    assert limiter.admit(100.1)


@pytest.mark.parametrize(
    "settings",
    [
        {"rate": 0},
        {"rate": -1},
        {"rate": float("nan")},
        {"rate": float("inf")},
        {"burst": 0.5},
        {"shape": "leaky"},
        {"retry_after": -1},
    ],
)
def test_impossible_quotas_are_refused(settings: dict[str, Any]) -> None:
    """A quota that makes no limiter is a ValueError that names the setting."""
    with pytest.raises(ValueError, match=next(iter(settings))):
        Quota(**settings)


@given(
    rate=st.floats(0.5, 200),
    burst=st.floats(1, 100),
    consume=st.booleans(),
    gaps=st.lists(st.floats(0, 3), max_size=200),
)
def test_bucket_never_admits_more_than_burst_and_rate_allow(
    rate: float, burst: float, consume: bool, gaps: list[float]
) -> None:
    """Whatever the arrivals, admissions stay within burst + rate x time."""
    limiter = Limiter(Quota(rate=rate, burst=burst, refusals_consume=consume))
    now, count = 0.0, 0
    for gap in gaps:
        now += gap
        count += limiter.admit(now)
        assert count <= burst + rate * now + 1e-6
