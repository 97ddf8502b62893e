"""One pace for all processes of a user on a host, kept in a small file.

The file holds one `Pace` (see `rumbuffer.core.pace`) with a checksum: some hundred bytes, mode 0600, in
a folder of mode 0700 that belongs to the user (in `XDG_RUNTIME_DIR`, else in the temporary folder). Each
change is a locked read, a computation of microseconds, and a write; there is no server, and a process that
dies leaves nothing behind but the slot that it had reserved: the kernel drops its lock.

The lock is never waited for. While somebody else holds it the pacer asks again a millisecond later;
a lock that is held for a second (its holder was stopped in that very moment) ends the sharing.
Whatever is wrong with the file (not ours, not writable, corrupt) ends it too, with one warning: the
process then keeps a pace of its own and learns from refusals what the others leave.

What makes a record void, so that the pace begins anew: a reboot (the clock began anew; told by the
kernel's boot id, and where there is none by times that make no sense), and a minute without a request,
for a process that has just come.

`flock` locks an open file, so two event loops of one process exclude each other as two processes do,
and a forked child, whose file is the parent's, opens its own.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import struct
import tempfile
import time
import weakref
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from rumbuffer.core.pace import Pace
from rumbuffer.core.pacing import OwnLedger, QuotaPacer
from rumbuffer.log import log
from rumbuffer.settings import Pacing

__all__ = ["HostLedger", "pacer_for"]

_LAYOUT: Final = 1
"""Goes into the file's name, so that versions of rumbuffer with another layout do not meet."""

_FIELDS: Final = struct.Struct(f"<8s16s{len(Pace.__slots__)}d")
_CHECKSUM: Final = struct.Struct("<I")
_SIZE: Final = _FIELDS.size + _CHECKSUM.size
_MAGIC: Final = b"rumpace\n"

_TRIES: Final = 8
"""Attempts at the lock in a row; it is held for some ten microseconds."""

_LOCKED_OUT: Final = 1.0
_NEW_START_AFTER: Final = 60.0
_SAME_CLOCK: Final = 5.0
"""Seconds by which the caller's time may differ from the host's clock; more is another clock."""


class HostLedger:
    """The pace of all processes that name the same `group`. Opens its file at the first use.

    Belongs to one event loop. `ceiling` (infinite where the quota is unknown) and `burst` are for the
    process that comes first. `clock` is the one whose times `begin` is given; only the host's own can be
    shared, and with any other the pace is private.
    """

    def __init__(
        self, group: str, ceiling: float, burst: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._group = group
        self._ceiling = ceiling
        self._burst = burst
        self._clock = clock
        self._pace = Pace(ceiling, burst)
        self._file: int | None = None
        self._is_private = False
        self._is_locked = False
        self._was_open = False
        self._locked_out_since: float | None = None
        _all_ledgers.add(self)

    @property
    def is_shared(self) -> bool:
        """Whether the pace is (or, before the first use, is to be) the host's."""
        return not self._is_private

    def begin(self, now: float) -> Pace | None:
        """Lock and read the file; `None` while somebody else has it."""
        if self._is_private:
            return self._pace
        try:
            if not self._open(now):
                return self._pace
            if not self._lock():
                return self._locked_out(now)
            self._locked_out_since = None
            self._read(now)
        except OSError as error:
            self._end(f"{error.strerror or error} ({error.filename or self._path()})")
        except _CorruptError as error:
            self._end(str(error))
        return self._pace

    def commit(self) -> None:
        """Write the file and unlock it."""
        if not self._is_locked or self._file is None:
            return
        record = _FIELDS.pack(_MAGIC, _boot_id(), *Pace.values(self._pace))
        try:
            os.pwrite(self._file, record + _CHECKSUM.pack(zlib.crc32(record)), 0)
            self._unlock()
        except OSError as error:
            self._end(f"{error.strerror or error} ({self._path()})")

    def close(self) -> None:
        """Close the file. A later use opens it again."""
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)
        self._file = None
        self._is_locked = False

    def _open(self, now: float) -> bool:
        """Open the file unless it is open; tell whether it can be used with the caller's clock."""
        if self._file is not None:
            if os.fstat(self._file).st_nlink:
                return True
            self.close()  # somebody has cleaned up, and others will make a new file
        if abs(now - self._clock()) > _SAME_CLOCK:
            self._is_private = True
            return False
        self._file = _open_own(self._path())
        return True

    def _path(self) -> Path:
        return runtime_folder() / f"pace-{_LAYOUT}-{self._group}"

    def _lock(self) -> bool:
        assert self._file is not None
        for _ in range(_TRIES):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            self._is_locked = True
            return True
        return False

    def _unlock(self) -> None:
        assert self._file is not None
        self._is_locked = False
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def _locked_out(self, now: float) -> Pace | None:
        if self._locked_out_since is None:
            self._locked_out_since = now
        if now - self._locked_out_since < _LOCKED_OUT:
            return None
        self._end(f"another process has kept it locked for {_LOCKED_OUT:g} s ({self._path()})")
        return self._pace

    def _read(self, now: float) -> None:
        assert self._file is not None
        content = os.pread(self._file, _SIZE + 1, 0)
        is_new_here, self._was_open = not self._was_open, True
        if not content:  # we are the first; or the file was lost, and what we knew is as good
            return
        record, checksum = content[: _FIELDS.size], content[_FIELDS.size :]
        if len(content) != _SIZE or _CHECKSUM.pack(zlib.crc32(record)) != checksum:
            raise _CorruptError(self._discard("is corrupt"))
        magic, boot_id, *values = _FIELDS.unpack(record)
        if magic != _MAGIC or not self._pace.restore(tuple(values)):
            self._pace.start(self._ceiling, self._burst)
            raise _CorruptError(self._discard("makes no sense"))
        idle = now - self._pace.used_at
        if boot_id != _boot_id() or (is_new_here and not 0.0 <= idle + _SAME_CLOCK <= _NEW_START_AFTER):
            self._pace.start(self._ceiling, self._burst)

    def _discard(self, fault: str) -> str:
        """Remove the file, so that those who start later share again; return what to say."""
        path = self._path()
        with suppress(OSError):
            path.unlink()
        return f"the file {fault} and was removed ({path})"

    def _end(self, reason: str) -> None:
        self._is_private = True
        self.close()
        log(
            logging.WARNING,
            "rumbuffer: this process cannot share its pace with others on this host, and goes by what "
            "the service refuses: %s",
            reason,
        )

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<HostLedger {self._group!r} {'private' if self._is_private else 'shared'}>"


class _CorruptError(Exception):
    """The file's content cannot be used."""


def pacer_for(pacing: Pacing) -> QuotaPacer:
    """Return the pacer that the settings ask for."""
    ceiling = None if pacing.quota is None else pacing.quota * pacing.use
    limit = float("inf") if ceiling is None else ceiling
    if pacing.share is None:
        return QuotaPacer(ceiling, pacing.burst, OwnLedger(Pace(limit, pacing.burst)))
    return QuotaPacer(ceiling, pacing.burst, HostLedger(pacing.group, limit, pacing.burst))


def runtime_folder() -> Path:
    """Return the folder for files that live as long as the user is logged in, or the host is up."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and Path(base).is_absolute() and Path(base).is_dir():
        return Path(base) / "rumbuffer"
    return Path(tempfile.gettempdir()) / f"rumbuffer-{os.geteuid()}"


def _open_own(path: Path) -> int:
    """Open a file for reading and writing that only its owner, we, can have put there."""
    with suppress(FileExistsError):
        path.parent.mkdir(mode=0o700)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check_own(os.fstat(folder), path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        file = os.open(path.name, flags, 0o600, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        _check_own(os.fstat(file), path)
    except OSError:
        os.close(file)
        raise
    return file


def _check_own(status: os.stat_result, path: Path) -> None:
    if status.st_uid != os.geteuid():
        raise PermissionError(0, "it belongs to another user", str(path))
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(0, "others may open it", str(path))
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise OSError(0, "it is no plain file", str(path))


def _read_boot_id() -> bytes:
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return bytes.fromhex(text.strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)


_known_boot_id: list[bytes] = []


def _boot_id() -> bytes:
    if not _known_boot_id:
        _known_boot_id.append(_read_boot_id())
    return _known_boot_id[0]


_all_ledgers: weakref.WeakSet[HostLedger] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for ledger in list(_all_ledgers):
        ledger.close()


os.register_at_fork(after_in_child=_after_fork_in_child)
