"""The shell's part of the state machine: the pump, the put() calls, the host; see test_state_machine."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import TypeAlias

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from rumbuffer.core.flights import Flight, FlightState
from rumbuffer.core.news import Fate, Waiter
from rumbuffer.core.outcomes import Outcome
from rumbuffer.core.room import RoomWaiter
from rumbuffer.core.sealed import SealedBatch
from rumbuffer.events import AppMonitor, Session
from rumbuffer.settings import RetryPolicy
from tests.core.helpers import Rig, make_store, number_of
from tests.core.ledger import Ledger
from tests.core.structures import charges_of, envelope_size, open_batches

Entry: TypeAlias = tuple[RoomWaiter, bytes, Session, AppMonitor, Waiter | None]

WITHIN = 900.0
"""Seconds in which a service that works again must have got everything."""


class Shell(RuleBasedStateMachine):
    """Drives a core with tiny limits, and checks each thing that it says on its way to the ledger."""

    @initialize(
        capacity=st.sampled_from([1_500, 3_000, 8_000, 80_000]),
        events=st.integers(1, 6),
        size=st.sampled_from([1_024, 2_500, 40_000]),
        linger=st.sampled_from([0.0, 1.0, 5.0, 300.0]),
        slots=st.integers(1, 4),
        rate=st.sampled_from([0.5, 10.0, 1000.0]),
        burst=st.integers(1, 12),
        failures=st.integers(1, 3),
        evicts=st.booleans(),
        sheds=st.booleans(),
        abandons=st.sampled_from([False, False, True]),
        seed=st.integers(0, 1 << 16),
    )
    def start(
        self,
        capacity: int,
        events: int,
        size: int,
        linger: float,
        slots: int,
        rate: float,
        burst: int,
        failures: int,
        evicts: bool,
        sheds: bool,
        abandons: bool,
        seed: int,
    ) -> None:
        """Make a core with tiny limits."""
        self.store = make_store(
            max_batch_events=events,
            max_batch_bytes=size,
            linger=linger,
            max_pending_bytes=capacity,
            evicts=evicts or sheds,
        )
        self.largest_body = size
        self.rig = Rig(
            self.store,
            rate=rate,
            burst=burst,
            retry=RetryPolicy(max_failures=failures),
            max_in_flight=slots,
            sheds=sheds,
            jitter=random.Random(seed).random,
        )
        self.batcher = self.rig.batcher
        self.ledger = Ledger()
        self.sending: list[Flight] = []
        self.waiting: list[Entry] = []
        """The `put()` calls that wait for room, in their order."""
        self.offered = 0
        self.planned = -math.inf
        """When the pump's timer ends."""
        self.dirty = True
        """Whether the pump was woken for another reason than the store's `wake`."""
        self.flush_mark = 0
        self.flushed: set[int] = set()
        self.told: list[tuple[Waiter, Fate]] = []
        """Fates of which the gathered drops may not have been heard yet."""
        self.cancelled = 0
        self.closing = False
        self.abandons = abandons

    # The shell's doings -----------------------------------------------------------------------------

    def look(self) -> None:
        """What the pump does when it is awake."""
        self.store.news.wake = self.dirty = False
        while True:
            fronts = self.session_fronts()
            action = self.batcher.next_action(self.rig.now)
            if not isinstance(action, Flight):
                break
            self.check_sent(action, fronts)
            self.sending.append(action)
        self.hear()
        self.planned = action
        again = self.batcher.next_action(self.rig.now)
        assert isinstance(again, float)
        assert again > self.rig.now, "a timer of no length"
        if self.ledger.alive and not self.sending:
            assert action < math.inf, f"what is left is never sent: {self.describe()}"

    def describe(self) -> str:
        """Say where everything stands."""
        gates = [self.batcher._sender_gate, *(lane.gate for lane in self.store.lanes.values())]
        lines = [f"{gate.scope} {gate.obstacle} probe={gate.probe} at {gate.probe_at}" for gate in gates]
        for lane in self.store.lanes.values():
            opened = [batch.opened for batch in open_batches(lane)]
            lines.append(f"{lane.flights} refused={lane.rejections_in_a_row} open since {opened}")
        store = self.store
        lines.append(f"now={self.rig.now} planned={self.planned} alarm={store.alarm} pressed={store.pressed}")
        return "; ".join(lines)

    def check_sent(self, flight: Flight, fronts: list[tuple[bytes, ...]]) -> None:
        """Check what is being sent against the limits and the order of its session."""
        is_new = flight.batch.id not in self.ledger.batches
        self.ledger.sent(flight)
        assert flight.state is FlightState.SENDING
        batch = flight.batch
        # What stood before it in its session may have been shed in the same turn.
        is_kept = flight.session.sample_point < self.store.keep_rate
        if is_new and is_kept and not flight.is_halving and batch.events not in fronts:
            # The beginning of the session's first open batch, or a part that a split left.
            begins = any(front[: len(batch.events)] == batch.events for front in fronts)
            assert begins or self.comes_of_a_split(batch), "a session's batches were sealed out of order"
        if is_new and not self.comes_of_a_split(batch):
            assert len(batch.events) <= self.store.max_batch_events
            assert len(batch.body()) <= self.store.max_batch_bytes or len(batch.events) == 1

    def comes_of_a_split(self, batch: SealedBatch) -> bool:
        """Tell whether the batch's id derives from another's."""
        return batch.id[14] == "5"

    def session_fronts(self) -> list[tuple[bytes, ...]]:
        """Return the events of each session's first open batch."""
        fronts: dict[tuple[AppMonitor, str], tuple[bytes, ...]] = {}
        for lane in self.store.lanes.values():
            for batch in open_batches(lane):
                fronts.setdefault((lane.app_monitor, batch.session.key), tuple(batch.events))
        return list(fronts.values())

    def settle(self, flight: Flight, outcome: Outcome) -> None:
        """Tell the core of an answer."""
        batch = flight.batch
        self.sending.remove(flight)
        self.batcher.settle(flight, outcome, self.rig.now)
        self.ledger.answered(batch, outcome)
        self.dirty = True
        self.hear(everything=True)

    def serve(self, answer: Callable[[SealedBatch], Outcome], answers: int) -> None:
        """Let the pump run, and the service answer so many requests at once, oldest first."""
        deadline = self.rig.now + WITHIN
        self.look()
        while answers and self.rig.now < deadline:
            if self.sending:
                self.settle(self.sending[0], answer(self.sending[0].batch))
                answers -= 1
            elif self.planned == math.inf or not (self.ledger.alive or self.all_wait()):
                return
            else:
                self.rig.now = max(self.rig.now, self.planned)
            self.look()

    def hear(self, *, everything: bool = False) -> None:
        """Hand over the news."""
        taken = self.store.news.take(math.inf if everything else self.rig.now)
        self.ledger.hear(taken.notices)
        self.told += taken.fates
        if everything:
            self.ledger.answer_listeners(self.told)
            self.told.clear()

    def claim(self, entry: Entry) -> None:
        """Admit from the reservation."""
        room, encoded, of, monitor, waiter = entry
        self.waiting.remove(entry)
        assert self.rig.put(of, monitor=monitor, encoded=encoded, room=room, waiter=waiter) is None
        self.admitted(encoded, waiter)

    def admitted(self, encoded: bytes, waiter: Waiter | None) -> None:
        """A `put()` is done."""
        number = number_of(encoded)
        self.ledger.admit(number)
        if waiter is not None:
            self.ledger.listeners[waiter] = number

    def withdraw(self, entry: Entry) -> None:
        """A `put()` that does not get in was never offered."""
        self.store.room.withdraw(entry[0])
        self.cancelled += 1

    def room_of_waiters(self) -> int:
        """Return what is free, or promised to those who wait."""
        return self.store.room.free + sum(entry[0].needed for entry in self.waiting if entry[0].granted)

    def all_wait(self) -> bool:
        """Tell whether there are `put()` calls that wait, and none has a reservation to claim."""
        return bool(self.waiting) and not self.waiting[0][0].granted

    def ungranted(self) -> list[Entry]:
        """Return those that wait without a promise."""
        return [entry for entry in self.waiting if not entry[0].granted]

    def never_fits(self, encoded: bytes, of: Session, monitor: AppMonitor) -> bool:
        """Tell whether the event is larger than the limits allow any."""
        envelope = envelope_size(self.store.lane_for(monitor), of.encoded_attributes)
        self.store.forget_if_idle(monitor)
        cost = charges_of((encoded,)) + 400 + envelope
        return envelope + len(encoded) > self.largest_body or cost > self.store.room.capacity
