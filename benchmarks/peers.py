"""What others do under a quota, for comparison: botocore's `adaptive` mode, and backoff alone."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field

from botocore.exceptions import CapacityNotAvailableError
from botocore.retries.adaptive import RateClocker
from botocore.retries.bucket import TokenBucket
from botocore.retries.throttling import CubicCalculator

from benchmarks.simulation import SLOTS
from rumbuffer.core.retry import backoff

__all__ = ["AdaptiveSender", "BackoffSender"]

_FAR = math.inf


@dataclass
class BackoffSender:
    """32 callers that are always ready; each repeats what was refused after backoff with full jitter."""

    random: random.Random
    starts: float = 0.0
    delivered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    rate: float = 0.0
    lost: int = 0
    out: dict[int, int] = field(default_factory=dict)
    held: list[tuple[float, int, int]] = field(default_factory=list)
    made: int = 0

    def arrive(self, now: float) -> None:
        """Always ready."""

    def allowed_at(self, now: float) -> float:
        """When the next request may go."""
        return now

    def poll(self, now: float) -> int | float:
        if self.held and self.held[0][0] <= now:
            if (at := self.allowed_at(now)) > now:
                return at
            _, batch, failures = heapq.heappop(self.held)
        elif len(self.out) + len(self.held) < SLOTS:
            if (at := self.allowed_at(now)) > now:
                return at
            self.made += 1
            batch, failures = self.made, 0
        else:
            return self.held[0][0] if self.held else _FAR
        self.out[batch] = failures
        return batch

    def settle(self, batch: int, *, accepted: bool, retry_after: float | None, now: float) -> None:
        failures = self.out.pop(batch) + 1
        if not accepted:
            delay = backoff(failures, 0.2, 30.0, self.random.random())
            heapq.heappush(self.held, (now + delay, batch, failures))

    def check(self) -> None:
        """Peers may lose what they like; it is counted."""


class _Clock:
    """The time, for botocore's parts, which ask a clock."""

    def __init__(self, now: float) -> None:
        self.now = now

    def current_time(self) -> float:
        return self.now


class AdaptiveSender(BackoffSender):
    """botocore's `adaptive` mode: its own token bucket, CUBIC calculator and rate clock (1.43).

    What ties them together follows its `ClientRateLimiter` and `standard` retries: 3 attempts, random
    x 2^i seconds between them, and a retry quota of 500 at 5 a retry.
    """

    ATTEMPTS = 3

    def __init__(self, random: random.Random, starts: float = 0.0) -> None:
        super().__init__(random, starts)
        self._clock = _Clock(starts)
        self._cubic = CubicCalculator(starting_max_rate=0, start_time=starts)
        self._bucket = TokenBucket(max_rate=1, clock=self._clock)
        self._clocker = RateClocker(self._clock)
        self._enabled = False
        self._retry_quota = 500

    def allowed_at(self, now: float) -> float:
        self._clock.now = now
        if not self._enabled:
            return now
        try:
            self._bucket.acquire(1, block=False)
        except CapacityNotAvailableError:
            # A microsecond, lest rounding asks again at the same moment.
            return now + float(1 - self._bucket.available_capacity) / float(self._bucket.max_rate) + 1e-6
        return now

    def settle(self, batch: int, *, accepted: bool, retry_after: float | None, now: float) -> None:
        self._clock.now = now
        measured = self._clocker.record()
        if accepted:
            rate = self._cubic.success_received(now)
        else:
            usable = min(measured, self._bucket.max_rate) if self._enabled else measured
            rate = self._cubic.error_received(usable, now)
            self._enabled = True
        self._bucket.max_rate = min(rate, 2.0 * measured)
        self.rate = float(self._bucket.max_rate)
        failures = self.out.pop(batch) + 1
        if accepted:
            self._retry_quota = min(500, self._retry_quota + (5 if failures > 1 else 1))
        elif failures >= self.ATTEMPTS or self._retry_quota < 5:
            self.lost += 1
        else:
            self._retry_quota -= 5
            delay = min(20.0, self.random.random() * 2.0 ** (failures - 1))
            heapq.heappush(self.held, (now + delay, batch, failures))
