"""What `rumbuffer demo` does around the run: environment, signals, output, exit status."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click
from rich.console import Console

from rumbuffer.cli.demo.run import Demo, Finished
from rumbuffer.cli.demo.service import ServiceGone, isolated_environment
from rumbuffer.cli.demo.view import Lines, LiveView, summary

__all__ = ["run_demo"]

_FAILED = 1
_INTERRUPTED = 130
_TERMINATED = 143


def run_demo(seconds: float, *, as_json: bool, live: bool) -> int:
    """Run the demo, print what came of it, and return the exit status."""
    # With --json, standard output is the document's alone.
    console = _Console(stderr=as_json, highlight=False)
    live = live and console.is_terminal and not console.is_dumb_terminal
    view = LiveView(console) if live else Lines(console)
    demo = Demo(seconds, view.show)
    try:
        with isolated_environment(), _log_to(console), view:
            finished, status = asyncio.run(_until_terminated(demo))
    except KeyboardInterrupt:
        finished, status = None, _INTERRUPTED
    except ServiceGone as error:
        raise click.ClickException(str(error)) from None
    if finished is None:
        click.echo(_interrupted(demo), err=True)
        return status
    if as_json:
        json.dump(finished.as_dict(), sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        console.print(summary(finished))
    return 0 if finished.ok else _FAILED


async def _until_terminated(demo: Demo) -> tuple[Finished | None, int]:
    """Run the demo; SIGTERM ends it as Ctrl-C does, which is asyncio's own affair."""
    task = asyncio.current_task()
    assert task is not None
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await demo.run(), 0
    except asyncio.CancelledError:
        if not terminated:
            raise
        return None, _TERMINATED


def _interrupted(demo: Demo) -> str:
    stats = demo.stats
    if stats is None:
        return "Interrupted before it began."
    return (
        f"Interrupted: {demo.visitors.total:,} visitors, {stats.accepted:,} events accepted, "
        f"{stats.delivered:,} delivered until then.\nThe rest was let go, and nothing was compared."
    )


class _Console(Console):
    """Lets a closed pipe be an error like others, which ends the run in good order (`demo | head`)."""

    def on_broken_pipe(self) -> None:
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
def _log_to(console: Console) -> Iterator[None]:
    logger = logging.getLogger("rumbuffer")
    handler = _ConsoleHandler(console)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates
