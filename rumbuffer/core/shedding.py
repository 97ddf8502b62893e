"""Shedding: under lasting pressure fewer sessions are taken, and those whole.

Where more sessions come in than the quota takes, something has to go. The other policies let go of events,
so that in the end every session has holes. `Overflow.SHED_SESSIONS` lets go of sessions: one is kept while
its sample point (a hash of its id, the same in every process) is below `sample_rate` x the shed rate.

The memory is the measure: the share of it that open batches take, which is what shedding can relieve. While
it has been a half for five seconds, or four fifths for one, the rate is cut to seven tenths of itself, and
again as soon as that is true anew. A cut takes effect on what is pending too: the open batches of sessions
that are not kept any more are dropped, a bounded number at a turn. While no more than a quarter is taken,
the rate recovers by a tenth every ten seconds, by a half where hardly anything is. In between it stays.

What waits behind a wrong setting of its own app monitor counts only if there is nothing else: the others'
sessions cannot help it. What overtakes all this and meets the limit itself evicts the oldest event, as
`DROP_OLDEST` does. `put()` and `deliver()` ask no policy, and a batch that holds an event of theirs stays.

Kept batches say at what rate. The service merges a request's session attributes into the metadata of each
of its events, so that is where the rate goes, when the batch is sealed:
the lowest that was in force while the batch was open, for that is what its session has come through.
"""

from __future__ import annotations

from rumbuffer.core.gates import Obstacle
from rumbuffer.core.lanes import Lane, OpenBatch
from rumbuffer.core.notices import DropReason, ShedRateChanged
from rumbuffer.core.store import Store

__all__ = ["Shedding"]

_HIGH = 0.5
_ALARMING = 0.8
_LOW = 0.25
_VERY_LOW = 1 / 16
"""Shares of the memory limit."""

_LASTING = 5.0
_ALARMING_FOR = 1.0
_CALM = 10.0
_EVERY = 1.0
"""Seconds: of pressure before a cut, of calm before a step up, between two looks."""

_CUT = 0.7
_STEP_UP = 1.1
_LARGE_STEP_UP = 1.5
_LOWEST = 1 / 256

_SWEPT_AT_ONCE = 2_000
"""Open batches looked at, and events dropped, in one turn: a millisecond."""

_FAR = float("inf")


class Shedding:
    """Steers the store's shed rate by its fill."""

    __slots__ = (
        "_alarming_since",
        "_at",
        "_calm_since",
        "_lane",
        "_lanes",
        "_looked_at",
        "_pressed_since",
        "_store",
        "_sweeping",
    )

    def __init__(self, store: Store) -> None:
        self._store = store
        self._looked_at = -_FAR
        self._pressed_since = self._alarming_since = self._calm_since = _FAR
        self._sweeping = False
        self._lanes: list[Lane] = []
        self._lane: Lane = store.home
        self._at: OpenBatch | None = None

    def look(self, now: float) -> float:
        """Change the rate where it is time to; return when to look again."""
        before = self._looked_at
        if not before <= now < before + _EVERY:
            if not before <= now <= before + 3.0 * _EVERY:
                # Nobody looked meanwhile, or the clock jumped: what was then says nothing about now.
                self._pressed_since = self._alarming_since = self._calm_since = _FAR
            self._looked_at = now
            self._steer(now)
        if self._sweeping:
            self._sweep()
        store = self._store
        if self._sweeping:
            return now
        if store.shed_rate == 1.0 and not store.counters.pending and not store.counters.in_flight:
            return _FAR  # the first event that comes in wakes the pump
        return self._looked_at + _EVERY

    def _steer(self, now: float) -> None:
        share = self._share()
        self._pressed_since = min(self._pressed_since, now) if share >= _HIGH else _FAR
        self._alarming_since = min(self._alarming_since, now) if share >= _ALARMING else _FAR
        self._calm_since = min(self._calm_since, now) if share <= _LOW else _FAR
        rate = self._store.shed_rate
        if now - self._pressed_since >= _LASTING or now - self._alarming_since >= _ALARMING_FOR:
            self._change(max(rate * _CUT, _LOWEST))
            self._pressed_since = self._alarming_since = now
            self._begin_sweep()
        elif rate < 1.0 and now - self._calm_since >= _CALM:
            self._change(min(rate * (_LARGE_STEP_UP if share <= _VERY_LOW else _STEP_UP), 1.0))
            self._calm_since = now

    def _share(self) -> float:
        """Return what the open batches take of the memory, without app monitors that are held alone."""
        store = self._store
        counts = [(lane.batch_count, _is_held(lane)) for lane in store.lanes.values()]
        free_to_go = sum(count for count, held in counts if not held)
        share = store.room.evictable() / store.room.capacity
        if free_to_go:
            share *= free_to_go / sum(count for count, _ in counts)
        return share

    def _change(self, rate: float) -> None:
        store = self._store
        before, store.shed_rate = store.shed_rate, rate
        store.keep_rate = store.sample_rate * rate
        if rate != before:
            store.news.notice(ShedRateChanged(rate, before))

    # What is pending of sessions that are not kept any more ---------------------------------------------

    def _begin_sweep(self) -> None:
        self._lanes = list(self._store.lanes.values())
        self._at = None
        self._sweeping = True

    def _sweep(self) -> None:
        """Look at the next open batches, from the newest on: what is opened now knows the rate."""
        store = self._store
        budget = _SWEPT_AT_ONCE
        while budget > 0:
            batch = self._at
            if batch is None:
                if not self._lanes:
                    self._sweeping = False
                    break
                self._lane = self._lanes.pop()
                self._at = self._lane.newest
            elif batch.lane is None:  # sent or dropped since the last turn
                self._at = self._lane.newest
            else:
                self._at = batch.older
                if batch.session.sample_point < store.keep_rate or batch.is_exempt:
                    batch.shed_rate = min(batch.shed_rate, store.shed_rate)
                else:
                    budget -= len(batch.events)
                    store.drop_batch(batch, DropReason.SHED)
            budget -= 1
        store.room.grant()


def _is_held(lane: Lane) -> bool:
    return lane.gate.is_shut and lane.gate.obstacle is not Obstacle.OUTAGE
