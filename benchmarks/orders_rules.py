"""The orders that `benchmarks.orders` compares: what the next token is spent on.

Each is the library's own `Chooser` with another choice of the open batch, and nothing else changed. Where
an order needs more than the lanes keep, it looks at every batch, which no server could afford: only what
it would give is of interest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from rumbuffer.core.choice import Chooser
from rumbuffer.core.flights import Flight
from rumbuffer.core.lanes import OpenBatch

__all__ = ["ORDERS", "OURS", "AtDeadline"]

_FAR = math.inf

OURS = "the library's"


class Order(Chooser):
    """An order among the due batches of the one app monitor that a run has."""

    def _due_batch(self, now: float) -> tuple[OpenBatch | None, float]:
        store = self._store
        oldest = store.home.oldest
        if oldest is None:
            return None, _FAR
        due_at = oldest.opened + store.linger
        if not store.home.full and due_at > now:
            return None, due_at
        if self._pacer.next_slot(now) > now:
            return oldest, now  # something is due; what it is, is asked when the token is there
        return self.best(now), now

    def best(self, now: float) -> OpenBatch:
        """Return the batch to seal; one at least is due."""
        raise NotImplementedError

    def due(self, now: float) -> Iterator[OpenBatch]:
        """Go through all that is due: in the order of opening, then what is full before its time."""
        linger = self._store.linger
        batch = self._store.home.oldest
        while batch is not None and batch.opened + linger <= now:
            yield batch
            batch = batch.newer
        for full in self._store.home.full.values():
            if full.opened + linger > now:
                yield full

    def oldest_full(self) -> OpenBatch | None:
        return self._store.home.oldest_full()

    def oldest_quiet(self, now: float) -> OpenBatch | None:
        """Return the oldest that is due and may still fill."""
        return next((batch for batch in self.due(now) if not batch.closed), None)


class AtDeadline(Order):
    """Sealed when full or when the linger is over, whatever there is to send it with; then a FIFO."""

    def seal_what_is_due(self, now: float) -> None:
        """It takes no more events from now on, and stands in line behind what was due before."""
        while (batch := self.oldest_quiet(now)) is not None:
            batch.closed = True
            self._store.home.full[batch.seq] = batch

    def best(self, now: float) -> OpenBatch:
        self.seal_what_is_due(now)
        batch = self.oldest_full()
        assert batch is not None
        return batch


class OldestFirst(Order):
    """The batch that was opened first, full or not."""

    def best(self, now: float) -> OpenBatch:
        return min(filter(None, (self.oldest_full(), self.oldest_quiet(now))), key=lambda batch: batch.seq)


class FullFirst(Order):
    """The batch that has been full for longest; one token in `every` goes to the oldest that is not."""

    every: float = _FAR

    def best(self, now: float) -> OpenBatch:
        full = self.oldest_full()
        quiet = self.oldest_quiet(now)
        if full is None or (quiet is not None and self._turn % self.every == 0.0 and self.every < _FAR):
            assert quiet is not None
            return quiet
        return full


class OneInTwo(FullFirst):
    every = 2.0


class OneInFour(FullFirst):
    every = 4.0


class OneInEight(FullFirst):
    every = 8.0


class MostFull(Order):
    """The batch with the most events; of several the oldest."""

    def best(self, now: float) -> OpenBatch:
        return max(self.due(now), key=lambda batch: (len(batch.events), -batch.seq))


class FillTimesAge(Order):
    """The largest product of events and age of the first: about the sum of the events' waiting.

    In data broadcasting, where one transmission serves all who wait for it, this is known as R x W (Aksoy
    and Franklin, 1998).
    """

    def best(self, now: float) -> OpenBatch:
        return max(self.due(now), key=lambda batch: (len(batch.events) * (now - batch.opened), -batch.seq))


class QuietByRootOfFill(OneInFour):
    """Full batches as the library has them; of the others the largest age x root of events."""

    def best(self, now: float) -> OpenBatch:
        batch = super().best(now)
        full = self._store.home.full
        if batch.seq in full:
            return batch
        return max(
            (batch for batch in self.due(now) if batch.seq not in full),
            key=lambda batch: (math.sqrt(len(batch.events)) * (now - batch.opened), -batch.seq),
        )


class RoundRobin(Order):
    """The session that was served least recently, those that never were first."""

    def best(self, now: float) -> OpenBatch:
        served = self._served
        return min(self.due(now), key=lambda batch: (served.get(batch.session.key, -1), batch.seq))

    def chosen(self, flight: Flight, *, newly_sealed: bool, now: float) -> None:
        super().chosen(flight, newly_sealed=newly_sealed, now=now)
        if newly_sealed:
            self._served[flight.session.key] = self._turn

    @property
    def _served(self) -> dict[str, int]:
        served: dict[str, int] = self.__dict__.setdefault("served", {})
        return served


ORDERS: dict[str, type[Chooser]] = {
    OURS: Chooser,
    "sealed at the deadline": AtDeadline,
    "oldest first": OldestFirst,
    "round robin": RoundRobin,
    "full first alone": FullFirst,
    "most full first": MostFull,
    "events x age": FillTimesAge,
    "one in 2 not full": OneInTwo,
    "one in 4": OneInFour,
    "one in 8": OneInEight,
    "one in 4 by age x √events": QuietByRootOfFill,
}
