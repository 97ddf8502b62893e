"""Mark, flags and totals: what is settled is never read again, and what is not always is."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rumbuffer.cli.send.book import Line, LineBook
from rumbuffer.cli.send.journal import Bookmark, Mark, Totals


def start() -> Bookmark:
    """The bookmark of a file of which nothing is known."""
    return Bookmark("f", 0.0, {})


def book_of(bookmark: Bookmark | None = None, written: list[dict[str, Any]] | None = None) -> LineBook:
    """A book that goes on from a bookmark."""
    entries: list[dict[str, Any]] = [] if written is None else written
    return LineBook(start() if bookmark is None else bookmark, entries.extend)


def noted(book: LineBook) -> Bookmark:
    """What the journal would hold now, after its way through the file."""
    bookmark = replace(
        start(),
        mark=book.mark,
        beyond=book.beyond(),
        reach=book.read,
        tail=book.tail,
        totals=book.totals.copy(),
    )
    return Bookmark.load(bookmark.dump())


def add(book: LineBook, number: int, *, complete: bool = True) -> Line | None:
    """Read line `number`, of which length and checksum are made of the number."""
    return book.add(number + 10, number * 7, complete=complete)


def deliver(line: Line | None) -> None:
    """The line had one event, and it arrived."""
    assert line is not None
    line.left += 1
    line.settle_one()
    line.event_delivered()


@given(st.lists(st.tuples(st.integers(1, 12), st.randoms(use_true_random=False)), max_size=6))
def test_no_line_is_settled_twice_or_never(runs: list[tuple[int, random.Random]]) -> None:
    """Killed at any moment and gone on, each line is settled once, and counts once."""
    lines, settled_in_all = 30, 0
    bookmark = start()
    last = [*runs, (lines, random.Random(0))]
    for reads, dice in last:
        book = book_of(bookmark)
        earlier = book.totals.lines
        waiting = []
        for number in range(
            book.mark.line + 1, min(lines, book.mark.line + reads + len(bookmark.beyond)) + 1
        ):
            line = add(book, number)
            if line is not None:
                assert line.number == number
                waiting.append(line)
        dice.shuffle(waiting)
        settled = waiting if reads == lines else waiting[: dice.randint(0, len(waiting))]
        for line in settled:
            deliver(line)
        bookmark = noted(book)
        assert book.totals.lines == earlier + len(settled) == book.totals.delivered
        assert book.totals.lines == book.mark.line + book.beyond().count(1)
        settled_in_all += len(settled)
        assert book.mark.offset == sum(number + 10 for number in range(1, book.mark.line + 1))
        if book.mark.line:
            assert (book.mark.length, book.mark.crc) == (book.mark.line + 10, book.mark.line * 7)
    while bookmark.mark.line < lines:
        book = book_of(bookmark)
        for number in range(book.mark.line + 1, lines + 1):
            if (rest := add(book, number)) is not None:
                deliver(rest)
                settled_in_all += 1
        bookmark = noted(book)
    assert settled_in_all == lines == bookmark.totals.lines


def test_the_mark_waits_for_the_first_line() -> None:
    """It stands before the first line that is not settled, whatever is settled behind."""
    book = book_of()
    lines = [add(book, number) for number in range(1, 6)]
    for number in (5, 3, 2):
        deliver(lines[number - 1])
    assert book.mark.line == 0
    assert book.beyond() == bytes([0, 1, 1, 0, 1])
    assert (book.read, book.ahead, book.is_settled) == (5, 5, False)
    deliver(lines[0])
    assert book.mark == Mark(3, 11 + 12 + 13, 13, 21)
    deliver(lines[3])
    assert (book.mark.line, book.beyond(), book.is_settled) == (5, b"", True)


def test_totals_count_settled_lines_alone() -> None:
    """A line counts with all of its events, when the last has its outcome; so do its entries."""
    written: list[dict[str, Any]] = []
    book = book_of(written=written)
    line = add(book, 1)
    assert line is not None
    line.left += 3
    line.rejected += 1
    line.repeated += 3
    line.note({"line": 1})
    line.settle_one()
    line.event_delivered()
    line.event_died("invalid")
    assert (book.totals, written) == (Totals(), [])
    line.event_delivered()
    assert book.totals == Totals(1, 0, 2, 1, {"invalid": 1}, 3)
    assert book.totals.lost == 2
    assert written == [{"line": 1}]


def test_blank_lines_are_settled_at_once() -> None:
    """They count as lines and as blank."""
    book = book_of()
    line = add(book, 1)
    assert line is not None
    book.blank(line)
    assert (book.totals, book.mark.line) == (Totals(lines=1, blank=1), 1)


def test_what_an_earlier_run_settled_is_passed_over() -> None:
    """Flags behind the mark hold in the next run, and in the one after it although that read less."""
    book = book_of()
    lines = [add(book, number) for number in range(1, 9)]
    for number in (3, 6, 8):
        deliver(lines[number - 1])
    second = book_of(noted(book))
    assert [add(second, number) is None for number in (1, 2, 3)] == [False, False, True]
    assert second.was_reached(8)
    assert not second.was_reached(9)
    third = book_of(noted(second))
    assert [add(third, number) is None for number in range(1, 9)] == [
        number in (3, 6, 8) for number in range(1, 9)
    ]


def test_last_line_without_a_newline() -> None:
    """It is settled for as long as it stays as it is; the mark passes it once it has its newline."""
    book = book_of()
    deliver(add(book, 1))
    deliver(add(book, 2, complete=False))
    assert (book.mark.line, book.beyond(), book.tail, book.is_settled) == (1, b"", (2, 14), True)
    unchanged = book_of(noted(book))
    assert unchanged.add(12, 14, complete=False) is None
    assert unchanged.tail == (2, 14)
    ended = book_of(noted(unchanged))
    assert ended.add(13, 14) is None
    deliver(add(ended, 3))
    assert (ended.mark.line, ended.tail, ended.totals.lines) == (3, None, 3)
    grown = book_of(noted(unchanged))
    deliver(grown.add(20, 99))
    assert (grown.mark.line, grown.tail) == (2, None)


@pytest.mark.slow
def test_memory_of_lines_that_are_settled_out_of_order() -> None:
    """A hundred thousand lines behind one that waits cost little more than 13 bytes each."""
    tracemalloc.start()
    book = book_of()
    first = add(book, 0)
    for number in range(1, 100_001):
        deliver(add(book, number))
    size, _ = tracemalloc.get_traced_memory()
    assert size < 20 * 100_000
    deliver(first)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 100_000
    assert book.mark.line == 100_001
