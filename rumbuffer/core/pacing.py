"""Pacing: when the next request may go.

A `Pacer` is asked for the time of the next free slot, told when one is taken, and told what the
service said. `TokenBucket` is the plainest: a share of a known quota, with a burst.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["Pacer", "TokenBucket"]

_RETRY_PAUSE = 1.0
"""Seconds before a refused batch goes again where the service names no time: a quota counted per
second has a new one by then."""

_LONGEST_RETRY_AFTER = 300.0
"""Seconds; a longer `Retry-After` is taken for nonsense and cut to this."""


class Pacer(Protocol):
    """What the `Batcher` asks about time; all times are of the caller's clock, in seconds."""

    @property
    def rate(self) -> float:
        """The present pace, requests a second."""
        ...

    def next_slot(self, now: float) -> float:
        """Return the earliest time at which a request may be sent; not after `now` means now.

        Called only while something waits to be sent.
        """
        ...

    def take(self, now: float) -> None:
        """A request is sent now."""

    def delivered(self, sent_at: float, now: float) -> None:
        """The request that was sent at `sent_at` was taken by the service."""

    def throttled(self, sent_at: float, now: float, retry_after: float | None, jitter: float) -> float:
        """The request sent at `sent_at` was refused for the quota; return when it may go again.

        `retry_after` is the service's wish in seconds, `jitter` a random number in [0, 1).
        """
        ...


class TokenBucket:
    """A constant `rate` (requests a second) with up to `burst` requests saved up."""

    __slots__ = ("_at", "_burst", "_tokens", "rate")

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
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
        pause = _RETRY_PAUSE if retry_after is None else min(max(retry_after, 0.0), _LONGEST_RETRY_AFTER)
        return now + pause * (1.0 + 0.25 * jitter)

    def _refill(self, now: float) -> None:
        # A clock that jumps back gives nothing and takes nothing.
        if self._at is not None and now > self._at:
            # The tiny addend keeps a token that is due by the sum of many steps from being a rounding
            # error short of one, which would be waited for with timers of no length.
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self.rate + 1e-9)
        self._at = now if self._at is None else max(self._at, now)
