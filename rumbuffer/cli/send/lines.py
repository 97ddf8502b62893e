"""What a line of the input may say, and what is made of it.

A line is one of these JSON objects (`null` is as good as leaving a member out):

- an event with its session: `{"type", "details", "metadata"?, "id"?, "timestamp"?, "session"?: {"id",
  "user_id"?, "attributes"?}, "app_monitor"?}`; `app_monitor` is an id, or `{"id", "name"?, "version"?,
  "alias"?}`;
- a PutRumEvents document, as boto3 and the AWS CLI take it or as the browser client sends it: `{"Id"?,
  "BatchId"?, "AppMonitorDetails"?, "UserDetails"?, "RumEvents", "Alias"?, "SessionMetadata"?}`; the batch id
  is not used, for events are batched anew;
- a recorded request: `{"path": "…/appmonitors/ID"?, "body": a document or its text, …}`; its other members
  do not matter.

`details`, `metadata` and attributes are objects, or texts of one. Times are seconds since the epoch or ISO
8601 texts.

**What is missing is filled in so that a repeat repeats it.** An id is a UUIDv5 of the file's identity, the
line's number and text, and the event's place in the line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha1
from math import isfinite
from typing import Any, NoReturn, TypeVar
from uuid import UUID

import orjson

from rumbuffer import NIL_USER_ID, AppMonitor, InvalidEvent, InvalidSetting, Session
from rumbuffer.core.encoding import EventEncoder, shape_of

__all__ = ["Fault", "LineParser", "Offer", "derived_id"]

Value = TypeVar("Value")

_NAMESPACE = UUID("d1b3a0e6-6f0e-5c55-9a31-6c0f6f1e2a7d").bytes
_EVENT = frozenset({"type", "details", "metadata", "id", "timestamp", "session", "app_monitor"})
_SESSION = frozenset({"id", "user_id", "attributes"})
_APP_MONITOR = ("id", "name", "version", "alias")
_DOCUMENT = frozenset(
    {"Id", "BatchId", "AppMonitorDetails", "UserDetails", "RumEvents", "Alias", "SessionMetadata"}
)
_DETAILS = frozenset({"id", "name", "version"})
_USER = frozenset({"userId", "sessionId"})
_RUM_EVENT = frozenset({"id", "timestamp", "type", "details", "metadata"})

_is_in_path = re.compile(r"/appmonitors/([^/?#]+)/?(?:[?#].*)?$").search
_is_name = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,31}", re.ASCII).fullmatch
_has_long_number = re.compile(rb"\d{19}").search
_KEPT = 4096
"""Sessions and app monitors that are kept made, each."""

_KEPT_SESSION_BYTES = 4096
"""The longest JSON of a session that is kept made: attributes have no bound of their own, but a line's."""


@dataclass(slots=True)
class Offer:
    """An event that is ready to be sent. `app_monitor` is `None` for the buffer's own."""

    event: bytes
    session: Session
    app_monitor: AppMonitor | None


@dataclass(slots=True)
class Fault:
    """Why an event, or a line, is rejected: the field, the rule, and the shape of what was there.

    `index` is the event's place in its document, from 0; `None` where the line holds but one, or where it is
    the whole line.
    """

    field: str
    rule: str
    shape: str
    index: int | None = None

    def __str__(self) -> str:
        return f"{self.field}: {self.rule}; got {self.shape}"


def derived_id(identity: str, name: bytes) -> bytes:
    """Return the text of the UUIDv5 for a name within a file."""
    digest = bytearray(
        sha1(_NAMESPACE + identity.encode() + b":" + name, usedforsecurity=False).digest()[:16]
    )
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex().encode()
    return b"%b-%b-%b-%b-%b" % (text[:8], text[8:12], text[12:16], text[16:20], text[20:])


class LineParser:
    """Reads the lines of one file.

    `app_monitor` and `session` are for events that name none, `timestamp` for those without a time.
    """

    def __init__(
        self,
        encoder: EventEncoder,
        identity: str,
        *,
        timestamp: float,
        app_monitor: AppMonitor | None,
        session: Session | None,
    ) -> None:
        self._encode = encoder.encode_given
        self._identity = identity
        self._timestamp = timestamp
        self._app_monitor = app_monitor
        self._session = session
        self._sessions: dict[object, Session] = {}
        self._app_monitors: dict[object, AppMonitor] = {}

    def read(self, line: bytes, number: int) -> Iterator[Offer | Fault]:
        """Yield what the line, which has no white space around it, holds, event by event. Raises nothing."""
        try:
            value = _object("line", _loads("line", line))
            if "body" in value and "type" not in value:
                value = _unwrapped(value)
            if "RumEvents" in value:
                yield from self._document(value, line, number)
            else:
                yield self._event(value, line, number)
        except (InvalidEvent, InvalidSetting) as error:
            yield Fault(error.field, error.rule, error.shape)

    def _event(self, value: dict[str, Any], line: bytes, number: int) -> Offer:
        _object("", value, _EVENT)
        return Offer(
            self._encoded(value, line, number, 0),
            self._session_of("session", value.get("session")),
            self._monitor_of(value.get("app_monitor")),
        )

    def _encoded(self, value: dict[str, Any], line: bytes, number: int, index: int) -> bytes:
        # Whatever they are: the encoder checks them.
        kind: Any = value.get("type")
        details: Any = value.get("details")
        event_id, timestamp = value.get("id"), value.get("timestamp")
        if event_id is None:
            event_id = derived_id(self._identity, b"%d:%d:%b" % (number, index, line))
        if timestamp is None:
            timestamp = self._timestamp
        elif isinstance(timestamp, str):
            timestamp = _time(timestamp)
        return self._encode(kind, details, value.get("metadata"), event_id, timestamp)

    # Sessions and app monitors --------------------------------------------------------------------------

    def _session_of(self, field: str, value: object) -> Session:
        if value is None:
            if self._session is None:
                rule = "must be given, or set for all with --session-id or --new-session"
                raise InvalidEvent(field, rule, "none")
            return self._session
        members = _object(field, value, _SESSION)
        try:
            key = orjson.dumps(members)
        except TypeError as error:  # its texts name types and limits, not content
            raise InvalidEvent(field, f"must hold only JSON values ({error})", shape_of(value)) from None
        if len(key) > _KEPT_SESSION_BYTES:
            return _made_session(members)
        return _kept(self._sessions, key, lambda: _made_session(members))

    def _monitor_of(self, value: object) -> AppMonitor | None:
        if isinstance(value, str):
            if self._app_monitor is not None and value == self._app_monitor.id:
                return None
            value = {"id": value}
        if value is None:
            return self._monitor("app_monitor", {})
        return self._monitor("app_monitor.id", _object("app_monitor", value, _APP_MONITOR))

    def _monitor(self, field: str, members: Mapping[str, Any]) -> AppMonitor | None:
        """Return the app monitor that these say; `None` for the one of those that name none."""
        values: tuple[Any, ...] = tuple(members.get(name) for name in _APP_MONITOR)
        if not any(value is not None for value in values):
            if self._app_monitor is None:
                raise InvalidEvent(field, "must be given, or set for all with --app-monitor-id", "none")
            return None
        for name, value in zip(_APP_MONITOR, values, strict=True):
            if not (value is None or isinstance(value, str)):
                raise InvalidEvent(f"app_monitor.{name}", "must be a string", shape_of(value))
        made = _kept(self._app_monitors, values, lambda: AppMonitor(*values))
        return None if made == self._app_monitor else made

    # Documents ------------------------------------------------------------------------------------------

    def _document(self, document: dict[str, Any], line: bytes, number: int) -> Iterator[Offer | Fault]:
        events = _object("", document, _DOCUMENT)["RumEvents"]
        if not isinstance(events, list):
            raise InvalidEvent("RumEvents", "must be a list", shape_of(events))
        app_monitor = self._monitor_of_document(document)
        session = self._session_of_document(document)
        for index, event in enumerate(events):
            try:
                members = _object("", event, _RUM_EVENT)
                yield Offer(self._encoded(members, line, number, index), session, app_monitor)
            except InvalidEvent as error:
                yield Fault(f"RumEvents[{index}].{error.field}".rstrip("."), error.rule, error.shape, index)

    def _monitor_of_document(self, document: dict[str, Any]) -> AppMonitor | None:
        details = document.get("AppMonitorDetails")
        members = {} if details is None else dict(_object("AppMonitorDetails", details, _DETAILS))
        if document.get("Id") is not None:
            members["id"] = document["Id"]
        members["alias"] = document.get("Alias")
        if self._app_monitor is not None and members == {"id": self._app_monitor.id, "alias": None}:
            return None
        return self._monitor("Id", members)

    def _session_of_document(self, document: dict[str, Any]) -> Session:
        user = document.get("UserDetails")
        members = {} if user is None else _object("UserDetails", user, _USER)
        if members.get("sessionId") is None:
            return self._session_of("UserDetails.sessionId", None)
        of_session = {
            "id": members["sessionId"],
            "user_id": members.get("userId"),
            "attributes": document.get("SessionMetadata"),
        }
        return self._session_of("session", of_session)


def _loads(field: str, text: bytes) -> Any:
    """Read JSON and alter no number: orjson makes floats of integers beyond 64 bits, which are refused."""
    try:
        if _has_long_number(text):
            return json.loads(text, parse_constant=_no_constants, parse_float=_finite)
        return orjson.loads(text)
    except (ValueError, RecursionError) as error:
        why = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise InvalidEvent(field, f"must be JSON ({why})", f"{len(text)} bytes") from None


def _object(field: str, value: object, known: Collection[str] = ()) -> dict[str, Any]:
    """Check that a value is an object, of no other members than those that are known, if any are."""
    if not isinstance(value, dict):
        raise InvalidEvent(field, "must be a JSON object", shape_of(value))
    if known and not value.keys() <= frozenset(known):
        name = next(name for name in value if name not in known)
        shown = name if _is_name(name) else "a member"  # what is no name may be content
        path = f"{field}.{shown}" if field else shown
        raise InvalidEvent(
            path, "must not be there; known are " + ", ".join(sorted(known)), shape_of(value[name])
        )
    return value


def _made_session(members: Mapping[str, Any]) -> Session:
    session_id: Any = members.get("id")
    user_id = members.get("user_id")
    return Session(session_id, NIL_USER_ID if user_id is None else user_id, members.get("attributes"))


def _unwrapped(value: dict[str, Any]) -> dict[str, Any]:
    """Return the document of a recorded request, with the id that stands in its path."""
    body, path = value["body"], value.get("path")
    if isinstance(body, str):
        body = _loads("body", body.encode(errors="surrogatepass"))
    if not (isinstance(body, dict) and "RumEvents" in body):
        raise InvalidEvent("body", "must be a PutRumEvents document (with RumEvents)", shape_of(body))
    found = _is_in_path(path) if isinstance(path, str) else None
    return body if found is None or body.get("Id") is not None else {**body, "Id": found[1]}


def _no_constants(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(text: str) -> float:
    """Return a number; what is too large for one would become `null`."""
    number = float(text)
    if not isfinite(number):
        raise ValueError(text)
    return number


def _time(text: str) -> float | datetime:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidEvent(
            "timestamp", "must be seconds since the epoch or an ISO 8601 text", shape_of(text)
        ) from None


def _kept(made: dict[object, Value], key: object, make: Callable[[], Value]) -> Value:
    value = made.get(key)
    if value is None:
        if len(made) >= _KEPT:
            made.clear()
        value = made[key] = make()
    return value
