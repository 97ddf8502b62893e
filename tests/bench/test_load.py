"""The load: arrivals at the planned rate, heavy-tailed sessions, sizes as asked, the same for a seed."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from typing import Any

import orjson
import pytest

from rumbuffer import InvalidSetting
from rumbuffer.bench.load import AT_BASE, Arrivals, Lengths, Load, LoadSettings


def settings(**changes: Any) -> LoadSettings:
    """A hundred seconds at 1,000 a second, without a warm-up."""
    return LoadSettings(**{"rate": 1000.0, "last_rate": 1000.0, "seconds": 100.0, "warmup": 0.0} | changes)


def times(load: LoadSettings, seed: int = 1) -> list[float]:
    """All arrivals."""
    arrivals = Arrivals(load, random.Random(seed))
    found = []
    while arrivals.at < math.inf:
        found.append(arrivals.at)
        arrivals.advance()
    return found


def taken(load: LoadSettings, count: int) -> list[tuple[float, str, int]]:
    """Time, session (by the order in which they are met) and size of the first events."""
    plan, names, found = Load(load), Counter[str](), []
    for _ in range(count):
        at = plan.at
        session, details = plan.take()
        names.setdefault(session.id, len(names))
        found.append((at, str(names[session.id]), len(orjson.dumps(details))))
    return found


def test_arrivals_are_a_poisson_process() -> None:
    """As many as planned arrive, within five standard deviations, and gaps vary as exponential ones do."""
    found = times(settings())
    assert abs(len(found) - 100_000) < 5 * math.sqrt(100_000)
    gaps = [late - early for early, late in itertools.pairwise(found)]
    mean = sum(gaps) / len(gaps)
    spread = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert 0.98 < spread / mean < 1.02
    assert min(gaps) >= 0.0


def test_arrivals_may_be_even() -> None:
    """Evenly spaced events come at exactly the rate."""
    found = times(settings(spacing="even", seconds=10.0))
    assert len(found) == 9999  # the last one would fall on the end
    assert found[:2] == pytest.approx([0.001, 0.002])


def test_ramp_is_a_straight_line_after_the_warm_up() -> None:
    """The warm-up has the first rate, and every part of the ramp the events that its rates say."""
    load = settings(rate=100.0, last_rate=900.0, warmup=10.0, seconds=80.0, spacing="even")
    found = times(load)
    per_tenth = Counter(int(at // 10) for at in found)
    assert [per_tenth[tenth] for tenth in range(9)] == pytest.approx(
        [1000, 1500, 2500, 3500, 4500, 5500, 6500, 7500, 8500], abs=1
    )
    arrivals = Arrivals(load, random.Random(1))
    assert [arrivals.rate_at(at) for at in (0.0, 10.0, 50.0, 90.0, 91.0)] == [100.0, 100.0, 500.0, 900.0, 0.0]
    assert found == sorted(found)
    assert found[-1] <= load.end


def test_same_seed_is_the_same_load() -> None:
    """Times, sessions and sizes are the same for a seed, and others for another."""
    load = settings(smallest=100, largest=2000, sessions=50)
    assert taken(load, 3000) == taken(load, 3000)
    assert taken(load, 3000) != taken(settings(smallest=100, largest=2000, sessions=50, seed=2), 3000)


def test_plan_does_not_depend_on_when_one_looks() -> None:
    """What is passed over has the same times as what is taken."""
    load = settings(seconds=5.0)
    everything = times(load, random.Random(load.seed).getrandbits(64))
    plan = Load(load)
    for _ in range(1000):
        plan.take()
    assert plan.at == everything[1000]
    assert plan.skip(5.0) == len(everything) - 1000
    assert plan.at == math.inf


def test_session_lengths_are_heavy_tailed() -> None:
    """New sessions have Pareto's lengths: half of them few events, one in a hundred the most."""
    lengths, source = Lengths(4, 600, 0.9), random.Random(1)
    drawn = sorted(lengths.whole(source) for _ in range(100_000))
    assert (drawn[0], drawn[-1]) == (4, 600)
    assert drawn[50_000] == 8
    assert sum(drawn) / len(drawn) == pytest.approx(lengths.mean, rel=0.03)
    for n in (8, 50, 300, 600):
        share = sum(length >= n for length in drawn) / len(drawn)
        assert share == pytest.approx(lengths.longer[n - 1], rel=0.1)


def test_pool_of_sessions_is_in_balance_from_the_start() -> None:
    """As many sessions begin in the first fifth of a run as in the last, and as the mean length says."""
    load = settings(sessions=2000)
    plan, begun = Load(load), [2000]
    for number in range(1, 60_001):
        plan.take()
        if number % 12_000 == 0:
            begun.append(plan.sessions_begun)
    births = [late - early for early, late in itertools.pairwise(begun)]
    expected = 12_000 / Lengths(4, 600, 0.9).mean
    assert births == pytest.approx([expected] * 5, rel=0.2)


def test_sizes_are_those_of_the_json_text() -> None:
    """Details are exactly as large as asked; between two bounds, a tenfold has as many as the next."""
    assert {size for _, _, size in taken(settings(), 500)} == {300}
    sizes = [size for _, _, size in taken(settings(smallest=100, largest=6000), 5000)]
    assert 100 <= min(sizes) < 110
    assert 5400 < max(sizes) <= 6000
    below = sum(size < math.sqrt(100 * 6000) for size in sizes)
    assert below / len(sizes) == pytest.approx(0.5, abs=0.05)


def test_details_tell_the_planned_time() -> None:
    """The planned time stands first in the details, in microseconds and 16 digits."""
    plan = Load(settings())
    at = plan.at
    _, details = plan.take()
    assert next(iter(details)) == "at"
    assert details["at"] - AT_BASE == int(at * 1e6)
    assert len(str(AT_BASE + int(1e6 * 3600 * 24 * 365))) == 16


@pytest.mark.parametrize("members", [0, 1, 4, 13])
def test_metadata_has_so_many_members(members: int) -> None:
    """Metadata has as many members as asked, and is left out for none."""
    metadata = Load(settings(metadata=members)).metadata
    assert len(metadata or {}) == members
    assert (metadata is None) == (members == 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rate", 0.0),
        ("last_rate", math.nan),
        ("seconds", 0.0),
        ("sessions", 0),
        ("most", 3),
        ("smallest", 10),
    ],
)
def test_impossible_settings_are_refused(field: str, value: float) -> None:
    """A setting that makes no load is refused by its name."""
    with pytest.raises(InvalidSetting, match=field):
        settings(**{field: value})
