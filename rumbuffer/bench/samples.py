"""The samples: what holds at one moment, and what was measured since the last one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rumbuffer.bench.generator import Generator
from rumbuffer.bench.histogram import Histogram
from rumbuffer.bench.load import Load
from rumbuffer.bench.probes import LoopLag, WatchedSender, memory_in_use
from rumbuffer.bench.result import SERIES
from rumbuffer.buffer import RumBuffer

__all__ = ["Sampler"]

_SHORTEST_SPAN = 0.1
"""Seconds below which a share of CPU is mostly that of taking the sample."""


class Sampler:
    """Adds a row to `series` with each `sample`, and what came after the warm-up to the histograms.

    `seconds` is the time that sampling has taken so far, `longest` the longest at a time.
    """

    def __init__(
        self,
        load: Load,
        buffer: RumBuffer,
        generator: Generator,
        sender: WatchedSender,
        histograms: Mapping[str, Histogram],
        clock: Callable[[], float],
    ) -> None:
        self.lag: LoopLag | None = None
        self._load = load
        self._buffer = buffer
        self._generator = generator
        self._sender = sender
        self._histograms = histograms
        self._clock = clock
        self._at = 0.0
        self._cpu = time.process_time()
        self._own = 0
        self.seconds: float = 0.0
        self.longest: float = 0.0
        self.series: dict[str, list[Any]] = {name: [] for name in SERIES}

    def sample(self, *, at: float | None = None) -> None:
        """Take a sample, of the time `at` if that is just over."""
        began = time.perf_counter()
        now = self._clock() if at is None else at
        if now > self._at:
            lags = [] if self.lag is None else self.lag.take()
            row = self._counts(now) | self._costs(now) | self._measured(now, lags)
            for name, column in self.series.items():
                column.append(row[name])
            self._at = now
        took = time.perf_counter() - began
        self.seconds += took
        self.longest = max(self.longest, took)

    def _counts(self, now: float) -> dict[str, Any]:
        stats = self._buffer.stats()
        return {
            "t": round(now - self._load.settings.warmup, 3),
            "target": round(self._load.arrivals.rate_at(now), 3),
            "lost": stats.dropped + stats.dead_lettered,
            "batches": stats.batches_delivered,
            "charged_bytes": stats.pending_bytes,
            "pace": round(stats.rate, 2),
            **{
                name: getattr(stats, name)
                for name in (
                    "offered accepted delivered refused sampled_out requests throttled failures retries "
                    "pending "
                    "in_flight open_batches"
                ).split()
            },
        }

    def _costs(self, now: float) -> dict[str, Any]:
        """Memory, and shares of one core since the last sample."""
        cpu, own, wall = time.process_time(), self._generator.own, now - self._at
        costs: dict[str, Any] = {"memory_bytes": memory_in_use(), "cpu": None, "generator_cpu": None}
        if wall > _SHORTEST_SPAN:
            costs["cpu"] = round((cpu - self._cpu) / wall, 4)
            costs["generator_cpu"] = round((own - self._own) / 1e9 / wall, 4)
        self._cpu, self._own = cpu, own
        return costs

    def _measured(self, now: float, lags: list[int]) -> dict[str, Any]:
        latencies, delays = self._generator.take()
        requests, fills, ages, early_ages = self._sender.take()
        # The interval that the warm-up ends with belongs to it; of the drain, what is sent is measured.
        counts = now > self._load.settings.warmup + 0.1
        is_drain = self._at >= self._load.settings.end
        record = self._add("record", latencies, counts=counts)
        delay = self._add("delay", delays, counts=counts)
        lag = self._add("loop_lag", lags, counts=counts and not is_drain)
        self._add("request", requests, counts=counts)
        self._add("fill", fills, counts=counts)
        age = self._add("age", ages, counts=True)
        age.add_all(early_ages)
        return {
            "age_p50": age.percentile(50),
            "age_p90": age.percentile(90),
            "age_p99": age.percentile(99),
            "age_max": age.largest if age.count else None,
            "record_p50": record.percentile(50),
            "record_p99": record.percentile(99),
            "lag_p50": lag.percentile(50),
            "lag_max": lag.largest if lag.count else None,
            "delay_max": delay.largest if delay.count else None,
        }

    def _add(self, name: str, values: list[int], *, counts: bool) -> Histogram:
        """Count values of an interval, and among all if they were measured; return the interval's."""
        total = self._histograms[name]
        interval = Histogram(total.unit)
        interval.add_all(values)
        if counts:
            total.merge(interval)
        return interval
