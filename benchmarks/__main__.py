"""Run every benchmark: `python -m benchmarks`. Each can be run by itself, as `python -m benchmarks.NAME`."""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = ("middleware", "pacing", "orders", "quota", "send")


def main() -> int:
    """Run each in a process of its own; the exit status is 0 only if all of them reached their bars."""
    failed = []
    for name in BENCHMARKS:
        print(f"== benchmarks.{name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        print("missed:", ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
