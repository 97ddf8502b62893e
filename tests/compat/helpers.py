"""Calls, the two ways to make them, and what they come to."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, ParamValidationError

from rumbuffer import AppMonitor, Limits, Pacing, RetryPolicy, RumBuffer
from rumbuffer.emulator import Emulator

MONITOR = "8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11"
OTHER_MONITOR = "11111111-2222-3333-4444-555555555555"
SESSION = "d35b7114-9426-4abc-9ace-6b4248e6d799"
USER = "5f2f9ad1-55ca-4d0e-9d06-9ae2ab1f4d51"
NOBODY = "00000000-0000-0000-0000-000000000000"

HOME = AppMonitor(MONITOR, name="shop", version="1.4.2")
LEFT_OUT = object()


def uuid_of(number: int) -> str:
    """A UUID for each number."""
    return f"00000000-0000-4000-8000-{number:012x}"


def changed(members: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The members with changes; `LEFT_OUT` takes one out."""
    return {name: value for name, value in {**members, **changes}.items() if value is not LEFT_OUT}


def event(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A valid event."""
    members = {
        "id": uuid_of(number),
        "timestamp": 1795365502,
        "type": "com.example.test",
        "details": json.dumps({"n": number}),
        "metadata": '{"version":"1.0.0","domain":"example.com"}',
    }
    return changed(members, changes)


def call(**changes: Any) -> Any:
    """The arguments of a valid call."""
    members = {
        "Id": MONITOR,
        "BatchId": uuid_of(999),
        "AppMonitorDetails": {"id": MONITOR, "name": "shop", "version": "1.4.2"},
        "UserDetails": {"userId": USER, "sessionId": SESSION},
        "RumEvents": [event()],
    }
    return changed(members, changes)


def boto3_client(emulator: Emulator) -> Any:
    """A client of boto3's that sends each request once."""
    return boto3.client(
        "rum",
        region_name=emulator.region,
        endpoint_url=emulator.endpoint_url,
        aws_access_key_id=emulator.access_key_id,
        aws_secret_access_key=emulator.secret_access_key,
        config=Config(inject_host_prefix=False, retries={"total_max_attempts": 1}),
    )


@asynccontextmanager
async def buffer_at(emulator: Emulator, **settings: Any) -> AsyncIterator[RumBuffer]:
    """A quick buffer over the real client; the environment has the keys."""
    settings = {
        "pacing": Pacing(quota=1000.0, use=1.0, burst=100, share=None),
        "limits": Limits(linger=0.01),
        "retry": RetryPolicy(base_delay=0.01, max_delay=0.05),
        **settings,
    }
    buffer = RumBuffer(HOME, region_name=emulator.region, endpoint_url=emulator.endpoint_url, **settings)
    async with buffer:
        yield buffer


class Refused(NamedTuple):
    """How a call was refused: the class of the error, the parameters that it names, its text."""

    kind: str
    parameters: frozenset[str]
    text: str


async def outcome(calling: Any) -> Refused | None:
    """What a call comes to; `None` where it is taken."""
    try:
        await calling
    except (ClientError, ParamValidationError) as error:
        return Refused(type(error).__name__, parameters_of(error), str(error))
    return None


async def of_boto3(emulator: Emulator, request: dict[str, Any]) -> Refused | None:
    """What boto3 makes of a call."""
    return await outcome(asyncio.to_thread(boto3_client(emulator).put_rum_events, **request))


_NAMED = re.compile(
    r'(?:Missing required|Unknown) parameter in (?P<where>\S+): "(?P<name>[^"]*)"'
    r"|parameter (?P<whole>\S+?)[,:] "
)


def parameters_of(error: Exception) -> frozenset[str]:
    """The parameters that an error names, in botocore's notation."""
    if isinstance(error, ClientError):
        found: list[str] = re.findall(r"[Vv]alue .*? ?at '([^']*)' failed", str(error), re.DOTALL)
        return frozenset(map(_in_botocores, found))
    names = set()
    for found_one in _NAMED.finditer(str(error)):
        where, name, whole = found_one["where"], found_one["name"], found_one["whole"]
        names.add(whole or (name if where == "input" else f"{where}.{name}"))
    return frozenset(names)


def _in_botocores(path: str) -> str:
    """`rumEvents.1.member.id` is `RumEvents[0].id`."""
    path = re.sub(r"\.(\d+)\.member", lambda match: f"[{int(match[1]) - 1}]", path)
    return path[0].upper() + path[1:]


def kept_by(emulator: Emulator) -> list[Any]:
    """Everything that the service keeps of each event, in the order of the ids."""
    return sorted(
        (
            *(event.id, event.timestamp, event.type, event.details, event.metadata),
            *(batch.app_monitor_id, batch.app_monitor_details.get("name"), batch.alias or ""),
            *(batch.app_monitor_details.get("version"), batch.user_id, batch.session_id),
        )
        for batch in emulator.batches
        for event in batch.events
    )
