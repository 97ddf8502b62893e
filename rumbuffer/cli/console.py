"""What commands that run for a while print to."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import rich.console

__all__ = ["Console", "log_to"]


class Console(rich.console.Console):
    """Lets a closed pipe be an error like others, which ends a run in good order (`… | head`)."""

    def on_broken_pipe(self) -> None:
        """Let it be raised."""
        raise  # noqa: PLE0704 - rich calls this while it handles the BrokenPipeError


class _ConsoleHandler(logging.Handler):
    """Prints log lines above the live view."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(BrokenPipeError):  # the next line of the view ends the run
            self._console.print(f"log: {record.getMessage()}", markup=False, soft_wrap=True)


@contextmanager
def log_to(console: Console) -> Iterator[None]:
    """Print what rumbuffer logs as warnings and errors, inside."""
    logger = logging.getLogger("rumbuffer")
    handler = _ConsoleHandler(console)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates
