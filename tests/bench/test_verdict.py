"""The verdict: plain words, and the right ones."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from rumbuffer.bench.result import Result
from rumbuffer.bench.verdict import Verdict, verdict
from tests.bench.helpers import RATE, WARMUP, books, histograms, result, series


def text(said: Verdict) -> str:
    """All of it."""
    return " ".join([said.headline, *said.sentences])


def test_good_run_is_called_good() -> None:
    """A run without a loss that kept up has a glad headline, and the figures in words."""
    said = verdict(result())
    assert said.mood == "good"
    assert said.headline == "All 25,000 events that were accepted were delivered; none was lost."
    assert "500 events a second were offered and 500 delivered" in text(said)
    assert "20 requests a second with 25 events each. It kept up." in text(said)
    assert re.search(r"within 2(\.\d+)? s of their planned time and 99 % within (4\.9|5)", text(said))
    assert re.search(r"record\(\) took (3\.9|4).* µs \(median\), 99 % at most 20", text(said))
    assert "The service refused no request." in text(said)


def overloaded(**columns: Any) -> Result:
    """Pending grows by 300 events a second, for only 200 of 500 are delivered."""
    growing = {
        "pending": lambda time: int(300 * (time + WARMUP)),
        "delivered": lambda time: int((RATE - 300) * (time + WARMUP)),
    }
    return result(series=series(**growing | columns))


def test_overload_is_told_with_its_reason() -> None:
    """Whatever limits is named: the pace, the number of sessions, full requests, or something else."""
    said = verdict(overloaded())
    assert said.mood == "warn"
    assert "did not keep up" in text(said)
    assert "pace is not spent" in text(said)

    spent = {name: lambda time: int(40 * (time + WARMUP)) for name in ("requests", "batches")}
    assert "not full yet" in text(verdict(overloaded(**spent)))

    made = overloaded(**spent)
    many = replace(made, harness={**made.harness, "sessions_begun": 5300})
    assert "New sessions came at 100 a second" in text(verdict(many))

    full = {name: lambda time: int(2 * (time + WARMUP)) for name in ("requests", "batches")}
    assert "only a higher quota would carry more" in text(verdict(overloaded(**full, pace=2.0)))
    assert "(the settings allow 40, and the service less)" in text(verdict(overloaded(**full, pace=2.0)))


def test_ramp_that_is_followed_keeps_up() -> None:
    """More events are pending as the rate grows; that alone is no overload."""
    made = result(
        series=series(
            pending=lambda time: int(10 * (time + WARMUP)) * 5,
            delivered=lambda time: int(5 * (time + WARMUP) ** 2),
        )
    )
    assert "It kept up" in text(verdict(made))


def test_short_run_is_no_proof() -> None:
    """A run that is over before the first batches are due says that it is too short."""
    assert "Too short to tell" in text(verdict(replace(result(), seconds=8.0)))


def test_losses_come_first() -> None:
    """A loss is the headline, with its reasons, and what one could do."""
    lost = books(
        delivered=24_000,
        answered=24_000,
        dropped=1000,
        dropped_by_reason={"overflow": 900, "closed": 100},
    )
    said = verdict(result(books=lost, service=None))
    assert said.mood == "bad"
    assert said.headline.startswith(
        "1,000 of 25,000 events were lost (4 %): 900 dropped (overflow), 100 dropped (closed)"
    )
    assert "--max-pending-bytes" in said.sentences[0]
    assert "--drain" in said.sentences[0]


def test_books_that_do_not_balance_are_the_headline() -> None:
    """An event that is nowhere is worse than one that is lost."""
    said = verdict(result(books=books(planned=25_001)))
    assert said.mood == "bad"
    assert "do not balance: planned" in said.headline


def test_generator_that_was_late_is_told() -> None:
    """A rate that the machine could not offer spoils the verdict; a pause now and then is mentioned."""
    said = verdict(result(histograms=histograms(delay={500_000: 1000})))
    assert said.mood == "warn"
    assert "could not offer the planned rate" in text(said)
    said = verdict(result(books=books(planned=26_000, not_offered=1000)))
    assert "1,000 planned events were never offered" in text(said)
    said = verdict(result(histograms=histograms(delay={700: 950, 60_000: 50})))
    assert said.mood == "good"
    assert "held up at times" in text(said)


def test_busy_machine_is_told() -> None:
    """Where others used the machine before the run, the verdict says so; the buffer is not to blame."""
    busy = result(machine={**result().machine, "load_average": 3.5})
    assert "load average 3.5 on 2 cores" in text(verdict(busy))
    assert "load average" not in text(verdict(result()))
    assert "load average" not in text(verdict(result(machine={**result().machine, "load_average": None})))


def test_refusals_of_the_service_are_told() -> None:
    """Throttles and failures are told as shares of all requests."""
    said = verdict(result(books=books(throttled=10, failures=50)))
    assert "Of 1,000 requests 10 were refused for the quota (1 %) and 50 failed (5 %)" in text(said)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (result(interrupted=True), "Ended early. All 25,000"),
        (
            result(
                books=books(offered=0, planned=0, accepted=0, delivered=0, answered=0, requests=0),
                service=None,
                seconds=0.0,
                histograms=histograms(record={}, age={}, delay={}, loop_lag={}),
            ),
            "Nothing was offered",
        ),
        (
            result(
                books=books(accepted=0, delivered=0, answered=0, sampled_out=25_000),
                service=None,
            ),
            "All 25,000 events were sampled out, as asked.",
        ),
    ],
)
def test_unusual_ends_are_said(made: Result, said: str) -> None:
    """A run that was cut short, or in which nothing happened, says so."""
    assert said in verdict(made).headline
    assert verdict(made).mood != "good"


def test_a_service_that_takes_nothing_is_told() -> None:
    """Requests that were refused for a setting are no success, and no longer drain would have helped."""
    said = text(
        verdict(
            result(
                books=books(
                    delivered=0,
                    answered=0,
                    batches_delivered=0,
                    dropped=25_000,
                    dropped_by_reason={"closed": 25_000},
                    requests=10,
                ),
                service=None,
            )
        )
    )
    assert "refused no request" not in said
    assert "longer --drain" not in said
    assert "for the service took no request" in said
    assert "Of 10 requests 10 were refused for another reason, or had no answer at the end (100 %)." in said


def test_short_run_whose_pace_is_spent_is_no_proof_either() -> None:
    """Too short a run is never said to have kept up."""
    spent = result(series=series(requests=lambda time: int(40 * (time + WARMUP))), seconds=4.0)
    said = text(verdict(spent))
    assert "all that the pace allows" in said
    assert "Too short to tell" in said
    assert "kept up" not in said
