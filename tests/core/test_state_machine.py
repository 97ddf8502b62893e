"""Every rule at once: random histories of the core under simulated time, checked at every step.

The machine plays the shell: producers of all kinds, a pump that looks when it was woken or its timer
ends, a service in any mood, a host that hears the notices. What it knows of the events is in a
`Ledger` of its own; the structures are walked and compared at each step.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from rumbuffer.core.admission import RefusalReason
from rumbuffer.core.news import Waiter
from rumbuffer.core.notices import DropReason
from rumbuffer.core.outcomes import (
    Failed,
    HoldScope,
    Misconfigured,
    Outcome,
    Rejected,
    Throttled,
    TooLarge,
)
from rumbuffer.core.sealed import SealedBatch
from rumbuffer.errors import InvalidEvent
from rumbuffer.events import AppMonitor, Session
from tests.core.helpers import DELIVERED, HOME, OTHER, event, number_of, session
from tests.core.machine import WITHIN, Shell
from tests.core.structures import check_structures, open_batches

SIZES = st.sampled_from([0, 0, 0, 60, 200, 700, 6000])
MONITORS = st.sampled_from([HOME, HOME, OTHER])
SESSIONS = st.builds(
    session, st.integers(1, 4), st.sampled_from([None, None, '{"a":1}', '{"b":"' + "y" * 300 + '"}'])
)
SECONDS = st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0])
WISHES = st.one_of(st.none(), st.sampled_from([-1.0, 0.0, 0.5, 7.0, 1e9]))
OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.just(DELIVERED),
    st.builds(Throttled, WISHES),
    st.builds(
        Failed,
        st.just("500"),
        WISHES,
        stale_connection=st.sampled_from([False, False, True]),
        unsent=st.booleans(),
    ),
    st.just(Rejected("bad")),
    st.just(TooLarge()),
    st.builds(
        Misconfigured,
        st.sampled_from(HoldScope),
        st.sampled_from(["ResourceNotFoundException", "AccessDeniedException"]),
    ),
)


class CoreMachine(Shell):
    """What happens, and what holds always."""

    # Producers --------------------------------------------------------------------------------------

    @precondition(lambda self: not self.closing)
    @rule(of=SESSIONS, monitor=MONITORS, size=SIZES, count=st.integers(1, 6))
    def record(self, of: Session, monitor: AppMonitor, size: int, count: int) -> None:
        """Offer events that take room only by the overflow policy."""
        for _ in range(count):
            self.offered += 1
            if of.sample_point >= self.store.keep_rate:
                self.store.counters.sampled_out += 1  # as the shell does
                continue
            encoded = event(self.offered, size)
            lane = self.store.lane_for(monitor)
            room_before = self.room_of_waiters() if self.store.room.waiters else 0
            refused_before = self.store.counters.refused[RefusalReason.BUFFER_FULL]
            try:
                admission = self.store.admit(encoded, of, lane, self.rig.now)
            except InvalidEvent:
                assert self.never_fits(encoded, of, monitor)
                self.store.counters.refused[RefusalReason.INVALID_EVENT] += 1  # as the shell does
                self.ledger.refused += 1
                continue
            assert self.room_of_waiters() >= room_before, "record() took room from a put() that waits"
            if admission:
                self.ledger.admit(self.offered)
            else:
                assert self.store.counters.refused[RefusalReason.BUFFER_FULL] == refused_before + 1
                self.ledger.refused += 1

    @precondition(lambda self: not self.closing)
    @rule(of=SESSIONS, monitor=MONITORS, size=SIZES)
    def record_reentrantly(self, of: Session, monitor: AppMonitor, size: int) -> None:
        """Offer an event that was answered "accepted" before it was admitted."""
        self.offered += 1
        self.ledger.admit(self.offered)
        lane = self.store.lane_for(monitor)
        self.store.admit_or_drop(event(self.offered, size), of, lane, self.rig.now)

    @precondition(lambda self: not self.closing)
    @rule(of=SESSIONS, monitor=MONITORS, size=SIZES, listens=st.booleans())
    def put(self, of: Session, monitor: AppMonitor, size: int, listens: bool) -> None:
        """Offer an event that waits for room; with `listens`, as `deliver()` does."""
        self.offered += 1
        encoded = event(self.offered, size)
        waiter = Waiter() if listens else None
        try:
            room = self.rig.put(of, monitor=monitor, encoded=encoded, waiter=waiter)
        except InvalidEvent:
            assert self.never_fits(encoded, of, monitor)
            self.store.counters.refused[RefusalReason.INVALID_EVENT] += 1
            self.ledger.refused += 1
            return
        if room is None:
            assert not self.ungranted(), "a put() overtook another"
            self.admitted(encoded, waiter)
        else:
            self.waiting.append((room, encoded, of, monitor, waiter))

    @precondition(lambda self: not self.closing and any(entry[0].granted for entry in self.waiting))
    @rule(data=st.data())
    def take_granted_room(self, data: st.DataObject) -> None:
        """A `put()` wakes up and finds its room reserved."""
        self.claim(data.draw(st.sampled_from([entry for entry in self.waiting if entry[0].granted])))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel_put(self, data: st.DataObject) -> None:
        """A `put()` is cancelled: never offered, whether it has its room or not."""
        entry = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(entry)
        self.withdraw(entry)

    # The pump and the service -----------------------------------------------------------------------

    @rule()
    def pump(self) -> None:
        """Send what may be sent."""
        self.look()

    @precondition(lambda self: self.sending)
    @rule(data=st.data(), outcome=OUTCOMES)
    def answer(self, data: st.DataObject, outcome: Outcome) -> None:
        """The service answers one request."""
        self.settle(data.draw(st.sampled_from(self.sending)), outcome)

    @rule(seconds=SECONDS)
    def let_time_go_on(self, seconds: float) -> None:
        """Time goes on; the pump's timers end."""
        until = self.rig.now + seconds
        self.look()
        for _ in range(40):
            if self.planned > until:
                break
            self.rig.now = max(self.rig.now, self.planned)
            self.look()
        self.rig.now = max(self.rig.now, until)
        self.look()

    @rule(outcome=OUTCOMES, answers=st.integers(1, 40))
    def mood(self, outcome: Outcome, answers: int) -> None:
        """For a while the service answers everything alike."""
        self.serve(lambda _: outcome, answers)

    @rule(
        bad=st.integers(2, 5),
        answers=st.integers(1, 60),
        outcome=st.sampled_from([Rejected("bad"), Failed("500")]),
    )
    def bad_events(self, bad: int, answers: int, outcome: Outcome) -> None:
        """For a while the service chokes on some of the events, and takes all others."""

        def answer(batch: SealedBatch) -> Outcome:
            return outcome if any(number_of(encoded) % bad == 0 for encoded in batch.events) else DELIVERED

        self.serve(answer, answers)

    @precondition(lambda self: not self.closing)
    @rule()
    def flush(self) -> None:
        """Everything that is there becomes due, and is waited for."""
        self.flush_mark = self.batcher.make_due()
        self.flushed = set(self.ledger.alive)
        self.dirty = True

    @precondition(lambda self: not self.closing and len(self.ledger.order) > 15)
    @rule()
    def begin_close(self) -> None:
        """Nothing is admitted any more."""
        self.closing = True
        for entry in self.waiting:
            self.withdraw(entry)
        self.waiting.clear()
        self.batcher.begin_close(self.rig.now)
        self.dirty = True

    # What holds always ------------------------------------------------------------------------------

    @invariant()
    def every_event_is_in_one_place(self) -> None:
        """Both conservation laws, against the ledger."""
        ledger, stats = self.ledger, self.batcher.stats(self.rig.now)
        assert stats.offered == self.offered - len(self.waiting) - self.cancelled
        assert stats.offered == stats.accepted + stats.sampled_out + stats.refused
        assert (stats.accepted, stats.refused) == (ledger.accepted, ledger.refused)
        assert stats.accepted == (
            stats.delivered
            + stats.dropped
            + stats.dead_lettered
            + stats.pending
            + stats.in_flight
            + stats.spooled
        )
        self.hear(everything=True)
        ended = {
            **stats.dropped_by_reason,
            **stats.dead_lettered_by_reason,
            **({"delivered": stats.delivered} if stats.delivered else {}),
        }
        assert ended == {fate: ledger.count(fate) for fate in set(ledger.fate.values())}
        held = [
            number_of(encoded)
            for lane in self.store.lanes.values()
            for events in (
                *(batch.events for batch in open_batches(lane)),
                *(part.batch.events for flight in lane.flights for part in flight.parts),
            )
            for encoded in events
        ]
        assert sorted(held) == sorted(ledger.alive)

    @invariant()
    def structures_agree(self) -> None:
        """Lists, dicts, siblings, sizes and charges say the same."""
        check_structures(
            self.store, [entry[0] for entry in self.waiting if entry[0].granted], self.rig.max_in_flight
        )
        for lane in self.store.lanes.values():
            for batch in open_batches(lane):
                places = [self.ledger.order[number_of(encoded)] for encoded in batch.events]
                assert places == sorted(places)

    @invariant()
    def waiters_are_served_in_order(self) -> None:
        """Those with room come before those without, and the first without finds too little."""
        granted = [entry[0].granted for entry in self.waiting]
        assert granted == sorted(granted, reverse=True)
        ungranted = self.ungranted()
        assert [entry[0] for entry in ungranted] == list(self.store.room.waiters)
        if ungranted:
            assert ungranted[0][0].needed > self.store.room.free

    @invariant()
    def no_wake_up_is_missed(self) -> None:
        """While the store does not ask for the pump, there is nothing to do before its timer ends."""
        if self.store.news.wake or self.dirty or self.planned <= self.rig.now:
            return
        chooser = self.batcher._chooser
        if not chooser.has_slot():
            return  # the next answer wakes the pump; a probe, which needs no slot, can wait so long
        choice, wait = chooser.pick(self.rig.now)
        if choice is not None:
            wait = max(self.rig.now, self.batcher.pacer.next_slot(self.rig.now))
        assert wait >= self.planned - 1e-6, f"nobody looks at {wait}: {self.describe()}"

    @invariant()
    def flush_ends_when_its_events_have_their_fate(self) -> None:
        """A flush is over only when nothing of what was there at its begin is left."""
        if self.flush_mark and self.batcher.settled_before(self.flush_mark):
            assert not self.flushed & self.ledger.alive

    # At the end -------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """The close's deadline comes, or a service that works again is given all there is."""
        if not hasattr(self, "ledger"):
            return
        if self.abandons:
            self.abandon()
        else:
            self.drain()
        assert self.store.room.free == self.store.room.capacity
        self.every_event_is_in_one_place()
        self.structures_agree()
        assert not self.ledger.listeners
        self.ledger.halves_are_derived()

    def abandon(self) -> None:
        """All that is left is lost, with its reason, and late answers change nothing."""
        if not self.closing:
            self.begin_close()
        unknown = {number_of(encoded) for flight in self.sending for encoded in flight.batch.events}
        unknown |= self.ledger.bound_to.keys()
        left = set(self.ledger.alive)
        self.batcher.abandon()
        self.hear(everything=True)
        for number in left:
            reason = DropReason.OUTCOME_UNKNOWN if number in unknown else DropReason.CLOSED
            assert self.ledger.fate[number] == reason
        for flight in self.sending:
            self.batcher.settle(flight, DELIVERED, self.rig.now)
        assert self.batcher.next_action(self.rig.now) == math.inf

    def drain(self) -> None:
        """With a service that works again, everything is delivered in bounded time."""
        if not self.closing:
            self.flush()
        deadline = self.rig.now + WITHIN
        while True:
            self.serve(lambda _: DELIVERED, 1_000_000)
            if not self.ledger.alive and not self.waiting:
                break
            for entry in [entry for entry in self.waiting if entry[0].granted]:
                self.claim(entry)
            self.look()
            if not self.sending:
                assert self.planned < deadline, "what is left is never sent"
                self.rig.now = max(self.rig.now, self.planned)
        assert self.rig.now < deadline
        self.one_more_for_each()
        assert self.batcher.health() == "ok"

    def one_more_for_each(self) -> None:
        """What is shut with nothing left to try it with opens with the next event."""
        for monitor in (HOME, OTHER):
            kept = next(of for of in map(session, range(1, 10_000)) if of.sample_point < self.store.keep_rate)
            self.record(kept, monitor, 0, 1)
            assert self.offered in self.ledger.alive
            self.batcher.make_due()
            self.serve(lambda _: DELIVERED, 1_000_000)
            assert not self.ledger.alive


TestCore: Any = pytest.mark.timeout(600)(CoreMachine.TestCase)  # shrinking a failure takes its time
TestCore.settings = settings(max_examples=150, stateful_step_count=50)
