"""What `rumbuffer send` does around the run: settings, signals, output, exit status."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from rumbuffer import AppMonitor, InvalidEvent, InvalidSetting, Limits, Pacing, Session
from rumbuffer.aws import AwsSender
from rumbuffer.cli.send.file import Wishes
from rumbuffer.cli.send.journal import JournalError
from rumbuffer.cli.send.run import Ended, Moment, Run
from rumbuffer.cli.send.view import Bar, Lines, Nothing, as_dict, summary
from rumbuffer.live import View
from rumbuffer.settings import from_environment

__all__ = ["run_send"]

_LOST = 1
_USAGE = 2
_INTERRUPTED = 130
_TERMINATED = 143

_CTRL_C, _SIGTERM = "Ctrl-C", "SIGTERM"

_NOBODY = AppMonitor("00000000-0000-0000-0000-000000000000")
"""The buffer's own app monitor where every event must name one."""

_MAX_PENDING_BYTES = 24 * 1024 * 1024
_LINGER = 60.0
"""Seconds. Nobody waits for the events of a file: a batch waits for more until memory is full, or the file
is read. What comes through a pipe is sent after the library's own linger."""


_FLAGS = {
    "session.id": "--session-id",
    "session.user_id": "--user-id",
    **{f"AppMonitor.{name}": f"--app-monitor-{name}" for name in ("id", "name", "version", "alias")},
    **{
        name: f"--{name.replace('_', '-')}"
        for name in ("quota", "use", "burst", "group", "linger", "max_in_flight", "max_pending_bytes")
    },
}
"""The option that a setting comes from."""


def run_send(paths: Sequence[Path | None], options: dict[str, Any]) -> int:
    """Send the files, print what came of it, and return the exit status."""
    console = Console(stderr=True, highlight=False)
    view = _view(console, quiet=options["quiet"])
    try:
        run = _run_of(paths, options, view)
        run.begin()
        with _log_to(console, run), view:
            ended = asyncio.run(_until_signalled(run))
    except (InvalidSetting, InvalidEvent) as error:
        where = _FLAGS.get(error.field, error.field)
        raise _CannotBegin(f"{where}: {error.rule}; got {error.shape}") from None
    except JournalError as error:
        raise _CannotBegin(str(error)) from None
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        raise _CannotBegin(f"{where}{error.strerror or error}") from None
    if options["as_json"]:
        json.dump(as_dict(ended), sys.stdout, indent=2)
        sys.stdout.write("\n")
    elif not options["quiet"]:
        click.echo(summary(ended))
    elif not ended.is_clean:
        click.echo(summary(ended), err=True)
    return _status(ended)


class _CannotBegin(click.ClickException):
    exit_code = _USAGE


def _status(ended: Ended) -> int:
    if ended.stopped == _CTRL_C:
        return _INTERRUPTED
    if ended.stopped == _SIGTERM:
        return _TERMINATED
    return 0 if ended.is_clean else _LOST


def _view(console: Console, *, quiet: bool) -> View[Moment]:
    if quiet:
        return Nothing()
    return Bar(console) if console.is_terminal and not console.is_dumb_terminal else Lines(console)


# Settings -------------------------------------------------------------------------------------------------


def _run_of(paths: Sequence[Path | None], options: dict[str, Any], view: View[Moment]) -> Run:
    monitor = _app_monitor(options)
    arguments = _buffer_arguments(paths, options, monitor)
    if options["profile"] is not None:
        os.environ["AWS_PROFILE"] = options["profile"]
    session = None
    if options["session_id"] is not None:
        user = {} if options["user_id"] is None else {"user_id": options["user_id"]}
        session = Session(options["session_id"], **user)
    wishes = Wishes(
        app_monitor=monitor,
        session=session,
        new_session=options["new_session"],
        timestamp=options["timestamp"],
        journal=options["journal"],
        keeps_journal=not options["no_journal"],
        restart=options["restart"],
        rejects=options["rejects"],
        rejects_with_lines=options["rejects_with_lines"],
    )
    region, endpoint = arguments.pop("region_name", None), arguments.pop("endpoint_url", None)
    sender = AwsSender(
        region_name=_first(options["region"], region),
        endpoint_url=_first(options["endpoint_url"], endpoint),
    )
    return Run(paths, wishes, arguments, sender, show=view.show, give_up=options["give_up"])


def _app_monitor(options: dict[str, Any]) -> AppMonitor | None:
    if options["app_monitor_id"] is not None:
        names = ("id", "name", "version", "alias")
        return AppMonitor(**{name: options[f"app_monitor_{name}"] for name in names})
    if not os.environ.get("RUMBUFFER_APP_MONITOR_ID"):
        return None
    monitor: AppMonitor = from_environment(None, {})["app_monitor"]
    return monitor


def _buffer_arguments(
    paths: Sequence[Path | None], options: dict[str, Any], monitor: AppMonitor | None
) -> dict[str, Any]:
    """Return a `RumBuffer`'s arguments: as the environment says, and the options before it."""
    arguments = from_environment(None, {"app_monitor": monitor or _NOBODY})
    arguments.setdefault("pacing", Pacing())
    arguments.setdefault("limits", Limits())
    if not os.environ.get("RUMBUFFER_MAX_PENDING_BYTES"):
        arguments["limits"] = replace(arguments["limits"], max_pending_bytes=_MAX_PENDING_BYTES)
    if not os.environ.get("RUMBUFFER_LINGER") and all(path is not None and path.is_file() for path in paths):
        arguments["limits"] = replace(arguments["limits"], linger=_LINGER)
    pacing = {name: options[name] for name in ("use", "burst", "group") if options[name] is not None}
    if options["quota"] is not None:
        pacing["quota"] = _quota(options["quota"])
    names = ("linger", "max_in_flight", "max_pending_bytes", "oversize")
    limits = {name: options[name] for name in names if options[name] is not None}
    arguments["pacing"] = replace(arguments["pacing"], **pacing)
    arguments["limits"] = replace(arguments["limits"], **limits)
    return arguments


def _quota(text: str) -> float | None:
    if text.strip().lower() in ("none", "unknown"):
        return None
    try:
        return float(text)
    except ValueError:
        raise click.UsageError("--quota must be a number of requests a second, or 'unknown'.") from None


def _first(option: str | None, setting: str | None) -> str | None:
    return setting if option is None else option


# Signals and the log --------------------------------------------------------------------------------------


async def _until_signalled(run: Run) -> Ended:
    """Run it; Ctrl-C and SIGTERM end it in good order."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, run.stop, _CTRL_C)
    loop.add_signal_handler(signal.SIGTERM, run.stop, _SIGTERM)
    return await run.run()


class _ConsoleHandler(logging.Handler):
    """Prints log lines above the progress; not those on what the buffer has left when a run is stopped."""

    def __init__(self, console: Console, run: Run) -> None:
        super().__init__(logging.WARNING)
        self._console = console
        self._run = run

    def emit(self, record: logging.LogRecord) -> None:
        if not self._run.ending:
            self._console.print(f"log: {record.getMessage()}", markup=False, soft_wrap=True)


@contextmanager
def _log_to(console: Console, run: Run) -> Iterator[None]:
    logger = logging.getLogger("rumbuffer")
    handler = _ConsoleHandler(console, run)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates
