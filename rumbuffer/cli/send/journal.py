"""The journal: how far a file was sent, kept beside it so that another run can go on from there.

It is a small JSON document that is only ever replaced whole (written aside, synced, renamed), so that a
crash leaves either the old one or the new one. Whoever sends holds a lock on it: the new file is locked
before it takes the old one's name, so that at no moment the name leads to an unlocked journal.
"""

from __future__ import annotations

import fcntl
import json
import os
from base64 import b64decode, b64encode
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self
from zlib import compress, decompress

from rumbuffer.cli.send.naming import named

__all__ = ["Bookmark", "Journal", "JournalError", "Mark", "Totals"]

_FORMAT = "rumbuffer send, format 1"


class JournalError(Exception):
    """The journal cannot be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Up to here everything is settled: `line` lines, which are `offset` bytes (decompressed).

    `length` and `crc` are the last of these lines' size with its newline, and its CRC-32 without: what
    shows that a file is still the same.
    """

    line: int = 0
    offset: int = 0
    length: int = 0
    crc: int = 0


@dataclass(slots=True)
class Totals:
    """What became of the lines that are settled. All but `lines` and `blank` count events.

    `rejected` counts a line that could not be read as one event. `repeated` of the events had been read
    by an earlier run that did not note their delivery, so that they may have been sent before.
    """

    lines: int = 0
    blank: int = 0
    delivered: int = 0
    rejected: int = 0
    dead_lettered: dict[str, int] = field(default_factory=dict)
    repeated: int = 0

    @property
    def lost(self) -> int:
        """Events that will not arrive."""
        return self.rejected + sum(self.dead_lettered.values())

    def copy(self) -> Totals:
        """Return the counts of this moment."""
        return Totals(
            self.lines, self.blank, self.delivered, self.rejected, dict(self.dead_lettered), self.repeated
        )


@dataclass(slots=True)
class Bookmark:
    """All that a journal holds.

    - `identity`: the digest of the file's first line; `timestamp`: the time of events that bring none;
      `defaults`: what else was filled in, which must stay the same.
    - `beyond`: a byte for each line behind the mark, 1 where it is settled.
    - `reach`: no line behind this one was ever handed over for sending.
    - `tail`: number and CRC-32 of a settled last line that had no newline yet. The mark stays before it.
    - `rejects`: how long the reject file was.
    - `told`: how many lost events the runs that came to the end have reported.
    - `done`: the last run came to the end.
    """

    identity: str
    timestamp: float
    defaults: dict[str, Any]
    mark: Mark = Mark()
    beyond: bytes = b""
    reach: int = 0
    tail: tuple[int, int] | None = None
    totals: Totals = field(default_factory=Totals)
    rejects: int = 0
    told: int = 0
    done: bool = False

    def dump(self) -> bytes:
        """Return the document."""
        document = {_FORMAT: True, **asdict(self)}
        document["beyond"] = b64encode(compress(self.beyond, 1)).decode()
        return json.dumps(document, indent=1).encode() + b"\n"

    @classmethod
    def load(cls, text: bytes) -> Self:
        """Read a document. Raises `ValueError` where it is none."""
        try:
            document = json.loads(text)
            del document[_FORMAT]
            document["mark"] = Mark(**document["mark"])
            document["totals"] = Totals(**document["totals"])
            document["beyond"] = decompress(b64decode(document["beyond"]))
            if document["tail"] is not None:
                document["tail"] = tuple(document["tail"])
            return cls(**document)
        except Exception as error:  # noqa: BLE001 - whatever a foreign file makes fail, it is no journal
            raise ValueError(type(error).__name__) from None


class Journal:
    """A journal that is locked for this process. Raises `JournalError` when another one holds it.

    The methods wait for the disk.
    """

    def __init__(self, path: Path, mode: int) -> None:
        self.path: Path = path.resolve()  # what a symbolic link leads to is replaced, and not the link
        self._mode = mode
        self._lock = self._locked()

    def _locked(self) -> int:
        if self.path.exists() and not self.path.is_file():  # a device would be replaced by a file
            raise JournalError(f"{self.path} is no regular file, and cannot be a journal")
        while True:
            try:
                lock = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._mode)
            except OSError as error:
                raise JournalError(
                    f"cannot write the journal {self.path}: {error.strerror}; name another place with "
                    "--journal, or do without with --no-journal"
                ) from None
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock), os.stat(self.path)):  # noqa: PTH116 - beside fstat
                    return lock
            except BlockingIOError:
                os.close(lock)
                raise JournalError(
                    f"another rumbuffer send is at work on this file (it holds {self.path})"
                ) from None
            except FileNotFoundError:  # removed meanwhile
                pass
            except OSError as error:
                os.close(lock)
                raise JournalError(
                    f"cannot lock the journal {self.path}: {error.strerror}; name another with --journal"
                ) from None
            os.close(lock)

    def read(self) -> Bookmark | None:
        """Return what it holds, `None` where it is new. Raises `JournalError` for what is no journal."""
        text = self.path.read_bytes()
        if not text:
            return None
        try:
            return Bookmark.load(text)
        except ValueError:
            raise JournalError(
                f"{self.path} is no journal of this version of rumbuffer; move it away, or name another "
                "with --journal"
            ) from None

    def save(self, bookmark: Bookmark) -> None:
        """Replace what it holds. Raises `OSError`; then it still holds what it held."""
        aside = self.path.with_name(self.path.name + ".new")
        lock = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, self._mode)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with named(self.path), os.fdopen(lock, "wb", closefd=False) as file:
                file.write(bookmark.dump())
                file.flush()
                os.fsync(lock)
            aside.replace(self.path)
        except BaseException:
            os.close(lock)
            with suppress(OSError):
                aside.unlink()
            raise
        os.close(self._lock)
        self._lock = lock
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with suppress(OSError):  # not every file system can; then a power cut may bring back an older one
                os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Let go of the lock; an empty journal is removed."""
        with suppress(OSError):
            if os.fstat(self._lock).st_size == 0:
                self.path.unlink()
        os.close(self._lock)
