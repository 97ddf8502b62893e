"""`rumbuffer emulator`: the service as a process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from rumbuffer.cli import main

MONITOR = "8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11"
CALL: dict[str, Any] = {
    "Id": MONITOR,
    "BatchId": "00000000-0000-4000-8000-000000000001",
    "AppMonitorDetails": {},
    "UserDetails": {"userId": MONITOR, "sessionId": MONITOR},
    "RumEvents": [{"id": MONITOR, "timestamp": 1795365502, "type": "a.b", "details": "{}"}],
}


class Running:
    """A running emulator; `first` is the first line that it printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.first = process.stdout.readline()

    def ready(self) -> dict[str, Any]:
        """What it printed with --json."""
        document: dict[str, Any] = json.loads(self.first)
        return document

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Signal it, or end its input; returns the exit status and what else it printed."""
        if number is not None:
            self.process.send_signal(number)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdin.close()
        # Not communicate(): it knows nothing of what readline() has read ahead.
        out, errors = self.process.stdout.read(), self.process.stderr.read()
        self.process.wait(timeout=20)
        assert errors == ""
        return self.process.returncode, out

    def client(self) -> Any:
        """An SDK's client for it."""
        ready = self.ready()
        return boto3.client(
            "rum",
            endpoint_url=ready["endpoint_url"],
            region_name=ready["environment"]["AWS_REGION"],
            aws_access_key_id=ready["environment"]["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=ready["environment"]["AWS_SECRET_ACCESS_KEY"],
            config=Config(inject_host_prefix=False, retries={"total_max_attempts": 1}),
        )


@contextmanager
def run(*arguments: str) -> Iterator[Running]:
    """Run it on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rumbuffer", "emulator", "--port", "0", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Running(process)
        finally:
            process.kill()


def fetch(url: str) -> bytes:
    """What a page of the emulator's holds."""
    with urlopen(url) as answer:  # noqa: S310 - our own
        content: bytes = answer.read()
    return content


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_it_runs_until_a_signal_and_sums_up(number: signal.Signals, status: int) -> None:
    """Ctrl-C ends it with status 130, SIGTERM with 0, both with a summary and no traceback."""
    with run() as emulator:
        assert emulator.first.startswith("rumbuffer emulator ")
        ended, printed = emulator.end(number)
    assert ended == status
    assert "0 requests" in printed


def test_it_prints_what_a_program_needs() -> None:
    """The text names the endpoint, the page, the limits, and variables to export."""
    with run("--retry-after", "1", "--shape", "window", "--no-signatures") as emulator:
        url = emulator.first.split()[-1]
        assert fetch(f"{url}/").startswith(b"<!")
        _, printed = emulator.end(signal.SIGTERM)
    assert "50 requests in each second; signatures not checked" in printed
    assert f"export AWS_ENDPOINT_URL_RUM={url}" in printed
    assert "export AWS_SECRET_ACCESS_KEY=" in printed
    assert f"{url}/" in printed


def test_its_json_leads_a_client_to_it() -> None:
    """With --json a program reads endpoint and credentials from the first line, and the counts at the end."""
    with run("--json", "--stop-on-eof") as emulator:
        emulator.client().put_rum_events(**CALL)
        status, printed = emulator.end()
    assert status == 0
    counts = json.loads(printed)
    assert (counts["accepted"], counts["batches"], counts["events"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--tps", "0.001", "--burst", "1"], "ThrottlingException"),
        (
            ["--tps", "0", "--errors", "1", "--latency", "0.001", "--latency-spread", "0.1"],
            "InternalServerException",
        ),
        (
            ["--tps", "0", "--app-monitor", "11111111-2222-3333-4444-555555555555"],
            "ResourceNotFoundException",
        ),
    ],
    ids=["quota", "faults", "app monitors"],
)
def test_its_options_reach_the_service(options: list[str], code: str) -> None:
    """Quota, faults and known app monitors are what the options say."""
    with run("--json", *options) as emulator:
        client = emulator.client()
        if code == "ThrottlingException":
            client.put_rum_events(**CALL)
        with pytest.raises(ClientError) as caught:
            client.put_rum_events(**CALL)
    assert caught.value.response["Error"]["Code"] == code


def test_store_outlives_it(tmp_path: Path) -> None:
    """With --store a second emulator shows what the first was sent."""
    store = str(tmp_path / "batches.db")
    with run("--json", "--store", store) as emulator:
        emulator.client().put_rum_events(**CALL)
        emulator.end(signal.SIGTERM)
    with run("--json", "--store", store) as emulator:
        (batch,) = json.loads(fetch(emulator.ready()["endpoint_url"] + "/_emulator/batches"))["batches"]
    assert batch["batch_id"] == CALL["BatchId"]


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        (["--store", "x.db", "--keep", "5"], 2, "--keep"),
        (["--errors", "0.9", "--resets", "0.9"], 2, "add up to at most 1"),
        (["--store", "/nonexistent/x.db"], 1, "/nonexistent/x.db"),
    ],
)
def test_settings_that_cannot_be_are_explained(
    options: list[str], status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot work is said in one line on stderr, without a traceback."""
    assert main(["emulator", *options]) == status
    assert text in capsys.readouterr().err


def test_port_that_is_taken_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """A port that another program has is named in the error."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert main(["emulator", "--port", port]) == 1
    assert f"port {port}" in capsys.readouterr().err
