"""The path out: what a request costs, what an event costs from `record()` to its delivery, and a burst.

    python -m benchmarks.sender [--rounds 3] [--json [FILE]] [--versions]

What is counted is the processor time of the process that sends; the service is a process of its own on
another core, which takes everything and answers at once (`benchmarks.sender_sink`). Each case has a fresh
process (`benchmarks.sender_cases`), and the cases run in turn, several times over: a shared machine is faster
and slower by the minute. A ratio is the median of the rounds' ratios.

- *A request*, eight on the way at once, with a batch of 1, 10 or 100 events: aiohttp's POST of the same
  bytes, which is the floor; `AwsSender`; and aiobotocore's `put_rum_events`, given events that are ready.
- *Compression*: the same with gzip, and the bytes on the wire, the request's head included.
- *An event* from `record()` to its delivery: 4,000 a round, in 40 sessions, with details and metadata as the
  middleware records them, and every batch full. Nothing is paced. aiobotocore's figure is its request's,
  spread over its events; that somebody has to make and keep them is not counted.
- *A burst* of 50,000 events, as fast as one task can record them, at default settings, in 500 sessions, to a
  service that takes 20 ms for each request. OpenTelemetry's processors, at their defaults, have an exporter
  that takes 20 ms for each batch, and no processor time. What is delivered is counted at the service.

The bars: an event through `record()` costs at most a third of what it costs aiobotocore with 100 in a call,
and a hundredth of what a call of its own costs; a request at most six times aiohttp's; a burst is delivered
whole. A missed bar ends the program with status 1. Takes four
to seven minutes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

from benchmarks.cases import Figures, by_turns, in_fresh_process, medians, ratio
from benchmarks.report import Report, parser
from benchmarks.sender_cases import BURST, CALLS, PIPELINE

PACKAGES = ("isal", "opentelemetry-sdk")
SIZES = (1, 10, 100)
OURS, FLOOR, THEIRS = "rumbuffer", "aiohttp", "aiobotocore"

Runs = dict[str, list[Figures]]


def case(who: str, events: int) -> str:
    return f"{who}, {events} events"


def cases() -> list[str]:
    """All that are measured several times."""
    callers = [who for who in CALLS if "isal" not in who or find_spec("isal")]
    pipeline = [name for name in PIPELINE if not name.startswith("burst")]
    return [case(who, events) for events in SIZES for who in callers] + pipeline


def requests(report: Report, runs: Runs) -> None:
    """Show what a request costs, with and without compression."""
    title = "Processor time of a request, in µs, and as a multiple of aiohttp's POST of the same bytes"
    columns = [name for events in SIZES for name in (f"{events} ev.", "times")]
    table = report.table(title, ("call", *columns))
    for who in CALLS:
        cells: list[float] = []
        for events in SIZES:
            if (name := case(who, events)) in runs:
                floor = case(FLOOR, events)
                cells += [medians(runs[name])["microseconds"], ratio(runs, name, floor, "microseconds")]
        if cells:
            table.row(who, *cells)
    columns = [name for events in SIZES for name in (f"{events} ev.", f"µs, {events} ev.")]
    table = report.table("Bytes of a request on the wire, and its processor time", ("compression", *columns))
    for who in (OURS, *(who for who in CALLS if "gzip" in who)):
        if case(who, 1) in runs:
            each = [medians(runs[case(who, events)]) for events in SIZES]
            pairs = [cell for found in each for cell in (round(found["bytes"]), found["microseconds"])]
            table.row(who.partition(", ")[2] or "none", *pairs)
    for events in SIZES:
        measured = ratio(runs, case(OURS, events), case(FLOOR, events), "microseconds")
        report.at_most(f"request of {events}, times aiohttp's POST", 6, measured)


def deliveries(report: Report, runs: Runs) -> None:
    """Show what an event costs until it is delivered."""
    table = report.table(
        "An event on its way: processor time, and how many a second of it",
        ("way", "µs", "per CPU s", "times"),
    )
    own = "recorded and delivered"
    cost = medians(runs[own])["microseconds"]
    table.row("record() to delivery, 100 a batch", cost, round(1e6 / cost), 1)
    for events, least in ((100, 3), (10, None), (1, 100)):
        name = case(THEIRS, events)
        theirs = medians(runs[name])["microseconds"] / events
        times = ratio(runs, name, own, "microseconds", per=events)
        table.row(f"put_rum_events, {events} a call", theirs, round(1e6 / theirs), times)
        if least is not None:
            report.at_least(f"an event, {events} a call, times ours", least, times)


def bursts(report: Report) -> None:
    """Show what becomes of a burst."""
    table = report.table(
        f"A burst of {BURST:,} at default settings, to a service that takes 20 ms",
        ("through", "delivered", "lost %", "burst, s", "drained, s"),
    )
    for name in (name for name in PIPELINE if name.startswith("burst")):
        found = in_fresh_process("benchmarks.sender_cases", name)
        delivered = round(found["delivered"])
        lost = 100 * (1 - delivered / BURST)
        table.row(name.partition(": ")[2], delivered, lost, found["burst"], found["drained"])
        if OURS in name:
            report.at_least("a burst, delivered", BURST, delivered)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser("sender", __doc__, PACKAGES)
    options.add_argument("--rounds", type=int, default=3, help="how often each case is run (3)")
    chosen = options.parse_args(arguments)
    report = Report("sender", PACKAGES, chosen.json)
    runs = by_turns(cases(), chosen.rounds, lambda name: in_fresh_process("benchmarks.sender_cases", name))
    requests(report, runs)
    deliveries(report, runs)
    bursts(report)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
