"""What the core's tests build on: two app monitors, tiny sessions and events, and a rig with a clock.

Numbers stand for time. Nothing here waits.
"""

from __future__ import annotations

import heapq
import itertools
import math
import uuid
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, field
from functools import lru_cache

from rumbuffer.core.admission import Admission
from rumbuffer.core.batcher import Batcher
from rumbuffer.core.flights import Flight
from rumbuffer.core.lanes import Lane
from rumbuffer.core.news import Fate, Waiter
from rumbuffer.core.notices import Notice
from rumbuffer.core.outcomes import Delivered, Outcome
from rumbuffer.core.pacing import TokenBucket
from rumbuffer.core.room import RoomWaiter
from rumbuffer.core.sealed import SealedBatch
from rumbuffer.core.store import Store
from rumbuffer.events import AppMonitor, Session
from rumbuffer.settings import RetryPolicy

HOME = AppMonitor("11111111-1111-4111-8111-111111111111", name="home")
OTHER = AppMonitor("22222222-2222-4222-8222-222222222222", alias="an alias")

DELIVERED = Delivered()


@lru_cache(maxsize=512)
def session(number: int, attributes: str | None = None) -> Session:
    """The session of that number, with `attributes` (a JSON text)."""
    return Session(f"{number:08x}-aaaa-4aaa-8aaa-aaaaaaaaaaaa", attributes=attributes)


def event(number: int, size: int = 0) -> bytes:
    """An event that tells its number, of `size` bytes at least."""
    text = b'{"n":%d}' % number
    return text if len(text) >= size else b'{"n":%d,"p":"%s"}' % (number, b"x" * (size - len(text) - 7))


def number_of(encoded: bytes) -> int:
    """The number that `event` was given."""
    return int(encoded[5:].split(b"}")[0].split(b",")[0])


def numbers(batch: SealedBatch) -> list[int]:
    """The numbers of a batch's events."""
    return [number_of(encoded) for encoded in batch.events]


def counting_ids() -> Callable[[], str]:
    """A source of UUIDs that count."""
    count = itertools.count(1)
    return lambda: str(uuid.UUID(int=next(count)))


def make_store(
    *,
    max_batch_events: int = 4,
    max_batch_bytes: int = 100_000,
    linger: float = 5.0,
    max_pending_bytes: int = 1_000_000,
    evicts: bool = True,
    keep_dropped: bool = True,
    sample_rate: float = 1.0,
) -> Store:
    """A store with small limits."""
    return Store(
        HOME,
        max_batch_events=max_batch_events,
        max_batch_bytes=max_batch_bytes,
        linger=linger,
        max_pending_bytes=max_pending_bytes,
        evicts=evicts,
        keep_dropped=keep_dropped,
        sample_rate=sample_rate,
    )


@dataclass
class Rig:
    """A batcher, its store, a clock, and the requests that are out."""

    store: Store = field(default_factory=make_store)
    rate: float = 1000.0
    burst: int = 100
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    max_in_flight: int = 4
    sheds: bool = False
    jitter: Callable[[], float] = lambda: 0.5
    now: float = 0.0

    def __post_init__(self) -> None:
        self.batcher = Batcher(
            self.store,
            pacer=TokenBucket(self.rate, self.burst),
            retry=self.retry,
            max_in_flight=self.max_in_flight,
            random=lambda: self.jitter(),  # noqa: PLW0108 - a test may exchange it later
            new_id=counting_ids(),
            sheds=self.sheds,
        )
        self.requests: list[tuple[float, SealedBatch]] = []
        """Every request with its time."""
        self.heard: list[Notice] = []
        self.fates: dict[Waiter, Fate] = {}
        self.granted: list[RoomWaiter] = []
        self._numbers = itertools.count(1)
        self._asked = itertools.count(1)
        self._order = itertools.count()
        self._out: list[tuple[float, int, Flight]] = []

    @property
    def home(self) -> Lane:
        """The lane of the buffer's own app monitor."""
        return self.store.home

    # Offering ---------------------------------------------------------------------------------------

    def _session(self, of: int | Session) -> Session:
        """Return the session: two times of three the same object, as callers keep one or make it anew."""
        kept = of if isinstance(of, Session) else session(of)
        return copy(kept) if next(self._asked) % 3 == 0 else kept

    def record(
        self, of: int | Session = 1, *, size: int = 0, monitor: AppMonitor = HOME, number: int | None = None
    ) -> Admission:
        """Offer an event as `record()` does."""
        encoded = event(next(self._numbers) if number is None else number, size)
        return self.store.admit(encoded, self._session(of), self.store.lane_for(monitor), self.now)

    def fill(
        self, of: int | Session = 1, count: int = 4, *, size: int = 0, monitor: AppMonitor = HOME
    ) -> None:
        """Offer several events of one session, which are accepted."""
        for _ in range(count):
            assert self.record(of, size=size, monitor=monitor)

    def put(
        self,
        of: int | Session = 1,
        *,
        size: int = 0,
        monitor: AppMonitor = HOME,
        encoded: bytes | None = None,
        room: RoomWaiter | None = None,
        waiter: Waiter | None = None,
    ) -> RoomWaiter | None:
        """Offer an event as `put()` does; with `room`, take what it was granted."""
        if encoded is None:
            encoded = event(next(self._numbers), size)
        lane = self.store.lane_for(monitor)
        return self.store.admit_waiting(room, encoded, self._session(of), lane, self.now, waiter=waiter)

    def deliver(self, of: int = 1, *, monitor: AppMonitor = HOME) -> Waiter:
        """Offer an event as `deliver()` does, where there is room."""
        waiter = Waiter()
        assert self.put(of, monitor=monitor, waiter=waiter) is None
        return waiter

    # Sending ----------------------------------------------------------------------------------------

    def send(self) -> list[Flight]:
        """Send all that may go now."""
        sent: list[Flight] = []
        while isinstance(action := self.batcher.next_action(self.now), Flight):
            self.requests.append((self.now, action.batch))
            sent.append(action)
        return sent

    def send_one(self) -> Flight:
        """Send the one request that may go now."""
        sent = self.send()
        assert len(sent) == 1, sent
        return sent[0]

    def wait(self) -> float:
        """Return until when there is nothing to send."""
        action = self.batcher.next_action(self.now)
        assert isinstance(action, float), action
        return action

    def send_next(self) -> Flight:
        """Let time go on until a request may be sent, and send it alone."""
        for _ in range(100):
            action = self.batcher.next_action(self.now)
            if isinstance(action, Flight):
                self.requests.append((self.now, action.batch))
                return action
            assert action != math.inf, "nothing will ever be sent"
            self.now = max(self.now, action)
            self.notices()
        raise AssertionError("time does not get on")

    def settle(self, flights: Flight | Iterable[Flight], outcome: Outcome) -> None:
        """Answer these requests now."""
        for flight in (flights,) if isinstance(flights, Flight) else flights:
            self.batcher.settle(flight, outcome, self.now)

    def run(
        self, answer: Callable[[SealedBatch], Outcome], *, until: float = math.inf, latency: float = 0.05
    ) -> None:
        """Send and answer, each request after `latency`, until that time or until nothing is left to do."""
        while True:
            for flight in self.send():
                heapq.heappush(self._out, (self.now + latency, next(self._order), flight))
            self.notices()
            action = self.batcher.next_action(self.now)
            assert isinstance(action, float)
            coming = min(action, self._out[0][0] if self._out else math.inf)
            if coming > until or coming == math.inf:
                self.now = self.now if until == math.inf else until
                return
            assert coming > self.now, "a timer of no length"
            self.now = coming
            while self._out and self._out[0][0] <= self.now:
                flight = heapq.heappop(self._out)[2]
                self.batcher.settle(flight, answer(flight.batch), self.now)

    def notices(self) -> list[Notice]:
        """Return, and remember, what the host hears now."""
        taken = self.store.news.take(self.now)
        self.heard += taken.notices
        self.fates.update(taken.fates)
        self.granted += taken.granted
        return taken.notices

    # Looking ----------------------------------------------------------------------------------------

    @property
    def counts(self) -> tuple[int, int, int]:
        """Events pending, in flight, delivered."""
        counters = self.store.counters
        return counters.pending, counters.in_flight, counters.delivered

    def idle(self) -> bool:
        """Tell whether nothing is left."""
        return self.counts[:2] == (0, 0)
