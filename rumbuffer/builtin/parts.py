"""The objects within the events, as a type checker sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

__all__ = ["ErrorDetails", "TraceHttp", "TraceRequest", "TraceResponse", "TraceSubsegment"]


class ErrorDetails(TypedDict, total=False):
    """An error, as `HttpEvent` tells of it."""

    version: str
    type: str
    message: str
    filename: str
    lineno: float
    colno: float
    stack: str


class TraceRequest(TypedDict, total=False):
    """The request of an X-Ray segment."""

    method: str
    url: str
    client_ip: str
    x_forwarded_for: bool
    traced: bool


class TraceResponse(TypedDict, total=False):
    """The response of an X-Ray segment."""

    status: float
    content_length: float


class TraceHttp(TypedDict, total=False):
    """The exchange that an X-Ray segment stands for."""

    request: TraceRequest
    response: TraceResponse


class _NeededOfSubsegment(TypedDict):
    id: str
    name: str
    start_time: float


class TraceSubsegment(_NeededOfSubsegment, total=False):
    """A part of an X-Ray segment, with parts of its own."""

    end_time: float
    origin: str
    in_progress: bool
    trace_id: str
    parent_id: str
    type: str
    http: TraceHttp
    namespace: str
    error: bool
    throttle: bool
    fault: bool
    cause: Mapping[str, Any]
    annotations: Mapping[str, Any]
    metadata: Mapping[str, Any]
    subsegments: list[TraceSubsegment]
