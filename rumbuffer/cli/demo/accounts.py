"""The accounts: what `record()` accepted, held against what the service kept, event by event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rumbuffer.cli.recorded import RecordedEvent

__all__ = ["Ledger", "Verdict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the comparison found. Events unless the name says otherwise.

    `missing` were accepted and are not there; `unexpected` are there and were not accepted; `altered`
    have another type, details, metadata or session than what was accepted; `in_two_batches` are there
    more than once. `repeated_batches` counts batches that came again, `conflicting_batches` those that
    came again with another body.
    """

    accepted: int
    stored: int
    missing: int
    unexpected: int
    altered: int
    in_two_batches: int
    repeated_batches: int
    conflicting_batches: int

    @property
    def clean(self) -> bool:
        """Whether each accepted event arrived, as it was, and only whole batches were repeated."""
        return not (
            self.missing or self.unexpected or self.altered or self.in_two_batches or self.conflicting_batches
        )

    def as_dict(self) -> dict[str, Any]:
        """The counts, ready for JSON."""
        return asdict(self)


class Ledger:
    """Notes each accepted event by its id."""

    def __init__(self) -> None:
        self._accepted: dict[str, tuple[str, RecordedEvent]] = {}

    def __len__(self) -> int:
        return len(self._accepted)

    def note(self, event_id: str, session_id: str, event: RecordedEvent) -> None:
        """Note an event that `record()` accepted."""
        self._accepted[event_id] = (session_id, event)

    def compare(self, batches: Iterable[Mapping[str, Any]]) -> Verdict:
        """Compare with the batches that the service kept, in the form of its ``/_emulator/batches``."""
        seen: set[str] = set()
        unexpected = altered = in_two_batches = repeated = conflicting = 0
        for batch in batches:
            repeated += batch["repeats"]
            conflicting += batch["conflicts"]
            for stored in batch["events"]:
                event_id = stored["id"]
                if event_id in seen:
                    in_two_batches += 1
                    continue
                seen.add(event_id)
                accepted = self._accepted.get(event_id)
                if accepted is None:
                    unexpected += 1
                    continue
                event = RecordedEvent(stored["type"], stored["details"], stored["metadata"])
                altered += (batch["session_id"], event) != accepted
        return Verdict(
            accepted=len(self._accepted),
            stored=len(seen),
            missing=len(self._accepted.keys() - seen),
            unexpected=unexpected,
            altered=altered,
            in_two_batches=in_two_batches,
            repeated_batches=repeated,
            conflicting_batches=conflicting,
        )
