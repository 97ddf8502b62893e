"""What a real browser client sent, as package data; `data/README.md` says where it comes from."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import orjson

__all__ = ["RecordedEvent", "RecordedSession", "recorded_requests", "recorded_sessions"]


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event without its id and time; `details` and `metadata` are the JSON texts that were sent."""

    type: str
    details: str
    metadata: str | None


@dataclass(frozen=True, slots=True)
class RecordedSession:
    """One visit: its events in the order of the browser, and the attributes that hold for all of them."""

    attributes: str | None
    events: tuple[RecordedEvent, ...]


def recorded_requests() -> list[dict[str, Any]]:
    """Return the 84 requests in the order of their arrival, as `data/README.md` describes them."""
    packed = (files("rumbuffer.cli") / "data" / "browser-batches.ndjson.gz").read_bytes()
    return [orjson.loads(line) for line in gzip.decompress(packed).splitlines()]


def recorded_sessions() -> list[RecordedSession]:
    """Return the 12 visits."""
    events: dict[str, list[RecordedEvent]] = {}
    attributes: dict[str, str | None] = {}
    for request in recorded_requests():
        body = request["body"]
        session = body["UserDetails"]["sessionId"]
        attributes[session] = body.get("SessionMetadata")
        events.setdefault(session, []).extend(
            RecordedEvent(event["type"], event["details"], event.get("metadata"))
            for event in body["RumEvents"]
        )
    return [RecordedSession(attributes[session], tuple(events[session])) for session in events]
