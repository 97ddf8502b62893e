"""Two results side by side: each figure with its ratio, and whether the difference is more than noise.

One run each says nothing of how much runs differ from one another. What can be told is how much a figure
moves *within* each run: its measured time is cut into tenths. A difference is called clear where the middle
eight tenths of both runs lie apart and the figures differ by more than a twentieth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rumbuffer.bench.figures import FIGURES, Figure
from rumbuffer.bench.result import Result
from rumbuffer.bench.verdict import busy_before

__all__ = ["Comparison", "Row"]

_SMALL = 0.05
_FEWEST_BLOCKS = 5
_UNIMPORTANT = frozenset({"seed", "load_average"})

Judgement = Literal["better", "worse", "differs", "same", "unclear"]


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of both runs; `ratio` is the second to the first."""

    figure: Figure
    first: float | None
    second: float | None
    ratio: float | None
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two results and their names."""

    first: Result
    second: Result
    first_name: str
    second_name: str

    def rows(self) -> list[Row]:
        """Each figure."""
        return [self._row(figure) for figure in FIGURES]

    def _row(self, figure: Figure) -> Row:
        first, second = figure.of(self.first), figure.of(self.second)
        ratio = second / first if first and second is not None else None
        return Row(figure, first, second, ratio, self._judge(figure, first, second))

    def _judge(self, figure: Figure, first: float | None, second: float | None) -> Judgement:
        if first is None or second is None:
            return "unclear"
        if first == second:
            return "same"
        if abs(second - first) <= _SMALL * max(first, second):
            return "same"
        of_first, of_second = _middle(figure.blocks(self.first)), _middle(figure.blocks(self.second))
        if of_first is None or of_second is None:
            return "unclear"
        if of_first[0] <= of_second[1] and of_second[0] <= of_first[1]:
            return "unclear"
        if figure.better is None:
            return "differs"
        return "better" if (second > first) == (figure.better == "more") else "worse"

    def differences(self) -> list[tuple[str, Any, Any]]:
        """Settings, versions and machine that are not the same: name, first, second."""
        first, second = _flat(self.first), _flat(self.second)
        names = [name for name in {**first, **second} if name.rpartition(".")[2] not in _UNIMPORTANT]
        return [
            (name, first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)
        ]

    def is_same_load(self) -> bool:
        """Whether both were offered the same, and by the same machine."""
        return not any(
            name.startswith(("load.", "service.", "machine.")) for name, _, _ in self.differences()
        )

    def headline(self) -> str:
        """The sentence that sums it up."""
        rows = self.rows()
        named = {
            judgement: [row.figure.label for row in rows if row.judgement == judgement]
            for judgement in ("better", "worse")
        }
        parts = [f"{kind} in {', '.join(labels)}" for kind, labels in named.items() if labels]
        if not parts:
            return f"No figure of {self.second_name} is clearly better or worse than {self.first_name}'s."
        return f"{self.second_name} is clearly {', and '.join(parts)} (compared with {self.first_name})."

    def caution(self) -> str:
        """What the numbers cannot tell."""
        text = (
            "A difference is called clear where it is more than 5 % and the figure, taken in tenths of "
            "each run, lies apart in the two (the highest and the lowest tenth left out). One run each "
            "cannot show how much runs differ: repeat what matters."
        )
        if not self.is_same_load():
            text = f"The two were not offered the same load by the same machine; see what differs. {text}"
        busy = busy_before(self.first) or busy_before(self.second)
        return f"{busy} {text}" if busy else text


def _middle(blocks: list[float]) -> tuple[float, float] | None:
    if len(blocks) < _FEWEST_BLOCKS:
        return None
    inner = sorted(blocks)[1:-1]
    return inner[0], inner[-1]


def _flat(result: Result) -> dict[str, Any]:
    groups: dict[str, Mapping[str, Any]] = {
        **result.settings,
        "machine": result.machine,
        "version": result.versions,
    }
    return {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}
