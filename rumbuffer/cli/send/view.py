"""What a person sees while it goes on: a progress bar, or a line now and then; and the totals."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from rumbuffer.cli.send.file import SentFile
from rumbuffer.cli.send.run import Ended, Moment
from rumbuffer.live import Still, TimedLines

__all__ = ["Bar", "Forecast", "Lines", "Nothing", "as_dict", "summary"]

_WINDOW = 5.0
"""Seconds that the rate is measured over."""


class Forecast:
    """The rate of the last seconds, and how long the rest takes at the pace of the whole run."""

    def __init__(self) -> None:
        self._moments: deque[Moment] = deque()
        self._first: Moment | None = None

    def add(self, moment: Moment) -> None:
        """Take in a moment."""
        self._first = self._first or moment
        self._moments.append(moment)
        while moment.seconds - self._moments[0].seconds > _WINDOW:
            self._moments.popleft()

    @property
    def rate(self) -> float:
        """Events delivered a second."""
        first, last = self._moments[0], self._moments[-1]
        span = last.seconds - first.seconds
        return (last.delivered - first.delivered) / span if span > 0 else 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds, if there is anything to tell them by."""
        first, last = self._first, self._moments[-1]
        if first is None or first.share is None or last.share is None or last.share <= first.share:
            return None
        return (last.seconds - first.seconds) * (1 - last.share) / (last.share - first.share)

    def text(self) -> str:
        """Both, in words."""
        moment, remaining = self._moments[-1], self.remaining
        parts = [
            f"{moment.lines:,} lines read",
            f"{moment.delivered:,} events delivered",
            f"{self.rate:,.0f}/s",
        ]
        if moment.lost:
            parts.append(f"{moment.lost:,} lost")
        if remaining is not None:
            parts.append(f"{_duration(remaining)} left")
        if moment.health != "ok":
            parts.append(f"health: {moment.health}")
        return ", ".join(parts)


class Nothing(Still):
    """Shows nothing (`--quiet`)."""

    def show(self, moment: Moment) -> None:
        """Show nothing."""


class Lines(TimedLines):
    """A line every few seconds, for files and pipes."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._forecast = Forecast()

    def show(self, moment: Moment) -> None:
        """Print it, if the last one was some seconds ago."""
        self._forecast.add(moment)
        self.print_at(
            moment.seconds, lambda: f"{moment.seconds:4.0f} s {moment.file}: {self._forecast.text()}"
        )


class Bar:
    """A progress bar, drawn anew four times a second."""

    def __init__(self, console: Console) -> None:
        self._forecast = Forecast()
        self._progress = Progress(
            TextColumn("{task.fields[share]}"),
            BarColumn(bar_width=20),
            TextColumn("{task.description}", markup=False),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, share="    ")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, moment: Moment) -> None:
        """Draw it."""
        self._forecast.add(moment)
        known = moment.share is not None
        self._progress.update(
            self._task,
            description=self._forecast.text(),
            total=1.0 if known else None,
            completed=moment.share or 0.0,
            share=f"{100 * (moment.share or 0.0):3.0f}%" if known else "    ",
            refresh=True,
        )


def summary(ended: Ended) -> str:
    """Return the totals, and what to do about them."""
    totals = ended.totals
    dead = "".join(
        f", {count:,} dead-lettered ({why})" for why, count in sorted(totals.dead_lettered.items())
    )
    lines = _counted(totals.lines, "line") + (f", {totals.blank:,} of them blank" if totals.blank else "")
    delivered = _counted(totals.delivered, "event")
    text = [f"{lines}: {delivered} delivered, {totals.rejected:,} rejected{dead}."]
    if totals.repeated:
        text.append(
            f"{totals.repeated:,} events were sent again, for an earlier run had read them and not noted "
            "their delivery; they are the same, with the same ids."
        )
    text += [line for file in ended.files for line in _about(file)]
    text += [f"Not sent: {why}" for why in ended.refused]
    if ended.not_begun:
        text.append(f"{ended.not_begun:,} files were not begun.")
    if ended.stopped is not None:
        text.append(_how_to_go_on(ended))
    return "\n".join(text)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _about(file: SentFile) -> Iterator[str]:
    if file.was_done and file.book.read < file.first_line and file.cut_short is None:
        yield f"{file.name}: nothing new; it was sent by an earlier run (--restart sends it again)."
    if file.totals.lost or file.rejects.written:
        yield f"{file.name}: the reasons are in {file.rejects.path}."
    if file.cut_short is not None:
        yield f"{file.name}: {file.cut_short}; from line {file.book.read + 1:,} on nothing was sent."


def _how_to_go_on(ended: Ended) -> str:
    left = [file for file in ended.files if not file.is_settled]
    if all(file.journal is not None for file in left):
        return f"Stopped ({ended.stopped}). The same command goes on from there."
    return f"Stopped ({ended.stopped}). There is no journal to go on from; name one with --journal."


def as_dict(ended: Ended) -> dict[str, Any]:
    """Return all of it, ready for JSON."""
    return {
        "clean": ended.is_clean,
        "stopped": ended.stopped,
        "seconds": round(ended.seconds, 3),
        **_totals(ended),
        "refused": ended.refused,
        "not_begun": ended.not_begun,
        "files": [
            {
                "file": file.name,
                **_totals(file),
                "settled": file.is_settled,
                "cut_short": file.cut_short,
                "journal": None if file.journal is None else str(file.journal.path),
                "rejects": str(file.rejects.path) if file.rejects.size else None,
            }
            for file in ended.files
        ],
    }


def _totals(counted: Ended | SentFile) -> dict[str, Any]:
    totals = counted.totals
    return {name: getattr(totals, name) for name in totals.__slots__}


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
