"""The service of one run of `benchmarks.quota`: an emulator in a process of its own, and its record.

Signatures are checked. A request is half a round trip on its way to the limiter, and its answer, be it a
refusal, the other half; each half is lognormal with a median of 30 ms, as in `benchmarks.simulation`.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import Any

from aiohttp import web

from benchmarks.quota_pipes import Parent, child_main
from benchmarks.quota_senders import number_of, process_of
from rumbuffer.emulator import Emulator, Faults, Limiter, Quota

HALF_ROUND_TRIP = (0.03, 0.3)
"""The median in seconds, and sigma of the logarithm."""


class WatchedLimiter(Limiter):
    """Notes when it refused."""

    __slots__ = ("refused",)

    def __init__(self, quota: Quota, now: float) -> None:
        super().__init__(quota, now)
        self.refused: list[float] = []

    def admit(self, now: float) -> bool:
        taken = super().admit(now)
        if not taken:
            self.refused.append(now)
        return taken


class DistantEmulator(Emulator):
    """An emulator that requests need some time to reach."""

    async def _handle(self, received: web.BaseRequest) -> web.StreamResponse:
        median, sigma = HALF_ROUND_TRIP
        await asyncio.sleep(random.lognormvariate(math.log(median), sigma))
        return await super()._handle(received)


def record(service: Emulator, refused: list[float], epoch: float) -> dict[str, Any]:
    """What it took and refused, at which times of the monotonic clock, which all processes share."""
    requests = service.requests
    return {
        "batches": [
            {
                "process": process_of(batch.session_id or ""),
                "arrived": batch.received_at - epoch,
                "events": [number_of(event.id) for event in batch.events],
            }
            for batch in service.batches
        ],
        "refused": refused,
        "repeated": requests.repeated,
        "conflicting": requests.conflicting,
        "silently_dropped": requests.silently_dropped,
        "rejected": requests.rejected,
    }


async def work(parent: Parent, settings: dict[str, Any]) -> None:
    """Serve until the parent says that all are done; then hand over the record."""
    epoch = time.time() - time.monotonic()
    quota = Quota(**settings["quota"])
    limiter = WatchedLimiter(quota, time.monotonic())
    async with DistantEmulator(
        quota=quota,
        faults=Faults(latency=HALF_ROUND_TRIP),
        # The wall clock, but one that nobody sets while a run is on.
        wall_clock=lambda: epoch + time.monotonic(),
    ) as service:
        service.service.limiter = limiter
        parent.tell(service.environment())
        await parent.says_go_on()
        parent.tell(record(service, limiter.refused, epoch))


if __name__ == "__main__":
    child_main(work)
