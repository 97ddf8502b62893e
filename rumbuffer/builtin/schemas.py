"""The service's schemas of the events that a server can know (aws-rum-web's, 2026-11), and of metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rumbuffer.builtin.rules import (
    Rule,
    a_mapping,
    a_number,
    a_text,
    a_truth,
    a_version,
    a_whole,
    is_finite,
    list_of,
    object_of,
    text_of,
)
from rumbuffer.core.encoding import shape_of
from rumbuffer.errors import InvalidEvent

__all__ = [
    "HTTP_DETAILS",
    "JS_ERROR_DETAILS",
    "PAGE_VIEW_DETAILS",
    "SESSION_START_DETAILS",
    "XRAY_TRACE_DETAILS",
    "check_metadata",
]

_ERROR: dict[str, Rule] = {
    "type": a_text,
    "message": a_text,
    "filename": a_text,
    "lineno": a_number,
    "colno": a_number,
    "stack": a_text,
}

HTTP_DETAILS = object_of(
    {
        "version": a_version,
        "trace_id": text_of(35),
        "segment_id": text_of(16),
        "request": object_of({"method": a_text, "url": a_text}, "method"),
        "response": object_of({"status": a_number, "statusText": a_text}, "status"),
        "error": object_of({"version": a_text, **_ERROR}),
    },
    "version",
    "request",
)

JS_ERROR_DETAILS = object_of({"version": a_version, **_ERROR}, "version")

PAGE_VIEW_DETAILS = object_of(
    {
        "version": a_version,
        "pageId": a_text,
        "pageInteractionId": a_text,
        "interaction": a_number,
        "parentPageInteractionId": a_text,
        "timeOnParentPage": a_number,
        "referrer": a_text,
        "referrerDomain": a_text,
    },
    "pageId",
)

SESSION_START_DETAILS = object_of({"version": a_version}, "version")

_trace_http = object_of(
    {
        "request": object_of(
            {
                "method": a_text,
                "url": a_text,
                "client_ip": a_text,
                "x_forwarded_for": a_truth,
                "traced": a_truth,
            }
        ),
        "response": object_of({"status": a_number, "content_length": a_number}),
    }
)

_trace_frame = object_of({"class_name": a_text, "file_name": a_text, "line": a_whole, "method_name": a_text})

_trace_exception = object_of(
    {
        "id": a_text,
        "message": a_text,
        "type": a_text,
        "remote": a_truth,
        "truncated": a_whole,
        "cause": a_text,
        "stack": list_of(_trace_frame),
    }
)

_DEEPEST = 32


def _subsegments(field: str, value: object) -> None:
    if field.count("subsegments") > _DEEPEST:
        raise InvalidEvent("details.subsegments", f"may be at most {_DEEPEST} levels deep", "more")
    list_of(_subsegment)(field, value)


_SEGMENT: dict[str, Rule] = {
    "name": a_text,
    "id": a_text,
    "start_time": a_number,
    "trace_id": a_text,
    "end_time": a_number,
    "origin": a_text,
    "in_progress": a_truth,
    "parent_id": a_text,
    "http": _trace_http,
    "error": a_truth,
    "throttle": a_truth,
    "fault": a_truth,
    "cause": object_of({"exceptions": list_of(_trace_exception)}),
    "annotations": a_mapping,
    "metadata": a_mapping,
    "subsegments": _subsegments,
}

_subsegment = object_of({**_SEGMENT, "type": a_text, "namespace": a_text}, "id", "name", "start_time")

XRAY_TRACE_DETAILS = object_of(
    {**_SEGMENT, "version": a_version, "user": a_text}, "name", "id", "trace_id", "start_time"
)

_METADATA: dict[str, Rule] = {
    "version": a_version,
    "interaction": a_number,
    "pageTags": list_of(a_text),
    **dict.fromkeys(
        (
            "aws:releaseId browserLanguage browserName browserVersion osName osVersion deviceType "
            "platformType "
            "pageUrl url pageId parentPageId referrerUrl pageTitle title countryCode subdivisionCode domain "
            "aws:client aws:clientVersion aws:userAgent"
        ).split(),
        a_text,
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
    elif not isinstance(value, (int, float)) or not is_finite(value):
        raise InvalidEvent(field, "must be a string, a finite number or a boolean", shape_of(value))
