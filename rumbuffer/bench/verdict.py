"""What a result means, in plain words: the paragraph at the head of a report."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Literal

from rumbuffer.bench.figures import amount, count, duration, percent
from rumbuffer.bench.load import settling
from rumbuffer.bench.result import Result, laws

__all__ = ["Verdict", "busy_before", "verdict"]

_BEHIND = 0.02
"""Seconds that an event may be offered after its planned time and still count as being on time."""

_BUSY = 0.5
"""Load average for each core from which others may be felt."""

_NOT_OFFERED = 0.001
_PACE_SPENT = 0.93
_FULL = 0.95
_SETTLING = 2.0
"""A run must last so many times as long as settling takes, to tell whether the buffer keeps up."""

_LONGER, _LONGER_BY = 1.25, 0.25
"""Factor and seconds by which events may wait longer towards the end, and the buffer still keeps up."""

Mood = Literal["good", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A headline, how glad one may be of it, and the sentences that follow."""

    headline: str
    mood: Mood
    sentences: tuple[str, ...]


def verdict(result: Result) -> Verdict:
    """Say what a result means."""
    notes = (
        _why_lost(result),
        _validity(result),
        busy_before(result),
        _keeping_up(result),
        _age(result),
        _handlers(result),
        _service(result),
    )
    headline, mood = _headline(result)
    if mood == "good" and _is_doubtful(result):
        mood = "warn"
    return Verdict(headline, mood, tuple(note for note in notes if note))


_HINTS = {
    "dropped (closed)": "were unsent when the drain ended; with a longer --drain they would have been sent",
    "dropped (overflow)": "had to go, the oldest first, when the memory limit (--max-pending-bytes) was "
    "reached",
    "dropped (shed)": "are of whole sessions that were left out, as --overflow shed_sessions says",
    "dropped (outcome_unknown)": "were on their way without an answer when the drain ended, and may have "
    "arrived",
    "refused (buffer_full)": "came when the memory limit (--max-pending-bytes) was reached",
    "refused (invalid_event)": "break a rule of the service; most likely they are larger than "
    "--max-event-bytes",
}


def _why_lost(result: Result) -> str:
    hints = dict(_HINTS)
    if not result.books["batches_delivered"]:
        hints["dropped (closed)"] = "were unsent when the drain ended, for the service took no request"
    told = [
        f"{count(lost)} {hints[reason]}"
        for reason, lost in result.lost_by_reason().items()
        if reason in hints
    ]
    return f"Of the lost events {'; '.join(told)}." if told else ""


def _headline(result: Result) -> tuple[str, Mood]:
    books = result.books
    accepted, delivered, lost = books["accepted"], books["delivered"], result.lost
    if not result.balanced:
        wrong = [law.text for law in laws(result) if not law.holds]
        return f"The books do not balance: {'; '.join(wrong)}.", "bad"
    if not books["offered"]:
        return "Nothing was offered: the run ended too early.", "bad"
    sampled = (
        f" {count(books['sampled_out'])} more were sampled out, as asked." if books["sampled_out"] else ""
    )
    early = "Ended early. " if result.interrupted else ""
    if lost:
        reasons = ", ".join(f"{count(number)} {reason}" for reason, number in result.lost_by_reason().items())
        share = percent(lost / books["offered"])
        of_all = f"{count(lost)} of {count(books['offered'])} events"
        return f"{early}{of_all} were lost ({share}): {reasons}.{sampled}", "bad"
    if not accepted:
        return f"{early}All {count(books['sampled_out'])} events were sampled out, as asked.", "warn"
    return (
        f"{early}All {count(delivered)} events that were accepted were delivered; none was lost.{sampled}",
        "good",
    )


def _is_doubtful(result: Result) -> bool:
    return result.interrupted or _generator_was_late(result) or not _keeps_up(result)


def _behind(result: Result, percent: float) -> float:
    """How late events were offered (seconds)."""
    return (result.histograms["delay"].percentile(percent) or 0.0) / 1e6


def busy_before(result: Result) -> str:
    """A sentence if others used the machine when the run began; empty if not."""
    busy, cores = result.machine["load_average"], result.machine["cores"]
    if busy is None or busy <= _BUSY * cores:
        return ""
    return (
        f"Others were using this machine when the run began (load average {busy:g} on {cores} cores): times "
        "are longer for that, and vary."
    )


def _generator_was_late(result: Result) -> bool:
    """Whether the rate was more than this process could offer; not by a pause, but all along."""
    books = result.books
    return _behind(result, 50) > _BEHIND or books["not_offered"] > _NOT_OFFERED * books["planned"]


def _validity(result: Result) -> str:
    if not result.histograms["record"].count:
        return "Nothing was measured: the run ended within its warm-up."
    behind = _behind(result, 99)
    if not _generator_was_late(result):
        if behind <= _BEHIND:
            return ""
        return (
            "The process was held up at times: one event in a hundred was offered more than "
            f"{duration(behind)} after its planned time. Its own work may be the cause, or others on this "
            "machine; record() and loop lag show it too."
        )
    left = result.books["not_offered"]
    never = f", and {count(left)} planned events were never offered" if left else ""
    return (
        "This machine could not offer the planned rate: one event in a hundred was offered "
        f"{duration(behind)} or more after its time{never}. Generator and buffer share one core, so take "
        "the figures as those of an overloaded process, and a lower rate to learn what the buffer does. "
        "Ages are counted from the planned time."
    )


def _keeps_up(result: Result) -> bool:
    """Whether events wait about as long in the last quarter of the load as in the second.

    How long is what is pending to what is delivered a second (Little's law), which a ramp does not change by
    itself.
    """
    pending, delivered, times = (result.window(name) for name in ("pending", "delivered", "t"))
    quarter = len(pending) // 4
    if quarter < 2:
        return True
    waits = []
    for first in (quarter, len(pending) - quarter):
        last = min(first + quarter, len(pending)) - 1
        rate = (delivered[last] - delivered[first]) / (times[last] - times[first])
        waits.append(statistics.fmean(pending[first : last + 1]) / max(rate, 1e-9))
    return bool(waits[1] <= _LONGER * waits[0] + _LONGER_BY)


def _ceiling(result: Result) -> float | None:
    """The requests a second that the settings allow."""
    buffer = result.settings["buffer"]
    quota = buffer.get("quota")
    return None if quota is None else float(quota) * float(buffer["use"])


def _births(result: Result) -> float:
    """New sessions a second, on average over the run."""
    load = result.settings["load"]
    seconds = float(load["warmup"]) + result.seconds
    return float(result.harness["sessions_begun"] - load["sessions"]) / max(seconds, 1e-9)


def _keeping_up(result: Result) -> str:
    if not result.window("t"):
        return ""
    offered, delivered, requests = (result.rate(name) for name in ("offered", "delivered", "requests"))
    fill = result.growth("delivered") / max(1.0, result.growth("batches"))
    buffer = result.settings["buffer"]
    most = buffer["max_batch_events"]
    ceiling = _ceiling(result)
    pace = statistics.median(result.window("pace"))
    spent = requests >= _PACE_SPENT * pace
    text = (
        f"{amount(offered)} events a second were offered and {amount(delivered)} delivered while the load "
        f"lasted, in {amount(requests)} requests a second with {amount(fill)} events each"
    )
    if spent:
        text += f": all that the pace allows, which was {amount(pace)} requests a second"
        if ceiling is not None and pace < _PACE_SPENT * ceiling:
            text += f" (the settings allow {amount(ceiling)}, and the service less)"
    text += ". "
    settled = settling(buffer["linger"], result.settings["load"]["sessions"], ceiling)
    if result.seconds < _SETTLING * settled and (_keeps_up(result) or not spent):
        text += (
            f"Too short to tell whether it keeps up: about {duration(settled)} pass until each session's "
            f"first batch is sent, so measure for {duration(_SETTLING * settled)} or more."
        )
    elif not _keeps_up(result):
        text += "It did not keep up: what was pending grew to the end. "
        if spent and fill >= _FULL * most:
            text += "Requests are full and the pace is spent, so that only a higher quota would carry more."
        elif spent and (births := _births(result)) > _PACE_SPENT * pace:
            text += (
                f"New sessions came at {amount(births)} a second, and each needs a request of its own at "
                "least: more than the pace allows, however full requests are."
            )
        elif spent:
            text += "The pace is spent and requests are not full yet: they fill up further while events wait."
        else:
            text += "The pace is not spent: the service's answers or this machine are what limits it."
    elif spent:
        text += "It kept up, for requests fill up while their events wait."
    else:
        text += "It kept up."
    return text + f" The rest took {duration(result.drained)} after the load."


def _age(result: Result) -> str:
    ages = result.histograms["age"]
    middle, late = ages.percentile(50), ages.percentile(99)
    if middle is None or late is None:
        return ""
    linger = result.settings["buffer"]["linger"]
    return (
        f"Half of the events were delivered within {duration(middle / 1e6)} of their planned time and 99 % "
        f"within {duration(late / 1e6)}; batches wait up to {amount(linger)} s for more by themselves "
        "(linger)."
    )


def _handlers(result: Result) -> str:
    record, lag = result.histograms["record"], result.histograms["loop_lag"]
    middle, late, lagging = record.percentile(50), record.percentile(99), lag.percentile(99)
    if middle is None or late is None:
        return ""
    text = f"A call of record() took {duration(middle / 1e9)} (median), 99 % at most {duration(late / 1e9)}"
    if lagging is not None:
        text += f"; the event loop was at most {duration(lagging / 1e6)} late in 99 % of its wake-ups"
    return text + "."


def _service(result: Result) -> str:
    books = result.books
    if not books["requests"]:
        return ""
    throttled, failed = books["throttled"], books["failures"]
    others = max(0, books["requests"] - books["batches_delivered"] - throttled - failed)
    if not (throttled or failed or others):
        return "The service refused no request."
    parts = [
        f"{count(number)} {what} ({percent(number / books['requests'])})"
        for number, what in (
            (throttled, "were refused for the quota"),
            (failed, "failed"),
            (others, "were refused for another reason, or had no answer at the end"),
        )
        if number
    ]
    what_then = "; those batches were sent again" if books["batches_delivered"] and not others else ""
    return f"Of {count(books['requests'])} requests {' and '.join(parts)}{what_then}."
