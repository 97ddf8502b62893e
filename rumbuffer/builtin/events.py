"""The built-in types that a server can know, as classes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Self, TypedDict, Unpack

from rumbuffer.builtin.parts import ErrorDetails, TraceHttp, TraceSubsegment
from rumbuffer.builtin.rules import Rule
from rumbuffer.builtin.schemas import (
    HTTP_DETAILS,
    JS_ERROR_DETAILS,
    PAGE_VIEW_DETAILS,
    SESSION_START_DETAILS,
    XRAY_TRACE_DETAILS,
    check_metadata,
)
from rumbuffer.events import Event
from rumbuffer.web.errors import error_members

__all__ = [
    "HttpEvent",
    "JsErrorEvent",
    "PageViewEvent",
    "SessionStartEvent",
    "XrayTraceEvent",
]


class EventMembers(TypedDict, total=False):
    """What every event may have beside its details; as in `Event`."""

    metadata: Mapping[str, Any] | None
    id: str | None
    timestamp: float | datetime | None


class _BuiltinEvent(Event):
    """An event of a built-in type: details and metadata are checked when they are asked for, at admission.

    What is `None` in the details is left out.
    """

    __slots__ = ("_details", "_metadata")

    _type: ClassVar[str]
    _rules: ClassVar[tuple[Rule, ...]]

    def __init__(self, details: Mapping[str, Any], event: EventMembers) -> None:
        given = {name: value for name, value in details.items() if value is not None}
        super().__init__(self._type, given, **event)

    def __init_subclass__(cls, *, type: str | None = None, rule: Rule | None = None, **more: Any) -> None:
        super().__init_subclass__(**more)
        if type is not None and rule is not None:
            cls._type = type
            cls._rules = (rule,)

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


class HttpEvent(_BuiltinEvent, type="com.amazon.rum.http_event", rule=HTTP_DETAILS):
    """``com.amazon.rum.http_event``: a request and its response.

    `trace_id` is in X-Ray's form (35 characters), `segment_id` 16 characters. There is no duration: put
    one into a custom attribute of the metadata.
    """

    __slots__ = ()

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
        **event: Unpack[EventMembers],
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
        super().__init__(details, event)


class JsErrorEvent(_BuiltinEvent, type="com.amazon.rum.js_error_event", rule=JS_ERROR_DETAILS):
    """``com.amazon.rum.js_error_event``: an error, of whatever language."""

    __slots__ = ()

    def __init__(
        self,
        *,
        error_type: str | None = None,
        message: str | None = None,
        filename: str | None = None,
        lineno: float | None = None,
        colno: float | None = None,
        stack: str | None = None,
        **event: Unpack[EventMembers],
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
        super().__init__(details, event)

    @classmethod
    def of(
        cls, error: BaseException, *, message: bool = True, metadata: Mapping[str, Any] | None = None
    ) -> Self:
        """Make an event of an exception: its type, message, place and stack, bounded in size."""
        event = cls(metadata=metadata)
        event.details = error_members(error, message=message, room=_ROOM_FOR_ERROR)
        return event


class XrayTraceEvent(_BuiltinEvent, type="com.amazon.rum.xray_trace_event", rule=XRAY_TRACE_DETAILS):
    """``com.amazon.rum.xray_trace_event``: an X-Ray segment. Times in seconds since the epoch."""

    __slots__ = ()

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
        **event: Unpack[EventMembers],
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
        super().__init__(details, event)


class PageViewEvent(_BuiltinEvent, type="com.amazon.rum.page_view_event", rule=PAGE_VIEW_DETAILS):
    """``com.amazon.rum.page_view_event``: a page that the visitor went to. Times in milliseconds."""

    __slots__ = ()

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
        **event: Unpack[EventMembers],
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
        super().__init__(details, event)


class SessionStartEvent(_BuiltinEvent, type="com.amazon.rum.session_start_event", rule=SESSION_START_DETAILS):
    """``com.amazon.rum.session_start_event``: the first event of a session."""

    __slots__ = ()

    def __init__(self, **event: Unpack[EventMembers]) -> None:
        super().__init__({"version": "1.0.0"}, event)
