"""The page that shows what arrived: one string of HTML, no script, nothing loaded.

Everything that came over the wire goes through `_text`, the only way into the
page for what others wrote.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rumbuffer.emulator.records import ReceivedBatch, ReceivedEvent

_SHOWN_EVENTS = 50
_SHOWN_BATCHES = 50
_SHOWN_SESSIONS = 50
_SHOWN_CHARACTERS = 2000

_STYLE = """
:root { color-scheme: light dark; --edge: #8884; --soft: #8881; --quiet: #666; --bad: #c22; }
@media (prefers-color-scheme: dark) { :root { --quiet: #aaa; --bad: #f77; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1.5rem; }
header { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; align-items: baseline; }
h1 { font-size: 1.35rem; margin: 0; }
h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
h2 small { font-weight: 400; font-size: .85rem; }
p { margin: .25rem 0; }
.quiet { color: var(--quiet); }
.bad { color: var(--bad); font-weight: 600; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr)); gap: .75rem; }
dl > div { border: 1px solid var(--edge); border-radius: .5rem; padding: .5rem .75rem; }
dt { color: var(--quiet); font-size: .85rem; }
dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--edge); }
th { font-weight: 500; color: var(--quiet); font-size: .85rem; }
td.n + td:not(.n), th.n + th:not(.n) { padding-left: 1rem; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
code { font: 13px/1.45 ui-monospace, monospace; }
td > code, time { white-space: nowrap; }
details { border-bottom: 1px solid var(--edge); }
summary { cursor: pointer; padding: .4rem 0; overflow-wrap: anywhere; }
details[open] { padding-bottom: .75rem; }
details table { table-layout: fixed; min-width: 50rem; }
details th:nth-child(1) { width: 11rem; }
details th:nth-child(2) { width: 14rem; }
details td { vertical-align: top; overflow-wrap: anywhere; }
details code { white-space: pre-wrap; overflow-wrap: anywhere; }
"""


def render(stats: dict[str, Any], batches: Sequence[ReceivedBatch]) -> str:
    """The page for these counters and the latest batches, in arrival order."""
    newest_first = list(reversed(batches))
    return "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>RUM emulator</title><style>{_STYLE}</style></head><body>",
            _header(stats),
            _counts(stats["requests"]),
            _refusals(stats),
            _app_monitors(newest_first),
            _sessions(newest_first),
            _batches(newest_first[:_SHOWN_BATCHES]),
            "</body></html>",
        ]
    )


def _text(value: object, most: int = _SHOWN_CHARACTERS) -> str:
    """A value that others wrote, as harmless text of bounded length."""
    text = "–" if value is None else str(value)
    return html.escape(text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)")


def _header(stats: dict[str, Any]) -> str:
    return (
        f"<header><h1>RUM emulator</h1><code>{_text(stats['endpoint_url'])}</code>"
        f'<span class="quiet">{_text(stats["region"])} · {_quota(stats["quota"])}</span>'
        '<a href="/">Reload</a></header>'
    )


def _quota(quota: dict[str, Any] | None) -> str:
    if quota is None:
        return "no quota"
    shape = f"burst {quota['burst']:g}" if quota["shape"] == "bucket" else "one-second window"
    return f"{quota['rate']:g} requests/s, {shape}"


def _counts(requests: dict[str, Any]) -> str:
    shown = {
        "Requests": requests["received"],
        "Batches": requests["batches"],
        "Events": requests["events"],
        "Throttled": requests["throttled"],
        "Rejected": sum(requests["rejected"].values()),
        "Faults": sum(requests["faults"].values()),
        "Repeated": requests["repeated"],
        "Silently dropped": requests["silently_dropped"],
    }
    tiles = (f"<div><dt>{name}</dt><dd>{count:,}</dd></div>" for name, count in shown.items())
    return f"<dl>{''.join(tiles)}</dl>"


def _refusals(stats: dict[str, Any]) -> str:
    requests = stats["requests"]
    rows = [("Rejected", name, count) for name, count in requests["rejected"].items()]
    rows += [("Fault", name, count) for name, count in requests["faults"].items()]
    if requests["conflicting"]:
        rows.append(("Conflict", "repeats with another body", requests["conflicting"]))
    if not rows:
        return ""
    cells = ([_text(kind), _text(name), _number(count)] for kind, name, count in rows)
    return f"<h2>Refusals and faults</h2>{_table(['', 'What', '#Requests'], cells)}"


def _app_monitors(batches: Sequence[ReceivedBatch]) -> str:
    groups = _group(batches, lambda batch: batch.app_monitor_id)
    rows = (
        [
            _code(monitor),
            _text(members[0].app_monitor_details.get("name"), 80),
            _text(members[0].app_monitor_details.get("version"), 80),
            _number(len({batch.session_id for batch in members})),
            *_sums(members),
        ]
        for monitor, members in groups
    )
    head = ["App monitor", "Name", "Version", "#Sessions", "#Batches", "#Events", "Last (UTC)"]
    return f"{_heading('App monitors', batches)}{_table(head, rows)}"


def _sessions(batches: Sequence[ReceivedBatch]) -> str:
    groups = _group(batches, lambda batch: batch.session_id)[:_SHOWN_SESSIONS]
    rows = ([_code(session), _code(members[0].user_id), *_sums(members)] for session, members in groups)
    head = ["Session", "User", "#Batches", "#Events", "Last (UTC)"]
    return f"{_heading('Sessions', batches)}{_table(head, rows)}"


def _heading(title: str, batches: Sequence[ReceivedBatch]) -> str:
    count = f"the latest {len(batches)} batches" if len(batches) != 1 else "the one batch"
    return f'<h2>{title} <small class="quiet">in {count}</small></h2>'


def _group(batches: Iterable[ReceivedBatch], key: Any) -> list[tuple[str | None, list[ReceivedBatch]]]:
    groups: dict[str | None, list[ReceivedBatch]] = {}
    for batch in batches:
        groups.setdefault(key(batch), []).append(batch)
    return list(groups.items())


def _sums(batches: Sequence[ReceivedBatch]) -> list[str]:
    events = sum(batch.event_count - len(batch.dropped) for batch in batches)
    return [_number(len(batches)), _number(events), _time(batches[0].received_at)]


def _batches(batches: Sequence[ReceivedBatch]) -> str:
    note = '<p class="quiet">None is kept yet.</p>' if not batches else ""
    return f"<h2>Latest batches</h2>{note}{''.join(map(_batch, batches))}"


def _batch(batch: ReceivedBatch) -> str:
    marks = ""
    if batch.repeats:
        marks += f" · {batch.repeats} repeated"
    if batch.conflicts:
        marks += f' · <span class="bad">{batch.conflicts} with another body</span>'
    if batch.dropped:
        marks += f' · <span class="bad">{len(batch.dropped)} silently dropped</span>'
    unit = "event" if batch.event_count == 1 else "events"
    return (
        f"<details><summary>{_time(batch.received_at)} · {_code(batch.batch_id)} · "
        f"{batch.event_count} {unit} · {len(batch.body):,} bytes{marks}</summary>"
        f"<p>Session {_code(batch.session_id)} · alias {_code(batch.alias)}</p>"
        f"<p>Session metadata {_code(batch.session_metadata)}</p>"
        f"{_events(batch)}</details>"
    )


def _events(batch: ReceivedBatch) -> str:
    rows = [_event(event) for event in batch.events[:_SHOWN_EVENTS]]
    rows += [_event(event, dropped=True) for event in batch.dropped_events[:_SHOWN_EVENTS]]
    left = batch.event_count - len(rows)
    note = f'<p class="quiet">{left} more</p>' if left else ""
    return _table(["Time (UTC)", "Type", "Details", "Metadata"], rows) + note


def _event(event: ReceivedEvent, *, dropped: bool = False) -> list[str]:
    kind = f"{_code(event.type)}<br><span class='quiet'>{_text(event.id)}</span>"
    if dropped:
        kind += '<br><span class="bad">silently dropped</span>'
    return [_time(event.timestamp), kind, _code(event.details), _code(event.metadata)]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a head that begins with # is of numbers. Cells are HTML already."""
    classes = [' class="n"' if name.startswith("#") else "" for name in head]
    titles = "".join(
        f"<th{kind}>{name.removeprefix('#')}</th>" for name, kind in zip(head, classes, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, classes, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{titles}</tr>{body}</table></div>'


def _code(value: object) -> str:
    return f"<code>{_text(value)}</code>"


def _number(count: int) -> str:
    return f"{count:,}"


def _time(seconds: float) -> str:
    """A time of the day in UTC; what is no time is shown as it came."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return _text(seconds)
    return f'<time datetime="{moment.isoformat()}">{moment:%Y-%m-%d %H:%M:%S}</time>'
