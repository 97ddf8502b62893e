"""The choice: what the next token is spent on.

The scarce thing is the request, so each token is spent as well as it can be, at the moment when it is
there (late sealing), in this order:

1. batches that were sealed before: throttled ones first, then those whose backoff is over and for
   which there is retry credit, and the parts of a batch that is being halved (a tenth of the tokens);
2. probes of shut gates (see `gates`), at most one a second;
3. a new batch, if a slot is free: three times out of four the one that has been full for longest, and
   the fourth time the oldest quiet one, lest quiet sessions starve: one that may still fill and whose
   session has no other before it. But while there are full ones, what is due only because its linger is
   over waits for four lingers, and may fill. What is asked for by `deliver()` shares the fourth tokens;
4. a retry without credit, for a token that nobody else wants is not worth saving.
"""

from __future__ import annotations

from collections.abc import Iterator

from rumbuffer.core.flights import Flight, FlightState
from rumbuffer.core.gates import Gate, Obstacle
from rumbuffer.core.lanes import Lane, OpenBatch
from rumbuffer.core.outcomes import HoldScope
from rumbuffer.core.pacing import Pacer, TokenBucket
from rumbuffer.core.retry import RetryBudget
from rumbuffer.core.store import Store

__all__ = ["Chooser"]

_FAR = float("inf")

_QUIET_EVERY = 4
"""One token in so many goes to the oldest quiet batch. Simulated, 55 busy sessions with 50
tokens: while full batches go first, no quiet one gets through in 300 s; with one in four for the oldest due
batch, full or not, the quiet ones grow older for ever; so, they go whether full ones are older or not."""

_PATIENCE = 4.0
_PATIENCE_MAX = 15.0
"""Lingers that a batch which is not full waits while there are full ones, or a linger and so many seconds
where that is less. Where these take all tokens, each
batch that goes with few events keeps a full one back. Simulated (benchmarks/orders.py; busy sessions that
could take 95 % of the tokens, and visits that would need 15 %), with patience and without: 93 events a
request and 89, median age 3 s and 6 s, largest 22 s and 28 s. The quiet pay: their largest is 22 s, not 15.
Without full batches nothing waits for longer than its linger and the tokens."""

_HALVING_SHARE = 0.1
_HALVING_BURST = 8

_FEW_FLIGHTS = 12
_FRESH_PROBE_OF_FEW = 2
_FRESH_PROBE_OF_MANY = 8
_FRESH_PROBE_OF_VERY_MANY = 32
"""While an app monitor has few batches in flight, every second probe of its outage is a fresh batch of
another session, and every eighth later: batches that the service chokes on must not pass for an outage
for ever, and in a true one little should be sealed."""

_HALVING_AT_ONCE = 4
"""While as many refused batches of an app monitor are being halved and nothing else of it got through, no
more are sealed: its details may be wrong rather than its events."""

_FRESH_LOOKED_AT = 16
_PROBES_PER_SECOND = 1.0
_PROBES_BURST = 10


class Chooser:
    """Picks what to send. Looks, and changes nothing until `chosen` says that it is being sent."""

    def __init__(self, store: Store, pacer: Pacer, *, retry_budget: float, max_in_flight: int) -> None:
        self.sender_gate: Gate = Gate(HoldScope.SENDER, None)
        self._store = store
        self._pacer = pacer
        self._max_in_flight = max_in_flight
        self._budget = RetryBudget(retry_budget)
        self._halving = TokenBucket(pacer.rate * _HALVING_SHARE, _HALVING_BURST)
        self._probing = TokenBucket(_PROBES_PER_SECOND, _PROBES_BURST)
        self._turn = 0

    def pick(self, now: float) -> tuple[Flight | OpenBatch | None, float]:
        """Return what the next token goes to, or when there may be something."""
        flights = list(self.flights())
        if sum(flight.state is FlightState.SENDING for flight in flights) >= self._max_in_flight:
            return None, _FAR
        resend, costly, wait = self._due_flight(flights, now)
        if resend is not None:
            return resend, now
        probe, probe_wait = self._due_probe(now)
        wait = min(wait, probe_wait)
        if probe is not None:
            return probe, now
        if self.has_slot():
            batch, due_wait = self._due_batch(now)
            wait = min(wait, due_wait)
            if batch is not None:
                return batch, now
        return costly, wait

    def has_slot(self) -> bool:
        """Tell whether another batch may be sealed."""
        busy = sum(flight.state is not FlightState.PARKED for flight in self.flights())
        return busy < self._max_in_flight

    def flights(self) -> Iterator[Flight]:
        """Go through all flights."""
        for lane in self._store.lanes.values():
            yield from lane.flights

    def gate_of(self, lane: Lane) -> Gate | None:
        """Return the shut gate that the lane stands behind."""
        if self.sender_gate.is_shut:
            return self.sender_gate
        return lane.gate if lane.gate.is_shut else None

    def shut_gates(self) -> list[tuple[Gate, list[Lane]]]:
        """Return the gates to be probed, each with the lanes to probe it from."""
        lanes = list(self._store.lanes.values())
        if self.sender_gate.is_shut:
            # Open lanes first: what a shut one answers says less.
            return [(self.sender_gate, sorted(lanes, key=lambda lane: lane.gate.is_shut))]
        return [(lane.gate, [lane]) for lane in lanes if lane.gate.is_shut]

    def chosen(self, flight: Flight, *, newly_sealed: bool, now: float) -> None:
        """The flight is being sent: spend what it costs besides the token."""
        gate = self.gate_of(flight.lane)
        if gate is not None:
            self._probing.take(now)
            gate.probe_sent(flight)
        elif newly_sealed:
            self._turn += 1
            self._store.pressed = bool(self._store.room.waiters)
        if newly_sealed:
            self._budget.earn()
        elif flight.retry_costs_credit:
            self._budget.spend()
        if flight.is_halving:
            self._halving.take(now)

    # What was sealed before ---------------------------------------------------------------------------

    def _due_flight(self, flights: list[Flight], now: float) -> tuple[Flight | None, Flight | None, float]:
        """Return the flight to send next, one that has no credit for it, and when the next comes due."""
        best: Flight | None = None
        costly: Flight | None = None
        wait = _FAR
        halved: set[Lane] = set()
        has_credit = self._budget.has_credit(now)
        self._halving.rate = self._pacer.rate * _HALVING_SHARE
        for flight in sorted(flights, key=_precedence):
            if flight.state is FlightState.PARKED and self.gate_of(flight.lane) is not None:
                continue
            if flight.is_halving:
                if flight.lane.rejections_in_a_row and flight.lane in halved:
                    continue  # one at a time, while nothing of the lane is delivered
                halved.add(flight.lane)
            if flight.state is FlightState.SENDING:
                continue
            at = flight.not_before
            if flight.is_halving:
                at = max(at, self._halving.next_slot(now))
            if at > now:
                wait = min(wait, at)
            elif flight.retry_costs_credit and not has_credit:
                costly = costly or flight
            else:
                best = best or flight
        return best, costly, wait

    # What finds out whether a gate may be opened --------------------------------------------------------

    def _due_probe(self, now: float) -> tuple[Flight | OpenBatch | None, float]:
        """Return what a shut gate is to be tried with."""
        wait = _FAR
        for gate, lanes in self.shut_gates():
            if gate.probe is not None:
                continue
            at = max(gate.probe_at, self._probing.next_slot(now))
            if at > now:
                if any(lane.flights or lane.oldest is not None for lane in lanes):
                    wait = min(wait, at)
                continue
            candidate = self._probe_of(gate, lanes)
            if candidate is not None:
                return candidate, now
        return None, wait

    def _probe_of(self, gate: Gate, lanes: list[Lane]) -> Flight | OpenBatch | None:
        for lane in lanes:
            parked = min(
                (flight for flight in lane.flights if flight.state is FlightState.PARKED),
                key=lambda flight: (flight.is_doubtful, flight.sent_at),
                default=None,
            )
            if parked is None:
                if lane.oldest is not None:
                    return lane.oldest
            elif gate.obstacle is Obstacle.OUTAGE and self._wants_fresh(gate, lane):
                return _fresh(lane) or parked
            else:
                return parked
        return None

    def _wants_fresh(self, gate: Gate, lane: Lane) -> bool:
        room = self._store.room
        telling = sum(not flight.is_doubtful for flight in lane.flights)
        every = _FRESH_PROBE_OF_FEW if telling < _FEW_FLIGHTS else _FRESH_PROBE_OF_MANY
        if room.fixed >= room.capacity // 4:
            every = _FRESH_PROBE_OF_VERY_MANY
        # What is sealed cannot be evicted, and the newest events matter most.
        return gate.probes % every == every - 1

    # What is open ---------------------------------------------------------------------------------------

    def _due_batch(self, now: float) -> tuple[OpenBatch | None, float]:
        """Return the open batch to seal next, or when one comes due."""
        if self.sender_gate.is_shut:
            return None, _FAR
        store = self._store
        full: OpenBatch | None = None
        oldest: OpenBatch | None = None
        urgent: OpenBatch | None = None
        lanes: list[Lane] = []
        for lane in store.lanes.values():
            if lane.oldest is None or lane.gate.is_shut or _is_suspect(lane):
                continue
            lanes.append(lane)
            full = _older(full, lane.oldest_full())
            oldest = _older(oldest, lane.oldest)
            urgent = _older(urgent, lane.next_urgent())
        if oldest is None:
            return None, _FAR
        if full is not None:
            return self._full_or_other(full, oldest, urgent, lanes, now), now
        if self._is_due(oldest, store.linger, now):
            return oldest, now
        return urgent or (oldest if store.pressed else None), oldest.opened + store.linger

    def _full_or_other(
        self, full: OpenBatch, oldest: OpenBatch, urgent: OpenBatch | None, lanes: list[Lane], now: float
    ) -> OpenBatch:
        if self._turn % _QUIET_EVERY:
            return full
        linger = self._store.linger
        patience = min(_PATIENCE * linger, linger + _PATIENCE_MAX)
        if self._store.pressed:  # what waits longer may be evicted
            patience = linger
        quiet: OpenBatch | None = None
        for lane in lanes:
            quiet = _older(quiet, lane.oldest_quiet())
        if quiet is not None and not self._is_due(quiet, patience, now):
            quiet = None
        if urgent is not None and (quiet is None or self._turn // _QUIET_EVERY % 2):
            return urgent
        if quiet is None and self._is_due(oldest, patience, now):
            return oldest  # it may be one that the overflow has eaten from: neither full nor quiet
        return full if quiet is None else quiet

    def _is_due(self, batch: OpenBatch, patience: float, now: float) -> bool:
        return batch.seq < self._store.flush_seq or batch.opened + patience <= now


def _is_suspect(lane: Lane) -> bool:
    if lane.rejections_in_a_row < _HALVING_AT_ONCE:
        return False
    return sum(flight.is_halving for flight in lane.flights) >= _HALVING_AT_ONCE


def _fresh(lane: Lane) -> OpenBatch | None:
    """Return an open batch, of a session that has nothing in flight if there is one near the front."""
    flying = {flight.session for flight in lane.flights}
    batch = lane.oldest
    for _ in range(_FRESH_LOOKED_AT):
        if batch is None:
            break
        if batch.session not in flying:
            return batch
        batch = batch.newer
    return lane.oldest


def _precedence(flight: Flight) -> tuple[bool, int]:
    return not flight.throttled, flight.seq


def _older(one: OpenBatch | None, other: OpenBatch | None) -> OpenBatch | None:
    if one is None or other is None:
        return one or other
    return one if one.seq < other.seq else other
