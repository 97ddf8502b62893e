"""What the service was sent, as plain frozen records.

A batch is decoded from its body when somebody looks at it, not when it arrives:
under load nobody looks, and a body is the most compact form of its events.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import orjson


class ReceivedEvent(NamedTuple):
    """One event; ``details`` and ``metadata`` are the strings that were received.

    ``timestamp`` is in seconds since the epoch.
    """

    id: str
    timestamp: float
    type: str
    details: str
    metadata: str | None

    @classmethod
    def of(cls, event: dict[str, Any]) -> ReceivedEvent:
        """From a member of ``RumEvents`` that passed the model's checks."""
        return cls(
            event["id"],
            event["timestamp"],
            event["type"],
            event["details"],
            event.get("metadata"),
        )


@dataclass(frozen=True)
class ReceivedBatch:
    """One accepted batch.

    - ``number``: place in arrival order, from 1.
    - ``body``: the request's body after its content encoding was undone.
    - ``received_at``: seconds since the epoch of its first arrival.
    - ``event_count``: events in the request, those included that were dropped.
    - ``repeats``: how often its id came again; ``conflicts``: how many of these
      came with another body. The body kept is the first.
    - ``dropped``: positions of events that the service dropped silently.
    """

    number: int
    app_monitor_id: str
    batch_id: str
    body: bytes
    received_at: float
    event_count: int
    repeats: int = 0
    conflicts: int = 0
    dropped: tuple[int, ...] = ()

    @cached_property
    def document(self) -> dict[str, Any]:
        """The body as parsed JSON."""
        document: dict[str, Any] = orjson.loads(self.body)
        return document

    @property
    def app_monitor_details(self) -> dict[str, Any]:
        """``AppMonitorDetails``: any of id, name, version."""
        details: dict[str, Any] = self.document["AppMonitorDetails"]
        return details

    @property
    def user_id(self) -> str | None:
        """``UserDetails.userId``."""
        user_id: str | None = self.document["UserDetails"].get("userId")
        return user_id

    @property
    def session_id(self) -> str | None:
        """``UserDetails.sessionId``."""
        session_id: str | None = self.document["UserDetails"].get("sessionId")
        return session_id

    @property
    def alias(self) -> str | None:
        """``Alias``."""
        return self.document.get("Alias")

    @property
    def session_metadata(self) -> str | None:
        """``SessionMetadata``: a JSON string, as received."""
        return self.document.get("SessionMetadata")

    @cached_property
    def sent_events(self) -> tuple[ReceivedEvent, ...]:
        """Every event of the request, those included that were dropped silently."""
        return tuple(map(ReceivedEvent.of, self.document["RumEvents"]))

    @property
    def events(self) -> tuple[ReceivedEvent, ...]:
        """The events that the service keeps, in the order of the request."""
        dropped = set(self.dropped)
        return tuple(e for place, e in enumerate(self.sent_events) if place not in dropped)

    @property
    def dropped_events(self) -> tuple[ReceivedEvent, ...]:
        """The events that were dropped silently."""
        return tuple(self.sent_events[place] for place in self.dropped)
