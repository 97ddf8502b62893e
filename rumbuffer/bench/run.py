"""One run: a buffer, the load, and what looks on; and the `Result` of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from rumbuffer.bench.generator import Generator
from rumbuffer.bench.histogram import Histogram
from rumbuffer.bench.load import Load, LoadSettings
from rumbuffer.bench.machine import machine, versions
from rumbuffer.bench.probes import LoopLag, WatchedSender
from rumbuffer.bench.result import HISTOGRAMS, Result
from rumbuffer.bench.samples import Sampler
from rumbuffer.buffer import RumBuffer
from rumbuffer.core.counters import BufferStats
from rumbuffer.events import AppMonitor
from rumbuffer.sender import Sender
from rumbuffer.settings import Compression, Limits, Overflow, Pacing, RetryPolicy, check_rate

__all__ = ["Bench", "BenchSettings", "Moment", "shown_endpoint"]

_SAMPLES = 200
"""How many samples a run has at most."""

_SHORTEST_INTERVAL = 0.25
_SHOWN_EVERY = 0.5
_SHORT_DRAIN = 2.0
"""Seconds to deliver the rest in when the run was ended early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    """What a run is made of. `drain` is how long the rest may take at the end (seconds).

    `compression` is what `sender` does to requests, for the report alone. `service` describes the service:
    the emulator's options, or what the endpoint is.
    """

    load: LoadSettings
    app_monitor: AppMonitor
    limits: Limits = Limits()
    pacing: Pacing = Pacing(share=None)
    retry: RetryPolicy = RetryPolicy()
    overflow: Overflow = Overflow.DROP_OLDEST
    sample_rate: float = 1.0
    compression: Compression | None = None
    drain: float = 30.0
    service: Mapping[str, Any]

    def __post_init__(self) -> None:
        check_rate("sample_rate", self.sample_rate)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """The settings by group, ready for JSON."""
        return {
            "load": asdict(self.load) | {"drain": self.drain},
            "buffer": {
                **asdict(self.limits),
                **asdict(self.pacing),
                **asdict(self.retry),
                "overflow": str(self.overflow),
                "sample_rate": self.sample_rate,
                "compression": self.compression,
            },
            "service": dict(self.service),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a view may show: seconds since the start of the load, and the samples so far.

    `phase` is ``warm-up``, ``load`` or ``drain``.
    """

    now: float
    phase: str
    settings: BenchSettings
    stats: BufferStats
    series: Mapping[str, list[Any]]


class Bench:
    """One run through `sender`. `service_counts` asks the emulator for its counts at the end."""

    def __init__(
        self,
        settings: BenchSettings,
        sender: Sender,
        show: Callable[[Moment], None],
        service_counts: Callable[[], Awaitable[dict[str, Any]]] | None = None,
    ) -> None:
        self._settings = settings
        self._show = show
        self._service_counts = service_counts
        self._load = Load(settings.load)
        self._began = 0.0
        self._stop = asyncio.Event()
        self._cut = asyncio.Event()
        self._draining = False
        self.interrupted: bool = False
        self._sender = WatchedSender(sender, self._clock, settings.load.warmup)
        self._buffer = RumBuffer(
            settings.app_monitor,
            sender=self._sender,
            limits=settings.limits,
            pacing=settings.pacing,
            retry=settings.retry,
            overflow=settings.overflow,
            sample_rate=settings.sample_rate,
        )
        self._generator = Generator(self._load, self._buffer.record, self._clock)
        self._histograms = {name: Histogram(unit) for name, unit in HISTOGRAMS.items()}
        self._sampler = Sampler(
            self._load, self._buffer, self._generator, self._sender, self._histograms, self._clock
        )

    def stop(self) -> None:
        """End the run early: the load first, and when that is over (or at the second time), the drain."""
        self.interrupted = True
        (self._cut if self._draining or self._stop.is_set() else self._stop).set()

    async def run(self) -> Result:
        """Run it. Raises what the view and `service_counts` raise."""
        started = datetime.now(UTC).isoformat(timespec="seconds")
        about = {"machine": machine(), "versions": versions(_name_of(asyncio.get_running_loop()))}
        timer_cost = _timer_cost()
        await self._sender.start(max_in_flight=self._settings.limits.max_in_flight)
        await self._buffer.start()
        self._began = time.perf_counter()
        self._sampler.lag = lag = LoopLag(asyncio.get_running_loop())
        watching = asyncio.create_task(self._watch())
        try:
            ended, drained = await self._load_and_drain(watching)
        finally:
            watching.cancel()
            lag.stop()
            await self._buffer.aclose(timeout=0)
        service = await self._service_counts() if self._service_counts is not None else None
        warmup = self._settings.load.warmup
        return Result(
            started=started,
            interrupted=self.interrupted,
            seconds=round(max(0.0, ended - warmup), 3),
            drained=round(drained, 3),
            **about,
            settings=self._settings.as_dict(),
            books=self._books(),
            harness={
                "generator_seconds": round(self._generator.own / 1e9, 6),
                "timer_ns": timer_cost,
                "sampling_seconds": round(self._sampler.seconds, 6),
                "longest_sampling_ms": round(self._sampler.longest * 1e3, 3),
                "interval": self._interval,
                "sessions_begun": self._load.sessions_begun,
                "bytes_delivered": self._sender.bytes_delivered,
            },
            service=service,
            histograms=self._histograms,
            series=self._sampler.series,
        )

    def _clock(self) -> float:
        return time.perf_counter() - self._began

    async def _load_and_drain(self, watching: asyncio.Task[None]) -> tuple[float, float]:
        """Return when the load ended (seconds since its start) and how long the drain took."""
        await self._until(asyncio.create_task(self._generator.run(self._stop)), watching)
        ended = min(self._clock(), self._settings.load.end)
        self._draining = True
        self._sampler.sample(at=ended)
        began = self._clock()
        timeout = min(_SHORT_DRAIN, self._settings.drain) if self.interrupted else self._settings.drain
        closing = asyncio.create_task(self._buffer.aclose(timeout=timeout))
        cut = asyncio.create_task(self._cut.wait())
        try:
            await asyncio.wait((closing, cut, watching), return_when=asyncio.FIRST_COMPLETED)
            if not closing.done():
                await self._buffer.aclose(timeout=0)
            await self._until(closing, watching)
        finally:
            cut.cancel()
        drained = self._clock() - began
        self._sampler.sample()
        return ended, drained

    async def _until(self, task: asyncio.Task[Any], watching: asyncio.Task[None]) -> None:
        """Wait for a task; what goes wrong in the view ends it (a closed pipe, for one)."""
        try:
            await asyncio.wait((task, watching), return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
            await task
        finally:
            task.cancel()

    @property
    def _interval(self) -> float:
        load = self._settings.load
        return max(_SHORTEST_INTERVAL, round(load.end / _SAMPLES, 2))

    async def _watch(self) -> None:
        """Take a sample now and then, and one when the warm-up is over."""
        due = self._interval
        warmup = self._settings.load.warmup
        while True:
            now = self._clock()
            until = min(due, warmup) if now < warmup else due
            await asyncio.sleep(min(max(0.0, until - now), _SHOWN_EVERY))
            now = self._clock()
            if now >= until:
                self._sampler.sample()
            if now >= due:
                due = now - now % self._interval + self._interval
            phase = "drain" if self._draining else "warm-up" if now < warmup else "load"
            self._show(
                Moment(
                    now=now,
                    phase=phase,
                    settings=self._settings,
                    stats=self._buffer.stats(),
                    series=self._sampler.series,
                )
            )

    def _books(self) -> dict[str, Any]:
        stats = asdict(self._buffer.stats())
        names = (
            "offered accepted sampled_out refused delivered dropped dead_lettered pending in_flight spooled "
            "refused_by_reason dropped_by_reason dead_lettered_by_reason requests retries throttled failures "
            "batches_delivered shed_out"
        )
        generator = self._generator
        return {
            "planned": generator.offered + generator.not_offered,
            "not_offered": generator.not_offered,
            "answered": self._sender.delivered,
            **{name: stats[name] for name in names.split()},
        }


def _timer_cost() -> int:
    """What a measurement adds to what it measures: the middle of many that measure nothing (nanoseconds)."""
    timer = time.perf_counter_ns
    empty = []
    for _ in range(1001):
        before = timer()
        after = timer()
        empty.append(after - before)
    return sorted(empty)[500]


def _name_of(loop: asyncio.AbstractEventLoop) -> str:
    return type(loop).__module__.partition(".")[0]


def shown_endpoint(url: str) -> str:
    """An endpoint as a report may show it: without what a URL may carry of secrets."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"
