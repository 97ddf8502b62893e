"""Which line an event is of: the ledger, by itself."""

from __future__ import annotations

from typing import Any

from rumbuffer import DeadLettered, DeadLetterReason, SealedBatch
from rumbuffer.cli.send.book import Line, LineBook
from rumbuffer.cli.send.journal import Bookmark
from rumbuffer.cli.send.tracking import Ledger
from tests.fakes import MONITOR, uuid_of


class Ledgered:
    """A ledger, a book, and what it was told of deaths."""

    def __init__(self) -> None:
        entries: list[dict[str, Any]] = []
        self.book = LineBook(Bookmark("f", 0.0, {}), entries.extend)
        self.dead: list[int] = []
        self.ledger = Ledger(lambda line, _event, _letter: self.dead.append(line.number))

    def line(self, *events: bytes) -> Line:
        """A line that was read, with its events handed over."""
        line = self.book.add(1, 0)
        assert line is not None
        for event in events:
            self.ledger.note(event, line)
        line.settle_one()
        return line

    def arrives(self, *events: bytes) -> None:
        """The service took them."""
        self.ledger.arrived(SealedBatch(uuid_of(1), MONITOR, uuid_of(2), uuid_of(3), None, events))

    def dies(self, *events: bytes) -> None:
        """The buffer gave them up."""
        reason = DeadLetterReason.INVALID
        letter = DeadLettered(reason, "", uuid_of(1), MONITOR.id, uuid_of(2), uuid_of(3), events)
        self.ledger.hear(letter)


def test_each_event_settles_its_line() -> None:
    """In whatever order they arrive; one that nobody waits for changes nothing."""
    all_ = Ledgered()
    all_.line(b"1", b"2")
    all_.line(b"3")
    all_.arrives(b"3", b"unknown")
    all_.arrives(b"2")
    assert (all_.book.mark.line, all_.book.totals.delivered) == (0, 1)
    all_.arrives(b"1")
    assert (all_.book.mark.line, all_.book.totals.delivered) == (2, 3)


def test_twins_are_settled_when_all_have_arrived() -> None:
    """Nobody can tell which of them arrived, so none is taken for settled before the last."""
    all_ = Ledgered()
    for _ in range(3):
        all_.line(b"same")
    all_.arrives(b"same", b"same")
    assert all_.book.totals.lines == 0
    all_.arrives(b"same")
    assert all_.book.totals.lines == all_.book.totals.delivered == 3
    all_.line(b"same")
    all_.arrives(b"same")
    assert all_.book.totals.delivered == 4


def test_dead_letters() -> None:
    """They settle their line too, with their reason; among twins one of them does."""
    all_ = Ledgered()
    all_.line(b"alone")
    for _ in range(3):
        all_.line(b"same")
    all_.dies(b"alone", b"unknown")
    all_.arrives(b"same")
    all_.dies(b"same")
    assert all_.dead == [1, 2]
    assert all_.book.totals.lines == 2
    all_.arrives(b"same")
    assert all_.book.totals.dead_lettered == {"invalid": 2}
    assert all_.book.totals.delivered == 2
    assert all_.book.is_settled


def test_what_the_buffer_does_not_take_is_forgotten() -> None:
    """Also where the same event of another line is on its way."""
    all_ = Ledgered()
    first = all_.line(b"same")
    refused = all_.book.add(1, 0)
    assert refused is not None
    all_.ledger.note(b"same", refused)
    all_.ledger.forget(b"same", refused)
    all_.ledger.note(b"other", refused)
    all_.ledger.forget(b"other", refused)
    assert (first.left, refused.left) == (1, 1)
    all_.arrives(b"same")
    assert all_.book.mark.line == 1
