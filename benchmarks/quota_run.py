"""One run of `benchmarks.quota`: a service, its senders, and what both sides' books say."""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.quota_pipes import Child
from rumbuffer import Pacing
from rumbuffer.emulator import Quota

__all__ = ["Run", "Setup"]

SPARE = 3.0
"""Seconds that senders are fed for beyond the interval that is looked at, which begins a bit later."""

LONGEST_END = 60.0
WINDOW = 10.0


@dataclass(frozen=True)
class Setup:
    """What to run: `mode` is botocore's retry mode, or `None` for rumbuffer with its `pacing`."""

    quota: Quota
    processes: int = 1
    pacing: Pacing | None = None
    mode: str | None = None


@dataclass(frozen=True)
class Run:
    """What the service took and refused from the first request on, for `seconds`, and both sides' books."""

    setup: Setup
    seconds: float
    arrived: list[list[float]]
    """When each process's accepted requests reached the limiter: seconds after the first request."""
    refused: list[float]
    lost: int
    """Events that were made and are not stored."""
    wrong: list[str]
    """Where the books do not agree."""
    late: float
    """How late the senders' timers fire: the 99th percentile of the worst process, in seconds."""

    @classmethod
    async def made(cls, setup: Setup, seconds: float, together: asyncio.Barrier) -> Run:
        """Run it; starts when all who wait at the barrier are ready."""
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(TemporaryDirectory(prefix="rumbuffer-quota-"))
            environment = own_environment(folder)
            service = await stack.enter_async_context(
                Child.started("benchmarks.quota_service", {"quota": asdict(setup.quota)}, environment)
            )
            environment |= await service.said()
            senders = [
                await stack.enter_async_context(
                    Child.started(
                        "benchmarks.quota_senders", settings(setup, number, seconds + SPARE), environment
                    )
                )
                for number in range(setup.processes)
            ]
            for sender in senders:
                await sender.said()
            await together.wait()
            for sender in senders:
                sender.go_on()
            async with asyncio.timeout(seconds + SPARE + LONGEST_END):
                books = [await sender.said() for sender in senders]
            service.go_on()
            return cls.read(setup, seconds, await service.said(), books)

    @classmethod
    def read(
        cls, setup: Setup, seconds: float, record: Mapping[str, Any], books: list[dict[str, Any]]
    ) -> Run:
        """Look at both sides' books."""
        times = [batch["arrived"] for batch in record["batches"]] + record["refused"]
        start = min(times)
        arrived: list[list[float]] = [[] for _ in books]
        for batch in record["batches"]:
            arrived[batch["process"]].append(batch["arrived"] - start)
        wrong = [
            f"{name}: {record[name]}"
            for name in ("repeated", "conflicting", "silently_dropped", "rejected")
            if record[name]
        ]
        lost = 0
        for number, book in enumerate(books):
            stored = Counter[int]()
            for batch in record["batches"]:
                if batch["process"] == number:
                    stored.update(batch["events"])
            lost += book["made"] - len(stored)
            wrong += (f"process {number}: {fault}" for fault in faults(stored, book))
            if book["fed_until"] < start + seconds:
                wrong.append(f"process {number}: was fed for {book['fed_until'] - start:.1f} s only")
        noticed = [book["throttled"] for book in books if "throttled" in book]
        if noticed and sum(noticed) != len(record["refused"]):
            wrong.append(f"{len(record['refused'])} refusals, of which the senders know {sum(noticed)}")
        return cls(
            setup,
            seconds,
            [sorted(times) for times in arrived],
            sorted(time - start for time in record["refused"]),
            lost,
            wrong,
            max(book["late"] for book in books),
        )

    # Figures ------------------------------------------------------------------------------------------

    def goodput(self, begin: float = 0.0) -> float:
        """Accepted requests from `begin` on, in percent of what the quota's rate gives."""
        taken = sum(between(times, begin, self.seconds) for times in self.arrived)
        return 100.0 * taken / (self.setup.quota.rate * (self.seconds - begin))

    def refusals(self, seconds: float | None = None) -> float:
        """How many requests were refused, in all or on average in so many seconds."""
        count = between(self.refused, 0.0, self.seconds)
        return count if seconds is None else count * seconds / self.seconds

    def throttled(self) -> float:
        """The share of requests that were refused, in percent."""
        bad = self.refusals()
        good = sum(between(times, 0.0, self.seconds) for times in self.arrived)
        return 100.0 * bad / (good + bad)

    def fairness(self) -> float:
        """Jain's index over the processes' accepted requests, the mean over windows of 10 s."""
        indices = []
        for number in range(int(self.seconds / WINDOW)):
            begin = number * WINDOW
            shares = [between(times, begin, begin + WINDOW) for times in self.arrived]
            squares = sum(share * share for share in shares)
            if squares:
                indices.append(sum(shares) ** 2 / (len(shares) * squares))
        return fmean(indices)


def settings(setup: Setup, number: int, seconds: float) -> dict[str, Any]:
    """What a sender is told."""
    pacing = None if setup.pacing is None else asdict(setup.pacing)
    return {"process": number, "seconds": seconds, "mode": setup.mode, "pacing": pacing}


def own_environment(folder: str) -> dict[str, str]:
    """The environment without what the user has set for AWS, rumbuffer and proxies.

    Pace files go to a folder of the run's own.
    """
    foreign = ("AWS_", "RUMBUFFER_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(foreign)}
    nothing = str(Path(folder) / "no-such-file")
    return kept | {
        "XDG_RUNTIME_DIR": folder,
        "AWS_CONFIG_FILE": nothing,
        "AWS_SHARED_CREDENTIALS_FILE": nothing,
    }


def faults(stored: Counter[int], book: Mapping[str, Any]) -> list[str]:
    """Where a sender's book and what the service stored of it (how often each event) differ."""
    found = []
    twice = sum(count > 1 for count in stored.values())
    if twice:
        found.append(f"{twice} events are stored twice")
    if book["counted"] != len(stored):
        found.append(f"{book['counted']} events are counted as delivered, {len(stored)} are stored")
    if set(stored) != set(range(book["made"])).difference(book["given_up"]):
        found.append("what is stored is not what was made less what was given up")
    return found


def between(times: list[float], begin: float, end: float) -> int:
    """How many of the times, which are in order, lie in [begin, end)."""
    return bisect_left(times, end) - bisect_left(times, begin)
