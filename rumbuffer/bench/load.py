"""The load: when events arrive, in whose session, and how large they are.

**Arrivals are planned** (an open loop): event n has its time whatever the buffer or the machine does, so
that a stall delays what was due in it and hides nothing (no "coordinated omission"). They are a Poisson
process whose intensity is the rate: constant, or a straight ramp. It is made by taking the times of a
process of intensity 1 through the inverse of the expected count, which is exact for ramps, too.

**Sessions are heavy-tailed.** A fixed number of them is live at once and each event goes to any of them,
all alike; one that has had its events is followed by a new one. The number of a session's events is
Pareto's, cut at both ends: P(n or more) = (fewest / n) ** tail up to `most`. With the defaults half of the
sessions have 8 events or fewer and one in a hundred has 600, as in `rumbuffer demo`. The first sessions
are begun already: what is left of them follows the distribution that the pool settles into, so that a run
needs no time to get there.

**Sizes** are those of the details' JSON text: all the same, or spread evenly over the orders of magnitude
between two bounds (log-uniform). The text in them is made of words, so that compression finds what it would
find in real events.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, TypeAlias

from rumbuffer.errors import InvalidSetting
from rumbuffer.events import Session

__all__ = ["AT_BASE", "EVENT_TYPE", "Arrivals", "Lengths", "Load", "LoadSettings", "Spacing", "settling"]

EVENT_TYPE = "com.example.bench"

AT_BASE = 10**15
"""Added to the planned time in an event's details, so that it has 16 digits whenever it is."""

SMALLEST_DETAILS = 60
"""Bytes; what the planned time and the names of the members take."""

_TEMPLATES = 64
_WORDS = (
    "basket button category checkout coupon delivery discount filter item list offer order page payment "
    "price product quantity rating result review scroll search shipping size stock sum tea total view wish"
).split()

Spacing: TypeAlias = Literal["poisson", "even"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """What is offered. Rates in events a second, times in seconds, sizes in bytes.

    `rate` holds during the `warmup`; from there on it goes straight to `last_rate` in `seconds`. What is
    measured is what was planned after the warm-up. Raises `InvalidSetting`.
    """

    rate: float = 500.0
    last_rate: float = 500.0
    seconds: float = 30.0
    warmup: float = 10.0
    spacing: Spacing = "poisson"
    sessions: int = 300
    fewest: int = 4
    most: int = 600
    tail: float = 0.9
    smallest: int = 300
    largest: int = 300
    metadata: int = 4
    seed: int = 1

    def __post_init__(self) -> None:
        _at_least("rate", self.rate, 0.001)
        _at_least("last_rate", self.last_rate, 0.001)
        _at_least("seconds", self.seconds, 0.1)
        _at_least("warmup", self.warmup, 0.0)
        _at_least("sessions", self.sessions, 1)
        _at_least("fewest", self.fewest, 1)
        _at_least("most", self.most, self.fewest)
        _at_least("tail", self.tail, 0.01)
        _at_least("smallest", self.smallest, SMALLEST_DETAILS)
        _at_least("largest", self.largest, self.smallest)
        _at_least("metadata", self.metadata, 0)

    @property
    def end(self) -> float:
        """When the last event may arrive (seconds from the start of the warm-up)."""
        return self.warmup + self.seconds


def settling(linger: float, sessions: int, pace: float | None) -> float:
    """Seconds until every session that is live at the start has had its turn.

    `pace` is the requests a second that are allowed; None where that is not known.
    """
    return linger + (0.0 if pace is None else sessions / pace)


def _at_least(name: str, value: float, lowest: float) -> None:
    if not lowest <= value < 1e9:
        raise InvalidSetting(name, f"must be a number of at least {lowest:g}", f"{value:g}")


class Arrivals:
    """The times of the events, one after the other; `at` is the next."""

    __slots__ = ("_end", "_expected", "_random", "_settings", "_total", "at")

    def __init__(self, settings: LoadSettings, source: random.Random) -> None:
        self._settings = settings
        self._random = source
        self._expected = 0.0
        self._end = settings.end
        self._total = self.expected(settings.end)
        self.at: float = 0.0
        self.advance()

    def advance(self) -> None:
        """Go on to the next; after the end its time is infinite."""
        even = self._settings.spacing == "even"
        self._expected += 1.0 if even else self._random.expovariate(1.0)
        self.at = self._when(self._expected) if self._expected < self._total else math.inf

    def rate_at(self, seconds: float) -> float:
        """The rate that is planned for a time, events a second; 0 after the end."""
        load = self._settings
        if seconds > load.end:
            return 0.0
        share = max(0.0, seconds - load.warmup) / load.seconds
        return load.rate + (load.last_rate - load.rate) * share

    def expected(self, seconds: float) -> float:
        """How many events are expected until a time."""
        load = self._settings
        ramp = max(0.0, min(seconds, load.end) - load.warmup)
        growth = (load.last_rate - load.rate) / load.seconds
        return load.rate * (min(seconds, load.warmup) + ramp) + growth * ramp * ramp / 2.0

    def _when(self, expected: float) -> float:
        """The inverse of `expected`."""
        load = self._settings
        past = expected - load.rate * load.warmup
        if past <= 0.0:
            return expected / load.rate
        growth = (load.last_rate - load.rate) / load.seconds
        root = math.sqrt(max(0.0, load.rate * load.rate + 2.0 * growth * past))
        return min(load.warmup + 2.0 * past / (load.rate + root), self._end)


class Lengths:
    """How many events a session has; `longer[n - 1]` is the share of those with n or more."""

    def __init__(self, fewest: int, most: int, tail: float) -> None:
        self.fewest: int = fewest
        self.most: int = most
        self.tail: float = tail
        self.longer: Sequence[float] = [
            1.0 if n <= fewest else (fewest / n) ** tail for n in range(1, most + 1)
        ]
        self._left = list(accumulate(self.longer))

    @property
    def mean(self) -> float:
        """Events in a session."""
        return self._left[-1]

    def whole(self, source: random.Random) -> int:
        """The length of a new session."""
        return min(self.most, int(self.fewest * source.paretovariate(self.tail)))

    def left(self, source: random.Random) -> int:
        """What is left of a session that is met at any moment: P(n) is proportional to P(n or more)."""
        return bisect_left(self._left, source.random() * self._left[-1]) + 1


@dataclass(slots=True)
class _Visit:
    """A live session, and how many events of it are to come."""

    session: Session
    left: int


class Load:
    """The whole plan: `at` is the next event's time, and `take()` says what it is."""

    def __init__(self, settings: LoadSettings) -> None:
        source = random.Random(settings.seed)
        self.settings: LoadSettings = settings
        self.arrivals: Arrivals = Arrivals(settings, random.Random(source.getrandbits(64)))
        self.metadata: dict[str, Any] | None = _metadata(settings.metadata)
        self.sessions_begun: int = settings.sessions
        self._details = [_details(size, source) for size in _sizes(settings, source)]
        self._random = source
        self._lengths = Lengths(settings.fewest, settings.most, settings.tail)
        self._live = [_Visit(Session.new(), self._lengths.left(source)) for _ in range(settings.sessions)]

    @property
    def at(self) -> float:
        """When the next event arrives, seconds from the start of the warm-up; infinite after the last."""
        return self.arrivals.at

    def take(self) -> tuple[Session, dict[str, Any]]:
        """Return the event's session and details. The details are lent until the next call."""
        at, source = self.arrivals.at, self._random.random
        visit = self._live[int(source() * len(self._live))]
        session = visit.session
        visit.left -= 1
        if not visit.left:
            visit.session, visit.left = Session.new(), self._lengths.whole(self._random)
            self.sessions_begun += 1
        details = self._details[int(source() * _TEMPLATES)]
        details["at"] = AT_BASE + int(at * 1e6)
        self.arrivals.advance()
        return session, details

    def skip(self, until: float) -> int:
        """Pass over what arrives until a time, and return how many that is."""
        count = 0
        while self.arrivals.at <= until:
            self.arrivals.advance()
            count += 1
        return count


def _sizes(settings: LoadSettings, source: random.Random) -> list[int]:
    """The templates' sizes: evenly spaced on a logarithmic scale, in random order."""
    ratio = settings.largest / settings.smallest
    sizes = [round(settings.smallest * ratio ** ((n + 0.5) / _TEMPLATES)) for n in range(_TEMPLATES)]
    source.shuffle(sizes)
    return sizes


def _details(size: int, source: random.Random) -> dict[str, Any]:
    """Details whose JSON text has `size` bytes. `at` comes first, where it is quickly found again."""
    details: dict[str, Any] = {"at": AT_BASE, "kind": source.choice(_WORDS)[:4], "text": ""}
    bare = len('{"at":1000000000000000,"kind":"","text":""}') + len(details["kind"])
    text: list[str] = []
    length = 0
    while length < size - bare:
        text.append(source.choice(_WORDS))
        length += len(text[-1]) + 1
    details["text"] = " ".join(text).ljust(size - bare)[: size - bare]
    return details


def _metadata(members: int) -> dict[str, Any] | None:
    if not members:
        return None
    known: dict[str, Any] = {"version": "1.0.0", "domain": "shop.example.com", "browserName": "Chrome"}
    custom = {f"attribute_{n}": f"value {n}" for n in range(1, members + 1)}
    return dict(list((known | custom).items())[:members])
