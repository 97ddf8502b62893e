"""`rumbuffer demo`: its visitors, its accounts, its view, and short runs of the whole."""

from __future__ import annotations

import io
import json
import os
import pty
import random
import re
import signal
import subprocess
import sys
import termios
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from rumbuffer import AppMonitor, RumBuffer
from rumbuffer.cli.demo.accounts import Ledger, Verdict
from rumbuffer.cli.demo.run import Finished, Moment
from rumbuffer.cli.demo.service import ServiceGone, isolated_environment, service
from rumbuffer.cli.demo.view import Lines, LiveView, Meter, summary
from rumbuffer.cli.demo.visitors import Visitors
from rumbuffer.cli.recorded import RecordedEvent, recorded_requests, recorded_sessions

STATS = RumBuffer(AppMonitor("8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11")).stats()
EVENT = RecordedEvent("a.b", '{"n":1}', None)
CLEAN = Verdict(
    accepted=3,
    stored=3,
    missing=0,
    unexpected=0,
    altered=0,
    in_two_batches=0,
    repeated_batches=1,
    conflicting_batches=0,
)


def visitors(rate: float = 20.0, seconds: float = 30.0) -> Visitors:
    """Visitors with known randomness."""
    return Visitors(recorded_sessions(), rate, seconds, random.Random(1))


def stored(*events: str, session: str = "s", details: str = EVENT.details, **batch: int) -> dict[str, Any]:
    """A batch in the emulator's form."""
    described = [{"id": event, "type": EVENT.type, "details": details, "metadata": None} for event in events]
    return {"session_id": session, "events": described, "repeats": 0, "conflicts": 0, **batch}


def moment(now: float, **changes: Any) -> Moment:
    """A moment; changes that it has no name for are the statistics'."""
    of_moment = {name: changes.pop(name) for name in list(changes) if name in Moment.__slots__}
    settings: dict[str, Any] = {
        "now": now,
        "seconds": 20.0,
        "phase": "traffic",
        "squeezed": False,
        "visitors": 1234,
        "present": 56,
        "stats": replace(STATS, **changes),
        "service": {"faults": {"ok": 90, "500": 3, "store then 500": 2}, "repeated": 2},
        "endpoint_url": "http://127.0.0.1:12345",
        **of_moment,
    }
    return Moment(**settings)


def finished(verdict: Verdict = CLEAN, **changes: Any) -> Finished:
    """The end of a run."""
    stats = replace(STATS, offered=3, accepted=3, delivered=3, requests=2, batches_delivered=1)
    settings: dict[str, Any] = {
        "seconds": 2.0,
        "drained": 0.5,
        "lengths": [2, 1],
        "stats": stats,
        "service": {"faults": {"store then 500": 1}},
        "verdict": verdict,
        **changes,
    }
    return Finished(**settings)


# The data -------------------------------------------------------------------------------------------


def test_package_holds_the_recording() -> None:
    """The package's data are the 84 requests with 718 events in 12 sessions."""
    assert len(recorded_requests()) == 84
    sessions = recorded_sessions()
    assert (len(sessions), sum(len(session.events) for session in sessions)) == (12, 718)
    assert all(session.attributes for session in sessions)


# Visitors -------------------------------------------------------------------------------------------


def test_sessions_are_heavy_tailed() -> None:
    """Half of the visits have a handful of events, and some have hundreds."""
    crowd = visitors(rate=100.0)
    sent = sum(1 for _ in crowd.due(30.0))
    lengths = sorted(visit.length for visit in crowd.visits)
    assert crowd.total == len(lengths)
    assert 2700 < crowd.total < 3300
    assert lengths[len(lengths) // 2] <= 10
    assert lengths[-1] >= 300
    assert sent == sum(visit.sent for visit in crowd.visits)


def test_visits_replay_a_recorded_session() -> None:
    """A visit sends a recorded session's events in their order, over again if need be, and starts once."""
    crowd = visitors()
    by_visit: dict[str, list[RecordedEvent]] = {}
    for visit, event in crowd.due(30.0):
        by_visit.setdefault(visit.session.id, []).append(event)
    assert len(by_visit) == crowd.total
    longest = max(by_visit.values(), key=len)
    assert len(longest) > 76
    assert sum(event.type == "com.amazon.rum.session_start_event" for event in longest) == 1
    scripts = {session.events for session in recorded_sessions()}
    for events in by_visit.values():
        assert any(events[:46] == list(script[: len(events)][:46]) for script in scripts)


def test_visitors_come_at_their_own_pace() -> None:
    """What was due is the same whether one looks often or once, and nothing is due after the end."""
    often, once = visitors(), visitors()
    looked = [event for tenth in range(1, 400) for _, event in often.due(tenth / 10)]
    assert Counter(looked) == Counter(event for _, event in once.due(1000.0))
    assert list(often.due(1000.0)) == []
    assert often.present <= often.total


# The accounts ---------------------------------------------------------------------------------------


def ledger() -> Ledger:
    """Three accepted events in one session."""
    book = Ledger()
    for event_id in ("1", "2", "3"):
        book.note(event_id, "s", EVENT)
    return book


def test_accounts_are_clean_when_all_is_there() -> None:
    """All accepted events stored once, and a whole batch repeated: clean."""
    verdict = ledger().compare([stored("1", "2", repeats=1), stored("3")])
    assert verdict == CLEAN
    assert verdict.clean


@pytest.mark.parametrize(
    ("batches", "found"),
    [
        ([stored("1", "2")], {"missing": 1, "stored": 2}),
        ([stored("1", "2", "3", "4")], {"unexpected": 1, "stored": 4}),
        ([stored("1", "2"), stored("3", details="{}")], {"altered": 1}),
        ([stored("1", "2"), stored("3", session="t")], {"altered": 1}),
        ([stored("1", "2", "3"), stored("3")], {"in_two_batches": 1}),
        ([stored("1", "2", "3", repeats=1, conflicts=1)], {"conflicting_batches": 1}),
    ],
    ids=["missing", "unexpected", "other details", "other session", "in two batches", "other body"],
)
def test_accounts_show_what_is_wrong(batches: list[dict[str, Any]], found: dict[str, int]) -> None:
    """Whatever differs from what was accepted is counted under its name, and is not clean."""
    verdict = ledger().compare(batches)
    assert not verdict.clean
    assert {name: verdict.as_dict()[name] for name in found} == found


@pytest.mark.parametrize(
    "wrong",
    [
        {"verdict": replace(CLEAN, missing=1)},
        {"verdict": replace(CLEAN, accepted=4)},
        {"stats": replace(STATS, offered=3, accepted=3, delivered=2, pending=1)},
        {"stats": replace(STATS, offered=4, accepted=3, delivered=3)},
    ],
    ids=["an event is missing", "other number accepted", "not all delivered", "an offered event uncounted"],
)
def test_run_is_ok_only_if_all_books_agree(wrong: dict[str, Any]) -> None:
    """One thing wrong, in the comparison or in the buffer's own counters, and the run is not ok."""
    assert finished().ok
    assert not finished(**wrong).ok


# The view -------------------------------------------------------------------------------------------


def test_meter_measures_over_the_last_seconds() -> None:
    """Rates are of the last two seconds, and the fill is of the batches delivered in them."""
    meter = Meter()
    for second in range(10):
        counts = {"accepted": second**2, "delivered": second * 30, "batches_delivered": second * 2}
        meter.add(moment(float(second), **counts))
    assert meter.rate("accepted") == (81 - 49) / 2
    assert meter.fill == 15
    assert list(meter.trend("delivered")) == [0.0] + [30.0] * 9


def drawn(view_of: Moment, *, width: int = 80, encoding: str = "utf-8") -> str:
    """The live view as text."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, force_terminal=False)
    view = LiveView(console)
    for second in range(30):
        view.show(replace(view_of, now=float(second), stats=replace(view_of.stats, accepted=second * second)))
    console.print(view.render(view_of))
    file.flush()
    return file.buffer.getvalue().decode(encoding)


def test_view_fits_a_small_terminal() -> None:
    """At 80 × 24, with large numbers, no line is cut or wrapped and all are seen."""
    large = moment(
        60.0,
        squeezed=True,
        pending=1_234_567,
        accepted=98_765_432,
        delivered=98_765_432,
        batches_delivered=987_654,
        throttled=123_456,
        failures=123_456,
    )
    lines = drawn(large).splitlines()
    assert len(lines) <= 22
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert "…" not in "".join(lines)
    assert [line for line in drawn(large, width=200).splitlines() if line.strip()] != []
    assert len(drawn(large, width=200).splitlines()) == len(lines)


def test_view_needs_no_unicode() -> None:
    """In a terminal that knows ASCII alone the view and the summary are ASCII."""
    assert "1,234 visitors" in drawn(moment(5.0), encoding="ascii")
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"), width=80)
    console.print(summary(finished()))


def test_view_says_what_goes_on() -> None:
    """The view names the phase, and the cut of the quota while it lasts."""
    assert "5 s of 20 s of traffic" in drawn(moment(5.0))
    assert "half of the quota" in drawn(moment(5.0, squeezed=True))
    assert "half of the quota" not in drawn(moment(5.0))
    assert "7 s of delivering the rest" in drawn(moment(27.0, phase="draining"))


def test_lines_come_every_few_seconds() -> None:
    """Without the live view there is one line in five seconds, whole however narrow the output is."""
    file = io.StringIO()
    with Lines(Console(file=file, width=40)) as lines:
        for quarter in range(81):
            lines.show(moment(quarter / 4))
    first, *later = file.getvalue().splitlines()
    assert "http://127.0.0.1:12345/" in first
    assert [line.split()[0] for line in later] == ["5", "10", "15", "20"]
    assert all("1,234 visitors" in line and line.endswith("failed") for line in later)


def test_summary_says_plainly_whether_all_arrived() -> None:
    """The summary begins with the verdict, and gives the counts that it rests on."""
    file = io.StringIO()
    console = Console(file=file, width=80)
    console.print(summary(finished()))
    assert file.getvalue().startswith("Every accepted event arrived")
    console.print(summary(finished(replace(CLEAN, missing=2))))
    assert "NOT every accepted event arrived" in file.getvalue()
    assert "2 missing" in file.getvalue()


# The surroundings -----------------------------------------------------------------------------------


def test_settings_of_the_user_are_left_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside, the user's AWS settings, rumbuffer's and proxies are not seen; afterwards all are back."""
    mine = {
        "AWS_PROFILE": "production",
        "RUMBUFFER_QUOTA": "1",
        "HTTPS_PROXY": "http://p",
        "http_proxy": "http://p",
    }
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with isolated_environment():
        assert mine.keys() & os.environ.keys() == set()
        assert os.environ["AWS_CONFIG_FILE"] == os.devnull
        os.environ["AWS_ACCESS_KEY_ID"] = "X"
    assert dict(os.environ) == before


async def test_emulator_that_does_not_start_is_explained(capfd: pytest.CaptureFixture[str]) -> None:
    """Where the emulator does not start, what it says is seen and the error names it."""
    with pytest.raises(ServiceGone, match="did not start"):
        async with service(["--nonsense"]):
            pass
    assert "--nonsense" in capfd.readouterr().err


async def test_emulator_that_has_gone_is_explained() -> None:
    """Asking an emulator that ended raises an error of the demo's, not of its HTTP client."""
    async with service([]) as emulator:
        assert (await emulator.stats())["requests"]["received"] == 0
        gone = replace(emulator, endpoint_url="http://127.0.0.1:1")
        with pytest.raises(ServiceGone, match="does not answer"):
            await gone.stats()


# The whole ------------------------------------------------------------------------------------------


def command(*arguments: str) -> list[str]:
    """The demo's command line."""
    return [sys.executable, "-m", "rumbuffer", "demo", *arguments]


def test_demo_delivers_everything() -> None:
    """A short run with faults ends with status 0, and its JSON says that each accepted event arrived.

    Settings that would lead elsewhere do it no harm.
    """
    misleading = {
        "AWS_PROFILE": "nonexistent",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "HTTP_PROXY": "http://127.0.0.1:1",
    }
    run = subprocess.run(
        command("--seconds", "2", "--json"),
        env=os.environ | misleading,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["ok"]
    arrived, counts = report["arrived"], report["buffer"]
    assert arrived["accepted"] == arrived["stored"] == counts["delivered"] > 0
    assert report["visitors"] > 30
    assert report["service"]["conflicting"] == 0


def in_terminal(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run the demo in a terminal of 80 × 24; the exit status and what the terminal was sent."""
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    with subprocess.Popen(
        command("--seconds", "0.5", *arguments),
        env=os.environ | {"TERM": "xterm-256color"} | environment,
        stdout=terminal,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        shown = b""
        with suppress(OSError):  # how Linux says that the other side has closed
            while piece := os.read(master, 65536):
                shown += piece
        os.close(master)
    return process.returncode, shown.decode()


CURSOR_UP = "\x1b[1A"
COLOURS = re.compile(r"\x1b\[[\d;]*3[0-7][\d;]*m")


def test_terminal_shows_the_live_view() -> None:
    """In a terminal the view is drawn in place and in colours, and the summary follows."""
    status, shown = in_terminal()
    assert status == 0
    assert "s of 0.5 s of traffic" in shown
    assert CURSOR_UP in shown
    assert COLOURS.search(shown)
    assert "Every accepted event arrived" in shown


def test_terminal_without_live_view_and_colours() -> None:
    """With --no-live and NO_COLOR a terminal gets lines and no colours."""
    status, shown = in_terminal("--no-live", NO_COLOR="1")
    assert status == 0
    assert "what arrives is shown at" in shown
    assert CURSOR_UP not in shown
    assert not COLOURS.search(shown)


def test_demo_fails_if_not_all_arrived(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One event that was accepted and is not there makes the exit status 1."""
    from rumbuffer.cli import main

    compare = Ledger.compare

    def compare_all_but_one(book: Ledger, batches: list[dict[str, Any]]) -> Verdict:
        batches[0]["events"].pop()
        return compare(book, batches)

    monkeypatch.setattr(Ledger, "compare", compare_all_but_one)
    assert main(["demo", "--seconds", "0.5"]) == 1
    shown = capsys.readouterr().out
    assert "NOT every accepted event arrived" in shown
    assert "1 missing" in shown


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_demo_ends_at_once_when_it_is_interrupted(number: signal.Signals, status: int) -> None:
    """Ctrl-C and SIGTERM end it within seconds, without a traceback, saying what was reached."""
    with subprocess.Popen(
        command("--seconds", "600"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "what arrives is shown at" in process.stdout.readline()
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == status
    assert errors.startswith("Interrupted: ")
    assert "Traceback" not in errors


def test_demo_survives_a_reader_that_goes_away() -> None:
    """When what it prints to is closed it ends, without a traceback."""
    with subprocess.Popen(
        command("--seconds", "600"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=20) == 1
        assert process.stderr.read() == ""
