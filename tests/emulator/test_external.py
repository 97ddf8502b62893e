"""Clients that we did not write: AWS's command line and its SDK for JavaScript."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rumbuffer.emulator import Credentials, Emulator, Fault
from tests.emulator.helpers import MONITOR, document, event, uuid_of

pytestmark = [pytest.mark.external, pytest.mark.timeout(180)]

SDK = Path(__file__).with_name("sdk.mjs")


def missing(what: str) -> None:
    """Skip, or fail where everything is required."""
    if os.environ.get("RUMBUFFER_REQUIRE_ALL") == "1":
        pytest.fail(f"{what} is required and not there; tests/external/install.sh installs it")
    pytest.skip(f"{what} is not there; tests/external/install.sh installs it")


@pytest.fixture(scope="module")
def aws_cli() -> str:
    """A command line of AWS that runs."""
    command = os.environ.get("RUMBUFFER_AWS_CLI") or shutil.which("aws")
    if command is None:
        missing("the AWS CLI")
    else:
        asked = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
        if asked.returncode == 0 and asked.stdout.startswith("aws-cli/"):
            return command
        missing(f"a working AWS CLI ({command} is none)")
    raise AssertionError


@pytest.fixture(scope="module")
def node_modules() -> str:
    """A folder with @aws-sdk/client-rum, and node to run it."""
    folder = os.environ.get("RUMBUFFER_NODE_MODULES", "")
    if not (Path(folder) / "@aws-sdk/client-rum/package.json").is_file():
        missing("@aws-sdk/client-rum (RUMBUFFER_NODE_MODULES)")
    if shutil.which("node") is None:
        missing("node")
    return folder


async def run(*command: str, environment: dict[str, str]) -> tuple[int, str, str]:
    """Run a command with nothing but the given environment and PATH."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={"PATH": os.environ["PATH"], "HOME": os.devnull, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def call_cli(
    emulator: Emulator, aws_cli: str, *, secret: str | None = None, **changes: Any
) -> tuple[int, str, str]:
    """`aws rum put-rum-events` with the emulator as its HTTP proxy: it has no switch for the host prefix."""
    sent = document(**changes)
    environment = {**emulator.environment(), "HTTP_PROXY": emulator.endpoint_url, "AWS_MAX_ATTEMPTS": "1"}
    del environment["AWS_ENDPOINT_URL_RUM"]
    if secret is not None:
        environment["AWS_SECRET_ACCESS_KEY"] = secret
    arguments = {
        "id": MONITOR,
        "batch-id": sent["BatchId"],
        "app-monitor-details": json.dumps(sent["AppMonitorDetails"]),
        "user-details": json.dumps(sent["UserDetails"]),
        "rum-events": json.dumps(sent["RumEvents"]),
        "endpoint-url": "http://rum.test",
    }
    options = [part for name, value in arguments.items() for part in (f"--{name}", value)]
    return await run(aws_cli, "rum", "put-rum-events", *options, environment=environment)


async def call_sdk(emulator: Emulator, node_modules: str, **changes: Any) -> Any:
    """PutRumEvents of @aws-sdk/client-rum; what it answered or threw."""
    call = json.dumps({"Id": MONITOR, **document(**changes)})
    command = ["node", str(SDK), node_modules, emulator.endpoint_url, emulator.region, call]
    code, output, errors = await run(*command, environment=emulator.environment())
    assert code == 0, errors
    return json.loads(output)


async def test_the_aws_cli_is_accepted(aws_cli: str) -> None:
    """Signed for a host of its own and sent through HTTP_PROXY, a batch arrives as it was given."""
    async with Emulator(credentials=Credentials("AKID", "secret", "token+/=")) as emulator:
        code, _, errors = await call_cli(emulator, aws_cli)
        assert (code, errors) == (0, "")
        (batch,) = emulator.batches
        assert batch.app_monitor_details == document()["AppMonitorDetails"]
        # Its botocore may be one that sends whole seconds only.
        assert [{**e._asdict(), "timestamp": e.timestamp // 1} for e in batch.events] == [
            event(timestamp=1795365502)
        ]


async def test_the_aws_cli_sees_errors_as_the_service_s(aws_cli: str) -> None:
    """A refusal of the model, a throttle and a wrong key are told by their names."""
    async with Emulator(region="eu-central-1") as emulator:
        seen = []
        for fault, changes in (
            (None, {"BatchId": "g" * 36}),
            (Fault.throttle(retry_after=2), {}),
            (Fault.status(404), {}),
        ):
            if fault is not None:
                emulator.script(fault)
            seen.append((await call_cli(emulator, aws_cli, **changes))[2])
        seen.append((await call_cli(emulator, aws_cli, secret="guess"))[2])
    names = [
        "ValidationException",
        "ThrottlingException",
        "ResourceNotFoundException",
        "InvalidSignatureException",
    ]
    for name, errors in zip(names, seen, strict=True):
        assert f"An error occurred ({name}) when calling the PutRumEvents operation" in errors


async def test_the_javascript_sdk_is_accepted(node_modules: str) -> None:
    """A batch signed by AWS's SDK for JavaScript arrives as it was given."""
    async with Emulator(credentials=Credentials("AKID", "secret", "token+/=")) as emulator:
        answer = await call_sdk(emulator, node_modules, Alias="shop")
        assert answer == {"status": 200}
        (batch,) = emulator.batches
        assert (batch.batch_id, batch.alias) == (uuid_of(1), "shop")
        assert [e._asdict() for e in batch.events] == [event()]


async def test_the_javascript_sdk_sees_errors_as_the_model_s(node_modules: str) -> None:
    """Names and members of the errors arrive, the seconds of Retry-After among them."""
    async with Emulator() as emulator:
        emulator.script(Fault.throttle(retry_after=3), Fault.status(500, retry_after=4), Fault.status(403))
        throttle = await call_sdk(emulator, node_modules)
        failure = await call_sdk(emulator, node_modules)
        denied = await call_sdk(emulator, node_modules)
        emulator.service.app_monitors = ()
        unknown = await call_sdk(emulator, node_modules)
        invalid = await call_sdk(emulator, node_modules, UserDetails={"userId": "me"})
    assert (throttle["name"], throttle["status"]) == ("ThrottlingException", 429)
    assert (throttle["serviceCode"], throttle["retryAfterSeconds"]) == ("rum", 3)
    assert (failure["name"], failure["retryAfterSeconds"]) == ("InternalServerException", 4)
    assert (denied["name"], denied["status"]) == ("AccessDeniedException", 403)
    assert (unknown["name"], unknown["resourceName"]) == ("ResourceNotFoundException", MONITOR)
    assert (invalid["name"], invalid["status"]) == ("ValidationException", 400)
