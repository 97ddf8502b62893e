"""A histogram of whole numbers with logarithmic buckets, as HdrHistogram's.

Each power of two is cut into 64 buckets of one width, so that a value is known to 1/64 of itself however
large it is, and numbers below 128 exactly. It holds a few hundred counts, whatever goes in.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Self

__all__ = ["Histogram"]

_BITS = 6
_EXACT = 1 << (_BITS + 1)


def _index(value: int) -> int:
    if value < _EXACT:
        return max(0, value)
    shift = value.bit_length() - _BITS - 1
    return (shift << _BITS) + (value >> shift)


def _bounds(index: int) -> tuple[int, int]:
    """The lowest value of a bucket, and the lowest above it."""
    if index < _EXACT:
        return index, index + 1
    shift = (index >> _BITS) - 1
    low = (index - (shift << _BITS)) << shift
    return low, low + (1 << shift)


class Histogram:
    """Counts values from 0 up. `unit` says what they are, `largest` is exact."""

    def __init__(self, unit: str) -> None:
        self.unit: str = unit
        self.count: int = 0
        self.total: int = 0
        self.largest: int = 0
        self._counts: Counter[int] = Counter()

    def add(self, value: int, count: int = 1) -> None:
        """Count a value; one below 0 counts as 0."""
        value = max(0, value)
        self._counts[_index(value)] += count
        self.count += count
        self.total += value * count
        self.largest = max(self.largest, value)

    def add_all(self, values: Iterable[int]) -> None:
        """Count many values; costs a quarter of a microsecond each."""
        held = values if isinstance(values, list) else list(values)
        if held:
            self._counts.update(map(_index, held))
            self.count += len(held)
            self.total += sum(held)
            self.largest = max(self.largest, *held)

    def merge(self, other: Histogram) -> None:
        """Count all that the other has counted."""
        self._counts.update(other._counts)
        self.count += other.count
        self.total += other.total
        self.largest = max(self.largest, other.largest)

    @property
    def mean(self) -> float:
        """The mean of all values; 0 without any."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float | None:
        """The value that `percent` of all values do not exceed, to 1/128 of itself; None without any."""
        if not self.count:
            return None
        rank = max(1, math.ceil(self.count * percent / 100.0))
        for low, high, count in self.buckets():
            rank -= count
            if rank <= 0:
                return float(min((low + high - 1) / 2, self.largest))
        return float(self.largest)

    def buckets(self) -> list[tuple[int, int, int]]:
        """Lowest value, lowest value above, count: of each bucket that is not empty, in order."""
        return [(*_bounds(index), self._counts[index]) for index in sorted(self._counts)]

    def rebinned(self, per_decade: int) -> list[tuple[float, float, int]]:
        """The counts in wider buckets of equal width on a logarithmic scale, empty ones between included."""
        bins: Counter[int] = Counter()
        for low, high, count in self.buckets():
            bins[math.floor(math.log10(max((low + high - 1) / 2, 0.5)) * per_decade)] += count
        if not bins:
            return []
        numbers = range(min(bins), max(bins) + 1)
        return [
            (10 ** (number / per_decade), 10 ** ((number + 1) / per_decade), bins[number])
            for number in numbers
        ]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; `buckets` holds [lowest value, count] in order."""
        return {
            "unit": self.unit,
            "count": self.count,
            "total": self.total,
            "largest": self.largest,
            "buckets": [[low, count] for low, _, count in self.buckets()],
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """The reverse of `as_dict`. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        made = cls(str(document["unit"]))
        buckets: Sequence[Sequence[int]] = document["buckets"]
        for low, count in buckets:
            made._counts[_index(int(low))] += int(count)
        made.count, made.total = int(document["count"]), int(document["total"])
        made.largest = int(document["largest"])
        if made.count != sum(made._counts.values()):
            raise ValueError("count is not the sum of the buckets")
        return made
