"""`rumbuffer send` as a user runs it: a process, an emulator behind a socket, signals, exit statuses."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import pty
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click
import pytest

from rumbuffer.cli import main
from rumbuffer.emulator import Emulator, Faults, ReceivedEvent
from tests.cli.send.helpers import journal, line_of, rejects, write
from tests.fakes import MONITOR, uuid_of

ROOT = Path(__file__).parents[3]
QUICK = ("--quota", "10000", "--use", "1", "--linger", "0.1")


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """A service whose quota is never reached."""
    async with Emulator(quota=None) as running:
        yield running


def _environment(emulator: Emulator) -> dict[str, str]:
    """Return what the command finds around it: no variable of the tests' own, of which it would warn."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUMBUFFER_")}
    return kept | emulator.environment() | {"PYTHONPATH": str(ROOT)}


async def started(
    emulator: Emulator, *arguments: object, monitor: str = MONITOR.id, **streams: Any
) -> asyncio.subprocess.Process:
    """The command, under way."""
    environment = _environment(emulator) | {"RUMBUFFER_APP_MONITOR_ID": monitor}
    streams = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE, **streams}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "rumbuffer", "send", *QUICK, *map(str, arguments)),
        env=environment,
        **streams,
    )


async def ended(process: asyncio.subprocess.Process, text: bytes | None = None) -> tuple[int, str, str]:
    """Its exit status, what it printed, and what it said on stderr."""
    async with asyncio.timeout(50):
        out, errors = await process.communicate(text)
    assert process.returncode is not None
    assert b"Traceback" not in errors, errors.decode()
    return process.returncode, out.decode(), errors.decode()


async def run(
    emulator: Emulator, *arguments: object, text: bytes | None = None, **more: Any
) -> tuple[int, str, str]:
    """Run it to its end."""
    if text is not None:
        more["stdin"] = asyncio.subprocess.PIPE
    return await ended(await started(emulator, *arguments, **more), text)


def seen(emulator: Emulator) -> dict[int, set[tuple[str | None, ReceivedEvent]]]:
    """All forms in which each line's event arrived, its session included."""
    forms: dict[int, set[tuple[str | None, ReceivedEvent]]] = {}
    for batch in emulator.batches:
        for event in batch.events:
            forms.setdefault(json.loads(event.details)["n"], set()).add((batch.session_id, event))
    return forms


async def test_sends_a_file(emulator: Emulator, tmp_path: Path) -> None:
    """All lines arrive, the totals are printed, the status is 0; a second time there is nothing to do."""
    file = write(tmp_path / "a", (line_of(number) for number in range(1_000)))
    status, out, errors = await run(emulator, file)
    assert (status, out, errors) == (0, "1,000 lines: 1,000 events delivered, 0 rejected.\n", "")
    assert sorted(seen(emulator)) == list(range(1_000))
    assert emulator.requests.accepted < 60
    status, out, _ = await run(emulator, file)
    assert status == 0
    assert "nothing new" in out
    assert emulator.requests.events == 1_000


async def test_one_line_is_told_in_the_singular(emulator: Emulator, tmp_path: Path) -> None:
    """The totals of a file with one line count one line and one event."""
    status, out, _ = await run(emulator, write(tmp_path / "a", [line_of(1)]))
    assert (status, out) == (0, "1 line: 1 event delivered, 0 rejected.\n")


@pytest.mark.timeout(120)
async def test_killed_in_the_middle_and_gone_on(emulator: Emulator, tmp_path: Path) -> None:
    """After SIGKILL the same command delivers the rest: no event is lost, and none differs when repeated."""
    lines = [line_of(number, sessions=200) for number in range(5_000)]
    file = write(tmp_path / "a", [b"bad", *lines])
    emulator.faults = Faults(latency=0.2)
    process = await started(emulator, file, "--max-in-flight", "2")
    await emulator.until(lambda emulator: emulator.requests.events > 500, timeout=40)
    process.kill()
    await process.communicate()
    assert process.returncode == -signal.SIGKILL
    in_the_middle = emulator.requests.events
    assert 500 < in_the_middle < 5_000
    assert not journal(file).done
    emulator.faults = Faults()
    status, out, _ = await run(emulator, file, "--json")
    assert status == 1  # for the bad line
    found = seen(emulator)
    assert sorted(found) == list(range(5_000))
    assert [number for number, forms in found.items() if len(forms) != 1] == []
    repeated = emulator.requests.events - 5_000
    totals = json.loads(out)
    assert (totals["lines"], totals["delivered"], totals["rejected"]) == (5_001, 5_000, 1)
    assert 0 <= repeated <= totals["repeated"] <= 5_000
    assert [entry["line"] for entry in rejects(file)] == [1]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_ctrl_c(number: signal.Signals, status: int, emulator: Emulator, tmp_path: Path) -> None:
    """It ends soon, saves how far it is, says how to go on; then nothing arrives twice."""
    file = write(tmp_path / "a", (line_of(number, sessions=200) for number in range(5_000)))
    emulator.faults = Faults(latency=0.2)
    process = await started(emulator, file, "--max-in-flight", "2")
    await emulator.until(lambda emulator: emulator.requests.events > 100, timeout=40)
    process.send_signal(number)
    got, out, errors = await ended(process)
    assert got == status
    assert "Stopped (" in out
    assert "The same command goes on from there." in out
    assert "lost" not in errors
    assert journal(file).totals.delivered == emulator.requests.events < 5_000
    emulator.faults = Faults()
    got, out, _ = await run(emulator, file)
    assert got == 0
    assert sorted(seen(emulator)) == list(range(5_000))
    assert emulator.requests.events == 5_000


async def test_standard_input(emulator: Emulator, tmp_path: Path) -> None:
    """It is read plain or compressed; with a journal that is named it goes on where it was."""
    lines = [line_of(number) for number in range(100)]
    text = b"\n".join(lines) + b"\n"
    status, out, _ = await run(emulator, "-", text=gzip.compress(text), cwd=tmp_path)
    assert (status, out) == (0, "100 lines: 100 events delivered, 0 rejected.\n")
    assert list(tmp_path.glob("*journal*")) == []
    for upto, total in ((50, 150), (100, 200)):
        given = b"\n".join(lines[:upto]) + b"\n"
        status, _, _ = await run(emulator, "-", "--journal", tmp_path / "j", text=given)
        assert status == 0
        assert emulator.requests.events == total
    status, _, errors = await run(emulator, "-", "--journal", tmp_path / "j", text=b"{}\n")
    assert status == 2
    assert "--restart" in errors


async def test_waiting_input_can_be_interrupted(emulator: Emulator, tmp_path: Path) -> None:
    """Ctrl-C ends it while a pipe is open and silent; what came is delivered before, as it came."""
    process = await started(emulator, "-", stdin=asyncio.subprocess.PIPE, cwd=tmp_path)
    assert process.stdin is not None
    process.stdin.write(line_of(1) + b"\n")
    await emulator.until(lambda emulator: emulator.requests.events == 1, timeout=40)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(20):
        assert await process.wait() == 130
    assert process.stdout is not None
    assert "no journal to go on from" in (await process.stdout.read()).decode()
    process.stdin.close()


async def test_losses_are_status_1(emulator: Emulator, tmp_path: Path) -> None:
    """Rejected lines and dead letters are counted, and the file that says why is named."""
    emulator.service.refuse_event = lambda event: '"n":3}' in event.details
    file = write(tmp_path / "a", [b"bad", *(line_of(number) for number in range(10))])
    status, out, _ = await run(emulator, file)
    assert status == 1
    assert "11 lines: 9 events delivered, 1 rejected, 1 dead-lettered (invalid).\n" in out
    assert f"the reasons are in {file}.rumbuffer-rejects" in out
    assert [entry["line"] for entry in rejects(file)] == [1, 5]


async def test_quiet(emulator: Emulator, tmp_path: Path) -> None:
    """With --quiet nothing is printed when all went well, and the totals on stderr when not."""
    file = write(tmp_path / "a", [line_of(1)])
    assert await run(emulator, "--quiet", file) == (0, "", "")
    write(tmp_path / "b", [b"bad"])
    status, out, errors = await run(emulator, "-q", tmp_path / "b")
    assert (status, out) == (1, "")
    assert "1 rejected" in errors


async def test_wrong_settings_hold_and_are_said(emulator: Emulator, tmp_path: Path) -> None:
    """An app monitor that the service does not know is named on stderr, and given up after the time."""
    emulator.service.app_monitors = {MONITOR.id}
    file = write(tmp_path / "a", [line_of(1)])
    status, out, errors = await run(emulator, file, "--give-up", "1", monitor=uuid_of(5))
    assert status == 1
    assert "Stopped (nothing was delivered for 1 s)" in out
    assert f"rumbuffer holds app monitor {uuid_of(5)}: ResourceNotFoundException" in errors


async def test_lines_for_a_pipe_and_a_bar_for_a_terminal(emulator: Emulator, tmp_path: Path) -> None:
    """On a terminal there is a bar with the rate and the remaining time, in colour; in a pipe plain lines."""
    file = write(tmp_path / "a", (line_of(number, sessions=300) for number in range(3_000)))
    emulator.faults = Faults(latency=0.05)
    ours, theirs = pty.openpty()
    environment = _environment(emulator)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rumbuffer", "send", *QUICK, "--max-in-flight", "4", str(file)),
        *("--app-monitor-id", MONITOR.id),
        env={**environment, "TERM": "xterm", "COLUMNS": "120"},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    shown = await asyncio.to_thread(read_terminal, ours)
    assert await process.wait() == 0
    assert "\x1b[" in shown
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(r"\d+% .* lines read, [\d,]+ events delivered, [\d,]+/s, \d+ (s|min) left", plain), plain


def read_terminal(descriptor: int) -> str:
    """What was drawn, until the program ends."""
    shown = b""
    while True:
        try:
            shown += os.read(descriptor, 65536)
        except OSError:
            os.close(descriptor)
            return shown.decode()


A, B = uuid_of(1), uuid_of(2)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "Missing argument"),
        (["nowhere"], "nowhere: No such file or directory"),
        (["a", "nowhere"], "nowhere: No such file or directory"),
        (["."], "is a directory"),
        (["a", "a"], "different files"),
        (["a", "-"], "by itself"),
        (["a", "b", "--journal", "j"], "--journal is for one FILE"),
        (["a", "b", "--rejects", "r"], "--rejects is for one FILE"),
        (["a", "--rejects", "a"], "different files"),
        (["a", "--journal", "./a"], "different files"),
        (["a", "--journal", "j", "--rejects", "j"], "different files"),
        (["a", "--no-journal", "--restart"], "--no-journal"),
        (["a", "--session-id", A, "--new-session"], "--new-session"),
        (["a", "--user-id", A], "--session-id"),
        (["a", "--app-monitor-version", "1"], "--app-monitor-id"),
        (["a", "--app-monitor-id", "x"], "--app-monitor-id: must be a UUID"),
        (["a", "--session-id", "x"], "--session-id: must be a UUID"),
        (["a", "--quota", "many"], "--quota"),
        (["a", "--quota", "0"], "quota: must be a finite number"),
        (["a", "--use", "2"], "use: must be"),
        (["a", "--max-pending-bytes", "1"], "--max-pending-bytes: must be at least"),
        (["a", "--journal", "none/j"], "cannot write the journal"),
        (["a", "--journal", "/dev/null"], "no regular file"),
        (["a", "--journal", "b"], "no journal"),
    ],
)
def test_usage(
    arguments: list[str],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What cannot work is said in a line, with status 2, before anything is sent or written."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write(tmp_path / name, [line_of(1)])
    assert main(["send", *arguments]) == 2
    shown = capsys.readouterr().err
    assert text in shown
    assert "Traceback" not in shown
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["a", "b"]
    assert (tmp_path / "b").read_bytes() == line_of(1) + b"\n"


def test_unreadable_setting_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The variable is named."""
    monkeypatch.setenv("RUMBUFFER_LINGER", "soon")
    assert main(["send", str(write(tmp_path / "a", [line_of(1)]))]) == 2
    assert "RUMBUFFER_LINGER" in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The help shows a line of the format and a first command; every option says what it is for."""
    from rumbuffer.cli.root import root

    assert main(["send", "--help"]) == 0
    shown = capsys.readouterr().out
    assert '{"type": "com.example.search"' in shown
    assert "rumbuffer emulator" in shown
    assert "\n  Exit status: 0 all delivered;" in shown
    assert "\\b" not in shown
    options = [option for option in root.commands["send"].params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help] == []


async def test_a_pattern_that_names_its_own_files_too(emulator: Emulator, tmp_path: Path) -> None:
    """`send FOLDER/*` given again sends neither journals nor reject files."""
    file = write(tmp_path / "events.ndjson", [line_of(1), b"{"])
    status, _, _ = await run(emulator, file)
    assert status == 1
    names = sorted(tmp_path.glob("events*"))
    assert len(names) == 3
    status, out, errors = await run(emulator, *names)
    assert (status, errors) == (0, "")
    assert "nothing new" in out
    assert sorted(tmp_path.glob("events*")) == names


def test_its_own_file_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """A reject file that is named alone is not sent, and what to do is said."""
    assert main(["send", "events.ndjson.rumbuffer-rejects"]) == 2
    assert "rename it" in capsys.readouterr().err
