"""Results for tests: made by hand, so that every figure of theirs is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rumbuffer import AppMonitor, RumBuffer
from rumbuffer.bench.histogram import Histogram
from rumbuffer.bench.load import LoadSettings
from rumbuffer.bench.result import HISTOGRAMS, SERIES, Result
from rumbuffer.bench.run import BenchSettings

MONITOR = AppMonitor("8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11")
STATS = RumBuffer(MONITOR).stats()
WARMUP, SECONDS, STEP = 10.0, 40.0, 0.5
RATE, REQUESTS = 500, 20


def settings(**load: Any) -> BenchSettings:
    """Settings of a run against an emulator; `load` are those of the load."""
    return BenchSettings(
        load=LoadSettings(**{"rate": RATE, "last_rate": RATE, "warmup": WARMUP, "seconds": SECONDS} | load),
        app_monitor=MONITOR,
        service={"endpoint": "emulator", "service_quota": 50.0},
    )


def series(**columns: Any) -> dict[str, list[Any]]:
    """The samples of a steady run; `columns` are constants, or functions of the time."""
    steps = int((WARMUP + SECONDS) / STEP)
    times = [round(number * STEP - WARMUP, 3) for number in range(1, steps + 1)]
    made: dict[str, list[Any]] = {name: [0] * len(times) for name in SERIES}
    made |= {
        "t": times,
        "target": [RATE] * steps,
        **{
            name: [int(RATE * (time + WARMUP)) for time in times]
            for name in ("offered", "accepted", "delivered")
        },
        **{name: [int(REQUESTS * (time + WARMUP)) for time in times] for name in ("requests", "batches")},
        "pending": [1000] * steps,
        "pace": [40.0] * steps,
        "memory_bytes": [60_000_000] * steps,
        "cpu": [0.2] * steps,
        "generator_cpu": [0.01] * steps,
        "age_p50": [2_000_000.0] * steps,
        "age_p99": [5_000_000.0] * steps,
        "record_p50": [4_000.0] * steps,
        "record_p99": [20_000.0] * steps,
        "lag_p50": [800.0] * steps,
        "lag_max": [3_000] * steps,
        "delay_max": [1_500] * steps,
    }
    for name, value in columns.items():
        made[name] = [value(time) for time in times] if callable(value) else [value] * steps
    return made


def books(**changes: Any) -> dict[str, Any]:
    """The books of a run that delivered all of its 25,000 events."""
    events = int(RATE * (WARMUP + SECONDS))
    made: dict[str, Any] = {
        "planned": events,
        "not_offered": 0,
        "offered": events,
        "accepted": events,
        "delivered": events,
        "answered": events,
        "requests": 1000,
        "batches_delivered": 1000,
        "refused_by_reason": {},
        "dropped_by_reason": {},
        "dead_lettered_by_reason": {},
    }
    zeros = "sampled_out refused dropped dead_lettered pending in_flight spooled retries throttled failures "
    zeros += "shed_out"
    return {**made, **dict.fromkeys(zeros.split(), 0), **changes}


def histograms(**values: Mapping[int, int]) -> dict[str, Histogram]:
    """Histograms with a few values each; `values` are counts by value."""
    held: dict[str, Mapping[int, int]] = {
        "record": {4_000: 900, 20_000: 90, 900_000: 10},
        "age": {2_000_000: 900, 5_000_000: 100},
        "request": {50_000: 1000},
        "fill": {25: 1000},
        "loop_lag": {800: 990, 3_000: 10},
        "delay": {700: 990, 1_500: 10},
        **values,
    }
    made = {name: Histogram(unit) for name, unit in HISTOGRAMS.items()}
    for name, counts in held.items():
        for value, count in counts.items():
            made[name].add(value, count)
    return made


SERVICE = {
    "received": 1000,
    "events": int(RATE * (WARMUP + SECONDS)),
    "silently_dropped": 0,
    "faults": {"ok": 9},
}


def result(**changes: Any) -> Result:
    """A run of 40 s in which nothing went wrong, but for the changes."""
    made = Result(
        started="2026-11-23T10:00:00+00:00",
        interrupted=False,
        seconds=SECONDS,
        drained=3.0,
        machine={
            "cpu": "A processor",
            "cores": 2,
            "memory_bytes": 8_000_000_000,
            "system": "Linux 6.1 x86_64",
            "load_average": 0.1,
        },
        versions={"rumbuffer": "0.1.0", "python": "CPython 3.11.7", "loop": "asyncio"},
        settings=settings().as_dict(),
        books=books(),
        harness={
            "generator_seconds": 0.5,
            "timer_ns": 50,
            "sampling_seconds": 0.1,
            "longest_sampling_ms": 2.0,
            "interval": STEP,
            "sessions_begun": 1200,
            "bytes_delivered": 12_000_000,
        },
        service=SERVICE,
        histograms=histograms(),
        series=series(),
    )
    return replace(made, **changes)
