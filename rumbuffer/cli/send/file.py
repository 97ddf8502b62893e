"""One file that is being sent: its source, its book, its journal and its reject file, kept in step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import orjson

from rumbuffer import AppMonitor, DeadLettered, Session
from rumbuffer.cli.send.beside import JOURNAL, REJECTS
from rumbuffer.cli.send.book import Line, LineBook
from rumbuffer.cli.send.journal import Bookmark, Journal, JournalError, Totals
from rumbuffer.cli.send.lines import Fault, LineParser, Offer, derived_id
from rumbuffer.cli.send.reading import Damaged, LineCutter, RawLine, Source
from rumbuffer.cli.send.rejects import RejectFile
from rumbuffer.core.encoding import EventEncoder

__all__ = ["SentFile", "Wishes", "in_thread"]

Result = TypeVar("Result")

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How the user wants files to be read and accounted for.

    `journal` and `rejects` are paths for one file, `None` for those beside it. `new_session` derives the
    session of events that name none from the file.
    """

    app_monitor: AppMonitor | None = None
    session: Session | None = None
    new_session: bool = False
    timestamp: float | None = None
    journal: Path | None = None
    keeps_journal: bool = True
    restart: bool = False
    rejects: Path | None = None
    rejects_with_lines: bool = False


class SentFile:
    """A file on its way. `path` is `None` for standard input. Its methods wait for the disk.

    Raises `JournalError` and `OSError` where it cannot be begun.
    """

    def __init__(self, path: Path | None, wishes: Wishes, encoder: EventEncoder) -> None:
        self.name: str = "standard input" if path is None else str(path)
        self.cut_short: str | None = None
        """Why the last line could not be read to its end; it is left for another run."""
        self.is_read: bool = False
        self.failed: OSError | None = None
        """Why the reject file cannot be written; then nothing more is taken for settled."""
        self._wishes = wishes
        self.source: Source = Source(path)
        self.journal: Journal | None = None
        try:
            place = self._journal_path(path)
            self.journal = None if place is None else Journal(place, self.source.mode)
            bookmark = self._bookmark()
            self.rejects: RejectFile = RejectFile(
                self._rejects_path(path), self.source.mode, bookmark.rejects
            )
        except BaseException:
            self.close()
            raise
        self._start = bookmark
        self.was_done: bool = bookmark.done
        self.saved_at: float = float("-inf")
        self.book: LineBook = LineBook(bookmark, self._write)
        self.first_line: int = bookmark.mark.line + 1
        self._reach = bookmark.reach
        self._saving = asyncio.Lock()
        self._parser = LineParser(
            encoder,
            bookmark.identity,
            timestamp=bookmark.timestamp,
            app_monitor=wishes.app_monitor,
            session=self._default_session(bookmark.identity),
        )

    # How it begins --------------------------------------------------------------------------------------

    def _journal_path(self, path: Path | None) -> Path | None:
        if not self._wishes.keeps_journal:
            return None
        if self._wishes.journal is not None:
            return self._wishes.journal
        if path is None or not self.source.is_regular:
            return None
        return path.with_name(path.name + JOURNAL)

    def _rejects_path(self, path: Path | None) -> Path:
        if self._wishes.rejects is not None:
            return self._wishes.rejects
        if path is None or not self.source.is_regular:
            return Path("stdin.rumbuffer-rejects")
        return path.with_name(path.name + REJECTS)

    def _bookmark(self) -> Bookmark:
        """Return where to begin: where the journal says, if it is this file's, and if it shall."""
        identity = self.source.identity()
        earlier = None if self.journal is None else self.journal.read()
        wishes = self._wishes
        fresh = self.source.modified if self.source.modified is not None else time.time()
        timestamp = fresh if wishes.timestamp is None else wishes.timestamp
        same = earlier is not None and earlier.identity == identity
        if earlier is None or earlier.reach == 0 or wishes.restart:
            if earlier is not None and same and wishes.timestamp is None:
                timestamp = earlier.timestamp  # so that what is sent once more is the same
            return Bookmark(identity, round(timestamp, 3), self._defaults())
        assert self.journal is not None
        if not (same and self.source.skip_to(earlier.mark)):
            raise JournalError(
                f"{self.name} is not the file that {self.journal.path} is about, or was changed where it had "
                "been sent already; use --restart to send it from its beginning, or name another --journal"
            )
        if earlier.defaults != self._defaults() or wishes.timestamp not in (None, earlier.timestamp):
            raise JournalError(
                f"an earlier run of {self.name} filled in another app monitor, session or time, and events "
                "that are sent again must not differ; give the same options, or use --restart"
            )
        return earlier

    def _defaults(self) -> dict[str, Any]:
        monitor, session = self._wishes.app_monitor, self._wishes.session
        return {
            "app_monitor": None
            if monitor is None
            else [monitor.id, monitor.name, monitor.version, monitor.alias],
            "session": None if session is None else [session.id, session.user_id],
            "new_session": self._wishes.new_session,
        }

    def _default_session(self, identity: str) -> Session | None:
        if self._wishes.new_session:
            return Session(derived_id(identity, b"session").decode())
        return self._wishes.session

    # Its lines ------------------------------------------------------------------------------------------

    @property
    def needs_save(self) -> bool:
        """Whether no line may be handed over before the journal says that it may be."""
        return self.journal is not None and self.book.read >= self._reach

    def chunk(self) -> bytes:
        """Read what comes next, nothing at the end or where the data is damaged."""
        try:
            return self.source.read()
        except Damaged as error:
            self.cut_short = str(error)
            return b""

    def last_line(self, cutter: LineCutter) -> RawLine | None:
        """Return the line without a newline at the end of the file, if it is one that can be read."""
        raw = cutter.end()
        if raw is None or self.cut_short is not None:
            return None
        if raw.content is not None:
            content = _stripped(raw.content, 0)
            found = list(self._parser.read(content, 0))
            if not any(isinstance(each, Fault) and each.field == "line" for each in found):
                return raw
            if not content:
                return None
        self.cut_short = "the last line has no newline, and cannot be read"
        return None

    def offers(self, raw: RawLine) -> tuple[Line, Iterator[Offer | Fault]] | None:
        """Take in a line; return it with what it holds, `None` where nothing of it is to be sent."""
        line = self.book.add(raw.length, raw.crc, complete=raw.complete)
        if line is None:
            return None
        if raw.content is None:
            rule = "must not be longer than 2 MiB"
            return line, iter((Fault("line", rule, f"{raw.length} bytes"),))
        content = _stripped(raw.content, line.number)
        if not content:
            self.book.blank(line)
            return None
        return line, self._parser.read(content, line.number)

    def reject(self, line: Line, fault: Fault, raw: RawLine) -> None:
        """Note a line, or an event of it, that is not sent."""
        line.rejected += 1
        entry: dict[str, Any] = {"line": line.number, "outcome": "rejected", "reason": str(fault)}
        if fault.index is not None:
            entry["event"] = fault.index
        if self._wishes.rejects_with_lines and raw.content is not None:
            entry["text"] = raw.content.decode(errors="replace")
        line.note(entry)

    def died(self, line: Line, event: bytes, letter: DeadLettered) -> None:
        """Note an event that the buffer gave up."""
        entry = {
            "line": line.number,
            "outcome": "dead-lettered",
            "id": orjson.loads(event)["id"],
            "reason": str(letter.reason),
            "detail": letter.detail,
        }
        if self._wishes.rejects_with_lines:
            entry["text"] = event.decode()
        line.note(entry)

    def _write(self, entries: list[dict[str, Any]]) -> None:
        try:
            for entry in entries:
                self.rejects.write(entry)
        except OSError as error:
            self.failed = self.failed or error

    # How it is kept -------------------------------------------------------------------------------------

    @property
    def is_settled(self) -> bool:
        """Whether it was read to its end, and every line is settled."""
        return self.is_read and self.book.is_settled

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it is left for another run."""
        return self.is_settled and self.cut_short is None

    @property
    def newly_lost(self) -> int:
        """Lost events that no run which came to its end has reported."""
        return self.book.totals.lost - self._start.told

    @property
    def totals(self) -> Totals:
        """What became of the lines that are settled."""
        return self.book.totals

    async def save(self, *, reach: int, final: bool = False) -> None:
        """Bring the journal up to date; off the loop's thread. Raises `OSError`.

        `reach` is the last line that may be handed over before the next save.
        """
        async with self._saving:
            if self.failed is not None:
                raise self.failed
            if self.journal is None:
                return
            book = self.book
            done = final and self.is_settled
            bookmark = Bookmark(
                self._start.identity,
                self._start.timestamp,
                self._start.defaults,
                book.mark,
                book.beyond(),
                max(self._start.reach, reach),
                book.tail,
                book.totals.copy(),
                self.rejects.size,
                book.totals.lost if done else self._start.told,
                done and self.cut_short is None,
            )
            await in_thread(partial(self._save, self.journal, bookmark))
            self._reach = bookmark.reach
            self.saved_at = time.monotonic()

    def _save(self, journal: Journal, bookmark: Bookmark) -> None:
        self.rejects.sync()
        journal.save(bookmark)

    def note_cut(self) -> None:
        """Write down why the end could not be read; behind what the journal knows, for it is read again."""
        self.rejects.write({"line": self.book.read + 1, "outcome": "left", "reason": self.cut_short})

    def close(self) -> None:
        """Close everything."""
        self.source.close()
        if self.journal is not None:
            self.journal.close()
        if hasattr(self, "rejects"):
            self.rejects.close()


async def in_thread(work: Callable[[], Result]) -> Result:
    """Do what waits for the disk off the loop; cancelled, wait for its end all the same."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # nobody asks any more
        raise


def _stripped(content: bytes, number: int) -> bytes:
    """Return a line without the white space around it, and the first without its byte order mark."""
    return (content.removeprefix(_BOM) if number <= 1 else content).strip()
