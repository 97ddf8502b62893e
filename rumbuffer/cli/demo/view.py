"""What a person sees: the live view, or a line now and then; and the summary."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from rumbuffer.cli.demo.run import QUOTA, Finished, Moment
from rumbuffer.live import TREND_WIDTH, Drawn, TimedLines

__all__ = ["Lines", "LiveView", "Meter", "summary"]

_WINDOW = 2.0
"""Seconds that a rate is measured over."""


class Meter:
    """Turns counts into rates over the last seconds, and keeps a trend of each."""

    def __init__(self) -> None:
        self._moments: deque[Moment] = deque()
        self._trends: dict[str, deque[float]] = {}
        self._trend_at = float("-inf")

    def add(self, moment: Moment) -> None:
        """Take in a moment."""
        self._moments.append(moment)
        while moment.now - self._moments[0].now > _WINDOW and len(self._moments) > 2:
            self._moments.popleft()
        if moment.now - self._trend_at >= 1.0:
            self._trend_at = moment.now
            for name, value in self._values(moment).items():
                self._trends.setdefault(name, deque(maxlen=TREND_WIDTH)).append(value)

    def rate(self, name: str) -> float:
        """How much a count of `BufferStats` grows in a second."""
        first, last = self._moments[0], self._moments[-1]
        span = last.now - first.now
        return (getattr(last.stats, name) - getattr(first.stats, name)) / span if span > 0 else 0.0

    @property
    def fill(self) -> float:
        """Events in a delivered batch, lately."""
        first, last = self._moments[0].stats, self._moments[-1].stats
        batches = last.batches_delivered - first.batches_delivered
        return (last.delivered - first.delivered) / batches if batches else 0.0

    def trend(self, name: str) -> Sequence[float]:
        """A value a second, the latest last."""
        return self._trends.get(name, ())

    def _values(self, moment: Moment) -> dict[str, float]:
        counts = ("accepted", "delivered", "requests", "throttled", "failures")
        return {
            **{name: self.rate(name) for name in counts},
            "fill": self.fill,
            "pending": float(moment.stats.pending),
        }


class Lines(TimedLines):
    """A line every few seconds, for files and pipes."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._meter = Meter()
        self._begun = False

    def show(self, moment: Moment) -> None:
        """Print it, if the last one was some seconds ago."""
        self._meter.add(moment)
        if not self._begun:
            self._begun = True
            url = f"{moment.endpoint_url}/"
            self._console.print(f"rumbuffer demo: what arrives is shown at {url}", soft_wrap=True)
        self.print_at(moment.now, lambda: self._line(moment))

    def _line(self, moment: Moment) -> str:
        stats, meter = moment.stats, self._meter
        return (
            f"{moment.now:4.0f} s {moment.phase}: {moment.visitors:,} visitors, {stats.accepted:,} accepted, "
            f"{stats.delivered:,} delivered, {stats.pending:,} pending; {meter.rate('requests'):.0f} "
            f"requests/s, fill {meter.fill:.0f}, {stats.throttled:,} throttled, {stats.failures:,} failed"
        )


class LiveView(Drawn):
    """A table that is drawn anew four times a second; 80 columns and 20 lines are enough for it."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._meter = Meter()

    def show(self, moment: Moment) -> None:
        """Draw it."""
        self._meter.add(moment)
        self.draw(self.render(moment))

    def render(self, moment: Moment) -> RenderableType:
        """Return the view of a moment."""
        return Group(*self._head(moment), Text(), self._table(moment), Text(), *self._foot(moment))

    def _head(self, moment: Moment) -> list[Text]:
        if moment.phase == "traffic":
            phase = f"{moment.now:.0f} s of {moment.seconds:g} s of traffic"
        else:
            phase = f"the traffic is over; {moment.now - moment.seconds:.0f} s of delivering the rest"
        health = moment.stats.health
        return [
            Text.assemble(("rumbuffer demo", "bold"), f": {phase}"),
            Text(f"{moment.visitors:,} visitors came, {moment.present:,} are here; health: {health}"),
        ]

    def _table(self, moment: Moment) -> Table:
        stats, meter = moment.stats, self._meter
        table = self.trend_table(8)

        def row(label: str, value: str, name: str, note: str, style: str = "") -> None:
            table.add_row(label, Text(value, style), self.trend(meter.trend(name)), note)

        row("accepted", f"{meter.rate('accepted'):,.0f}/s", "accepted", f"{stats.accepted:,} events")
        row("delivered", f"{meter.rate('delivered'):,.0f}/s", "delivered", f"{stats.delivered:,} events")
        in_flight = f"and {stats.in_flight:,} in flight"
        row("pending", f"{stats.pending:,}", "pending", in_flight)
        pace = f"paced to {stats.rate:g}/s of {QUOTA:g}/s"
        row("requests", f"{meter.rate('requests'):.1f}/s", "requests", pace)
        mean = stats.delivered / stats.batches_delivered if stats.batches_delivered else 0.0
        row("fill", f"{meter.fill:.1f}", "fill", f"events a batch; {mean:.1f} in all")
        throttle_style = "bold yellow" if meter.rate("throttled") else ""
        throttles, failures = f"{meter.rate('throttled'):.1f}/s", f"{meter.rate('failures'):.1f}/s"
        row("throttled", throttles, "throttled", f"{stats.throttled:,} answers 429", throttle_style)
        row("failed", failures, "failures", f"{stats.failures:,} requests")
        lost = stats.dropped + stats.dead_lettered + stats.refused
        table.add_row(
            "lost", Text(f"{lost:,}", "bold red" if lost else ""), "", "dropped, refused or given up"
        )
        return table

    def _foot(self, moment: Moment) -> list[Text]:
        squeeze = "Somebody else takes half of the quota now." if moment.squeezed else ""
        return [
            Text(f"faults that struck: {_faults(moment.service.get('faults', {}))}"),
            Text(f"batches that came twice: {moment.service.get('repeated', 0):,}"),
            Text(f"what arrived, as a page: {moment.endpoint_url}/"),
            Text(squeeze, "bold yellow"),
        ]


def summary(finished: Finished) -> RenderableType:
    """Return what came of it."""
    stats, verdict, service = finished.stats, finished.verdict, finished.service
    lengths = sorted(finished.lengths)
    half = lengths[len(lengths) // 2]
    mean = stats.delivered / stats.batches_delivered if stats.batches_delivered else 0.0
    if finished.ok:
        head = Text("Every accepted event arrived, as it was accepted.", "bold green")
    else:
        head = Text("NOT every accepted event arrived as it was accepted.", "bold red")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    compared = (
        f"compared with the accepted one by one, by id and content: {verdict.missing:,} missing, "
        f"{verdict.unexpected:,} unexpected, {verdict.altered:,} altered, "
        f"{verdict.in_two_batches:,} in two batches"
    )
    repeats = f"batches, kept before an error was answered; {verdict.conflicting_batches:,} with another body"
    requests = f"{stats.throttled:,} throttled, {stats.failures:,} failed, then retried"
    visits = f"half of them with {half} events or fewer, the longest with {lengths[-1]:,}"
    rows = [
        ("visitors", len(lengths), visits),
        ("events accepted", verdict.accepted, f"by record(); {stats.refused:,} refused"),
        ("events stored", verdict.stored, compared),
        ("batches", stats.batches_delivered, f"with {mean:.1f} events each"),
        ("requests", stats.requests, requests),
        ("came twice", verdict.repeated_batches, repeats),
        ("faults", sum(service["faults"].values()), _faults(service["faults"])),
    ]
    for label, count, note in rows:
        table.add_row(label, f"{count:,}", note)
    table.add_row(
        "time",
        f"{finished.seconds + finished.drained:.0f} s",
        f"{finished.drained:.1f} s of it to deliver the rest",
    )
    return Group(head, Text(), table)


def _faults(faults: Mapping[str, Any]) -> str:
    known = ((name, count) for name, count in sorted(faults.items()) if name not in ("ok", "delay"))
    return ", ".join(f"{name}: {count}" for name, count in known) or "none yet"
