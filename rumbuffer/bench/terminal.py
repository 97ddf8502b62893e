"""What a terminal shows: the live view, or a line now and then; the summary; the comparison."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rumbuffer.bench.compare import Comparison
from rumbuffer.bench.figures import amount, count, duration, size
from rumbuffer.bench.result import Result, laws
from rumbuffer.bench.run import Moment
from rumbuffer.bench.verdict import verdict
from rumbuffer.live import TREND_WIDTH, Drawn, TimedLines

__all__ = ["PERCENTILES", "Lines", "LiveView", "comparison_table", "percentile_rows", "summary"]

_WINDOW = 2.0
_MOODS = {"good": "bold green", "warn": "bold yellow", "bad": "bold red"}

PERCENTILES = (50.0, 90.0, 99.0, 99.9)


def _lately(moment: Moment, column: str) -> float:
    """How much a count grows a second, over the last seconds."""
    times, values = moment.series["t"], moment.series[column]
    if not times:
        return 0.0
    first = next(number for number, time in enumerate(times) if times[-1] - time <= _WINDOW)
    first = max(0, first - 1) if len(times) > 1 else 0
    span = times[-1] - times[first]
    return float((values[-1] - values[first]) / span) if span > 0 else 0.0


def _increases(series: dict[str, list[Any]] | Any, column: str) -> list[float]:
    times, values = series["t"][-TREND_WIDTH - 1 :], series[column][-TREND_WIDTH - 1 :]
    return [
        (late - early) / (then - before) if then > before else 0.0
        for before, then, early, late in zip(times, times[1:], values, values[1:], strict=False)
    ]


class Lines(TimedLines):
    """A line every few seconds, for files and pipes."""

    def show(self, moment: Moment) -> None:
        """Print it, if the last one was some seconds ago."""
        self.print_at(moment.now, lambda: _line(moment))


def _line(moment: Moment) -> str:
    stats = moment.stats
    return (
        f"{moment.now:4.0f} s {moment.phase}: {stats.offered:,} offered, {stats.delivered:,} delivered "
        f"({_lately(moment, 'delivered'):,.0f}/s), {stats.pending:,} pending; "
        f"{_lately(moment, 'requests'):.0f} requests/s, {stats.throttled:,} throttled, "
        f"{stats.failures:,} failed"
    )


class LiveView(Drawn):
    """A table that is drawn anew with each sample; 80 columns and 20 lines are enough for it."""

    def show(self, moment: Moment) -> None:
        """Draw it."""
        self.draw(self.render(moment))

    def render(self, moment: Moment) -> RenderableType:
        """Return the view of a moment."""
        load = moment.settings.load
        texts = {
            "warm-up": f"warming up, {moment.now:.0f} s of {load.warmup:g} s",
            "load": f"measuring, {moment.now - load.warmup:.0f} s of {load.seconds:g} s",
            "drain": f"delivering the rest, {max(0.0, moment.now - load.end):.0f} s",
        }
        head = Text.assemble(("rumbuffer bench", "bold"), f"  {texts[moment.phase]}   ")
        health = moment.stats.health
        head.append(f"health: {health}", "" if health == "ok" else "bold red")
        bar = ProgressBar(total=load.end, completed=min(moment.now, load.end), width=76)
        return Group(
            head, bar, Text(), self._table(moment), Text("\nCtrl-C ends it early, and still reports.", "dim")
        )

    def _table(self, moment: Moment) -> Table:
        stats, series = moment.stats, moment.series
        table = self.trend_table(9)

        def counted(label: str, column: str, note: str, style: str = "") -> None:
            value = Text(f"{amount(_lately(moment, column))}/s", style)
            table.add_row(label, value, self.trend(_increases(series, column)), note)

        def present(label: str, column: str, value: str, note: str) -> None:
            values = [number or 0.0 for number in series[column][-TREND_WIDTH:]]
            table.add_row(label, value, self.trend(values), note)

        target = moment.series["target"][-1] if moment.series["target"] else 0.0
        counted("offered", "offered", f"planned: {amount(target)}/s")
        counted("delivered", "delivered", f"{stats.delivered:,} in all")
        present("pending", "pending", f"{stats.pending:,}", f"and {stats.in_flight:,} in flight")
        counted("requests", "requests", f"paced to {stats.rate:.3g}/s")
        fill = stats.delivered / stats.batches_delivered if stats.batches_delivered else 0.0
        batches = _lately(moment, "batches")
        now = _lately(moment, "delivered") / batches if batches else 0.0
        fills = [
            up / down if down else 0.0
            for up, down in zip(_increases(series, "delivered"), _increases(series, "batches"), strict=True)
        ]
        table.add_row("fill", f"{now:.1f}", self.trend(fills), f"events a request; {fill:.1f} in all")
        counted(
            "throttled",
            "throttled",
            f"{stats.throttled:,} answers 429",
            _style(series, "throttled", "yellow"),
        )
        counted("failed", "failures", f"{stats.failures:,} requests", _style(series, "failures", "yellow"))
        present("age", "age_p50", _last(series, "age_p50", 1e-6), f"p99 {_last(series, 'age_p99', 1e-6)}")
        present(
            "record()",
            "record_p50",
            _last(series, "record_p50", 1e-9),
            f"p99 {_last(series, 'record_p99', 1e-9)}",
        )
        present(
            "loop lag", "lag_p50", _last(series, "lag_p50", 1e-6), f"most {_last(series, 'lag_max', 1e-6)}"
        )
        memory = size(series["memory_bytes"][-1]) if series["memory_bytes"] else ""
        present("memory", "memory_bytes", memory, f"events: {size(stats.pending_bytes)}")
        lost = stats.dropped + stats.dead_lettered + stats.refused
        table.add_row(
            "lost", Text(f"{lost:,}", "bold red" if lost else ""), "", "dropped, refused or given up"
        )
        return table


def _style(series: Any, column: str, style: str) -> str:
    increases = _increases(series, column)
    return f"bold {style}" if increases and increases[-1] else ""


def _last(series: Any, column: str, unit: float) -> str:
    values = series[column]
    return "" if not values or values[-1] is None else duration(values[-1] * unit)


# At the end -----------------------------------------------------------------------------------------


def percentile_rows(result: Result) -> list[tuple[str, list[str]]]:
    """The table of percentiles: a label, and a text for each of `PERCENTILES` and for the largest."""
    kinds = (
        ("age at delivery", "age", 1e-6),
        ("record()", "record", 1e-9),
        ("a request", "request", 1e-6),
        ("loop lag", "loop_lag", 1e-6),
        ("generator behind plan", "delay", 1e-6),
    )
    rows = []
    for label, name, unit in kinds:
        histogram = result.histograms[name]
        values = [histogram.percentile(percent) for percent in PERCENTILES]
        values.append(float(histogram.largest) if histogram.count else None)
        rows.append((label, ["–" if value is None else duration(value * unit) for value in values]))
    fills = result.histograms["fill"]
    values = [fills.percentile(percent) for percent in PERCENTILES]
    values.append(float(fills.largest) if fills.count else None)
    rows.append(("events in a request", ["–" if value is None else count(value) for value in values]))
    return rows


def summary(result: Result) -> RenderableType:
    """Return what came of a run."""
    said = verdict(result)
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("", min_width=9)  # the longest word of a label
    for heading in ("p50", "p90", "p99", "p99.9", "most"):
        table.add_column(heading, justify="right", min_width=5)  # narrow: the unit goes to another line
    for label, texts in percentile_rows(result):
        table.add_row(Text(label, "bold"), *texts)
    books = Table.grid(padding=(0, 2))
    for law in laws(result):
        mark = Text("holds", "green") if law.holds else Text("BROKEN", "bold red")
        books.add_row(mark, law.text, Text(f"{law.value:,}", justify="right"))
    load = result.settings["load"]
    own = result.harness["generator_seconds"] / max(1e-9, load["warmup"] + result.seconds)
    foot = (
        f"seed {load['seed']}; {result.harness['sessions_begun']:,.0f} sessions; the generator itself took "
        f"{own:.1%} of a core, and each record() time includes {result.harness['timer_ns']:.0f} ns of "
        "measuring"
    )
    sentences = [Text(sentence) for sentence in said.sentences]
    return Group(
        Text(said.headline, _MOODS[said.mood]),
        *sentences,
        Text(),
        table,
        Text(),
        books,
        Text(),
        Text(foot, "dim"),
    )


def comparison_table(comparison: Comparison) -> RenderableType:
    """Return the comparison."""
    styles = {"better": "green", "worse": "red", "differs": "yellow", "same": "dim", "unclear": "dim"}
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    table.add_column("")
    for heading in (comparison.first_name, comparison.second_name, "ratio"):
        table.add_column(heading, justify="right", overflow="fold")
    table.add_column("")
    for row in comparison.rows():
        texts = ["–" if value is None else row.figure.text(value) for value in (row.first, row.second)]
        ratio = "–" if row.ratio is None else f"×{row.ratio:.3g}"
        table.add_row(
            Text(row.figure.label, "bold"), *texts, ratio, Text(WORDS[row.judgement], styles[row.judgement])
        )
    differences = [Text(f"  {name}: {first} / {second}") for name, first, second in comparison.differences()]
    if differences:
        differences.insert(0, Text("\nWhat differs besides:", "bold"))
    head = Text(comparison.headline(), "bold")
    return Group(head, Text(), table, *differences, Text(), Text(comparison.caution(), "dim"))


WORDS = {
    "better": "better",
    "worse": "worse",
    "differs": "differs",
    "same": "the same",
    "unclear": "within the noise",
}
"""How a judgement is said."""
