"""The journal's file: whole at every moment, and one process's at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rumbuffer.cli.send.journal import Bookmark, Journal, JournalError, Mark, Totals

BOOKMARK = Bookmark(
    "f",
    1.5,
    {"session": None},
    Mark(3, 30, 10, 5),
    b"\0\1\1",
    20,
    (9, 7),
    Totals(5, 1, 3, 1, {"invalid": 2}, 4),
    100,
    1,
    done=True,
)


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_round_trip(tmp_path: Path) -> None:
    """What is saved is what is read."""
    journal = Journal(tmp_path / "j", 0o640)
    assert journal.read() is None
    journal.save(BOOKMARK)
    assert journal.read() == BOOKMARK
    journal.save(Bookmark("g", 0.0, {}))
    assert journal.read() == Bookmark("g", 0.0, {})
    journal.close()
    assert names(tmp_path) == ["j"]
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o640


def test_empty_journal_leaves_nothing_behind(tmp_path: Path) -> None:
    """One that was never saved is removed."""
    Journal(tmp_path / "j", 0o600).close()
    assert names(tmp_path) == []


def test_it_is_locked_whatever_was_saved_meanwhile(tmp_path: Path) -> None:
    """A second process is refused, also after the file was replaced; not any more after the close."""
    journal = Journal(tmp_path / "j", 0o600)
    for _ in range(3):
        with pytest.raises(JournalError, match="another rumbuffer send"):
            Journal(tmp_path / "j", 0o600)
        journal.save(BOOKMARK)
    code = """
import sys
from pathlib import Path
from rumbuffer.cli.send.journal import Journal
Journal(Path(sys.argv[1]), 0o600)
"""
    other = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "j")], capture_output=True, text=True, check=False
    )
    assert "another rumbuffer send" in other.stderr
    journal.close()
    again = Journal(tmp_path / "j", 0o600)
    assert again.read() == BOOKMARK
    again.close()


def test_who_had_opened_the_old_file_does_not_get_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that locks a file which was just replaced looks again, and finds the new one locked."""
    journal = Journal(tmp_path / "j", 0o600)
    journal.save(BOOKMARK)
    real_open = os.open
    opened: list[int] = []

    def open_early(path: Path, flags: int, mode: int = 0o777) -> int:
        descriptor = real_open(path, flags, mode)
        if not opened:
            opened.append(descriptor)
            monkeypatch.setattr(os, "open", real_open)
            journal.save(BOOKMARK)  # lets go of the file that was opened
        return descriptor

    monkeypatch.setattr(os, "open", open_early)
    with pytest.raises(JournalError, match="another rumbuffer send"):
        Journal(tmp_path / "j", 0o600)
    assert opened
    journal.close()


@pytest.mark.parametrize(
    "content", [b"precious", b"{}", b'{"rumbuffer send, format 2": true}', b"\xff", b"[]"]
)
def test_what_is_no_journal_is_left_alone(content: bytes, tmp_path: Path) -> None:
    """A file of the user's that is named by mistake is not touched."""
    (tmp_path / "j").write_bytes(content)
    journal = Journal(tmp_path / "j", 0o600)
    with pytest.raises(JournalError, match="no journal"):
        journal.read()
    journal.close()
    assert (tmp_path / "j").read_bytes() == content


def test_devices_and_folders_are_no_journals(tmp_path: Path) -> None:
    """A device would be replaced by a file."""
    for path in (Path(os.devnull), tmp_path):
        with pytest.raises(JournalError, match="no regular file"):
            Journal(path, 0o600)


def test_symbolic_link_stays_one(tmp_path: Path) -> None:
    """What it leads to is replaced."""
    (tmp_path / "link").symlink_to(tmp_path / "j")
    journal = Journal(tmp_path / "link", 0o600)
    journal.save(BOOKMARK)
    journal.close()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "j").stat().st_size


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    """It is said, with what to do."""
    with pytest.raises(JournalError, match="--journal"):
        Journal(tmp_path / "none" / "j", 0o600)


def test_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, and not tried for ever."""

    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.raises(JournalError, match="No locks available"):
        Journal(tmp_path / "j", 0o600)


def test_full_disk_leaves_the_old_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save that fails changes nothing, leaves nothing beside it, and keeps the lock."""
    journal = Journal(tmp_path / "j", 0o600)
    journal.save(BOOKMARK)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            journal.save(Bookmark("g", 0.0, {}))
    assert names(tmp_path) == ["j"]
    assert journal.read() == BOOKMARK
    with pytest.raises(JournalError):
        Journal(tmp_path / "j", 0o600)
    journal.save(Bookmark("g", 0.0, {}))
    assert journal.read() == Bookmark("g", 0.0, {})
    journal.close()
