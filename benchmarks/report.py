"""The frame of every benchmark: its options, where and with what it ran, its tables, and its verdict.

    options = parser("record", __doc__, PACKAGES).parse_args(arguments)
    report = Report("record", PACKAGES, options.json)
    table = report.table("CPU of one call", ("call", "µs", "lowest µs"))
    table.row("record()", 2.1, 2.0)
    report.at_most("record(), µs", 2.5, 2.1)
    return report.finish()

A row is printed as soon as it is known. `--json` alone puts the JSON on standard output and the rest on
standard error; `--json FILE` writes a file besides. `finish` says which bars are missed, and returns the
exit status: 1 where one is.

The JSON:

    {"benchmark": "record", "machine": "…", "versions": {"rumbuffer": "…", …}, "commit": "…", "seconds": 61.0,
     "tables": [{"title": "…", "columns": ["…", …], "rows": [["…", 2.1, …], …]}, …],
     "bars": [{"question": "…", "bar": "at most 2.5", "measured": 2.1, "met": true}, …]}
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO, TypeAlias

import rumbuffer

__all__ = ["Bar", "Report", "Table", "commit", "machine", "parser", "shown", "versions"]

Cell: TypeAlias = str | int | float | None

OWN_PACKAGES = ("orjson", "aiobotocore", "botocore", "aiohttp")
STANDARD_OUTPUT = "-"

_FIRST_WIDTH = 46
_WIDTH = 10


def parser(name: str, text: str | None, packages: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return the parser of the benchmark's options, with those that all have. `packages` are its peers."""
    found = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument(
        "--json",
        nargs="?",
        const=STANDARD_OUTPUT,
        metavar="FILE",
        help="write the results as JSON: to the file, or without one to standard output",
    )
    lines = [f"{package} {number}" for package, number in versions(packages).items()]
    found.add_argument(
        "--versions",
        action="version",
        version="; ".join(lines),
        help="show what would be measured, and leave",
    )
    return found


def versions(packages: Sequence[str] = ()) -> dict[str, str]:
    """Return the versions of Python, of the library with what it stands on, and of the peers."""
    found = {
        platform.python_implementation(): platform.python_version(),
        "rumbuffer": rumbuffer.__version__,
    }
    for package in dict.fromkeys((*OWN_PACKAGES, *packages)):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> str:
    """Say where it runs: the processor, the cores that may be used, the system, the load before."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{model}, {cores} cores, {platform.system()} {platform.machine()}{load}"


def commit() -> str:
    """Return the commit that is measured, with "-dirty" where files differ from it."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty"],  # noqa: S607 - git is wherever it is
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return "unknown"
    return run.stdout.strip() or "unknown"


def shown(cell: Cell) -> str:
    """Return a cell as people read it: about three digits."""
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int):
        return f"{cell:,}"
    size = abs(cell)
    digits = 0 if size >= 100 or size == 0 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{cell:,.{digits}f}"


@dataclass
class Table:
    """Rows of results; the first column says what each is of."""

    title: str
    columns: Sequence[str]
    rows: list[list[Cell]] = field(default_factory=list)
    out: TextIO | None = field(default=None, repr=False)
    """Where the rows are printed as they come."""

    def head(self) -> None:
        """Print the title and the names of the columns."""
        print(f"\n{self.title}", file=self.out)
        self._line(self.columns)

    def row(self, *cells: Cell) -> None:
        """Add a row, and print it."""
        if len(cells) != len(self.columns):
            raise ValueError(f"{self.title}: {len(cells)} cells for {len(self.columns)} columns")
        self.rows.append(list(cells))
        self._line([shown(cell) for cell in cells])

    def _line(self, cells: Sequence[str]) -> None:
        first, *others = cells
        widths = [max(_WIDTH, len(name) + 2) for name in self.columns[1:]]
        rest = "".join(f"{cell:>{width}}" for cell, width in zip(others, widths, strict=True))
        print(f"  {first:<{_FIRST_WIDTH}}{rest}", file=self.out, flush=True)


@dataclass(frozen=True)
class Bar:
    """Something that must be reached."""

    question: str
    bar: str
    measured: Cell
    met: bool


class Report:
    """What one run of a benchmark found."""

    def __init__(self, benchmark: str, packages: Sequence[str] = (), json_to: str | None = None) -> None:
        self.benchmark: str = benchmark
        self.tables: list[Table] = []
        self.bars: list[Bar] = []
        self._where: dict[str, Any] = {
            "machine": machine(),
            "versions": versions(packages),
            "commit": commit(),
        }
        self._json_to = json_to
        self._out = sys.stderr if json_to == STANDARD_OUTPUT else sys.stdout
        self._started = perf_counter()
        names = ", ".join(f"{name} {number}" for name, number in self._where["versions"].items())
        self.say(f"{self._where['machine']}\n{names}\ncommit {self._where['commit']}")

    def say(self, text: str) -> None:
        """Print something that is no result: progress, a warning."""
        print(text, file=self._out, flush=True)

    def table(self, title: str, columns: Sequence[str]) -> Table:
        """Begin a table."""
        table = Table(title, tuple(columns), out=self._out)
        self.tables.append(table)
        table.head()
        return table

    def bar(self, question: str, bar: str, measured: Cell, *, met: bool) -> None:
        """Judge: `bar` says in words what must be reached."""
        self.bars.append(Bar(question, bar, measured, met))

    def at_most(self, question: str, highest: float, measured: float) -> None:
        """Judge a figure that must not be higher."""
        self.bar(question, f"at most {highest:,g}", measured, met=measured <= highest)

    def at_least(self, question: str, lowest: float, measured: float) -> None:
        """Judge a figure that must not be lower."""
        self.bar(question, f"at least {lowest:,g}", measured, met=measured >= lowest)

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "benchmark": self.benchmark,
            **self._where,
            "seconds": round(perf_counter() - self._started, 1),
            "tables": [
                {"title": table.title, "columns": list(table.columns), "rows": table.rows}
                for table in self.tables
            ],
            "bars": [asdict(bar) for bar in self.bars],
        }

    def finish(self) -> int:
        """Print the verdict, write the JSON, and return the exit status: 1 where a bar is missed."""
        missed = [bar for bar in self.bars if not bar.met]
        width = max((len(bar.question) for bar in self.bars), default=0)
        if self.bars:
            self.say(f"\n  {'bars':<{width}}{'':>18}{'measured':>12}")
        for bar in self.bars:
            verdict = "" if bar.met else "   MISSED"
            self.say(f"  {bar.question:<{width}}{bar.bar:>18}{shown(bar.measured):>12}{verdict}")
        self.say(f"\n{perf_counter() - self._started:.0f} s; bars missed: {len(missed)} of {len(self.bars)}")
        if self._json_to is not None:
            text = json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n"
            if self._json_to == STANDARD_OUTPUT:
                sys.stdout.write(text)
            else:
                Path(self._json_to).write_text(text, encoding="utf-8")
        return 1 if missed else 0
