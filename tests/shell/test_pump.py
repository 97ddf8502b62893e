"""The pump's turns, on a machine that has other things to do."""

from __future__ import annotations

import asyncio

import pytest

from rumbuffer import Limits, Outcome, SealedBatch
from rumbuffer.core.pacing import QuotaPacer
from tests.fakes import FakeSender, SimulatedLoop, buffer_of, event_of, pacing_of, run_on, session_of


class HaltingLoop(SimulatedLoop):
    """A loop on a busy machine: its process is stopped for 40 ms at each look at the clock."""

    def time(self) -> float:
        """Some time later than it was."""
        self.now += 0.04
        return super().time()


def test_a_turn_has_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pump that is stopped half-way does not tell the pacer of a pause in which nobody had anything."""
    taken: list[float] = []
    asked: list[float] = []
    take, next_slot = QuotaPacer.take, QuotaPacer.next_slot

    def noted_take(pacer: QuotaPacer, now: float) -> None:
        taken.append(now)
        take(pacer, now)

    def noted_next_slot(pacer: QuotaPacer, now: float) -> float:
        if len(asked) < len(taken):
            asked.append(now)
        return next_slot(pacer, now)

    monkeypatch.setattr(QuotaPacer, "take", noted_take)
    monkeypatch.setattr(QuotaPacer, "next_slot", noted_next_slot)

    async def main() -> None:
        async with buffer_of(FakeSender(), pacing=pacing_of(), limits=Limits(max_batch_events=1)) as buffer:
            for number in range(30):
                buffer.put_nowait(event_of(number), session=session_of(number))
            await asyncio.sleep(5.0)

    run_on(HaltingLoop, main())
    assert len(taken) == 30
    assert asked == taken[:29]


def test_others_have_their_turn_between_two_sends() -> None:
    """Sends are begun one by one, though tokens and slots are there for many: the loop is not stopped."""
    turns: list[int] = []
    begun: list[int] = []

    class Noting(FakeSender):
        async def send(self, batch: SealedBatch) -> Outcome:
            begun.append(len(turns))
            return await super().send(batch)

    async def other() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    async def main() -> None:
        limits = Limits(max_batch_events=1)
        async with buffer_of(Noting(), pacing=pacing_of(quota=1e6, burst=10), limits=limits) as buffer:
            task = asyncio.create_task(other())
            await asyncio.sleep(0)
            for number in range(8):
                buffer.put_nowait(event_of(number), session=session_of(number))
            await buffer.flush()
            task.cancel()

    run_on(SimulatedLoop, main())
    assert len(begun) == 8
    assert len(set(begun)) == 8
