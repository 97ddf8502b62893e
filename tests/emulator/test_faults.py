from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import pytest

from rumbuffer.emulator import Fault, Faults
from rumbuffer.emulator.faults import Dice


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "ValidationException"),
        (403, "AccessDeniedException"),
        (404, "ResourceNotFoundException"),
        (413, None),
        (418, None),
        (429, "ThrottlingException"),
        (500, "InternalServerException"),
        (503, "ServiceUnavailableException"),
    ],
)
def test_a_status_comes_in_the_service_s_form(status: int, name: str | None) -> None:
    """Unless a body is given, a scripted error looks like a real one of its status."""
    fault = Fault.status(status)
    assert (fault.answer.status, fault.store) == (status, False)
    assert fault.answer.headers.get("x-amzn-ErrorType") == name


def test_the_errors_of_the_model_have_its_members() -> None:
    """Scripted errors carry the members that the model requires."""
    assert json.loads(Fault.status(404).answer.body).keys() == {"message", "resourceName", "resourceType"}
    assert json.loads(Fault.throttle().answer.body).keys() == {"message", "serviceCode", "quotaCode"}


def test_a_fault_can_come_later() -> None:
    """Any fault may be put off."""
    assert Fault.reset().after(1.5).after(1).wait == 2.5


def test_random_faults_strike_at_their_rates() -> None:
    """Each kind strikes its share of the requests, and the rest is left alone."""
    dice = Dice(Faults(error_rate=0.1, reset_after_store_rate=0.2, cut_answer_rate=0.05, seed=1))
    drawn = Counter(dice.fault().name for _ in range(20_000))
    shares = {name: round(count / 20_000, 2) for name, count in drawn.items()}
    assert shares == {"500": 0.1, "store then reset": 0.2, "cut answer": 0.05, "ok": 0.65}


def test_random_faults_repeat_with_their_seed() -> None:
    """The same seed gives the same faults and latencies."""
    faults = Faults(error_rate=0.5, latency=(0.06, 0.5), seed=7)
    first, second = Dice(faults), Dice(faults)
    assert [(first.fault(), first.latency()) for _ in range(50)] == [
        (second.fault(), second.latency()) for _ in range(50)
    ]


def test_all_requests_may_fail() -> None:
    """A rate of 1 leaves none."""
    dice = Dice(Faults(error_rate=0.5, reset_rate=0.5, seed=1))
    assert all(dice.fault().name in {"500", "reset"} for _ in range(1000))


def test_latency_is_lognormal_around_its_median() -> None:
    """A pair means median and sigma; half the draws are below the median."""
    dice = Dice(Faults(latency=(0.06, 0.5), seed=3))
    draws = sorted(dice.latency() for _ in range(20_001))
    assert draws[10_000] == pytest.approx(0.06, rel=0.03)
    assert draws[16_827] / draws[10_000] == pytest.approx(math.exp(0.5), rel=0.05)
    assert Dice(Faults(latency=0.25)).latency() == 0.25
    assert Dice(Faults(latency=(0.0, 1.0))).latency() == 0.0


@pytest.mark.parametrize(
    "settings",
    [{"error_rate": -0.1}, {"error_rate": 0.6, "reset_rate": 0.6}, {"latency": -1}, {"latency": (0.1, -1)}],
)
def test_impossible_faults_are_refused(settings: dict[str, Any]) -> None:
    """Rates are shares, and times don't run backwards."""
    with pytest.raises(ValueError, match=r"rates must be|latency must be"):
        Faults(**settings)
