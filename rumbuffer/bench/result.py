"""What a run measured, as a value and as a JSON document that later versions can read.

The document is whole: the report, the comparison and the tables are made from it alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import orjson

from rumbuffer.bench.histogram import Histogram
from rumbuffer.core.encoding import shape_of

__all__ = ["HISTOGRAMS", "SCHEMA", "SERIES", "Law", "NoResult", "Result", "laws"]

SCHEMA = "rumbuffer-bench/1"

HISTOGRAMS: Mapping[str, str] = {
    "record": "ns",
    "age": "us",
    "request": "us",
    "fill": "events",
    "loop_lag": "us",
    "delay": "us",
}
"""Name and unit. `delay` is the generator's: from an event's planned time until it was offered."""

SERIES: tuple[str, ...] = tuple(
    (
        # The end of the interval (seconds, 0 at the end of the warm-up), and what was counted by then.
        "t target offered accepted delivered lost refused sampled_out requests batches throttled failures "
        # Present values.
        "retries pending in_flight open_batches charged_bytes pace memory_bytes "
        # Of the interval: shares of one core, microseconds, nanoseconds; null where nothing was measured.
        "cpu generator_cpu age_p50 age_p90 age_p99 age_max record_p50 record_p99 lag_p50 lag_max delay_max"
    ).split()
)
"""The columns of a result's series; `target` is the planned rate of the moment."""


class NoResult(ValueError):
    """A file that is no result of `rumbuffer bench`."""


@dataclass(frozen=True, slots=True)
class Law:
    """Two numbers of events that must agree. `high` is above `low` where one may lie between."""

    text: str
    value: int
    low: int
    high: int

    @property
    def holds(self) -> bool:
        """Whether they agree."""
        return self.low <= self.value <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run. Times in seconds, counts in events unless the name says otherwise.

    `started` is the time in ISO 8601. `interrupted` says that it was ended early; `seconds` is how long the
    load was measured, without the warm-up, and `drained` how long the rest took then. `books` are the counts
    of the whole run, `service` those of the emulator, if one was used. `harness` tells what measuring has
    cost.
    """

    started: str
    interrupted: bool
    seconds: float
    drained: float
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    settings: Mapping[str, Mapping[str, Any]]
    books: Mapping[str, Any]
    harness: Mapping[str, float]
    service: Mapping[str, Any] | None
    histograms: Mapping[str, Histogram]
    series: Mapping[str, list[Any]]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        document: dict[str, Any] = {"schema": SCHEMA, "balanced": self.balanced}
        for field in fields(self):
            document[field.name] = getattr(self, field.name)
        document["histograms"] = {name: made.as_dict() for name, made in self.histograms.items()}
        return document

    def as_json(self) -> bytes:
        """The document."""
        return orjson.dumps(self.as_dict(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_dict(cls, document: object) -> Self:
        """The reverse of `as_dict`. Raises `NoResult` with what is wrong."""
        if not isinstance(document, dict):
            raise NoResult(f"it holds {shape_of(document)}, not an object")
        schema = document.get("schema")
        if schema != SCHEMA:
            found = "no member 'schema'" if schema is None else "another schema"
            raise NoResult(f"it has {found}; what is read is {SCHEMA!r}")
        try:
            made = {field.name: document[field.name] for field in fields(cls)}
            made["histograms"] = {
                name: Histogram.from_dict(document["histograms"][name]) for name in HISTOGRAMS
            }
            made["series"] = {name: list(document["series"][name]) for name in SERIES}
            result = cls(**made)
            _check_forms(result)
            laws(result)
        except KeyError as error:
            raise NoResult(f"the member {error} is missing") from None
        except (AttributeError, TypeError, ValueError) as error:
            raise NoResult(f"a member has another form ({error})") from None
        if len({len(column) for column in result.series.values()}) != 1:
            raise NoResult("the columns of 'series' differ in length")
        return result

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file. Raises `OSError` and `NoResult`."""
        try:
            document = orjson.loads(path.read_bytes())
        except orjson.JSONDecodeError:
            raise NoResult("it holds no JSON") from None
        return cls.from_dict(document)

    @property
    def balanced(self) -> bool:
        """Whether every event is accounted for."""
        return all(law.holds for law in laws(self))

    @property
    def lost(self) -> int:
        """Events that were offered and not delivered, sampled-out ones left aside."""
        books = self.books
        return int(books["refused"] + books["dropped"] + books["dead_lettered"])

    def lost_by_reason(self) -> dict[str, int]:
        """The lost events by reason, the most first."""
        books = self.books
        kinds = (
            ("refused", books["refused_by_reason"]),
            ("dropped", books["dropped_by_reason"]),
            ("dead-lettered", books["dead_lettered_by_reason"]),
        )
        lost = {f"{kind} ({reason})": count for kind, reasons in kinds for reason, count in reasons.items()}
        return dict(sorted(lost.items(), key=lambda item: -item[1]))

    def _measured(self) -> tuple[int, int]:
        """The samples that are nearest to the begin and to the end of the measured time."""
        times = self.series["t"]
        numbers = range(len(times))
        first = min(numbers, key=lambda number: abs(times[number]), default=0)
        last = min(numbers, key=lambda number: abs(times[number] - self.seconds), default=0)
        return first, last

    def window(self, column: str) -> list[Any]:
        """A column's values while the load was measured: after the warm-up, and before the drain."""
        first, last = self._measured()
        return self.series[column][first + 1 : last + 1]

    def growth(self, column: str) -> float:
        """How much a count grew while the load was measured."""
        first, last = self._measured()
        values = self.series[column]
        return float(values[last] - values[first]) if values else 0.0

    def rate(self, column: str) -> float:
        """How much a count grew a second while the load was measured."""
        seconds = self.growth("t")
        return self.growth(column) / seconds if seconds > 0 else 0.0


def _check_forms(result: Result) -> None:
    """Check what reports and comparisons reckon with. Raises `TypeError` and `KeyError`."""
    for group in (
        result.versions,
        result.harness,
        *(result.settings[n] for n in ("load", "buffer", "service")),
    ):
        if not isinstance(group, Mapping):
            raise TypeError(f"{shape_of(group)} is no object")
    for number in (result.machine["load_average"], result.machine["cores"], result.seconds, result.drained):
        _check_number(number)
    for column in result.series.values():
        for value in column:
            _check_number(value)


def _check_number(value: object) -> None:
    if not (value is None or isinstance(value, (int, float))):
        raise TypeError(f"{shape_of(value)} is no number")


def laws(result: Result) -> list[Law]:
    """What the books must fulfil; the numbers come from different places."""
    books = result.books
    accepted = books["accepted"]
    settled = books["delivered"] + books["dropped"] + books["dead_lettered"] + books["spooled"]
    offered = accepted + books["sampled_out"] + books["refused"]
    found = [
        _equal("planned = offered + not offered", books["planned"], books["offered"] + books["not_offered"]),
        _equal("offered = accepted + sampled out + refused", books["offered"], offered),
        _equal(
            "accepted = delivered + dropped + dead-lettered + pending + in flight + spooled",
            accepted,
            settled + books["pending"] + books["in_flight"],
        ),
        _equal("delivered = events in answered requests", books["delivered"], books["answered"]),
    ]
    if result.service is not None:
        # What was answered with an error, or not at all, may have been kept.
        kept = result.service["events"] + result.service["silently_dropped"]
        unsure = books["dropped_by_reason"].get("outcome_unknown", 0)
        unsure += books["dead_lettered_by_reason"].get("too_many_failures", 0)
        text = "delivered = kept by the service"
        if unsure:
            text = "delivered ≤ kept by the service ≤ delivered + events without a known outcome"
        found.append(Law(text, kept, books["delivered"], books["delivered"] + unsure))
    return found


def _equal(text: str, left: int, right: int) -> Law:
    return Law(text, left, right, right)
