"""What a person sees: the live view, or a line now and then; and the summary."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rumbuffer.cli.demo.run import QUOTA, Finished, Moment

__all__ = ["Lines", "LiveView", "Meter", "View", "summary"]

_WINDOW = 2.0
"""Seconds that a rate is measured over."""

_LINE_EVERY = 5.0
_TREND_WIDTH = 24
_BARS = "▁▂▃▄▅▆▇█"
_PLAIN_BARS = "_.-=+*#@"


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
                self._trends.setdefault(name, deque(maxlen=_TREND_WIDTH)).append(value)

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


class View(Protocol):
    """Shows moments, from its `with` on."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def show(self, moment: Moment) -> None:
        """Show it."""
        ...


class Lines:
    """A line every few seconds, for files and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._meter = Meter()
        self._next = _LINE_EVERY
        self._begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def show(self, moment: Moment) -> None:
        """Print it, if the last one was some seconds ago."""
        self._meter.add(moment)
        if not self._begun:
            self._begun = True
            url = f"{moment.endpoint_url}/"
            self._console.print(f"rumbuffer demo: what arrives is shown at {url}", soft_wrap=True)
        if moment.now < self._next:
            return
        self._next += _LINE_EVERY
        stats, meter = moment.stats, self._meter
        text = (
            f"{moment.now:4.0f} s {moment.phase}: {moment.visitors:,} visitors, {stats.accepted:,} accepted, "
            f"{stats.delivered:,} delivered, {stats.pending:,} pending; {meter.rate('requests'):.0f} "
            f"requests/s, fill {meter.fill:.0f}, {stats.throttled:,} throttled, {stats.failures:,} failed"
        )
        self._console.print(text, soft_wrap=True)


class LiveView:
    """A table that is drawn anew four times a second; 80 columns and 20 lines are enough for it."""

    def __init__(self, console: Console) -> None:
        self._meter = Meter()
        self._bars = _BARS if console.encoding.lower().startswith("utf") else _PLAIN_BARS
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, moment: Moment) -> None:
        """Draw it."""
        self._meter.add(moment)
        self._live.update(self.render(moment), refresh=True)

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
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(justify="right", no_wrap=True, min_width=8)
        table.add_column(style="cyan", no_wrap=True, min_width=_TREND_WIDTH, max_width=_TREND_WIDTH)
        table.add_column(no_wrap=True, overflow="ellipsis")

        def row(label: str, value: str, name: str, note: str, style: str = "") -> None:
            table.add_row(label, Text(value, style), self._trend(name), note)

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

    def _trend(self, name: str) -> str:
        values = self._meter.trend(name)
        top = max(values, default=0.0)
        if top <= 0:
            return self._bars[0] * len(values)
        return "".join(self._bars[round(value / top * (len(self._bars) - 1))] for value in values)


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
