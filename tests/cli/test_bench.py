"""`rumbuffer bench`: short runs of the whole, its files, and what it says to mistakes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from rumbuffer import Limits, Pacing, RetryPolicy
from rumbuffer.bench import page
from rumbuffer.cli import bench_command, main
from rumbuffer.cli.bench_options import BUFFER_OPTIONS
from rumbuffer.emulator import Emulator
from tests.bench.helpers import result

SHORT = (
    "--rate",
    "300",
    "--seconds",
    "1",
    "--warmup",
    "0.2",
    "--linger",
    "0.2",
    "--sessions",
    "5",
    "--seed",
    "3",
)
MONITOR = "8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11"


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without the five megabytes of plotly, whether it is installed or not."""
    monkeypatch.setattr(page, "_plotly", lambda: "")
    monkeypatch.setattr(page, "can_be_made", lambda: True)


def command(*arguments: str) -> list[str]:
    """The command line of a run in a process of its own."""
    return [sys.executable, "-m", "rumbuffer", "bench", *arguments]


def test_short_run_balances_its_books(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of a second over a real socket delivers everything, and says so in table, JSON and report."""
    held, html = tmp_path / "a.json", tmp_path / "a.html"
    faults = ("--latency", "0.01", "--errors-after-store", "0.1", "--service-quota", "0")
    assert main(["bench", *SHORT, *faults, "--json", str(held), "--html", str(html)]) == 0
    shown = capsys.readouterr().out
    assert "events that were accepted were delivered; none was lost" in shown.replace("\n", " ")
    assert "BROKEN" not in shown
    document = json.loads(held.read_text())
    books = document["books"]
    assert document["balanced"]
    assert books["planned"] == books["offered"] == books["delivered"] == document["service"]["events"] > 100
    assert document["settings"]["load"]["seed"] == 3
    assert document["settings"]["service"]["error_after_store_rate"] == 0.1
    assert document["settings"]["buffer"]["linger"] == 0.2
    assert "Offered and delivered" in html.read_text()


def test_json_may_go_to_standard_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --json - standard output is the document's alone, and the rest goes to stderr."""
    run = subprocess.run(
        command(*SHORT, "--json", "-", "--no-html"), capture_output=True, check=False, cwd=tmp_path, text=True
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["balanced"]
    assert "record()" in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_user_settings_are_left_aside(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run against the emulator takes no account, profile or proxy of the user's."""
    for name, value in {"AWS_PROFILE": "production", "HTTP_PROXY": "http://127.0.0.1:1"}.items():
        monkeypatch.setenv(name, value)
    assert main(["bench", *SHORT, "--no-html"]) == 0
    assert os.environ["AWS_PROFILE"] == "production"


async def test_endpoint_of_ones_own() -> None:
    """With --endpoint-url events go there, with the user's credentials, to the named app monitor."""
    async with Emulator(app_monitors=[MONITOR]) as emulator:
        arguments = command(
            *SHORT,
            "--no-html",
            "--endpoint-url",
            emulator.endpoint_url,
            "--app-monitor",
            MONITOR,
            "--json",
            "-",
        )
        import asyncio

        process = await asyncio.create_subprocess_exec(
            *arguments,
            env=os.environ | emulator.environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        document = json.loads(out)
        assert document["service"] is None
        assert document["settings"]["service"] == {"endpoint": emulator.endpoint_url}
        assert emulator.requests.events == document["books"]["delivered"] > 100


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_run_still_reports(number: signal.Signals, status: int, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM end it within seconds, with the report of what was measured."""
    held = tmp_path / "a.json"
    arguments = ("--seconds", "600", "--warmup", "0.2", "--linger", "0.2", "--rate", "200", "--no-html")
    with subprocess.Popen(
        command(*arguments, "--json", str(held)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "5 s load" in process.stdout.readline()
        process.send_signal(number)
        shown, errors = process.communicate(timeout=30)
    assert process.returncode == status
    assert "Ended early." in shown
    assert "Traceback" not in errors
    document = json.loads(held.read_text())
    assert document["interrupted"]
    assert document["balanced"]


def test_terminal_shows_the_live_view() -> None:
    """In a terminal the view is drawn in place, and the summary follows."""
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    with subprocess.Popen(
        command(*SHORT, "--no-html"),
        env=os.environ | {"TERM": "xterm-256color"},
        stdout=terminal,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        shown = b""
        with suppress(OSError):  # how Linux says that the other side has closed
            while piece := os.read(master, 65536):
                shown += piece
        os.close(master)
    assert process.returncode == 0
    assert b"measuring, " in shown
    assert b"\x1b[1A" in shown
    assert b"age at delivery" in shown


def test_books_that_do_not_balance_are_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that is nowhere to be found makes the exit status 1."""

    async def one_less(service: Any) -> dict[str, Any]:
        return {"events": 1, "silently_dropped": 0, "faults": {}}

    monkeypatch.setattr(bench_command, "_counts", one_less)
    assert main(["bench", *SHORT, "--no-html"]) == 1


def test_report_goes_to_a_file_of_its_own_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --html the report's name holds the time, so that none is overwritten; the path is told."""
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *SHORT]) == 0
    (written,) = tmp_path.iterdir()
    assert written.name.startswith(f"rumbuffer-bench-{time.localtime().tm_year}")
    assert f"written: {written.name}" in capsys.readouterr().out


# Comparing ------------------------------------------------------------------------------------------


def test_two_results_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--compare prints both with their ratio, and writes a page where one is asked for."""
    first, second, html = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "both.html"
    first.write_bytes(result().as_json())
    second.write_bytes(result(drained=4.0).as_json())
    assert main(["bench", "--compare", str(first), str(second)]) == 0
    assert "is clearly better or worse" in " ".join(capsys.readouterr().out.split())
    assert main(["bench", "--compare", str(first), str(second), "--html", str(html)]) == 0
    assert "two runs compared" in html.read_text()
    assert len(list(tmp_path.iterdir())) == 3


def test_files_that_cannot_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is missing, or that is no result, is named with what is wrong."""
    good, other = tmp_path / "a.json", tmp_path / "b.json"
    good.write_bytes(result().as_json())
    other.write_text("{}")
    assert main(["bench", "--compare", str(good), str(other)]) == 1
    assert "b.json is no result of rumbuffer bench: it has no member 'schema'" in capsys.readouterr().err
    assert main(["bench", "--compare", str(good), str(tmp_path / "c.json")]) == 1
    assert "No such file" in capsys.readouterr().err


# Mistakes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rate", "fast"], "'fast' is not a number of events a second"),
        (["--rate", "100..x"], "nor two of them (A..B)"),
        (["--rate", "0"], "0 is not a number of events a second from 0.001 on"),
        (["--rate", "nan"], "nan is not a number"),
        (["--session-events", "9..4"], "--session-events: must be a number of at least 9"),
        (["--size", "2000..200"], "--size: must be a number of at least 2000"),
        (["--size", "1.5"], "'1.5' is not a whole number of bytes"),
        (["--size", "7000"], "--oversize send lets larger events pass"),
        (["--quota", "many"], "'many' is neither a number of requests a second nor none"),
        (["--use", "1.5"], "--use: must be a finite number, above 0 and at most 1"),
        (["--linger", "-1"], "--linger: must be"),
        (["--group", "a b"], "--group: must be"),
        (["--retry-budget", "-1"], "--retry-budget: must be"),
        (["--sample-rate", "2"], "--sample-rate: must be"),
        (["--endpoint-url", "http://127.0.0.1:1"], "--endpoint-url needs --app-monitor"),
        (["--endpoint-url", "http://127.0.0.1:1", "--app-monitor", "x"], "--app-monitor: must be a UUID"),
        (["--endpoint-url", "nowhere", "--app-monitor", MONITOR], "--endpoint-url: must be a URL"),
        (["--app-monitor", MONITOR], "--app-monitor is for an endpoint"),
        (["--share"], "--share is for an endpoint"),
        (["--json", "/nowhere/a.json"], "/nowhere is no folder that can be written to"),
        (["--html", "/nowhere/a.html"], "/nowhere is no folder that can be written to"),
        (["--compare", "a.json", "b.json", "--rate", "5"], "--rate has no meaning beside it"),
        (["--compare", "a.json"], "requires 2 arguments"),
    ],
)
def test_mistakes_are_usage_errors(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistake ends with status 2 before anything runs, and names the option."""
    assert main(["bench", *arguments]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


AWS = "https://dataplane.rum.eu-west-1.amazonaws.com"


@pytest.mark.parametrize(
    "url", [AWS, "https://rum.cn-north-1.amazonaws.com.cn", "https://x.rum.us-east-1.api.aws"]
)
def test_aws_is_asked_for(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is sent to AWS without a yes; with nobody to ask, --yes must be given."""
    assert main(["bench", "--endpoint-url", url, "--app-monitor", MONITOR]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "cost money" in shown
    assert "--yes" in shown


@pytest.mark.parametrize(("answer", "runs"), [("y\n", True), ("n\n", False)])
def test_answer_decides(answer: str, runs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal the answer decides whether the load is sent."""
    import io

    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    ran: list[str] = []

    def run(main: Any, loop: str) -> Any:
        main.close()
        ran.append(loop)
        return result(), 0

    monkeypatch.setattr(bench_command, "_run_loop", run)
    status = main(["bench", "--endpoint-url", AWS, "--app-monitor", MONITOR, "--no-html"])
    assert (status, ran) == ((0, ["asyncio"]) if runs else (130, []))


def test_missing_plotly_is_said_before_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without plotly a report that is asked for is a mistake, and one that is not is left out with a word."""
    monkeypatch.setattr(page, "can_be_made", lambda: False)
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *SHORT, "--html", "a.html"]) == 2
    assert "pip install 'rumbuffer[cli,bench]'" in capsys.readouterr().err
    assert main(["bench", *SHORT]) == 0
    assert "pip install 'rumbuffer[cli,bench]'" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_missing_uvloop_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """--loop uvloop without uvloop says what to install."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert main(["bench", *SHORT, "--no-html", "--loop", "uvloop"]) == 2
    assert "rumbuffer[cli,uvloop]" in capsys.readouterr().err


def test_uvloop_is_used() -> None:
    """--loop uvloop runs on it, and the result says so."""
    pytest.importorskip("uvloop")
    arguments = command(*SHORT, "--no-html", "--loop", "uvloop", "--json", "-")
    run = subprocess.run(arguments, capture_output=True, check=False, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["versions"]["loop"] == "uvloop"


def test_every_setting_of_the_buffer_is_an_option() -> None:
    """A setting that the buffer gets has to get an option here; only --share is made of another kind."""
    for group in (Limits, Pacing, RetryPolicy):
        offered = {option.field for option in BUFFER_OPTIONS if option.group is group}
        assert offered | ({"share"} if group is Pacing else set()) == {field.name for field in fields(group)}


def test_warm_up_lasts_until_the_buffer_has_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default the warm-up is the linger and a turn of every session at the pace; at most a minute."""
    made: list[float] = []

    def run(settings: Any, options: Any, view: Any) -> Any:
        made.append(settings.load.warmup)
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_command, "_measured", run)
    for arguments in ([], ["--linger", "2", "--sessions", "80"], ["--sessions", "9999"], ["--quota", "none"]):
        assert main(["bench", "--no-html", *arguments]) == 130
    assert made == [13.0, 4.0, 60.0, 5.0]


def test_settings_reach_the_buffer() -> None:
    """Each option's value arrives in the setting that it is named for."""
    from rumbuffer.cli.bench_options import buffer_settings

    options = {option.parameter: option.default for option in BUFFER_OPTIONS}
    options |= {
        option.parameter: getattr(option.group(), option.field) for option in BUFFER_OPTIONS if option.group
    }
    options |= {"quota": "none", "linger": 1.5, "retry_budget": 0.5, "overflow": "shed_sessions"}
    made = buffer_settings(options, share=True)
    assert made["pacing"] == Pacing(quota=None, share="host")
    assert made["limits"] == Limits(linger=1.5)
    assert made["retry"] == RetryPolicy(budget=0.5)
    assert (str(made["overflow"]), made["sample_rate"]) == ("shed_sessions", 1.0)


def test_options_of_the_help_are_in_sections(capsys: pytest.CaptureFixture[str]) -> None:
    """The help has every option once, under its section."""
    assert main(["bench", "--help"]) == 0
    shown = capsys.readouterr().out
    places = [
        shown.index(text)
        for text in ("The load:", "The buffer:", "The service:", "The emulator", "What comes")
    ]
    assert places == sorted(places)
    assert shown.count("  --linger ") == shown.count("  --errors ") == shown.count("  --compare ") == 1
    assert shown.index("--help") > places[-1]
