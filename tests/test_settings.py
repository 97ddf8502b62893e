"""`Limits`, `Pacing`, `RetryPolicy`, `Overflow`, and the `RUMBUFFER_*` variables."""

from __future__ import annotations

import math
import os
from dataclasses import FrozenInstanceError, asdict
from typing import Any

import pytest

from rumbuffer.errors import InvalidSetting, RumBufferError
from rumbuffer.events import AppMonitor
from rumbuffer.settings import (
    Limits,
    Overflow,
    Pacing,
    RetryPolicy,
    check_rate,
    check_seconds,
    from_environment,
)

ID = "12345678-1234-4234-8234-123456789abc"
SECRET = "s3cr3t-personal-thing"


# The values -----------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_design() -> None:
    """What DESIGN.md names as defaults holds."""
    assert asdict(Limits()) == {
        "max_batch_events": 100,
        "max_batch_bytes": 1_000_000,
        "linger": 5.0,
        "max_pending_bytes": 64 * 2**20,
        "max_event_bytes": 6144,
        "oversize": "refuse",
        "max_in_flight": 32,
    }
    assert asdict(Pacing()) == {"quota": 50.0, "use": 0.8, "burst": 10, "share": "host", "group": "default"}
    retry = asdict(RetryPolicy())
    assert retry.pop("budget") > 0.0
    assert retry == {"max_failures": 8, "base_delay": 0.2, "max_delay": 30.0}


@pytest.mark.parametrize("made", [Limits(linger=1.0), Pacing(quota=10.0), RetryPolicy(max_failures=2)])
def test_settings_are_immutable_values(made: Limits | Pacing | RetryPolicy) -> None:
    """They are equal by value and cannot be changed."""
    assert made == type(made)(**asdict(made))
    assert made != type(made)()
    assert hash(made) == hash(type(made)(**asdict(made)))
    with pytest.raises(FrozenInstanceError):
        setattr(made, next(iter(asdict(made))), 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Limits(1, 1024, 0.0, 1024, 2, "send", 1),
        lambda: Limits(linger=0, max_pending_bytes=1 << 40),
        lambda: Pacing(None, 1.0, 1, None, "A-z_0.9"),
        lambda: Pacing(quota=0.001, use=0.001, group="x" * 64),
        lambda: RetryPolicy(1, 0.001, 0.001, 0.0),
        lambda: RetryPolicy(base_delay=1, max_delay=1),
    ],
)
def test_the_bounds_themselves_are_allowed(make: Any) -> None:
    """The least and the most that make sense are taken, whole numbers for seconds too."""
    assert make() == make()


def readable(given: object) -> str:
    """A short name for a test's parameter."""
    return given.__name__ if isinstance(given, type) else repr(given)[:20]


NO_NUMBERS = ["1", None, True, [1], 1j, SECRET]
ENDLESS = [math.nan, math.inf, -math.inf, 10**400, 1e16]

WRONG: list[tuple[type, str, list[Any]]] = [
    (Limits, "max_batch_events", [0, -1, 1.0, *NO_NUMBERS]),
    (Limits, "max_batch_bytes", [1023, 1e6, *NO_NUMBERS]),
    (Limits, "linger", [-0.1, *ENDLESS, *NO_NUMBERS]),
    (Limits, "max_pending_bytes", [1023, 1e6, *NO_NUMBERS]),
    (Limits, "max_event_bytes", [1, 6144.0, *NO_NUMBERS]),
    (Limits, "oversize", ["Send", "", None, True, SECRET]),
    (Limits, "max_in_flight", [0, 1.5, *NO_NUMBERS]),
    (Pacing, "quota", [0, 0.0, -1, *ENDLESS, "1", True, SECRET]),
    (Pacing, "use", [0.0, 1.01, -1, *ENDLESS, *NO_NUMBERS]),
    (Pacing, "burst", [0, 1.5, *NO_NUMBERS]),
    (Pacing, "share", ["none", "", False, SECRET]),
    (Pacing, "group", ["", "a b", "a/b", "..\n", "x" * 65, None, 7, b"a", "é", SECRET + "!"]),
    (RetryPolicy, "max_failures", [0, 1.5, *NO_NUMBERS]),
    (RetryPolicy, "base_delay", [0.0, -1, *ENDLESS, *NO_NUMBERS]),
    (RetryPolicy, "max_delay", [0.1, -1, *ENDLESS, *NO_NUMBERS]),
    (RetryPolicy, "budget", [-0.1, *ENDLESS, *NO_NUMBERS]),
]


@pytest.mark.parametrize(
    ("group", "field", "value"),
    [(group, field, value) for group, field, values in WRONG for value in values],
    ids=readable,
)
def test_a_wrong_setting_is_named(group: Any, field: str, value: object) -> None:
    """A typo fails when the value is made, with the field and the rule."""
    with pytest.raises(InvalidSetting) as caught:
        group(**{field: value})
    error = caught.value
    assert isinstance(error, ValueError)
    assert isinstance(error, RumBufferError)
    assert error.field == field
    assert error.rule.startswith("must be")
    assert SECRET not in str(error)
    assert len(str(error)) < 200


@pytest.mark.parametrize("value", [0, 0.0, 0.5, 1, 1.0])
def test_a_rate_is_a_share(value: float) -> None:
    """A sample rate is a number from 0 to 1."""
    check_rate("sample_rate", value)


@pytest.mark.parametrize("value", [-0.1, 1.1, *ENDLESS, *NO_NUMBERS], ids=readable)
def test_other_rates_are_invalid(value: object) -> None:
    """A percentage or a text is refused by name."""
    with pytest.raises(InvalidSetting) as caught:
        check_rate("sample_rate", value)
    assert caught.value.field == "sample_rate"


@pytest.mark.parametrize("value", [-0.1, *ENDLESS, *NO_NUMBERS], ids=readable)
def test_seconds_are_finite(value: object) -> None:
    """A duration is 0 or more seconds, and none is endless."""
    check_seconds("close_timeout", 0)
    check_seconds("close_timeout", 2.5)
    with pytest.raises(InvalidSetting) as caught:
        check_seconds("close_timeout", value)
    assert caught.value.field == "close_timeout"


# The environment ------------------------------------------------------------------------------------------


def arguments(given: dict[str, Any] | None = None, /, **variables: str) -> dict[str, Any]:
    """What the variables (without their prefix) make of `RumBuffer`'s arguments."""
    named = {f"RUMBUFFER_{name}": text for name, text in variables.items()}
    return from_environment({"RUMBUFFER_APP_MONITOR_ID": ID, "HOME": "/root", **named}, given or {})


def test_the_app_monitors_id_is_enough() -> None:
    """Only the id must be set; everything else has a default."""
    assert arguments() == {"app_monitor": AppMonitor(ID)}


VARIABLES: list[tuple[str, str, str, str | None, object]] = [
    # variable, its text, the argument, the field in it, the value
    ("APP_MONITOR_NAME", "shop", "app_monitor", "name", "shop"),
    ("APP_MONITOR_VERSION", "1.4.2", "app_monitor", "version", "1.4.2"),
    ("APP_MONITOR_ALIAS", "a", "app_monitor", "alias", "a"),
    ("REGION", "eu-west-1", "region_name", None, "eu-west-1"),
    ("ENDPOINT_URL", "http://localhost:1", "endpoint_url", None, "http://localhost:1"),
    ("MAX_BATCH_EVENTS", "50", "limits", "max_batch_events", 50),
    ("MAX_BATCH_BYTES", "50000", "limits", "max_batch_bytes", 50_000),
    ("LINGER", "2.5", "limits", "linger", 2.5),
    ("MAX_PENDING_BYTES", "1_000_000", "limits", "max_pending_bytes", 1_000_000),
    ("MAX_EVENT_BYTES", "1000", "limits", "max_event_bytes", 1000),
    ("OVERSIZE", "send", "limits", "oversize", "send"),
    ("MAX_IN_FLIGHT", "8", "limits", "max_in_flight", 8),
    ("QUOTA", "100", "pacing", "quota", 100.0),
    ("QUOTA", " None ", "pacing", "quota", None),
    ("QUOTA", "unknown", "pacing", "quota", None),
    ("USE", "0.98", "pacing", "use", 0.98),
    ("BURST", "20", "pacing", "burst", 20),
    ("SHARE", "none", "pacing", "share", None),
    ("SHARE", "host", "pacing", "share", "host"),
    ("GROUP", "eu", "pacing", "group", "eu"),
    ("MAX_FAILURES", "3", "retry", "max_failures", 3),
    ("BASE_DELAY", "0.5", "retry", "base_delay", 0.5),
    ("MAX_DELAY", "60", "retry", "max_delay", 60.0),
    ("RETRY_BUDGET", "0.5", "retry", "budget", 0.5),
    ("OVERFLOW", "raise", "overflow", None, Overflow.RAISE),
    ("SAMPLE_RATE", "0.25", "sample_rate", None, 0.25),
    ("CLOSE_TIMEOUT", "3", "close_timeout", None, 3.0),
]


@pytest.mark.parametrize(("variable", "text", "argument", "field", "value"), VARIABLES)
def test_each_variable_sets_its_argument(
    variable: str, text: str, argument: str, field: str | None, value: object
) -> None:
    """A variable sets one thing, and leaves all others at their defaults."""
    made = arguments(**{variable: text})
    assert made.keys() == {"app_monitor", argument}
    found = made[argument] if field is None else getattr(made[argument], field)
    assert (found, type(found)) == (value, type(value))


def test_the_variables_of_one_group_go_together() -> None:
    """Several variables make one `Limits`."""
    assert arguments(LINGER="1", MAX_BATCH_EVENTS="7")["limits"] == Limits(linger=1.0, max_batch_events=7)


def test_an_empty_variable_counts_as_unset() -> None:
    """So a variable can be taken back where an environment is composed."""
    assert arguments(LINGER="", NONSENSE="", QUOTA="") == {"app_monitor": AppMonitor(ID)}


def test_what_is_given_in_code_goes_before_the_environment() -> None:
    """An argument beats the variables of its whole group."""
    mine, limits = AppMonitor(ID, "mine"), Limits(linger=1.0)
    given = {"app_monitor": mine, "limits": limits, "sample_rate": 1.0}
    made = arguments(given, LINGER="9", APP_MONITOR_NAME="theirs", SAMPLE_RATE="0.5", USE="0.5")
    assert made == {**given, "pacing": Pacing(use=0.5)}


def test_a_variable_that_an_argument_replaces_may_be_wrong() -> None:
    """What has no say is not checked against its rules."""
    limits = Limits()
    assert arguments({"limits": limits}, LINGER="-1")["limits"] is limits


def test_a_sender_of_ones_own_brings_its_region_and_endpoint() -> None:
    """The variables for these have no say then."""
    sender = object()
    made = arguments({"sender": sender}, REGION="eu-west-1", ENDPOINT_URL="http://localhost:1")
    assert made == {"app_monitor": AppMonitor(ID), "sender": sender}
    made = arguments({"sender": None}, REGION="eu-west-1")
    assert made["region_name"] == "eu-west-1"


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping the variables of the process are read."""
    monkeypatch.setenv("RUMBUFFER_APP_MONITOR_ID", ID)
    monkeypatch.setenv("RUMBUFFER_LINGER", "1.5")
    assert "RUMBUFFER_LINGER" in os.environ
    assert from_environment(None, {}) == {"app_monitor": AppMonitor(ID), "limits": Limits(linger=1.5)}


def test_a_missing_id_is_named() -> None:
    """Without an app monitor nothing can be sent, and the error says which variable to set."""
    with pytest.raises(InvalidSetting) as caught:
        from_environment({"RUMBUFFER_APP_MONITOR_NAME": "shop"}, {})
    assert caught.value.field == "RUMBUFFER_APP_MONITOR_ID"
    mine = AppMonitor(ID)
    assert from_environment({}, {"app_monitor": mine}) == {"app_monitor": mine}


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        *(("APP_MONITOR_ID", SECRET), ("APP_MONITOR_ALIAS", "x" * 256)),
        *(("MAX_BATCH_EVENTS", "many"), ("MAX_BATCH_EVENTS", "0"), ("MAX_BATCH_EVENTS", "1.5")),
        *(
            ("MAX_BATCH_BYTES", "1MB"),
            ("LINGER", "5s"),
            ("LINGER", "-1"),
            ("LINGER", "nan"),
            ("LINGER", "inf"),
        ),
        *(("MAX_PENDING_BYTES", "64 MiB"), ("MAX_EVENT_BYTES", "1"), ("OVERSIZE", "drop")),
        *(("MAX_IN_FLIGHT", "0"), ("QUOTA", "0"), ("QUOTA", "fifty"), ("USE", "80"), ("USE", "80%")),
        *(("BURST", "0"), ("SHARE", "all"), ("GROUP", "a b"), ("MAX_FAILURES", "-1"), ("BASE_DELAY", "0")),
        *(("MAX_DELAY", "0.1"), ("RETRY_BUDGET", "-1"), ("OVERFLOW", "drop"), ("SAMPLE_RATE", SECRET)),
        *(("CLOSE_TIMEOUT", "ten"), ("MAX_BATCH_EVENTS", "9" * 5000)),
    ],
)
def test_a_wrong_variable_is_named(variable: str, text: str) -> None:
    """The error names the variable, as it is set, and the rule."""
    with pytest.raises(InvalidSetting) as caught:
        arguments(**{variable: text})
    assert caught.value.field == f"RUMBUFFER_{variable}"
    assert SECRET not in str(caught.value)


def test_a_wrong_policy_is_told_which_there_are() -> None:
    """The rule lists the overflow policies by the names that the variable takes."""
    with pytest.raises(InvalidSetting, match="drop_oldest, drop_newest, raise"):
        arguments(OVERFLOW="block")


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("LINGERS", "; did you mean RUMBUFFER_LINGER?"),
        ("MAX_BATCH_EVENT", "; did you mean RUMBUFFER_MAX_BATCH_EVENTS?"),
        ("X" * 60, ""),
    ],
)
def test_an_unknown_variable_is_logged_with_the_nearest(
    variable: str, hint: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A typo in a name is a warning that tells what was meant, and not what was set."""
    assert arguments(**{variable: SECRET}) == {"app_monitor": AppMonitor(ID)}
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        f"the environment variable RUMBUFFER_{variable} means nothing to rumbuffer{hint}"
    )
