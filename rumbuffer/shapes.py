"""PutRumEvents' structures as types, under the service's names, for calls in boto3's manner.

What a type cannot say is checked when the call is made: the service's model is `rum/2018-05-10`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NotRequired, TypeAlias, TypedDict

__all__ = [
    "AppMonitorDetails",
    "PutRumEventsRequest",
    "PutRumEventsResponse",
    "ResponseMetadata",
    "RumEvent",
    "Timestamp",
    "UserDetails",
]

Timestamp: TypeAlias = datetime | float | str
"""A `datetime` (a naive one means UTC), seconds since the epoch, or the text of either."""


class AppMonitorDetails(TypedDict, total=False):
    """The app monitor, and which version of the application reports."""

    id: str
    name: str
    version: str


class UserDetails(TypedDict, total=False):
    """Whose session the events are from; both are UUIDs."""

    userId: str
    sessionId: str


class RumEvent(TypedDict):
    """One event; `id` is a UUID, `details` and `metadata` are JSON texts that hold an object."""

    id: str
    timestamp: Timestamp
    type: str
    details: str
    metadata: NotRequired[str]


class PutRumEventsRequest(TypedDict):
    """The arguments of `put_rum_events`. `SessionMetadata` is a JSON text that holds an object."""

    Id: str
    BatchId: str
    AppMonitorDetails: AppMonitorDetails
    UserDetails: UserDetails
    RumEvents: Sequence[RumEvent]
    Alias: NotRequired[str]
    SessionMetadata: NotRequired[str]


class ResponseMetadata(TypedDict):
    """What botocore tells of an answer. `RequestId` is here the id of the batch that was delivered."""

    RequestId: str
    HTTPStatusCode: int
    HTTPHeaders: dict[str, str]
    RetryAttempts: int


class PutRumEventsResponse(TypedDict):
    """What a client's `put_rum_events` returns."""

    ResponseMetadata: ResponseMetadata
