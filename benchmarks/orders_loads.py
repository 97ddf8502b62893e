"""What `benchmarks.orders` records: visits with heavy tails, and busy sessions beside quiet ones.

Everything is seeded, and the same for every order.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from rumbuffer.settings import Limits

__all__ = ["LIMITS", "SECONDS", "Load", "busy_and_single", "busy_and_visits", "visits"]

LIMITS = Limits()
SECONDS = 300.0

REQUESTS_PER_VISIT = 2.3
"""What a visit needs on average where batches are sealed at the deadline; only to choose how many come."""

_MOST_EVENTS = 5_000
_TAIL = 0.8
_LONGEST = 600.0
_NEVER = -math.inf

Record = tuple[float, int]
"""When an event is recorded, and the number of its session."""


@dataclass(frozen=True)
class Load:
    """The records of one run in their order, and the tokens a second that there are for them."""

    records: list[Record]
    rate: float
    counts: list[int] = field(init=False)
    """Each session's events."""

    def __post_init__(self) -> None:
        counts = [0] * (1 + max(number for _, number in self.records))
        for _, number in self.records:
            counts[number] += 1
        object.__setattr__(self, "counts", counts)


def visits(seed: int, *, share: float, quota: float) -> Load:
    """Sessions that come at random, most with a few events and some with thousands.

    So many tokens are there that sealing at the deadline would need `share` times as many.
    """
    records = _visits(random.Random(f"visits {seed}"), 0.6 * quota, 0)
    return Load(records, requests_at_deadline(records) / SECONDS / share)


def busy_and_visits(seed: int, *, busy: float, share: float, quota: float) -> Load:
    """Visits that would need `share` of the tokens, beside sessions that fill batches for `busy` of them."""
    rng = random.Random(f"busy and visits {seed}")
    sessions = _busy_sessions(quota)
    records = _visits(rng, quota * share / REQUESTS_PER_VISIT, sessions)
    rate = requests_at_deadline(records) / SECONDS / share
    return Load(sorted(records + _busy(rng, busy * rate, sessions)), rate)


def busy_and_single(seed: int, *, busy: float, share: float, quota: float) -> Load:
    """Sessions of one event each instead of visits."""
    rng = random.Random(f"busy and single {seed}")
    sessions = _busy_sessions(quota)
    records = [(time, number) for number, time in enumerate(_poisson(rng, share * quota), sessions)]
    return Load(sorted(records + _busy(rng, busy * quota, sessions)), quota)


def requests_at_deadline(records: list[Record]) -> int:
    """How many batches there are if each takes events until it is full or its linger is over."""
    opened: dict[int, float] = {}
    fill: dict[int, int] = {}
    requests = 0
    for time, number in records:
        over = time - opened.get(number, _NEVER) >= LIMITS.linger
        if over or fill[number] == LIMITS.max_batch_events:
            opened[number], fill[number] = time, 0
            requests += 1
        fill[number] += 1
    return requests


def _busy_sessions(quota: float) -> int:
    """55 where the quota is 50."""
    return max(1, round(1.1 * quota))


def _busy(rng: random.Random, batches: float, sessions: int) -> list[Record]:
    """Events for so many full batches a second, each of any of the sessions."""
    return [(time, rng.randrange(sessions)) for time in _poisson(rng, batches * LIMITS.max_batch_events)]


def _visits(rng: random.Random, per_second: float, first: int) -> list[Record]:
    records: list[Record] = []
    for number, start in enumerate(_poisson(rng, per_second), first):
        # Pareto: two of five have a single event, one of seven ten and more, one of 250 a thousand.
        count = min(_MOST_EVENTS, int((1.0 - rng.random()) ** (-1.0 / _TAIL)))
        duration = min(_LONGEST, 30.0 * math.exp(rng.gauss(0.0, 1.0)))
        times = [start, *(start + duration * rng.random() for _ in range(count - 1))]
        records += [(time, number) for time in times if time < SECONDS]
    return sorted(records)


def _poisson(rng: random.Random, per_second: float) -> list[float]:
    times: list[float] = []
    time = rng.expovariate(per_second)
    while time < SECONDS:
        times.append(time)
        time += rng.expovariate(per_second)
    return times
