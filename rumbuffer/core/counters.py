"""Accounting: every offered event in exactly one counter, at every moment.

Two laws, tested as properties over the core:

    offered  = accepted + sampled_out + refused
    accepted = delivered + dropped + dead_lettered + pending + in_flight + spooled
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

from rumbuffer.core.admission import RefusalReason
from rumbuffer.core.notices import DeadLetterReason, DropReason
from rumbuffer.core.outcomes import HoldScope

__all__ = ["BufferStats", "Counters", "HoldStats", "snapshot"]

Reason = TypeVar("Reason", bound=StrEnum)


class Counters:
    """The running counts. Events unless the name says otherwise."""

    __slots__ = (
        "accepted",
        "batches_delivered",
        "dead_lettered",
        "delivered",
        "dropped",
        "failures",
        "in_flight",
        "pending",
        "refused",
        "requests",
        "retries",
        "sampled_out",
        "shed_out",
        "spooled",
        "throttled",
    )

    def __init__(self) -> None:
        self.accepted: int = 0
        self.sampled_out: int = 0
        self.shed_out: int = 0
        self.refused: dict[RefusalReason, int] = dict.fromkeys(RefusalReason, 0)
        self.pending: int = 0
        self.in_flight: int = 0
        self.delivered: int = 0
        self.dropped: dict[DropReason, int] = dict.fromkeys(DropReason, 0)
        self.dead_lettered: dict[DeadLetterReason, int] = dict.fromkeys(DeadLetterReason, 0)
        self.spooled: int = 0
        self.requests: int = 0
        self.retries: int = 0
        self.throttled: int = 0
        self.failures: int = 0
        self.batches_delivered: int = 0


@dataclass(frozen=True, slots=True)
class HoldStats:
    """A hold that is on. `seconds` is how long it has been, `next_try` in how many it is tried again."""

    scope: HoldScope
    app_monitor_id: str | None
    code: str
    message: str
    seconds: float
    next_try: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferStats:
    """A snapshot of the counts.

    Events: `offered` = `accepted` + `sampled_out` + `refused`, and `accepted` = `delivered` +
    `dropped` + `dead_lettered` + `pending` + `in_flight` + `spooled`, at every moment. The
    ``…_by_reason`` mappings add up to their totals. `pending_bytes` is what the memory limit
    `max_pending_bytes` is charged with, events in flight and room promised to waiting `put()` calls
    included. `open_batches` are unsealed, `waiters` the `put()` calls that wait for room. `shed_out` are
    those of the `sampled_out` that were so because `Overflow.SHED_SESSIONS` keeps only the share
    `shed_rate` of the sampled sessions (1.0 keeps all); what it dropped of accepted events is
    `dropped_by_reason["shed"]`.

    Requests: `requests` were sent, `retries` of them for a batch that was sent before, `throttled`
    were answered with 429, `failures` failed, `batches_delivered` were taken. `rate` is the present
    pace in requests a second, `max_batch_bytes` the present size limit of a request's body.

    `health` is ``ok``, ``outage`` (nothing is delivered; a batch probes), ``held`` (a setting is
    wrong; `holds` says which) or ``failed`` (a defect of rumbuffer; see the log).
    """

    offered: int
    accepted: int
    sampled_out: int
    refused: int
    delivered: int
    dropped: int
    dead_lettered: int
    pending: int
    in_flight: int
    spooled: int
    refused_by_reason: Mapping[str, int]
    dropped_by_reason: Mapping[str, int]
    dead_lettered_by_reason: Mapping[str, int]
    pending_bytes: int
    max_pending_bytes: int
    open_batches: int
    waiters: int
    shed_out: int
    shed_rate: float
    requests: int
    retries: int
    throttled: int
    failures: int
    batches_delivered: int
    rate: float
    max_batch_bytes: int
    health: str
    holds: tuple[HoldStats, ...]

    def failed(self) -> BufferStats:
        """Return the same counts of a buffer that met a defect of its own."""
        return replace(self, health="failed")


def snapshot(counters: Counters, **more: Any) -> BufferStats:
    """Return the counts as they are, with what the counters do not know."""
    refused = sum(counters.refused.values())
    return BufferStats(
        offered=counters.accepted + counters.sampled_out + refused,
        accepted=counters.accepted,
        sampled_out=counters.sampled_out,
        shed_out=counters.shed_out,
        refused=refused,
        delivered=counters.delivered,
        dropped=sum(counters.dropped.values()),
        dead_lettered=sum(counters.dead_lettered.values()),
        pending=counters.pending,
        in_flight=counters.in_flight,
        spooled=counters.spooled,
        refused_by_reason=_nonzero(counters.refused),
        dropped_by_reason=_nonzero(counters.dropped),
        dead_lettered_by_reason=_nonzero(counters.dead_lettered),
        requests=counters.requests,
        retries=counters.retries,
        throttled=counters.throttled,
        failures=counters.failures,
        batches_delivered=counters.batches_delivered,
        **more,
    )


def _nonzero(counts: dict[Reason, int]) -> dict[str, int]:
    return {reason.value: count for reason, count in counts.items() if count}
