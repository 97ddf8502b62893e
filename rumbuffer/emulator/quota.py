"""The service's limiter, as a value that is asked and told the time.

What PutRumEvents is limited by is public only as a number: 50 requests a second
for an account in a region, raisable (RUM quotas page, read 2026-11-22). The
limiter's shape is not, so every plausible one is here, and a client has to cope
with all of them. Nothing in this module reads a clock: the emulator hands in
its own, a simulation hands in virtual seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

# A token that is short of 1 by rounding alone counts as whole: at 50/s a client
# that asks every 0.02 s would otherwise be refused now and then.
_ROUNDING = 1e-9

Shape = Literal["bucket", "window"]


@dataclass(frozen=True, slots=True)
class Quota:
    """How many requests the service takes, and how it refuses the rest.

    - ``rate``: requests a second, for all app monitors together.
    - ``burst``: capacity of the token bucket in requests; a window has none.
    - ``shape``: ``"bucket"``, or ``"window"``: ``rate`` requests in each second
      that begins at a whole number of the clock.
    - ``refusals_consume``: a refused request also takes what is left in the
      bucket (never below zero), so that a caller who keeps knocking faster than
      ``rate`` is refused until it slows down. In a window that is full there is
      nothing left to take.
    - ``retry_after``: seconds to name in the ``Retry-After`` header of a
      refusal; ``None`` for no header.

    Raises ``ValueError`` for numbers that make no limiter.
    """

    rate: float = 50.0
    burst: float = 50.0
    shape: Shape = "bucket"
    refusals_consume: bool = False
    retry_after: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError(f"rate must be a positive number of requests a second, not {self.rate!r}")
        if not (math.isfinite(self.burst) and self.burst >= 1):
            raise ValueError(f"burst must be at least 1 request, not {self.burst!r}")
        if self.shape not in ("bucket", "window"):
            raise ValueError(f"shape must be 'bucket' or 'window', not {self.shape!r}")
        if self.retry_after is not None and self.retry_after < 0:
            raise ValueError(f"retry_after must be None or whole seconds from 0, not {self.retry_after!r}")


class Limiter:
    """Takes or refuses requests under a `Quota`; starts with a full bucket.

    ``now`` is seconds of any clock. A clock that steps back adds no tokens.
    """

    __slots__ = ("_count", "_quota", "_tokens", "_updated", "_window")

    def __init__(self, quota: Quota, now: float = 0.0) -> None:
        self._quota = quota
        self._tokens = quota.burst
        self._updated = now
        self._window = math.floor(now)
        self._count = 0

    def __repr__(self) -> str:
        return f"<Limiter {self._quota}>"

    @property
    def quota(self) -> Quota:
        """The quota in force."""
        return self._quota

    def admit(self, now: float) -> bool:
        """Whether the request that arrives at ``now`` is within the quota."""
        if self._quota.shape == "window":
            return self._admit_in_window(now)
        self._refill(now)
        if self._tokens >= 1.0 - _ROUNDING:
            self._tokens = max(0.0, self._tokens - 1.0)
            return True
        if self._quota.refusals_consume:
            self._tokens = 0.0
        return False

    def change(self, quota: Quota, now: float) -> None:
        """Put another quota in force; tokens that were saved up stay, up to its burst."""
        self._refill(now)
        self._quota = quota
        self._tokens = min(self._tokens, quota.burst)

    def _refill(self, now: float) -> None:
        if now > self._updated:
            gained = (now - self._updated) * self._quota.rate
            self._tokens = min(self._quota.burst, self._tokens + gained)
            self._updated = now

    def _admit_in_window(self, now: float) -> bool:
        window = math.floor(now)
        if window > self._window:
            self._window = window
            self._count = 0
        # Whole requests in each window, and exactly `rate` on average: a rate of
        # 2.5 gives 2 and 3 in turn.
        rate = self._quota.rate
        allowed = math.floor(rate * (self._window + 1)) - math.floor(rate * self._window)
        if self._count >= allowed:
            return False
        self._count += 1
        return True
