"""Backoff and the retry budget, as plain functions of numbers."""

from __future__ import annotations

import pytest

from rumbuffer.core.retry import RetryBudget, backoff


@pytest.mark.parametrize(
    ("failures", "bound"), [(1, 0.2), (2, 0.4), (3, 0.8), (8, 25.6), (9, 30.0), (31, 30.0), (100_000, 30.0)]
)
@pytest.mark.parametrize("jitter", [0.0, 0.25, 0.999])
def test_the_bound_doubles_up_to_the_longest_delay(failures: int, bound: float, jitter: float) -> None:
    """The delay is the jitter's share of a bound that doubles, however many failures there were."""
    assert backoff(failures, 0.2, 30.0, jitter) == pytest.approx(jitter * bound)


def test_there_is_credit_at_the_start() -> None:
    """Ten retries are allowed before anything was earned, and none after them."""
    budget = RetryBudget(0.0)
    for _ in range(10):
        assert budget.has_credit(5.0)
        budget.spend()
    assert not budget.has_credit(5.0)


def test_first_tries_and_seconds_earn_credit() -> None:
    """Each first try earns the share, each second one retry."""
    budget = RetryBudget(0.25)
    spend_all(budget, 0.0)
    for _ in range(3):
        budget.earn()
    assert not budget.has_credit(0.0)
    budget.earn()
    assert budget.has_credit(0.0)
    budget.spend()
    assert not budget.has_credit(0.5)
    assert budget.has_credit(1.0)


def test_credit_is_capped() -> None:
    """A long quiet time, or many first tries, save up a hundred retries and no more."""
    for budget, now in ((RetryBudget(0.0), 1e6), (RetryBudget(1.0), 0.0)):
        budget.has_credit(0.0)
        for _ in range(1000 if now == 0.0 else 0):
            budget.earn()
        assert spend_all(budget, now) == 100


def test_a_retry_without_credit_leaves_no_debt() -> None:
    """What goes because nobody else wants the token costs the later ones nothing."""
    budget = RetryBudget(1.0)
    spend_all(budget, 0.0)
    for _ in range(5):
        budget.spend()
    budget.earn()
    assert budget.has_credit(0.0)


def test_a_clock_that_jumps_back_earns_nothing() -> None:
    """Credit grows with time that is new, once."""
    budget = RetryBudget(0.0)
    spend_all(budget, 100.0)
    assert not budget.has_credit(50.0)
    assert not budget.has_credit(100.0)
    assert budget.has_credit(101.0)


def spend_all(budget: RetryBudget, now: float) -> int:
    """Spend what there is; return how much it was."""
    count = 0
    while budget.has_credit(now):
        budget.spend()
        count += 1
    return count
