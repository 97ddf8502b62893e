"""From a file, or standard input, to its lines, in bounded memory.

Whether the data is gzip is told by its first bytes, not by the name. A line that is longer than
`LONGEST_LINE` is skipped to its end without being kept.
"""

from __future__ import annotations

import io
import os
import select
import stat
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from rumbuffer.cli.send.journal import Mark

__all__ = ["LONGEST_LINE", "Damaged", "LineCutter", "RawLine", "Source"]

LONGEST_LINE = 2 * 1024 * 1024
"""Bytes. Twice the largest request's body, so that a whole document fits whatever its spelling."""

_CHUNK = 64 * 1024
_BOM = b"\xef\xbb\xbf"
_ASKED_EVERY = 200
"""Milliseconds between two looks whether reading shall go on, while nothing comes in."""


class Damaged(Exception):
    """The compressed data cannot be read on; the text says why."""


class _Patient(io.RawIOBase):
    """A file descriptor whose reading can be given up while nothing comes in."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()  # not select(), which knows no descriptor above 1023
        self._poll.register(descriptor, select.POLLIN)
        self.given_up = False
        self.taken = 0
        """Bytes that were read."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self.given_up:
            if self._poll.poll(_ASKED_EVERY):
                data = os.read(self._descriptor, len(buffer))
                buffer[: len(data)] = data
                self.taken += len(data)
                return len(data)
        return 0


class Source:
    """The bytes of a file (`None`: standard input), decompressed. Its methods wait for the disk."""

    def __init__(self, path: Path | None) -> None:
        self._descriptor = os.dup(0) if path is None else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(self._descriptor)
        self.is_regular: bool = path is not None and stat.S_ISREG(status.st_mode)
        self.size: int | None = status.st_size if stat.S_ISREG(status.st_mode) else None
        """Bytes of the file as it lies there; `None` where nobody knows."""
        self.modified: float | None = status.st_mtime if self.is_regular else None
        self.mode: int = stat.S_IMODE(status.st_mode) & 0o666 if self.is_regular else 0o600
        self._raw = _Patient(self._descriptor)
        self._buffered = io.BufferedReader(self._raw, _CHUNK)
        self._unzip = zlib.decompressobj(31) if self._is_gzip() else None
        self._damage: Damaged | None = None
        self._pushed = b""
        self._offset = 0

    def _is_gzip(self) -> bool:
        return self._buffered.peek(3)[:3] == b"\x1f\x8b\x08"

    @property
    def taken(self) -> int:
        """How much of `size` was read."""
        return self._raw.taken

    def read(self) -> bytes:
        """Return what comes next, a chunk of 64 KiB or less; nothing at the end. Raises `Damaged`."""
        if self._pushed:
            data, self._pushed = self._pushed, b""
        elif self._unzip is None:
            data = self._buffered.read1(_CHUNK)
        else:
            data = self._inflate()
        self._offset += len(data)
        return data

    def _inflate(self) -> bytes:
        """Return the next decompressed bytes, of one gzip member after the other."""
        unzip = self._unzip
        assert unzip is not None
        while True:
            if self._damage is not None:
                raise self._damage
            if unzip.eof:
                rest = self._behind_member(unzip.unused_data)
                if not rest:
                    return b""
                unzip = self._unzip = zlib.decompressobj(31)
            else:
                rest = unzip.unconsumed_tail or self._buffered.read1(_CHUNK)
                if not rest and self._raw.given_up:
                    return b""
                if not rest:
                    self._damage = Damaged("the gzip data ends early")
                    continue
            try:
                data = unzip.decompress(rest, _CHUNK)
            except zlib.error:
                self._damage = Damaged("the gzip data is damaged")
                continue
            if data:
                return data

    def _behind_member(self, data: bytes) -> bytes:
        """Return what follows a gzip member and the zero bytes that may pad it, nothing at the end."""
        while not (rest := data.lstrip(b"\0")):
            data = self._buffered.read1(_CHUNK)
            if not data:
                break
        return rest

    def identity(self) -> str:
        """Return the digest of the first line, without its line end, and go back to the start.

        Only while nothing was read. It neither changes when the file is renamed, moved or compressed, nor
        when it grows.
        """
        digest = sha256()
        read: list[bytes] = []
        size = 0
        line = b""
        with suppress(Damaged):  # another reading comes upon it again
            while size < LONGEST_LINE and (chunk := self.read()):
                read.append(chunk)
                size += len(chunk)
                if b"\n" in chunk:
                    break
        self._pushed = b"".join(read) + self._pushed
        self._offset -= size
        line = self._pushed[:LONGEST_LINE].partition(b"\n")[0]
        digest.update(line.removeprefix(_BOM).strip())
        return digest.hexdigest()[:32]

    def skip_to(self, mark: Mark) -> bool:
        """Go on behind a mark; tell whether the line before it is the one that was there.

        Only while nothing was read but for the `identity`.
        """
        if mark.line == 0:
            return True
        try:
            return self._skip_to(mark)
        except Damaged:  # before the mark, where it had been read
            return False

    def _skip_to(self, mark: Mark) -> bool:
        start = mark.offset - mark.length
        if self._unzip is None and self.is_regular:
            self._buffered.detach()  # else it closes what it reads from
            os.lseek(self._descriptor, start, os.SEEK_SET)
            self._raw.taken = start
            self._buffered = io.BufferedReader(self._raw, _CHUNK)
            self._pushed, self._offset = b"", start
        elif not self._pass(start - self._offset):
            return False
        crc, left = 0, mark.length - 1
        while left:
            data = self._at_most(left)
            if not data:
                return False
            crc = zlib.crc32(data, crc)
            left -= len(data)
        return self._at_most(1) == b"\n" and crc == mark.crc

    def _pass(self, count: int) -> bool:
        while count:
            data = self._at_most(count)
            if not data:
                return False
            count -= len(data)
        return True

    def _at_most(self, count: int) -> bytes:
        data = self.read()
        if len(data) > count:
            self._pushed = data[count:] + self._pushed
            self._offset -= len(data) - count
            data = data[:count]
        return data

    def give_up(self) -> None:
        """End a reading that waits, from another thread."""
        self._raw.given_up = True

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


@dataclass(slots=True)
class RawLine:
    """A line of the file: `content` without its newline, `None` where it is too long to be kept.

    `length` is its size with the newline; only a last line can have none, and is not `complete` then.
    `crc` is its content's CRC-32.
    """

    content: bytes | None
    length: int
    crc: int
    complete: bool = True


class LineCutter:
    """Cuts chunks into lines."""

    def __init__(self) -> None:
        self._carry = b""
        self._skipped = 0  # bytes of a line that is too long
        self._skipped_crc = 0

    def feed(self, chunk: bytes) -> Iterator[RawLine]:
        """Return the lines that end in this chunk. To be used up before the next call."""
        first, newline, rest = chunk.partition(b"\n")
        if not newline:
            self._keep(first)
            return
        if self._skipped or len(self._carry) + len(first) > LONGEST_LINE:
            self._keep(first)
            yield RawLine(None, self._skipped + 1, self._skipped_crc)
            self._skipped = self._skipped_crc = 0
            lines = rest.split(b"\n")
        else:
            lines = (self._carry + chunk).split(b"\n")
        self._carry = lines.pop()
        for line in lines:
            yield RawLine(line, len(line) + 1, zlib.crc32(line))

    def _keep(self, piece: bytes) -> None:
        if not self._skipped and len(self._carry) + len(piece) <= LONGEST_LINE:
            self._carry += piece
            return
        piece, self._carry = self._carry + piece, b""
        self._skipped += len(piece)
        self._skipped_crc = zlib.crc32(piece, self._skipped_crc)

    def end(self) -> RawLine | None:
        """Return what stands behind the last newline, if anything does."""
        if self._skipped:
            return RawLine(None, self._skipped, self._skipped_crc, complete=False)
        if self._carry:
            return RawLine(self._carry, len(self._carry), zlib.crc32(self._carry), complete=False)
        return None
