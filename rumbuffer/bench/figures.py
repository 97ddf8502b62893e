"""The figures of a result: one number each, with its unit, and which way is better."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from rumbuffer.bench.result import Result

__all__ = ["FIGURES", "Figure", "amount", "count", "duration", "percent", "rate", "size"]

_BLOCKS = 10


# As text --------------------------------------------------------------------------------------------


def count(value: float) -> str:
    """A number of things."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.1f}"


def amount(value: float) -> str:
    """A number that may have decimals: three digits of it."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def rate(value: float) -> str:
    """A number a second."""
    return f"{amount(value)}/s"


def percent(share: float) -> str:
    """A share of 1."""
    return f"{100 * share:.3g} %" if share < 0.9995 or share >= 1 else f"{100 * share:.2f} %"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 0.9995:
            return f"{amount(seconds * factor)} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def size(value: float) -> str:
    """A number of bytes."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{amount(value / factor)} {unit}"
    return f"{value:.0f} B"


# The figures ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a result, in base units; `blocks` gives the same of tenths of the measured time."""

    key: str
    label: str
    better: Literal["more", "less"] | None
    text: Callable[[float], str]
    of: Callable[[Result], float | None]
    blocks: Callable[[Result], list[float]]


def _percentile(histogram: str, percent: float, unit: float) -> Callable[[Result], float | None]:
    def of(result: Result) -> float | None:
        value = result.histograms[histogram].percentile(percent)
        return None if value is None else value * unit

    return of


def _growth(column: str) -> Callable[[Result], float | None]:
    return lambda result: result.rate(column)


def _ratio(above: str, below: str) -> Callable[[Result], float | None]:
    def of(result: Result) -> float | None:
        growth = result.growth(below)
        return result.growth(above) / growth if growth else None

    return of


def _cut(values: list[float]) -> list[list[float]]:
    """Cut into tenths; of fewer values each is a part."""
    parts = min(_BLOCKS, len(values))
    edges = [round(number * len(values) / parts) for number in range(parts + 1)] if parts else [0]
    return [values[low:high] for low, high in pairwise(edges)]


def _medians(column: str, unit: float = 1.0) -> Callable[[Result], list[float]]:
    """The middle of a column in each block."""

    def blocks(result: Result) -> list[float]:
        values = [value * unit for value in result.window(column) if value is not None]
        return [statistics.median(part) for part in _cut(values)]

    return blocks


def _rates(above: str, below: str = "t") -> Callable[[Result], list[float]]:
    """How much a count grew for each of another, or each second, in each block."""

    def blocks(result: Result) -> list[float]:
        rows = list(zip(result.window(above), result.window(below), strict=True))
        steps = [(late[0] - early[0], late[1] - early[1]) for early, late in pairwise(rows)]
        parts = _cut([float(number) for number in range(len(steps))])
        sums = [(sum(steps[int(n)][0] for n in part), sum(steps[int(n)][1] for n in part)) for part in parts]
        return [up / down for up, down in sums if down]

    return blocks


def _peak_memory(result: Result) -> float | None:
    return max(result.series["memory_bytes"], default=None)


def _cpu(result: Result) -> float | None:
    shares = [share for share in result.window("cpu") if share is not None]
    return statistics.fmean(shares) if shares else None


def _cpu_per_event(result: Result) -> float | None:
    share, delivered = _cpu(result), result.rate("delivered")
    return share / delivered if share is not None and delivered else None


def _cpu_per_event_blocks(result: Result) -> list[float]:
    shares, rates = _medians("cpu")(result), _rates("delivered")(result)
    return [share / events for share, events in zip(shares, rates, strict=False) if events]


def _lost(result: Result) -> float | None:
    offered = result.books["offered"]
    return result.lost / offered if offered else None


def _lost_blocks(result: Result) -> list[float]:
    """A loss is counted, not estimated, and mostly falls to the end: all blocks are the whole."""
    lost = _lost(result)
    return [] if lost is None else [lost] * _BLOCKS


FIGURES: tuple[Figure, ...] = (
    Figure("lost", "events lost", "less", percent, _lost, _lost_blocks),
    Figure("offered_rate", "events offered", None, rate, _growth("offered"), _rates("offered")),
    Figure("delivered_rate", "events delivered", "more", rate, _growth("delivered"), _rates("delivered")),
    Figure("request_rate", "requests", None, rate, _growth("requests"), _rates("requests")),
    Figure(
        "fill",
        "events in a request",
        "more",
        amount,
        _ratio("delivered", "batches"),
        _rates("delivered", "batches"),
    ),
    Figure(
        "throttled",
        "requests refused (429)",
        "less",
        percent,
        _ratio("throttled", "requests"),
        _rates("throttled", "requests"),
    ),
    Figure(
        "age_p50",
        "age at delivery (median)",
        "less",
        duration,
        _percentile("age", 50, 1e-6),
        _medians("age_p50", 1e-6),
    ),
    Figure(
        "age_p99",
        "age at delivery (p99)",
        "less",
        duration,
        _percentile("age", 99, 1e-6),
        _medians("age_p99", 1e-6),
    ),
    Figure(
        "record_p50",
        "record() (median)",
        "less",
        duration,
        _percentile("record", 50, 1e-9),
        _medians("record_p50", 1e-9),
    ),
    Figure(
        "record_p99",
        "record() (p99)",
        "less",
        duration,
        _percentile("record", 99, 1e-9),
        _medians("record_p99", 1e-9),
    ),
    Figure(
        "lag_p99",
        "loop lag (p99)",
        "less",
        duration,
        _percentile("loop_lag", 99, 1e-6),
        _medians("lag_max", 1e-6),
    ),
    Figure("cpu", "CPU (of one core)", "less", percent, _cpu, _medians("cpu")),
    Figure(
        "cpu_per_event", "CPU for a delivered event", "less", duration, _cpu_per_event, _cpu_per_event_blocks
    ),
    Figure("memory", "memory (most)", "less", size, _peak_memory, _medians("memory_bytes")),
    Figure(
        "delay_p99",
        "generator behind plan (p99)",
        "less",
        duration,
        _percentile("delay", 99, 1e-6),
        _medians("delay_max", 1e-6),
    ),
)
