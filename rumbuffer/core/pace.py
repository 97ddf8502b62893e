"""The pace: what is known about the quota, and the rules by which it changes.

Theory of operation
-------------------
A quota sends no signal before its 429: latency does not rise. So the *rate* is steered, and only
refusals steer it. A `Pace` is the whole state of that control, a dozen numbers without an owner: one
process keeps its own, or all processes of a host share one (see `pacing.Ledger`). Whoever wants to
send reserves the next slot (`reserve`), and whoever is refused says so (`refused`).

**Slots** are spaced evenly by GCRA: a reservation moves `due` on by one interval, so that N senders
are served in turn, and after a pause one slot may come half an interval early, not more. The start under
a known quota may spend a burst, as an advance on the slots that follow: beside them it would be too much
for a quota that is counted by the second. A refusal of that burst ends it and says nothing about the rate.

**A cut** is taken for a refusal of a request that was sent after the last cut, which makes it at most
one in a round trip. It voids all reservations. It is shallow (x 0.91), because the refusals of many
senders hit each in proportion to its rate, and the unfairness that remains grows with the depth of a cut.
A second cut within half a second, or before anything is delivered, means that the quota fell or a crowd
came, and is deeper (x 0.7). At the ceiling of a known quota a first refusal is mostly the network's doing
(requests that bunch up at a window's edge): x 0.97. Sending rests for a tenth of a second after a cut,
doubled with each cut until something is delivered: where refusals consume tokens, or a window is used up,
going on at once is refused again.

**Growth** is by the share c / sqrt(rate) a second: 0.7 % at 50 requests a second, 2.8 % at 3. What N
uncoordinated senders have refused is growth / depth of cut, times N / quota; a constant share converges
too slowly for 4 senders, and a constant addend has too much refused for 16. Two terms are added: after a
slow start one that dies away with a time constant of 10 s, and to a third with each cut, so that a late
joiner finds its place while the others hardly move; and one that sets in 19 s after the last cut and
rises, so that a quota that was doubled is found. A lone sender's cycle is mostly shorter than that.

**Demand**: the rate grows only while requests have been waiting for slots for a second without a gap.
So an hour of idleness, a slept laptop and a load below the quota change nothing, and bursts of a load
that the quota can bear do not either.

**Unknown quota**: the rate starts at 10 a second and doubles each second up to 50, the service's
default; from there on it grows by 15 % a second, until the first refusal, which cuts it to 0.6.

**Retry-After** comes in whole seconds, and a second without sending costs 50 requests. So it holds back
the refused batch alone. All sending freezes for it where it exceeds 5 s, or when nothing was delivered
between two cuts. All waits are stretched by a random part, lest all senders come back together.

Every time is the caller's clock in seconds. Nothing here trusts it: times that lie further ahead than
a reservation can (a clock set back, a record from before a reboot) are brought back to now.

Simulated (benchmarks/pacing.py; token bucket 50/s, burst 50, unknown quota; throttled % / Jain):
4 senders 1.3 / .96, 8 senders 3.0 / .94, 16 senders 7.2 / .95, each at 100 % of the quota. Tried and
dropped: deeper cuts (x 0.84: a tenth fewer refusals, Jain .93); a quick return to just below the last
rate (CUBIC's: more refused, less fair); measuring one's share between two cuts (no better than the rate);
late growth from 8 s on (Jain -.015: it carries the lucky away); slots that outlive another's cut (16
senders on a host: 70 % of the quota); a tolerance of a whole interval (429s at 80 % load, window).
"""

from __future__ import annotations

import math
from operator import attrgetter
from typing import ClassVar

__all__ = ["Pace"]

LONGEST_WAIT = 60.0
"""Seconds. A longer `Retry-After` is cut to this: trying too early costs one request, and an hour's
wait that was a mistake costs an hour."""

_START_RATE = 10.0
_DEFAULT_QUOTA = 50.0
_DOUBLING = math.log(2.0)
_BEYOND_DEFAULT = 0.15
_FIRST_CUT = 0.6

_CUT = 0.91
_SECOND_CUT = 0.7
_SECOND_CUT_WITHIN = 0.5
_MILD_CUT = 0.97
_MILD_CUT_AFTER = 5.0
_LOWEST_RATE = 0.2
"""Requests a second: one in five seconds is sent to see whether the quota is back, whatever happened."""

_FASTEST = 1e15

_REST = 0.1
_MOST_DOUBLINGS = 4

_GROWTH = 0.048
_START_GROWTH = 0.1
_START_GROWTH_FADES = 10.0
_START_AGES = 10.0
"""Seconds by which a cut ages the start: a third of that growth is left. Who is alone is cut soon
and has found the quota; a late joiner's rate is low, and refusals hit it seldom."""

_LATE_AFTER = 19.0
_LATE_GROWTH = 0.06
_LATE_GROWTH_MAX = 0.3

_TOLERANCE = 0.5
"""Intervals by which a slot may come early after a pause. With a whole one, 98 % of a quota that is
counted by the second would put 51 requests into a second now and then."""

_EASY = 0.96
_EASY_FOR = 5.0
"""The share of a known quota's pace at which the first seconds of a spell of demand are worked off. At
80 % load spells are over by then, and not one 429 comes of them; lasting demand gets the whole pace. The
start burst is paid back, and demand that follows upon it gets the whole pace at once."""

_WAITING_FOR = 1.0
_WAITING_AT_START = 0.1
"""Seconds of unbroken demand that come before growth. At 80 % load with random arrivals, busy spells
last a tenth of a second."""

_FREEZE_ABOVE = 5.0
_RETRY_PAUSE = 0.2
"""Seconds that a refused batch is held back where the service names no time."""

_STRETCH_MAX = 1.25
_LONGEST_LEAD = 1.0
_SLOTS_AHEAD = 256
"""Senders that can stand in line: a slot further ahead than this many intervals is a clock's mistake."""

_LONG_AGO = -1e12


class Pace:
    """The state that paces one sender, or all senders of a host. All its fields are floats."""

    __slots__ = (
        "age",
        "burst",
        "burst_at",
        "cut_at",
        "cuts",
        "due",
        "frozen_until",
        "grown_at",
        "rate",
        "started_at",
        "used_at",
        "waiting_since",
    )

    def __init__(self, ceiling: float, burst: float) -> None:
        self.start(ceiling, burst)

    def start(self, ceiling: float, burst: float) -> None:
        """Begin anew: at the ceiling with a burst, or slowly where there is none (infinity)."""
        known = ceiling < math.inf
        self.rate: float = ceiling if known else _START_RATE
        """Requests a second, as learned."""
        self.burst: float = burst if known else 0.0
        """What is left of the start burst."""
        self.burst_at: float = _LONG_AGO
        """When it was last drawn on."""
        self.due: float = _LONG_AGO
        """When the slot after the next comes up (GCRA's theoretical arrival time)."""
        self.used_at: float = _LONG_AGO
        """When a slot was last reserved."""
        self.waiting_since: float = 0.0
        """Since when somebody has been waiting for a slot at every moment."""
        self.grown_at: float = _LONG_AGO
        self.started_at: float = _LONG_AGO if known else math.inf
        """When a slow start ended, with the first refusal; infinite until then."""
        self.cut_at: float = _LONG_AGO
        """When the last cut was; slots that had been reserved before are void."""
        self.cuts: float = 0.0
        """Cuts since a request that was sent after one was last delivered."""
        self.age: float = 0.0
        """Seconds of demand since the last cut."""
        self.frozen_until: float = _LONG_AGO

    # Kept elsewhere -----------------------------------------------------------------------------------

    values: ClassVar[attrgetter[tuple[float, ...]]] = attrgetter(*__slots__)
    """Return the fields in the order of `__slots__`, for `restore`."""

    def restore(self, values: tuple[float, ...]) -> bool:
        """Set the fields to what `values` returned; tell whether they make sense."""
        for name, value in zip(Pace.__slots__, values, strict=True):
            setattr(self, name, value)
        limited = (value for name, value in zip(Pace.__slots__, values, strict=True) if name != "started_at")
        return (
            all(map(math.isfinite, limited))
            and not math.isnan(self.started_at)
            and 0.0 < self.rate < _FASTEST
            and min(self.burst, self.cuts, self.age) >= 0.0
        )

    # Slots --------------------------------------------------------------------------------------------

    def reserve(self, now: float, ceiling: float, late: float = 0.0) -> float:
        """Take the next slot and return its time.

        `late` tells by how much the caller's last slot was missed, if it comes straight from there:
        then the gap is no lack of demand.
        """
        self._mend(now)
        if self.due + late < now:
            self.waiting_since = now
        self._grow(now, ceiling)
        self.used_at = now
        if self.burst >= 1.0:
            self.burst -= 1.0
            self.burst_at = now
            self.due = max(self.due, now) + 1.0 / min(self.rate, ceiling)
            self.waiting_since = min(self.waiting_since, now - _EASY_FOR)
            return now
        share = 1.0 if now - self.waiting_since >= _EASY_FOR else _EASY
        interval = 1.0 / min(self.rate, ceiling * share)
        slot = max(now, self.due - _TOLERANCE * interval, self.frozen_until)
        # A late pump may make up for one interval.
        self.due = max(self.due, slot - min(late, interval)) + interval
        return slot

    def _mend(self, now: float) -> None:
        """Bring back what a clock's jump has put out of reach."""
        self.waiting_since = min(self.waiting_since, now)
        if self.frozen_until > now + _STRETCH_MAX * LONGEST_WAIT:
            self.frozen_until = now
        ahead = now + _LONGEST_LEAD
        if self.due > max(ahead, self.frozen_until) + _SLOTS_AHEAD / self.rate:
            self.due = now
        if self.cut_at > ahead:
            self.cut_at = now
        if self.burst_at > ahead:
            self.burst_at = now
        if math.inf > self.started_at > ahead:
            self.started_at = now

    def _grow(self, now: float, ceiling: float) -> None:
        seconds = now - self.grown_at
        self.grown_at = now
        starting = self.started_at == math.inf
        if seconds <= 0.0 or now - self.waiting_since < (_WAITING_AT_START if starting else _WAITING_FOR):
            return
        if starting:
            growth = _DOUBLING if self.rate < _DEFAULT_QUOTA else _BEYOND_DEFAULT
        else:
            self.age += seconds
            growth = _GROWTH / math.sqrt(self.rate)
            growth += _START_GROWTH * math.exp((self.started_at - now) / _START_GROWTH_FADES)
            growth += min(max(0.0, self.age - _LATE_AFTER) * _LATE_GROWTH, _LATE_GROWTH_MAX)
        # At most doubled from one slot to the next: at the lowest rate they are seconds apart.
        self.rate = min(self.rate * math.exp(min(growth * seconds, _DOUBLING)), ceiling)

    def still_holds(self, reserved_at: float) -> bool:
        """Tell whether a slot is good that was reserved then: none is from before a cut."""
        return reserved_at >= self.cut_at

    # Answers ------------------------------------------------------------------------------------------

    @property
    def in_doubt(self) -> bool:
        """Whether a delivery would be news: nothing that was sent after the last cut is delivered."""
        return self.cuts > 0.0

    def delivered(self, sent_at: float) -> None:
        """A request was taken: if it was sent after the last cut, that cut was deep enough."""
        if sent_at >= self.cut_at:
            self.cuts = 0.0

    def refused(self, sent_at: float, now: float, ceiling: float, freeze: float) -> None:
        """A request was refused for the quota; `freeze` is `Retry-After` with its jitter, or 0."""
        if sent_at <= self.burst_at:
            self.burst = 0.0
            return
        if sent_at < self.cut_at:
            return  # the cut has not reached the service yet
        self.rate = max(self.rate * self._depth(now, ceiling), min(_LOWEST_RATE, self.rate))
        self.started_at = now if self.started_at == math.inf else self.started_at - _START_AGES
        rest = _REST * 2.0 ** min(self.cuts, _MOST_DOUBLINGS)
        self.due = now + rest + _TOLERANCE / self.rate
        if freeze > _FREEZE_ABOVE or self.cuts:
            self.frozen_until = max(self.frozen_until, now + freeze)
        self.cut_at = now
        self.cuts += 1.0
        self.age = 0.0

    def _depth(self, now: float, ceiling: float) -> float:
        since = now - self.cut_at
        if self.started_at == math.inf:
            return _FIRST_CUT
        if self.cuts or since < _SECOND_CUT_WITHIN:
            return _SECOND_CUT
        if self.rate >= ceiling and since > _MILD_CUT_AFTER:
            return _MILD_CUT
        return _CUT


def pauses(retry_after: float | None, jitter: float) -> tuple[float, float]:
    """Return how long (seconds) the refused batch is held back, and all sending if it must freeze.

    No `Retry-After`, zero and what is no time at all (negative, not a number) are the same: a short
    pause, and no freeze. `jitter` is a random number in [0, 1).
    """
    stretch = 1.0 + (_STRETCH_MAX - 1.0) * jitter
    if retry_after is None or not retry_after > 0.0:
        return _RETRY_PAUSE * stretch, 0.0
    pause = min(retry_after, LONGEST_WAIT) * stretch
    return max(pause, _RETRY_PAUSE), pause
