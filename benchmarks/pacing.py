"""The pacer against PutRumEvents' quota, in virtual time: `python -m benchmarks.pacing`.

Every scenario runs the library's own core (see `benchmarks.simulation`) before a limiter of 50 requests a
second of every plausible shape, with several seeds, with and without `Retry-After: 1`. Round trips are
lognormal with a median of 60 ms. The steady cases and the changes of the quota use the pacer with always
something to send; "whole core" in a row's name says that store and batcher ran too. No event may be lost
and no batch may change: that is asserted in the simulation.

Each figure is the mean over the seeds and over the two kinds of refusals. A row that has a bar and misses
it ends the program with status 1. A chart for each scenario (an SVG: goodput, the senders' pace, and the
refusals) goes to the folder that `--charts` names.
"""

from __future__ import annotations

import math
import random
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from benchmarks.charts import chart
from benchmarks.peers import AdaptiveSender, BackoffSender
from benchmarks.report import Report, parser
from benchmarks.simulation import BatcherSender, PacedSender, Sender, World, between
from rumbuffer.core.pace import Pace
from rumbuffer.core.pacing import Ledger, OwnLedger, QuotaPacer
from rumbuffer.emulator.quota import Quota

QUOTA = 50.0
KNOWN = 0.98 * QUOTA
BURST = 10
WARM_UP = 100.0
STEADY = 300.0

SHAPES = {
    "burst 50": Quota(QUOTA, burst=50),
    "burst 5": Quota(QUOTA, burst=5),
    "window": Quota(QUOTA, shape="window"),
    "refusals consume": Quota(QUOTA, burst=50, refusals_consume=True),
}

Figures = dict[str, float]


@dataclass(frozen=True)
class Bar:
    """The lowest or highest value that a figure may have."""

    lowest: float = -math.inf
    highest: float = math.inf

    def met(self, value: float) -> bool:
        return self.lowest <= value <= self.highest

    def __str__(self) -> str:
        return f"≥ {self.lowest:g}" if self.highest == math.inf else f"≤ {self.highest:g}"


@dataclass(frozen=True)
class Case:
    """One row: how to run it with a seed and a kind of refusal, and what it must reach."""

    name: str
    run: Callable[[int, int | None, list[World] | None], Figures]
    bars: dict[str, Bar] = field(default_factory=dict)
    seeds: int = 0


class Options:
    """What the command line says."""

    seeds = 3
    spread = 0.3


def at_least(value: float) -> Bar:
    return Bar(lowest=value)


def at_most(value: float) -> Bar:
    return Bar(highest=value)


def with_retry_after(quota: Quota, retry_after: int | None, rate: float | None = None) -> Quota:
    return Quota(rate or quota.rate, quota.burst, quota.shape, quota.refusals_consume, retry_after)


def make(
    count: int,
    ceiling: float | None,
    rng: random.Random,
    *,
    host: bool = False,
    core: bool = False,
    always: bool = True,
) -> list[Sender]:
    """Senders that start within a second, each with its own pace or all with the host's."""
    shared: Ledger | None = OwnLedger(Pace(ceiling or math.inf, BURST)) if host else None
    senders: list[Sender] = []
    for _ in range(count):
        pacer = QuotaPacer(ceiling, BURST, shared)
        starts = rng.random()
        if core:
            senders.append(BatcherSender(pacer, rng, always=always, starts=starts))
        else:
            senders.append(PacedSender(pacer, rng, starts, always=always))
    return senders


def finish(world: World, until: float, keep: list[World] | None) -> World:
    if keep is not None:
        keep.append(world)
    return world.run(until)


def steady(
    count: int, ceiling: float | None, shape: str, *, host: bool = False, core: bool = False
) -> Callable[[int, int | None, list[World] | None], Figures]:
    """Always something to send, for five minutes; the figures leave out the start."""

    def run(seed: int, retry_after: int | None, keep: list[World] | None) -> Figures:
        rng = random.Random(f"steady {count} {ceiling} {shape} {host} {seed}")
        world = World(
            make(count, ceiling, rng, host=host, core=core),
            with_retry_after(SHAPES[shape], retry_after),
            rng,
            spread=Options.spread,
            sample=keep is not None,
        )
        return long_run(finish(world, STEADY, keep), count)

    return run


def long_run(world: World, count: int) -> Figures:
    figures = {
        "goodput %": 100.0 * world.goodput(WARM_UP, STEADY) / QUOTA,
        "throttled %": world.throttled(WARM_UP, STEADY),
    }
    if count > 1:
        figures["Jain"] = world.fairness(WARM_UP, STEADY)
    return figures


def peer(
    count: int, kind: type[BackoffSender], shape: str = "burst 50"
) -> Callable[[int, int | None, list[World] | None], Figures]:
    def run(seed: int, retry_after: int | None, keep: list[World] | None) -> Figures:
        rng = random.Random(f"peer {count} {seed}")
        senders = [kind(rng, rng.random()) for _ in range(count)]
        quota = with_retry_after(SHAPES[shape], retry_after)
        world = World(senders, quota, rng, spread=Options.spread, sample=keep is not None)
        figures = long_run(finish(world, STEADY, keep), count)
        figures["lost"] = float(sum(sender.lost for sender in senders))
        return figures

    return run


def cold(
    count: int, ceiling: float | None, shape: str, *, host: bool
) -> Callable[[int, int | None, list[World] | None], Figures]:
    """The first ten seconds: goodput in the fifth, and all refusals."""

    def run(seed: int, retry_after: int | None, keep: list[World] | None) -> Figures:
        rng = random.Random(f"cold {count} {shape} {seed}")
        senders = make(count, ceiling, rng, host=host, core=True)
        world = World(
            senders,
            with_retry_after(SHAPES[shape], retry_after),
            rng,
            spread=Options.spread,
            sample=keep is not None,
        )
        finish(world, 12.0, keep)
        begin = min(sender.starts for sender in senders)
        return {
            "5th second %": 100.0 * world.goodput(begin + 4.0, begin + 5.0) / QUOTA,
            "429s in 10 s": float(world.refusals(begin, begin + 10.0)),
        }

    return run


def halved(
    count: int, ceiling: float | None, *, core: bool = False
) -> Callable[[int, int | None, list[World] | None], Figures]:
    """The share refused from 3 to 8 s after the first refusal; before that a burst hides the change."""

    def run(seed: int, retry_after: int | None, keep: list[World] | None) -> Figures:
        rng = random.Random(f"halved {count} {ceiling} {seed}")
        quota = with_retry_after(SHAPES["burst 50"], retry_after)
        change = 60.0 + rng.random() * 20.0
        world = World(
            make(count, ceiling, rng, core=core),
            quota,
            rng,
            spread=Options.spread,
            changes=[(change, with_retry_after(quota, retry_after, QUOTA / 2))],
            sample=keep is not None,
        )
        finish(world, change + 20.0, keep)
        first = min(time for sender in world.senders for time in sender.refused if time > change)
        return {"throttled % after 3 s": world.throttled(first + 3.0, first + 8.0)}

    return run


def doubled(count: int, ceiling: float | None) -> Callable[[int, int | None, list[World] | None], Figures]:
    """Seconds until five in a row have 90 % of the new quota, those five included."""

    def run(seed: int, retry_after: int | None, keep: list[World] | None) -> Figures:
        rng = random.Random(f"doubled {count} {ceiling} {seed}")
        quota = with_retry_after(SHAPES["burst 50"], retry_after)
        change = 60.0 + rng.random() * 20.0
        world = World(
            make(count, ceiling, rng),
            quota,
            rng,
            spread=Options.spread,
            changes=[(change, with_retry_after(quota, retry_after, QUOTA * 2))],
            sample=keep is not None,
        )
        finish(world, change + 45.0, keep)
        for seconds in range(40):
            if world.goodput(change + seconds, change + seconds + 5.0) >= 0.9 * 2 * QUOTA:
                return {"s to 90 %": seconds + 5.0}
        return {"s to 90 %": 99.0}

    return run


def joiner(count: int, ceiling: float | None) -> Callable[[int, int | None, list[World] | None], Figures]:
    """The last of `count` starts a minute late: what it has of its fair share from 25 to 45 s on."""

    def run(seed: int, retry_after: int | None, keep: list[World] | None) -> Figures:
        rng = random.Random(f"joiner {count} {ceiling} {seed}")
        senders = make(count, ceiling, rng)
        senders[-1].starts = late = 60.0 + rng.random() * 20.0
        world = World(
            senders,
            with_retry_after(SHAPES["burst 50"], retry_after),
            rng,
            spread=Options.spread,
            sample=keep is not None,
        )
        finish(world, late + 45.0, keep)
        got = between(senders[-1].delivered, late + 25.0, late + 45.0) / 20.0
        return {"fair share %": 100.0 * got / (QUOTA / count)}

    return run


def loaded(
    count: int, ceiling: float | None, shape: str, *, host: bool = False
) -> Callable[[int, int | None, list[World] | None], Figures]:
    """Batches arrive at random, at 80 % of the quota, for three minutes: all refusals."""

    def run(seed: int, retry_after: int | None, keep: list[World] | None) -> Figures:
        rng = random.Random(f"loaded {count} {shape} {seed}")
        world = World(
            make(count, ceiling, rng, host=host, core=True, always=False),
            with_retry_after(SHAPES[shape], retry_after),
            rng,
            spread=Options.spread,
            load=0.8 * QUOTA,
            sample=keep is not None,
        )
        finish(world, 180.0, keep)
        return {
            "goodput %": 100.0 * world.goodput(20.0, 180.0) / QUOTA,
            "429s": float(world.refusals(0.0, 180.0)),
        }

    return run


def cases() -> dict[str, list[Case]]:
    """All scenarios, by section."""
    known = {"goodput %": at_least(97.5), "throttled %": at_most(0.05)}
    unknown = {
        "burst 50": {"goodput %": at_least(99), "throttled %": at_most(0.3)},
        "burst 5": {"goodput %": at_least(93), "throttled %": at_most(0.5)},
        "window": {"goodput %": at_least(91), "throttled %": at_most(0.5)},
        "refusals consume": {"goodput %": at_least(95), "throttled %": at_most(0.5)},
    }
    host = {"goodput %": at_least(97), "throttled %": at_most(0.1), "Jain": at_least(0.98)}
    apart = {
        4: {"goodput %": at_least(99), "throttled %": at_most(1.5), "Jain": at_least(0.95)},
        8: {"goodput %": at_least(99), "throttled %": at_most(4), "Jain": at_least(0.93)},
        16: {"goodput %": at_least(99), "throttled %": at_most(10), "Jain": at_least(0.92)},
    }
    start = {"5th second %": at_least(90), "429s in 10 s": at_most(10)}
    none = {"429s": at_most(0)}
    share = {"fair share %": at_least(80)}
    kinds = {"known": KNOWN, "unknown": None}
    return {
        "One process": [
            *(Case(f"known, {s}, whole core", steady(1, KNOWN, s, core=True), known) for s in SHAPES),
            *(Case(f"unknown, {s}", steady(1, None, s), unknown[s]) for s in SHAPES),
        ],
        "One host, shared pace": [
            *(
                Case(f"N={n}, known, {s}", steady(n, KNOWN, s, host=True), host)
                for s in SHAPES
                for n in (4, 8, 16)
            ),
            *(
                Case(f"N={n}, unknown, {s}", steady(n, None, s, host=True), unknown[s])
                for s in SHAPES
                for n in (4, 16)
            ),
        ],
        "Uncoordinated": [
            *(
                Case(f"N={n}, {kind}, {s}", steady(n, c, s), apart[n] if s == "burst 50" else {}, 8)
                for s in SHAPES
                for kind, c in kinds.items()
                for n in (4, 8, 16)
                if s == "burst 50"
            ),
            *(
                Case(f"N={n}, {kind}, {s}", steady(n, c, s))
                for s in SHAPES
                for kind, c in kinds.items()
                for n in (4, 8, 16)
                if s != "burst 50"
            ),
        ],
        "Others, uncoordinated": [
            *(Case(f"N={n}, botocore adaptive", peer(n, AdaptiveSender)) for n in (1, 4, 8, 16)),
            Case("N=1, botocore adaptive, window", peer(1, AdaptiveSender, "window")),
            Case("N=1, botocore adaptive, refusals consume", peer(1, AdaptiveSender, "refusals consume")),
            *(Case(f"N={n}, backoff alone", peer(n, BackoffSender)) for n in (1, 4, 8, 16)),
        ],
        "Cold start, whole core": [
            *(Case(f"N=1, known, {s}", cold(1, KNOWN, s, host=False), start) for s in SHAPES),
            *(Case(f"N=4 on one host, known, {s}", cold(4, KNOWN, s, host=True), start) for s in SHAPES),
            Case("N=1, unknown, burst 50", cold(1, None, "burst 50", host=False), start, 8),
            Case("N=4 on one host, unknown, burst 50", cold(4, None, "burst 50", host=True), start, 8),
            *(Case(f"N=1, unknown, {s}", cold(1, None, s, host=False)) for s in list(SHAPES)[1:]),
        ],
        "Quota halved": [
            *(
                Case(f"N={n}, {kind}", halved(n, c), {"throttled % after 3 s": at_most(5)}, 8)
                for n in (1, 2, 4)
                for kind, c in kinds.items()
            ),
            Case(
                "N=1, known, whole core", halved(1, KNOWN, core=True), {"throttled % after 3 s": at_most(5)}
            ),
        ],
        "Quota doubled": [
            Case(f"N={n}, {kind}", doubled(n, c), {"s to 90 %": at_most(25)}, 8)
            for n in (1, 4)
            for kind, c in {"known to be twice 50": 2 * KNOWN, "unknown": None}.items()
        ],
        "Late joiner": [
            Case(f"the last of {n}, {kind}", joiner(n, c), share, 8)
            for n in (2, 4, 8, 16)
            for kind, c in kinds.items()
        ],
        "80 % load, whole core": [
            *(Case(f"N=1, known, {s}", loaded(1, KNOWN, s), none) for s in SHAPES),
            *(Case(f"N=4 on one host, known, {s}", loaded(4, KNOWN, s, host=True), none) for s in SHAPES),
            Case("N=4 uncoordinated, known, burst 50", loaded(4, KNOWN, "burst 50"), none),
            Case("N=1, unknown, burst 50", loaded(1, None, "burst 50"), none),
            Case("N=4 uncoordinated, unknown, burst 50", loaded(4, None, "burst 50"), none),
        ],
    }


def measure(case: Case) -> Figures:
    """The mean of each figure, and the worst."""
    runs = [
        case.run(seed, retry_after, None)
        for seed in range(max(Options.seeds, case.seeds))
        for retry_after in (None, 1)
    ]
    return {name: fmean(run[name] for run in runs) for name in runs[0]}


def show(report: Report, section: str, rows: Sequence[tuple[Case, Figures]]) -> None:
    """Print a section's table, and judge its rows."""
    columns = dict.fromkeys(name for _, figures in rows for name in figures)
    table = report.table(section, ("case", *columns))
    for case, figures in rows:
        table.row(case.name, *(figures.get(name) for name in columns))
        for name, bar in case.bars.items():
            question = f"{section}: {case.name}: {name}"
            report.bar(question, str(bar), figures[name], met=bar.met(figures[name]))


def draw(section: str, case: Case, folder: Path) -> None:
    """Run the case once more with its pace noted down, and draw it."""
    worlds: list[World] = []
    case.run(0, None, worlds)
    name = "-".join(re.findall(r"\w+", f"{section} {case.name}".lower()))
    path = folder / f"{name}.svg"
    path.write_text(chart(f"{section}: {case.name}", worlds[0], QUOTA), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    options_of = parser("pacing", __doc__)
    options_of.add_argument("--seeds", type=int, default=3, help="how often each case runs (at least)")
    options_of.add_argument("--spread", type=float, default=0.3, help="sigma of the round trips' logarithm")
    options_of.add_argument(
        "--charts",
        type=Path,
        metavar="FOLDER",
        default=Path("build/charts"),
        help="where the charts are written (default: %(default)s)",
    )
    options_of.add_argument("--only", default="", metavar="TEXT", help="sections whose name contains this")
    options = options_of.parse_args(arguments)
    Options.seeds, Options.spread = options.seeds, options.spread
    options.charts.mkdir(parents=True, exist_ok=True)
    report = Report("pacing", json_to=options.json)
    for section, rows in cases().items():
        if options.only.lower() not in section.lower():
            continue
        show(report, section, [(case, measure(case)) for case in rows])
        for case in rows:
            draw(section, case, options.charts)
    report.say(f"charts: {options.charts}")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
