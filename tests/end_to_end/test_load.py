"""Load: thousands of sessions, of which few are busy, through everything that a network does."""

from __future__ import annotations

import asyncio
import random

import pytest

from rumbuffer import Limits, Pacing
from rumbuffer.emulator import Emulator, Faults, Quota
from tests.end_to_end.helpers import running

SESSIONS = 2000


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
async def test_heavy_tailed_sessions_through_random_faults(emulator: Emulator, seed: int) -> None:
    """With faults at every seventh request and a quota below the pace, nothing is lost or altered."""
    emulator.quota = Quota(rate=600.0, burst=20)
    emulator.faults = Faults(
        error_rate=0.03,
        error_after_store_rate=0.03,
        reset_rate=0.03,
        reset_after_store_rate=0.03,
        cut_answer_rate=0.02,
        slow_answer_rate=0.02,
        slow_answer=0.05,
        latency=(0.005, 0.8),
        seed=seed,
    )
    dice = random.Random(seed)
    pacing = Pacing(quota=650.0, use=1.0, burst=20, share=None)
    number = 0
    async with running(emulator, pacing=pacing, limits=Limits(linger=1.0)) as run:
        loop = asyncio.get_running_loop()
        ends = loop.time() + 2.0
        while loop.time() < ends:
            # The k-th busiest session gets a share like 1 / k.
            for _ in range(50):
                session = int(SESSIONS ** dice.random())
                run.add([number], session=session, size=dice.randrange(200))
                number += 1
            await asyncio.sleep(0.005)
        # Every session is there once at least.
        for session in range(1, SESSIONS + 1):
            run.add([number], session=session)
            number += 1
        report = await run.buffer.aclose(timeout=30)
        assert report.lossless
    stats = run.compare()
    assert len({batch.session_id for batch in emulator.batches}) == SESSIONS
    assert emulator.requests.repeated > 0
    assert stats.dead_lettered == 0
    assert stats.failures > 0
    assert stats.throttled == emulator.requests.throttled
