"""The run: visitors, buffer and service together, and what came of it.

The service has the default quota and fails in every way that the emulator knows; for a while in the
middle it takes only half of what it took, as it does when somebody else of the account sends too.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from rumbuffer import AppMonitor, BufferStats, Pacing, RumBuffer
from rumbuffer.cli.demo.accounts import Ledger, Verdict
from rumbuffer.cli.demo.service import Service, service
from rumbuffer.cli.demo.visitors import Visitors
from rumbuffer.cli.recorded import recorded_sessions

__all__ = ["QUOTA", "Demo", "Finished", "Moment", "Show"]

QUOTA = 50.0
"""The service's default (requests a second)."""

_FAULTS = {
    "--latency": 0.06,
    "--latency-spread": 0.6,
    "--errors": 0.015,
    "--errors-after-store": 0.015,
    "--resets": 0.01,
    "--resets-after-store": 0.01,
    "--cut-answers": 0.005,
    "--slow-answers": 0.005,
}
_VISITORS_PER_SECOND = 35.0
"""One request carries one session, so that 40 requests a second cannot serve more visitors than that."""

_SQUEEZE_FROM, _SQUEEZE_TO = 0.5, 0.6
_SQUEEZED = {"rate": QUOTA / 2, "burst": 5.0}
_WHOLE = {"rate": QUOTA, "burst": QUOTA}

_TICK = 0.02
_SHOWN_EVERY = 0.25
_ASKED_EVERY = 1.0
_DRAIN = 120.0
"""Seconds that the rest may take at the end; it takes a few."""

_MONITOR = AppMonitor("8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11", name="tea-shop", version="1.4.2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What is known at one moment; times in seconds since the start.

    `phase` is ``traffic`` or ``draining``; `squeezed` says that the quota is cut. `service` holds the
    emulator's own counts of requests.
    """

    now: float
    seconds: float
    phase: str
    squeezed: bool
    visitors: int
    present: int
    stats: BufferStats
    service: dict[str, Any]
    endpoint_url: str


Show = Callable[[Moment], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How it ended. `drained` is how long the rest took after the traffic (seconds)."""

    seconds: float
    drained: float
    lengths: list[int] = field(repr=False)
    stats: BufferStats
    service: dict[str, Any]
    verdict: Verdict

    @property
    def ok(self) -> bool:
        """Whether nothing was lost, altered or doubled, and the buffer's own books say the same."""
        stats = self.stats
        return (
            self.verdict.clean
            and stats.accepted == self.verdict.accepted == stats.delivered
            and stats.offered == stats.accepted + stats.sampled_out + stats.refused
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            "ok": self.ok,
            "traffic_seconds": round(self.seconds, 3),
            "drain_seconds": round(self.drained, 3),
            "visitors": len(self.lengths),
            "longest_visit": max(self.lengths),
            "median_visit": sorted(self.lengths)[len(self.lengths) // 2],
            "arrived": self.verdict.as_dict(),
            "buffer": asdict(self.stats),
            "service": self.service,
        }


class Demo:
    """One run of the demo. `stats` and `visitors` may be read also when it was cancelled."""

    def __init__(self, seconds: float, show: Show) -> None:
        self._seconds = seconds
        self._show = show
        self._ledger = Ledger()
        self._service_counts: dict[str, Any] = {}
        self._squeezed = False
        self._phase = "traffic"
        self._started = 0.0
        self.visitors: Visitors = Visitors(
            recorded_sessions(), _VISITORS_PER_SECOND, seconds, random.Random()
        )
        self.stats: BufferStats | None = None

    async def run(self) -> Finished:
        """Run it; cancelled, it ends at once. Raises `ServiceGone` if the emulator does not start or ends."""
        options = [text for option, value in _FAULTS.items() for text in (option, str(value))]
        async with service(options) as emulator:
            os.environ.update(emulator.environment)  # an isolated one, which is put back: see service.py
            # A pace of its own: the service of the demo is nobody else's.
            pacing = Pacing(share=None)
            buffer = RumBuffer(_MONITOR, endpoint_url=emulator.endpoint_url, pacing=pacing)
            await buffer.start()
            self._started = time.monotonic()
            try:
                async with asyncio.TaskGroup() as tasks:
                    beside = [
                        tasks.create_task(self._watch(buffer, emulator)),
                        tasks.create_task(self._squeeze(emulator)),
                    ]
                    drained = await self._traffic_and_drain(buffer)
                    for task in beside:
                        task.cancel()
            except ExceptionGroup as group:
                raise group.exceptions[0] from None
            finally:
                await buffer.aclose(timeout=0)
                self.stats = stats = buffer.stats()
            return Finished(
                seconds=self._seconds,
                drained=drained,
                lengths=[visit.sent for visit in self.visitors.visits],
                stats=stats,
                service=(await emulator.stats())["requests"],
                verdict=self._ledger.compare(await emulator.batches()),
            )

    async def _traffic_and_drain(self, buffer: RumBuffer) -> float:
        """Return how long it took to deliver the rest (seconds)."""
        await self._traffic(buffer)
        self._phase = "draining"
        report = await buffer.aclose(timeout=_DRAIN)
        return report.seconds

    async def _traffic(self, buffer: RumBuffer) -> None:
        while True:
            now = time.monotonic() - self._started
            for visit, event in self.visitors.due(now):
                event_id = str(uuid.uuid4())
                if buffer.record(
                    event.type, event.details, session=visit.session, metadata=event.metadata, id=event_id
                ):
                    self._ledger.note(event_id, visit.session.id, event)
            if now >= self._seconds:
                return
            await asyncio.sleep(_TICK)

    async def _watch(self, buffer: RumBuffer, emulator: Service) -> None:
        asked_at = float("-inf")
        while True:
            now = time.monotonic() - self._started
            if now - asked_at >= _ASKED_EVERY:
                asked_at = now
                self._service_counts = (await emulator.stats())["requests"]
            self._show(
                Moment(
                    now=now,
                    seconds=self._seconds,
                    phase=self._phase,
                    squeezed=self._squeezed,
                    visitors=self.visitors.total,
                    present=self.visitors.present if self._phase == "traffic" else 0,
                    stats=buffer.stats(),
                    service=self._service_counts,
                    endpoint_url=emulator.endpoint_url,
                )
            )
            await asyncio.sleep(_SHOWN_EVERY)

    async def _squeeze(self, emulator: Service) -> None:
        await asyncio.sleep(self._seconds * _SQUEEZE_FROM)
        self._squeezed = True
        await emulator.set_quota(_SQUEEZED)
        await asyncio.sleep(self._seconds * (_SQUEEZE_TO - _SQUEEZE_FROM))
        self._squeezed = False
        await emulator.set_quota(_WHOLE)
