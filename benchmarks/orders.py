"""What each order of sending gives when tokens are scarce: `python -m benchmarks.orders`.

The library's store, batcher and choice run in virtual time before a service that takes everything after
60 ms, at a constant pace. Only the choice of the next batch is exchanged (see `orders_rules`); limits are
the library's defaults, except that nothing is evicted. The loads (see `orders_loads`) are visits with
heavy tails, for which sealing at the deadline would need 60, 100, 150 and 300 % of the tokens, and busy
sessions that could fill every batch, beside quiet ones. Everything is a tenth of a service that takes 50
requests a second, the 55 busy sessions too; `--quota 50` runs it in full, and takes long.

Printed for each order, as medians over the seeds: events per request (fill); the age of an event when its
delivery is known, or at the end of the run if it still waits then, so that starving looks as bad as it
is (median, 99th percentile, largest; and the largest of sessions with at most ten events, the quiet ones);
the share of the events that was delivered; how many seconds of tokens the open batches at the end would
take. That no event is lost, and none delivered twice, is asserted.

The bars, which end the program with status 1 where they are missed:

- visits: no age (p50, p99, largest) above sealing at the deadline, and no smaller fill; a largest age at
  most a tenth above the smallest of all orders; at least 98 % of the largest fill of those that keep to
  this too, and 85 % of the largest of all, which is reached by starving the quiet.
- busy and quiet: at least three quarters of the largest fill, for one token in four is set aside for the
  quiet; and while these need less than that, none of them waits longer than eight lingers (40 s).
- no order is better by 5 % in all of it: fill, p50, p99, largest age, and largest age of the quiet.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median

from benchmarks.orders_loads import LIMITS, SECONDS, Load, busy_and_single, busy_and_visits, visits
from benchmarks.orders_rules import ORDERS, OURS, AtDeadline
from benchmarks.report import Report, parser
from rumbuffer.core.batcher import Batcher
from rumbuffer.core.choice import Chooser
from rumbuffer.core.flights import Flight
from rumbuffer.core.outcomes import Delivered
from rumbuffer.core.pacing import TokenBucket
from rumbuffer.core.store import Store
from rumbuffer.events import AppMonitor, Session
from rumbuffer.settings import RetryPolicy

SLOTS = 32
ROUND_TRIP = 0.06
BURST = 10
QUIET_EVENTS = 10
_FAR = math.inf

Figures = dict[str, float]

AGES = ("p50 s", "p99 s", "largest s")
QUIET_AGE = "of quiet s"
DEADLINE = "sealed at the deadline"


@dataclass(frozen=True)
class Case:
    """A load, and whether it is of visits alone or of busy and quiet sessions."""

    name: str
    load: Callable[[int], Load]
    busy: bool
    fits: bool = True
    """Whether the quiet need less than one token in four, as far as they are not full."""


class OrderedBatcher(Batcher):
    """The library's batcher with an order of sending."""

    def __init__(self, store: Store, order: type[Chooser], rate: float) -> None:
        retry, pacer = RetryPolicy(), TokenBucket(rate, BURST)
        ids = itertools.count(1)
        super().__init__(
            store,
            pacer=pacer,
            retry=retry,
            max_in_flight=SLOTS,
            random=lambda: 0.5,
            new_id=lambda: f"{next(ids):08x}-bbbb-4bbb-8bbb-bbbbbbbbbbbb",
        )
        self._chooser = order(store, pacer, retry_budget=retry.budget, max_in_flight=SLOTS)
        self._sender_gate = self._chooser.sender_gate

    def let_deadlines_pass(self, now: float) -> None:
        """Seal what is due, if that is the order's way."""
        if isinstance(self._chooser, AtDeadline):
            self._chooser.seal_what_is_due(now)


@dataclass
class Run:
    """One load under one order. An event's bytes are its number in the load."""

    load: Load
    order: type[Chooser]
    delivered: dict[int, float] = field(default_factory=dict)
    """When each event's delivery was known."""
    requests: int = 0

    def __post_init__(self) -> None:
        self.store = Store(
            AppMonitor("11111111-1111-4111-8111-111111111111"),
            max_batch_events=LIMITS.max_batch_events,
            max_batch_bytes=LIMITS.max_batch_bytes,
            linger=LIMITS.linger,
            max_pending_bytes=1 << 40,
            evicts=True,
            keep_dropped=False,
        )
        self._batcher = OrderedBatcher(self.store, self.order, self.load.rate)
        self._sessions = [
            Session(f"{number:08x}-aaaa-4aaa-8aaa-aaaaaaaaaaaa") for number in range(len(self.load.counts))
        ]
        self._out: deque[tuple[float, Flight]] = deque()

    def figures(self) -> Figures:
        """Let the time pass, and say what came of it."""
        self._run()
        records, delivered = self.load.records, self.delivered
        counters = self.store.counters
        assert counters.delivered == len(delivered), "an event was delivered twice"
        assert len(records) == len(delivered) + counters.pending + counters.in_flight, "an event was lost"
        ages = [delivered.get(event, SECONDS) - time for event, (time, _) in enumerate(records)]
        quiet = [
            age
            for age, (_, number) in zip(ages, records, strict=True)
            if self.load.counts[number] <= QUIET_EVENTS
        ]
        ages.sort()
        return {
            "fill": len(delivered) / self.requests,
            "p50 s": ages[len(ages) // 2],
            "p99 s": ages[len(ages) * 99 // 100],
            "largest s": ages[-1],
            QUIET_AGE: max(quiet),
            "delivered %": 100.0 * len(delivered) / len(records),
            "left s": self.store.open_batches() / self.load.rate,
        }

    def _run(self) -> None:
        store, batcher, out = self.store, self._batcher, self._out
        records = iter([*enumerate(self.load.records), (0, (_FAR, 0))])
        event, (time, number) = next(records)
        wake = _FAR
        while (now := min(time, wake, out[0][0] if out else _FAR)) <= SECONDS:
            batcher.let_deadlines_pass(now)
            if time == now:
                assert store.admit(b"%d" % event, self._sessions[number], store.home, now)
                event, (time, number) = next(records)
                if not store.news.wake:
                    continue
                store.news.wake = False
            elif out and out[0][0] == now:
                self._answer(out.popleft()[1], now)
            wake = self._send(now)

    def _answer(self, flight: Flight, now: float) -> None:
        self.requests += 1
        for encoded in flight.batch.events:
            self.delivered[int(encoded)] = now
        self._batcher.settle(flight, Delivered(), now)

    def _send(self, now: float) -> float:
        while isinstance(action := self._batcher.next_action(now), Flight):
            self._out.append((now + ROUND_TRIP, action))
        assert action > now, "a timer of no length"
        return action


def cases(quota: float) -> list[Case]:
    """All loads."""
    return [
        *(
            Case(f"visits, {share:.0%}", partial(visits, share=share, quota=quota), busy=False)
            for share in (0.6, 1.0, 1.5, 3.0)
        ),
        Case(
            "busy 110 %, single events 20 %",
            partial(busy_and_single, busy=1.1, share=0.2, quota=quota),
            busy=True,
        ),
        *(
            Case(
                f"busy {busy:.0%}, visits {share:.0%}",
                partial(busy_and_visits, busy=busy, share=share, quota=quota),
                busy=True,
                fits=share < 0.25,
            )
            for busy, share in ((0.95, 0.15), (1.1, 0.2), (0.9, 0.4))
        ),
    ]


def measure(case: Case, seeds: int, orders: Sequence[str]) -> dict[str, Figures]:
    """Each order's medians; all see the same records."""
    loads = [case.load(seed) for seed in range(seeds)]
    table = {}
    for name in orders:
        runs = [Run(load, ORDERS[name]).figures() for load in loads]
        table[name] = {figure: median(run[figure] for run in runs) for figure in runs[0]}
    return table


def judged(case: Case, table: dict[str, Figures]) -> dict[str, bool]:
    """Say what must not be, and whether the library's order keeps to it."""
    ours, others = table[OURS], {name: row for name, row in table.items() if name != OURS}
    largest_fill = max(row["fill"] for row in table.values())
    checks = {f"{name} is better in everything": not _dominates(row, ours) for name, row in others.items()}
    if case.busy:
        checks["fill below 3/4 of the largest"] = ours["fill"] >= 0.75 * largest_fill
        if case.fits:
            checks["a quiet event is older than 8 lingers"] = ours[QUIET_AGE] <= 8 * LIMITS.linger
    else:
        deadline = table[DEADLINE]
        checks |= {
            f"{age[:-2]} above sealing at the deadline": ours[age] <= 1.01 * deadline[age] for age in AGES
        }
        checks["fill below sealing at the deadline"] = ours["fill"] >= 0.99 * deadline["fill"]
        oldest = 1.1 * min(row["largest s"] for row in table.values())
        fair_fill = max(row["fill"] for row in table.values() if row["largest s"] <= oldest)
        checks["largest age a tenth above the smallest"] = ours["largest s"] <= oldest
        checks["fill below 98 % of the fair orders'"] = ours["fill"] >= 0.98 * fair_fill
        checks["fill below 85 % of the largest"] = ours["fill"] >= 0.85 * largest_fill
    return checks


def _dominates(row: Figures, ours: Figures) -> bool:
    return row["fill"] >= 1.05 * ours["fill"] and all(
        row[age] <= 0.95 * ours[age] for age in (*AGES, QUIET_AGE)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    options_of = parser("orders", __doc__)
    options_of.add_argument("--seeds", type=int, default=3, help="how often each load runs")
    options_of.add_argument("--quota", type=float, default=5.0, help="tokens a second, about")
    options_of.add_argument("--only", default="", metavar="TEXT", help="loads whose name contains this")
    options = options_of.parse_args(arguments)
    report = Report("orders", json_to=options.json)
    for case in cases(options.quota):
        if options.only.lower() not in case.name.lower():
            continue
        table = measure(case, options.seeds, list(ORDERS))
        shown = report.table(case.name, ("order", *table[OURS]))
        for name, row in table.items():
            shown.row(name, *row.values())
        for text, met in judged(case, table).items():
            report.bar(f"{case.name}: {text}", "false", "false" if met else "true", met=met)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
