"""One sender of `benchmarks.quota`, in a process of its own: rumbuffer, or aiobotocore as it comes.

Both have more sessions waiting than the quota can take, with ten events each, and hold only so many at
once. rumbuffer is fed by a producer that `put()` makes wait at the memory limit, about 60 sessions.
aiobotocore has 32 callers, as many as rumbuffer may have in flight; each has its next session ready and
sends it with one `put_rum_events`. What that raises, after all tries of its retry mode, is a lost batch.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import Any

from benchmarks.quota_pipes import Parent, child_main
from rumbuffer import AppMonitor, Event, Limits, Pacing, RumBuffer, Session
from rumbuffer.aws import AwsSender

__all__ = ["EVENTS", "number_of", "process_of"]

EVENTS = 10
"""Events of a session, and so of a batch."""

CALLERS = 32
WAITING_BYTES = 192 * 1024
LONGEST_DRAIN = 30.0

MONITOR = AppMonitor("8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11", name="shop", version="1.0")
TYPE = "com.example.step"
DETAILS = {"page": "/basket", "step": "checkout", "total": 42.5}


def uuid_of(process: int, number: int) -> str:
    """A UUID for each of a process's sessions, and for each of its events."""
    return f"{process:08x}-0000-4000-8000-{number:012x}"


def process_of(identifier: str) -> int:
    return int(identifier[:8], 16)


def number_of(identifier: str) -> int:
    return int(identifier[-12:], 16)


class Lateness:
    """How late timers fire in this process: what the machine, and not the pacing, is to blame for."""

    PERIOD = 0.02

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            due = time.monotonic() + self.PERIOD
            await asyncio.sleep(self.PERIOD)
            self._seconds.append(time.monotonic() - due)

    def worst_of_100(self) -> float:
        """The 99th percentile, in seconds; ends the watch."""
        self._watching.cancel()
        return sorted(self._seconds)[int(len(self._seconds) * 0.99)]


async def buffered(parent: Parent, process: int, seconds: float, pacing: Pacing) -> dict[str, Any]:
    """Feed a buffer for that long, and close it."""
    sender = AwsSender()
    limits = Limits(max_batch_events=EVENTS, max_pending_bytes=WAITING_BYTES, max_in_flight=CALLERS)
    await sender.start(max_in_flight=CALLERS)
    async with RumBuffer(MONITOR, sender=sender, pacing=pacing, limits=limits) as buffer:
        parent.tell("ready")
        await parent.says_go_on()
        lateness, ends = Lateness(), time.monotonic() + seconds
        sessions = 0
        while time.monotonic() < ends:
            session = Session(uuid_of(process, sessions))
            for place in range(EVENTS):
                event = Event(TYPE, DETAILS, id=uuid_of(process, sessions * EVENTS + place))
                await buffer.put(event, session=session)
            sessions += 1
        fed_until, late = time.monotonic(), lateness.worst_of_100()
        await buffer.aclose(timeout=LONGEST_DRAIN)
        stats = buffer.stats()
    return {
        "made": sessions * EVENTS,
        "counted": stats.delivered,
        "given_up": [],
        "fed_until": fed_until,
        "late": late,
        "throttled": stats.throttled,
    }


async def plain(parent: Parent, process: int, seconds: float, mode: str) -> dict[str, Any]:
    """Call `put_rum_events` for that long from many tasks, and let the last calls end."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session
    from botocore.exceptions import BotoCoreError, ClientError

    config = AioConfig(retries={"mode": mode}, max_pool_connections=CALLERS, inject_host_prefix=False)
    numbers = itertools.count()
    taken, given_up = 0, []
    async with get_session().create_client("rum", config=config) as client:
        parent.tell("ready")
        await parent.says_go_on()
        lateness, ends = Lateness(), time.monotonic() + seconds

        async def call() -> None:
            nonlocal taken
            while time.monotonic() < ends:
                session = next(numbers)
                try:
                    await client.put_rum_events(**request(process, session))
                except (BotoCoreError, ClientError):
                    given_up.append(session)
                else:
                    taken += 1

        async with asyncio.TaskGroup() as callers:
            for _ in range(CALLERS):
                callers.create_task(call())
    return {
        "made": next(numbers) * EVENTS,
        "counted": taken * EVENTS,
        "given_up": [session * EVENTS + place for session in given_up for place in range(EVENTS)],
        "fed_until": ends,
        "late": lateness.worst_of_100(),
    }


def request(process: int, session: int) -> dict[str, Any]:
    """The arguments of a session's call."""
    now = time.time()
    return {
        "Id": MONITOR.id,
        "BatchId": uuid_of(process, session),
        "AppMonitorDetails": {"id": MONITOR.id, "name": MONITOR.name, "version": MONITOR.version},
        "UserDetails": {"userId": uuid_of(0, 0), "sessionId": uuid_of(process, session)},
        "RumEvents": [
            {
                "id": uuid_of(process, session * EVENTS + place),
                "timestamp": now,
                "type": TYPE,
                "details": json.dumps(DETAILS),
            }
            for place in range(EVENTS)
        ],
    }


async def work(parent: Parent, settings: dict[str, Any]) -> None:
    process, seconds = settings["process"], settings["seconds"]
    if settings["mode"] is None:
        books = await buffered(parent, process, seconds, Pacing(**settings["pacing"]))
    else:
        books = await plain(parent, process, seconds, settings["mode"])
    parent.tell(books)


if __name__ == "__main__":
    child_main(work)
