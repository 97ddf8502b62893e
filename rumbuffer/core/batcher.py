"""The state machine: what is sent next, and what follows from each outcome.

The caller asks `next_action(now)` until it answers with a time, sends each flight that it is handed,
and reports every outcome to `settle`. Which batch a token goes to is the `Chooser`'s; what stops the
sending is a `Gate`'s; where events wait is the `Store`'s; what the world must hear is left in `News`.

A batch is given up only when it failed `max_failures` times *while others were delivered*: each
failure counts only if a request that was sent after the one before was delivered. So an outage, in
which nothing is delivered, expires nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rumbuffer.core.choice import Chooser
from rumbuffer.core.counters import BufferStats, HoldStats, snapshot
from rumbuffer.core.flights import Flight, FlightState
from rumbuffer.core.gates import Gate, Obstacle
from rumbuffer.core.lanes import OpenBatch
from rumbuffer.core.news import Arrived, Lost
from rumbuffer.core.notices import DeadLettered, DeadLetterReason, DropReason, RateChanged
from rumbuffer.core.outcomes import (
    Delivered,
    Failed,
    HoldScope,
    Misconfigured,
    Outcome,
    Rejected,
    Throttled,
    TooLarge,
)
from rumbuffer.core.pacing import Pacer
from rumbuffer.core.retry import backoff
from rumbuffer.core.shedding import Shedding
from rumbuffer.core.store import Store

if TYPE_CHECKING:
    from rumbuffer.settings import RetryPolicy

__all__ = ["Batcher"]

_FAR = float("inf")

_HALVING_ANSWERS_MAX = 32
"""Requests that finding the bad events of one batch may take."""

_SEARCHED_AT_ONCE = 256
"""Refused batches of an app monitor that may wait to be halved. More come in than a tenth of the tokens
can search, then: the newest are given up, for a bound on what is sealed and for the sake of the others."""

_BAD_STREAK = 3
_OUTAGE_AFTER = 8
"""Failures in a row of one app monitor that mean an outage; fewer happen by chance."""

_RELEASED_WITHIN = 2.0

_RATE_TOLD_BY = 0.05
_RATE_TOLD_EVERY = 1.0

_LONGEST_RETRY_AFTER = 60.0
"""Seconds. A `Retry-After` beyond it is cut: a batch tried again too early costs one request, one that
is held back for an hour costs its slot."""

_SMALLEST_BODY = 16 * 1024
"""Bytes that `max_batch_bytes` is not halved below: twice the largest event."""


class Batcher:
    """Decides what is sent when, and accounts for what becomes of it. Not thread-safe by itself."""

    def __init__(
        self,
        store: Store,
        *,
        pacer: Pacer,
        retry: RetryPolicy,
        max_in_flight: int,
        random: Callable[[], float],
        new_id: Callable[[], str],
        sheds: bool = False,
    ) -> None:
        self.store = store
        self.pacer = pacer
        self._retry = retry
        self._random = random
        self._new_id = new_id
        self._closing = False
        self._chooser = Chooser(store, pacer, retry_budget=retry.budget, max_in_flight=max_in_flight)
        self._sender_gate = self._chooser.sender_gate
        self._shedding = Shedding(store) if sheds else None
        self._told_rate = pacer.rate
        self._rate_told_at = -_FAR

    # What to do next ----------------------------------------------------------------------------------

    def next_action(self, now: float) -> Flight | float:
        """Return a flight to send now, or the time until which there is nothing to do."""
        store = self.store
        shedding_due = self.tend(now)
        choice, wait = self._chooser.pick(now)
        if choice is None:
            wait = min(wait, store.news.next_hand_over(), shedding_due)
            store.alarm = wait if self._chooser.has_slot() else -_FAR
            return wait
        store.alarm = -_FAR
        slot = self.pacer.next_slot(now)
        if slot > now:
            return min(slot, shedding_due)
        self.pacer.take(now)
        self._tell_rate(now)
        return self._launch(choice, now)

    def tend(self, now: float) -> float:
        """Do what is to be done without sending; return when to do so again."""
        if self._shedding is None or self._closing:
            return _FAR
        return self._shedding.look(now)

    def _tell_rate(self, now: float) -> None:
        rate, told = self.pacer.rate, self._told_rate
        is_new = not 0.0 <= now - self._rate_told_at < _RATE_TOLD_EVERY  # also where the clock was set back
        if is_new and abs(rate - told) >= _RATE_TOLD_BY * told:
            self._told_rate, self._rate_told_at = rate, now
            self.store.news.notice(RateChanged(rate, told))

    def _launch(self, choice: Flight | OpenBatch, now: float) -> Flight:
        counters = self.store.counters
        counters.requests += 1
        newly_sealed = isinstance(choice, OpenBatch)
        if isinstance(choice, OpenBatch):
            flight = self.store.seal(choice, self._new_id(), now)
        else:
            flight = choice
            counters.retries += 1
        self._chooser.chosen(flight, newly_sealed=newly_sealed, now=now)
        flight.state = FlightState.SENDING
        flight.sent_at = now
        return flight

    # What became of it --------------------------------------------------------------------------------

    def settle(self, flight: Flight, outcome: Outcome, now: float) -> None:
        """Take in the outcome of the request that a flight's present part was sent with."""
        if flight.state is not FlightState.SENDING:
            return  # abandoned by a close that did not wait for the answer
        flight.state = FlightState.WAITING
        lane = flight.lane
        for gate in (self._sender_gate, lane.gate):
            if gate.is_opened_by(outcome, flight.sent_at):
                self._open(gate, now)
        if not isinstance(outcome, Failed):
            lane.failures_in_a_row = 0
        flight.held = isinstance(outcome, Misconfigured)
        flight.throttled = isinstance(outcome, Throttled)
        match outcome:
            case Delivered():
                self._delivered(flight, now)
            case Throttled():
                self._throttled(flight, outcome, now)
            case Failed():
                self._failed(flight, outcome, now)
            case Rejected():
                self._rejected(flight, outcome, now)
            case TooLarge():
                self._too_large(flight, outcome)
            case Misconfigured():  # pragma: no branch - there is no other outcome
                self._misconfigured(flight, outcome, now)
        for gate in (self._sender_gate, lane.gate):
            if gate.probe is flight:  # it did not open the gate
                self._probe_failed(gate, flight, outcome, now)
        self._park_if_shut(flight)
        if flight.is_halving and flight.state is FlightState.WAITING and not lane.gate.is_shut:
            # The search has few tokens; what waits for them must not keep the slots from the others.
            flight.state = FlightState.PARKED
        self.store.forget_if_idle(lane.app_monitor)

    def _delivered(self, flight: Flight, now: float) -> None:
        lane, counters = flight.lane, self.store.counters
        self.pacer.delivered(flight.sent_at, now)
        lane.bad_streak = 0
        lane.delivered_sent_at = max(lane.delivered_sent_at, flight.sent_at)
        lane.rejections_in_a_row = 0
        batch = flight.part_delivered()
        flight.halving_answers += flight.is_halving
        counters.delivered += len(batch.events)
        counters.batches_delivered += 1
        self.store.news.decide(batch.events, Arrived(batch.id))
        self.store.finish(flight, batch)
        self._end_long_search(flight, "")

    def _throttled(self, flight: Flight, outcome: Throttled, now: float) -> None:
        self.store.counters.throttled += 1
        flight.retry_costs_credit = False
        flight.not_before = self.pacer.throttled(flight.sent_at, now, outcome.retry_after, self._random())
        self.store.news.notice(outcome)
        self._tell_rate(now)

    def _failed(self, flight: Flight, outcome: Failed, now: float) -> None:
        self.store.counters.failures += 1
        flight.ambiguous = flight.ambiguous or not outcome.unsent
        if outcome.stale_connection and not flight.stale_excused:
            flight.stale_excused = True
            flight.retry_costs_credit = False
            flight.not_before = now
            return
        lane = flight.lane
        if lane.delivered_sent_at > flight.last_failure_at:
            flight.failures_counted += 1
        flight.last_failure_at = now
        if flight.failures_counted >= self._retry.max_failures:
            self._dead_letter(flight, DeadLetterReason.TOO_MANY_FAILURES, outcome.reason)
            return
        flight.failures += 1
        flight.retry_costs_credit = True
        flight.not_before = now + self._delay(flight.failures, outcome.retry_after)
        if flight.is_doubtful:
            # Lest it keeps the others from being delivered, it has no slot.
            flight.state = FlightState.PARKED
        if self._chooser.gate_of(lane) is None:
            # A doubtful batch that fails again says nothing new about the service.
            if not flight.is_doubtful and flight.sent_at >= lane.gate.changed_at:
                lane.failures_in_a_row += 1
            if lane.failures_in_a_row >= _OUTAGE_AFTER:
                self._shut(lane.gate, Obstacle.OUTAGE, outcome.reason, "", now)
                lane.gate.probe_at = now + self._delay(1, outcome.retry_after)

    def _delay(self, failures: int, retry_after: float | None) -> float:
        delay = backoff(failures, self._retry.base_delay, self._retry.max_delay, self._random())
        wish = 0.0 if retry_after is None else retry_after
        return max(delay, min(wish, _LONGEST_RETRY_AFTER))

    def _rejected(self, flight: Flight, outcome: Rejected, now: float) -> None:
        lane = flight.lane
        lane.rejections_in_a_row += 1
        flight.halving_answers += 1
        if len(flight.batch.events) == 1:
            self._dead_letter(flight, DeadLetterReason.INVALID, outcome.reason)
        elif flight.is_halving or sum(other.is_halving for other in lane.flights) < _SEARCHED_AT_ONCE:
            flight.halve()
        else:
            self._dead_letter(flight, DeadLetterReason.UNRESOLVED, outcome.reason)
        self._end_long_search(flight, outcome.reason)
        if not flight.parts and not flight.delivered:
            lane.bad_streak += 1
            if lane.bad_streak >= _BAD_STREAK:
                self._shut(lane.gate, Obstacle.REJECTIONS, "ValidationException", outcome.reason, now)

    def _end_long_search(self, flight: Flight, detail: str) -> None:
        """Give up what is left of a batch whose bad events take too many requests to find."""
        if flight.halving_answers >= _HALVING_ANSWERS_MAX:
            while flight.parts:
                self._dead_letter(flight, DeadLetterReason.UNRESOLVED, detail)

    def _too_large(self, flight: Flight, outcome: TooLarge) -> None:
        if len(flight.batch.events) == 1:
            self._dead_letter(flight, DeadLetterReason.TOO_LARGE, outcome.reason)
            return
        # Half of what was refused, not half of the limit: several such answers at once halve it once.
        half = max(len(flight.batch.body()) // 2, _SMALLEST_BODY)
        self.store.max_batch_bytes = min(self.store.max_batch_bytes, half)
        flight.split()

    def _misconfigured(self, flight: Flight, outcome: Misconfigured, now: float) -> None:
        flight.retry_costs_credit = False
        flight.not_before = now
        gate = self._sender_gate if outcome.scope is HoldScope.SENDER else flight.lane.gate
        if flight.sent_at >= gate.changed_at:
            self._shut(gate, Obstacle.SETTING, outcome.code, outcome.message, now)

    def _dead_letter(self, flight: Flight, reason: DeadLetterReason, detail: str) -> None:
        """Give up the present part for good."""
        batch = flight.part_given_up()
        self.store.counters.dead_lettered[reason] += len(batch.events)
        news = self.store.news
        news.decide(batch.events, Lost(reason, detail))
        news.notice(
            DeadLettered(
                reason,
                detail,
                batch.id,
                batch.app_monitor.id,
                batch.session_id,
                batch.user_id,
                batch.events,
            )
        )
        self.store.finish(flight, batch)

    # Gates --------------------------------------------------------------------------------------------

    def _shut(self, gate: Gate, obstacle: Obstacle, code: str, message: str, now: float) -> None:
        self.store.news.notice(*gate.shut(obstacle, code, message, now))
        for flight in list(self._chooser.flights()):
            self._park_if_shut(flight)

    def _park_if_shut(self, flight: Flight) -> None:
        """Take a waiting flight's slot away while its gate is shut.

        A batch that was held for a wrong setting was surely not stored: it is dissolved, so that its
        events are pending like the others, may fill up, and obey the overflow policy. Every other keeps
        its id and its events for the next try.
        """
        if flight.state is not FlightState.WAITING or not flight.parts:
            return
        gate = self._chooser.gate_of(flight.lane)
        if gate is None or gate.probe is flight:
            return
        if flight.lane.gate.probe is flight:  # parked by the sender's gate in the midst of its probe
            flight.lane.gate.probe = None
        if flight.held and not flight.ambiguous:
            self.store.unseal(flight)
        else:
            flight.state = FlightState.PARKED

    def _open(self, gate: Gate, now: float) -> None:
        self.store.news.notice(*gate.open(now))
        for flight in self._chooser.flights():
            parked = flight.state is FlightState.PARKED and not flight.is_halving
            if parked and self._chooser.gate_of(flight.lane) is None:
                # They come back one by one, among new ones, and without their slots: if it was they that
                # failed and not the service, they must not shut the gate at once again.
                flight.outlived_outage = True
                if flight.failures_counted and not self._closing:
                    flight.not_before = now + self._delay(flight.failures, None)
                else:
                    flight.not_before = now + (0.0 if self._closing else _RELEASED_WITHIN * self._random())
                    flight.failures = 0
                    flight.retry_costs_credit = False

    def _probe_failed(self, gate: Gate, flight: Flight, outcome: Outcome, now: float) -> None:
        if isinstance(outcome, Rejected) and flight.parts:
            return  # its halves go on, and decide
        if gate.obstacle is Obstacle.OUTAGE:
            wish = outcome.retry_after if isinstance(outcome, Failed) else None
            gate.probe_failed(now, self._delay(1 + gate.probes, wish))
        else:
            gate.probe_failed(now)

    # Flush and close ----------------------------------------------------------------------------------

    def make_due(self) -> int:
        """Make all that is open due; return the mark to ask `settled_before` about."""
        self.store.flush_seq = self.store.next_seq
        return self.store.flush_seq

    def settled_before(self, mark: int) -> bool:
        """Tell whether every batch that was opened before the mark has its final outcome."""
        for lane in self.store.lanes.values():
            if lane.oldest is not None and lane.oldest.seq < mark:
                return False
            if any(flight.seq < mark for flight in lane.flights):
                return False
        return True

    def begin_close(self, now: float) -> None:
        """Make everything due for ever, and try once more what was waiting for a better time."""
        self._closing = True
        self.store.flush_seq = 1 << 62
        for gate in (self._sender_gate, *(lane.gate for lane in self.store.lanes.values())):
            gate.hurry(now)
        for flight in self._chooser.flights():
            if not flight.throttled:
                flight.not_before = min(flight.not_before, now)

    def abandon(self) -> None:
        """The close's deadline has come: count all that is left as dropped."""
        for flight in list(self._chooser.flights()):
            unknown = flight.state is FlightState.SENDING or flight.ambiguous
            reason = DropReason.OUTCOME_UNKNOWN if unknown else DropReason.CLOSED
            flight.state = FlightState.WAITING
            while flight.parts:
                batch = flight.part_given_up()
                self.store.news.drop(reason, batch.events)
                self.store.finish(flight, batch)
                reason = DropReason.CLOSED  # only the first part was ever on its way
        self.store.drop_open(DropReason.CLOSED)

    # Snapshot -----------------------------------------------------------------------------------------

    def health(self) -> str:
        """Return ``ok``, ``outage`` or ``held``."""
        obstacles = {gate.obstacle for gate, _ in self._chooser.shut_gates()}
        if obstacles - {Obstacle.OUTAGE}:
            return "held"
        return "outage" if obstacles else "ok"

    def stats(self, now: float) -> BufferStats:
        """Return a snapshot."""
        store = self.store
        return snapshot(
            store.counters,
            pending_bytes=store.room.capacity - store.room.free,
            max_pending_bytes=store.room.capacity,
            open_batches=store.open_batches(),
            waiters=len(store.room.waiters) + store.room.reserved,
            shed_rate=store.shed_rate,
            rate=self.pacer.rate,
            max_batch_bytes=store.max_batch_bytes,
            health=self.health(),
            holds=tuple(
                HoldStats(
                    gate.scope,
                    gate.app_monitor_id,
                    gate.code,
                    gate.message,
                    now - gate.since,
                    max(0.0, gate.probe_at - now),
                )
                for gate, _ in self._chooser.shut_gates()
            ),
        )
