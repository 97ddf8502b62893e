"""What `rumbuffer demo` does around the run: environment, signals, output, exit status."""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import click

from rumbuffer.cli.console import Console, log_to
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
    console = Console(stderr=as_json, highlight=False)
    live = live and console.is_terminal and not console.is_dumb_terminal
    view = LiveView(console) if live else Lines(console)
    demo = Demo(seconds, view.show)
    try:
        with isolated_environment(), log_to(console), view:
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
