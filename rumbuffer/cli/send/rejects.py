"""The reject file: a JSON line for each line, or event of one, that will not arrive, and why."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from rumbuffer.cli.send.naming import named

__all__ = ["RejectFile"]


class RejectFile:
    """Written as the run goes; made when there is something to write.

    `size` is how much of it another run had written when it noted how far it came: what stands behind that
    is cut off, for the lines are read again. 0 begins anew. Raises `OSError`.
    """

    def __init__(self, path: Path, mode: int, size: int) -> None:
        self.path: Path = path
        self.written: int = 0
        """Lines, of this run."""
        self._mode = mode
        self._file: BinaryIO | None = None
        if path.is_file() and path.stat().st_size > size:
            os.truncate(path, size)

    def write(self, entry: dict[str, Any]) -> None:
        """Add an entry; it is with the operating system when this returns."""
        if self._file is None:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, self._mode)
            self._file = os.fdopen(descriptor, "ab", buffering=0)
        self.written += 1
        text = orjson.dumps(entry) + b"\n"
        with named(self.path):
            if self._file.write(text) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @property
    def size(self) -> int:
        """Bytes of it now."""
        if self._file is not None:
            return os.fstat(self._file.fileno()).st_size
        return self.path.stat().st_size if self.path.is_file() else 0

    def sync(self) -> None:
        """Wait until it is on the disk."""
        if self._file is not None and self.path.is_file():
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close it."""
        if self._file is not None:
            self._file.close()
            self._file = None
