"""A run: short ones over a sender of the tests', in real time; what is asserted are counts, not times."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rumbuffer import Delivered, Failed, Limits, Outcome, Pacing, SealedBatch
from rumbuffer.bench.load import LoadSettings
from rumbuffer.bench.result import SERIES, Result, laws
from rumbuffer.bench.run import Bench, BenchSettings, Moment, shown_endpoint
from tests.bench.helpers import MONITOR


class Service:
    """Takes every batch at once, or none."""

    def __init__(self, *, answers: bool = True) -> None:
        self.answers = answers
        self.events = 0
        self.closed = 0

    async def start(self, *, max_in_flight: int) -> None:
        """Nothing to do."""

    async def send(self, batch: SealedBatch) -> Outcome:
        """Answer."""
        if not self.answers:
            return Failed("500")
        self.events += len(batch.events)
        return Delivered()

    async def aclose(self) -> None:
        """Count it."""
        self.closed += 1

    async def counts(self) -> dict[str, Any]:
        """As the emulator's."""
        return {"events": self.events, "silently_dropped": 0}


def settings(**changes: Any) -> BenchSettings:
    """Half a second at 400 a second, without a limit that matters."""
    load = {"rate": 400.0, "last_rate": 400.0, "seconds": 0.4, "warmup": 0.1, "sessions": 5} | changes.pop(
        "load", {}
    )
    return BenchSettings(
        load=LoadSettings(**load),
        app_monitor=MONITOR,
        limits=Limits(linger=0.05),
        pacing=Pacing(quota=1000.0, share=None),
        drain=changes.pop("drain", 5.0),
        service={"endpoint": "a test"},
        **changes,
    )


def bench(service: Service, made: BenchSettings, moments: list[Moment] | None = None) -> Bench:
    """A run that keeps what a view would be shown."""
    return Bench(made, service, (moments if moments is not None else []).append, service.counts)


async def test_run_accounts_for_every_event() -> None:
    """All planned events are offered, delivered and measured, and every law of the books holds."""
    service, moments = Service(), list[Moment]()
    result = await bench(service, settings(), moments).run()
    assert [law.text for law in laws(result) if not law.holds] == []
    assert 100 < result.books["planned"] < 320
    assert result.books["delivered"] == result.books["planned"] == service.events
    assert not result.interrupted
    assert result.seconds == pytest.approx(0.4)
    held = result.histograms
    assert 0 < held["record"].count == held["delay"].count <= held["age"].count < result.books["planned"]
    assert held["fill"].count > 0
    assert set(result.series) == set(SERIES)
    assert result.series["t"] == sorted(result.series["t"])
    assert result.series["delivered"][-1] == result.books["delivered"]
    assert {moment.phase for moment in moments} <= {"warm-up", "load", "drain"}
    assert service.closed == 1
    assert Result.from_dict(result.as_dict()).books == result.books


async def test_run_that_is_stopped_still_reports() -> None:
    """Stopped, it offers no more, delivers what is there, and its books hold for what was offered."""
    service = Service()
    made = bench(service, settings(load={"seconds": 600.0}))
    asyncio.get_running_loop().call_later(0.3, made.stop)
    result = await made.run()
    assert result.interrupted
    assert result.balanced
    assert result.books["delivered"] > 0
    assert result.seconds < 60


async def test_stopping_twice_ends_at_once() -> None:
    """The second stop waits for nothing: what is left is counted as dropped."""
    made = bench(Service(answers=False), settings(load={"seconds": 600.0}, drain=600.0))
    loop = asyncio.get_running_loop()
    loop.call_later(0.2, made.stop)
    loop.call_later(0.3, made.stop)
    result = await made.run()
    assert result.balanced
    assert result.books["delivered"] == 0
    assert result.books["dropped"] == result.books["accepted"] > 0
    assert result.drained < 60


async def test_stop_in_the_drain_cuts_it_short() -> None:
    """Once the load is over, the first stop ends the drain."""
    phases: list[str] = []

    def stop_in_drain(moment: Moment) -> None:
        phases.append(moment.phase)
        if moment.phase == "drain":
            made.stop()

    service = Service(answers=False)
    made = Bench(settings(drain=600.0), service, stop_in_drain, service.counts)
    result = await made.run()
    assert "drain" in phases
    assert result.books["dropped"] > 0
    assert result.balanced


async def test_error_of_the_view_ends_the_run() -> None:
    """What the view raises (its pipe was closed) comes out, and everything is closed."""

    def broken(moment: Moment) -> None:
        raise BrokenPipeError

    service = Service()
    with pytest.raises(BrokenPipeError):
        await Bench(settings(load={"seconds": 600.0}), service, broken).run()
    assert service.closed == 1


async def test_run_that_is_cancelled_leaves_nothing_behind() -> None:
    """Cancelled, it closes the buffer and its tasks."""
    service = Service()
    running = asyncio.create_task(bench(service, settings(load={"seconds": 600.0})).run())
    await asyncio.sleep(0.2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert service.closed == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_endpoint_is_shown_without_secrets() -> None:
    """Of an endpoint, scheme, host and port are shown."""
    assert (
        shown_endpoint("https://user:secret@rum.example.com:8443/p?token=x") == "https://rum.example.com:8443"
    )
