"""A benchmark's results (the JSON of `benchmarks.report`) as tables for the README."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from benchmarks.report import Cell, shown

__all__ = ["markdown", "replaced"]


_MOST_SHOWN = 30
"""Rows of a table that is not folded away."""


def markdown(results: dict[str, Any]) -> str:
    """Return all tables and the bars, with where and with what they were measured."""
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    parts = [f"{results['machine']}; {versions}; commit {results['commit']}; {results['seconds']:.0f} s."]
    for table in results["tables"]:
        parts += [f"**{table['title']}**", _table(table["columns"], table["rows"])]
    if results["bars"]:
        rows = [
            [bar["question"], bar["bar"], bar["measured"], "yes" if bar["met"] else "**no**"]
            for bar in results["bars"]
        ]
        parts += ["**Bars**", _table(("question", "bar", "measured", "reached"), rows)]
    return "\n\n".join(parts)


def replaced(text: str, name: str, results: dict[str, Any]) -> str:
    """Return the text with the results between the marks of that name. Raises `ValueError` without marks."""
    begin, end = f"<!-- results of {name} -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the README has no marks for {name}: {begin} … {end}")
    if "tables" not in results:  # not in the common form
        return text
    return pattern.sub(lambda _: f"{begin}\n\n{markdown(results)}\n\n{end}", text)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    lines = [columns, ["---", *("---:" for _ in columns[1:])]]
    lines += [[shown(cell).replace("|", "\\|") for cell in row] for row in rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    if len(rows) <= _MOST_SHOWN:
        return text
    return f"<details><summary>{len(rows)} rows</summary>\n\n{text}\n\n</details>"
