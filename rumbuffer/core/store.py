"""Where admitted events wait: room, admission, eviction.

Memory is bounded by charges, not by counts: every event costs its length + 100 bytes and every open
batch 400 + its envelope, from its admission to its final outcome. So what is in flight is within the
bound too, and the bound holds whatever the service does.

Room has an order of precedence. `put()` calls that wait for room are served first come, first served,
and only from room that became free by itself; while any of them waits, everybody else may take only
room that their own eviction made. Room that a waiter is granted is reserved for it at once, and given
back if it does not want it any more, so that a cancelled `put()` was never admitted.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rumbuffer.core.admission import ACCEPTED, Admission, RefusalReason, refusal
from rumbuffer.core.counters import Counters
from rumbuffer.core.flights import Flight, TrackedEvent
from rumbuffer.core.lanes import BATCH_CHARGE, EVENT_CHARGE, Lane, OpenBatch, attributes_size
from rumbuffer.core.losses import Losses
from rumbuffer.core.notices import DropReason
from rumbuffer.core.sealed import SealedBatch
from rumbuffer.errors import InvalidEvent

if TYPE_CHECKING:
    from rumbuffer.events import AppMonitor, Session

__all__ = ["RoomWaiter", "Store"]

_FAR = float("inf")
_AT_ONCE = -1.0

_LANES_REMEMBERED = 256
"""App monitors may come from clients' requests; what is remembered of them must have a bound."""


class RoomWaiter:
    """A `put()` that waits for `needed` bytes; `granted` once they are reserved for it."""

    __slots__ = ("granted", "lane", "needed")

    def __init__(self, lane: Lane, needed: int) -> None:
        self.lane = lane
        self.needed = needed
        self.granted = False


class Store:
    """Lanes of open batches under one memory limit.

    `wake` is set when the pump must look again before the time it planned (`alarm`), because work
    became possible earlier than that or there is news to hand over. While nothing that is admitted
    could be sent any earlier (there is work already, and no token or no slot for it), the alarm is
    minus infinity, and admissions wake nobody.
    """

    def __init__(
        self,
        app_monitor: AppMonitor,
        *,
        max_batch_events: int,
        max_batch_bytes: int,
        linger: float,
        max_pending_bytes: int,
        evicts: bool,
        keep_dropped: bool,
    ) -> None:
        self.counters = Counters()
        self.losses = Losses(self.counters, keep_dropped=keep_dropped)
        self.max_batch_events = max_batch_events
        self.max_batch_bytes = max_batch_bytes
        self._largest_body = max_batch_bytes
        self.linger = linger
        self.capacity = max_pending_bytes
        self.free = max_pending_bytes
        self.fixed = 0
        """Bytes charged that no eviction can free: sealed batches, and reservations."""
        self.waiters: deque[RoomWaiter] = deque()
        self.granted: list[RoomWaiter] = []
        self.pressed = False
        """Whether an event met the limit lately: then the oldest batch goes without its linger."""
        self.flush_seq = 0
        """Every batch opened before this number is due."""
        self.next_seq = 1
        self.lanes: dict[AppMonitor, Lane] = {}
        self.home = self.lane_for(app_monitor)
        self.wake = False
        self.alarm = _FAR
        self._evicts = evicts

    def lane_for(self, app_monitor: AppMonitor) -> Lane:
        """Return the app monitor's lane, made when it is first needed."""
        lane = self.lanes.get(app_monitor)
        if lane is None:
            lane = self.lanes[app_monitor] = Lane(app_monitor)
        return lane

    def forget_if_idle(self, lane: Lane) -> None:
        """Let go of the lane of a foreign app monitor when nothing is left in it.

        One that the service refused lately is remembered, unless there are very many.
        """
        if lane is self.home or lane.oldest is not None or lane.flights:
            return
        if not lane.has_record or len(self.lanes) > _LANES_REMEMBERED:
            self.lanes.pop(lane.app_monitor, None)

    def open_batches(self) -> int:
        """Count the unsealed batches."""
        return sum(lane.batch_count for lane in self.lanes.values())

    # Admission --------------------------------------------------------------------------------------

    def admit(self, event: bytes, session: Session, lane: Lane, now: float) -> Admission:
        """Admit an encoded event, or refuse it for want of room. Raises `InvalidEvent`.

        This runs on every event: the common case (the session has an open batch, there is room, nobody
        waits) is here in full, all others in `_admit_slowly`.
        """
        batch = lane.joinable(session)
        size = len(event)
        cost = size + EVENT_CHARGE
        if (
            batch is None
            or cost > self.free
            or self.waiters
            or batch.size + size >= self.max_batch_bytes
            or (batch.attributes is None and session.encoded_attributes is not None)
        ):
            return self._admit_slowly(event, session, lane, now)
        events = batch.events
        events.append(event)
        batch.size += size + 1
        self.free -= cost
        counters = self.counters
        counters.accepted += 1
        counters.pending += 1
        if len(events) >= self.max_batch_events:
            self._close(batch)
        return ACCEPTED

    def admit_or_drop(self, event: bytes, session: Session, lane: Lane, now: float) -> None:
        """Admit an event that was answered "accepted" already; without room it is a counted drop."""
        try:
            if self._make_room(event, session, lane):
                self._place(event, session, lane, now)
                self._grant()
                return
        except InvalidEvent:
            pass
        self.forget_if_idle(lane)
        self.counters.accepted += 1
        self.losses.drop(DropReason.OVERFLOW, (event,))

    def admit_waiting(
        self,
        waiter: RoomWaiter | None,
        event: bytes,
        session: Session,
        lane: Lane,
        now: float,
        *,
        urgent: bool,
    ) -> RoomWaiter | None:
        """Admit an event for `put()`: now (returns `None`), or when the returned waiter is granted.

        Called again with the granted waiter, it admits from what was reserved. An urgent event's batch
        is due at once. Raises `InvalidEvent`.
        """
        worst = self._worst_cost(event, session, lane)
        if waiter is not None:
            self._unreserve(waiter)
        elif self.waiters or self._cost(event, session, lane) > self.free:
            waiter = RoomWaiter(lane, worst)
            self.waiters.append(waiter)
            self._press()
            return waiter
        batch = self._place(event, session, lane, now)
        if urgent and batch.lane is not None:
            lane.urgent[batch.seq] = batch
            self._work_possible(_AT_ONCE)
        self._grant()
        return None

    def withdraw(self, waiter: RoomWaiter) -> None:
        """The `put()` was cancelled, or the buffer closed: forget it, or give back what it was granted."""
        if waiter.granted:
            self._unreserve(waiter)
        else:
            self.waiters.remove(waiter)
        self.forget_if_idle(waiter.lane)
        self._grant()

    def _admit_slowly(self, event: bytes, session: Session, lane: Lane, now: float) -> Admission:
        if not self._make_room(event, session, lane):
            self.counters.refused[RefusalReason.BUFFER_FULL] += 1
            self.forget_if_idle(lane)
            return refusal(RefusalReason.BUFFER_FULL)
        self._place(event, session, lane, now)
        self._grant()
        return ACCEPTED

    def _make_room(self, event: bytes, session: Session, lane: Lane) -> bool:
        """Tell whether the event may be placed, after evicting for it where the policy says so."""
        worst = self._worst_cost(event, session, lane)
        made = 0
        while self._cost(event, session, lane) > (made if self.waiters else self.free):
            self._press()
            evictable = self.capacity - self.free - self.fixed
            # Nothing is evicted for an event that could not get in even so.
            if not self._evicts or not evictable or worst > evictable + (made if self.waiters else self.free):
                return False
            made += self._evict_oldest()
        return True

    def _target(self, event: bytes, session: Session, lane: Lane) -> OpenBatch | None:
        """Return the open batch that the event would join."""
        batch = lane.joinable(session)
        if batch is None:
            return None
        size = batch.size + len(event) + 1 + _adopted(batch, session)
        return batch if size <= self.max_batch_bytes else None

    def _cost(self, event: bytes, session: Session, lane: Lane) -> int:
        batch = self._target(event, session, lane)
        if batch is None:
            return self._worst_cost(event, session, lane)
        return len(event) + EVENT_CHARGE + _adopted(batch, session)

    def _worst_cost(self, event: bytes, session: Session, lane: Lane) -> int:
        """Return what the event costs if it opens a batch. Raises `InvalidEvent` if it never fits."""
        envelope = lane.envelope_for(session)
        cost = len(event) + EVENT_CHARGE + BATCH_CHARGE + envelope
        if envelope + len(event) > self._largest_body or cost > self.capacity:
            self.forget_if_idle(lane)
        if envelope + len(event) > self._largest_body:
            raise InvalidEvent(
                "event",
                f"must fit into a request of max_batch_bytes={self._largest_body}, of which its envelope "
                f"takes {envelope}",
                f"{len(event)} bytes",
            )
        if cost > self.capacity:
            raise InvalidEvent(
                "event", f"must fit into max_pending_bytes={self.capacity}", f"{cost} bytes with its charges"
            )
        return cost

    def _place(self, event: bytes, session: Session, lane: Lane, now: float) -> OpenBatch:
        """Put the event where it belongs; room is there."""
        batch = self._target(event, session, lane)
        if batch is None:
            batch = self._open(session, lane, now)
        elif adopted := _adopted(batch, session):
            batch.attributes = session.encoded_attributes
            batch.size += adopted
            batch.charge += adopted
            self.free -= adopted
        batch.events.append(event)
        batch.size += len(event) + 1
        self.free -= len(event) + EVENT_CHARGE
        self.counters.accepted += 1
        self.counters.pending += 1
        if len(batch.events) >= self.max_batch_events:
            self._close(batch)
        return batch

    def _open(self, session: Session, lane: Lane, now: float) -> OpenBatch:
        crowded = lane.joinable(session)
        if crowded is not None:  # it has no room for the event
            self._close(crowded)
        # An eviction for this very event may just have emptied the lane, and let it be forgotten.
        self.lanes[lane.app_monitor] = lane
        batch = lane.add(session, now, self.next_seq)
        self.next_seq += 1
        self.free -= batch.charge
        if lane.oldest is batch:
            # Only the first of a lane needs a timer: the linger is the same for all that follow.
            self._work_possible(now + self.linger)
        return batch

    def _close(self, batch: OpenBatch) -> None:
        """Take no more events into the batch; it is due."""
        batch.closed = True
        lane = batch.lane
        assert lane is not None
        lane.full[batch.seq] = batch
        if not lane.gate.is_shut:
            self._work_possible(_AT_ONCE)

    def _work_possible(self, at: float) -> None:
        if at < self.alarm:
            self.alarm = -_FAR
            self.wake = True

    # Room -------------------------------------------------------------------------------------------

    def _press(self) -> None:
        if not self.pressed:
            self.pressed = True
            self._work_possible(_AT_ONCE)

    def _unreserve(self, waiter: RoomWaiter) -> None:
        self.free += waiter.needed
        self.fixed -= waiter.needed
        waiter.granted = False
        if waiter in self.granted:
            self.granted.remove(waiter)

    def _grant(self) -> None:
        """Reserve free room for those who wait, first come, first served. After every change of room."""
        while self.waiters and self.waiters[0].needed <= self.free:
            waiter = self.waiters.popleft()
            waiter.granted = True
            self.free -= waiter.needed
            self.fixed += waiter.needed
            self.granted.append(waiter)
            self.wake = True

    def _evict_oldest(self) -> int:
        """Drop the first event of the batch that was opened first; return the bytes that this freed."""
        lane = min(
            (lane for lane in self.lanes.values() if lane.oldest is not None),
            key=lambda lane: lane.oldest.seq,  # type: ignore[union-attr]
        )
        batch = lane.oldest
        assert batch is not None
        event = batch.events.pop(0)
        batch.size -= len(event) + 1
        freed = len(event) + EVENT_CHARGE
        # What is being eaten up is not sent half-eaten while others are whole.
        lane.full.pop(batch.seq, None)
        if not batch.events:
            freed += batch.charge
            lane.remove(batch)
            self.forget_if_idle(lane)
        self.free += freed
        self.counters.pending -= 1
        if self.losses.drop(DropReason.OVERFLOW, (event,)):
            self.wake = True
        return freed

    # Sealing and what comes of it -------------------------------------------------------------------

    def seal(self, batch: OpenBatch, batch_id: str, now: float) -> Flight:
        """Turn an open batch, or as much of it as the limits allow, into a flight."""
        batch = batch.first_of_session()
        lane = batch.lane
        assert lane is not None
        seq = batch.seq
        events, charge = self._taken(batch, lane)
        sealed = SealedBatch(
            batch_id,
            lane.app_monitor,
            batch.session.id,
            batch.session.user_id,
            batch.attributes,
            tuple(events),
        )
        flight = Flight(lane, sealed, batch.session, seq=seq, opened=batch.opened, charge=charge, now=now)
        self.fixed += charge + event_charges(events)
        self.counters.pending -= len(events)
        self.counters.in_flight += len(events)
        lane.flights.append(flight)
        return flight

    def _taken(self, batch: OpenBatch, lane: Lane) -> tuple[list[bytes], int]:
        """Take the events for one request off a batch; one event at least."""
        if batch.size <= self.max_batch_bytes:
            lane.remove(batch)
            return batch.events, batch.charge
        # Only after the limit was halved: the rest stays, and is due.
        size = lane.envelope_size + attributes_size(batch.attributes) - 1
        count = 0
        for event in batch.events:
            size += len(event) + 1
            if count and size > self.max_batch_bytes:
                break
            count += 1
        events = batch.events[:count]
        del batch.events[:count]
        batch.size -= sum(len(event) + 1 for event in events)
        if not batch.events:
            lane.remove(batch)
            return events, batch.charge
        # Its place is right behind what was taken, also if that should come back.
        lane.renumber(batch, math.nextafter(batch.seq, math.inf))
        self._close(batch)
        return events, 0

    def unseal(self, flight: Flight) -> None:
        """Put a flight of which surely nothing was stored back among the open batches, at its old place."""
        attributes = flight.attributes
        events = [event for part in flight.rest() for event in part.events]
        self.fixed -= flight.charge + event_charges(events)
        self.counters.in_flight -= len(events)
        self.counters.pending += len(events)
        flight.lane.flights.remove(flight)
        batch = flight.lane.restore(flight, attributes, events)
        if len(events) >= self.max_batch_events:
            self._close(batch)
        if any(event.__class__ is TrackedEvent for event in events):
            flight.lane.urgent[batch.seq] = batch

    def finish(self, flight: Flight, batch: SealedBatch) -> None:
        """Free what the events of a part were charged: they have their final outcome."""
        freed = event_charges(batch.events)
        self.counters.in_flight -= len(batch.events)
        if not flight.parts:
            freed += flight.charge
            flight.lane.flights.remove(flight)
            self.forget_if_idle(flight.lane)
        self.fixed -= freed
        self.free += freed
        self._grant()

    def drop_open(self, reason: DropReason) -> None:
        """Drop everything that is open."""
        for lane in list(self.lanes.values()):
            while (batch := lane.oldest) is not None:
                lane.remove(batch)
                self.free += batch.charge + event_charges(batch.events)
                self.counters.pending -= len(batch.events)
                self.losses.drop(reason, batch.events)


def event_charges(events: Iterable[bytes]) -> int:
    """Return what the events are charged together."""
    return sum(len(event) + EVENT_CHARGE for event in events)


def _adopted(batch: OpenBatch, session: Session) -> int:
    """Return by how much the batch grows if it takes the session's attributes for its own."""
    if batch.attributes is None and session.encoded_attributes is not None:
        return attributes_size(session.encoded_attributes)
    return 0
