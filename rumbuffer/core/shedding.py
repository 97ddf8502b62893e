"""Shedding: under lasting pressure fewer sessions are taken, and those whole.

Where more sessions come in than the quota takes, something has to go. The other policies let go of events,
so that in the end every session has holes. `Overflow.SHED_SESSIONS` lets go of sessions: one is kept while
its sample point (a hash of its id, the same in every process) is below `sample_rate` x the shed rate.

The memory is the measure. While half of it has been full for five seconds, the rate is cut to seven
tenths, again and again; from four fifths on, every second. A cut takes effect on what is pending too: the
open batches of sessions that are not kept any more are dropped, a bounded number at a turn. While no
more than a quarter is full, the rate recovers by a tenth every ten seconds. In between it stays.

What overtakes all this and meets the limit itself evicts the oldest event, as `DROP_OLDEST` does.

Kept events say at what rate: while it is below 1, their metadata gets the custom attribute
``rumbuffer:shed_rate``, so that whoever counts sessions can weigh each by 1 / rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rumbuffer.core.encoding import json_text
from rumbuffer.core.lanes import Lane, OpenBatch
from rumbuffer.core.notices import DropReason, ShedRateChanged
from rumbuffer.core.store import Store

__all__ = ["SHED_RATE_ATTRIBUTE", "Shedding", "marked"]

SHED_RATE_ATTRIBUTE = "rumbuffer:shed_rate"
"""The metadata attribute that tells the rate; a key of a custom attribute may have a colon."""

_HIGH = 0.5
_ALARMING = 0.8
_LOW = 0.25
"""Shares of the memory limit."""

_LASTING = 5.0
_CALM = 10.0
_EVERY = 1.0
"""Seconds: of pressure before a cut, of calm before a step up, between two looks."""

_CUT = 0.7
_STEP_UP = 1.1
_LOWEST = 1 / 256

_SWEPT_AT_ONCE = 1_000
"""Open batches looked at in one turn, which takes about half a millisecond."""

_FAR = float("inf")


class Shedding:
    """Steers the store's shed rate by its fill."""

    __slots__ = ("_at", "_calm_since", "_lane", "_lanes", "_look_at", "_pressed_since", "_store", "_sweeping")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._look_at = -_FAR
        self._pressed_since = _FAR
        self._calm_since = _FAR
        self._sweeping = False
        self._lanes: list[Lane] = []
        self._lane: Lane = store.home
        self._at: OpenBatch | None = None

    def look(self, now: float) -> float:
        """Change the rate where it is time to; return when to look again."""
        if not 0.0 < self._look_at - now <= _EVERY:  # also where the clock was set back
            self._steer(now)
            self._look_at = now + _EVERY
        if self._sweeping:
            self._sweep()
        store = self._store
        if self._sweeping:
            return now
        if store.shed_rate == 1.0 and not store.counters.pending:
            return _FAR  # the first event that comes in wakes the pump anyway
        return self._look_at

    def _steer(self, now: float) -> None:
        pressure = self._store.room.pressure
        self._pressed_since = min(self._pressed_since, now) if pressure >= _HIGH else _FAR
        self._calm_since = min(self._calm_since, now) if pressure <= _LOW else _FAR
        rate = self._store.shed_rate
        if pressure >= _ALARMING or now - self._pressed_since >= _LASTING:
            self._change(max(rate * _CUT, _LOWEST))
            self._pressed_since = now
            self._begin_sweep()
        elif rate < 1.0 and now - self._calm_since >= _CALM:
            self._change(min(rate * _STEP_UP, 1.0))
            self._calm_since = now

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
        """Look at the next open batches, from the newest on: what is opened now is kept."""
        store = self._store
        for _ in range(_SWEPT_AT_ONCE):
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
                # Somebody waits for the delivery of an urgent one.
                if batch.session.sample_point >= store.keep_rate and batch.seq not in self._lane.urgent:
                    store.drop_batch(batch, DropReason.SHED)
        store.room.grant()


def marked(metadata: Mapping[str, Any] | str | None, rate: float) -> str:
    """Return the metadata's JSON text with the shed rate in it. Raises `InvalidEvent`."""
    text = "{}" if metadata is None else json_text("metadata", metadata)
    head = text.rstrip()[:-1].rstrip()
    return f'{head}{"" if head.endswith("{") else ","}"{SHED_RATE_ATTRIBUTE}":{rate:.4g}}}'
