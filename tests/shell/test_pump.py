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


def test_a_pump_that_was_cancelled_half_way_starts_with_the_present_time() -> None:
    """The time of a turn that somebody cut off is not that of the next, an hour later."""
    taken: list[float] = []

    class Cancelling(FakeSender):
        async def send(self, batch: SealedBatch) -> Outcome:
            if not taken:
                for task in asyncio.all_tasks():
                    if task.get_name() == "rumbuffer pump":
                        task.cancel()
            taken.append(asyncio.get_running_loop().time())
            return await super().send(batch)

    async def main() -> list[float]:
        limits = Limits(max_batch_events=1)
        async with buffer_of(Cancelling(), pacing=pacing_of(quota=1e6, burst=10), limits=limits) as buffer:
            asked: list[float] = []
            next_action = buffer._batcher.next_action

            def noted(now: float) -> object:
                asked.append(now)
                return next_action(now)

            buffer._batcher.next_action = noted  # type: ignore[method-assign,assignment]
            for number in range(3):
                buffer.put_nowait(event_of(number), session=session_of(number))
            await asyncio.sleep(3600.0)
            asked.clear()
            later = asyncio.get_running_loop().time()
            buffer.put_nowait(event_of(9), session=session_of(9))
            await buffer.flush()
            assert min(asked) >= later
            return taken

    assert len(run_on(SimulatedLoop, main())) == 4


def test_a_turn_after_a_defect_has_a_new_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that began a send and then went wrong leaves no time for the turn after the pause."""
    asked: list[float] = []

    async def main() -> None:
        limits, sender = Limits(max_batch_events=1), FakeSender()
        sender.pause()  # no answer wakes the pump
        async with buffer_of(sender, pacing=pacing_of(quota=1e6, burst=10), limits=limits) as buffer:
            pump = buffer._pump
            assert pump is not None
            tell, next_action = pump.tell, buffer._batcher.next_action

            def noted(now: float) -> object:
                asked.append(now)
                return next_action(now)

            def wrong(*, everything: bool = False) -> None:
                if len(asked) == 1:
                    asked.append(0.0)
                    raise ValueError("a defect")
                tell(everything=everything)

            await asyncio.sleep(1.0)
            buffer._batcher.next_action = noted  # type: ignore[method-assign,assignment]
            monkeypatch.setattr(pump, "tell", wrong)
            for number in range(2):
                buffer.put_nowait(event_of(number), session=session_of(number))
            await asyncio.sleep(10.0)
            sender.resume()

    run_on(SimulatedLoop, main())
    first, _, second, *_ = asked
    assert second >= first + 1.0
