"""Ctrl+C in the middle of traffic: the program ends as asyncio's programs do, and nothing is unaccounted."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rumbuffer.emulator import Emulator, Faults
from tests.end_to_end.helpers import stored_ids

FAULTS = Faults(
    error_rate=0.1, error_after_store_rate=0.1, reset_rate=0.05, cut_answer_rate=0.05, latency=0.02, seed=7
)

CHILD = """
import asyncio, json, signal, sys
from rumbuffer import *

# A shell's background jobs are started with this signal ignored, and so are their children.
signal.signal(signal.SIGINT, signal.default_int_handler)

MONITOR = AppMonitor("8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11", version="1")


async def main(endpoint_url, region_name, close_timeout):
    ids = []
    buffer = RumBuffer(
        MONITOR,
        endpoint_url=endpoint_url,
        region_name=region_name,
        pacing=Pacing(quota=300.0, use=1.0, burst=10, share=None),
        limits=Limits(linger=0.05),
        close_timeout=float(close_timeout),
    )
    try:
        async with buffer:
            number = 0
            while True:
                for _ in range(5):
                    number += 1
                    session = Session(f"00000000-0000-4000-8000-{number % 97:012x}")
                    identifier = f"00000000-0000-4000-8000-{number:012x}"
                    if buffer.record("com.example.test", {"n": number}, id=identifier, session=session):
                        ids.append(identifier)
                await asyncio.sleep(0.002)
    finally:
        stats = buffer.stats()
        counts = {name: getattr(stats, name) for name in (
            "offered", "accepted", "refused", "sampled_out", "delivered", "dropped", "dead_lettered",
            "pending", "in_flight", "spooled")}
        print(json.dumps({"ids": ids, "stats": counts, "reasons": dict(stats.dropped_by_reason)}), flush=True)


asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def traffic(emulator: Emulator, close_timeout: float) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program whose traffic has reached the emulator; killed at the end if it still runs."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error::ResourceWarning"),
        *("-c", CHILD, emulator.endpoint_url, emulator.region, str(close_timeout)),
        env={**os.environ, **emulator.environment()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await emulator.until(lambda emulator: emulator.requests.events > 500, timeout=30)
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def end_of(child: asyncio.subprocess.Process, seconds: float) -> dict[str, Any]:
    """Wait for a program that was interrupted, look at how it ended, and return its report."""
    out, err = await asyncio.wait_for(child.communicate(), seconds)
    said = err.decode()
    # Python's own way to end on a SIGINT that nobody caught.
    assert child.returncode == -signal.SIGINT, said
    assert said.rstrip().endswith("KeyboardInterrupt"), said
    assert "rumbuffer/" not in said, said  # no traceback goes through our code
    for trouble in ("never retrieved", "Unclosed", "ResourceWarning", "was destroyed", "defect"):
        assert trouble not in said
    report: dict[str, Any] = json.loads(out)
    stats = report["stats"]
    assert len(set(report["ids"])) == len(report["ids"]) == stats["accepted"]
    assert stats["offered"] == stats["accepted"] + stats["refused"] + stats["sampled_out"]
    assert stats["pending"] == stats["in_flight"] == stats["dead_lettered"] == stats["spooled"] == 0
    assert stats["accepted"] == stats["delivered"] + stats["dropped"]
    return report


@pytest.mark.timeout(180)
@pytest.mark.parametrize("faulty", [False, True])
async def test_an_interrupt_drains_what_was_accepted(emulator: Emulator, faulty: bool) -> None:
    """After SIGINT every accepted event is delivered, and the program ends by the interrupt."""
    if faulty:
        emulator.faults = FAULTS
    async with traffic(emulator, close_timeout=120) as child:
        child.send_signal(signal.SIGINT)
        report = await end_of(child, 150)
    assert stored_ids(emulator) == set(report["ids"])
    assert report["stats"]["delivered"] == report["stats"]["accepted"]


async def test_an_interrupt_without_time_to_drain(emulator: Emulator) -> None:
    """With a close that takes no time, what was under way is counted as lost for the right reason."""
    emulator.faults = FAULTS
    async with traffic(emulator, close_timeout=0) as child:
        child.send_signal(signal.SIGINT)
        report = await end_of(child, 20)
    compare_losses(report, emulator)


async def test_a_second_interrupt_cuts_the_draining_short(emulator: Emulator) -> None:
    """A program that waits for a service that hangs ends at the second SIGINT, with its losses counted."""
    async with traffic(emulator, close_timeout=60) as child:
        emulator.faults = Faults(latency=60.0)
        child.send_signal(signal.SIGINT)
        await asyncio.sleep(1)
        assert child.returncode is None
        child.send_signal(signal.SIGINT)
        report = await end_of(child, 20)
    compare_losses(report, emulator)


def compare_losses(report: dict[str, Any], emulator: Emulator) -> None:
    """What was counted as delivered has arrived; what had no answer may have; the rest has not."""
    stats, reasons, accepted, stored = report["stats"], report["reasons"], report["ids"], stored_ids(emulator)
    assert stored <= set(accepted)
    missing = len(accepted) - len(stored)
    assert stats["dropped"] > 0
    assert reasons.get("closed", 0) <= missing <= stats["dropped"]
