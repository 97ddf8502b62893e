"""A service with a quota, and senders in front of it, in virtual time.

The limiter is the emulator's own, the pacing the library's own core. Requests reach the limiter after
half a round trip, and their answers come after the other half; round trips are lognormal. A sender is
asked for what to send now, until it names the time of its next wish.

What no scenario may break is asserted here: every batch is stored once, unchanged from its first try
to its last, and none is lost.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from rumbuffer.core.batcher import Batcher
from rumbuffer.core.flights import Flight
from rumbuffer.core.outcomes import Delivered, Throttled
from rumbuffer.core.pacing import Pacer
from rumbuffer.core.store import Store
from rumbuffer.emulator.quota import Limiter, Quota
from rumbuffer.events import AppMonitor, Session
from rumbuffer.settings import RetryPolicy

__all__ = ["BatcherSender", "PacedSender", "Sender", "World"]

SLOTS = 32
ROUND_TRIP = 0.06
_FAR = math.inf


class Sender(Protocol):
    """One process. `poll` returns a batch to send now (any object with an identity), or a time."""

    starts: float
    delivered: list[float]
    refused: list[float]

    def poll(self, now: float) -> Any: ...

    def settle(self, batch: Any, *, accepted: bool, retry_after: float | None, now: float) -> None: ...

    def arrive(self, now: float) -> None:
        """One more piece of work, where the load is given."""

    def check(self) -> None:
        """Raise `AssertionError` if a batch was lost or sent twice."""

    @property
    def rate(self) -> float: ...


@dataclass
class PacedSender:
    """A pacer with always something to send, or with what arrives; refused batches go first."""

    pacer: Pacer
    random: random.Random
    starts: float = 0.0
    always: bool = True
    delivered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    waiting: int = 0
    made: int = 0
    out: dict[int, float] = field(default_factory=dict)
    held: list[tuple[float, int]] = field(default_factory=list)
    stored: set[int] = field(default_factory=set)

    @property
    def rate(self) -> float:
        return self.pacer.rate

    def arrive(self, now: float) -> None:
        self.waiting += 1

    def poll(self, now: float) -> int | float:
        retry = bool(self.held) and self.held[0][0] <= now
        fresh = (self.always or self.waiting > 0) and len(self.out) + len(self.held) < SLOTS
        if not (retry or fresh):
            return self.held[0][0] if self.held else _FAR
        slot = self.pacer.next_slot(now)
        if slot > now:
            return slot
        self.pacer.take(now)
        if retry:
            batch = heapq.heappop(self.held)[1]
        else:
            self.made += 1
            self.waiting -= not self.always
            batch = self.made
        self.out[batch] = now
        return batch

    def settle(self, batch: int, *, accepted: bool, retry_after: float | None, now: float) -> None:
        sent_at = self.out.pop(batch)
        if accepted:
            assert batch not in self.stored, "a batch was stored twice"
            self.stored.add(batch)
            self.pacer.delivered(sent_at, now)
        else:
            again = self.pacer.throttled(sent_at, now, retry_after, self.random.random())
            heapq.heappush(self.held, (again, batch))

    def check(self) -> None:
        left = set(self.out) | {batch for _, batch in self.held}
        assert not left & self.stored, "a batch was stored twice"
        assert self.made == len(self.stored) + len(left), "a batch was lost"


class BatcherSender:
    """The library's whole core: store, batcher and pacer, with three events to a batch."""

    EVENTS = 3

    def __init__(self, pacer: Pacer, rng: random.Random, *, always: bool = True, starts: float = 0.0) -> None:
        self.starts = starts
        self.delivered: list[float] = []
        self.refused: list[float] = []
        self._always = always
        self._store = Store(
            AppMonitor("11111111-1111-4111-8111-111111111111"),
            max_batch_events=self.EVENTS,
            max_batch_bytes=100_000,
            linger=5.0,
            max_pending_bytes=64 * 1024 * 1024,
            evicts=True,
            keep_dropped=False,
        )
        ids = itertools.count(1)
        self._batcher = Batcher(
            self._store,
            pacer=pacer,
            retry=RetryPolicy(),
            max_in_flight=SLOTS,
            random=rng.random,
            new_id=lambda: f"{next(ids):08x}-bbbb-4bbb-8bbb-bbbbbbbbbbbb",
        )
        self._sessions = [Session(f"{n:08x}-aaaa-4aaa-8aaa-aaaaaaaaaaaa") for n in range(64)]
        self._made = 0
        self._bodies: dict[str, bytes] = {}
        self._stored: list[bytes] = []

    @property
    def rate(self) -> float:
        return self._batcher.pacer.rate

    def arrive(self, now: float) -> None:
        session = self._sessions[self._made // self.EVENTS % len(self._sessions)]
        for _ in range(self.EVENTS):
            self._made += 1
            assert self._store.admit(b'{"n":%d}' % self._made, session, self._store.home, now)

    def poll(self, now: float) -> Flight | float:
        while self._always and self._store.counters.pending < self.EVENTS * 4:
            self.arrive(now)
        action = self._batcher.next_action(now)
        if isinstance(action, Flight):
            body = self._bodies.setdefault(action.batch.id, action.batch.body())
            assert body == action.batch.body(), "a batch has changed"
        return action

    def settle(self, batch: Flight, *, accepted: bool, retry_after: float | None, now: float) -> None:
        if accepted:
            self._stored += batch.batch.events
        self._batcher.settle(batch, Delivered() if accepted else Throttled(retry_after), now)

    def check(self) -> None:
        counters = self._store.counters
        assert len(set(self._stored)) == len(self._stored), "an event was stored twice"
        assert counters.accepted == self._made
        assert counters.delivered == len(self._stored)
        assert self._made == len(self._stored) + counters.pending + counters.in_flight, "an event was lost"


class World:
    """Senders, the network and the limiter."""

    def __init__(
        self,
        senders: Sequence[Sender],
        quota: Quota,
        rng: random.Random,
        *,
        spread: float,
        load: float | None = None,
        changes: Sequence[tuple[float, Quota]] = (),
        sample: bool = False,
    ) -> None:
        self.senders = senders
        self.quota = quota
        self.samples: list[tuple[float, list[float]]] = []
        """(time, each sender's pace), where wanted."""
        self._random = rng
        self._spread = spread
        self._load = load
        self._limiter = Limiter(quota)
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = itertools.count()
        self._alarms: dict[int, float] = {}
        for sender in senders:
            self._at(sender.starts, self._wake, sender, sender.starts)
            self._alarms[id(sender)] = sender.starts
            if load is not None:
                self._at(sender.starts, self._offer, sender)
        for time, changed in changes:
            self._at(time, self._change, changed)
        if sample:
            self._at(0.0, self._sample)

    def run(self, until: float) -> World:
        """Let time pass, then check every sender."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            now, _, action, arguments = heapq.heappop(heap)
            action(now, *arguments)
        for sender in self.senders:
            sender.check()
        return self

    def _at(self, time: float, action: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._heap, (time, next(self._count), action, arguments))

    def _wake(self, now: float, sender: Sender, alarm: float) -> None:
        if self._alarms[id(sender)] == alarm:
            self._pump(now, sender)

    def _pump(self, now: float, sender: Sender) -> None:
        while True:
            action = sender.poll(now)
            if isinstance(action, float):
                break
            half = ROUND_TRIP / 2 * math.exp(self._spread * self._random.gauss(0.0, 1.0))
            self._at(now + half, self._reach, sender, action, half)
        self._alarms[id(sender)] = action
        if action < _FAR:
            self._at(action, self._wake, sender, action)

    def _reach(self, now: float, sender: Sender, batch: Any, half: float) -> None:
        taken = self._limiter.admit(now)
        self._at(now + half, partial(self._answer, accepted=taken), sender, batch)

    def _answer(self, now: float, sender: Sender, batch: Any, *, accepted: bool) -> None:
        (sender.delivered if accepted else sender.refused).append(now)
        sender.settle(batch, accepted=accepted, retry_after=self.quota.retry_after, now=now)
        self._pump(now, sender)

    def _offer(self, now: float, sender: Sender) -> None:
        assert self._load is not None
        self._at(now + self._random.expovariate(self._load / len(self.senders)), self._offer, sender)
        sender.arrive(now)
        self._pump(now, sender)

    def _change(self, now: float, quota: Quota) -> None:
        self._limiter.change(quota, now)

    def _sample(self, now: float) -> None:
        self.samples.append((now, [sender.rate if sender.starts <= now else 0.0 for sender in self.senders]))
        self._at(now + 0.25, self._sample)

    # Figures ------------------------------------------------------------------------------------------

    def goodput(self, start: float, end: float) -> float:
        """Requests a second that were accepted."""
        return sum(between(sender.delivered, start, end) for sender in self.senders) / (end - start)

    def throttled(self, start: float, end: float) -> float:
        """The share of answers that were refusals, in percent."""
        bad = sum(between(sender.refused, start, end) for sender in self.senders)
        good = sum(between(sender.delivered, start, end) for sender in self.senders)
        return 100.0 * bad / max(1, good + bad)

    def refusals(self, start: float, end: float) -> int:
        """How many requests were refused."""
        return sum(between(sender.refused, start, end) for sender in self.senders)

    def fairness(self, start: float, end: float, window: float = 10.0) -> float:
        """Jain's index over the senders' goodput, the mean over windows."""
        indices = []
        for number in range(int((end - start) / window)):
            begin = start + number * window
            shares = [between(sender.delivered, begin, begin + window) for sender in self.senders]
            if any(shares):
                squares = sum(share * share for share in shares)
                indices.append(sum(shares) ** 2 / (len(shares) * squares))
        return sum(indices) / max(1, len(indices))


def between(times: list[float], start: float, end: float) -> int:
    """How many of the times, which are in order, lie in [start, end)."""
    return bisect_left(times, end) - bisect_left(times, start)
