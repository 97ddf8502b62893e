"""Where admitted events wait: `put()`'s way in, sealing, and what comes of it.

What is open, and `record()`'s way in, is in `open_batches`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rumbuffer.core.encoding import with_attribute
from rumbuffer.core.flights import Flight
from rumbuffer.core.lanes import BATCH_CHARGE, EVENT_CHARGE, Lane, OpenBatch, attributes_size
from rumbuffer.core.news import Waiter
from rumbuffer.core.notices import DropReason
from rumbuffer.core.open_batches import AT_ONCE, OpenBatches
from rumbuffer.core.room import RoomWaiter
from rumbuffer.core.sealed import SealedBatch

if TYPE_CHECKING:
    from rumbuffer.events import Session

__all__ = ["SHED_RATE_ATTRIBUTE", "Store"]

SHED_RATE_ATTRIBUTE = "rumbuffer:shed_rate"
"""The session attribute that tells the shed rate; the key of a custom attribute may have a colon."""


class Store(OpenBatches):
    """Open batches, and what leaves them: into a flight, back from one, or dropped."""

    # Admission that waits for room ----------------------------------------------------------------------

    def admit_waiting(
        self,
        room_waiter: RoomWaiter | None,
        event: bytes,
        session: Session,
        lane: Lane,
        now: float,
        *,
        waiter: Waiter | None = None,
    ) -> RoomWaiter | None:
        """Admit an event for `put()`: now (returns `None`), or when the returned waiter is granted.

        Called again with the granted waiter, it admits from what was reserved. An event whose fate a
        `waiter` waits for makes its batch due at once. Raises `InvalidEvent`.
        """
        worst = self._worst_cost(event, session, lane)
        if room_waiter is not None:
            self.room.use(room_waiter)
        elif self.room.waiters or self._cost(event, session, lane) > self.room.free:
            self._press()
            self.forget_if_idle(lane.app_monitor)
            return self.room.queue(worst)
        self._place_exempt(event, session, lane, now, waiter)
        self.room.grant()
        return None

    def admit_together(
        self,
        room_waiter: RoomWaiter | None,
        events: deque[tuple[bytes, Waiter | None]],
        session: Session,
        lane: Lane,
        now: float,
    ) -> RoomWaiter | None:
        """Admit the events of one call, each off the front of `events`, as `admit_waiting` does one.

        What one batch takes is admitted together or not at all, unless that limit falls meanwhile. Returns
        a waiter for the room of those that are left. `check_fit` must have passed the largest.
        """
        room = self.room
        if room_waiter is not None:
            budget = room_waiter.needed
            room.use(room_waiter)
        else:
            budget = self._cost_together(events, session, lane)
            if room.waiters or budget > room.free:
                budget = 0
        if budget and not room.waiters:
            budget = room.free
        while events and (cost := self._cost(events[0][0], session, lane)) <= budget:
            budget -= cost
            self._place_exempt(events[0][0], session, lane, now, events[0][1])
            events.popleft()
        waiter = None
        if events:
            self._press()
            self.forget_if_idle(lane.app_monitor)
            waiter = room.queue(self._cost_together(events, session, lane))
        room.grant()
        return waiter

    def check_fit(self, event: bytes, session: Session, lane: Lane) -> None:
        """Raise `InvalidEvent` for an event that fits into no request, or not under the memory limit."""
        self._worst_cost(event, session, lane)

    def _cost_together(
        self, events: Iterable[tuple[bytes, Waiter | None]], session: Session, lane: Lane
    ) -> int:
        """Return what the first of the events cost at most, as many of them as fit into one batch.

        At most: some join an open batch, which adopts the session's attributes, and the others open one.
        """
        size = lane.envelope_for(session)
        cost = BATCH_CHARGE + size + attributes_size(session.encoded_attributes)
        for count, (event, _) in enumerate(events):
            size += len(event) + 1
            more = cost + len(event) + EVENT_CHARGE
            is_over = size > self.max_batch_bytes or more > self.room.capacity
            if count and (is_over or count == self.max_batch_events):
                break
            cost = more
        return min(cost, self.room.capacity)

    def _place_exempt(
        self, event: bytes, session: Session, lane: Lane, now: float, waiter: Waiter | None
    ) -> None:
        """Put an event of an awaitable where it belongs; its batch is due at once if someone waits for it."""
        batch = self._place(event, session, lane, now)
        batch.is_exempt = True
        if waiter is not None:
            self.news.watch(event, waiter)
            lane.urgent[batch.seq] = batch
            self._work_possible(AT_ONCE)

    # Sealing and what comes of it -----------------------------------------------------------------------

    def seal(self, batch: OpenBatch, batch_id: str, now: float) -> Flight:
        """Turn an open batch, or as much of it as the limits allow, into a flight."""
        batch = batch.first_of_session()
        lane = batch.lane
        assert lane is not None
        seq = batch.seq
        attributes = self._attributes_sent(batch)
        events, charge = self._taken(batch, lane)
        sealed = SealedBatch(
            batch_id,
            lane.app_monitor,
            batch.session.id,
            batch.session.user_id,
            attributes,
            tuple(events),
        )
        flight = Flight(
            lane,
            sealed,
            batch.session,
            seq=seq,
            opened=batch.opened,
            charge=charge,
            now=now,
            attributes=batch.attributes,
            is_exempt=batch.is_exempt,
            shed_rate=batch.shed_rate,
        )
        self.room.fixed += charge + event_charges(events)
        self.counters.pending -= len(events)
        self.counters.in_flight += len(events)
        lane.flights.append(flight)
        return flight

    def _attributes_sent(self, batch: OpenBatch) -> bytes | None:
        """Return the session attributes, with the shed rate in them if there was one and it finds room."""
        # A session that is not kept is there by `put()` alone, and stands for no other.
        if batch.shed_rate == 1.0 or batch.session.sample_point >= self.sample_rate * batch.shed_rate:
            return batch.attributes
        marked = with_attribute(batch.attributes, SHED_RATE_ATTRIBUTE, float(f"{batch.shed_rate:.4g}"))
        grown = attributes_size(marked) - attributes_size(batch.attributes)
        return marked if batch.body_size + grown <= self.max_batch_bytes else batch.attributes

    def _taken(self, batch: OpenBatch, lane: Lane) -> tuple[list[bytes], int]:
        """Take the events for one request off a batch; one event at least."""
        count = batch.fitting(self.max_batch_bytes)
        if count == len(batch.events):
            lane.remove(batch)
            return batch.events, batch.charge
        # Only after the limit was halved: the rest stays, is due, and its place is right behind what was
        # taken, also if that should come back.
        events = [batch.pop_first() for _ in range(count)]
        lane.renumber(batch, batch.seq + 1)
        self._close(batch)
        return events, 0

    def unseal(self, flight: Flight) -> None:
        """Put a flight of which surely nothing was stored back among the open batches, at its old place."""
        attributes = flight.attributes
        events = [event for part in flight.rest() for event in part.events]
        self.room.fixed -= flight.charge + event_charges(events)
        self.counters.in_flight -= len(events)
        self.counters.pending += len(events)
        flight.lane.flights.remove(flight)
        batch = flight.lane.restore(flight, attributes, events)
        if len(events) >= self.max_batch_events:
            self._close(batch)
        if self.news.is_watched(events):
            flight.lane.urgent[batch.seq] = batch

    def finish(self, flight: Flight, batch: SealedBatch) -> None:
        """Free what the events of a part were charged: they have their final outcome."""
        freed = event_charges(batch.events)
        self.counters.in_flight -= len(batch.events)
        if not flight.parts:
            freed += flight.charge
            flight.lane.flights.remove(flight)
        self.room.fixed -= freed
        self.room.free += freed
        self.room.grant()

    def drop_open(self, reason: DropReason) -> None:
        """Drop everything that is open."""
        for lane in list(self.lanes.values()):
            while (batch := lane.oldest) is not None:
                self.drop_batch(batch, reason)

    def drop_batch(self, batch: OpenBatch, reason: DropReason) -> None:
        """Drop an open batch; its room is free, and not granted yet."""
        lane = batch.lane
        assert lane is not None
        lane.remove(batch)
        self.forget_if_idle(lane.app_monitor)
        self.room.free += batch.charge + event_charges(batch.events)
        self.counters.pending -= len(batch.events)
        self.news.drop(reason, batch.events)


def event_charges(events: Sequence[bytes]) -> int:
    """Return what the events are charged together."""
    return sum(map(len, events)) + EVENT_CHARGE * len(events)
