"""The run: files into a buffer, as fast as it has room, and how it ends.

Reading is paced by the buffer alone: an event waits until there is room for it, so that as many sessions as
fit are open at once and fill their batches, and memory stays bounded. What is not bounded by that, the
lines behind the oldest one that is not settled, is bounded by `_AHEAD`.

What ends a run early (Ctrl-C, SIGTERM, a full disk, a service that takes nothing) lets nothing new go
out, waits a moment for the answers to what is out, and saves the journals.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rumbuffer import DeadLettered, InvalidEvent, RumBuffer, Sender
from rumbuffer.cli.send.book import Line
from rumbuffer.cli.send.file import SentFile, Wishes, in_thread
from rumbuffer.cli.send.journal import JournalError, Totals
from rumbuffer.cli.send.lines import Fault, Offer
from rumbuffer.cli.send.reading import LineCutter, RawLine
from rumbuffer.cli.send.tracking import Ledger, NotingSender, offer
from rumbuffer.core.encoding import EventEncoder

__all__ = ["Ended", "Moment", "Run", "Show"]

_AHEAD = 500_000
"""Lines that are read behind the oldest one that is not settled, at most. They cost 13 bytes each."""

_REACH = 20_000
"""Lines that may be handed over between two saves of the journal."""

_SAVED_EVERY = 1.0
_SHOWN_EVERY = 0.25
_LAST_ANSWERS = 3.0
"""Seconds that a run which ends early waits for the answers to what is out."""

_OPEN_FILES = 16
"""Files that are read and not settled, at most: small ones share the buffer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What is known at one moment. Counts are of this run; `share` of the input is settled, if known."""

    seconds: float
    file: str
    lines: int
    delivered: int
    lost: int
    pending: int
    health: str
    share: float | None
    throttled: int = 0
    """Requests refused with 429."""


Show = Callable[[Moment], None]


@dataclass(slots=True, kw_only=True)
class Ended:
    """How a run ended. `stopped` says why it ended early, `refused` why files were not begun at all."""

    files: list[SentFile] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)
    seconds: float = 0.0
    stopped: str | None = None
    refused: list[str] = field(default_factory=list)
    not_begun: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether everything is delivered, but for what an earlier run has reported."""
        return (
            self.stopped is None
            and all(file.is_whole and not file.newly_lost for file in self.files)
            and not self.refused
            and not self.not_begun
        )


class Run:
    """Sends `paths` (`None` is standard input), one after the other, through a buffer of its own.

    `buffer_arguments` are a `RumBuffer`'s, without the sender, which is `sender`. `give_up` is how many
    seconds nothing may be delivered while the service holds or fails; 0 means for ever.
    """

    def __init__(
        self,
        paths: Sequence[Path | None],
        wishes: Wishes,
        buffer_arguments: dict[str, Any],
        sender: Sender,
        *,
        show: Show,
        give_up: float = 0.0,
    ) -> None:
        self._paths = list(paths)
        self._wishes = wishes
        self._show = show
        self._give_up = give_up
        self._ledger = Ledger(self._died)
        self._sender = NotingSender(sender, self._ledger)
        self._buffer = RumBuffer(**buffer_arguments, sender=self._sender, hooks=[self._ledger.hear])
        limits = buffer_arguments["limits"]
        self._encoder = EventEncoder(limits.max_event_bytes, refuse_oversize=limits.oversize == "refuse")
        self._file: SentFile | None = None
        self._files: list[SentFile] = []
        self._refused: list[str] = []
        self._unsettled: list[SentFile] = []
        self._begun = 0
        self._lines = 0
        self._done = 0.0
        self._stopped: asyncio.Future[str] | None = None
        self._hurry = asyncio.Event()
        self._started = 0.0

    # From outside ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Open the first file, so that what cannot be begun is known before anything is sent.

        Raises `JournalError` and `OSError`: of several files only where one is not there or cannot be read.
        """
        for path in self._paths:
            if path is not None and not os.access(path, os.R_OK):
                path.stat()
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        try:
            self._take(SentFile(self._paths[0], self._wishes, self._encoder))
        except (JournalError, OSError) as error:
            if len(self._paths) == 1:
                raise
            self._refuse(self._paths[0], error)

    def stop(self, reason: str) -> None:
        """End early; a second call does not wait for answers. On the loop."""
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(reason)
            for file in self._unsettled:
                file.source.give_up()
        else:
            self._hurry.set()

    @property
    def ending(self) -> bool:
        """Whether it was stopped: then what the buffer has left is not lost, but another run's."""
        return self._stopped is not None and self._stopped.done()

    async def run(self) -> Ended:
        """Send everything, after `begin()`."""
        self._stopped = asyncio.get_running_loop().create_future()
        self._started = time.monotonic()
        await self._buffer.start()
        work = asyncio.create_task(self._work(), name="rumbuffer send")
        watch = asyncio.create_task(self._watch(), name="rumbuffer send watch")
        try:
            await asyncio.wait((work, watch, self._stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            reason = await self._end(work, watch)
        for task in (work, watch):
            if not task.cancelled() and (error := task.exception()) is not None:
                if not isinstance(error, OSError):
                    raise error
                where = "cannot write beside the input" if error.filename is None else f"{error.filename}"
                reason = reason or f"{where}: {error.strerror or error}"
        return self._ended(reason)

    async def _end(self, work: asyncio.Task[None], watch: asyncio.Task[None]) -> str | None:
        """Stop everything in good order, and save; return why it was stopped, if it was."""
        assert self._stopped is not None
        early = not (work.done() and not work.cancelled() and work.exception() is None)
        reason = self._stopped.result() if self._stopped.done() else None
        if early and not self._stopped.done():
            self._stopped.set_result("")
        for file in self._unsettled:
            file.source.give_up()
        for task in (work, watch):
            task.cancel()
        await asyncio.wait((work, watch))
        if early:
            hold = asyncio.ensure_future(self._sender.hold())
            hurry = asyncio.ensure_future(self._hurry.wait())
            await asyncio.wait((hold, hurry), timeout=_LAST_ANSWERS, return_when=asyncio.FIRST_COMPLETED)
            hold.cancel()
            hurry.cancel()
        await self._buffer.aclose(timeout=0 if early else None)
        for file in list(self._unsettled):
            with suppress(OSError):  # it is what ended the run, or the journal stays as it was
                await self._finish(file)
        return reason if early else None

    def _ended(self, reason: str | None) -> Ended:
        ended = Ended(
            files=self._files,
            seconds=time.monotonic() - self._started,
            stopped=reason,
            refused=self._refused,
            not_begun=len(self._paths) - self._begun,
        )
        for file in self._files:
            totals = file.totals
            sums = ended.totals
            for name in ("lines", "blank", "delivered", "rejected", "repeated"):
                setattr(sums, name, getattr(sums, name) + getattr(totals, name))
            for cause, count in totals.dead_lettered.items():
                sums.dead_lettered[cause] = sums.dead_lettered.get(cause, 0) + count
        return ended

    # The files ------------------------------------------------------------------------------------------

    def _take(self, file: SentFile) -> None:
        self._begun += 1
        self._file = file
        self._files.append(file)
        self._unsettled.append(file)

    def _refuse(self, path: Path | None, error: JournalError | OSError) -> None:
        """Go on without a file that cannot be begun."""
        self._begun += 1
        self._file = None
        text = str(error) if isinstance(error, JournalError) else f"{path}: {error.strerror or error}"
        self._refused.append(text)

    async def _work(self) -> None:
        for number, path in enumerate(self._paths):
            if number:
                try:
                    self._take(await in_thread(partial(SentFile, path, self._wishes, self._encoder)))
                except (JournalError, OSError) as error:
                    self._refuse(path, error)
            if self._file is not None:
                await self._send(self._file)
                await self._finish_settled(at_most=_OPEN_FILES)
        await self._finish_settled(at_most=0)

    async def _finish_settled(self, *, at_most: int) -> None:
        """Close the files that are settled; wait until no more than so many are left."""
        for file in [file for file in self._unsettled if file.is_settled]:
            await self._finish(file)
        if len(self._unsettled) > at_most:
            await self._buffer.flush()
            for file in [file for file in self._unsettled if file.is_settled]:
                await self._finish(file)

    async def _finish(self, file: SentFile) -> None:
        """Save it for the last time, and close it."""
        self._unsettled.remove(file)
        try:
            await file.save(reach=file.book.read, final=True)
            if file.cut_short is not None:
                file.note_cut()
        finally:
            file.close()

    async def _send(self, file: SentFile) -> None:
        cutter = LineCutter()
        while chunk := await in_thread(file.chunk):
            for raw in cutter.feed(chunk):
                await self._send_line(file, raw)
        if self.ending:  # the reading was given up, and this is not the end
            return
        last = file.last_line(cutter)
        if last is not None:
            await self._send_line(file, last)
        file.is_read = True

    async def _send_line(self, file: SentFile, raw: RawLine) -> None:
        if file.needs_save:
            await file.save(reach=file.book.read + _REACH)
        while file.book.ahead >= _AHEAD:
            self._ledger.moved.clear()
            await self._ledger.moved.wait()
        self._lines += 1
        found = file.offers(raw)
        if found is not None:
            line, offers = found
            await self._offer_all(file, raw, line, offers)
            line.settle_one()

    async def _offer_all(
        self, file: SentFile, raw: RawLine, line: Line, offers: Iterator[Offer | Fault]
    ) -> None:
        repeats = file.book.was_reached(line.number)
        for each in offers:
            if isinstance(each, Fault):
                file.reject(line, each, raw)
                continue
            fault = await self._offer(each, line)
            if fault is not None:
                file.reject(line, fault, raw)
            else:
                line.repeated += repeats

    async def _offer(self, offered: Offer, line: Line) -> Fault | None:
        """Hand an event to the buffer; return why it cannot be sent."""
        self._ledger.note(offered.event, line)
        while True:
            try:
                await offer(self._buffer, offered)
            except InvalidEvent as error:
                if error.field == "app_monitor":  # too many at once
                    await self._buffer.flush()
                    continue
                self._ledger.forget(offered.event, line)
                return Fault(error.field, error.rule, error.shape)
            return None

    def _died(self, line: Line, event: bytes, letter: DeadLettered) -> None:
        for file in self._unsettled:
            if file.book is line.book:
                file.died(line, event, letter)

    # Beside it ------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Show how far it is, save now and then, and give up where nothing goes on."""
        delivered, throttled, moved_at = 0, 0, time.monotonic()
        while True:
            await asyncio.sleep(_SHOWN_EVERY)
            moment = self._moment()
            self._show(moment)
            now = time.monotonic()
            is_throttled = moment.pending and moment.throttled > throttled  # health does not tell of it
            if moment.delivered > delivered or not (moment.health != "ok" or is_throttled):
                delivered, throttled, moved_at = moment.delivered, moment.throttled, now
            if self._give_up and now - moved_at >= self._give_up:
                self.stop(f"nothing was delivered for {self._give_up:g} s")
            for file in list(self._unsettled):
                if file.failed is not None:
                    raise file.failed
                if now - file.saved_at >= _SAVED_EVERY:
                    await file.save(reach=file.book.read + _REACH)

    def _moment(self) -> Moment:
        stats = self._buffer.stats()
        return Moment(
            seconds=time.monotonic() - self._started,
            file="" if self._file is None else self._file.name,
            lines=self._lines,
            delivered=self._ledger.delivered,
            lost=sum(file.totals.lost for file in self._files),
            pending=stats.pending + stats.in_flight,
            health=stats.health,
            share=self._share(),
            throttled=stats.throttled,
        )

    def _share(self) -> float | None:
        """How much of all files is settled, by their sizes; an estimate."""
        total = done = 0.0
        for path in self._paths[self._begun :]:
            with suppress(OSError):
                total += path.stat().st_size if path is not None else 0
        for file in self._files:
            if file.source.size is None:
                return None
            total += file.source.size
            read = file.book.read
            settled = 1.0 if not read else 1 - file.book.ahead / read
            done += file.source.taken * (settled if file in self._unsettled else 1.0)
        if total:  # what was read and not yet counted as lines must not make it go back
            self._done = max(self._done, done / total)
        return self._done if total else None
