"""From what a user hands in to the final JSON bytes of an event.

An event is encoded once, when it is offered; from then on it is counted, moved and joined as bytes.
`details` and `metadata` are embedded in the service's model as JSON *strings* that hold an object,
so each is dumped (or, given as text, checked) and then embedded as a string. What the bytes may not
exceed is the UTF-8 length of both texts before they are embedded: that is what the service measures
(it drops a larger event silently, with HTTP 200; tried 2026-11).

The fast path is for what nearly everybody hands in: dicts, a known type, no id, no timestamp. Every
check that can be made once is made once: an event type is matched against its pattern when it is
first met and remembered.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

import orjson

from rumbuffer.errors import InvalidEvent

__all__ = ["EventEncoder", "embedded_json", "json_text", "shape_of"]

_dumps = orjson.dumps

_is_type = re.compile(r"[a-zA-Z0-9_.-]{1,256}").fullmatch
_is_uuid = re.compile(
    r"[a-fA-F0-9]{8}-[a-fA-F0-9]{4}-[a-fA-F0-9]{4}-[a-fA-F0-9]{4}-[a-fA-F0-9]{12}"
).fullmatch

_KNOWN_TYPES_MAX = 1024
"""Types remembered as valid. Applications have dozens; the bound is for types made from user input."""

_LATEST_TIMESTAMP = 100_000_000_000
"""Seconds: the year 5138. Larger numbers are milliseconds by mistake."""


def shape_of(value: object) -> str:
    """Describe a value by type and size, never by content, which may be personal."""
    kind = type(value).__name__
    if value is None or isinstance(value, bool):
        return kind
    if isinstance(value, (str, bytes, bytearray)):
        unit = "characters" if isinstance(value, str) else "bytes"
        return f"{kind} of {len(value)} {unit}"
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        return f"{kind} of {len(value)} members"
    return kind


def json_text(field: str, value: object) -> str:
    """Return the JSON text of `value`, a mapping or a JSON text that holds an object.

    A text is returned as it is. Raises `InvalidEvent` naming `field`.
    """
    if isinstance(value, dict):
        pass
    elif isinstance(value, str):
        return _checked_text(field, value)
    elif isinstance(value, Mapping):
        value = dict(value)
    else:
        raise InvalidEvent(field, "must be a mapping or a JSON text that holds an object", shape_of(value))
    try:
        return _dumps(value).decode()
    except (TypeError, ValueError, RecursionError) as error:
        # orjson raises JSONEncodeError, a TypeError, on what JSON cannot hold; its texts name types
        # and limits, not content.
        raise InvalidEvent(field, f"must hold only JSON values ({error})", shape_of(value)) from None


def embedded_json(field: str, value: object) -> bytes:
    """Return `value`'s JSON text as a JSON string, ready to stand in a request's body."""
    try:
        return _dumps(json_text(field, value))
    except (TypeError, ValueError) as error:  # a text with lone surrogates
        raise InvalidEvent(field, f"must be text that UTF-8 can hold ({error})", shape_of(value)) from None


def _checked_text(field: str, text: str) -> str:
    try:
        held = orjson.loads(text)
    except (TypeError, ValueError):
        held = _loads_leniently(field, text)
    if not isinstance(held, dict):
        raise InvalidEvent(field, "a JSON text must hold an object", f"a JSON text of {shape_of(held)}")
    return text


def _loads_leniently(field: str, text: str) -> Any:
    """Take the JSON that orjson refuses and the standard allows: escaped lone surrogates, for one."""
    try:
        return json.loads(text, parse_constant=_no_constants)
    except (ValueError, RecursionError):
        raise InvalidEvent(
            field, "a string must be a JSON text that holds an object", shape_of(text)
        ) from None


def _no_constants(name: str) -> NoReturn:
    raise ValueError(name)


def _seconds(value: object) -> float | int:
    """Check a timestamp; seconds since the epoch, to the millisecond as botocore sends them."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=UTC)
        value = value.timestamp()
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidEvent("timestamp", "must be seconds since the epoch or a datetime", shape_of(value))
    if not (math.isfinite(value) and 0 <= value < _LATEST_TIMESTAMP):
        raise InvalidEvent(
            "timestamp",
            f"must be seconds since the epoch, from 0 to {_LATEST_TIMESTAMP - 1} (are these milliseconds?)",
            f"{type(value).__name__} out of range",
        )
    return value if isinstance(value, int) else round(value, 3)


class EventEncoder:
    """Checks and encodes events under the given limits (bytes).

    `max_event_bytes` is the UTF-8 length of details and metadata together; larger events are
    refused unless `refuse_oversize` is false.
    """

    __slots__ = ("_known_types", "_max_event_bytes")

    def __init__(self, max_event_bytes: int, *, refuse_oversize: bool = True) -> None:
        self._max_event_bytes = max_event_bytes if refuse_oversize else math.inf
        self._known_types: set[str] = set()

    def encode(
        self,
        type: str,
        details: Mapping[str, Any] | str,
        metadata: Mapping[str, Any] | str | None,
        id: str,
        timestamp: float,
    ) -> bytes:
        """Encode an event whose `id` and `timestamp` are our own. Raises `InvalidEvent`."""
        try:
            if type not in self._known_types:
                self._check_type(type)
            # The two branches are the fast path: dumping a dict once for its text and once, with
            # everything else, for the event. Anything that is no plain dict goes through json_text.
            text = _dumps(details) if details.__class__ is dict else json_text("details", details).encode()
            if metadata is None:
                if len(text) > self._max_event_bytes:
                    self._too_large(len(text))
                return _dumps({"id": id, "timestamp": timestamp, "type": type, "details": text.decode()})
            more = (
                _dumps(metadata) if metadata.__class__ is dict else json_text("metadata", metadata).encode()
            )
            if len(text) + len(more) > self._max_event_bytes:
                self._too_large(len(text) + len(more))
            return _dumps(
                {
                    "id": id,
                    "timestamp": timestamp,
                    "type": type,
                    "details": text.decode(),
                    "metadata": more.decode(),
                }
            )
        except InvalidEvent:
            raise
        except Exception:  # noqa: BLE001 - whatever it was, the slow way finds the member and says so
            return self._encode_slowly(type, details, metadata, id, timestamp)

    def encode_given(
        self,
        type: str,
        details: Mapping[str, Any] | str,
        metadata: Mapping[str, Any] | str | None,
        id: str,
        timestamp: object,
    ) -> bytes:
        """Encode an event whose `id` and `timestamp` were given, and are checked."""
        if not (isinstance(id, str) and _is_uuid(id)):
            raise InvalidEvent(
                "id", "must be a UUID of 36 characters (8-4-4-4-12 hexadecimal digits)", shape_of(id)
            )
        return self.encode(type, details, metadata, id, _seconds(timestamp))

    def _encode_slowly(
        self, type: str, details: object, metadata: object, id: str, timestamp: float
    ) -> bytes:
        self._check_type(type)
        texts = {"details": json_text("details", details)}
        if metadata is not None:
            texts["metadata"] = json_text("metadata", metadata)
        size = 0
        for field, text in texts.items():
            try:
                size += len(text.encode())
            except UnicodeEncodeError:
                raise InvalidEvent(
                    field, "must be text that UTF-8 can hold (no lone surrogates)", shape_of(text)
                ) from None
        if size > self._max_event_bytes:
            self._too_large(size)
        return _dumps({"id": id, "timestamp": timestamp, "type": type, **texts})

    def _check_type(self, type: object) -> None:
        if not (isinstance(type, str) and _is_type(type)):
            raise InvalidEvent("type", "must be 1 to 256 of the characters a-z A-Z 0-9 _ . -", shape_of(type))
        if len(self._known_types) < _KNOWN_TYPES_MAX:
            self._known_types.add(str(type))

    def _too_large(self, size: int) -> NoReturn:
        raise InvalidEvent(
            "details",
            f"details and metadata together must not exceed max_event_bytes={self._max_event_bytes} in "
            f"UTF-8, for the service drops a larger event silently",
            f"{size} bytes",
        )
