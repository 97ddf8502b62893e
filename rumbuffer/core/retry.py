"""Retrying: how long to wait after a failure, and how many retries are fair.

Backoff is exponential with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter",
2015): the delay is uniform between 0 and the doubled base, so that senders which failed together do
not come back together. The budget follows Finagle's: retries are a share of first tries, with a
small allowance per second so that a quiet buffer can retry at all.
"""

from __future__ import annotations

__all__ = ["RetryBudget", "backoff"]

_MOST_DOUBLINGS = 30

_CREDIT_MAX = 100.0
_CREDIT_AT_START = 10.0
_CREDIT_PER_SECOND = 1.0


def backoff(failures: int, base: float, longest: float, jitter: float) -> float:
    """Return the delay (seconds) before the next try after `failures` ≥ 1 failures; jitter in [0, 1)."""
    return jitter * float(min(longest, base * 2 ** min(failures - 1, _MOST_DOUBLINGS)))


class RetryBudget:
    """Credit for retries: `share` for each first try, one a second besides, at most 100."""

    __slots__ = ("_at", "_credit", "_share")

    def __init__(self, share: float) -> None:
        self._share = share
        self._credit = _CREDIT_AT_START
        self._at: float | None = None

    def earn(self) -> None:
        """A first try was sent."""
        self._credit = min(_CREDIT_MAX, self._credit + self._share)

    def has_credit(self, now: float) -> bool:
        """Tell whether a retry has been earned."""
        if self._at is not None and now > self._at:
            self._credit = min(_CREDIT_MAX, self._credit + (now - self._at) * _CREDIT_PER_SECOND)
        self._at = now if self._at is None else max(self._at, now)
        return self._credit >= 1.0

    def spend(self) -> None:
        """A retry was sent; one that had no credit leaves none."""
        self._credit = max(0.0, self._credit - 1.0)
