"""`rumbuffer send`: files of events in bulk, resumable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from rumbuffer.cli.send.beside import is_own

__all__ = ["send"]

Command = TypeVar("Command", bound=Callable[..., Any])

_FILE = click.Path(dir_okay=False, readable=False, allow_dash=True, path_type=Path)
_OUT = click.Path(dir_okay=False, path_type=Path)

_SETTINGS: tuple[tuple[str, Any, str, str], ...] = (
    ("--region", str, "NAME", "AWS region."),
    ("--endpoint-url", str, "URL", "Another endpoint, as of `rumbuffer emulator`."),
    ("--profile", str, "NAME", "Profile of the AWS configuration."),
    ("--quota", str, "NUMBER", "Requests a second that the account may make, or 'unknown'. [default: 50]"),
    ("--use", float, "SHARE", "Share of the quota to take. [default: 0.8]"),
    ("--burst", int, "COUNT", "Requests that may go out at once at the start. [default: 10]"),
    ("--group", str, "NAME", "Processes of this host that name it share one pace. [default: default]"),
    ("--linger", float, "SECONDS", "The longest that a batch waits for more. [default: 60; of a pipe 5]"),
    ("--max-in-flight", int, "COUNT", "Requests that may be on their way at once. [default: 32]"),
    ("--max-pending-bytes", int, "BYTES", "Memory for events that wait. [default: 25165824]"),
    (
        "--oversize",
        click.Choice(["refuse", "send"]),
        "refuse|send",
        "What to do with events above 6 KB, which the service drops silently. [default: refuse]",
    ),
)


def _setting_options(command: Command) -> Command:
    for flag, kind, unit, text in reversed(_SETTINGS):
        command = click.option(flag, type=kind, default=None, metavar=unit, help=text)(command)
    return command


_HELP = """\
Send files of events, in full batches and within the quota.

FILE holds a JSON object a line, plain or gzip; - is standard input. A line is an event with its session
or a whole PutRumEvents document, as boto3 takes it or the browser sends it:

\b
{"type": "com.example.search", "details": {"q": "tea"},
 "session": {"id": "2f0bd9a5-3f6e-4a43-a1a1-7a5c8f6f4d10"}}

An event may have "id", "timestamp" (seconds since the epoch, or ISO 8601), "metadata" and "app_monitor",
a session "user_id" and "attributes". What is missing is filled in: the id from file and line, so that
it is the same whenever it is sent.

Stopped by Ctrl-C, a crash or a power cut, the same command goes on where it was, from a journal beside
the file; when the file has grown, it sends what is new. An event may arrive twice then, and is the same
both times. Journals and reject files among several FILEs (FOLDER/*) are left out. RUMBUFFER_* variables
set what no option does.

\b
Exit status: 0 all delivered; 1 some were not, or it was stopped; 2 it could not begin; 130 Ctrl-C.

\b
Try it: rumbuffer emulator, in a terminal of its own; then, with the variables that it prints:
  rumbuffer send events.ndjson --app-monitor-id 8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11
"""


@click.command(help=_HELP)
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE…")
@click.option("--app-monitor-id", metavar="UUID", help="App monitor of events that name none.")
@click.option("--app-monitor-name", metavar="NAME", help="Its name.")
@click.option("--app-monitor-version", metavar="VERSION", help="Your application's version.")
@click.option("--app-monitor-alias", metavar="ALIAS", help="For a resource policy that demands one.")
@click.option("--session-id", metavar="UUID", help="Session of events that name none.")
@click.option("--user-id", metavar="UUID", help="User of that session.")
@click.option(
    "--new-session", is_flag=True, help="A session for events that name none, derived from the file."
)
@click.option(
    "--timestamp",
    metavar="SECONDS",
    type=click.FloatRange(min=0.0),
    help="Time of events that bring none. [default: when the file was last changed]",
)
@click.option(
    "--journal",
    type=_OUT,
    metavar="PATH",
    help="Where to note how far it is. [default: FILE.rumbuffer-journal]",
)
@click.option("--no-journal", is_flag=True, help="Note nothing; another run begins anew.")
@click.option("--restart", is_flag=True, help="Begin anew, whatever the journal says.")
@click.option(
    "--rejects",
    type=_OUT,
    metavar="PATH",
    help="Where to say what is not sent, and why. [default: FILE.rumbuffer-rejects]",
)
@click.option(
    "--rejects-with-lines", is_flag=True, help="Put the lines themselves there, too; they may be personal."
)
@_setting_options
@click.option(
    "--give-up",
    type=click.FloatRange(min=0.0),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Stop when the service fails or refuses, and takes nothing for so long; 0 for never.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the totals as one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress, and print nothing but errors.")
def send(files: tuple[Path, ...], **options: Any) -> int:
    """Check the options, and run it."""
    files = _inputs(files)
    _check(files, options)
    from rumbuffer.cli.send.command import run_send

    return run_send([None if str(path) == "-" else path for path in files], options)


def _inputs(files: tuple[Path, ...]) -> tuple[Path, ...]:
    """Leave out journals and reject files, which a pattern like `FOLDER/*` names as well."""
    found = tuple(path for path in files if not is_own(path))
    if not found:
        raise click.UsageError(
            f"{files[0]} has the name of a journal or a reject file; to send it, rename it, or use standard "
            "input (-)."
        )
    return found


def _check(files: tuple[Path, ...], options: dict[str, Any]) -> None:
    """Refuse what contradicts itself."""
    if len(files) > 1:
        if any(str(path) == "-" for path in files):
            raise click.UsageError("standard input (-) is sent by itself, without other files.")
        for name in ("journal", "rejects"):
            if options[name] is not None:
                raise click.UsageError(f"--{name} is for one FILE; each has its own beside it.")
    if options["no_journal"] and (options["journal"] is not None or options["restart"]):
        raise click.UsageError("--no-journal goes with neither --journal nor --restart.")
    if options["new_session"] and options["session_id"] is not None:
        raise click.UsageError("--session-id and --new-session: use one of them.")
    if options["user_id"] is not None and options["session_id"] is None:
        raise click.UsageError("--user-id is the user of --session-id.")
    places = [path.resolve() for path in (*files, options["journal"], options["rejects"]) if path is not None]
    if len(set(places)) < len(places):
        raise click.UsageError("FILE, --journal and --rejects must be different files.")
    for name in ("name", "version", "alias"):
        if options[f"app_monitor_{name}"] is not None and options["app_monitor_id"] is None:
            raise click.UsageError(f"--app-monitor-{name} goes with --app-monitor-id.")
