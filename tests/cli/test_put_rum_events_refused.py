"""What `rumbuffer put-rum-events` refuses, and how it says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rumbuffer.emulator import Emulator
from tests.cli.conftest import LEAST, Run
from tests.emulator.helpers import MONITOR


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--id", MONITOR, "--rum-events", "type=a,details=secret"], "RumEvents[0].details"),
        (["--id", MONITOR, "--rum-events", "type=a,details='[1]'"], "RumEvents[0].details"),
        (["--id", MONITOR, "--rum-events", "type=a,details='{}',metadata=secret"], "RumEvents[0].metadata"),
        ([*LEAST, "--session-metadata", "secret"], "SessionMetadata"),
    ],
)
async def test_what_the_service_would_drop_is_refused(
    emulator: Emulator, run: Run, arguments: list[str], name: str
) -> None:
    """A text that must hold a JSON object and does not is named, by its shape and not its content."""
    status, out, err = await run(*arguments)
    assert (status, out) == (255, "")
    assert f"\nInvalid value for parameter {name}: " in err
    assert "must" in err
    assert "hold an object" in err or "holds an object" in err
    assert "secret" not in err
    assert emulator.requests.received == 0


@pytest.mark.parametrize(
    "timestamp",
    [
        "0001-01-01T00:00:00+05:00",
        "9999-12-31T23:59:59-05:00",
        "inf",
        pytest.param(10**400, id="10**400"),
        *(1e300, -1e300),
    ],
)
async def test_a_time_that_cannot_be(emulator: Emulator, run: Run, timestamp: object) -> None:
    """A time beyond what a datetime holds is named, by its shape and not its content."""
    events = json.dumps(
        [{"type": "a", "details": "{}"}, {"type": "a", "details": "{}", "timestamp": timestamp}]
    )
    status, out, err = await run("--id", MONITOR, "--rum-events", events)
    assert (status, out, emulator.requests.received) == (255, "", 0)
    assert err.startswith(
        "\nParameter validation failed:\nInvalid value for parameter RumEvents[1].timestamp: "
    )
    assert str(timestamp) not in err


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ([*LEAST, "--alias", "caf\udce9"], "Alias"),
        ([*LEAST, "--app-monitor-details", "name=caf\udce9"], "AppMonitorDetails.name"),
        (["--id", MONITOR, "--rum-events", "type=caf\udce9,details='{}'"], "RumEvents[0].type"),
    ],
)
async def test_arguments_that_are_not_utf_8(
    emulator: Emulator, run: Run, arguments: list[str], name: str
) -> None:
    """A text that is not UTF-8 is named."""
    status, out, err = await run(*arguments)
    assert (status, out, emulator.requests.received) == (255, "", 0)
    assert f"\nInvalid value for parameter {name}: must be valid UTF-8; got str of " in err


async def test_shorthand_that_is_too_deep(run: Run) -> None:
    """Shorthand that is nested without end is refused in words."""
    status, _, err = await run(*LEAST, "--app-monitor-details", "name=" + "[" * 5000)
    assert status == 255
    assert err.startswith("\nError parsing parameter '--app-monitor-details': ")
    assert "nested too deeply" in err


@pytest.mark.parametrize(
    ("value", "expected"),
    [("Id: [", "Invalid YAML received: "), ("[1]", "Invalid type: expecting map, received <class 'list'>")],
)
async def test_bad_yaml(run: Run, value: str, expected: str) -> None:
    """What is no YAML, or no mapping, is refused with the place."""
    status, _, err = await run("--cli-input-yaml", value)
    assert status == 255
    assert f"Error parsing parameter '--cli-input-yaml': {expected}" in err


async def test_one_document_at_most(run: Run) -> None:
    """A JSON and a YAML document together are refused, as by the AWS CLI's version 2."""
    status, _, err = await run("--cli-input-yaml", "{}", "--cli-input-json", "{}")
    assert (status, err) == (255, "\nOnly one --cli-input- parameter may be specified.\n")


async def test_an_endpoint_that_is_no_web_address(run: Run) -> None:
    """An endpoint of another scheme is refused before anything is sent, and what it must be is said."""
    status, _, err = await run(*LEAST, "--endpoint-url", "ftp://rum.test")
    assert status == 255
    assert 'Bad value for --endpoint-url "ftp://rum.test": scheme is ftp.  Must be of the form http' in err


async def test_a_query_that_fails_says_what_was_sent(run: Run, emulator: Emulator) -> None:
    """A query is tried on the answer; where it fails, the events are out, unless nothing was to be sent."""
    status, _, err = await run(*LEAST, "--query", "nonsense(@)")
    assert (status, len(emulator.batches)) == (255, 1)
    assert err == "\nUnknown function: nonsense()\nHint: the events were sent\n"
    _, _, err = await run(*LEAST, "--query", "nonsense(@)", "--generate-cli-skeleton", "output")
    assert (len(emulator.batches), err) == (1, "\nUnknown function: nonsense()\n")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("soon", "invalid literal for int() with base 10: 'soon'"),
        ("-1", "A timeout of -1 seconds is not possible"),
    ],
)
async def test_timeouts_that_cannot_be(run: Run, emulator: Emulator, value: str, expected: str) -> None:
    """A timeout is a whole number of seconds."""
    status, _, err = await run(*LEAST, "--cli-read-timeout", value)
    assert (status, emulator.requests.received) == (255, 0)
    assert expected in err


async def test_a_certificate_that_is_not_there(run: Run, emulator: Emulator) -> None:
    """A CA bundle that cannot be read is named as the reason."""
    status, _, err = await run(*LEAST, "--ca-bundle", "/nothing", "--endpoint-url", "https://localhost:1")
    assert status == 255
    assert "the CA bundle or client certificate cannot be read" in err


async def test_debug_hides_the_password_of_a_url(emulator: Emulator, run: Run) -> None:
    """The user and the password in an endpoint's URL stay out of the log."""
    url = emulator.endpoint_url.replace("://", "://someone:hunter2@")
    _, _, err = await run(*LEAST, "--debug", "--endpoint-url", url)
    assert "Sending http request" in err
    assert "://…@127.0.0.1" in err
    assert "hunter2" not in err.partition("\n\n")[0]
    assert "someone" not in err.partition("\n\n")[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
@pytest.mark.parametrize(
    "arguments", [["put-rum-events", "--help"], ["put-rum-events", "--generate-cli-skeleton"], ["--help"]]
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_disk_that_is_full(arguments: list[str], unbuffered: str) -> None:
    """Output that cannot be written is told in one line, also if Python keeps some of it until it ends."""
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "rumbuffer", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert (run.returncode, run.stderr) == (1, "Error: cannot write: No space left on device\n")
