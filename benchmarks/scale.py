"""What a million live sessions cost: `python -m benchmarks.scale`.

Every measurement is `benchmarks.scale_cases` in a fresh process (see there for how), by turns, three times.

*The cost of an event.* `record()` for one of 1,000, of 100,000 and of a million sessions with an open batch,
each time for another one at random. No cache holds a million of anything, so the floor is measured beside:
one look into a dict of as many keys, and one append to the list that is found, in the same order. Callers
who keep their `Session` spare that look; *made anew* are equal ones, as a web server makes them from each
request (whose making is not counted), and for these there is no bar: they cannot be had below the floor.
Compared are the lowest rounds: on a shared machine they are the nearest to a quiet core.

*Memory.* The growth of the process for each batch of one event, whose session nobody else holds, and for
each further event, beside what DESIGN.md charges for them: that charge is the bound on memory. And what is
left when batches are delivered, and others come, twelve times over.

*The garbage collector.* Its longest stop on the way to a million live sessions, and that of a whole
collection then. It walks two objects a session. The buffer makes no garbage that needs it; who has as many
sessions can have them frozen (`gc.freeze()`, now and then), which is shown beside.

*The loop.* 100,000 events in 1,000 batches are sent with the real aiobotocore to a process that takes them at
once, at the default quota and unpaced. Another task sleeps a millisecond at a time, and notes what the thread
computed until it had its turn again (busy), and by how much it was late. A shared machine stops the process
for as long as it likes, so the bar is for the first.

The bars: `record()` at most 1.5 times what it is at a thousand sessions; memory at most what is charged; what
is left after twelve rounds at most a twentieth above what was left after four; busy at most 5 ms (99.9th
percentile). Takes six minutes, and 2 GB of memory.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.cases import Figures, by_turns, in_fresh_process, lowest, medians
from benchmarks.report import Report, parser

MODULE = "benchmarks.scale_cases"
COUNTS = (1_000, 100_000, 1_000_000)
KINDS = {"plain": "session", "user": "session with a user id of its own"}
DRAINS = {"50": "at 50 requests a second", "1e6": "unpaced"}


def measured(cases: Sequence[str], repeats: int) -> dict[str, list[Figures]]:
    """Run the cases by turns."""
    return by_turns(cases, repeats, lambda case: in_fresh_process(MODULE, *case.split()))


def cost(report: Report, repeats: int) -> None:
    """An event's cost by the number of live sessions."""
    runs = measured([f"{kind} {count}" for count in COUNTS for kind in ("floor", "record", "anew")], repeats)
    table = report.table(
        "CPU of one call by the number of live sessions, lowest rounds, µs",
        ("live sessions", "floor", "record()", "times 1,000", "made anew", "times 1,000"),
    )
    least = {case: lowest(of_case)["lowest"] for case, of_case in runs.items()}
    few, few_anew = least[f"record {COUNTS[0]}"], least[f"anew {COUNTS[0]}"]
    for count in COUNTS:
        floor, ours, anew = (least[f"{kind} {count}"] for kind in ("floor", "record", "anew"))
        table.row(f"{count:,}", floor, ours, ours / few, anew, anew / few_anew)
        if count > COUNTS[0]:
            report.at_most(f"record() with {count:,} sessions / with 1,000", 1.5, ours / few)


def memory(report: Report, repeats: int) -> None:
    """What a batch and an event take, and what is left when they are gone."""
    runs = measured([f"memory {kind}" for kind in KINDS], repeats)
    table = report.table("Memory, bytes", ("each", "taken", "charged", "share"))
    for kind, name in KINDS.items():
        row = medians(runs[f"memory {kind}"])
        shares = {
            f"{name}, batch and one event": (row["batch"], row["batch charge"]),
            f"{name}, further event": (row["event"], row["event charge"]),
        }
        for what, (taken, charged) in shares.items():
            table.row(what, taken, charged, taken / charged)
            report.at_most(f"memory / charge: {what}", 1.0, taken / charged)
    row = medians(measured(["done"], repeats)["done"])
    table = report.table("Memory of the process, MB", ("4,000 sessions at a time", "MB"))
    table.row("the highest", row["highest"])
    table.row("delivered, four times over", row["early"])
    table.row("delivered, twelve times over", row["last"])
    report.at_most("left after 12 rounds / after 4", 1.05, row["last"] / row["early"])


def collector(report: Report, repeats: int) -> None:
    """The garbage collector's stops."""
    runs = measured([f"collector {count}" for count in COUNTS], repeats)
    table = report.table(
        "Longest stops by the garbage collector, ms", ("live sessions", "on the way", "whole", "frozen")
    )
    for count in COUNTS:
        row = medians(runs[f"collector {count}"])
        table.row(f"{count:,}", row["way"], row["whole"], row["frozen"])


def drains(report: Report, repeats: int) -> None:
    """How long the loop is kept from others while a backlog is sent."""
    runs = measured([f"drain {quota}" for quota in DRAINS], repeats)
    columns = ("100,000 events", "s", "busy 50 %", "99 %", "99.9 %", "late 99.9 %")
    table = report.table("The loop during a drain, ms", columns)
    for quota, name in DRAINS.items():
        row = medians(runs[f"drain {quota}"])
        busy = [row[f"busy {share}"] for share in (0.5, 0.99, 0.999)]
        table.row(name, row["seconds"], *busy, row["late 0.999"])
        report.bar(
            f"events of 100,000 delivered {name}", "all", row["delivered"], met=row["delivered"] == 100_000
        )
        report.at_most(f"the loop, ms busy (99.9 %), {name}", 5.0, busy[-1])


PARTS = {"cost": cost, "memory": memory, "collector": collector, "drain": drains}


def main(arguments: Sequence[str] | None = None) -> int:
    options_of = parser("scale", __doc__)
    options_of.add_argument("--repeats", type=int, default=3, help="runs of each case (3)")
    options_of.add_argument("--only", choices=PARTS, help="one part alone")
    options = options_of.parse_args(arguments)
    report = Report("scale", json_to=options.json)
    for name, part in PARTS.items():
        if options.only in (None, name):
            part(report, options.repeats)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
