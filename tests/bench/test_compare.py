"""The comparison: ratios, and what is more than noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rumbuffer.bench.compare import Comparison, Judgement, Row
from rumbuffer.bench.result import Result
from tests.bench.helpers import books, histograms, result, series, settings


def rows(first: Result, second: Result) -> dict[str, Row]:
    """The rows by their figures' names."""
    return {row.figure.key: row for row in Comparison(first, second, "a.json", "b.json").rows()}


def judged(second: Result) -> dict[str, Judgement]:
    """How each figure of a run compares with the usual one's."""
    return {key: row.judgement for key, row in rows(result(), second).items()}


def slower(by: float, **columns: Any) -> Result:
    """A run whose record() takes `by` times as long."""
    calls = {int(4_000 * by): 900, int(20_000 * by): 90, int(900_000 * by): 10}
    return result(
        histograms=histograms(record=calls), series=series(**{"record_p50": 4_000.0 * by} | columns)
    )


def test_a_run_is_the_same_as_itself() -> None:
    """No figure of a run differs from itself."""
    assert set(judged(result()).values()) == {"same"}
    assert "is clearly better or worse" in Comparison(result(), result(), "a", "b").headline()


def test_clear_difference_is_told() -> None:
    """Twice the time in every part of the run is worse, half of it better."""
    assert judged(slower(2.0))["record_p50"] == "worse"
    assert judged(slower(0.5))["record_p50"] == "better"
    row = rows(result(), slower(2.0))["record_p50"]
    assert row.ratio is not None
    assert 1.95 < row.ratio < 2.05


def test_small_difference_is_none() -> None:
    """A twentieth, however steady, is called the same."""
    assert judged(slower(1.04))["record_p50"] == "same"


def test_figure_that_moves_within_the_run_is_noise() -> None:
    """A figure whose parts reach into the other run's is no clear difference."""
    wavering = slower(1.5, record_p50=lambda time: 3_500.0 if int(time // 4) % 2 else 9_000.0)
    assert judged(wavering)["record_p50"] == "unclear"


def test_losses_are_never_noise() -> None:
    """Lost events are counted, and compared as they are."""
    lost = books(delivered=24_000, answered=24_000, dropped=1000, dropped_by_reason={"overflow": 1000})
    assert judged(result(books=lost, service=None))["lost"] == "worse"


def test_what_differs_besides_is_listed() -> None:
    """Settings, versions and machine that differ are named; the seed and how busy it was are not."""
    other = settings(rate=600.0, seed=9).as_dict()
    second = result(settings=other, versions={**result().versions, "uvloop": "0.22"})
    second = replace(second, machine={**second.machine, "load_average": 3.0})
    both = Comparison(result(), second, "a", "b")
    assert both.differences() == [("load.rate", 500, 600.0), ("version.uvloop", None, "0.22")]
    assert not both.is_same_load()
    assert "not offered the same load" in both.caution()
    assert Comparison(result(), result(), "a", "b").is_same_load()


def test_short_runs_cannot_be_told_apart() -> None:
    """With fewer than five parts of a run nothing is called clear."""
    short = replace(slower(2.0), seconds=1.5)
    assert {row.judgement for key, row in rows(short, result()).items() if key == "record_p50"} == {"unclear"}
