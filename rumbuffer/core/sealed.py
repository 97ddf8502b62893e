"""A sealed batch: immutable from the moment when it gets its id."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rumbuffer.events import AppMonitor

__all__ = ["SealedBatch"]


@dataclass(frozen=True, slots=True, repr=False)
class SealedBatch:
    """The events of one session for one PutRumEvents request.

    `events` are the events' final JSON bytes in admission order, and `attributes` is the JSON text
    of the session's attributes as a JSON string (ready to be embedded), or `None`. Nothing of it
    ever changes, so that every retry carries the same id and the same bytes.
    """

    id: str
    app_monitor: AppMonitor
    session_id: str
    user_id: str
    attributes: bytes | None
    events: tuple[bytes, ...]

    def body(self) -> bytes:
        """Return the request's body as the service's model lays it out, joined anew at each call."""
        head, tail = self.app_monitor.envelope
        parts = [
            b'{"BatchId":"',
            self.id.encode(),
            head,
            b'"userId":"',
            self.user_id.encode(),
            b'","sessionId":"',
            self.session_id.encode(),
            b'"},"RumEvents":[',
            b",".join(self.events),
            tail,
        ]
        if self.attributes is not None:
            parts += (b',"SessionMetadata":', self.attributes)
        parts.append(b"}")
        return b"".join(parts)

    def halves(self) -> tuple[SealedBatch, SealedBatch]:
        """Split into two batches whose ids derive from this one's (UUIDv5), so a repeat repeats them."""
        middle = len(self.events) // 2
        return self._part("first", self.events[:middle]), self._part("second", self.events[middle:])

    def _part(self, name: str, events: tuple[bytes, ...]) -> SealedBatch:
        return SealedBatch(
            str(uuid.uuid5(uuid.UUID(self.id), name)),
            self.app_monitor,
            self.session_id,
            self.user_id,
            self.attributes,
            events,
        )

    def __repr__(self) -> str:
        return f"<SealedBatch {self.id} of {len(self.events)} events>"
