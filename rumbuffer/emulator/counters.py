"""What the emulator counted: exact however long it runs and however little it keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Requests:
    """Counts of PutRumEvents requests since the start, or the last `Emulator.clear`.

    While no request is being answered::

        received = accepted + throttled + sum(rejected.values()) + failed

    - ``accepted``: the batch is kept or a repeat, whatever was answered then;
      ``repeated`` of them came with a known ``BatchId``, ``conflicting`` of
      these with another body.
    - ``throttled``: refused by the quota; ``rejected``: refused by a check, by
      error name; ``failed``: struck by a fault that did not keep the batch.
    - ``faults``: faults that struck, by name, those that kept the batch included.
    - ``events``: distinct events kept; ``silently_dropped``: events above the
      service's limit, answered with 200 and kept nowhere.
    - ``wire_bytes``: bodies as received; ``body_bytes``: accepted ones, decoded.
    """

    received: int = 0
    accepted: int = 0
    repeated: int = 0
    conflicting: int = 0
    throttled: int = 0
    failed: int = 0
    events: int = 0
    silently_dropped: int = 0
    wire_bytes: int = 0
    body_bytes: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    faults: Mapping[str, int] = field(default_factory=dict)

    @property
    def batches(self) -> int:
        """Distinct batches."""
        return self.accepted - self.repeated


@dataclass(slots=True)
class Tally:
    """The running counts behind `Requests`."""

    received: int = 0
    accepted: int = 0
    repeated: int = 0
    conflicting: int = 0
    throttled: int = 0
    failed: int = 0
    events: int = 0
    silently_dropped: int = 0
    wire_bytes: int = 0
    body_bytes: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def snapshot(self) -> Requests:
        """The counts now."""
        counts = {name: getattr(self, name) for name in Requests.__slots__}
        return Requests(**counts | {"rejected": dict(self.rejected), "faults": dict(self.faults)})
