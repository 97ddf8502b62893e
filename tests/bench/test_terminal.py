"""What a terminal shows of a run, and of two."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from rich.console import Console, RenderableType

from rumbuffer.bench.compare import Comparison
from rumbuffer.bench.run import Moment
from rumbuffer.bench.terminal import Lines, LiveView, comparison_table, summary
from tests.bench.helpers import STATS, books, result, series, settings


def printed(what: RenderableType, *, width: int = 80, encoding: str = "utf-8") -> str:
    """What a console prints."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    Console(file=file, width=width).print(what)
    file.flush()
    return file.buffer.getvalue().decode(encoding)


def moment(now: float = 30.0, phase: str = "load", **changes: Any) -> Moment:
    """A moment in the middle of a run."""
    stats = replace(STATS, offered=1_234_567, delivered=1_200_000, batches_delivered=40_000, **changes)
    return Moment(now=now, phase=phase, settings=settings(), stats=stats, series=series())


def drawn(of: Moment, encoding: str = "utf-8") -> str:
    """The live view."""
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding), width=80)
    return printed(LiveView(console).render(of), encoding=encoding)


def test_view_fits_a_small_terminal() -> None:
    """With large numbers, at 80 × 24, no line is cut."""
    large = moment(
        pending=98_765_432, in_flight=3200, throttled=1_234_567, failures=1_234_567, dropped=98_765
    )
    lines = drawn(large).splitlines()
    assert len(lines) <= 23
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert "…" not in "".join(lines)


def test_view_tells_phase_and_figures() -> None:
    """The view names the phase and what was measured last."""
    assert "warming up, 5 s of 10 s" in drawn(moment(5.0, "warm-up"))
    assert "measuring, 20 s of 40 s" in drawn(moment())
    assert "delivering the rest, 3 s" in drawn(moment(53.0, "drain"))
    shown = drawn(moment())
    for text in ("500/s", "planned: 500/s", "4 µs", "p99 5 s", "60 MB", "health: ok"):
        assert text in shown, text


def test_view_needs_no_samples_and_no_unicode() -> None:
    """Before the first sample there is a view, and in a terminal that knows ASCII alone it is ASCII."""
    first = replace(moment(), series={name: [] for name in series()})
    assert "offered" in drawn(first)
    assert "▁" not in drawn(moment(), encoding="ascii")


def test_lines_come_every_few_seconds() -> None:
    """Without the live view there is one line in five seconds, whole however narrow the output is."""
    file = io.StringIO()
    with Lines(Console(file=file, width=40)) as lines:
        for half in range(41):
            lines.show(moment(half / 2))
    shown = file.getvalue().splitlines()
    assert [line.split()[0] for line in shown] == ["5", "10", "15", "20"]
    assert all("1,234,567 offered" in line and line.endswith("failed") for line in shown)


def test_summary_tells_all() -> None:
    """The summary has the verdict first, then percentiles, then the laws."""
    shown = printed(summary(result()))
    assert shown.startswith("All 25,000 events that were accepted were delivered")
    for text in (
        "p99.9",
        "age at delivery",
        "record()",
        "holds",
        "delivered = kept by the service",
        "seed 1;",
    ):
        assert text in shown, text
    assert "BROKEN" in printed(summary(result(books=books(planned=25_001))))


def test_comparison_is_a_table() -> None:
    """Two runs are shown side by side with their ratio, and what differs."""
    second = result(settings=settings(rate=600.0).as_dict())
    shown = printed(comparison_table(Comparison(result(), second, "before.json", "after.json")), width=100)
    for text in ("before.json", "after.json", "ratio", "×1", "the same", "load.rate: 500 / 600.0"):
        assert text in shown, text


def test_summary_of_a_narrow_terminal_keeps_its_labels() -> None:
    """Forty columns are enough to know what each figure is of, and no figure is cut."""
    shown = printed(summary(result()), width=40)
    for word in ("age at", "delivery", "record()", "generator", "p99.9"):
        assert word in shown, word
    assert "…" not in shown
