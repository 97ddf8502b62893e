"""Open batches and the lanes that hold them: where events wait, and which batch is the oldest.

A lane is everything that is open for one app monitor. Its batches stand in one doubly linked list in
the order of their opening. The linger is the same for all, so this is also the order of their
deadlines: the first is due first, one timer serves them all, and taking any batch out is O(1). No
heap, no scan, nothing that grows with batches that are gone. The oldest *quiet* batch (one that may still
fill, and is the first of its session) is found behind a cursor that moves forward over the others, each
once.

A session's events join its newest open batch. A session has several unsealed batches only when one is
full or its attributes changed; those know each other (`siblings`), because a session's batches are
sealed in the order of their opening. The `Session` that opened the newest knows it, from its second event on
(`keep_batch`), for as long as it is the newest.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from rumbuffer.core.gates import Gate
from rumbuffer.core.outcomes import HoldScope
from rumbuffer.core.sealed import SealedBatch
from rumbuffer.events import keep_batch

if TYPE_CHECKING:
    from rumbuffer.core.flights import Flight
    from rumbuffer.events import AppMonitor, Session

__all__ = ["BATCH_CHARGE", "EVENT_CHARGE", "Lane", "OpenBatch", "attributes_size"]

EVENT_CHARGE = 100
"""Bytes charged for an event besides its own: object headers and list slots."""

BATCH_CHARGE = 400
"""Bytes charged for an open batch besides its envelope: the batch, its list, its session."""

_SIBLINGS_LOOKED_AT = 8
"""How far back a batch with the same session attributes is looked for."""

_ANY_ID = "00000000-0000-0000-0000-000000000000"


class OpenBatch(list[bytes]):
    """Events of one session that still wait.

    It is the list of its events rather than having one: where a million sessions are open, that is a million
    objects fewer for the garbage collector to walk (a third of its pause), and 60 bytes a batch.
    Unlike lists, batches are equal only to themselves.
    """

    __slots__ = (
        "attributes",
        "charge",
        "closed",
        "is_exempt",
        "lane",
        "measured",
        "measured_bytes",
        "newer",
        "older",
        "opened",
        "seq",
        "session",
        "shed_rate",
        "siblings",
    )

    lane: Lane | None
    """Where it waits; `None` once it was taken out."""
    session: Session
    attributes: bytes | None
    charge: int
    measured: int
    """Of how many events, the first ones, it is known how many bytes they add to a body."""
    measured_bytes: int
    opened: float
    seq: int
    closed: bool
    """Whether it takes no more events, and is due."""
    is_exempt: bool
    """Whether an event of it was taken by `put()`, and it is not shed."""
    shed_rate: float
    """The lowest that it was open under."""
    siblings: deque[OpenBatch] | None
    older: OpenBatch | None
    newer: OpenBatch | None

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other  # a list's own would compare the events

    def __hash__(self) -> int:  # type: ignore[override] # a list has none
        return id(self)

    def __repr__(self) -> str:
        return f"<OpenBatch {self.seq} of {len(self)} events>"

    @property
    def body_size(self) -> int:
        """The size of the request's body, if it were sealed now.

        It is not kept with every event: a number that changes each time is an object that is elsewhere in
        memory each time, which costs 0.3 µs an event where a million sessions are open. What was measured
        once is not measured again.
        """
        count, measured = len(self), self.measured
        if measured == count - 1:
            self.measured_bytes += len(self[measured]) + 1
            self.measured = count
        elif measured < count:
            self.measured_bytes += sum(map(len, self[measured:])) + count - measured
            self.measured = count
        assert self.lane is not None
        # Each event brings a comma, and the first needs none.
        return self.lane.envelope_size + attributes_size(self.attributes) + self.measured_bytes - 1

    @property
    def events(self) -> list[bytes]:
        """Its events, in the order of their admission."""
        return self

    def pop_first(self) -> bytes:
        """Give up the oldest event."""
        event = self.pop(0)
        if self.measured:
            self.measured -= 1
            self.measured_bytes -= len(event) + 1
        return event

    def adopt(self, attributes: bytes) -> int:
        """Take the session's attributes for the batch's own; return by how much that raises its charge."""
        grown = attributes_size(attributes)
        self.attributes = attributes
        self.charge += grown
        return grown

    def fitting(self, max_bytes: int) -> int:
        """Return how many of its events fit into a request's body of so many bytes; one at least."""
        size = self.body_size
        count = len(self)
        while count > 1 and size > max_bytes:
            count -= 1
            size -= len(self[count]) + 1
        return count

    def first_of_session(self) -> OpenBatch:
        """Return the batch of this session that must be sealed first."""
        return self.siblings[0] if self.siblings else self


class Lane:
    """All open batches of one app monitor, its flights, and the gate that stops its sending."""

    __slots__ = (
        "_cursor",
        "app_monitor",
        "bad_streak",
        "batch_charge",
        "batch_count",
        "delivered_sent_at",
        "envelope_size",
        "failures_in_a_row",
        "flights",
        "full",
        "gate",
        "newest",
        "oldest",
        "open",
        "rejections_in_a_row",
        "urgent",
    )

    def __init__(self, app_monitor: AppMonitor) -> None:
        self.app_monitor: AppMonitor = app_monitor
        self.envelope_size: int = len(SealedBatch(_ANY_ID, app_monitor, _ANY_ID, _ANY_ID, None, ()).body())
        self.batch_charge: int = BATCH_CHARGE + self.envelope_size
        """What a batch without session attributes is charged."""
        self.open: dict[str, OpenBatch] = {}  # a session's newest unsealed batch, by the session's key
        self.batch_count: int = 0
        self.oldest: OpenBatch | None = None
        self.newest: OpenBatch | None = None
        self._cursor: OpenBatch | None = None  # nothing that is older than this has its turn as a quiet one
        # Ordered dicts, because a batch leaves from anywhere and the first must be found at once.
        self.full: OrderedDict[int, OpenBatch] = OrderedDict()
        self.urgent: OrderedDict[int, OpenBatch] = OrderedDict()
        self.flights: list[Flight] = []
        self.gate: Gate = Gate(HoldScope.APP_MONITOR, app_monitor.id)
        self.failures_in_a_row: int = 0
        self.delivered_sent_at: float = float("-inf")
        """When the newest request that was delivered had been sent."""
        self.bad_streak: int = 0
        """Batches in a row of which the service took no event."""
        self.rejections_in_a_row: int = 0
        """Requests whose content the service refused since it took one."""

    def envelope_for(self, session: Session) -> int:
        """Return the size of a body without events for this session."""
        attributes = session.encoded_attributes
        return self.envelope_size if attributes is None else self.envelope_size + attributes_size(attributes)

    def joinable(self, session: Session) -> OpenBatch | None:
        """Return the batch that the session's next event may join.

        An event without session attributes joins any; a batch without adopts the first that it meets.
        """
        batch = self.open.get(session.key)
        if batch is None:
            return None
        attributes = session.encoded_attributes
        if not batch.closed and (attributes is None or attributes == batch.attributes):
            return batch
        return self._matching(batch, attributes)

    def _matching(self, newest: OpenBatch, attributes: bytes | None) -> OpenBatch | None:
        siblings = newest.siblings or (newest,)
        for age, batch in enumerate(reversed(siblings)):
            if age == _SIBLINGS_LOOKED_AT:
                break
            if not batch.closed and (attributes is None or batch.attributes in (None, attributes)):
                return batch
        return None

    def add(self, session: Session, envelope: int, opened: float, seq: int) -> OpenBatch:
        """Open a batch for the session, the newest of the lane; `envelope` is `envelope_for(session)`."""
        batch = self._new_batch(session, envelope, opened, seq)
        earlier = self.open.setdefault(session.key, batch)
        if earlier is not batch:
            if earlier.siblings is None:
                earlier.siblings = deque((earlier,))
            batch.siblings = earlier.siblings
            batch.siblings.append(batch)
            self.open[session.key] = batch
            _forget(earlier)
        newest = batch.older = self.newest
        if newest is None:
            self.oldest = batch
        else:
            newest.newer = batch
        self.newest = batch
        if self._cursor is None:
            self._cursor = batch
        self.batch_count += 1
        return batch

    def _new_batch(self, session: Session, envelope: int, opened: float, seq: int) -> OpenBatch:
        """Make a batch that is in no list yet; an `__init__` of its own would cost three times as much."""
        batch = OpenBatch()
        batch.lane = self
        batch.session = session
        batch.attributes = session.encoded_attributes
        # Of the many that are alike, all have the same integer object.
        batch.charge = self.batch_charge if envelope == self.envelope_size else BATCH_CHARGE + envelope
        batch.opened = opened
        batch.seq = seq
        batch.measured = batch.measured_bytes = 0
        batch.closed = batch.is_exempt = False
        batch.shed_rate = 1.0
        batch.siblings = batch.older = batch.newer = None
        return batch

    def restore(self, flight: Flight, attributes: bytes | None, events: list[bytes]) -> OpenBatch:
        """Put the events of a flight back at the place that they had before they were sealed."""
        envelope = self.envelope_size + attributes_size(attributes)
        batch = self._new_batch(flight.session, envelope, flight.opened, flight.seq)
        batch.attributes = attributes
        batch.extend(events)
        batch.charge = flight.charge
        batch.is_exempt = flight.is_exempt
        batch.shed_rate = flight.shed_rate
        newer = self.oldest
        while newer is not None and newer.seq < batch.seq:
            newer = newer.newer
        self._link(batch, self.newest if newer is None else newer.older)
        later = self.open.setdefault(batch.session.key, batch)
        if later is not batch:
            if later.siblings is None:
                later.siblings = deque((later,))
            batch.siblings = later.siblings
            in_order = sorted((*batch.siblings, batch), key=lambda sibling: sibling.seq)
            batch.siblings.clear()
            batch.siblings.extend(in_order)
            self.open[batch.session.key] = in_order[-1]
            # What joined it now would be sent before the events of a later batch that were there earlier.
            batch.closed = in_order[-1] is not batch
            if not batch.closed:
                _forget(later)
        return batch

    def renumber(self, batch: OpenBatch, seq: int) -> None:
        """Change a batch's number without changing its place."""
        for queue in (self.full, self.urgent):
            if queue.pop(batch.seq, None) is not None:
                queue[seq] = batch
        batch.seq = seq

    @property
    def is_empty(self) -> bool:
        """Whether it has neither open batches nor flights."""
        return self.oldest is None and not self.flights

    @property
    def has_record(self) -> bool:
        """Whether the service refused something of it, and has delivered nothing since."""
        return self.gate.is_shut or self.bad_streak > 0 or self.failures_in_a_row > 0

    def _link(self, batch: OpenBatch, older: OpenBatch | None) -> None:
        """Put a batch into the list behind `older`, at the front where that is `None`."""
        newer = self.oldest if older is None else older.newer
        batch.older, batch.newer = older, newer
        if older is None:
            self.oldest = batch
        else:
            older.newer = batch
        if newer is None:
            self.newest = batch
        else:
            newer.older = batch
        self._set_cursor_back(batch)
        self.batch_count += 1

    def _set_cursor_back(self, batch: OpenBatch) -> None:
        if self._cursor is None or batch.seq < self._cursor.seq:
            self._cursor = batch

    def remove(self, batch: OpenBatch) -> None:
        """Take a batch out: it was sealed, or its last event was dropped."""
        if batch.older is None:
            self.oldest = batch.newer
        else:
            batch.older.newer = batch.newer
        if batch.newer is None:
            self.newest = batch.older
        else:
            batch.newer.older = batch.older
        if batch is self._cursor:
            self._cursor = batch.newer
        batch.older = batch.newer = batch.lane = None
        self.batch_count -= 1
        self.full.pop(batch.seq, None)
        self.urgent.pop(batch.seq, None)
        _forget(batch)
        key = batch.session.key
        if batch.siblings:
            batch.siblings.remove(batch)  # nearly always the first
            if batch.siblings and not batch.siblings[0].closed:
                self._set_cursor_back(batch.siblings[0])  # it may have its turn now
        if self.open.get(key) is batch:
            if batch.siblings:
                self.open[key] = batch.siblings[-1]
            else:
                del self.open[key]

    def forget_sessions(self) -> None:
        """Have the sessions that callers keep hold on to no batch: nobody will take these out any more."""
        batch = self.oldest
        while batch is not None:
            _forget(batch)
            batch = batch.newer

    def oldest_full(self) -> OpenBatch | None:
        """Return the batch that has been full for longest."""
        return _first(self.full)

    def oldest_quiet(self) -> OpenBatch | None:
        """Return the batch that was opened first among those that may still fill.

        One that stands behind another of its session is passed over: what would be sealed is the other.
        """
        batch = self._cursor
        while batch is not None and (batch.closed or batch.first_of_session() is not batch):
            batch = batch.newer
        self._cursor = batch
        return batch

    def next_urgent(self) -> OpenBatch | None:
        """Return the batch whose delivery was asked for first."""
        return _first(self.urgent)


def _forget(batch: OpenBatch) -> None:
    """Have its session look for the batch that its next event joins."""
    session = batch.session
    if session._batch is batch:  # noqa: SLF001 - the lanes' alone
        keep_batch(session, None)


def attributes_size(attributes: bytes | None) -> int:
    """Return what session attributes add to a request's body."""
    return 0 if attributes is None else len(b',"SessionMetadata":') + len(attributes)


def _first(batches: OrderedDict[int, OpenBatch]) -> OpenBatch | None:
    return next(iter(batches.values()), None)
