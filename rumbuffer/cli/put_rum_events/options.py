"""The options, and reading a command line as the AWS CLI reads it.

click's options are what `--help` and the shells' completion show. A command line is read by argparse, as
the AWS CLI's is, for click knows neither `--rum-events EVENT EVENT` nor abbreviated names: first the
options that all commands of the AWS CLI have, wherever they stand, then this command's own.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NoReturn

import click
from click.shell_completion import CompletionItem

from rumbuffer.cli.put_rum_events.failures import Failure, Kind

__all__ = ["CONNECTION", "REQUEST", "exit_codes_of", "read"]


def _profiles(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the names of the profiles in AWS's files."""
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    try:
        profiles = Session().available_profiles
    except BotoCoreError:  # a file that cannot be read; a Tab is no time to tell
        return []
    return [CompletionItem(name) for name in profiles if name.startswith(incomplete)]


def _regions(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the regions that have the service."""
    from botocore.session import Session

    return [
        CompletionItem(name) for name in Session().get_available_regions("rum") if name.startswith(incomplete)
    ]


def _ignored(name: str, **settings: Any) -> click.Option:
    return click.Option([name], hidden=True, help="Taken for the AWS CLI's sake, without effect.", **settings)


REQUEST: Final = (
    click.Option(["--id"], metavar="ID", help="Id of the app monitor that receives the events."),
    click.Option(
        ["--rum-events"],
        multiple=True,
        metavar="EVENT...",
        help=(
            "The events: type and details, and optionally id, timestamp and metadata. One JSON list, or one "
            "JSON object or shorthand text for each event."
        ),
    ),
    click.Option(
        ["--user-details"],
        metavar="STRUCTURE",
        help="userId and sessionId. Left out: a new session, and no known user.",
    ),
    click.Option(
        ["--app-monitor-details"],
        metavar="STRUCTURE",
        help="id, name and version of the app monitor. Left out: the id.",
    ),
    click.Option(["--batch-id"], metavar="ID", help="The batch's id. Left out: a new one."),
    click.Option(["--alias"], metavar="TEXT", help="For app monitors whose policy demands an alias."),
    click.Option(
        ["--session-metadata"],
        metavar="JSON",
        help="Attributes that hold for all the events: the JSON text of an object.",
    ),
    click.Option(
        ["--cli-input-json"],
        metavar="JSON",
        help="The whole request as JSON, or file://PATH. Options on the command line win over it.",
    ),
    click.Option(["--cli-input-yaml"], metavar="YAML", help="The same as YAML."),
    click.Option(
        ["--generate-cli-skeleton"],
        is_flag=False,
        flag_value="input",
        type=click.Choice(["input", "output", "yaml-input"]),
        help=(
            "Send nothing. input (when no word follows) and yaml-input print an empty request to fill in; "
            "output checks the request."
        ),
    ),
)
"""What makes the request."""

_TAKEN = (
    _ignored("--no-paginate", is_flag=True),
    _ignored("--no-cli-pager", is_flag=True),
    _ignored("--no-cli-auto-prompt", is_flag=True),
    _ignored("--v2-debug", is_flag=True),
    _ignored("--color", type=click.Choice(["on", "off", "auto"])),
    _ignored("--cli-binary-format", type=click.Choice(["base64", "raw-in-base64-out"])),
    _ignored(
        "--cli-error-format",
        type=click.Choice(["legacy", "json", "yaml", "text", "table", "enhanced"]),
    ),
)

CONNECTION: Final = (
    click.Option(["--region"], metavar="NAME", shell_complete=_regions, help="Region of the app monitor."),
    click.Option(
        ["--profile"], metavar="NAME", shell_complete=_profiles, help="Profile in AWS's configuration files."
    ),
    click.Option(
        ["--endpoint-url"],
        metavar="URL",
        help="Another endpoint, for example that of rumbuffer emulator: http://127.0.0.1:8750",
    ),
    click.Option(["--no-sign-request"], is_flag=True, help="Send without signature; needs no credentials."),
    click.Option(
        ["--ca-bundle"], type=click.Path(), metavar="FILE", help="Certificates of the authorities to trust."
    ),
    click.Option(["--no-verify-ssl"], is_flag=True, help="Trust any certificate."),
    click.Option(
        ["--cli-read-timeout"],
        metavar="SECONDS",
        help="Longest silence of the service; 60 when left out, 0 for no limit.",
    ),
    click.Option(
        ["--cli-connect-timeout"],
        metavar="SECONDS",
        help="Longest wait for a connection; 60 when left out, 0 for no limit.",
    ),
    click.Option(["--query"], metavar="JMESPATH", help="Print this part of the answer, which is always {}."),
    click.Option(
        ["--output"],
        type=click.Choice(["json", "text", "table", "yaml", "yaml-stream", "off"]),
        help="Form of what --query prints; others than json and text print nothing.",
    ),
    click.Option(
        ["--cli-exit-codes"],
        type=click.Choice(["v1", "v2"]),
        help="Exit statuses of the AWS CLI's version 1 (2 and 255; the default) or 2 (252 to 255).",
    ),
    click.Option(
        ["--debug"], is_flag=True, help="Log each step to standard error, request and answer included."
    ),
    click.Option(["--version"], is_flag=True, help="Show the version and exit."),
    *_TAKEN,
)
"""How it is sent; all commands of the AWS CLI have most of these."""


class _Parser(argparse.ArgumentParser):
    """Raises where argparse would print and exit."""

    def error(self, message: str) -> NoReturn:
        raise Failure(Kind.USAGE, message)


def read(arguments: Sequence[str]) -> dict[str, Any]:
    """Return each option's value by its name, `None` for one that is not given. Raises `Failure`."""
    helping = click.Option(["--help", "-h"], is_flag=True)
    connection, rest = _parser((*CONNECTION, helping)).parse_known_args(list(arguments))
    request, unknown = _parser(REQUEST).parse_known_args(rest)
    values = vars(connection) | vars(request)
    if unknown and not values["help"]:
        raise Failure(Kind.UNKNOWN_OPTION, f"Unknown options: {', '.join(unknown)}")
    return values


def _parser(options: Sequence[click.Option]) -> argparse.ArgumentParser:
    parser = _Parser(add_help=False, usage="")
    for option in options:
        parser.add_argument(*option.opts, dest=option.name, **_settings(option))
    return parser


def _settings(option: click.Option) -> dict[str, Any]:
    if option.is_flag:
        return {"action": "store_true"}
    settings: dict[str, Any] = {}
    if isinstance(option.type, click.Choice):
        settings["choices"] = list(option.type.choices)
    if option.multiple:
        settings["nargs"] = "*"
    elif option.name == "generate_cli_skeleton":
        settings |= {"nargs": "?", "const": option.flag_value}
    return settings


def exit_codes_of(arguments: Sequence[str]) -> str:
    """Whose exit statuses a command line asks for, even one that is wrong elsewhere: `v1` or `v2`."""
    asked = ("--cli-exit-codes", "v2") in pairwise(arguments) or "--cli-exit-codes=v2" in arguments
    return "v2" if asked else "v1"
