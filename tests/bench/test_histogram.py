"""The histogram: percentiles near the exact ones, and nothing lost on the way."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rumbuffer.bench.histogram import Histogram


def of(values: list[int]) -> Histogram:
    """A histogram of values."""
    made = Histogram("us")
    made.add_all(values)
    return made


@given(st.lists(st.integers(0, 10**12), min_size=1), st.floats(0.01, 100.0))
def test_percentiles_are_near_the_exact_ones(values: list[int], percent: float) -> None:
    """A percentile differs from the exact one by at most 1/128, and not at all for small numbers."""
    exact = sorted(values)[max(1, math.ceil(len(values) * percent / 100.0)) - 1]
    found = of(values).percentile(percent)
    assert found is not None
    assert abs(found - exact) <= exact / 128
    if exact < 128:
        assert found == exact


def test_many_values_keep_few_buckets() -> None:
    """A hundred thousand values of seven orders of magnitude take a few hundred buckets."""
    source = random.Random(1)
    values = [int(10 ** source.uniform(2, 9)) for _ in range(100_000)]
    made = of(values)
    assert len(made.buckets()) < 64 * 24
    assert sum(count for _, _, count in made.buckets()) == made.count == 100_000
    assert made.mean == pytest.approx(sum(values) / 100_000)
    assert made.largest == max(values)


def test_adding_merging_and_reading_again_agree() -> None:
    """One by one, in parts, and through JSON: the same histogram."""
    values = [0, 1, 127, 128, 129, 5_000, 5_000, 10**9]
    single = Histogram("us")
    for value in values:
        single.add(value)
    merged = of(values[:3])
    merged.merge(of(values[3:]))
    again = Histogram.from_dict(single.as_dict())
    assert single.as_dict() == merged.as_dict() == of(values).as_dict() == again.as_dict()


def test_values_below_zero_are_zero() -> None:
    """A clock's jump gives no negative time."""
    made = Histogram("us")
    made.add(-5)
    assert (made.percentile(50), made.total) == (0.0, 0)


def test_nothing_counted_has_no_percentile() -> None:
    """Without values there is no percentile, no mean and no bin."""
    assert Histogram("us").percentile(50) is None
    assert Histogram("us").mean == 0
    assert Histogram("us").rebinned(10) == []


def test_wider_bins_hold_every_count() -> None:
    """Bins of equal width on a logarithmic scale follow one another without a gap, and hold every value."""
    made = of([3, 100, 120, 5_000, 10**6])
    bins = made.rebinned(10)
    assert sum(count for _, _, count in bins) == 5
    assert all(early[1] == pytest.approx(late[0]) for early, late in itertools.pairwise(bins))
    assert bins[0][0] <= 3 < bins[0][1]
    assert bins[-1][0] <= 10**6 * 1.01
