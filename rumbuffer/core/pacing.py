"""Pacing: when the next request may go.

A `Pacer` is asked for the time of the next free slot, told when one is taken, and told what the
service said. `QuotaPacer` is the one that buffers use; how it learns is written at the head of
`pace`. `TokenBucket` is the plainest: a constant rate with a burst.

Where the pace is kept is a `Ledger`'s business: in the pacer's own memory, or in a file that all
processes of a host share (`rumbuffer.hostshare`). A sender *reserves* its slot there and then waits for
it, so that none is starved by faster ones and a sender that dies leaves at most one slot unused.
"""

from __future__ import annotations

import math
from typing import Protocol

from rumbuffer.core.pace import Pace, pauses

__all__ = ["Ledger", "OwnLedger", "Pacer", "QuotaPacer", "TokenBucket"]

_ASK_AGAIN = 0.001
"""Seconds until a ledger that somebody else writes is tried again; they take some microseconds."""

_MISSED_BY = 2.0
_MISSED_AFTER = 0.25
"""A slot that was not used for so many intervals and so many seconds is lost. It is one slot for each
sender, so a busy machine's lateness makes no burst; lost at once, it would cost throughput there."""

_SAME_TURN = 0.005
"""Seconds within which a request for a slot follows upon the last one by the same turn of a pump."""

_RETRY_PAUSE = 1.0
"""Seconds before a batch that a `TokenBucket` sent goes again where the service names no time: a quota
counted per second has a new one by then."""

_NEVER = float("-inf")


class Pacer(Protocol):
    """What the `Batcher` asks about time; all times are of the caller's clock, in seconds."""

    @property
    def rate(self) -> float:
        """The present pace, requests a second."""
        ...

    def next_slot(self, now: float) -> float:
        """Return the earliest time at which a request may be sent; not after `now` means now.

        Called only while something waits to be sent, which is what a pacer knows of demand.
        """
        ...

    def take(self, now: float) -> None:
        """A request is sent now; `next_slot` has just allowed it."""

    def delivered(self, sent_at: float, now: float) -> None:
        """The request that was sent at `sent_at` was taken by the service."""

    def throttled(self, sent_at: float, now: float, retry_after: float | None, jitter: float) -> float:
        """The request sent at `sent_at` was refused for the quota; return when it may go again.

        `retry_after` is the service's wish in seconds, `jitter` a random number in [0, 1).
        """
        ...


class Ledger(Protocol):
    """Where a `Pace` is kept. `begin` lends it, for changes that `commit` makes known to all."""

    def begin(self, now: float) -> Pace | None:
        """Return the pace as it is, or `None` while somebody else has it. Does not wait."""
        ...

    def commit(self) -> None:
        """Give back what `begin` returned."""
        ...


class OwnLedger:
    """A pace that nobody else sees."""

    __slots__ = ("_pace",)

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def begin(self, now: float) -> Pace | None:
        """Return the pace."""
        return self._pace

    def commit(self) -> None:
        """Nobody else needs to know."""


class QuotaPacer:
    """Keeps to a known quota, and below it to what the service's refusals teach.

    `ceiling` is the known quota's share in requests a second, or `None` where the quota is unknown.
    """

    __slots__ = (
        "_ceiling",
        "_cut_at",
        "_in_doubt",
        "_late",
        "_ledger",
        "_refusals",
        "_reserved_at",
        "_slot",
        "_taken_at",
        "rate",
    )

    def __init__(self, ceiling: float | None, burst: float, ledger: Ledger | None = None) -> None:
        self._ceiling = math.inf if ceiling is None else ceiling
        pace = Pace(self._ceiling, burst)
        self._ledger: Ledger = OwnLedger(pace) if ledger is None else ledger
        self.rate: float = pace.rate
        self._slot: float | None = None
        self._reserved_at = self._taken_at = _NEVER
        self._late = 0.0
        self._cut_at = _NEVER
        self._in_doubt = False
        self._refusals: list[tuple[float, float, float]] = []  # those that the ledger has not heard of

    def next_slot(self, now: float) -> float:
        """Return the time of the reserved slot; reserve one if there is none, or it was missed.

        When the slot's time has come, the ledger is asked once more: a cut that somebody made in the
        meantime voids it. (Sixteen slots used at the old pace after a cut would be sixteen refusals.)
        """
        slot = self._slot
        # A slot that was reserved by a clock which has been set back since is none.
        if (
            slot is None
            or now < self._reserved_at
            or now - slot >= max(_MISSED_BY / self.rate, _MISSED_AFTER)
        ):
            slot = None
        elif slot > now or now == self._reserved_at:
            return slot
        pace = self._begin(now)
        if pace is None:
            return now + _ASK_AGAIN
        if slot is not None and self._slot is not None and pace.still_holds(self._reserved_at):
            self._commit(pace)
            return slot
        late = self._late if now - self._taken_at <= _SAME_TURN else 0.0
        slot = pace.reserve(now, self._ceiling, late)
        self._commit(pace)
        self._slot, self._reserved_at = slot, now
        return slot

    def take(self, now: float) -> None:
        """Use up the reserved slot."""
        if self._slot is not None:
            self._late = max(0.0, now - self._slot)
            self._taken_at = now
            self._slot = None

    def delivered(self, sent_at: float, now: float) -> None:
        """Take note, if it answers the question whether the last cut was deep enough."""
        if self._in_doubt and sent_at >= self._cut_at and (pace := self._begin(now)) is not None:
            pace.delivered(sent_at)
            self._commit(pace)

    def throttled(self, sent_at: float, now: float, retry_after: float | None, jitter: float) -> float:
        """Cut the pace, at most once in a round trip; hold the batch back for `Retry-After`."""
        hold, freeze = pauses(retry_after, jitter)
        self._refusals.append((sent_at, now, freeze))
        pace = self._begin(now)
        if pace is not None:
            self._commit(pace)
        return now + hold

    def _begin(self, now: float) -> Pace | None:
        """Open the ledger and enter the refusals that it has not heard of."""
        pace = self._ledger.begin(now)
        if pace is not None and self._refusals:
            last_cut_at = pace.cut_at
            for sent_at, refused_at, freeze in self._refusals:
                pace.refused(sent_at, refused_at, self._ceiling, freeze)
            self._refusals.clear()
            if pace.cut_at != last_cut_at:
                self._slot = None  # it is void, and so is the wait for it
        return pace

    def _commit(self, pace: Pace) -> None:
        self.rate = min(pace.rate, self._ceiling)
        self._cut_at = pace.cut_at
        self._in_doubt = pace.in_doubt
        self._ledger.commit()


class TokenBucket:
    """A constant `rate` (requests a second) with up to `burst` requests saved up."""

    __slots__ = ("_at", "_burst", "_tokens", "rate")

    def __init__(self, rate: float, burst: float) -> None:
        self.rate: float = rate
        self._burst = burst
        self._tokens = burst
        self._at: float | None = None

    def next_slot(self, now: float) -> float:
        """Return when a whole token is there."""
        self._refill(now)
        return now if self._tokens >= 1.0 else now + (1.0 - self._tokens) / self.rate

    def take(self, now: float) -> None:
        """Spend a token; spending one that is not there makes the next wait longer."""
        self._refill(now)
        self._tokens -= 1.0

    def delivered(self, sent_at: float, now: float) -> None:
        """Nothing to learn: the rate is given."""

    def throttled(self, sent_at: float, now: float, retry_after: float | None, jitter: float) -> float:
        """Hold the refused batch back for `Retry-After`, or a second, stretched by up to a quarter."""
        return now + pauses(_RETRY_PAUSE if retry_after is None else retry_after, jitter)[0]

    def _refill(self, now: float) -> None:
        # A clock that jumps back gives nothing and takes nothing.
        if self._at is not None and now > self._at:
            # The tiny addend keeps a token that is due by the sum of many steps from being a rounding
            # error short of one, which would be waited for with timers of no length.
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self.rate + 1e-9)
        self._at = now if self._at is None else max(self._at, now)
