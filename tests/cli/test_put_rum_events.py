"""`rumbuffer put-rum-events` where it does what the AWS CLI does not, and around it: files, signals, help."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest

import rumbuffer
from rumbuffer.aws.errors import SETTINGS
from rumbuffer.cli.put_rum_events import put_rum_events
from rumbuffer.emulator import Credentials, Emulator, Fault
from rumbuffer.events import NIL_USER_ID
from tests.aws.helpers import Wire, answer
from tests.cli.conftest import LEAST, Run
from tests.emulator.helpers import MONITOR, SESSION, USER, document, uuid_of

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


def given(**changes: Any) -> str:
    """A whole request as JSON."""
    return json.dumps({"Id": MONITOR, **document(**changes)})


# What may be left out ----------------------------------------------------------------------------------


async def test_what_can_be_made_up_may_be_left_out(emulator: Emulator, run: Run) -> None:
    """Batch id, session, app monitor's details, event ids and times are filled in, anew each time."""
    began = time.time()
    assert await run(*LEAST) == (0, "", "")
    assert await run(*LEAST) == (0, "", "")
    first, second = emulator.batches
    assert first.app_monitor_details == {"id": MONITOR}
    assert first.user_id == NIL_USER_ID
    assert UUID.fullmatch(first.session_id or "")
    (event,) = first.events
    assert (event.type, event.details, event.metadata) == ("com.example.paid", '{"total": 42}', None)
    assert began - 1 <= event.timestamp <= time.time()
    made = {
        first.batch_id,
        second.batch_id,
        first.session_id,
        second.session_id,
        event.id,
        second.events[0].id,
    }
    assert len(made) == 6
    assert all(UUID.fullmatch(each or "") for each in made)


async def test_what_is_given_goes_out_as_it_is(emulator: Emulator, run: Run) -> None:
    """One request with the ids, details and times as they were given."""
    assert await run("--cli-input-json", given(Alias="shop", SessionMetadata='{"version":"1.0.0"}')) == (
        0,
        "",
        "",
    )
    (batch,) = emulator.batches
    assert batch.document == document(Alias="shop", SessionMetadata='{"version":"1.0.0"}')
    assert emulator.requests.received == 1


async def test_session_metadata(emulator: Emulator, run: Run) -> None:
    """`--session-metadata` reaches the service although botocore may not know it."""
    assert await run(*LEAST, "--session-metadata", '{"domain":"a.example"}') == (0, "", "")
    assert emulator.batches[0].session_metadata == '{"domain":"a.example"}'


async def test_an_event_that_the_service_drops_is_warned_of(emulator: Emulator, run: Run) -> None:
    """Above 6 KB the request is sent as it was asked for, and standard error says what becomes of it."""
    events = json.dumps([{"type": "a", "details": json.dumps({"text": "x" * 6144})}])
    status, out, err = await run("--id", MONITOR, "--rum-events", events)
    assert (status, out) == (0, "")
    assert err.startswith("Warning: RumEvents[0] has 6,156 bytes of details and metadata; the service drops")
    assert emulator.requests.silently_dropped == 1


# Forms of input ----------------------------------------------------------------------------------------


async def test_events_may_come_in_several_forms(emulator: Emulator, run: Run, tmp_path: Path) -> None:
    """JSON lists, JSON objects, shorthand and files may stand beside each other."""
    (tmp_path / "list").write_text('\ufeff[{"type": "b", "details": "{}"}, {"type": "c", "details": "{}"}]')
    (tmp_path / "shorthand").write_text("type=d,details={}".replace("{}", "'{}'"))
    words = ["type=a,details='{}'", f"file://{tmp_path}/list", f"fileb://{tmp_path}/shorthand"]
    words.append('{"type": "e", "details": "{}"}')
    assert await run("--id", MONITOR, "--rum-events", *words) == (0, "", "")
    assert [event.type for event in emulator.batches[0].events] == ["a", "b", "c", "d", "e"]


async def test_paths_may_hold_variables(
    emulator: Emulator, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`~` and `$VARIABLE` in a path are replaced, as the AWS CLI does."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PART", "name")
    (tmp_path / "name").write_text("shop")
    assert await run(*LEAST, "--alias", "file://~/$PART") == (0, "", "")
    assert emulator.batches[0].alias == "shop"


async def test_yaml(emulator: Emulator, run: Run, tmp_path: Path) -> None:
    """A request may be YAML 1.2, in which `yes` is a text; the command line wins here too."""
    path = tmp_path / "request.yaml"
    path.write_text(
        f"Id: {MONITOR}\nBatchId: {uuid_of(3)}\nAlias: yes\n"
        f"UserDetails: {{sessionId: {SESSION}, userId: {USER}}}\n"
        "RumEvents:\n- type: a\n  timestamp: 2026-11-22T10:00:00.5Z\n  details: >\n    {}\n"
    )
    assert await run("--cli-input-yaml", f"file://{path}", "--batch-id", uuid_of(4)) == (0, "", "")
    (batch,) = emulator.batches
    assert (batch.batch_id, batch.alias, batch.events[0].timestamp) == (uuid_of(4), "yes", 1795341600.5)


async def test_the_yaml_skeleton_is_the_json_one(run: Run) -> None:
    """`yaml-input` prints the same members as `input`, and says which are required and what they are."""
    from ruamel.yaml import YAML

    as_json = json.loads((await run("--generate-cli-skeleton"))[1])
    status, out, err = await run("--generate-cli-skeleton", "yaml-input")
    assert (status, err) == (0, "")
    as_yaml = YAML(typ="safe", pure=True).load(out)
    as_yaml["RumEvents"][0]["timestamp"] = as_yaml["RumEvents"][0]["timestamp"].isoformat()
    assert as_yaml == as_json
    assert "Id: '' # [REQUIRED] The ID of the app monitor that is sending this data.\n" in out
    assert " id: '' # [REQUIRED] A unique ID for this event.\n" in out


# The way there -----------------------------------------------------------------------------------------


async def test_plain_endpoints_work(emulator: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--endpoint-url http://127.0.0.1:PORT` is taken as it is, which the AWS CLI's host prefix prevents."""
    monkeypatch.delenv("AWS_ENDPOINT_URL_RUM")
    assert await run(*LEAST, "--endpoint-url", emulator.endpoint_url) == (0, "", "")
    assert len(emulator.batches) == 1


async def test_profile(emulator: Emulator, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--profile` brings region, endpoint and credentials."""
    environment = emulator.environment()
    for name in environment:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    (tmp_path / "config").write_text(
        "[profile shop]\nregion = us-east-1\n"
        f"endpoint_url = {emulator.endpoint_url}\n"
        f"aws_access_key_id = {environment['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {environment['AWS_SECRET_ACCESS_KEY']}\n"
    )
    assert await run(*LEAST, "--profile", "shop") == (0, "", "")
    assert len(emulator.batches) == 1


async def test_one_request_is_made(emulator: Emulator, run: Run) -> None:
    """A throttle is told with what the service asks for, and nothing is sent again."""
    emulator.script(Fault.throttle(retry_after=7))
    status, out, err = await run(*LEAST)
    assert (status, out) == (255, "")
    assert "An error occurred (ThrottlingException) when calling the PutRumEvents operation" in err
    assert err.endswith("\nHint: the service asks to wait 7 s\n")
    assert emulator.requests.received == 1


@pytest.mark.parametrize(
    "fault", [Fault.throttle(retry_after=0), Fault.store_then_status(500, retry_after=0)]
)
async def test_more_tries_may_be_asked_for(
    emulator: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """With AWS_MAX_ATTEMPTS the same request is sent again, with the same ids, and what it asks is obeyed."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    emulator.script(fault, fault)
    assert await run(*LEAST) == (0, "", "")
    assert (emulator.requests.received, emulator.requests.conflicting) == (3, 0)
    assert len(emulator.batches) == 1


async def test_what_is_refused_is_not_tried_again(
    emulator: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad request is sent once, however many tries are allowed."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    status, _, err = await run(*LEAST, "--batch-id", "g" * 36)
    assert status == 255
    assert "(ValidationException)" in err
    assert emulator.requests.received == 1


async def test_hints(emulator: Emulator, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error says what to do about it, in a line of its own."""
    emulator.service.app_monitors = ()
    hints = [(await run(*LEAST))[2]]
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    hints.append((await run(*LEAST))[2])
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.delenv("AWS_REGION", raising=False)
    hints.append((await run(*LEAST))[2])
    assert [re.findall(r"\nHint: (.*)\n\Z", hint) for hint in hints] == [
        ["no such app monitor in this account and region"],
        [SETTINGS["NoCredentialsError"]],
        ["name a region with --region, set AWS_REGION, or give the profile one"],
    ]


async def test_a_redirect_is_no_success(emulator: Emulator, run: Run) -> None:
    """An endpoint that redirects has stored nothing, whatever its last answer was."""
    async with Wire(answer("302 Found", f"Location: {emulator.endpoint_url}/")) as wire:
        status, out, err = await run(*LEAST, "--endpoint-url", wire.url)
    assert (status, out) == (255, "")
    assert "the endpoint redirects to http://127.0.0.1; name where it is" in err


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for localhost, and its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    made = tmp_path / "made.pem"
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext".split()
    words += ["subjectAltName=DNS:localhost", "-keyout", str(made), "-out", str(tmp_path / "certificate.pem")]
    subprocess.run(words, check=True, capture_output=True)
    made.write_text(made.read_text() + (tmp_path / "certificate.pem").read_text())
    return made


async def test_certificates(run: Run, emulator: Emulator, certificate: Path) -> None:
    """A certificate that nobody knows is refused, unless it is named or nothing is to be checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with Wire(tls=context) as wire:
        status, _, err = await run(*LEAST, "--endpoint-url", wire.url)
        assert (status, wire.heads) == (255, [])
        assert "SSL validation failed" in err
        trusted = ["--ca-bundle", str(certificate.with_name("certificate.pem"))]
        assert await run(*LEAST, "--endpoint-url", wire.url, *trusted) == (0, "", "")
        assert await run(*LEAST, "--endpoint-url", wire.url, "--no-verify-ssl") == (0, "", "")


async def test_the_read_timeout_ends_a_silence(run: Run, emulator: Emulator) -> None:
    """A service that says nothing for so long is given up."""
    emulator.script(Fault.hang())
    status, _, err = await run(*LEAST, "--cli-read-timeout", "1")
    assert status == 255
    assert "Read timeout on endpoint URL" in err


# Exit statuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "v1", "v2"),
    [
        ([], 2, 252),
        (["--cli-"], 2, 252),
        ([*LEAST, "--nonsense"], 255, 252),
        ([*LEAST, "--alias", ""], 255, 252),
        ([*LEAST, "--region", ""], 255, 253),
        ([*LEAST, "--no-sign-request"], 255, 254),
        ([*LEAST, "--profile", "nobody"], 255, 255),
    ],
)
async def test_exit_statuses_of_both_versions(
    emulator: Emulator,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    v1: int,
    v2: int,
) -> None:
    """The exit statuses are those of the AWS CLI's version 1, or of version 2 where it is asked for."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.delenv("AWS_REGION", raising=False)
    if "--region" not in arguments:
        arguments = ["--region", "us-east-1", *arguments]
    assert (await run(*arguments))[0] == v1
    assert (await run("--cli-exit-codes", "v2", *arguments))[0] == v2
    assert (await run("--cli-exit-codes=v2", *arguments))[0] == v2


async def test_ctrl_c_ends_it_at_once(emulator: Emulator) -> None:
    """Ctrl-C while the service is silent ends with status 130 and says nothing."""
    emulator.script(Fault.hang())
    command = [sys.executable, "-m", "rumbuffer", "put-rum-events", *LEAST]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    while not emulator.requests.received:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert (process.returncode, out, err.strip()) == (130, b"", b"")


# Around it ---------------------------------------------------------------------------------------------


async def test_debug(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--debug` logs the steps to standard error, without the session token, and ends with the command."""
    before = [*logging.getLogger("botocore").handlers], logging.getLogger("botocore").level
    async with Emulator(credentials=Credentials("AKID", "secret", "the+token/=")) as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        status, out, err = await run(*LEAST, "--debug")
    assert (status, out) == (0, "")
    assert "botocore" in err
    assert "com.example.paid" in err
    assert "the+token" not in err
    assert (logging.getLogger("botocore").handlers, logging.getLogger("botocore").level) == before


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"], [*LEAST, "--help"]])
async def test_help(run: Run, arguments: list[str]) -> None:
    """The help has an example, and every option has a line."""
    status, out, err = await run(*arguments)
    assert (status, err) == (0, "")
    assert "The least that an event needs:\n    rumbuffer put-rum-events --id" in out
    options = [option for option in put_rum_events.params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help] == []
    assert [option.name for option in options if not option.hidden and option.opts[0] not in out] == []


async def test_usage_errors_say_where_help_is(run: Run) -> None:
    """What is wrong with the command line is said after how it should look."""
    status, out, err = await run("--id", MONITOR)
    assert (status, out) == (2, "")
    assert err == (
        "Usage: rumbuffer put-rum-events --id ID --rum-events EVENT... [OPTIONS]\n"
        "Try 'rumbuffer put-rum-events --help' for help.\n\n"
        "Error: the following arguments are required: --rum-events\n"
    )


async def test_version(run: Run) -> None:
    """`--version` is understood after the command's name too."""
    assert await run("--version") == (0, f"rumbuffer {rumbuffer.__version__}\n", "")


async def test_a_missing_yaml_library_is_part_of_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ruamel.yaml the command says what to install; what needs no YAML works."""
    for module in [name for name in sys.modules if name.startswith("ruamel")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "ruamel", None)
    status, _, err = await run("--cli-input-yaml", "{}")
    assert status == 2
    assert "needs ruamel" in err
    assert "pip install 'rumbuffer[cli]'" in err
    assert (await run("--generate-cli-skeleton", "yaml-input"))[0] == 0
