"""The quota for real, over sockets and in real time: `python -m benchmarks.quota`.

Each run has an emulator with signature checks and a quota of 50 requests a second in a process of its own,
and 1 or 4 senders with the real aiobotocore, each in a process of its own, with more sessions waiting than
the quota takes (see `benchmarks.quota_senders`). Round trips are lognormal with a median of 60 ms, half of
it before the limiter (see `benchmarks.quota_service`). The limiter is a token bucket with a burst of 50, or
a window: 50 requests in each second of the clock. rumbuffer runs with `use=0.98`, or with a quota that it
is not told; on one host, four processes share their pace through its file, which lies in a folder of the
run's own. Beside it: aiobotocore in each of its retry modes, without any pacing of ours.

Everything is counted at the service, in the `--seconds` that follow upon the first request, and the start
is never left out but in one column:

- *goodput %*: what the service accepted, in percent of 50 a second. A bucket that is full at the start
  holds 50 requests beside that, and a window that is about to end nearly as many, so in 60 s up to 101.7 %
  can be reached, and in 20 s 105 %.
- *from 10 s %*: the same without the first ten seconds, for whoever lived on what was there at the start.
- *throttled %*: the share of requests that were refused; *429s in 25 s*: their number, for so much time.
- *lost*: events that were made and are not stored at the end, after a drain.
- *Jain*: the index of fairness between the processes, the mean over windows of ten seconds.
- *late ms*: how late timers fire in the senders (99th percentile). Above 10 ms in rumbuffer's rows the
  machine is too busy to measure pacing on, for a lone sender cannot make up for slots that it slept through
  (root can have `--quick` at a real-time priority: `chrt --fifo 10`). In aiobotocore's rows it is 32
  callers that start, or try again, all at once.

All books are compared: what a sender counts as delivered with what is stored, event by event; what came
twice, or changed; and the refusals that rumbuffer noticed with those that there were. Where they differ the
row says so, and that is a miss for rumbuffer, as is a lost event.

Figures are medians over the rounds, but *lost* is the sum. Cases of one group run side by side, for they
hardly need the CPU; peers run once, and the `standard` mode, which does need it, for 20 s. A row that
misses a bar ends the program with status 1. Takes six minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.pacing import Bar, at_least, at_most
from benchmarks.quota_run import Run, Setup
from benchmarks.report import Report, Table, parser
from rumbuffer import Pacing
from rumbuffer.emulator import Quota

RATE = 50.0
BUCKET = Quota(RATE, burst=50)
WINDOW = Quota(RATE, shape="window")

KNOWN = Pacing(quota=RATE, use=0.98)
UNKNOWN = Pacing(quota=None)

HEAVY_SECONDS = 20.0
"""Length of a run of the retry mode that keeps the CPU busy; it does the same all the time."""

BUSY_MS = 10.0
TOO_BUSY = "timers fire too late: the machine has too much else to do for this measurement"

COLUMNS = {
    "goodput %": 2,
    "from 10 s %": 2,
    "throttled %": 2,
    "429s in 25 s": 2,
    "lost": 0,
    "Jain": 3,
    "late ms": 1,
}
"""With the number of digits after the point."""


@dataclass(frozen=True)
class Case:
    """One row, and what it must reach."""

    name: str
    setup: Setup
    bars: Mapping[str, Bar] = field(default_factory=dict)


def ours() -> list[Case]:
    """rumbuffer's cases. They run side by side."""
    none_lost = {"lost": at_most(0)}
    alone = none_lost | {"goodput %": at_least(97.5), "429s in 25 s": at_most(1)}
    host = none_lost | {"goodput %": at_least(97), "throttled %": at_most(0.1)}
    bucket = none_lost | {"goodput %": at_least(98.5), "throttled %": at_most(0.4)}
    window = none_lost | {"goodput %": at_least(90), "throttled %": at_most(0.6)}
    return [
        Case("N=1, known, bucket", Setup(BUCKET, pacing=KNOWN), alone),
        Case("N=1, known, window", Setup(WINDOW, pacing=KNOWN), alone),
        Case("N=4 on one host, known, bucket", Setup(BUCKET, 4, KNOWN), host),
        Case("N=4 on one host, known, window", Setup(WINDOW, 4, KNOWN), host),
        Case("N=1, unknown, bucket", Setup(BUCKET, pacing=UNKNOWN), bucket),
        Case("N=1, unknown, window", Setup(WINDOW, pacing=UNKNOWN), window),
    ]


def peers(seconds: float) -> list[tuple[float, list[Case]]]:
    """aiobotocore's cases, in groups that leave the CPU some room, with the length of their runs."""

    def case(mode: str, count: int, shape: str) -> Case:
        quota = BUCKET if shape == "bucket" else WINDOW
        return Case(f"N={count}, {mode}, {shape}", Setup(quota, count, mode=mode))

    light = [
        case(mode, count, shape)
        for mode in ("legacy", "adaptive")
        for count, shape in ((1, "bucket"), (1, "window"), (4, "bucket"))
    ]
    return [
        (seconds, light),
        (HEAVY_SECONDS, [case("standard", 1, shape) for shape in ("bucket", "window")]),
        (HEAVY_SECONDS, [case("standard", 4, "bucket")]),
    ]


async def side_by_side(cases: Sequence[Case], seconds: float) -> list[Run]:
    """Run the cases of a group, beginning when all their processes are ready."""
    together = asyncio.Barrier(len(cases))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(Run.made(case.setup, seconds, together)) for case in cases]
    return [task.result() for task in tasks]


def figures(runs: Sequence[Run]) -> dict[str, float]:
    """A row's figures from its rounds."""
    row = {
        "goodput %": median(run.goodput() for run in runs),
        "from 10 s %": median(run.goodput(10.0) for run in runs),
        "throttled %": median(run.throttled() for run in runs),
        "429s in 25 s": median(run.refusals(25.0) for run in runs),
        "lost": sum(run.lost for run in runs),
        "late ms": median(1000.0 * run.late for run in runs),
    }
    if runs[0].setup.processes > 1:
        row["Jain"] = median(run.fairness() for run in runs)
    return row


def add(report: Report, table: Table, case: Case, runs: Sequence[Run]) -> None:
    """Add a row, and below it what is not as it should be."""
    row = figures(runs)
    digits = {name: f"{row[name]:.{count}f}" for name, count in COLUMNS.items() if name in row}
    table.row(case.name, *(float(digits[name]) if name in digits else None for name in COLUMNS))
    missed = [name for name, bar in case.bars.items() if not bar.met(row[name])]
    wrong = [fault for run in runs for fault in run.wrong]
    for fault in wrong + ([TOO_BUSY] if missed and row["late ms"] > BUSY_MS else []):
        report.say(f"    {fault}")
    for name, bar in case.bars.items():
        report.bar(f"{case.name}: {name}", str(bar), row[name], met=name not in missed)
    if case.setup.mode is None:
        report.bar(f"{case.name}: books that differ", "none", len(wrong), met=not wrong)


async def measure(options: argparse.Namespace, report: Report) -> None:
    """Run what was asked for."""
    cases = [case for case in ours() if options.only in case.name]
    if cases:
        rounds = [await side_by_side(cases, options.seconds) for _ in range(options.rounds)]
        table = report.table(f"rumbuffer, {options.rounds} x {options.seconds:g} s", ("case", *COLUMNS))
        for number, case in enumerate(cases):
            add(report, table, case, [runs[number] for runs in rounds])
    if options.quick:
        return
    for seconds, group in peers(options.seconds):
        cases = [case for case in group if options.only in case.name]
        if cases:
            runs = await side_by_side(cases, seconds)
            table = report.table(f"aiobotocore, {seconds:g} s", ("case", *COLUMNS))
            for case, run in zip(cases, runs, strict=True):
                add(report, table, case, [run])


def seconds_of_a_run(text: str) -> float:
    seconds = float(text)
    if not 20.0 <= seconds <= 600.0:
        raise argparse.ArgumentTypeError("must be from 20 to 600")
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    options_of = parser("quota", __doc__)
    options_of.add_argument(
        "--seconds",
        type=seconds_of_a_run,
        default=60.0,
        help="length of a run of ours; bars are for 60",
    )
    options_of.add_argument("--rounds", type=int, default=3, help="how often each case of ours runs (3)")
    options_of.add_argument("--quick", action="store_true", help="one round, and no peers: a minute")
    options_of.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains this")
    options = options_of.parse_args(arguments)
    if options.quick:
        options.rounds = 1
    report = Report("quota", json_to=options.json)
    try:
        asyncio.run(measure(options, report))
    except KeyboardInterrupt:
        report.say("interrupted")
        return 130
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
