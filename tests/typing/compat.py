"""Never run, only type-checked: what a checker says of calls in boto3's manner, right ones and wrong ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Never, assert_type

from rumbuffer import RumBuffer
from rumbuffer.compat import Client, ThrottlingException, client
from rumbuffer.shapes import PutRumEventsRequest, PutRumEventsResponse, RumEvent

ID = "8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11"


async def right(buffer: RumBuffer) -> None:
    """Calls that a checker takes."""
    event: RumEvent = {"id": ID, "timestamp": datetime.now(UTC), "type": "com.example.a", "details": "{}"}
    request: PutRumEventsRequest = {
        "Id": ID,
        "BatchId": ID,
        "AppMonitorDetails": {"id": ID},
        "UserDetails": {},
        "RumEvents": (event, {**event, "metadata": "{}", "timestamp": "2026-01-01"}),
    }
    more: PutRumEventsRequest = {**request, "Alias": "a", "SessionMetadata": "{}"}
    assert_type(await buffer.put_rum_events(**request), dict[str, Never])
    async with client(buffer, timeout=None) as rum:
        assert_type(rum, Client)
        try:
            response = await rum.put_rum_events(**more)
        except rum.exceptions.ThrottlingException as error:
            assert_type(error, ThrottlingException)
            assert_type(error.response, dict[str, Any])
        else:
            assert_type(response, PutRumEventsResponse)
            assert_type(response["ResponseMetadata"]["HTTPStatusCode"], int)


async def wrong(buffer: RumBuffer, rum: Client) -> None:
    """Calls that a checker refuses: each `ignore` would be an error if it were not needed."""
    await buffer.put_rum_events(Id=ID)  # type: ignore[call-arg]
    await buffer.put_rum_events(
        Id=ID,
        BatchId=ID,
        AppMonitorDetails={"identifier": ID},  # type: ignore[typeddict-unknown-key]
        UserDetails={"userId": 7},  # type: ignore[typeddict-item]
        RumEvents=[{"id": ID, "timestamp": 1, "type": "a"}],  # type: ignore[typeddict-item]
    )
    await rum.put_rum_events(Identifier=ID)  # type: ignore[call-arg]
    await rum.create_app_monitor()  # type: ignore[attr-defined]
