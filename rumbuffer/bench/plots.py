"""How a chart of a report is drawn, as plotly's figure in plain data; of one result, or of two.

Colours are named by their part (``@1`` …), and the page puts in those of the reader's theme. Lines of one
chart differ in their dashes, too, and not in colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rumbuffer.bench.figures import duration
from rumbuffer.bench.result import Result

__all__ = ["COLOURS", "Chart", "Line", "Named", "distribution", "over_time"]

COLOURS = ("@1", "@2", "@3", "@4", "@red", "@grey", "@muted", "@grid", "@paper", "@shade", "@clear")
"""The parts; the page's script knows a colour for each."""

_DASHES = ("solid", "dash", "dot", "dashdot")
Named = tuple[str, Result]
"""A result and its name in a legend."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure, its heading, and how to read it."""

    id: str
    title: str
    text: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """One line over time: its name, colour, and the values of a result."""

    name: str
    colour: str
    values: Callable[[Result], list[float | None]]
    dash: str = "solid"
    filled: bool = False


def over_time(
    results: Sequence[Named],
    chart: str,
    title: str,
    text: str,
    unit: str,
    *lines: Line,
    log_time: bool = False,
) -> Chart:
    """Draw lines over time; `log_time` says that the values are times, on a logarithmic scale."""
    data = []
    everything: list[float] = []
    for number, (name, result) in enumerate(results):
        shown = lines if len(results) == 1 else [line for line in lines if line.colour != "@grey"]
        for place, line in enumerate(shown):
            values = line.values(result)
            everything += [value for value in values if value is not None]
            one = len(results) == 1
            style = {
                "color": line.colour if one else f"@{number + 1}",
                "dash": line.dash if one else _DASHES[place % len(_DASHES)],
                "width": 1.8,
            }
            trace: dict[str, Any] = {
                "type": "scatter",
                "mode": "lines",
                "name": line.name if one else f"{name} {line.name}",
                "x": result.series["t"],
                "y": [None if value is None else _rounded(value) for value in values],
                "line": style,
                "connectgaps": False,
            }
            if one and line.filled:
                trace |= {"fill": "tozeroy", "fillcolor": "@shade"}
            data.append(trace)
    y_axis = _axis(unit) | ({"rangemode": "tozero"} if not log_time else _log_axis(everything))
    if not log_time and everything and max(everything) <= 0:
        y_axis["range"] = [0, 1]
    shapes, notes = _phases(results[0][1]) if len(results) == 1 else ([], [])
    layout = {
        "xaxis": _axis("seconds since the warm-up"),
        "yaxis": y_axis,
        "hovermode": "x unified",
        "shapes": shapes,
        "annotations": notes,
        "showlegend": len(data) > 1,
    }
    return Chart(chart, title, text, data, layout)


def distribution(
    results: Sequence[Named],
    histogram: str,
    title: str,
    text: str,
    unit: float,
    what: str,
    *,
    per_decade: int,
    log_counts: bool = False,
) -> Chart:
    """Draw a histogram over a logarithmic scale of times, of which `unit` is one of its counts in seconds."""
    data: list[dict[str, Any]] = []
    everything: list[float] = []
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    for number, (name, result) in enumerate(results):
        held = result.histograms[histogram]
        bins = held.rebinned(per_decade)
        edges = [_rounded(low * unit) for low, _, _ in bins] + [
            _rounded(high * unit) for _, high, _ in bins[-1:]
        ]
        shares: list[float | None] = [_rounded(100 * count / held.count) for _, _, count in bins]
        everything += edges
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": edges,
                "y": [
                    *(share if share or not log_counts else None for share in shares),
                    *([0] if bins and not log_counts else [None] if bins else []),
                ],
                "line": {"shape": "hv", "color": f"@{number + 1}", "width": 1.6, "dash": _DASHES[number]},
                "fill": "tozeroy" if not log_counts and len(results) == 1 else "none",
                "fillcolor": "@shade",
                "customdata": [duration(edge) for edge in edges],
                "hovertemplate": f"%{{y:.3~g}} % of {what} from %{{customdata}}<extra></extra>",
            }
        )
        if len(results) == 1:
            shapes, notes = _marks(result, histogram, unit, edges)
    y_axis = _axis(f"% of {what}") | (
        {"type": "log", "exponentformat": "none", "dtick": 1} if log_counts else {"rangemode": "tozero"}
    )
    layout = {
        "xaxis": _axis("") | _log_axis(everything),
        "yaxis": y_axis,
        "hovermode": "closest",
        "shapes": shapes,
        "annotations": notes,
        "showlegend": len(results) > 1,
    }
    return Chart(f"{histogram}-all", title, text, data, layout)


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def _axis(title: str) -> dict[str, Any]:
    return {
        "title": {"text": title},
        "gridcolor": "@grid",
        "zeroline": False,
        "automargin": True,
        "separatethousands": True,
    }


def _log_axis(values: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis of times, with ticks at 1, 2 and 5 where decades are too few."""
    positive = [value for value in values if value > 0] or [1e-6, 1e-3]
    low, high = math.log10(min(positive)) - 0.05, math.log10(max(positive)) + 0.05
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    ticks = [step * 10.0**decade for decade in range(math.floor(low), math.ceil(high) + 1) for step in steps]
    return {
        "type": "log",
        "range": [low, high],
        "tickvals": ticks,
        "ticktext": [duration(tick) for tick in ticks],
    }


def _phases(result: Result) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What is shaded: the warm-up and the drain, which are not measured."""
    times = result.series["t"]
    warmup = result.settings["load"]["warmup"]
    spans = [("warm-up", -warmup, min(0.0, times[-1] if times else 0.0))] if warmup else []
    if times and times[-1] > result.seconds:
        spans.append(("drain", result.seconds, times[-1]))
    shapes = [
        {
            "type": "rect",
            "xref": "x",
            "yref": "paper",
            "x0": start,
            "x1": end,
            "y0": 0,
            "y1": 1,
            "layer": "below",
            "line": {"width": 0},
            "fillcolor": "@clear",
        }
        for _, start, end in spans
    ]
    long = (times[-1] + warmup) if times else 1.0
    notes = [
        _note(name, (start + end) / 2, 0.99, "top") for name, start, end in spans if end - start > 0.14 * long
    ]
    return shapes, notes


def _marks(
    result: Result, histogram: str, unit: float, edges: Sequence[float]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Lines at percentiles; each label on a height of its own, for they may lie close together."""
    shapes, notes = [], []
    for place, (name, percent) in enumerate((("p50", 50.0), ("p99", 99.0), ("p99.9", 99.9))):
        value = result.histograms[histogram].percentile(percent)
        if not value:
            continue
        at = value * unit
        shapes.append(
            {
                "type": "line",
                "xref": "x",
                "yref": "paper",
                "x0": at,
                "x1": at,
                "y0": 0,
                "y1": 1.0 - 0.1 * place,
                "line": {"color": "@muted", "width": 1, "dash": "dot"},
            }
        )
        # On a logarithmic axis an annotation's place is the logarithm, and a shape's is not.
        is_right = at * at > edges[0] * edges[-1]
        side = "right" if is_right else "left"
        notes.append(_note(f"{name} {duration(at)}", math.log10(at), 1.0 - 0.1 * place, "top", side))
    return shapes, notes


def _note(text: str, x: float, y: float, anchor: str, side: str = "center") -> dict[str, Any]:
    return {
        "text": text,
        "x": x,
        "y": y,
        "xref": "x",
        "yref": "paper",
        "yanchor": anchor,
        "xanchor": side,
        "xshift": {"left": 3, "right": -3}.get(side, 0),
        "bgcolor": "@paper",
        "borderpad": 0,
        "showarrow": False,
        "font": {"size": 11, "color": "@muted"},
    }
