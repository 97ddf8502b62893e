"""The bound on memory, measured from outside: the peak of a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

PRODUCER = '''
import asyncio, json, socket, sys, gc
from rumbuffer import *
from rumbuffer.aws import AwsSender

MONITOR = AppMonitor("8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11", version="1")
MIB = 1024 * 1024


def peak():
    """The most memory that the process ever held, in MiB."""
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


class Taker:
    """Takes everything, a moment later."""

    async def start(self, *, max_in_flight):
        pass

    async def send(self, batch):
        await asyncio.sleep(0.001)
        batch.body()
        return Delivered()

    async def aclose(self):
        pass


def session_of(number):
    return Session(f"00000000-0000-4000-8000-{number:012x}")


async def main(case, events, sessions, length, hooked):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"  # closed in a moment: nothing listens there
    sender = Taker() if case == "delivered" else AwsSender(region_name="us-east-1", endpoint_url=nobody)
    heard = []
    buffer = RumBuffer(
        MONITOR,
        sender=sender,
        pacing=Pacing(quota=10_000.0, use=1.0, burst=1000, share=None),
        limits=Limits(linger=0.05, max_pending_bytes=64 * MIB),
        hooks=[heard.append] if hooked else [],
    )
    known = [session_of(number) for number in range(sessions)] if sessions < events else None
    await buffer.start()
    buffer.record("com.example.first", {}, session=session_of(1 << 40))
    while not (buffer.stats().failures or buffer.stats().delivered):
        await asyncio.sleep(0.1)  # the client is made, and has sent its first request
    padding = "x" * max(0, length - 160)
    at_start = peak()
    half = 0.0
    for number in range(events):
        session = session_of(number) if known is None else known[number * 7919 % sessions]
        monitor = None
        if case == "attributes":
            attributes = {name: f"{name} {number}" for name in ("domain", "release", "country", "plan")}
            session = Session(session.id, attributes=attributes)
        elif case == "monitors":
            monitor = AppMonitor(f"00000000-0000-4000-9000-{number:012x}", version=f"1.{number}")
        details = {"n": number, "padding": padding}
        buffer.record("com.example.event", details, session=session, app_monitor=monitor)
        if number % 200 == 0:
            await asyncio.sleep(0)
            del heard[:]
            while case == "delivered" and buffer.pressure > 0.05:
                await asyncio.sleep(0.001)
        if number == events // 2:
            half = peak()
    stats = buffer.stats()
    result = {
        "start": at_start,
        "grown": peak() - at_start,
        "grown in the second half": peak() - half,
        "offered": stats.offered,
        "refused": stats.refused,
        "accepted": stats.accepted,
        "delivered": stats.delivered,
        "dropped": stats.dropped,
        "pending": stats.pending + stats.in_flight,
        "pending_bytes": stats.pending_bytes / MIB,
        "open_batches": stats.open_batches,
        "health": stats.health,
    }
    await buffer.aclose(timeout=0)
    result["at the end"] = peak() - at_start
    print(json.dumps(result))


asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
'''


def produce(
    case: str, *, events: int, sessions: int, length: int = 300, hooked: bool = False
) -> dict[str, Any]:
    """Run the producer in a process of its own; return its figures, sizes in MiB."""
    command = [sys.executable, "-c", PRODUCER, case, *map(str, (events, sessions, length, int(hooked)))]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "COV"))
    } | {
        "AWS_ACCESS_KEY_ID": "ANYKEY",
        "AWS_SECRET_ACCESS_KEY": "any-secret",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    assert figures["offered"] == events + 1 == figures["accepted"] + figures["refused"]
    assert figures["accepted"] == figures["delivered"] + figures["dropped"] + figures["pending"]
    return figures


LIMIT = 64
CONSTANT = 16
"""MiB that the process may grow besides the limit: buffers of requests, and what the allocator leaves."""


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("length", "hooked"), [(300, False), (0, True)], ids=["usual", "small, with a hook"])
def test_a_million_events_while_the_service_is_down(length: int, hooked: bool) -> None:
    """Producers that go on through an outage cost `max_pending_bytes` and a constant."""
    figures = produce("down", events=1_000_000, sessions=1000, length=length, hooked=hooked)
    assert figures["health"] == "outage"
    assert LIMIT - 1 < figures["pending_bytes"] <= LIMIT
    assert figures["at the end"] <= LIMIT + CONSTANT
    assert figures["grown in the second half"] <= 2


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_very_many_sessions_while_the_service_is_down() -> None:
    """Sessions of one event each are within the same bound."""
    figures = produce("down", events=300_000, sessions=300_000)
    assert LIMIT - 1 < figures["pending_bytes"] <= LIMIT
    assert figures["open_batches"] > 50_000
    assert figures["at the end"] <= LIMIT + CONSTANT


@pytest.mark.timeout(240)
def test_sessions_with_attributes_of_their_own() -> None:
    """Session attributes are within the bound, as are the objects that the caller gave them in."""
    figures = produce("attributes", events=100_000, sessions=100_000, length=0)
    assert LIMIT - 1 < figures["pending_bytes"] <= LIMIT
    assert figures["at the end"] <= LIMIT + CONSTANT


@pytest.mark.timeout(240)
def test_very_many_app_monitors() -> None:
    """App monitors that come from clients' requests are bounded in number, and the rest is refused."""
    figures = produce("monitors", events=40_000, sessions=40_000, length=0)
    assert figures["open_batches"] < 1000
    assert figures["refused"] > 39_000
    assert figures["at the end"] <= figures["pending_bytes"] + CONSTANT


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_traffic_that_is_delivered_leaves_nothing() -> None:
    """What was delivered is freed: the second half of the traffic needs no more than the first."""
    figures = produce("delivered", events=400_000, sessions=1000)
    assert figures["delivered"] > 350_000
    assert figures["dropped"] == 0
    assert (
        figures["grown in the second half"] <= 4
    )  # the coverage measurement takes 4.6 by itself; a leak takes 100
