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
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

import orjson

from rumbuffer.errors import InvalidEvent

__all__ = ["UUID_RULE", "EventEncoder", "embedded_json", "is_uuid", "json_text", "shape_of", "with_attribute"]

_dumps = orjson.dumps

_is_type = re.compile(r"[a-zA-Z0-9_.-]{1,256}").fullmatch
# The service checks the pattern, botocore only the length (model rum/2018-05-10, 2026-11).
is_uuid: Callable[[str], re.Match[str] | None] = re.compile(
    r"[a-fA-F0-9]{8}-[a-fA-F0-9]{4}-[a-fA-F0-9]{4}-[a-fA-F0-9]{4}-[a-fA-F0-9]{12}"
).fullmatch

UUID_RULE = "must be a UUID of 36 characters (8-4-4-4-12 hexadecimal digits)"

_join = b"".join
_HEAD = b'{"id":"'
_TIME = b'","timestamp":'

_KNOWN_TYPES_MAX = 1024
"""Types remembered as valid. Applications have dozens; the bound is for types made from user input."""

_LATEST_TIMESTAMP = 100_000_000_000
"""Seconds: the year 5138. Larger numbers are milliseconds by mistake."""


def shape_of(value: object) -> str:
    """Describe a value by type and size, never by content, which may be personal."""
    kind = type(value).__name__
    if value is None or isinstance(value, bool):
        return kind
    try:
        if isinstance(value, (str, bytes, bytearray)):
            unit = "characters" if isinstance(value, str) else "bytes"
            return f"{kind} of {len(value)} {unit}"
        if isinstance(value, (Mapping, list, tuple, set, frozenset)):
            return f"{kind} of {len(value)} members"
    except Exception:  # noqa: BLE001 - a class of the user's may do anything when it is asked for its size
        return f"{kind} of unknown size"
    return kind


def json_text(field: str, value: object) -> str:
    """Return the JSON text of `value`, a mapping or a JSON text that holds an object.

    A text is returned as it is. Raises `InvalidEvent` naming `field`.
    """
    if isinstance(value, str):
        return _checked_text(field, str.__str__(value))  # of a subclass, only the text
    if not isinstance(value, Mapping):
        raise InvalidEvent(field, "must be a mapping or a JSON text that holds an object", shape_of(value))
    try:
        return _dumps(value if isinstance(value, dict) else dict(value)).decode()
    except orjson.JSONEncodeError as error:  # its texts name types and limits, not content
        raise InvalidEvent(field, f"must hold only JSON values ({error})", shape_of(value)) from None
    except Exception as error:  # noqa: BLE001 - a mapping of the user's may do anything when it is read
        raise InvalidEvent(field, f"must be readable ({type(error).__name__})", shape_of(value)) from None


def embedded_json(field: str, value: object) -> bytes:
    """Return `value`'s JSON text as a JSON string, ready to stand in a request's body."""
    text = json_text(field, value)
    try:
        # Copied, for what orjson returns keeps the buffer that it was written to.
        return memoryview(_dumps(text)).tobytes()
    except (TypeError, ValueError) as error:  # a text with lone surrogates
        raise InvalidEvent(field, f"must be text that UTF-8 can hold ({error})", shape_of(value)) from None


def with_attribute(attributes: bytes | None, name: str, value: float) -> bytes:
    """Return session attributes as they stand in a body, or none, with one more in them."""
    held = {} if attributes is None else json.loads(json.loads(attributes))
    held[name] = value
    # Not by orjson, which refuses what the standard allows (lone surrogates, escaped) and was taken.
    return json.dumps(json.dumps(held, separators=(",", ":"))).encode()


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
    if isinstance(value, bool) or not isinstance(value, (int, float, datetime)):
        raise InvalidEvent("timestamp", "must be seconds since the epoch or a datetime", shape_of(value))
    try:
        if isinstance(value, datetime):
            number: float = (value.replace(tzinfo=UTC) if value.tzinfo is None else value).timestamp()
        else:
            number = value
        # A number of its plain type, for a subclass (NumPy's, say) is nothing that orjson takes.
        seconds = int(number) if isinstance(number, int) else round(float(number), 3)
    except Exception as error:  # noqa: BLE001 - NaN has no decimals; a class of the user's may do anything
        shape = f"{type(value).__name__} ({type(error).__name__})"
        raise InvalidEvent("timestamp", "must be a finite number of seconds or a datetime", shape) from None
    if not 0 <= seconds < _LATEST_TIMESTAMP:  # nor NaN
        raise InvalidEvent(
            "timestamp",
            f"must be seconds since the epoch, from 0 to {_LATEST_TIMESTAMP - 1} (are these milliseconds?)",
            f"{type(value).__name__} out of range",
        )
    return seconds


def _id_bytes(id: object) -> bytes:
    if isinstance(id, bytes):
        return id
    if isinstance(id, str) and is_uuid(id):
        return str.encode(id)
    raise InvalidEvent("id", UUID_RULE, shape_of(id))


class EventEncoder:
    """Checks and encodes events under the given limits (bytes).

    `max_event_bytes` is the UTF-8 length of details and metadata together; larger events are
    refused unless `refuse_oversize` is false.
    """

    __slots__ = ("_max_event_bytes", "_type_members")

    def __init__(self, max_event_bytes: int, *, refuse_oversize: bool = True) -> None:
        self._max_event_bytes = max_event_bytes if refuse_oversize else math.inf
        self._type_members: dict[str, bytes] = {}

    def encode(
        self,
        type: str,
        details: Mapping[str, Any] | str,
        metadata: Mapping[str, Any] | str | None,
        id: bytes,
        timestamp: float,
    ) -> bytes:
        """Encode an event whose `id` (a UUID's text) and `timestamp` are known to be good.

        Raises `InvalidEvent`. The members stand in the order of the service's model.
        """
        # The result is joined, never orjson's own: what orjson returns keeps the buffer that it was written
        # to, and a kept event of 150 bytes took 4 KB so (orjson 3.13).
        try:
            member = self._type_members.get(type) or self._type_member(type)
            # A dict is dumped once for its text and once more as a string; what is no plain dict goes
            # through json_text.
            text = _dumps(details) if details.__class__ is dict else json_text("details", details).encode()
            if metadata is None:
                if len(text) > self._max_event_bytes:
                    self._too_large(len(text))
                return _join(
                    (_HEAD, id, _TIME, _dumps(timestamp), member, _dumps(text.decode()), b"}"),
                )
            more = (
                _dumps(metadata) if metadata.__class__ is dict else json_text("metadata", metadata).encode()
            )
            if len(text) + len(more) > self._max_event_bytes:
                self._too_large(len(text) + len(more))
            return _join(
                (
                    _HEAD,
                    id,
                    _TIME,
                    _dumps(timestamp),
                    member,
                    _dumps(text.decode()),
                    b',"metadata":',
                    _dumps(more.decode()),
                    b"}",
                )
            )
        except InvalidEvent:
            raise
        except Exception as error:  # noqa: BLE001 - a class of the user's may do anything when it is read
            self._find_fault(type, details, metadata)
            raise InvalidEvent(
                "event", f"must be readable ({error.__class__.__name__})", "an event"
            ) from None

    def encode_given(
        self,
        type: str,
        details: Mapping[str, Any] | str,
        metadata: Mapping[str, Any] | str | None,
        id: str | bytes,
        timestamp: object,
    ) -> bytes:
        """Encode an event whose `id` (unless it is bytes, and ours) and `timestamp` are to be checked."""
        return self.encode(type, details, metadata, _id_bytes(id), _seconds(timestamp))

    def _find_fault(self, type: str, details: object, metadata: object) -> None:
        """Raise the `InvalidEvent` that names the member which could not be encoded."""
        self._type_member(type)
        for field, value in (("details", details), ("metadata", metadata)):
            if value is None and field == "metadata":
                continue
            embedded_json(field, value)

    def _type_member(self, type: object) -> bytes:
        """Return the bytes from the type's name to the details, remembered for the next event."""
        if isinstance(type, str):
            type = str.__str__(type)  # noqa: A001
        if not (isinstance(type, str) and _is_type(type)):
            raise InvalidEvent("type", "must be 1 to 256 of the characters a-z A-Z 0-9 _ . -", shape_of(type))
        member = b',"type":"%b","details":' % type.encode()
        if len(self._type_members) < _KNOWN_TYPES_MAX:
            self._type_members[type] = member
        return member

    def _too_large(self, size: int) -> NoReturn:
        raise InvalidEvent(
            "details",
            f"details and metadata together must not exceed max_event_bytes={self._max_event_bytes} in "
            f"UTF-8, for the service drops a larger event silently",
            f"{size} bytes",
        )
