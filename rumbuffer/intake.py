"""The intake: from an offered event to its admission, on any thread.

This runs on every request of somebody's server. An event is checked and encoded outside the lock, and
admitted under it; nothing is logged and no hook runs inside. The pump is woken only when the core says
that it has something to do earlier than it planned.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from time import monotonic, time_ns
from typing import Any

from rumbuffer.core.admission import ACCEPTED, SAMPLED_OUT, Admission, RefusalReason, refusal
from rumbuffer.core.encoding import EventEncoder, shape_of
from rumbuffer.core.lanes import Lane
from rumbuffer.core.news import Waiter
from rumbuffer.core.notices import DropReason
from rumbuffer.core.room import RoomWaiter
from rumbuffer.core.store import Store
from rumbuffer.errors import BufferClosed, InvalidEvent
from rumbuffer.events import AppMonitor, Event, Session, current_session
from rumbuffer.guard import Guard
from rumbuffer.ids import new_event_id
from rumbuffer.log import log

__all__ = ["Intake"]


class Intake:
    """Takes events into a store. `state` is the buffer's; only while it is ``running`` is anything taken."""

    def __init__(self, store: Store, encoder: EventEncoder, wake: Callable[[], None]) -> None:
        self.state: str = "new"
        self.clock: Callable[[], float] = monotonic
        self.guard: Guard = Guard(self._after_change)
        self._store = store
        self._news = store.news
        self._encoder = encoder
        self._wake = wake
        self._join: Callable[[bytes, Session, Lane], Admission | None] = store.join
        self._admit_unjoined: Callable[[bytes, Session, Lane, float], Admission] = store.admit_unjoined
        self._said: set[str] = set()

    def offer(
        self,
        type: str,
        details: Mapping[str, Any] | str,
        metadata: Mapping[str, Any] | str | None,
        id: str | None,
        timestamp: float | datetime | None,
        session: Session | None,
        app_monitor: AppMonitor | None,
    ) -> Admission:
        """Check, encode and admit one event. Raises `InvalidEvent`, which its caller counts."""
        store = self._store
        if session.__class__ is not Session or self.state != "running" or store.keep_rate < 1.0:
            checked = self.session_for(session, store.keep_rate)
            if isinstance(checked, Admission):
                return checked
            session = checked
        assert session is not None
        if id is None and timestamp is None:
            event = self._encoder.encode(
                type, details, metadata, new_event_id(), time_ns() // 1_000_000 / 1000
            )
        else:
            event = self.encode(type, details, metadata, id, timestamp)
        if app_monitor is not None:
            _check_app_monitor(app_monitor)
        guard = self.guard
        if guard.busy and guard.is_inside():
            return self._defer(event, session, app_monitor)
        lock = guard.lock
        try:
            lock.acquire()
            guard.busy = True
            try:
                lane = store.home if app_monitor is None else store.lane_for(app_monitor)
                decided = self._join(event, session, lane)
                if decided is None:
                    decided = self._admit_unjoined(event, session, lane, self.clock())
            finally:
                guard.busy = False
            lock.release()
        except BaseException:
            guard.let_go()
            raise
        if guard.deferred or self._news.wake:
            guard.leave()
        return decided

    def offer_encoded(self, event: bytes, session: Session) -> Admission:
        """Admit an event whose bytes are right by construction, in a session that is sampled. Never raises.

        The web middleware's way in, which `EventEncoder` would only cost what is done already.
        """
        if self.state != "running":
            return self.refuse(RefusalReason.FORKED if self.state == "forked" else RefusalReason.NOT_RUNNING)
        guard, lane = self.guard, self._store.home
        if guard.busy and guard.is_inside():
            return self._defer(event, session, None)
        lock = guard.lock
        try:
            lock.acquire()
            guard.busy = True
            try:
                decided = self._join(event, session, lane)
                if decided is None:
                    decided = self._admit_unjoined(event, session, lane, self.clock())
            finally:
                guard.busy = False
            lock.release()
        except InvalidEvent as error:  # too large for the limits
            guard.let_go()
            return self.refuse(RefusalReason.INVALID_EVENT, error)
        except BaseException:
            guard.let_go()
            raise
        if guard.deferred or self._news.wake:
            guard.leave()
        return decided

    def count_sampled_out(self, *, is_shed: bool = False) -> None:
        """Count an event of a session that is not sampled, or that is shed."""
        guard = self.guard
        with guard.lock:
            if not guard.busy:
                counters = self._store.counters
                counters.sampled_out += 1
                if is_shed:
                    counters.shed_out += 1
                return
        guard.run(partial(self._count_sampled_out, is_shed=is_shed))

    def session_for(self, session: Session | None, rate: float | None = None) -> Session | Admission:
        """Return the session that an event belongs to, or the answer where there is nothing to take.

        Sessions are sampled at `rate`; where it is left out, at the buffer's own, which sheds none.
        """
        if self.state != "running":
            return self.refuse(RefusalReason.FORKED if self.state == "forked" else RefusalReason.NOT_RUNNING)
        if session is None:
            session = current_session.get()
            if session is None:
                return self.refuse(RefusalReason.NO_SESSION)
        elif not isinstance(session, Session):
            raise InvalidEvent("session", "must be a rumbuffer.Session", shape_of(session))
        sample_rate = self._store.sample_rate
        if rate is None:
            rate = sample_rate
        # A subclass may say that it is not sampled: the web middleware's, where the browser records nothing.
        by_rate = rate < 1.0 or session.__class__ is not Session
        if by_rate and session.sample_point >= rate:
            self.count_sampled_out(is_shed=session.sample_point < sample_rate)
            return SAMPLED_OUT
        return session

    def encode(
        self,
        type: str,
        details: Mapping[str, Any] | str,
        metadata: Mapping[str, Any] | str | None,
        id: str | None,
        timestamp: float | datetime | None,
    ) -> bytes:
        """Encode an event of which the id or the time may be given. Raises `InvalidEvent`."""
        return self._encoder.encode_given(
            type,
            details,
            metadata,
            new_event_id() if id is None else id,
            time_ns() // 1_000_000 / 1000 if timestamp is None else timestamp,
        )

    def admit_waiting(
        self,
        room_waiter: RoomWaiter | None,
        event: bytes,
        session: Session,
        app_monitor: AppMonitor | None,
        waiter: Waiter | None,
    ) -> RoomWaiter | None:
        """Admit an encoded event for an awaitable, see `Store.admit_waiting`. Raises `InvalidEvent`."""
        if app_monitor is not None:
            _check_app_monitor(app_monitor)
        with self.guard:
            lane = self._lane(app_monitor)
            return self._store.admit_waiting(room_waiter, event, session, lane, self.clock(), waiter=waiter)

    def admit_together(
        self,
        room_waiter: RoomWaiter | None,
        events: deque[tuple[bytes, Waiter | None]],
        session: Session,
        app_monitor: AppMonitor,
    ) -> RoomWaiter | None:
        """Admit the encoded events of one call, see `Store.admit_together`. Raises `InvalidEvent`."""
        with self.guard:
            lane = self._store.lane_for(app_monitor)
            return self._store.admit_together(room_waiter, events, session, lane, self.clock())

    def check_fit(self, event: bytes, session: Session, app_monitor: AppMonitor) -> None:
        """Raise `InvalidEvent` for an encoded event that never fits, or an app monitor too many."""
        with self.guard:
            self._store.check_fit(event, session, self._store.lane_for(app_monitor))

    def withdraw(self, waiter: RoomWaiter) -> None:
        """Give up waiting for room."""
        with self.guard:
            self._store.room.withdraw(waiter)

    def stop(self, state: str) -> None:
        """Take nothing from now on. Inside the guard: an event that is just being admitted gets in."""
        self.state = state
        self._join = _no_join
        self._admit_unjoined = self._refuse_late

    def after_fork(self) -> None:
        """In a forked child, where another thread may have held the lock for ever."""
        self.guard = Guard(self._after_change)
        if self.state != "new":
            self.state = "forked"

    # Refusals -------------------------------------------------------------------------------------------

    def refuse(self, reason: RefusalReason, error: InvalidEvent | None = None) -> Admission:
        """Count a refusal, log the first for its reason, and return its admission."""
        self.count_refusal(reason)
        key = reason if error is None else f"{reason} {error.field}"
        if key not in self._said:
            self._say_why(reason, key, error)
        return refusal(reason, error)

    def _say_why(self, reason: RefusalReason, key: str, error: InvalidEvent | None) -> None:
        text = "" if error is None else str(error)
        if reason is RefusalReason.NO_SESSION:
            text = str(no_session())
        elif reason in (RefusalReason.NOT_RUNNING, RefusalReason.FORKED):
            text = str(BufferClosed(self.state))
        if text:
            self.say_once(key, f"rumbuffer refused an event: {text}")

    def count_refusal(self, reason: RefusalReason, count: int = 1) -> None:
        """Count events as refused."""
        guard = self.guard
        with guard.lock:
            if not guard.busy:
                self._store.counters.refused[reason] += count
                return
        guard.run(partial(self._add_refusal, reason, count))

    def say_once(self, key: str, text: str, *, exc_info: bool = False) -> None:
        """Log a warning, the first time that its key comes up."""
        if key not in self._said:
            self._said.add(key)
            log(logging.WARNING, "%s (said once; later ones are counted)", text, exc_info=exc_info)

    def _add_refusal(self, reason: RefusalReason, count: int = 1) -> None:
        self._store.counters.refused[reason] += count

    def _count_sampled_out(self, *, is_shed: bool) -> None:
        counters = self._store.counters
        counters.sampled_out += 1
        counters.shed_out += is_shed

    def _refuse_late(self, event: bytes, session: Session, lane: Lane, now: float) -> Admission:
        """Stand in for the store's `admit_unjoined` once the buffer closes: the caller saw it running."""
        self._add_refusal(RefusalReason.NOT_RUNNING)
        self._store.forget_if_idle(lane.app_monitor)
        return refusal(RefusalReason.NOT_RUNNING)

    def _defer(self, event: bytes, session: Session, app_monitor: AppMonitor | None) -> Admission:
        """Answer a thread that interrupted itself inside the core, see `Guard`."""
        self.guard.deferred.append(partial(self._admit_deferred, event, session, app_monitor, self.clock()))
        return ACCEPTED

    def _admit_deferred(
        self, event: bytes, session: Session, app_monitor: AppMonitor | None, now: float
    ) -> None:
        if self.state != "running":
            self._store.accept_and_drop(event, DropReason.CLOSED)
            return
        try:
            lane = self._lane(app_monitor)
        except InvalidEvent:  # one app monitor too many
            self._store.accept_and_drop(event, DropReason.OVERFLOW)
        else:
            self._store.admit_or_drop(event, session, lane, now)

    def _lane(self, app_monitor: AppMonitor | None) -> Lane:
        return self._store.home if app_monitor is None else self._store.lane_for(app_monitor)

    def _after_change(self) -> None:
        if self._news.wake:
            self._wake()


def _no_join(event: bytes, session: Session, lane: Lane) -> None:
    """Stand in for the store's `join` once the buffer closes."""


def _check_app_monitor(app_monitor: object) -> None:
    if not isinstance(app_monitor, AppMonitor):
        raise InvalidEvent("app_monitor", "must be a rumbuffer.AppMonitor", shape_of(app_monitor))


def check_event(event: object) -> None:
    """Raise `InvalidEvent` for what is no event."""
    if not isinstance(event, Event):
        raise InvalidEvent("event", "must be a rumbuffer.Event", shape_of(event))


def no_session() -> InvalidEvent:
    """Return the error for an event that belongs to no session."""
    return InvalidEvent("session", "must be given, or be the current one (rumbuffer.current_session)", "none")
