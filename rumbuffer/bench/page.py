"""The report as one HTML file: nothing in it is fetched from anywhere, plotly's script included.

A content security policy in the page holds browsers to that. What is shown is text, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

import orjson

from rumbuffer.bench.charts import charts
from rumbuffer.bench.compare import Comparison
from rumbuffer.bench.figures import FIGURES, count, duration, percent, size
from rumbuffer.bench.plots import Chart
from rumbuffer.bench.result import Result, laws
from rumbuffer.bench.terminal import WORDS, percentile_rows
from rumbuffer.bench.verdict import verdict

__all__ = ["MISSING", "can_be_made", "comparison", "report"]

MISSING = "The report with charts needs plotly, which is not installed: pip install 'rumbuffer[cli,bench]'"

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
_HOW_TO_LOOK = (
    '<p class="note">Shaded are the warm-up, whose events are not measured, and the drain. Drag to zoom in, '
    "double-click to zoom out; click a name in a legend to hide its line.</p>"
)
_TILES = "delivered_rate age_p50 age_p99 record_p50 record_p99 fill throttled lag_p99 memory".split()


def can_be_made() -> bool:
    """Whether plotly is installed."""
    return find_spec("plotly") is not None


def report(result: Result) -> str:
    """Return the page of a run."""
    said = verdict(result)
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in said.sentences)
    body = [
        "<h1>rumbuffer bench</h1>",
        f'<p class="about">{escape(_about(result))}</p>',
        (
            f'<section class="verdict {said.mood}"><p '
            f'class="headline">{escape(said.headline)}</p>{sentences}</section>'
        ),
        _tiles(result),
        "<h2>Over time, and in all</h2>",
        _HOW_TO_LOOK,
        _figures(charts([("this run", result)])),
        "<h2>Percentiles</h2>",
        _percentiles(result),
        "<h2>The books</h2>",
        (
            '<p class="note">Every event of the whole run, warm-up and drain included, must be in exactly '
            "one place; the numbers on both sides are counted in different places.</p>"
        ),
        _books(result),
        "<h2>How it was measured</h2>",
        _method(result),
        "<h2>What was run</h2>",
        _settings(result),
    ]
    return _page("rumbuffer bench", body, charts([("this run", result)]))


def comparison(both: Comparison) -> str:
    """Return the page that compares two runs."""
    names = (both.first_name, both.second_name)
    drawn = charts((("A", both.first), ("B", both.second)))
    moods = {"better": "good", "worse": "bad"}
    found = {row.judgement for row in both.rows()}
    mood = "warn" if not both.is_same_load() else "bad" if "worse" in found else "good"
    rows = []
    for row in both.rows():
        texts = ["–" if value is None else row.figure.text(value) for value in (row.first, row.second)]
        ratio = "–" if row.ratio is None else f"×{row.ratio:.3g}"
        cells = "".join(f'<td class="number">{escape(text)}</td>' for text in (*texts, ratio))
        style = moods.get(row.judgement, "")
        word = escape(WORDS[row.judgement])
        rows.append(
            f'<tr><th scope="row">{escape(row.figure.label)}</th>{cells}<td class="{style}">{word}</td></tr>'
        )
    differences = [(name, _plain(first), _plain(second)) for name, first, second in both.differences()]
    body = [
        "<h1>rumbuffer bench: two runs compared</h1>",
        *(
            f'<p class="about">{letter}: {escape(name)}, {escape(_about(result))}</p>'
            for letter, name, result in zip("AB", names, (both.first, both.second), strict=True)
        ),
        (
            f'<section class="verdict {mood}"><p class="headline">'
            f"{escape(both.headline())}</p><p>{escape(both.caution())}</p></section>"
        ),
        "<h2>Figures</h2>",
        (
            '<div class="scroll"><table><thead><tr><th></th><th class="number">A</th>'
            '<th class="number">B</th><th class="number">B to A</th><th></th></tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div>"
        ),
        "<h2>What differs besides</h2>",
        _table(("", "A", "B"), differences)
        if differences
        else "<p>Settings, versions and machine are the same.</p>",
        "<h2>Both, laid over one another</h2>",
        (
            '<p class="note">Each from the end of its own warm-up on. Drag to zoom in, double-click to zoom '
            "out; click a name in a legend to hide its line.</p>"
        ),
        _figures(drawn),
    ]
    return _page("rumbuffer bench: two runs compared", body, drawn)


# Parts ----------------------------------------------------------------------------------------------


def _page(title: str, body: Iterable[str], drawn: Sequence[Chart]) -> str:
    assets = files("rumbuffer.bench") / "assets"
    data = [{"id": chart.id, "data": chart.data, "layout": chart.layout} for chart in drawn]
    # Inside a script nothing may look like its end.
    held = orjson.dumps(data).decode().replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>{(assets / 'report.css').read_text(encoding='utf-8')}</style></head><body>",
        *body,
        "<noscript><p>The charts need JavaScript; all else is above and below.</p></noscript>",
        f'<script type="application/json" id="charts">{held}</script>',
        f"<script>{_plotly()}</script>",
        f"<script>{(assets / 'report.js').read_text(encoding='utf-8')}</script>",
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _plotly() -> str:
    """plotly's script; five megabytes, of which the package ships no smaller choice."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _about(result: Result) -> str:
    machine = result.machine
    load = result.settings["load"]
    rates = (
        f"{load['rate']:g}"
        if load["rate"] == load["last_rate"]
        else f"{load['rate']:g} to {load['last_rate']:g}"
    )
    return (
        f"{result.started.replace('T', ' ').replace('+00:00', ' UTC')} · {rates} events a second for "
        f"{result.seconds:g} s · rumbuffer {result.versions['rumbuffer']} · {result.versions['python']} · "
        f"{machine['cpu']}, {machine['cores']} cores"
    )


def _tiles(result: Result) -> str:
    figures = {figure.key: figure for figure in FIGURES}
    lost = f"<li><b>{count(result.lost)}</b><span>events lost</span></li>"
    tiles = [lost]
    for key in _TILES:
        value = figures[key].of(result)
        text = "–" if value is None else figures[key].text(value)
        tiles.append(f"<li><b>{escape(text)}</b><span>{escape(figures[key].label)}</span></li>")
    return f'<ul class="tiles">{"".join(tiles)}</ul>'


def _figures(drawn: Iterable[Chart]) -> str:
    parts = [
        f"<figure><figcaption><h3>{escape(chart.title)}</h3><p>{escape(chart.text)}</p></figcaption>"
        f'<div class="chart" id="chart-{chart.id}" role="img" aria-label="Chart: '
        f'{escape(chart.title)}"></div></figure>'
        for chart in drawn
    ]
    return f'<div class="charts">{"".join(parts)}</div>'


def _percentiles(result: Result) -> str:
    rows = [(label, *texts) for label, texts in percentile_rows(result)]
    return _table(("", "p50", "p90", "p99", "p99.9", "most"), rows, numbers=True)


def _books(result: Result) -> str:
    rows = []
    for law in laws(result):
        mood, word = ("good", "holds") if law.holds else ("bad", "BROKEN")
        right = f"{law.low:,}" if law.low == law.high else f"{law.low:,} to {law.high:,}"
        rows.append(
            f'<tr><td>{escape(law.text)}</td><td class="number">{law.value:,}</td>'
            f'<td class="number">{right}</td><td class="{mood}">{word}</td></tr>'
        )
    table = f'<div class="scroll"><table><tbody>{"".join(rows)}</tbody></table></div>'
    lost = [(reason, f"{number:,}") for reason, number in result.lost_by_reason().items()]
    counts = [
        (name.replace("_", " "), f"{value:,}")
        for name, value in result.books.items()
        if isinstance(value, int)
    ]
    parts = [_group("Events and requests", counts), _group("Lost, by reason", lost or [("none", "0")])]
    if result.service is not None:
        parts.append(_group("What the emulator counted (requests, events, bytes)", _service(result.service)))
    return f'{table}<div class="columns">{"".join(parts)}</div>'


def _service(counts: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for name, value in counts.items():
        if isinstance(value, Mapping):
            rows += [(f"{name}: {kind}", f"{number:,}") for kind, number in value.items() if kind != "ok"]
        else:
            rows.append((name.replace("_", " "), f"{value:,}"))
    return rows


def _method(result: Result) -> str:
    harness, load = result.harness, result.settings["load"]
    seconds = load["warmup"] + result.seconds
    busy = result.machine["load_average"]
    texts = [
        (
            "Open loop: each event has a planned time, whatever the buffer or the machine does. Where one "
            "was offered late, its age counts from the planned time, so that a stall hides nothing."
        ),
        (
            f"Sessions: {load['sessions']:,} live at once, {harness['sessions_begun']:,.0f} in all. The "
            f"number of a session's events is Pareto's (index {load['tail']:g}), from {load['fewest']:,} to "
            f"{load['most']:,}; each event goes to any of the live ones."
        ),
        (
            "What the measuring costs: the generator shares the core with the buffer and took "
            f"{percent(harness['generator_seconds'] / max(seconds, 1e-9))} of it; each record() time "
            f"includes {harness['timer_ns']:.0f} ns of reading the clock; counting what was measured took "
            f"{duration(harness['sampling_seconds'])} in all, at most "
            f"{duration(harness['longest_sampling_ms'] / 1e3)} at a time, which is part of the loop lag."
        ),
        (
            "The event loop is woken every 10 ms to see how late that is; a stall counts for each wake-up "
            f"that it hid. Samples are taken every {harness['interval']:g} s."
        ),
        f"Seed {load['seed']} makes the same arrivals, session lengths and sizes again; ids and times are "
        "new." + ("" if busy is None else f" The load average of the machine was {busy:g} before the run."),
    ]
    return "".join(f'<p class="note">{escape(text)}</p>' for text in texts)


def _settings(result: Result) -> str:
    machine = dict(result.machine)
    if machine.get("memory_bytes"):
        machine["memory_bytes"] = size(machine["memory_bytes"])
    groups: dict[str, Mapping[str, Any]] = {
        "The load": result.settings["load"],
        "The buffer": result.settings["buffer"],
        "The service": result.settings["service"],
        "The machine": machine,
        "Versions": result.versions,
    }
    parts = [
        _group(heading, [(name.replace("_", " "), _plain(value)) for name, value in values.items()])
        for heading, values in groups.items()
    ]
    return f'<div class="columns">{"".join(parts)}</div>'


def _plain(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _group(heading: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = "".join(
        f'<tr><td>{escape(name)}</td><td class="number">{escape(value)}</td></tr>' for name, value in rows
    )
    return f"<div><h3>{escape(heading)}</h3><table><tbody>{lines}</tbody></table></div>"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> str:
    kind = ' class="number"' if numbers else ""
    head = "".join(f"<th{kind if place else ''}>{escape(text)}</th>" for place, text in enumerate(headings))
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td{kind}>{escape(text)}</td>" for text in row[1:])
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
