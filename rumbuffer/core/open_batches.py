"""The open batches of all lanes under one memory limit: which event gets in, and what is evicted for it.

`admit` runs on every event of somebody's server; what it does in the common cases is written out in `join`
and `admit_unjoined`, and everything else stands in methods of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rumbuffer.core.admission import ACCEPTED, Admission, RefusalReason, refusal
from rumbuffer.core.counters import Counters
from rumbuffer.core.lanes import BATCH_CHARGE, EVENT_CHARGE, Lane, OpenBatch, attributes_size
from rumbuffer.core.news import News
from rumbuffer.core.notices import DropReason
from rumbuffer.core.room import Room
from rumbuffer.errors import InvalidEvent
from rumbuffer.events import keep_batch

if TYPE_CHECKING:
    from rumbuffer.events import AppMonitor, Session

__all__ = ["AT_ONCE", "OpenBatches"]

AT_ONCE = -1.0
"""A time before all others, for work that is there now."""

_FAR = float("inf")

_LANES_MAX = 256
"""App monitors may come from clients' requests, and each costs 2 KB and a look at every turn."""

_SEQ_GAP = 1 << 20
"""Batches are numbered this far apart, so that the rest of a partly sealed one fits between."""

_FULL = refusal(RefusalReason.BUFFER_FULL)


class OpenBatches:
    """Lanes of open batches under one memory limit.

    `alarm` is when the pump plans to look again. While nothing that is admitted could be sent any earlier
    (there is work already, and no token or no slot for it), it is minus infinity, and admissions wake
    nobody.
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
        sample_rate: float = 1.0,
    ) -> None:
        self.counters: Counters = Counters()
        self.news: News = News(self.counters, keep_dropped=keep_dropped)
        self.room: Room = Room(max_pending_bytes, self.news)
        self.max_batch_events: int = max_batch_events
        self._max_batch_bytes = max_batch_bytes
        self._largest_event = self._largest_envelope = self._always_fit = 0
        self.linger: float = linger
        self.sample_rate: float = sample_rate
        self.shed_rate: float = 1.0
        """The share of the sampled sessions that is kept, see `shedding`."""
        self.keep_rate: float = sample_rate
        """The product of both: `record()` takes sessions whose sample point is below."""
        self.pressed: bool = False
        """Whether an event met the limit lately: then the oldest batch goes without its linger."""
        self.flush_seq: int = 0
        """Every batch opened before this number is due."""
        self.next_seq: int = _SEQ_GAP
        self.lanes: dict[AppMonitor, Lane] = {}
        self.home: Lane = self.lane_for(app_monitor)
        self.alarm: float = _FAR
        self._largest_body = max_batch_bytes
        self._evicts = evicts

    @property
    def max_batch_bytes(self) -> int:
        """Bytes that a request's body may have now."""
        return self._max_batch_bytes

    @max_batch_bytes.setter
    def max_batch_bytes(self, max_bytes: int) -> None:
        self._max_batch_bytes = max_bytes
        self._note_sizes(0, 0)

    def _note_sizes(self, event: int, envelope: int) -> None:
        """Note how large events and envelopes are at most, and how many events a body surely has room for.

        A batch below that number takes another event without a look at its size. What was once the largest
        counts for good: to look costs less than half a microsecond.
        """
        self._largest_event = max(self._largest_event, event)
        self._largest_envelope = max(self._largest_envelope, envelope)
        room = self._max_batch_bytes - self._largest_envelope
        self._always_fit = room // (self._largest_event + 1)

    def _fits(self, event: bytes, batch: OpenBatch, grown: int = 0) -> bool:
        """Tell whether the batch has room for one more event, and for so many bytes besides."""
        size = len(event)
        if len(batch) < self._always_fit and size <= self._largest_event and not grown:
            return True
        return batch.body_size + size + 1 + grown <= self._max_batch_bytes

    def lane_for(self, app_monitor: AppMonitor) -> Lane:
        """Return the app monitor's lane, made when it is first needed. Raises `InvalidEvent`."""
        lane = self.lanes.get(app_monitor)
        if lane is None:
            if len(self.lanes) >= _LANES_MAX:
                self._forget_what_is_idle()
            lane = self.lanes[app_monitor] = Lane(app_monitor)
        return lane

    def forget_sessions(self) -> None:
        """Have the sessions that callers keep hold on to no batch, where nobody closes the buffer."""
        for lane in self.lanes.values():
            lane.forget_sessions()

    def forget_if_idle(self, app_monitor: AppMonitor) -> None:
        """Let go of the lane of a foreign app monitor when nothing is left in it, and to be remembered."""
        lane = self.lanes.get(app_monitor)
        if lane is not None and lane is not self.home and lane.is_empty and not lane.has_record:
            del self.lanes[app_monitor]

    def _forget_what_is_idle(self) -> None:
        for app_monitor in [key for key, lane in self.lanes.items() if lane.is_empty]:
            if app_monitor != self.home.app_monitor:
                del self.lanes[app_monitor]
        if len(self.lanes) >= _LANES_MAX:
            raise InvalidEvent(
                "app_monitor",
                f"events of at most {_LANES_MAX} app monitors may be pending at once",
                "another",
            )

    def open_batches(self) -> int:
        """Count the unsealed batches."""
        return sum(lane.batch_count for lane in self.lanes.values())

    # Admission ------------------------------------------------------------------------------------------

    def join(self, event: bytes, session: Session, lane: Lane) -> Admission | None:
        """Decide on an encoded event in the common cases; in others admit nothing and return `None`.

        This runs on nearly every event. Common is: the session has an open batch that may take the event as
        it is, and there is room, or there is none and nothing is evicted for it. That needs no time.
        """
        batch = session._batch  # noqa: SLF001 - theirs alone
        if batch is None or batch.lane is not lane or batch.closed:
            batch = lane.open.get(session.key)
            if batch is None or batch.closed:
                return None
            if batch.session is session:
                keep_batch(session, batch)
        attributes = session.encoded_attributes
        size = len(event)
        if (attributes is not None and attributes != batch.attributes) or (
            (len(batch) >= self._always_fit or size > self._largest_event) and not self._fits(event, batch)
        ):
            return None
        room = self.room
        cost = size + EVENT_CHARGE
        if cost > room.free or room.waiters:
            if self._evicts or cost + batch.charge > room.capacity:
                return None
            return self._refuse(lane)
        if size > self._largest_event:
            self._note_sizes(size, 0)
        batch.append(event)
        room.free -= cost
        counters = self.counters
        counters.accepted += 1
        counters.pending += 1
        if len(batch) >= self.max_batch_events:
            self._close(batch)
        return ACCEPTED

    def admit(self, event: bytes, session: Session, lane: Lane, now: float) -> Admission:
        """Admit an encoded event, or refuse it for want of room. Raises `InvalidEvent`."""
        admission = self.join(event, session, lane)
        return self.admit_unjoined(event, session, lane, now) if admission is None else admission

    def admit_unjoined(self, event: bytes, session: Session, lane: Lane, now: float) -> Admission:
        """Decide on an event on which `join` did not. Raises `InvalidEvent`."""
        room = self.room
        size = len(event)
        envelope = lane.envelope_size
        if session.encoded_attributes is not None:
            envelope += attributes_size(session.encoded_attributes)
        cost = size + EVENT_CHARGE + BATCH_CHARGE + envelope
        if envelope + size <= self._largest_body:
            if cost <= room.free and not room.waiters:
                if session.key not in lane.open or lane.joinable(session) is None:
                    batch = self._add(session, envelope, lane, now)
                    # The rest is `_put`, written out for the web server's case: a new session each time.
                    if size > self._largest_event:
                        self._note_sizes(size, 0)
                    batch.append(event)
                    room.free -= size + EVENT_CHARGE
                    counters = self.counters
                    counters.accepted += 1
                    counters.pending += 1
                    if self.max_batch_events == 1:
                        self._close(batch)
                    return ACCEPTED
            elif (
                not self._evicts
                and cost <= room.capacity
                and (room.waiters or size + EVENT_CHARGE > room.free)
            ):
                return self._refuse(lane)
        if self._make_room(event, session, lane):
            self._place(event, session, lane, now)
            self.room.grant()
            return ACCEPTED
        return self._refuse(lane)

    def admit_or_drop(self, event: bytes, session: Session, lane: Lane, now: float) -> None:
        """Admit an event that was answered "accepted" already; without room it is a counted drop."""
        try:
            fits = self._make_room(event, session, lane)
        except InvalidEvent:
            fits = False
        if fits:
            self._place(event, session, lane, now)
        else:
            self.accept_and_drop(event, DropReason.OVERFLOW)
            self.forget_if_idle(lane.app_monitor)
        self.room.grant()

    def accept_and_drop(self, event: bytes, reason: DropReason) -> None:
        """Count an event that was answered "accepted" already and cannot be kept."""
        self.counters.accepted += 1
        self.news.drop(reason, (event,))

    def _refuse(self, lane: Lane) -> Admission:
        """Count an event as refused for want of room."""
        if not self.pressed:
            self._press()
        self.counters.refused[RefusalReason.BUFFER_FULL] += 1
        if lane is not self.home:
            self.forget_if_idle(lane.app_monitor)
        if self.room.waiters:
            self.room.grant()
        return _FULL

    def _make_room(self, event: bytes, session: Session, lane: Lane) -> bool:
        """Tell whether the event may be placed, after evicting for it where the policy says so."""
        worst = self._worst_cost(event, session, lane)
        room = self.room
        made = 0
        while self._cost(event, session, lane) > room.available(made):
            self._press()
            evictable = room.evictable()
            # Nothing is evicted for an event that could not get in even so.
            if not self._evicts or not evictable or worst > evictable + room.available(made):
                return False
            made += self._evict_oldest(keep=lane)
        return True

    def _target(self, event: bytes, session: Session, lane: Lane) -> OpenBatch | None:
        """Return the open batch that the event would join."""
        batch = lane.joinable(session)
        if batch is None or not self._fits(event, batch, _adopted(batch, session)):
            return None
        return batch

    def _cost(self, event: bytes, session: Session, lane: Lane) -> int:
        batch = self._target(event, session, lane)
        if batch is None:
            return self._worst_cost(event, session, lane)
        return len(event) + EVENT_CHARGE + _adopted(batch, session)

    def _worst_cost(self, event: bytes, session: Session, lane: Lane) -> int:
        """Return what the event costs if it opens a batch. Raises `InvalidEvent` if it never fits."""
        envelope = lane.envelope_for(session)
        cost = len(event) + EVENT_CHARGE + BATCH_CHARGE + envelope
        if envelope + len(event) > self._largest_body or cost > self.room.capacity:
            self.forget_if_idle(lane.app_monitor)
        if envelope + len(event) > self._largest_body:
            raise InvalidEvent(
                "event",
                f"must fit into a request of max_batch_bytes={self._largest_body}, of which its envelope "
                f"takes {envelope}",
                f"{len(event)} bytes",
            )
        if cost > self.room.capacity:
            raise InvalidEvent(
                "event",
                f"must fit into max_pending_bytes={self.room.capacity}",
                f"{cost} bytes with its charges",
            )
        return cost

    def _place(self, event: bytes, session: Session, lane: Lane, now: float) -> OpenBatch:
        """Put the event where it belongs; room is there."""
        batch = self._target(event, session, lane)
        if batch is None:
            batch = self._open(session, lane, now)
        elif batch.attributes is None and session.encoded_attributes is not None:
            self.room.free -= batch.adopt(session.encoded_attributes)
            self._note_sizes(0, lane.envelope_for(session))
        self._put(event, batch)
        return batch

    def _put(self, event: bytes, batch: OpenBatch) -> None:
        """Put the event into a batch that takes it."""
        if len(event) > self._largest_event:
            self._note_sizes(len(event), 0)
        batch.append(event)
        self.room.free -= len(event) + EVENT_CHARGE
        self.counters.accepted += 1
        self.counters.pending += 1
        if len(batch.events) >= self.max_batch_events:
            self._close(batch)

    def _open(self, session: Session, lane: Lane, now: float) -> OpenBatch:
        crowded = lane.joinable(session)
        if crowded is not None:  # it has no room for the event
            self._close(crowded)
        return self._add(session, lane.envelope_for(session), lane, now)

    def _add(self, session: Session, envelope: int, lane: Lane, now: float) -> OpenBatch:
        if envelope > self._largest_envelope:
            self._note_sizes(0, envelope)
        batch = lane.add(session, envelope, now, self.next_seq)
        batch.shed_rate = self.shed_rate
        self.next_seq += _SEQ_GAP
        self.room.free -= batch.charge
        if lane.oldest is batch:
            # Only the first of a lane needs a timer: the linger is the same for all that follow. Behind a
            # shut gate it may be what a probe was waiting for.
            at_once = self.pressed or lane.gate.is_shut
            self._work_possible(AT_ONCE if at_once else now + self.linger)
        return batch

    def _close(self, batch: OpenBatch) -> None:
        """Take no more events into the batch; it is due."""
        batch.closed = True
        lane = batch.lane
        assert lane is not None
        lane.full[batch.seq] = batch
        if not lane.gate.is_shut:
            self._work_possible(AT_ONCE)

    def _press(self) -> None:
        if not self.pressed:
            self.pressed = True
            self._work_possible(AT_ONCE)

    def _work_possible(self, at: float) -> None:
        if at < self.alarm:
            self.alarm = -_FAR
            self.news.wake = True

    def _evict_oldest(self, *, keep: Lane) -> int:
        """Drop the first event of the batch that was opened first; return the bytes that this freed.

        The lane to `keep` is not forgotten even if that empties it: something is about to be put there.
        """
        lane = min(
            (lane for lane in self.lanes.values() if lane.oldest is not None),
            key=lambda lane: lane.oldest.seq,  # type: ignore[union-attr]
        )
        batch = lane.oldest
        assert batch is not None
        event = batch.pop_first()
        freed = len(event) + EVENT_CHARGE
        # What is being eaten up is not sent half-eaten while others are whole.
        lane.full.pop(batch.seq, None)
        if not batch.events:
            freed += batch.charge
            lane.remove(batch)
            if lane is not keep:
                self.forget_if_idle(lane.app_monitor)
        self.room.free += freed
        self.counters.pending -= 1
        self.news.drop(DropReason.OVERFLOW, (event,))
        return freed


def _adopted(batch: OpenBatch, session: Session) -> int:
    """Return by how much the batch grows if it takes the session's attributes for its own."""
    if batch.attributes is None and session.encoded_attributes is not None:
        return attributes_size(session.encoded_attributes)
    return 0
