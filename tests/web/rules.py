"""The service's rules for the events that the server side makes, stated anew.

Written by hand beside aws-rum-web's event schemas (packages/core/src/event-schemas, commit 8948315) and
compared with them member by member; the library has its own statement and is not used here.
"""

from __future__ import annotations

import json
import re
from typing import Any

Rules = dict[str, Any]

TEXT, NUMBER, WHOLE, TRUTH, OBJECT = "text", "number", "whole", "truth", "object"

_ERROR: Rules = {
    "type": TEXT,
    "message": TEXT,
    "filename": TEXT,
    "lineno": NUMBER,
    "colno": NUMBER,
    "stack": TEXT,
}

_CAUSE: Rules = {
    "exceptions": [
        {
            "id": TEXT,
            "message": TEXT,
            "type": TEXT,
            "remote": TRUTH,
            "truncated": WHOLE,
            "cause": TEXT,
            "stack": [{"class_name": TEXT, "file_name": TEXT, "line": WHOLE, "method_name": TEXT}],
        }
    ]
}

# What a segment and its parts have in common; of what is in brackets there is a list.
_SEGMENT: Rules = {
    "id*": TEXT,
    "name*": TEXT,
    "start_time*": NUMBER,
    "end_time": NUMBER,
    "origin": TEXT,
    "in_progress": TRUTH,
    "parent_id": TEXT,
    "http": {
        "request": {
            "method": TEXT,
            "url": TEXT,
            "client_ip": TEXT,
            "x_forwarded_for": TRUTH,
            "traced": TRUTH,
        },
        "response": {"status": NUMBER, "content_length": NUMBER},
    },
    "error": TRUTH,
    "throttle": TRUTH,
    "fault": TRUTH,
    "cause": _CAUSE,
    "annotations": OBJECT,
    "metadata": OBJECT,
}

_SUBSEGMENT: Rules = {**_SEGMENT, "trace_id": TEXT, "type": TEXT, "namespace": TEXT}
_SUBSEGMENT["subsegments"] = [_SUBSEGMENT]

# type -> members; a name with a star is required
DETAILS: dict[str, Rules] = {
    "com.amazon.rum.http_event": {
        "version*": ("1.0.0",),
        "trace_id": 35,
        "segment_id": 16,
        "request*": {"method*": TEXT, "url": TEXT},
        "response": {"status*": NUMBER, "statusText": TEXT},
        "error": {"version": TEXT, **_ERROR},
    },
    "com.amazon.rum.js_error_event": {"version*": ("1.0.0",), **_ERROR},
    "com.amazon.rum.page_view_event": {
        "version": ("1.0.0",),
        "pageId*": TEXT,
        "pageInteractionId": TEXT,
        "interaction": NUMBER,
        "parentPageInteractionId": TEXT,
        "timeOnParentPage": NUMBER,
        "referrer": TEXT,
        "referrerDomain": TEXT,
    },
    "com.amazon.rum.session_start_event": {"version*": ("1.0.0",)},
    "com.amazon.rum.xray_trace_event": {
        **_SEGMENT,
        "version": ("1.0.0",),
        "user": TEXT,
        "trace_id*": TEXT,
        "subsegments": [_SUBSEGMENT],
    },
}

_METADATA_NAMES = (
    "aws:releaseId browserLanguage browserName browserVersion osName osVersion deviceType platformType "
    "pageUrl url pageId parentPageId referrerUrl pageTitle title countryCode subdivisionCode aws:client "
    "aws:clientVersion aws:userAgent"
).split()


def faults_of(type: str, details: str, metadata: str | None) -> list[str]:
    """What is wrong with an event; nothing, as a rule."""
    faults: list[str] = []
    if type in DETAILS:
        _compare("details", json.loads(details), DETAILS[type], faults)
    elif not re.fullmatch(r"[a-zA-Z0-9_.-]{1,256}", type):
        faults.append("type")
    if metadata is not None:
        _compare_metadata(json.loads(metadata), faults)
    if len(details.encode()) + len((metadata or "").encode()) > 6144:
        faults.append("too large")
    return faults


def _compare(where: str, value: Any, rule: Any, faults: list[str]) -> None:
    if isinstance(rule, dict):
        if not isinstance(value, dict):
            faults.append(f"{where} is no object")
            return
        known = {name.rstrip("*"): members for name, members in rule.items()}
        faults += [f"{where}.{n[:-1]} is missing" for n in rule if n.endswith("*") and n[:-1] not in value]
        for name, member in value.items():
            if name not in known:
                faults.append(f"{where}.{name} is not allowed")
            else:
                _compare(f"{where}.{name}", member, known[name], faults)
    elif isinstance(rule, list):
        if not isinstance(value, list):
            faults.append(f"{where} is no list")
            return
        for place, member in enumerate(value):
            _compare(f"{where}[{place}]", member, rule[0], faults)
    elif isinstance(rule, tuple):
        if value not in rule:
            faults.append(f"{where} is none of {rule}")
    elif isinstance(rule, int):
        if not (isinstance(value, str) and len(value) == rule):
            faults.append(f"{where} has not {rule} characters")
    elif not _is(value, rule):
        faults.append(f"{where} is no {rule}")


def _is(value: Any, kind: str) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return {
        TEXT: isinstance(value, str),
        NUMBER: number,
        WHOLE: number and value == int(value),
        TRUTH: isinstance(value, bool),
        OBJECT: isinstance(value, dict),
    }[kind]


def _compare_metadata(metadata: dict[str, Any], faults: list[str]) -> None:
    if metadata.get("version") != "1.0.0":
        faults.append("metadata.version")
    if not isinstance(metadata.get("domain"), str):
        faults.append("metadata.domain")
    custom = 0
    for name, value in metadata.items():
        if name in ("version", "domain"):
            continue
        if name in _METADATA_NAMES:
            if not isinstance(value, str):
                faults.append(f"metadata.{name} is no text")
            continue
        if name == "interaction":
            if not _is(value, NUMBER):
                faults.append("metadata.interaction is no number")
            continue
        if name == "pageTags":
            if not (isinstance(value, list) and all(isinstance(tag, str) for tag in value)):
                faults.append("metadata.pageTags is no list of texts")
            continue
        custom += 1
        if not re.fullmatch(r"(?!pageTags)(?!aws:)[a-zA-Z0-9_:]{1,128}", name):
            faults.append(f"metadata.{name} is no name")
        if not isinstance(value, (str, int, float, bool)) or (isinstance(value, str) and len(value) > 256):
            faults.append(f"metadata.{name} is no value")
    if custom > 10:
        faults.append("metadata has more than 10 attributes")
