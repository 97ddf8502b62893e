"""The click command: help, completion, and what happens in which order."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import click

import rumbuffer
from rumbuffer.cli.put_rum_events import values as read_values
from rumbuffer.cli.put_rum_events.failures import Failure, Kind
from rumbuffer.cli.put_rum_events.options import CONNECTION, REQUEST, exit_codes_of, read

__all__ = ["put_rum_events"]

_TIMEOUT = 60
"""Seconds; the AWS CLI's default for both of its timeouts."""

_HELP = """\
Send events to CloudWatch RUM with one request, as `aws rum put-rum-events` does.

It takes the options of that command; what can be made up may be left out (batch id, session, ids and times of
the events). Prints nothing when the events are accepted. Events go out as they are given, past the buffer:
no batching, and no retry unless AWS_MAX_ATTEMPTS or max_attempts in the profile says so.

\b
The least that an event needs:
  rumbuffer put-rum-events --id 8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11 \\
      --rum-events 'type=com.example.checkout,details="{\\"total\\": 42}"'

\b
To the service that `rumbuffer emulator` runs, with a request from a file:
  rumbuffer put-rum-events --generate-cli-skeleton > request.json
  rumbuffer put-rum-events --cli-input-json file://request.json \\
      --endpoint-url http://127.0.0.1:8750 --region us-east-1

STRUCTURE and EVENT are JSON ('{"name": "shop"}'), shorthand ('id=…,name=shop'), or file://PATH with one of
them. Credentials, region and profiles are found as the AWS CLI finds them.
"""


class _Command(click.Command):
    """A command whose arguments are read as the AWS CLI reads them; see options.py."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:  # a shell asks what could follow
            return super().parse_args(ctx, args)
        try:
            values = read(["--help"] if args == ["help"] else args)
        except Failure as failure:
            failure.count_as(exit_codes_of(args))
            raise
        if values.pop("help"):
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()
        if values.pop("version"):
            click.echo(f"rumbuffer {rumbuffer.__version__}")
            ctx.exit()
        ctx.params = values
        ctx.args = []
        return []

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Failure as failure:
            failure.count_as(ctx.params["cli_exit_codes"] or "v1")
            raise

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "--id ID --rum-events EVENT... [OPTIONS]")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, options in (("The request", REQUEST), ("How it is sent", CONNECTION)):
            records = [record for option in options if (record := option.get_help_record(ctx))]
            with formatter.section(title):
                formatter.write_dl(records)


def _run(**values: Any) -> None:
    """Run the command with the values that `options.read` gave."""
    _check_endpoint(values["endpoint_url"])
    query = _compiled(values["query"])
    if values["generate_cli_skeleton"] in {"input", "yaml-input"}:
        from rumbuffer.cli.put_rum_events import skeletons

        is_json = values["generate_cli_skeleton"] == "input"
        click.echo(skeletons.as_json() if is_json else skeletons.as_yaml())
        return
    from rumbuffer.cli.put_rum_events.call import Connection, logged_to_stderr, send
    from rumbuffer.cli.put_rum_events.request import request_of

    connection = Connection(
        region=values["region"],
        profile=values["profile"] or None,
        endpoint_url=values["endpoint_url"],
        sign=not values["no_sign_request"],
        verify=False if values["no_verify_ssl"] else values["ca_bundle"],
        read_timeout=_seconds(values["cli_read_timeout"]),
        connect_timeout=_seconds(values["cli_connect_timeout"]),
    )
    request = request_of(_members(values))
    for warning in request.warnings:
        click.echo(f"Warning: {warning}", err=True)
    is_sent = values["generate_cli_skeleton"] is None
    if is_sent:
        with logged_to_stderr() if values["debug"] else contextlib.nullcontext():
            asyncio.run(send(request, connection))
    _print_answer(query, values["output"], hint="the events were sent" if is_sent else "")


def _check_endpoint(url: str | None) -> None:
    if url is None:
        return
    form = "Must be of the form http://<hostname>/ or https://<hostname>/"
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise Failure(Kind.OTHER, f'Bad value for --endpoint-url "{url}": {error}.  {form}') from None
    if not scheme:
        raise Failure(Kind.PARAMETER, f'Bad value for --endpoint-url "{url}": scheme is missing.  {form}')
    if scheme not in {"http", "https"}:
        raise Failure(Kind.OTHER, f'Bad value for --endpoint-url "{url}": scheme is {scheme}.  {form}')


def _compiled(query: str | None) -> Any:
    if query is None:
        return None
    import jmespath  # botocore's

    try:
        return jmespath.compile(query)
    except Exception as error:  # noqa: BLE001 - whatever it finds wrong
        raise Failure(Kind.PARAMETER, f"Bad value for --query {query}: {error}") from None


def _seconds(value: str | None) -> int:
    try:
        seconds = _TIMEOUT if value is None else int(value)
    except ValueError as error:
        raise Failure(Kind.OTHER, str(error)) from None
    if seconds < 0:
        raise Failure(Kind.OTHER, f"A timeout of {seconds} seconds is not possible; 0 is for none.")
    return seconds


def _members(values: dict[str, Any]) -> dict[str, Any]:
    """Return what the command line says of the request; its own options go before a document's members."""
    documents = [option for option in _DOCUMENTS if _value(values, option) is not None]
    if len(documents) > 1:
        raise Failure(Kind.PARAMETER, "Only one --cli-input- parameter may be specified.")
    missing = [option for option in ("--id", "--rum-events") if _value(values, option) is None]
    if missing and not documents:
        raise Failure(Kind.USAGE, f"the following arguments are required: {', '.join(missing)}")
    given = {
        member: parse(option, _value(values, option))
        for option, (member, parse) in _MEMBERS.items()
        if _value(values, option) is not None
    }
    for option in documents:
        given = read_values.document(option, _value(values, option)) | given
    return given


def _value(values: dict[str, Any], option: str) -> Any:
    return values[option.removeprefix("--").replace("-", "_")]


_DOCUMENTS = ("--cli-input-json", "--cli-input-yaml")

_MEMBERS: dict[str, tuple[str, Callable[[str, Any], Any]]] = {
    "--id": ("Id", read_values.text),
    "--batch-id": ("BatchId", read_values.text),
    "--app-monitor-details": ("AppMonitorDetails", read_values.structure),
    "--user-details": ("UserDetails", read_values.structure),
    "--rum-events": ("RumEvents", read_values.events),
    "--alias": ("Alias", read_values.text),
    "--session-metadata": ("SessionMetadata", read_values.text),
}


def _found(query: Any, hint: str) -> Any:
    from jmespath.exceptions import JMESPathError

    try:
        return query.search({})
    except JMESPathError as error:  # a function that is not there, or not for such a value
        raise Failure(Kind.OTHER, str(error), hint) from None


def _print_answer(query: Any, output: str | None, hint: str) -> None:
    """Print what `--query` finds in the answer; the service's is `{}`."""
    if query is None or (found := _found(query, hint)) == {}:
        return
    if output in {None, "json"}:
        click.echo(json.dumps(found, indent=4))
    elif output == "text" and not isinstance(found, (dict, list)):
        click.echo(str(found))


put_rum_events: click.Command = _Command(
    "put-rum-events",
    callback=_run,
    help=_HELP,
    short_help="Send events with one request, as the AWS CLI does.",
    params=[*REQUEST, *CONNECTION],
    context_settings={"help_option_names": ["-h", "--help"]},
)
