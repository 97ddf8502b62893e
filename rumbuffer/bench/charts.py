"""The charts of a report: what they show of a result, and how to read them."""

from __future__ import annotations

from collections.abc import Sequence

from rumbuffer.bench.plots import Chart, Line, Named, distribution, over_time
from rumbuffer.bench.result import Result

__all__ = ["charts"]

_OVER = 1.0
"""Seconds that a rate is taken over."""


def charts(results: Sequence[Named]) -> list[Chart]:
    """Return the charts, in the order of a report."""
    limit = results[0][1].settings["buffer"]["max_batch_events"]
    return [
        over_time(
            results,
            "rates",
            "Offered and delivered",
            "Events a second, each over one second. Delivered below offered means that events are pending.",
            "events a second",
            Line("planned", "@grey", lambda result: _column(result, "target"), "dot"),
            Line("offered", "@1", lambda result: _rate(result, "offered"), "dash"),
            Line("delivered", "@2", lambda result: _rate(result, "delivered")),
        ),
        over_time(
            results,
            "pending",
            "Pending",
            "Events that were accepted and wait: for more of their session, or for the pace. In flight are "
            "those on the way to the service.",
            "events",
            Line("pending", "@1", lambda result: _column(result, "pending"), filled=True),
            Line("in flight", "@3", lambda result: _column(result, "in_flight"), "dash"),
        ),
        over_time(
            results,
            "ages",
            "Age at delivery, over time",
            "From the time that an event was planned for to the service's answer; percentiles of the "
            "events that were delivered at that time.",
            "seconds",
            Line("p50", "@1", lambda result: _scaled(result, "age_p50", 1e-6)),
            Line("p90", "@2", lambda result: _scaled(result, "age_p90", 1e-6), "dash"),
            Line("p99", "@3", lambda result: _scaled(result, "age_p99", 1e-6), "dashdot"),
            Line("oldest", "@red", lambda result: _scaled(result, "age_max", 1e-6), "dot"),
        ),
        distribution(
            results,
            "age",
            "Age at delivery, all events",
            "How many events arrived at which age. The scale of ages is logarithmic; marks show percentiles.",
            1e-6,
            "events",
            per_decade=20,
        ),
        over_time(
            results,
            "fill",
            "Fill",
            f"Events in a request, on average over one second; {limit} is the most. The fuller, the fewer "
            "requests.",
            "events in a request",
            Line("fill", "@1", _fill),
            Line("the most", "@grey", _limit, "dot"),
        ),
        over_time(
            results,
            "requests",
            "Requests and throttles",
            "Requests a second by what came of them, and the pace that the buffer kept to. A refused "
            "request (429) is repeated, and costs no event.",
            "requests a second",
            Line("pace", "@grey", _pace, "dot"),
            Line("delivered", "@2", lambda result: _rate(result, "batches")),
            Line("refused (429)", "@red", lambda result: _rate(result, "throttled"), "dash"),
            Line("failed", "@4", lambda result: _rate(result, "failures"), "dashdot"),
        ),
        distribution(
            results,
            "record",
            "record(), all calls",
            "How long a request handler waits for a call of record(). Both scales are logarithmic, so that "
            "the few slow calls are seen; marks show percentiles.",
            1e-9,
            "calls",
            per_decade=20,
            log_counts=True,
        ),
        over_time(
            results,
            "record-time",
            "record(), over time",
            "Percentiles of the calls of each moment; logarithmic. At low rates calls find the "
            "processor's caches cold.",
            "time of a call",
            Line("p50", "@1", lambda result: _scaled(result, "record_p50", 1e-9)),
            Line("p99", "@3", lambda result: _scaled(result, "record_p99", 1e-9), "dash"),
            log_time=True,
        ),
        over_time(
            results,
            "lag",
            "Loop lag",
            "How late a timer of the event loop fires, which is what every other task of the process waits "
            "in addition. A millisecond is the resolution of the loop's timers. Logarithmic.",
            "late by",
            Line("median", "@1", lambda result: _scaled(result, "lag_p50", 1e-6)),
            Line("most", "@red", lambda result: _scaled(result, "lag_max", 1e-6), "dot"),
            log_time=True,
        ),
        over_time(
            results,
            "memory",
            "Memory",
            "What the process holds in memory, benchmark included, and what the buffer charges for its "
            "events against max_pending_bytes.",
            "MB",
            Line("the process", "@1", lambda result: _scaled(result, "memory_bytes", 1e-6)),
            Line("charged for events", "@2", lambda result: _scaled(result, "charged_bytes", 1e-6), "dash"),
        ),
        over_time(
            results,
            "cpu",
            "CPU",
            "Share of one core that the process takes: buffer, sender, and the load generator, which is "
            "shown apart.",
            "% of one core",
            Line("the process", "@1", lambda result: _scaled(result, "cpu", 100.0)),
            Line("the generator", "@grey", lambda result: _scaled(result, "generator_cpu", 100.0), "dash"),
        ),
        over_time(
            results,
            "delay",
            "The generator behind its plan",
            "The most that an event was offered after its planned time. Much of it means that this machine "
            "could not offer the rate. Logarithmic.",
            "late by",
            Line("most", "@1", lambda result: _scaled(result, "delay_max", 1e-6)),
            log_time=True,
        ),
    ]


# Values ---------------------------------------------------------------------------------------------


def _column(result: Result, name: str) -> list[float | None]:
    return list(result.series[name])


def _scaled(result: Result, name: str, unit: float) -> list[float | None]:
    return [None if value is None else value * unit for value in result.series[name]]


def _grown(result: Result, name: str) -> list[tuple[float, float]]:
    """For each sample, how much a count grew over the last second or so, and how long that was."""
    times, values = [-result.settings["load"]["warmup"], *result.series["t"]], [0, *result.series[name]]
    grown, first = [], 0
    for number in range(1, len(times)):
        while first < number - 1 and times[number] - times[first + 1] >= _OVER - 1e-3:
            first += 1
        grown.append((values[number] - values[first], times[number] - times[first]))
    return grown


def _rate(result: Result, name: str) -> list[float | None]:
    return [amount / seconds if seconds > 0 else None for amount, seconds in _grown(result, name)]


def _fill(result: Result) -> list[float | None]:
    pairs = zip(_grown(result, "delivered"), _grown(result, "batches"), strict=True)
    return [events / batches if batches else None for (events, _), (batches, _) in pairs]


def _limit(result: Result) -> list[float | None]:
    return [result.settings["buffer"]["max_batch_events"]] * len(result.series["t"])


def _pace(result: Result) -> list[float | None]:
    """What the pace allows; a pace that is still being found may be of any size, and hides the rest."""
    quota = result.settings["buffer"]["quota"]
    most = max((value for value in _rate(result, "requests") if value is not None), default=0.0)
    return [value if quota is not None or value <= 2 * most else None for value in result.series["pace"]]
