"""The generator and the probes under a clock of the tests'."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from rumbuffer import Admission, Delivered, Outcome, SealedBatch, Session, Throttled
from rumbuffer.bench.generator import Generator
from rumbuffer.bench.load import Load, LoadSettings
from rumbuffer.bench.probes import LoopLag, WatchedSender, memory_in_use
from rumbuffer.core.admission import ACCEPTED
from rumbuffer.core.encoding import EventEncoder
from tests.bench.helpers import MONITOR


class Machine:
    """A clock that only `record()` and the test move; `cost` is what a call takes (seconds)."""

    def __init__(self, cost: float = 0.0) -> None:
        self.now = 0.0
        self.cost = cost
        self.recorded: list[dict[str, Any]] = []

    def timer(self) -> int:
        """Nanoseconds."""
        return round(self.now * 1e9)

    def record(
        self, type: str, details: dict[str, Any], *, session: Session, metadata: dict[str, Any] | None
    ) -> Admission:
        """Take an event."""
        self.now += self.cost
        self.recorded.append(dict(details))
        return ACCEPTED

    def generator(self, **settings: Any) -> Generator:
        """A generator of ten events a second, evenly spaced."""
        load: dict[str, Any] = {
            "rate": 10.0,
            "last_rate": 10.0,
            "seconds": 2.0,
            "warmup": 0.0,
            "spacing": "even",
        } | settings
        return Generator(Load(LoadSettings(**load)), self.record, lambda: self.now, self.timer)


def test_generator_offers_what_is_due() -> None:
    """A turn offers all that was planned until then, and not what comes later."""
    machine = Machine()
    generator = machine.generator()
    machine.now = 0.35
    assert generator.turn(machine.now)
    assert [details["at"] % 10**15 for details in machine.recorded] == pytest.approx(
        [100_000, 200_000, 300_000], abs=1
    )
    assert generator.offered == 3


def test_stall_hides_nothing() -> None:
    """After a stall every event that was due in it is offered, and late by what it had to wait."""
    machine = Machine(cost=1e-6)
    generator = machine.generator()
    machine.now = 1.05
    generator.turn(machine.now)
    latencies, delays = generator.take()
    assert latencies == [1000] * 10
    assert delays == pytest.approx([950_000 - 100_000 * number for number in range(10)], abs=20)
    assert generator.take() == ([], [])


def test_generator_gives_way() -> None:
    """However far behind it is, a turn ends after some milliseconds, and the rest is late in the next."""
    machine = Machine(cost=0.0015)
    generator = machine.generator()
    machine.now = 1.95
    assert generator.turn(machine.now)
    assert generator.offered == 2
    while generator.turn(machine.now) and generator.offered < 19:
        pass
    _, delays = generator.take()
    assert len(delays) == 19
    assert delays[0] == pytest.approx(1_850_000, abs=20)


async def test_generator_counts_what_it_could_not_offer() -> None:
    """A generator that is stopped, or cannot follow, says how many planned events were never offered."""
    slow = Machine(cost=1.0)
    slow.now = 0.5
    generator = slow.generator()
    await generator.run(asyncio.Event())
    assert (generator.offered, generator.not_offered) == (3, 16)

    stopped = asyncio.Event()
    stopped.set()
    machine = Machine()
    machine.now = 1.0
    generator = machine.generator()
    await generator.run(stopped)
    assert (generator.offered, generator.not_offered) == (0, 10)  # those that were due until the stop


class Scripted:
    """A sender that answers as told, after some seconds of the machine's clock."""

    def __init__(self, machine: Machine, *outcomes: Outcome) -> None:
        self.machine = machine
        self.outcomes = list(outcomes)
        self.calls: list[str] = []

    async def start(self, *, max_in_flight: int) -> None:
        """Note it."""
        self.calls.append(f"start {max_in_flight}")

    async def send(self, batch: SealedBatch) -> Outcome:
        """Take 0.1 s and answer."""
        self.machine.now += 0.1
        return self.outcomes.pop(0)

    async def aclose(self) -> None:
        """Note it."""
        self.calls.append("close")


def batch(*planned: float) -> SealedBatch:
    """A batch whose events were planned for these times."""
    encoder = EventEncoder(6144, refuse_oversize=True)
    events = tuple(
        encoder.encode("a.b", {"at": 10**15 + int(at * 1e6), "n": 1}, {"version": "1"}, b"id", 1.5)
        for at in planned
    )
    return SealedBatch("b", MONITOR, "s", "u", None, events)


async def test_sender_notes_ages_from_the_planned_time() -> None:
    """An event's age goes from its planned time to the answer; the warm-up's are kept apart."""
    machine = Machine()
    machine.now = 10.0
    inner = Scripted(machine, Throttled(), Delivered())
    sender = WatchedSender(inner, lambda: machine.now, 5.0)
    await sender.start(max_in_flight=7)
    sent = batch(4.0, 6.0, 9.9)
    assert await sender.send(sent) == Throttled()
    assert await sender.send(sent) == Delivered()
    requests, fills, ages, early = sender.take()
    assert requests == pytest.approx([100_000] * 2, abs=1)
    assert fills == [3]
    assert ages == pytest.approx([4_200_000, 300_000], abs=1)
    assert early == pytest.approx([6_200_000], abs=1)
    assert sender.take() == ([], [], [], [])
    assert (sender.delivered, sender.bytes_delivered) == (3, sum(len(event) for event in sent.events))
    await sender.aclose()
    assert inner.calls == ["start 7", "close"]


def _nothing() -> None:
    """Stand in for a timer that was cancelled."""


class Timers:
    """A loop's `call_later`, and the clock that the probe reads."""

    def __init__(self) -> None:
        self.now = 0.0
        self.wake: Callable[[], None] = _nothing
        self.delay = 0.0

    def call_later(self, delay: float, wake: Callable[[], None]) -> Any:
        """Keep it."""
        self.wake, self.delay = wake, delay
        return self

    def cancel(self) -> None:
        """Forget it."""
        self.wake = _nothing


def test_lag_counts_the_wakes_that_a_stall_hid(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stall of 35 ms is one lag of 35, and one each of 25, 15 and 5 ms for the wakes that it swallowed."""
    timers = Timers()
    monkeypatch.setattr("rumbuffer.bench.probes.time.perf_counter", lambda: timers.now)
    lag = LoopLag(timers)  # type: ignore[arg-type]
    timers.now = 0.011
    timers.wake()
    assert lag.take() == pytest.approx([1000], abs=1)
    assert timers.delay == pytest.approx(0.009)
    timers.now = 0.055
    timers.wake()
    assert lag.take() == pytest.approx([35_000, 25_000, 15_000, 5_000], abs=1)
    lag.stop()
    timers.wake()
    assert lag.take() == []


def test_memory_is_told_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python process holds some megabytes, also where only the peak is known."""
    assert 5e6 < memory_in_use() < 1e11

    def missing(*arguments: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", missing)
    assert 5e6 < memory_in_use() < 1e11
