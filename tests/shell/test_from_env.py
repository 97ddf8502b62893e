"""`RumBuffer.from_env()`: the variables reach the buffer (what each means: tests/test_settings.py)."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from rumbuffer import AppMonitor, InvalidSetting, Limits, Overflow, Pacing, RetryPolicy, RumBuffer
from rumbuffer.settings import _VARIABLES
from tests.fakes import MONITOR, FakeSender, assert_laws, event_of, session_of, simulated

ID = {"RUMBUFFER_APP_MONITOR_ID": MONITOR.id}


class Remembering(RumBuffer):
    """Keeps the arguments that it was made with."""

    def __init__(self, app_monitor: AppMonitor, **arguments: Any) -> None:
        super().__init__(app_monitor, **arguments)
        self.given = {"app_monitor": app_monitor, **arguments}


VARIABLES: dict[str, tuple[str, str, object]] = {
    "APP_MONITOR_ID": (MONITOR.id, "app_monitor", AppMonitor(MONITOR.id)),
    "APP_MONITOR_NAME": ("shop", "app_monitor", AppMonitor(MONITOR.id, name="shop")),
    "APP_MONITOR_VERSION": ("1.4", "app_monitor", AppMonitor(MONITOR.id, version="1.4")),
    "APP_MONITOR_ALIAS": ("front", "app_monitor", AppMonitor(MONITOR.id, alias="front")),
    "REGION": ("eu-west-1", "region_name", "eu-west-1"),
    "ENDPOINT_URL": ("http://localhost:1", "endpoint_url", "http://localhost:1"),
    "COMPRESSION": ("gzip", "compression", "gzip"),
    "MAX_BATCH_EVENTS": ("7", "limits", Limits(max_batch_events=7)),
    "MAX_BATCH_BYTES": ("70000", "limits", Limits(max_batch_bytes=70_000)),
    "LINGER": ("0.5", "limits", Limits(linger=0.5)),
    "MAX_PENDING_BYTES": ("70000", "limits", Limits(max_pending_bytes=70_000)),
    "MAX_EVENT_BYTES": ("700", "limits", Limits(max_event_bytes=700)),
    "OVERSIZE": ("send", "limits", Limits(oversize="send")),
    "MAX_IN_FLIGHT": ("7", "limits", Limits(max_in_flight=7)),
    "QUOTA": ("70", "pacing", Pacing(quota=70.0)),
    "USE": ("0.5", "pacing", Pacing(use=0.5)),
    "BURST": ("7", "pacing", Pacing(burst=7)),
    "SHARE": ("none", "pacing", Pacing(share=None)),
    "GROUP": ("shop", "pacing", Pacing(group="shop")),
    "MAX_FAILURES": ("7", "retry", RetryPolicy(max_failures=7)),
    "BASE_DELAY": ("0.7", "retry", RetryPolicy(base_delay=0.7)),
    "MAX_DELAY": ("7", "retry", RetryPolicy(max_delay=7.0)),
    "RETRY_BUDGET": ("0.7", "retry", RetryPolicy(budget=0.7)),
    "OVERFLOW": ("raise", "overflow", Overflow.RAISE),
    "SAMPLE_RATE": ("0.7", "sample_rate", 0.7),
    "CLOSE_TIMEOUT": ("7", "close_timeout", 7.0),
}


def test_every_variable_is_tried_here() -> None:
    """A new variable needs a line above."""
    assert VARIABLES.keys() == _VARIABLES.keys()


@pytest.mark.parametrize("variable", VARIABLES)
def test_each_variable_reaches_the_buffer(variable: str) -> None:
    """A buffer can be made with each of the variables, and has what it says."""
    text, argument, value = VARIABLES[variable]
    buffer = Remembering.from_env({**ID, f"RUMBUFFER_{variable}": text})
    assert buffer.given[argument] == value
    assert buffer.stats().offered == 0


@pytest.mark.parametrize("text", ["none", "unknown"])
def test_an_unknown_quota(text: str) -> None:
    """A buffer whose quota is unknown can be made, and has a pace to begin with."""
    buffer = RumBuffer.from_env({**ID, "RUMBUFFER_QUOTA": text})
    assert buffer.stats().rate > 0


def test_all_at_once() -> None:
    """All variables together make one buffer."""
    buffer = Remembering.from_env({f"RUMBUFFER_{name}": text for name, (text, _, _) in VARIABLES.items()})
    assert buffer.given.keys() == {argument for _, argument, _ in VARIABLES.values()}
    assert buffer.stats().max_pending_bytes == 70_000
    assert buffer.given["app_monitor"] == AppMonitor(MONITOR.id, "shop", "1.4", "front")


@simulated
async def test_such_a_buffer_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """A buffer made from the process's own environment delivers as the variables say."""
    for name, text in {**ID, "RUMBUFFER_MAX_BATCH_EVENTS": "2", "RUMBUFFER_REGION": "eu-west-1"}.items():
        monkeypatch.setenv(name, text)
    sender = FakeSender()
    async with RumBuffer.from_env(sender=sender) as buffer:  # which brings its own region
        for number in range(4):
            buffer.put_nowait(event_of(number), session=session_of())
        await buffer.flush()
        assert_laws(buffer.stats())
    assert [len(batch.events) for batch in sender.arrived] == [2, 2]
    assert {batch.app_monitor for batch in sender.arrived} == {AppMonitor(MONITOR.id)}


def test_arguments_win() -> None:
    """What is given as an argument goes before its variables."""
    environment = {f"RUMBUFFER_{name}": text for name, (text, _, _) in VARIABLES.items()}
    given: dict[str, Any] = {
        "app_monitor": MONITOR,
        "region_name": "us-east-1",
        "endpoint_url": "http://localhost:2",
        "compression": None,
        "limits": Limits(linger=9.0),
        "pacing": Pacing(quota=9.0),
        "retry": RetryPolicy(max_failures=9),
        "overflow": Overflow.DROP_NEWEST,
        "sample_rate": 0.9,
        "close_timeout": 9.0,
        "hooks": [print],
    }
    assert Remembering.from_env(environment, **given).given == given


def test_the_app_monitor_must_come_from_somewhere() -> None:
    """Without the id's variable the error names it, unless the app monitor is given."""
    with pytest.raises(InvalidSetting) as raised:
        RumBuffer.from_env({})
    assert raised.value.field == "RUMBUFFER_APP_MONITOR_ID"
    assert RumBuffer.from_env({}, app_monitor=MONITOR).stats().health == "ok"


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        *[(name, "abc") for name in VARIABLES if name.startswith("MAX_")],
        *[("APP_MONITOR_ID", "shop"), ("LINGER", "-1"), ("OVERSIZE", "drop"), ("QUOTA", "0"), ("USE", "1.5")],
        *[("BURST", "0"), ("BASE_DELAY", "nan"), ("RETRY_BUDGET", "-1"), ("OVERFLOW", "block")],
        *[("SAMPLE_RATE", "many"), ("SAMPLE_RATE", "2"), ("SAMPLE_RATE", "-0.1"), ("SAMPLE_RATE", "nan")],
        *[("CLOSE_TIMEOUT", "soon"), ("CLOSE_TIMEOUT", "-1"), ("CLOSE_TIMEOUT", "inf")],
        *[("APP_MONITOR_ALIAS", "x" * 256), ("SHARE", "all"), ("GROUP", "a b"), ("MAX_DELAY", "0.1")],
    ],
)
def test_a_bad_value_names_its_variable(variable: str, text: str) -> None:
    """An unusable value is an `InvalidSetting` whose field is the variable's whole name."""
    with pytest.raises(InvalidSetting) as raised:
        RumBuffer.from_env({**ID, f"RUMBUFFER_{variable}": text})
    assert raised.value.field == f"RUMBUFFER_{variable}"


def test_an_unknown_name_warns(caplog: pytest.LogCaptureFixture) -> None:
    """A misspelt variable is logged with the one that was meant; others are nobody's business."""
    RumBuffer.from_env({**ID, "RUMBUFFER_LINGERS": "3", "LINGER": "x", "AWS_REGION": "y"})
    (line,) = [record for record in caplog.records if record.name == "rumbuffer"]
    assert line.levelno == logging.WARNING
    assert "RUMBUFFER_LINGERS" in line.getMessage()
    assert "did you mean RUMBUFFER_LINGER?" in line.getMessage()


def test_an_unknown_argument_is_an_error() -> None:
    """An argument that the constructor does not take raises as there."""
    with pytest.raises(TypeError, match="lingers"):
        RumBuffer.from_env(ID, lingers=3)
