"""Run every benchmark, or those that are named: `python -m benchmarks [NAME …] [--write]`.

Each runs in a process of its own, as `python -m benchmarks.NAME` does, and leaves its results as JSON in
`build/benchmarks`. `--write` puts the tables of those that ran into `benchmarks/README.md`, between the marks
that bear their names; what stands outside of the marks is nobody's but its author's. The exit status is 0
only if all of them reached their bars.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.tables import replaced

BENCHMARKS = ("record", "scale", "sender", "middleware", "pacing", "orders", "quota", "send")
RESULTS = Path("build/benchmarks")
README = Path(__file__).with_name("README.md")


def run(name: str) -> bool:
    """Run a benchmark; tell whether it reached its bars."""
    print(f"== benchmarks.{name}", flush=True)
    file = RESULTS / f"{name}.json"
    file.unlink(missing_ok=True)  # an older run's is nobody's result
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file)]
    return subprocess.run(command, check=False).returncode == 0


def write(names: Sequence[str]) -> None:
    """Put the tables of these into the README."""
    text = README.read_text(encoding="utf-8")
    for name in names:
        file = RESULTS / f"{name}.json"
        if file.exists():
            text = replaced(text, name, json.loads(file.read_text(encoding="utf-8")))
    README.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; else all")
    parser.add_argument("--write", action="store_true", help="put the tables into benchmarks/README.md")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    names = options.names or BENCHMARKS
    RESULTS.mkdir(parents=True, exist_ok=True)
    missed = [name for name in names if not run(name)]
    if options.write:
        write(names)
    if missed:
        print("missed:", ", ".join(missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
