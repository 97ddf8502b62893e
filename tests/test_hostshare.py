from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from rumbuffer.core.pace import Pace
from rumbuffer.core.pacing import QuotaPacer
from rumbuffer.hostshare import HostLedger, pacer_for, runtime_folder
from rumbuffer.settings import Pacing

RATE = 50.0

SENDER = textwrap.dedent("""
    import json, sys, time
    from rumbuffer.core.pacing import QuotaPacer
    from rumbuffer.hostshare import HostLedger

    rate, burst, start, end = map(float, sys.argv[1:])
    ledger = HostLedger("test", rate, burst)
    pacer = QuotaPacer(rate, burst, ledger)
    sent = []
    while (now := time.monotonic()) < end:
        slot = max(start, pacer.next_slot(now)) if now >= start else start
        if slot > now:
            time.sleep(min(slot, end) - now)
            continue
        pacer.take(now)
        sent.append(now)
    print(json.dumps([sent, ledger.is_shared]))
""")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime folder of the test's own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "rumbuffer"


def sender(start: float, end: float, burst: float = 0.0) -> subprocess.Popen[str]:
    """A process that always has something to send."""
    command = [sys.executable, "-c", SENDER, str(RATE), str(burst), str(start), str(end)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def sent_by(process: subprocess.Popen[str]) -> list[float]:
    """When it sent; it must have shared its pace."""
    output, _ = process.communicate(timeout=30)
    sent, is_shared = json.loads(output)
    assert is_shared
    return [float(moment) for moment in sent]


def pacer(ceiling: float = RATE, burst: float = 0.0, group: str = "test") -> tuple[QuotaPacer, HostLedger]:
    """A pacer of this process, with its ledger."""
    ledger = HostLedger(group, ceiling, burst)
    return QuotaPacer(ceiling, burst, ledger), ledger


def record_of(folder: Path, group: str = "test") -> Path:
    """The group's file."""
    return folder / f"pace-1-{group}"


def take(pacer: QuotaPacer) -> float:
    """Take the next slot, whenever it is, and return its time."""
    slot = pacer.next_slot(time.monotonic())
    pacer.take(slot)
    return slot


# Sharing --------------------------------------------------------------------------------------------


def test_processes_share_one_pace_fairly() -> None:
    """Four processes send together what one may, a quarter each, the start burst included."""
    start = time.monotonic() + 1.5
    end = start + 3.0
    processes = [sender(start, end, burst=10) for _ in range(4)]
    counts = [len(sent_by(process)) for process in processes]
    assert sum(counts) <= RATE * 3.0 + 10 + 3
    assert sum(counts) >= 0.6 * RATE * 3.0  # the machine may be busy
    assert sum(counts) ** 2 / (4 * sum(count**2 for count in counts)) > 0.85


def test_a_process_that_dies_frees_its_share_at_once() -> None:
    """The one that is left has the whole pace from then on."""
    start = time.monotonic() + 1.5
    survivor, victim = sender(start, start + 3.0), sender(start, start + 60.0)
    time.sleep(max(0.0, start + 1.5 - time.monotonic()))
    victim.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    victim.communicate()
    sent = sent_by(survivor)
    before = [moment for moment in sent if start + 0.2 <= moment < start + 1.4]
    after = [moment for moment in sent if moment >= killed + 0.1]
    assert len(before) / 1.2 < 0.7 * RATE
    assert len(after) / (start + 3.0 - killed - 0.1) > 0.6 * RATE


def test_a_cut_by_one_is_a_cut_for_all() -> None:
    """What one learns, the others know with their next slot."""
    (one, _), (other, _) = pacer(), pacer()
    take(one)
    take(other)
    now = time.monotonic()
    one.throttled(now, now, None, 0.0)
    assert one.rate < RATE
    other.next_slot(now + 1.0)
    assert other.rate == one.rate


def test_two_loops_of_one_process_exclude_each_other(folder: Path) -> None:
    """While one has the record, the other is told to ask again."""
    (_, one), (other, ledger) = pacer(), pacer()
    now = time.monotonic()
    assert one.begin(now) is not None
    assert other.next_slot(now) == pytest.approx(now + 0.001)
    one.commit()
    assert other.next_slot(now) == now
    assert ledger.is_shared


@pytest.mark.parametrize("ceiling", [1e-3, 1e6, 1e12])
def test_any_quota_can_be_shared(ceiling: float, caplog: pytest.LogCaptureFixture) -> None:
    """What a setting allows, however large for a benchmark's sake, is nothing strange to find in the file."""
    for _ in range(3):
        some, ledger = pacer(ceiling)
        take(some)
        assert ledger.is_shared
    assert not caplog.text


def test_groups_do_not_share() -> None:
    """Each has a file of its own."""
    (one, _), (other, _) = pacer(group="a"), pacer(group="b")
    now = time.monotonic()
    one.next_slot(now)
    one.throttled(now, now, None, 0.0)
    other.next_slot(now)
    assert other.rate == RATE


def test_a_forked_child_opens_its_own_file() -> None:
    """The parent's lock is not the child's: both take slots, none twice."""
    shared, ledger = pacer()
    take(shared)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps([take(shared) for _ in range(10)]).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    of_child = json.loads(os.read(reading, 10_000))
    os.close(reading)
    os.close(writing)
    of_parent = [take(shared) for _ in range(10)]
    assert ledger.is_shared
    assert len(of_child) == 10
    assert min(of_parent) > max(of_child) - 1.0 / RATE


def test_settings_choose_the_pacer(folder: Path) -> None:
    """Shared by default, private on demand; slow where the quota is unknown."""
    default = pacer_for(Pacing(group="mine"))
    default.next_slot(time.monotonic())
    assert default.rate == 40.0
    assert record_of(folder, "mine").exists()
    assert pacer_for(Pacing(quota=None, group="mine")).rate == 10.0
    pacer_for(Pacing(share=None, group="alone")).next_slot(0.0)
    assert not record_of(folder, "alone").exists()


# The file -------------------------------------------------------------------------------------------


def test_the_file_is_small_and_the_users_own(folder: Path) -> None:
    """Mode 0600 in a folder of mode 0700, whatever the umask."""
    before = os.umask(0)
    try:
        shared, _ = pacer()
        take(shared)
    finally:
        os.umask(before)
    assert stat.S_IMODE(record_of(folder).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert record_of(folder).stat().st_size < 200


def test_without_a_runtime_folder_the_temporary_one_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that bears the user's number."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for missing in ("", "relative", str(tmp_path / "gone")):
        monkeypatch.setenv("XDG_RUNTIME_DIR", missing)
        assert runtime_folder() == tmp_path / f"rumbuffer-{os.geteuid()}"
    shared, ledger = pacer()
    take(shared)
    assert ledger.is_shared
    assert record_of(tmp_path / f"rumbuffer-{os.geteuid()}").exists()


def falls_back(caplog: pytest.LogCaptureFixture) -> str:
    """Check that a pacer paces and learns by itself, and return its one warning."""
    shared, ledger = pacer()
    with caplog.at_level(logging.WARNING, "rumbuffer"):
        slots = [take(shared) for _ in range(20)]
    assert not ledger.is_shared
    assert slots[-1] - slots[0] == pytest.approx(18 / RATE, rel=0.1)
    now = slots[-1] + 1.0
    shared.throttled(now, now, None, 0.0)
    assert shared.rate < RATE
    (warning,) = caplog.messages
    return warning


@pytest.mark.parametrize("content", [b"x", b"x" * 4096, b"\0" * 124])
def test_a_corrupt_file_is_removed_and_not_used(
    folder: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The process learns by itself, and those that start later share again."""
    folder.mkdir(mode=0o700)
    record_of(folder).write_bytes(content)
    record_of(folder).chmod(0o600)
    assert "corrupt" in falls_back(caplog)
    shared, ledger = pacer()
    take(shared)
    assert ledger.is_shared


def test_a_record_of_nonsense_is_removed_and_not_used(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A checksum does not make a rate of nothing a rate."""
    ledger = HostLedger("test", RATE, 0.0)
    pace = ledger.begin(time.monotonic())
    assert pace is not None
    pace.rate = math.nan
    ledger.commit()
    assert "makes no sense" in falls_back(caplog)


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o606])
def test_a_file_that_others_may_open_is_not_used(
    folder: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody else could stop us with it."""
    folder.mkdir(mode=0o700)
    record_of(folder).touch()
    record_of(folder).chmod(mode)
    assert "others may open it" in falls_back(caplog)


def test_a_folder_that_others_may_open_is_not_used(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same for the folder."""
    folder.mkdir()
    folder.chmod(0o777)
    assert "others may open it" in falls_back(caplog)


def test_another_users_folder_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the temporary folder anybody can make a folder with our name."""
    real = os.geteuid()
    monkeypatch.setattr("rumbuffer.hostshare.os.geteuid", lambda: real + 1)
    assert "belongs to another user" in falls_back(caplog)


@pytest.mark.parametrize("kind", ["link", "folder link", "pipe", "folder"])
def test_what_is_no_plain_file_is_not_used(
    folder: Path, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No symbolic link is followed, and nothing blocks."""
    target = tmp_path / "target"
    if kind == "folder link":
        target.mkdir(mode=0o700)
        folder.symlink_to(target)
    else:
        folder.mkdir(mode=0o700)
        if kind == "link":
            target.touch(mode=0o600)
            record_of(folder).symlink_to(target)
        elif kind == "pipe":
            os.mkfifo(record_of(folder), mode=0o600)
        else:
            record_of(folder).mkdir(mode=0o700)
    assert "cannot share its pace" in falls_back(caplog)
    assert not target.exists() or target.is_dir() or target.read_bytes() == b""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A container's read-only file system, for example."""
    tmp_path.chmod(0o500)
    try:
        falls_back(caplog)
    finally:
        tmp_path.chmod(0o700)


def test_a_disk_that_fails_ends_the_sharing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With what was known until then."""

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rumbuffer.hostshare.os.pwrite", fail)
    assert "No space left" in falls_back(caplog)


def test_a_file_that_was_cleaned_away_is_made_anew(folder: Path) -> None:
    """A cleaner of temporary files must not split the processes into two camps."""
    (one, first), (other, _) = pacer(), pacer()
    take(one)
    now = time.monotonic()
    one.throttled(now, now, None, 0.0)
    record_of(folder).unlink()
    one.next_slot(now + 1.0)
    other.next_slot(now + 1.0)
    assert first.is_shared
    assert record_of(folder).exists()
    assert other.rate == one.rate < RATE


# Locks and clocks -----------------------------------------------------------------------------------


def test_a_lock_that_is_never_released_ends_the_sharing(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its holder was stopped in the very moment; a second later we go on alone."""
    shared, ledger = pacer()
    take(shared)
    with record_of(folder).open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        now = time.monotonic()
        assert shared.next_slot(now) == pytest.approx(now + 0.001)
        assert shared.next_slot(now + 0.9) == pytest.approx(now + 0.901)
        assert "shared" in repr(ledger)
        assert shared.next_slot(now + 1.1) == pytest.approx(now + 1.1)
        assert not ledger.is_shared
    assert "kept it locked" in caplog.text


def test_a_clock_that_is_not_the_hosts_is_not_shared(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A simulated loop keeps its own time; its pace is its own, and that is no fault."""
    shared, ledger = pacer()
    assert shared.next_slot(5.0) == 5.0
    assert not ledger.is_shared
    assert not folder.exists()
    assert not caplog.messages


def leave_a_record(**changes: float) -> None:
    """Write a record as somebody left it."""
    ledger = HostLedger("test", RATE, 0.0)
    pace = ledger.begin(time.monotonic())
    assert pace is not None
    for field, value in changes.items():
        setattr(pace, field, value)
    ledger.commit()
    ledger.close()


def test_what_was_learned_holds_for_a_process_that_comes_while_others_send() -> None:
    """A restarted worker begins at the pace of the others."""
    leave_a_record(rate=7.0, used_at=time.monotonic() - 30.0)
    shared, _ = pacer()
    shared.next_slot(time.monotonic())
    assert shared.rate == 7.0


def test_a_record_that_nobody_used_for_a_minute_is_begun_anew() -> None:
    """What was learned then says little about now."""
    leave_a_record(rate=7.0, used_at=time.monotonic() - 61.0)
    shared, _ = pacer()
    shared.next_slot(time.monotonic())
    assert shared.rate == RATE


def test_a_record_from_before_a_reboot_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its times are another clock's."""
    leave_a_record(rate=7.0, used_at=time.monotonic(), due=time.monotonic() + 1e6)
    monkeypatch.setattr("rumbuffer.hostshare._known_boot_id", [b"another boot id!"])
    shared, _ = pacer()
    now = time.monotonic()
    assert shared.next_slot(now) == now
    assert shared.rate == RATE


def test_without_boot_ids_times_that_make_no_sense_tell_of_a_reboot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record from the future is none."""
    monkeypatch.setattr("rumbuffer.hostshare.Path.read_text", lambda *_, **__: "no hexadecimal number")
    monkeypatch.setattr("rumbuffer.hostshare._known_boot_id", [])
    leave_a_record(rate=7.0, used_at=time.monotonic() + 1e5, due=time.monotonic() + 1e5)
    shared, _ = pacer()
    now = time.monotonic()
    assert shared.next_slot(now) == now


def test_a_ledger_says_what_it_is() -> None:
    """In a log or a debugger; closing twice is nothing, and the next use opens it again."""
    ledger = HostLedger("web", math.inf, 10.0)
    assert repr(ledger) == "<HostLedger 'web' shared>"
    now = time.monotonic()
    for _ in range(2):
        assert isinstance(ledger.begin(now), Pace)
        ledger.commit()
        ledger.close()
        ledger.close()
    ledger.commit()
