"""The book of one file: which of its lines are settled, in little memory.

Lines are settled out of order: each session has a batch of its own. The mark stands behind the first
lines that all are; behind the mark 13 bytes are kept for each line that was read. A line is settled when
every event of it is delivered, dead-lettered or rejected, and only then it counts in the totals, so that
mark, flags and totals of any moment belong together.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

from rumbuffer.cli.send.journal import Bookmark, Mark, Totals

__all__ = ["Line", "LineBook"]

_COMPACTED_AT = 65_536


class Line:
    """A line of which something is not settled."""

    __slots__ = ("book", "dead", "delivered", "entries", "left", "number", "rejected", "repeated")

    def __init__(self, book: LineBook, number: int) -> None:
        self.book: LineBook = book
        self.number: int = number
        self.left: int = 1
        """Events without an outcome, and one until the line is wholly read."""
        self.delivered: int = 0
        self.rejected: int = 0
        self.repeated: int = 0
        self.dead: list[str] | None = None
        self.entries: list[dict[str, Any]] | None = None
        """What the reject file will say of it."""

    def note(self, entry: dict[str, Any]) -> None:
        """Say this in the reject file, once the line is settled: what is not may be read again."""
        self.entries = [*(self.entries or ()), entry]

    def event_delivered(self) -> None:
        """One of its events arrived."""
        self.delivered += 1
        self.settle_one()

    def event_died(self, reason: str) -> None:
        """One of its events was given up by the buffer."""
        self.dead = [*(self.dead or ()), reason]
        self.settle_one()

    def settle_one(self) -> None:
        """One thing less to wait for."""
        self.left -= 1
        if not self.left:
            self.book.settle(self)


class LineBook:
    """Keeps the account of one file's lines, from a bookmark on; `write` writes to its reject file."""

    def __init__(self, bookmark: Bookmark, write: Callable[[list[dict[str, Any]]], None]) -> None:
        self._write = write
        self.totals: Totals = bookmark.totals.copy()
        self.mark: Mark = bookmark.mark
        self.tail: tuple[int, int] | None = bookmark.tail
        self.reach: int = bookmark.reach
        self._earlier_reach = bookmark.reach
        self._earlier = bookmark.beyond
        self._earlier_first = bookmark.mark.line + 1
        self._flags = bytearray()
        self._lengths = array("Q")
        self._crcs = array("I")
        self._head = 0  # where in them the first line behind the mark stands
        self._tail_crc: int | None = None

    @property
    def read(self) -> int:
        """How many lines were read, those before the mark included."""
        return self.mark.line + len(self._flags) - self._head

    @property
    def ahead(self) -> int:
        """Lines read behind the mark."""
        return len(self._flags) - self._head

    @property
    def is_settled(self) -> bool:
        """Whether every line that was read is settled."""
        return self._flags.find(0, self._head) < 0

    def was_reached(self, number: int) -> bool:
        """Tell whether an earlier run may have sent this line."""
        return number <= self._earlier_reach

    def beyond(self) -> bytes:
        """Return a byte for each line behind the mark, 1 where it is settled; earlier runs' included."""
        flags = bytes(self._flags[self._head :])
        unread = self.mark.line + len(flags) + 1 - self._earlier_first
        if self._tail_crc is not None:
            flags = flags[:-1]
        return flags + self._earlier[unread:]

    def add(self, length: int, crc: int, *, complete: bool = True) -> Line | None:
        """Take in the next line; return `None` where it is settled already.

        `length` is its size in the file, and `crc` its content's CRC-32. The last line of a file may be
        one that is not `complete`, without a newline.
        """
        number = self.read + 1
        place = number - self._earlier_first
        settled = place < len(self._earlier) and self._earlier[place] == 1
        if self.tail is not None and number == self.tail[0]:
            settled = self.tail[1] == crc
            if complete:
                self.tail = None
        self._flags.append(settled)
        self._lengths.append(length)
        self._crcs.append(crc)
        if not complete:
            self._tail_crc = crc
        if settled:
            self._advance()
            return None
        return Line(self, number)

    def blank(self, line: Line) -> None:
        """Settle a line in which there is nothing."""
        self.totals.blank += 1
        line.settle_one()

    def settle(self, line: Line) -> None:
        """Count a line whose events all have their outcome."""
        if line.entries is not None:
            self._write(line.entries)
        totals = self.totals
        totals.lines += 1
        totals.delivered += line.delivered
        totals.rejected += line.rejected
        totals.repeated += line.repeated
        for reason in line.dead or ():
            totals.dead_lettered[reason] = totals.dead_lettered.get(reason, 0) + 1
        place = self._head + line.number - self.mark.line - 1
        self._flags[place] = 1
        if self._tail_crc is not None and place == len(self._flags) - 1:
            self.tail = (line.number, self._tail_crc)
        if place == self._head:
            self._advance()

    def _advance(self) -> None:
        """Move the mark behind the lines that are settled; a last one without a newline stays."""
        head, end = self._head, len(self._flags) - (self._tail_crc is not None)
        first_open = self._flags.find(0, head, end)
        to = max(end, head) if first_open < 0 else first_open
        if to == head:
            return
        self.mark = Mark(
            self.mark.line + to - head,
            self.mark.offset + sum(self._lengths[head:to]),
            self._lengths[to - 1],
            self._crcs[to - 1],
        )
        self._head = to
        if to > _COMPACTED_AT:
            del self._flags[:to], self._lengths[:to], self._crcs[:to]
            self._head = 0
