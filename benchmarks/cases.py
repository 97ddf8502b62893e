"""Cases, each in a fresh process of its own, and run by turns.

A library changes the process that it is in (Sentry patches classes, an allocator remembers), so no two share
one. A shared machine is faster and slower by the minute, so the cases run in turn, several times over. Shown
is the median of a case's runs, with the lowest beside it; judged is the median, over the turns, of what one
case costs in terms of another in the same turn.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence

__all__ = ["Figures", "by_turns", "in_fresh_process", "lowest", "medians", "on_one_core", "ratio"]

Figures = dict[str, float]


def on_one_core() -> None:
    """Keep this process on one core, the last that it may use: a move to another empties the caches."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def in_fresh_process(module: str, *arguments: str) -> Figures:
    """Run `python -m module arguments…` and return the JSON object that it prints as its last line."""
    run = subprocess.run(
        [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    if run.returncode:
        raise SystemExit(f"{module} {' '.join(arguments)}: exit status {run.returncode}")
    figures: Figures = json.loads(run.stdout.splitlines()[-1])
    return figures


def by_turns(
    cases: Sequence[str], repeats: int, measure: Callable[[str], Figures]
) -> dict[str, list[Figures]]:
    """Measure each case `repeats` times, all cases in turn."""
    runs: dict[str, list[Figures]] = {case: [] for case in cases}
    for _ in range(repeats):
        for case in cases:
            runs[case].append(measure(case))
    return runs


def medians(runs: Sequence[Figures]) -> Figures:
    """Return the median of each figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def lowest(runs: Sequence[Figures]) -> Figures:
    """Return the lowest of each figure."""
    return {name: min(run[name] for run in runs) for name in runs[0]}


def ratio(runs: dict[str, list[Figures]], case: str, to: str, figure: str, *, per: float = 1.0) -> float:
    """Return the median, over the turns, of a case's figure in terms of another's `per` times."""
    pairs = zip(runs[case], runs[to], strict=True)
    return statistics.median(one[figure] / (other[figure] * per) for one, other in pairs)
