"""Typed events: the built-in types that a server can know, and your own.

    buffer.put_nowait(HttpEvent(method="GET", url="/items/{id}", status=200))
    buffer.put_nowait(JsErrorEvent.of(error))


    class Checkout(CustomEvent, type="com.example.checkout"):
        total: float
        currency: str = "EUR"


    buffer.put_nowait(Checkout(total=42))

The constructors have types that a type checker sees, and raise nothing. When an event is admitted, its
details and metadata are checked against the service's schemas (aws-rum-web's, 2026-11), and
`InvalidEvent` names the member: ``details.response.status``. Any other event, a plain `Event` of a
built-in type among them, passes through as given: schemas grow, and the browser's own events come by here.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Self, TypeAlias, TypedDict, dataclass_transform

from rumbuffer.core.encoding import shape_of
from rumbuffer.errors import InvalidEvent
from rumbuffer.events import Event
from rumbuffer.web.errors import error_members

__all__ = [
    "CustomEvent",
    "ErrorDetails",
    "HttpEvent",
    "JsErrorEvent",
    "PageViewEvent",
    "SessionStartEvent",
    "TraceHttp",
    "TraceRequest",
    "TraceResponse",
    "TraceSubsegment",
    "XrayTraceEvent",
]

Metadata: TypeAlias = Mapping[str, Any]
Timestamp: TypeAlias = float | datetime

# The rules ------------------------------------------------------------------------------------------

_Rule: TypeAlias = Callable[[str, object], None]
"""Checks the member that the first argument names; raises `InvalidEvent`."""


def _text(field: str, value: object) -> None:
    if not isinstance(value, str):
        raise InvalidEvent(field, "must be a string", shape_of(value))


def _text_of(length: int) -> _Rule:
    def check(field: str, value: object) -> None:
        if not isinstance(value, str) or len(value) != length:
            raise InvalidEvent(field, f"must be a string of {length} characters", shape_of(value))

    return check


def _number(field: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InvalidEvent(field, "must be a finite number", shape_of(value))


def _whole(field: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidEvent(field, "must be a whole number", shape_of(value))


def _truth(field: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidEvent(field, "must be true or false", shape_of(value))


def _version(field: str, value: object) -> None:
    if value != "1.0.0":
        raise InvalidEvent(field, "must be '1.0.0'", shape_of(value))


def _anything(field: str, value: object) -> None:
    if not isinstance(value, Mapping):
        raise InvalidEvent(field, "must be a mapping", shape_of(value))


def _object(members: Mapping[str, _Rule], *required: str) -> _Rule:
    """Rule for an object that has no members but these."""

    def check(field: str, value: object) -> None:
        if not isinstance(value, Mapping):
            raise InvalidEvent(field, "must be a mapping", shape_of(value))
        for name in required:
            if name not in value:
                raise InvalidEvent(f"{field}.{name}", "must be there", "nothing")
        for name, member in value.items():
            rule = members.get(name) if isinstance(name, str) else None
            if rule is None:
                allowed = ", ".join(members)
                raise InvalidEvent(field, f"may have no members but {allowed}", "another one")
            rule(f"{field}.{name}", member)

    return check


def _list_of(rule: _Rule) -> _Rule:
    def check(field: str, value: object) -> None:
        if not isinstance(value, (list, tuple)):
            raise InvalidEvent(field, "must be a list", shape_of(value))
        for place, member in enumerate(value):
            rule(f"{field}[{place}]", member)

    return check


_ERROR: dict[str, _Rule] = {
    "type": _text,
    "message": _text,
    "filename": _text,
    "lineno": _number,
    "colno": _number,
    "stack": _text,
}

_http_details = _object(
    {
        "version": _version,
        "trace_id": _text_of(35),
        "segment_id": _text_of(16),
        "request": _object({"method": _text, "url": _text}, "method"),
        "response": _object({"status": _number, "statusText": _text}, "status"),
        "error": _object({"version": _text, **_ERROR}),
    },
    "version",
    "request",
)

_js_error_details = _object({"version": _version, **_ERROR}, "version")

_page_view_details = _object(
    {
        "version": _version,
        "pageId": _text,
        "pageInteractionId": _text,
        "interaction": _number,
        "parentPageInteractionId": _text,
        "timeOnParentPage": _number,
        "referrer": _text,
        "referrerDomain": _text,
    },
    "pageId",
)

_session_start_details = _object({"version": _version}, "version")

_trace_http = _object(
    {
        "request": _object(
            {
                "method": _text,
                "url": _text,
                "client_ip": _text,
                "x_forwarded_for": _truth,
                "traced": _truth,
            }
        ),
        "response": _object({"status": _number, "content_length": _number}),
    }
)

_trace_frame = _object({"class_name": _text, "file_name": _text, "line": _whole, "method_name": _text})

_trace_exception = _object(
    {
        "id": _text,
        "message": _text,
        "type": _text,
        "remote": _truth,
        "truncated": _whole,
        "cause": _text,
        "stack": _list_of(_trace_frame),
    }
)

_DEEPEST = 32


def _subsegments(field: str, value: object) -> None:
    if field.count("subsegments") > _DEEPEST:
        raise InvalidEvent("details.subsegments", f"may be at most {_DEEPEST} levels deep", "more")
    _list_of(_subsegment)(field, value)


_SEGMENT: dict[str, _Rule] = {
    "name": _text,
    "id": _text,
    "start_time": _number,
    "trace_id": _text,
    "end_time": _number,
    "origin": _text,
    "in_progress": _truth,
    "parent_id": _text,
    "http": _trace_http,
    "error": _truth,
    "throttle": _truth,
    "fault": _truth,
    "cause": _object({"exceptions": _list_of(_trace_exception)}),
    "annotations": _anything,
    "metadata": _anything,
    "subsegments": _subsegments,
}

_subsegment = _object({**_SEGMENT, "type": _text, "namespace": _text}, "id", "name", "start_time")

_xray_details = _object(
    {**_SEGMENT, "version": _version, "user": _text}, "name", "id", "trace_id", "start_time"
)

_METADATA: dict[str, _Rule] = {
    "version": _version,
    "interaction": _number,
    "pageTags": _list_of(_text),
    **dict.fromkeys(
        (
            "aws:releaseId browserLanguage browserName browserVersion osName osVersion deviceType "
            "platformType "
            "pageUrl url pageId parentPageId referrerUrl pageTitle title countryCode subdivisionCode domain "
            "aws:client aws:clientVersion aws:userAgent"
        ).split(),
        _text,
    ),
}

_MOST_ATTRIBUTES = 10
_LONGEST_VALUE = 256
_is_attribute = re.compile(r"(?!pageTags)(?!aws:)[a-zA-Z0-9_:]{1,128}").fullmatch


def check_metadata(metadata: object) -> None:
    """Check an event's metadata: the known members' types, and the rules for custom attributes.

    `version` and `domain` may stand in the session's attributes, and are not asked for.
    """
    if not isinstance(metadata, Mapping):
        raise InvalidEvent("metadata", "must be a mapping", shape_of(metadata))
    attributes = 0
    for name, value in metadata.items():
        rule = _METADATA.get(name) if isinstance(name, str) else None
        if rule is not None:
            rule(f"metadata.{name}", value)
            continue
        attributes += 1
        if not (isinstance(name, str) and _is_attribute(name)):
            raise InvalidEvent(
                "metadata",
                "a custom attribute's name must be 1 to 128 of a-z A-Z 0-9 _ : and begin with neither aws: "
                "nor pageTags",
                shape_of(name),
            )
        _check_attribute(f"metadata.{name}", value)
    if attributes > _MOST_ATTRIBUTES:
        raise InvalidEvent(
            "metadata", f"may have at most {_MOST_ATTRIBUTES} custom attributes", str(attributes)
        )


def _check_attribute(field: str, value: object) -> None:
    if isinstance(value, str):
        if len(value) > _LONGEST_VALUE:
            raise InvalidEvent(field, f"must be at most {_LONGEST_VALUE} characters", shape_of(value))
    elif not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InvalidEvent(field, "must be a string, a finite number or a boolean", shape_of(value))


# The events -----------------------------------------------------------------------------------------


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


class _CheckedEvent(Event):
    """An event whose details and metadata are checked when they are asked for, at admission."""

    __slots__ = ("_details", "_metadata")

    _rules: ClassVar[tuple[_Rule, ...]] = ()

    def __init__(
        self,
        type: str,
        details: Mapping[str, Any],
        *,
        metadata: Metadata | None,
        id: str | None,
        timestamp: Timestamp | None,
    ) -> None:
        given = {name: value for name, value in details.items() if value is not None}
        super().__init__(type, given, metadata=metadata, id=id, timestamp=timestamp)

    @property
    def details(self) -> Mapping[str, Any] | str:
        """The details; raises `InvalidEvent` where they break a rule."""
        for rule in self._rules:
            rule("details", self._details)
        return self._details

    @details.setter
    def details(self, details: Mapping[str, Any] | str) -> None:
        self._details = details

    @property
    def metadata(self) -> Mapping[str, Any] | str | None:
        """The metadata; raises `InvalidEvent` where it breaks a rule."""
        if self._metadata is not None:
            check_metadata(self._metadata)
        return self._metadata

    @metadata.setter
    def metadata(self, metadata: Mapping[str, Any] | str | None) -> None:
        self._metadata = metadata


_ROOM_FOR_ERROR = 5000
"""Bytes that an exception may take of the 6 KB that an event has, metadata included."""


class HttpEvent(_CheckedEvent):
    """``com.amazon.rum.http_event``: a request and its response.

    `trace_id` is in X-Ray's form (35 characters), `segment_id` 16 characters. There is no duration: put
    one into a custom attribute of the metadata.
    """

    __slots__ = ()
    _rules: ClassVar[tuple[_Rule, ...]] = (_http_details,)

    def __init__(
        self,
        *,
        method: str,
        url: str | None = None,
        status: float | None = None,
        status_text: str | None = None,
        error: ErrorDetails | None = None,
        trace_id: str | None = None,
        segment_id: str | None = None,
        metadata: Metadata | None = None,
        id: str | None = None,
        timestamp: Timestamp | None = None,
    ) -> None:
        response = {
            name: value
            for name, value in (("status", status), ("statusText", status_text))
            if value is not None
        }
        details = {
            "version": "1.0.0",
            "request": {"method": method} if url is None else {"method": method, "url": url},
            "response": response or None,
            "error": error,
            "trace_id": trace_id,
            "segment_id": segment_id,
        }
        super().__init__("com.amazon.rum.http_event", details, metadata=metadata, id=id, timestamp=timestamp)


class JsErrorEvent(_CheckedEvent):
    """``com.amazon.rum.js_error_event``: an error, of whatever language."""

    __slots__ = ()
    _rules: ClassVar[tuple[_Rule, ...]] = (_js_error_details,)

    def __init__(
        self,
        *,
        error_type: str | None = None,
        message: str | None = None,
        filename: str | None = None,
        lineno: float | None = None,
        colno: float | None = None,
        stack: str | None = None,
        metadata: Metadata | None = None,
        id: str | None = None,
        timestamp: Timestamp | None = None,
    ) -> None:
        details = {
            "version": "1.0.0",
            "type": error_type,
            "message": message,
            "filename": filename,
            "lineno": lineno,
            "colno": colno,
            "stack": stack,
        }
        super().__init__(
            "com.amazon.rum.js_error_event", details, metadata=metadata, id=id, timestamp=timestamp
        )

    @classmethod
    def of(cls, error: BaseException, *, message: bool = True, metadata: Metadata | None = None) -> Self:
        """Make an event of an exception: its type, message, place and stack, bounded in size."""
        event = cls(metadata=metadata)
        event.details = error_members(error, message=message, room=_ROOM_FOR_ERROR)
        return event


class XrayTraceEvent(_CheckedEvent):
    """``com.amazon.rum.xray_trace_event``: an X-Ray segment. Times in seconds since the epoch."""

    __slots__ = ()
    _rules: ClassVar[tuple[_Rule, ...]] = (_xray_details,)

    def __init__(
        self,
        *,
        name: str,
        segment_id: str,
        trace_id: str,
        start_time: float,
        end_time: float | None = None,
        parent_id: str | None = None,
        http: TraceHttp | None = None,
        error: bool | None = None,
        throttle: bool | None = None,
        fault: bool | None = None,
        in_progress: bool | None = None,
        origin: str | None = None,
        user: str | None = None,
        cause: Mapping[str, Any] | None = None,
        annotations: Mapping[str, Any] | None = None,
        trace_metadata: Mapping[str, Any] | None = None,
        subsegments: list[TraceSubsegment] | None = None,
        metadata: Metadata | None = None,
        id: str | None = None,
        timestamp: Timestamp | None = None,
    ) -> None:
        details = {
            "version": "1.0.0",
            "name": name,
            "id": segment_id,
            "trace_id": trace_id,
            "start_time": start_time,
            "end_time": end_time,
            "parent_id": parent_id,
            "http": http,
            "error": error,
            "throttle": throttle,
            "fault": fault,
            "in_progress": in_progress,
            "origin": origin,
            "user": user,
            "cause": cause,
            "annotations": annotations,
            "metadata": trace_metadata,
            "subsegments": subsegments,
        }
        super().__init__(
            "com.amazon.rum.xray_trace_event", details, metadata=metadata, id=id, timestamp=timestamp
        )


class PageViewEvent(_CheckedEvent):
    """``com.amazon.rum.page_view_event``: a page that the visitor went to. Times in milliseconds."""

    __slots__ = ()
    _rules: ClassVar[tuple[_Rule, ...]] = (_page_view_details,)

    def __init__(
        self,
        *,
        page_id: str,
        page_interaction_id: str | None = None,
        interaction: float | None = None,
        parent_page_interaction_id: str | None = None,
        time_on_parent_page: float | None = None,
        referrer: str | None = None,
        referrer_domain: str | None = None,
        metadata: Metadata | None = None,
        id: str | None = None,
        timestamp: Timestamp | None = None,
    ) -> None:
        details = {
            "version": "1.0.0",
            "pageId": page_id,
            "pageInteractionId": page_interaction_id,
            "interaction": interaction,
            "parentPageInteractionId": parent_page_interaction_id,
            "timeOnParentPage": time_on_parent_page,
            "referrer": referrer,
            "referrerDomain": referrer_domain,
        }
        super().__init__(
            "com.amazon.rum.page_view_event", details, metadata=metadata, id=id, timestamp=timestamp
        )


class SessionStartEvent(_CheckedEvent):
    """``com.amazon.rum.session_start_event``: the first event of a session."""

    __slots__ = ()
    _rules: ClassVar[tuple[_Rule, ...]] = (_session_start_details,)

    def __init__(
        self,
        *,
        metadata: Metadata | None = None,
        id: str | None = None,
        timestamp: Timestamp | None = None,
    ) -> None:
        super().__init__(
            "com.amazon.rum.session_start_event",
            {"version": "1.0.0"},
            metadata=metadata,
            id=id,
            timestamp=timestamp,
        )


_RESERVED = "com.amazon."
_TAKEN = frozenset(("details", "id", "metadata", "timestamp", "type"))


@dataclass_transform(kw_only_default=True)
class CustomEvent(Event):
    """An event type of your own, declared as a class with annotated members, as a dataclass is.

    The members are the details. `metadata`, `id` and `timestamp` are an event's own; set them on the
    event. Raises `TypeError` where a class is declared with a name that an event has itself, and
    `InvalidEvent` at admission.
    """

    event_type: ClassVar[str]

    def __init_subclass__(cls, *, type: str | None = None, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        taken = _TAKEN & inspect.get_annotations(cls).keys()
        if taken:
            raise TypeError(
                f"{cls.__name__}: every event has {', '.join(sorted(taken))}; choose another name"
            )
        if type is not None:
            cls.event_type = type
        dataclasses.dataclass(kw_only=True, repr=False, eq=False)(cls)

    def __post_init__(self) -> None:
        self.type: str = self.event_type
        self.metadata: Metadata | str | None = None
        self.id: str | None = None
        self.timestamp: Timestamp | None = None

    @property
    def details(self) -> Mapping[str, Any] | str:
        """The members; raises `InvalidEvent` for a type that is the service's own."""
        if self.event_type.startswith(_RESERVED):
            raise InvalidEvent(
                "type", f"must not begin with {_RESERVED}, which is the service's", "one that does"
            )
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    @details.setter
    def details(self, details: Mapping[str, Any] | str) -> None:
        raise AttributeError("the details of a CustomEvent are its members")
