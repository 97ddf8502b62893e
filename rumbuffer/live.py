"""What the commands show while they go on: what the views of `demo`, `send` and `bench` have in common.

A view is a context manager that is shown one moment after the other: drawn anew in a terminal, or as a line
now and then in a file or a pipe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self, TypeVar

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table

__all__ = ["TREND_WIDTH", "Drawn", "Still", "TimedLines", "View"]

TREND_WIDTH = 24
"""Values of a trend: 80 columns are enough for a table with one."""

_LINE_EVERY = 5.0
"""Seconds between two lines."""

_BARS = "▁▂▃▄▅▆▇█"
_PLAIN_BARS = "_.-=+*#@"

Moment_contra = TypeVar("Moment_contra", contravariant=True)


class View(Protocol[Moment_contra]):
    """Shows moments, from its `with` on."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def show(self, moment: Moment_contra) -> None:
        """Show it."""
        ...


class Still:
    """What has nothing to begin and nothing to end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class TimedLines(Still):
    """A line every few seconds, for files and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = _LINE_EVERY

    def print_at(self, seconds: float, text: Callable[[], str]) -> None:
        """Print a line `seconds` after the start, if the last one was some seconds before."""
        if seconds < self._next:
            return
        while self._next <= seconds:
            self._next += _LINE_EVERY
        self._console.print(text(), soft_wrap=True, markup=False, highlight=False)


class Drawn:
    """What is drawn anew with each moment, in its old place, and is gone at the end."""

    def __init__(self, console: Console) -> None:
        self._bars = _BARS if console.encoding.lower().startswith("utf") else _PLAIN_BARS
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def draw(self, what: RenderableType) -> None:
        """Put it in the place of what was drawn before."""
        self._live.update(what, refresh=True)

    def trend(self, values: Sequence[float]) -> str:
        """Return a bar for each value, the highest for the largest."""
        top = max(values, default=0.0)
        if top <= 0:
            return self._bars[0] * len(values)
        return "".join(self._bars[round(max(0.0, value) / top * (len(self._bars) - 1))] for value in values)

    @staticmethod
    def trend_table(value_width: int) -> Table:
        """Return a table with a name, a value, a trend and a note in each row."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(justify="right", no_wrap=True, min_width=value_width)
        table.add_column(style="cyan", no_wrap=True, min_width=TREND_WIDTH, max_width=TREND_WIDTH)
        table.add_column(no_wrap=True, overflow="ellipsis")
        return table
