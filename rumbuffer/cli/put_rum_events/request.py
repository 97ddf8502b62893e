"""Values to a checked request.

Checks and their texts are botocore's own, on its model of the operation, to which `SessionMetadata` is added
where botocore does not know it yet. What the AWS CLI demands and can be made is filled in where it is left
out. The body is made here and not by botocore, some versions of which cut timestamps to whole seconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rumbuffer.cli.put_rum_events.failures import Failure, Kind
from rumbuffer.core.encoding import json_text, shape_of
from rumbuffer.errors import InvalidEvent
from rumbuffer.events import NIL_USER_ID
from rumbuffer.ids import new_event_id, new_id

__all__ = ["Request", "input_shape", "request_of"]

_METADATA_DOC = "<p>Attributes that hold for every event of the batch: the JSON text of an object.</p>"

_LARGEST = 6144
"""Bytes of details and metadata above which the service drops an event (User Guide, 2026-11)."""


@dataclass(frozen=True, slots=True)
class Request:
    """The app monitor's id, the body as it is sent, and what the user should hear of it."""

    app_monitor_id: str
    body: bytes
    warnings: tuple[str, ...]


def input_shape() -> Any:
    """Return botocore's shape of the operation's input, the newest member included."""
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    description = Loader().load_service_model("rum", "service-2")  # a loader of our own, so a copy of our own
    members = description["shapes"]["PutRumEventsRequest"]["members"]
    if "SessionMetadata" not in members:
        members["SessionMetadata"] = {"shape": "JsonValue", "documentation": _METADATA_DOC, "jsonvalue": True}
    return ServiceModel(description, "rum").operation_model("PutRumEvents").input_shape


def request_of(given: dict[str, Any]) -> Request:
    """Fill in what may be left out, check, and encode. Raises `Failure`."""
    values = _filled(given)
    _check(values)
    values["RumEvents"] = events = [_encoded(event) for event in values["RumEvents"]]
    members = {name: value for name, value in values.items() if name != "Id"}
    try:
        body = json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        problems = "\n".join(_no_utf8("", values))
        raise Failure(Kind.PARAMETER, f"Parameter validation failed:\n{problems}") from None
    return Request(values["Id"], body, tuple(_warnings(events)))


def _filled(given: dict[str, Any]) -> dict[str, Any]:
    values = {
        "BatchId": new_id(),
        "AppMonitorDetails": {"id": given["Id"]} if "Id" in given else {},
        "UserDetails": {"userId": NIL_USER_ID, "sessionId": new_id()},
        **given,
    }
    events = values.get("RumEvents")
    if isinstance(events, list):
        values["RumEvents"] = [_filled_event(event) if isinstance(event, dict) else event for event in events]
    return values


def _filled_event(event: dict[str, Any]) -> dict[str, Any]:
    return {"id": new_event_id().decode(), "timestamp": round(time.time(), 3), **event}


def _check(values: dict[str, Any]) -> None:
    from botocore.validate import ParamValidator

    from rumbuffer.compat.checks import wrong_time

    try:
        report = ParamValidator().validate(values, input_shape())
    except (ArithmeticError, OSError, RuntimeError) as error:  # for a time that no datetime can hold
        named = wrong_time(values)
        raise Failure(Kind.PARAMETER, str(named or f"Parameter validation failed:\n{error}")) from None
    problems = report.generate_report() if report.has_errors() else "\n".join(_no_objects(values))
    if problems:
        raise Failure(Kind.PARAMETER, f"Parameter validation failed:\n{problems}")


def _no_objects(values: dict[str, Any]) -> Iterator[str]:
    """Say which texts hold no JSON object: the service would take the request and drop the event."""
    texts = {
        f"RumEvents[{place}].{name}": event[name]
        for place, event in enumerate(values["RumEvents"])
        for name in ("details", "metadata")
        if name in event
    }
    if "SessionMetadata" in values:
        texts["SessionMetadata"] = values["SessionMetadata"]
    for name, text in texts.items():
        try:
            json_text(name, text)
        except InvalidEvent as error:
            yield f"Invalid value for parameter {error}"


def _encoded(event: dict[str, Any]) -> dict[str, Any]:
    """The event with its time in seconds since the epoch, fractions included."""
    from rumbuffer.compat.checks import wire_time

    return event | {"timestamp": wire_time(event["timestamp"])}


def _no_utf8(path: str, value: Any) -> Iterator[str]:
    """Say which texts hold half a character, as an argument that is not UTF-8 does."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _no_utf8(f"{path}.{name}" if path else name, member)
    elif isinstance(value, (list, tuple)):
        for place, member in enumerate(value):
            yield from _no_utf8(f"{path}[{place}]", member)
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            yield f"Invalid value for parameter {path}: must be valid UTF-8; got {shape_of(value)}"


def _warnings(events: list[dict[str, Any]]) -> Iterator[str]:
    for place, event in enumerate(events):
        size = len(event["details"].encode()) + len(event.get("metadata", "").encode())
        if size > _LARGEST:
            yield (
                f"RumEvents[{place}] has {size:,} bytes of details and metadata; the service drops events "
                f"above {_LARGEST:,} and does not say so."
            )
