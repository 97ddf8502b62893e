"""The same arguments through the real `aws` and through ours, each against an emulator of its own.

Compared are what the emulator received, the exit status, and the kind of error. The AWS CLI cannot be told to
leave out the host prefix, so both use the emulator as their HTTP proxy.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rumbuffer.cli import main
from rumbuffer.emulator import Emulator
from tests.cli.awscli import drive, version_of_awscli
from tests.emulator.helpers import MONITOR, SESSION, USER, uuid_of

pytestmark = [pytest.mark.external, pytest.mark.timeout(240)]

EVENT = {"id": uuid_of(9), "timestamp": 1795365502, "type": "com.example.paid", "details": '{"total":42}'}
AS_JSON = json.dumps([EVENT])
AS_SHORTHAND = f'id={uuid_of(9)},timestamp=1795365502,type=com.example.paid,details="{{\\"total\\":42}}"'

FILES: dict[str, str | bytes] = {
    "events.json": AS_JSON,
    "event.json": json.dumps(EVENT),
    "details.json": '{"total": 42}',
    "monitor": f"id={MONITOR},name=shop",
    "text": "no JSON at all",
    "latin1": "caf\xe9".encode("latin-1"),
    "empty": "",
}


def request(**changes: Any) -> str:
    """A whole request as JSON; `None` takes a member out. `BATCH` becomes the case's own batch id."""
    members = {
        "Id": MONITOR,
        "BatchId": "BATCH",
        "AppMonitorDetails": {"id": MONITOR},
        "UserDetails": {"userId": USER, "sessionId": SESSION},
        "RumEvents": [EVENT],
    }
    return json.dumps({name: value for name, value in {**members, **changes}.items() if value is not None})


def line(*more: str, **changes: str | list[str] | None) -> list[str]:
    """A valid command line; `changes` replace options' words, `None` takes one out, `more` is put behind."""
    options: dict[str, str | list[str] | None] = {
        "id": MONITOR,
        "batch_id": "BATCH",
        "app_monitor_details": f"id={MONITOR},name=shop,version=1.4.2",
        "user_details": f"userId={USER},sessionId={SESSION}",
        "rum_events": AS_SHORTHAND,
    }
    words = []
    for name, value in {**options, **changes}.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", *([value] if isinstance(value, str) else value)]
    return [*words, *more]


def events(*changes: dict[str, Any]) -> str:
    """A JSON list of events, each with changes; `None` takes a member out."""
    return json.dumps(
        [{name: value for name, value in (EVENT | change).items() if value is not None} for change in changes]
    )


CASES: dict[str, list[str]] = {
    # What is accepted
    "shorthand": line(),
    "JSON": line(
        app_monitor_details=json.dumps({"id": MONITOR, "name": "shop"}),
        user_details=json.dumps({"userId": USER, "sessionId": SESSION}),
        rum_events=AS_JSON,
    ),
    "one JSON object": line(rum_events=json.dumps(EVENT)),
    "two JSON objects": line(rum_events=[json.dumps(EVENT), json.dumps(EVENT | {"id": uuid_of(8)})]),
    "two in shorthand": line(rum_events=[AS_SHORTHAND, AS_SHORTHAND.replace(uuid_of(9), uuid_of(8))]),
    "JSON with space around": line(rum_events=f"  \n{AS_JSON} "),
    "no event": line(rum_events="[]"),
    "no word after --rum-events": line(rum_events=[]),
    "the last of two counts": line("--rum-events", AS_JSON, "--batch-id", "BATCH", batch_id=uuid_of(7)),
    "abbreviated names": [word.replace("--app-monitor-details", "--app") for word in line()],
    "name=value": line("--batch-id=BATCH", batch_id=None),
    "an option between the events": line(
        rum_events=[AS_SHORTHAND, "--region", "us-east-1", AS_SHORTHAND.replace(uuid_of(9), uuid_of(8))]
    ),
    "single quotes": line(app_monitor_details=f"id={MONITOR},name='a, b=c {{[\"'"),
    "double quotes": line(app_monitor_details=f'id={MONITOR},name="it\'s \\"quoted\\""'),
    "escaped comma": line(app_monitor_details=f"id={MONITOR},name=a\\,b"),
    "empty profile": line("--profile", ""),
    "empty value": line(app_monitor_details=f"id={MONITOR},name="),
    "equals sign in a value": line(app_monitor_details=f"id={MONITOR},name=a=b"),
    "spaces around": line(app_monitor_details=f"id = {MONITOR} , name = the shop "),
    "letters of the world": line(app_monitor_details=f"id={MONITOR},name=çàñ 茶"),
    "shorthand with a file": line(
        rum_events=f"id={uuid_of(9)},timestamp=1795365502,type=com.example.paid,details@=file://FOLDER/details.json"
    ),
    "file of events": line(rum_events="file://FOLDER/events.json"),
    "file of shorthand": line(app_monitor_details="file://FOLDER/monitor"),
    "ISO 8601": line(rum_events=events({"timestamp": "2026-11-22T10:00:00Z"})),
    "ISO 8601 with an offset": line(rum_events=events({"timestamp": "2026-11-22T10:00:00+01:00"})),
    "naive ISO 8601": line(rum_events=events({"timestamp": "2026-11-22 10:00:00"})),
    "a date": line(rum_events=events({"timestamp": "2026-11-22"})),
    "epoch as a text": line(rum_events=events({"timestamp": "1795365502"})),
    "epoch with a fraction": line(rum_events=events({"timestamp": 1795365502.25})),
    "metadata": line(rum_events=events({"metadata": '{"version":"1.0.0","domain":"a.example"}'})),
    "alias": line("--alias", "shop"),
    "an upper-case id": line(user_details=f"userId={USER},sessionId={SESSION.upper()}"),
    "no user details": line(user_details="{}"),
    "--cli-input-json": ["--cli-input-json", request()],
    "the command line wins": line("--cli-input-json", request(RumEvents=[], Alias="x"), rum_events=AS_JSON),
    "half from each": line("--cli-input-json", request(RumEvents=None, Id=None), app_monitor_details=None),
    "harmless options": line(
        "--output", "text", "--color", "off", "--no-paginate", "--cli-read-timeout", "0", "--no-verify-ssl"
    ),
    "--query": line("--query", "nothing"),
    "--query as text": line("--query", "nothing", "--output", "text"),
    "skeleton": ["--generate-cli-skeleton"],
    "skeleton input": ["--generate-cli-skeleton", "input", "--id", "1"],
    "skeleton output": line("--generate-cli-skeleton", "output"),
    # What is refused on the spot
    "JSON that ends early": line(app_monitor_details='{"id": '),
    "JSON with a comma too many": line(rum_events='[{"id": "1",}]'),
    "JSON for the wrong option": line(user_details="[1]"),
    "a number for the events": line(rum_events="[1]"),
    "shorthand without value": line(app_monitor_details="id"),
    "shorthand with two equals signs": line(app_monitor_details=f"id=={MONITOR}"),
    "shorthand with a key twice": line(app_monitor_details="id=1,id=2"),
    "shorthand with an open quote": line(app_monitor_details='name="shop'),
    "shorthand with an open list": line(app_monitor_details="name=[a,b"),
    "shorthand that is empty": line(app_monitor_details=""),
    "shorthand with a list for a text": line(app_monitor_details="name=a,b"),
    "shorthand with a structure for a text": line(app_monitor_details="name={a=b,c=[d,e]}"),
    "nested shorthand for details": line(
        rum_events=AS_SHORTHAND.partition("details=")[0] + "details={total=42}"
    ),
    "details that are an object": line(rum_events=events({"details": {"total": 42}})),
    "a space for a comma": line(app_monitor_details=[f"id={MONITOR}", "name=shop"]),
    "missing --id": line(id=None),
    "missing --rum-events": line(rum_events=None),
    "option without value": line(batch_id=[]),
    "option with an option for a value": line(batch_id="--alias"),
    "unknown option": line("--nonsense", "1"),
    "ambiguous option": line("--cli-", "1"),
    "event without type": line(rum_events=events({"type": None})),
    "event without details": line(rum_events=events({}, {"details": None})),
    "request without id": ["--cli-input-json", request(Id=None)],
    "short id": line(id="8c1d7b1e"),
    "short batch id": line(batch_id="1"),
    "short event id": line(rum_events=events({"id": "1"})),
    "short user id": line(user_details="userId=1,sessionId=2"),
    "empty alias": line("--alias", ""),
    "id that is a number": line(rum_events=events({"id": 5})),
    "member that is null": line(rum_events=events({"metadata": 0})),
    "unknown member": line(app_monitor_details=f"id={MONITOR},nane=shop"),
    "unknown member of an event": line(rum_events=events({"detail": "{}"})),
    "time that is none": line(rum_events=events({"timestamp": "yesterday"})),
    "time that is empty": line(rum_events=events({"timestamp": ""})),
    "file that is not there": line(app_monitor_details="file://FOLDER/nothing"),
    "file that is empty for the events": line(rum_events="file://FOLDER/empty"),
    "file for a text that is not there": line(batch_id="file://FOLDER/nothing"),
    "file that is a folder": line(rum_events="file://FOLDER"),
    "file that is not UTF-8": line(rum_events="file://FOLDER/latin1"),
    "file that is no JSON": ["--cli-input-json", "file://FOLDER/text"],
    "file that is empty": ["--cli-input-json", "file://FOLDER/empty"],
    "--cli-input-json that is no JSON": ["--cli-input-json", "{"],
    "--cli-input-json that is not there": ["--cli-input-json", "file://FOLDER/nothing"],
    "skeleton of another kind": ["--generate-cli-skeleton", "toml"],
    "skeleton output without request": ["--generate-cli-skeleton", "output"],
    "endpoint without scheme": line("--endpoint-url", "rum.test"),
    "query that is none": line("--query", "[[["),
    "query with a function that is none": line("--query", "nonsense(@)"),
    "query with a function of something else": line("--query", "length(`1`)"),
    "endpoint with half an address": line("--endpoint-url", "http://[::1"),
    "output that is none": line("--output", "xml"),
    "timeout that is no number": line("--cli-read-timeout", "soon"),
    "profile that is not there": line("--profile", "nobody"),
    # What the service refuses
    "id that is no UUID": line(batch_id="g" * 36),
    "alias that is too long": line("--alias", "a" * 256),
    "type that is none": line(rum_events=events({"type": "a type"})),
    "no signature": line("--no-sign-request"),
    "other region": line("--region", "eu-west-1"),
    # What does not get there
    "nobody listens": line("--endpoint-url", "http://127.0.0.1:1"),
}
"""Command lines that must do the same in both."""

ENVIRONMENTS: dict[str, dict[str, str | None]] = {
    "no region": {"AWS_DEFAULT_REGION": None, "AWS_REGION": None},
    "no credentials": {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
    "half the credentials": {"AWS_SECRET_ACCESS_KEY": None},
    "no try at all": {"AWS_MAX_ATTEMPTS": "0"},
}
"""Variables to change for a valid command line that must fail in the same way."""


DIFFERENCES: dict[str, tuple[list[str], str, str]] = {
    "no batch id": (line(batch_id=None), "required", ""),
    "no app monitor details": (line(app_monitor_details=None), "required", ""),
    "no user": (line(user_details=None), "required", ""),
    "event without id": (line(rum_events=events({"id": None})), "validation", ""),
    "event without time": (line(rum_events=events({"timestamp": None})), "validation", ""),
    "JSON and shorthand": (line(rum_events=[json.dumps(EVENT), AS_SHORTHAND]), "parameter rum-events", ""),
    "file of one object": (line(rum_events="file://FOLDER/event.json"), "parameter rum-events", ""),
    "details that are no JSON": (
        line(rum_events=events({"details": "no JSON"})),
        "the service: ValidationException",  # the real one drops the event
        "validation",
    ),
}
"""Where ours is meant to differ: a command line, the kind of the AWS CLI's error, and ours, if any."""


class Result(NamedTuple):
    """What one command line did."""

    status: int
    out: str
    err: str
    received: tuple[dict[str, Any], ...]


Results = dict[str, Result]


def prepared(number: int, words: list[str], folder: Path) -> list[str]:
    """The case's words with its own batch id and files."""
    return [word.replace("BATCH", uuid_of(1000 + number)).replace("FOLDER", str(folder)) for word in words]


def lines(folder: Path) -> dict[str, list[str]]:
    """Every case's words after the command's name."""
    cases = CASES | {name: line() for name in ENVIRONMENTS}
    cases |= {name: words for name, (words, _, _) in DIFFERENCES.items()}
    return {
        name: ["--endpoint-url", "http://rum.test", *prepared(number, words, folder)]
        for number, (name, words) in enumerate(cases.items())
    }


def environment_for(name: str, emulator: Emulator) -> dict[str, str | None]:
    """The variables for one case: the emulator is the proxy, and not the endpoint."""
    return {
        **emulator.environment(),
        "AWS_ENDPOINT_URL_RUM": None,
        "HTTP_PROXY": emulator.endpoint_url,
        "NO_PROXY": "127.0.0.1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        **ENVIRONMENTS.get(name, {}),
    }


def received(number: int, emulator: Emulator) -> tuple[dict[str, Any], ...]:
    """What came with the case's batch id."""
    return tuple(batch.document for batch in emulator.batches if batch.batch_id == uuid_of(1000 + number))


async def by_aws(folder: Path) -> Results:
    """All cases through the real one."""
    async with Emulator(quota=None) as emulator:
        cases = [
            {"arguments": ["rum", "put-rum-events", *words], "environment": environment_for(name, emulator)}
            for name, words in lines(folder).items()
        ]
        answers = await asyncio.to_thread(drive, "awscli_driver", cases)
        return {
            name: Result(**answer, received=received(number, emulator))
            for number, (name, answer) in enumerate(zip(lines(folder), answers, strict=True))
        }


async def by_us(folder: Path, version: str) -> Results:
    """All cases through ours, with the exit statuses of that version."""
    results = {}
    async with Emulator(quota=None) as emulator:
        for number, (name, words) in enumerate(lines(folder).items()):
            out, err = io.StringIO(), io.StringIO()
            with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
                for variable, value in environment_for(name, emulator).items():
                    patch.delenv(variable, raising=False) if value is None else patch.setenv(variable, value)
                arguments = ["put-rum-events", *words, "--cli-exit-codes", version]
                status = await asyncio.to_thread(main, arguments)
            results[name] = Result(status, out.getvalue(), err.getvalue(), received(number, emulator))
    return results


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Results]:
    """What the real one and ours did with all cases."""
    folder = tmp_path_factory.mktemp("files")
    for name, content in FILES.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    version = "v1" if version_of_awscli().startswith("1.") else "v2"
    return asyncio.run(by_both(folder, version))


async def by_both(folder: Path, version: str) -> tuple[Results, Results]:
    """The two side by side, for time's sake."""
    aws, ours = await asyncio.gather(by_aws(folder), by_us(folder, version))
    return aws, ours


_KINDS = (
    (r"Invalid IPv6 URL", "no address"),
    (r"An error occurred \((\w+)\) when calling the PutRumEvents operation", "the service: {0}"),
    (r"Error parsing parameter '(?:--)?([\w-]+)'", "parameter {0}"),
    (r"Parameter validation failed", "validation"),
    (r"Unknown options", "unknown option"),
    (r"arguments are required: ([^\n]*)", "required"),
    (r"argument (--[\w-]+): expected", "no value for {0}"),
    (r"argument (--[\w-]+): (?:Found )?[iI]nvalid choice", "no choice of {0}"),
    (r"ambiguous option", "ambiguous"),
    (r"Bad value for (--[\w-]+)", "bad value for {0}"),
    (r"You must specify a region", "region"),
    (r"Unable to locate credentials", "credentials"),
    (r"The config profile \((\w+)\) could not be found", "profile {0}"),
    (r"Could not connect to the endpoint URL", "no connection"),
    (r"Partial credentials found in env", "half the credentials"),
    (r"(Value provided to \"max_attempts\": 0 must be [^\n]*)", "{0}"),
    (r"(Unknown function: \S+)", "{0}"),
    (r"(In function length\(\), [^\n]*)", "{0}"),
    (r"invalid literal for int\(\) with base 10: (\S+)", "no number: {0}"),
)
_PROBLEMS = re.compile(
    r"(Missing required parameter in [\w\[\]]+: \"\w+\""
    r"|Unknown parameter in [\w\[\]]+: \"\w+\""
    r"|Invalid (?:type|length|value) for parameter [\w.\[\]]+)"
)


def kind_of(err: str) -> tuple[str, ...]:
    """What an error's text says went wrong, and where; empty for no error."""
    for pattern, kind in _KINDS:
        if found := re.search(pattern, err):
            return kind.format(*found.groups()), *sorted(set(_PROBLEMS.findall(err)))
    return (f"unknown: {err}",) if err.strip() else ()


def comparable(document: dict[str, Any]) -> dict[str, Any]:
    """The document with its times in whole seconds: the AWS CLI's version 1 cuts fractions off."""
    found = [event | {"timestamp": event["timestamp"] // 1} for event in document["RumEvents"]]
    return document | {"RumEvents": found}


@pytest.mark.parametrize("name", [*CASES, *ENVIRONMENTS])
def test_the_same_happens(name: str, both: tuple[Results, Results]) -> None:
    """The service receives the same, the exit status is the same, and an error is of the same kind."""
    aws, ours = both[0][name], both[1][name]
    assert [comparable(document) for document in ours.received] == [
        comparable(document) for document in aws.received
    ]
    assert (ours.status, kind_of(ours.err)) == (aws.status, kind_of(aws.err))
    assert (ours.status == 0) == (not ours.err)
    if not name.startswith("skeleton"):
        assert ours.out == aws.out


@pytest.mark.parametrize("name", DIFFERENCES)
def test_what_is_meant_to_differ(name: str, both: tuple[Results, Results]) -> None:
    """Where ours differs, the AWS CLI still does what the README says that it does, and so does ours."""
    _, theirs, mine = DIFFERENCES[name]
    aws, ours = both[0][name], both[1][name]
    assert kind_of(aws.err)[:1] == (theirs,)
    assert kind_of(ours.err)[:1] == ((mine,) if mine else ())
    assert (ours.status == 0) == (not mine)
    assert (aws.received, aws.status == 0) == ((), False)


@pytest.mark.parametrize("name", ["skeleton", "skeleton input"])
def test_the_skeleton_is_the_same(name: str, both: tuple[Results, Results]) -> None:
    """The skeleton is the AWS CLI's, with `SessionMetadata` where that is not new enough to know it."""
    aws, ours = json.loads(both[0][name].out), json.loads(both[1][name].out)
    assert ours == {**aws, "SessionMetadata": ""}
    assert both[1][name].out == json.dumps(ours, indent=4) + "\n"


def test_cases_are_what_they_seem(both: tuple[Results, Results]) -> None:
    """There are at least 40 cases, good and bad ones; the good ones arrived, and no bad one was unknown."""
    after_sending = {"query with a function that is none", "query with a function of something else"}
    results = [result for name, result in both[0].items() if name not in after_sending]
    arrived = [result for result in results if result.received]
    refused = [result for result in results if result.status != 0]
    assert min(len(arrived), len(refused)) >= 30
    assert all(result.status == 0 for result in arrived)
    assert [kind for result in refused for kind in kind_of(result.err) if kind.startswith("unknown:")] == []


def test_fractions_of_seconds_are_kept(both: tuple[Results, Results]) -> None:
    """A time arrives as it was given, also where the AWS CLI cuts it."""
    (document,) = both[1]["epoch with a fraction"].received
    assert document["RumEvents"][0]["timestamp"] == 1795365502.25
