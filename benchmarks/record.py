"""What the caller of `record()` pays, beside those of others: `python -m benchmarks.record`.

Each case is `benchmarks.record_cases` in a fresh process on one core (see there for how), all cases by turns,
seven times; shown are the medians of the runs' medians, and the lowest round of all: on a shared machine that
is the nearest to a quiet core. A ratio is the median of the turns' ratios. Details are a dict of two members,
metadata one of four; a session's batch fills with 100 events.

- *floor*: what no buffer for RUM can do without: `orjson.dumps` for the details and for the string that they
  travel as (twice as many with metadata), an id from a pool, the clock, one join.
- *peers*: an OpenTelemetry span started and ended, and a log record; a Sentry log; a PostHog event. Each
  with as many attributes, through the library's own batching, with an exporter that does nothing.
- *admitted encoded*: what the web middleware calls, beside `BatchSpanProcessor.on_end` with spans that are
  ended: both put one finished thing into a buffer under a limit, ours by session and counting bytes.
- *refused*: no room (`DROP_NEWEST`), not sampled, shed, closed, without a session. *evicting* is an event
  that is admitted for the oldest, which is dropped.

The bars: `record()` at most 2.5 µs, and 3.5 with metadata, in its lowest round; a span 8 times dearer, and a
PostHog event 24 times; an encoded event at most 1 µs, and no dearer than `on_end`; a refusal no dearer than
an admission (a twentieth is left for the noise). Takes three to four minutes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.cases import Figures, by_turns, in_fresh_process, lowest, medians, ratio
from benchmarks.report import Report, parser

PACKAGES = ("opentelemetry-sdk", "sentry-sdk", "posthog")
NOISE = 1.05

OURS = {
    "record": "record()",
    "record-metadata": "record(), with metadata",
    "record-new-sessions": "record(), each in a new session",
    "put_nowait": "put_nowait()",
    "admit": "admitted encoded",
}
REFUSED = {
    "full": "record(): no room",
    "sampled-out": "record(): session not sampled",
    "shed": "record(): session shed",
    "closed": "record(): buffer closed",
    "no-session": "record(): no session",
    "evicting": "record(): accepted, evicting another",
    "admit-full": "encoded: no room",
    "admit-closed": "encoded: buffer closed",
}
PEERS = {
    "otel-span": "OpenTelemetry span",
    "otel-log": "OpenTelemetry log record",
    "otel-on_end": "OpenTelemetry BatchSpanProcessor.on_end",
    "sentry-log": "Sentry log",
    "posthog": "PostHog capture",
}
FLOORS = {"floor": "floor", "floor-metadata": "floor, with metadata"}
CASES = FLOORS | OURS | REFUSED | PEERS


def judge(report: Report, runs: dict[str, list[Figures]], least: dict[str, float]) -> None:
    report.at_most("record(), µs", 2.5, least["record"])
    report.at_most("record() with metadata, µs", 3.5, least["record-metadata"])
    report.at_least("OpenTelemetry span / record()", 8.0, ratio(runs, "otel-span", "record", "median"))
    report.at_least("PostHog capture / record()", 24.0, ratio(runs, "posthog", "record", "median"))
    report.at_most("admitted encoded, µs", 1.0, least["admit"])
    report.at_most("admitted encoded / on_end", 1.0, ratio(runs, "admit", "otel-on_end", "median"))
    for case in ("full", "sampled-out", "shed", "closed", "no-session"):
        report.at_most(f"{REFUSED[case]} / accepted", NOISE, ratio(runs, case, "record", "median"))


def main(arguments: Sequence[str] | None = None) -> int:
    options_of = parser("record", __doc__, PACKAGES)
    options_of.add_argument("--repeats", type=int, default=7, help="runs of each case (7)")
    options_of.add_argument("--seconds", type=float, default=0.5, help="processor time of a run (0.5)")
    options = options_of.parse_args(arguments)
    report = Report("record", PACKAGES, options.json)
    runs = by_turns(
        list(CASES),
        options.repeats,
        lambda case: in_fresh_process("benchmarks.record_cases", case, "--seconds", str(options.seconds)),
    )
    median = {case: medians(of_case)["median"] for case, of_case in runs.items()}
    least = {case: lowest(of_case)["lowest"] for case, of_case in runs.items()}
    table = report.table(
        "CPU of one call, caller's thread", ("call", "µs", "lowest µs", "/ record()", "/ floor")
    )
    for case, name in CASES.items():
        floor = "floor-metadata" if case == "record-metadata" else "floor"
        ratios = [ratio(runs, case, to, "median") for to in ("record", floor)]
        table.row(name, median[case], least[case], *ratios)
    judge(report, runs, least)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
