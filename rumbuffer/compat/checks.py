"""What is checked in a call of `put_rum_events`, and what becomes of it.

Three kinds of rules, in this order; the first kind that is broken is raised, with all that breaks it:

1. botocore's: its own validator over its own model, so that `ParamValidationError` has boto3's text.
2. Ours, for what the service would take and drop without a word: `details`, `metadata` or `SessionMetadata`
   that holds no JSON object, an event above the size limits. `ParamValidationError` too; boto3 sends it.
3. The service's, as far as the call shows them: UUIDs, an event's type, lengths, text that is no UTF-8. Its
   `ValidationException`, which boto3 raises after the request. The value is not quoted.

A time is converted as botocore does it on the wire: to the microsecond (botocore 1.43, 2026-11; earlier
ones cut fractions off).
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import botocore.loaders
import botocore.model
import orjson
from botocore.exceptions import ParamValidationError
from botocore.utils import parse_to_aware_datetime
from botocore.validate import ParamValidator

from rumbuffer.compat.exceptions import client_error
from rumbuffer.core.encoding import UUID_RULE, EventEncoder, embedded_json, is_uuid, json_text, shape_of
from rumbuffer.errors import InvalidEvent
from rumbuffer.events import NIL_USER_ID, AppMonitor, Session

__all__ = ["Call", "CallChecks", "call_checks", "param_error", "wire_time", "wrong_time"]

_NOBODY = NIL_USER_ID
_MAX_ALIAS = 255


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was checked: its events, encoded, with where they belong."""

    app_monitor: AppMonitor
    session: Session
    event_ids: tuple[str, ...]
    events: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class OtherDetails(AppMonitor):
    """An app monitor whose `AppMonitorDetails` name another id than the request's path; sent as given."""

    details_id: str = ""

    def __post_init__(self) -> None:
        AppMonitor.__post_init__(self)
        own, given = (b'"id":' + orjson.dumps(text) for text in (self.id, self.details_id))
        head, tail = self.envelope
        object.__setattr__(self, "envelope", (head.replace(own, given, 1), tail))


class CallChecks:
    """The checks, compiled from botocore's model of the service."""

    def __init__(self) -> None:
        description = botocore.loaders.Loader().load_service_model("rum", "service-2")
        shape = description["operations"]["PutRumEvents"]["input"]["shape"]
        # botocore knows it from 1.44.5 on.
        description["shapes"].setdefault("JsonValue", {"type": "string"})
        description["shapes"][shape]["members"].setdefault("SessionMetadata", {"shape": "JsonValue"})
        self.service_model: Any = botocore.model.ServiceModel(description, "rum")
        self._shape = self.service_model.operation_model("PutRumEvents").input_shape
        self._validator = ParamValidator()

    def check(self, request: Mapping[str, Any], encoder: EventEncoder) -> Call:
        """Return the call, its events encoded. Raises `ParamValidationError` and `ValidationException`."""
        self._check_as_botocore(dict(request))
        ours: list[str] = []
        service = _Problems()
        session = _session(request, ours, service)
        app_monitor = _app_monitor(request, service)
        service.check_uuid("batchId", request["BatchId"])
        events = [
            _encoded(place, event, encoder, ours, service) for place, event in enumerate(request["RumEvents"])
        ]
        if ours:
            raise ParamValidationError(report="\n".join(ours))
        if service.found:
            raise service.error()
        assert session is not None
        assert app_monitor is not None
        ids = tuple(event["id"] for event in request["RumEvents"])
        return Call(app_monitor, session, ids, tuple(events))

    def _check_as_botocore(self, request: dict[str, Any]) -> None:
        try:
            report = self._validator.validate(request, self._shape)
        except (ArithmeticError, OSError, RuntimeError) as error:
            # boto3 lets it out as it is: a time that no datetime can hold.
            raise wrong_time(request) or error from None
        if report.has_errors():
            raise ParamValidationError(report=report.generate_report())


@cache
def call_checks() -> CallChecks:
    """Return the checks, compiled once for the process. Takes about 40 ms; for a thread."""
    return CallChecks()


def param_error(name: str, error: InvalidEvent) -> Exception:
    """Return boto3's error for a rule of ours."""
    raised: Exception = ParamValidationError(report=_line(name, error))
    return raised


def _line(name: str, error: InvalidEvent) -> str:
    return f"Invalid value for parameter {name}: {error.rule}; got {error.shape}"


class _Problems:
    """Constraints of the service that a call breaks, in the service's notation."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, path: str, rule: str) -> None:
        self.found.append(f"Value at '{path}' failed to satisfy constraint: Member {rule}")

    def check_uuid(self, path: str, text: str) -> bool:
        if is_uuid(text):
            return True
        self.add(path, UUID_RULE)
        return False

    def check_text(self, path: str, text: str | None, longest: int | None = None) -> bool:
        if text is None:
            return True
        if longest is not None and len(text) > longest:
            self.add(path, f"must have length less than or equal to {longest}")
            return False
        if not _is_utf8(text):
            self.add(path, "must be text that UTF-8 can hold (no lone surrogates)")
            return False
        return True

    def error(self) -> Exception:
        count = f"{len(self.found)} validation error{'s' if len(self.found) > 1 else ''} detected: "
        return client_error("ValidationException", count + "; ".join(self.found))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _session(request: Mapping[str, Any], ours: list[str], service: _Problems) -> Session | None:
    user = request["UserDetails"]
    # Both may be left out by the model. The nil UUID is what the browser client sends for nobody.
    session_id, user_id = user.get("sessionId", _NOBODY), user.get("userId", _NOBODY)
    fits = service.check_uuid("userDetails.sessionId", session_id)
    fits &= service.check_uuid("userDetails.userId", user_id)
    attributes = request.get("SessionMetadata")
    try:
        if attributes is not None:
            json_text("SessionMetadata", attributes)
        return Session(session_id, user_id, attributes) if fits else None
    except InvalidEvent as error:
        ours.append(_line("SessionMetadata", error))
        return None


def _app_monitor(request: Mapping[str, Any], service: _Problems) -> AppMonitor | None:
    details, alias = request["AppMonitorDetails"], request.get("Alias")
    fits = service.check_uuid("id", request["Id"])
    for name in ("id", "name", "version"):
        fits &= service.check_text(f"appMonitorDetails.{name}", details.get(name))
    fits &= service.check_text("alias", alias, _MAX_ALIAS)
    if not fits:
        return None
    given = (request["Id"], details.get("name"), details.get("version"), alias)
    if details.get("id", request["Id"]) == request["Id"]:
        return AppMonitor(*given)
    return OtherDetails(*given, details_id=details["id"])


def _encoded(
    place: int, event: Mapping[str, Any], encoder: EventEncoder, ours: list[str], service: _Problems
) -> bytes:
    path = f"rumEvents.{place + 1}.member"
    event_id = event["id"] if service.check_uuid(f"{path}.id", event["id"]) else _NOBODY
    encode = partial(encoder.encode, id=str.encode(event_id), timestamp=wire_time(event["timestamp"]))
    details, metadata = event["details"], event.get("metadata")
    try:
        return encode(event["type"], details, metadata)
    except InvalidEvent:
        for error in _faults(encode, event["type"], details, metadata):
            if error.field == "type":
                service.add(f"{path}.type", error.rule)
            else:
                ours.append(_line(f"RumEvents[{place}].{error.field}", error))
    return b""


def _faults(
    encode: Callable[..., bytes], type: str, details: str, metadata: str | None
) -> list[InvalidEvent]:
    """Return all that is wrong with an event, where encoding it tells the first."""
    found: list[InvalidEvent] = []
    tries: list[Callable[[], bytes]] = [
        partial(encode, type, "{}", None),
        partial(embedded_json, "details", details),
        partial(embedded_json, "metadata", "{}" if metadata is None else metadata),
    ]
    for attempt in tries:
        try:
            attempt()
        except InvalidEvent as error:
            found.append(error)
    if not any(error.field != "type" for error in found):
        try:
            encode("a", details, metadata)
        except InvalidEvent as error:  # too large
            found.append(error)
    return found


def wire_time(value: Any) -> float:
    """Return a time as botocore puts it on the wire: seconds, with a fraction if it has one."""
    time = parse_to_aware_datetime(value)
    seconds = calendar.timegm(time.timetuple())
    return (seconds * 10**6 + time.microsecond) / 10**6 if time.microsecond else seconds


def wrong_time(request: Mapping[str, Any]) -> Exception | None:
    """Return the error that names the first time which cannot be converted."""
    events = request.get("RumEvents")
    for place, event in enumerate(events if isinstance(events, Sequence) else ()):
        value = event.get("timestamp") if isinstance(event, dict) else None
        try:
            wire_time(value)
        except (TypeError, ValueError, AttributeError):
            continue  # botocore's own to report, had it come so far
        except (ArithmeticError, OSError, RuntimeError):
            rule = "must be a time that a datetime can hold, as seconds since the epoch"
            return param_error(
                f"RumEvents[{place}].timestamp", InvalidEvent("timestamp", rule, shape_of(value))
            )
    return None
