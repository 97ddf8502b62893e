"""What an admission says, and how many app monitors may have events; see also test_room, test_store."""

from __future__ import annotations

import pytest

from rumbuffer.core.admission import ACCEPTED, SAMPLED_OUT, RefusalReason, refusal
from rumbuffer.core.outcomes import HoldScope, Misconfigured
from rumbuffer.errors import InvalidEvent
from rumbuffer.events import AppMonitor
from tests.core.helpers import DELIVERED, HOME, OTHER, Rig, make_store


def monitor(number: int) -> AppMonitor:
    """An app monitor of that number."""
    return AppMonitor(f"{number:08x}-cccc-4ccc-8ccc-cccccccccccc")


def test_only_an_accepted_admission_is_true() -> None:
    """So `if buffer.record(…)` asks whether the event was taken."""
    assert ACCEPTED
    assert not SAMPLED_OUT
    assert not any(refusal(reason) for reason in RefusalReason)


def test_an_admission_tells_itself() -> None:
    """Status, reason and error are fields, and the text names status and reason."""
    error = InvalidEvent("details", "must be JSON", "set")
    refused = refusal(RefusalReason.INVALID_EVENT, error)
    assert (refused.status, refused.reason, refused.error) == ("refused", "invalid_event", error)
    assert repr(refused) == "<Admission refused (invalid_event)>"
    assert repr(ACCEPTED) == "<Admission accepted>"
    assert repr(SAMPLED_OUT) == "<Admission sampled_out>"
    assert refusal(RefusalReason.BUFFER_FULL) is refusal(RefusalReason.BUFFER_FULL)


def test_what_was_refused_is_counted_with_its_reason() -> None:
    """Offered is accepted, sampled out and refused together."""
    rig = Rig(make_store(max_pending_bytes=2000, evicts=False))
    answers = [rig.record(of) for of in range(10)]
    stats = rig.batcher.stats(0.0)
    assert stats.refused_by_reason == {"buffer_full": sum(not answer for answer in answers)}
    assert stats.offered == 10 == stats.accepted + stats.refused
    assert stats.pending == stats.accepted == sum(bool(answer) for answer in answers)


def test_the_same_counts_can_tell_of_a_failed_buffer() -> None:
    """When the shell met a defect, the counts stay and the health says so."""
    stats = Rig().batcher.stats(0.0)
    failed = stats.failed()
    assert (stats.health, failed.health) == ("ok", "failed")
    assert failed.offered == stats.offered


def test_events_of_so_many_app_monitors_may_be_pending() -> None:
    """One more is an invalid event, which names the rule; the others go on, and so does this one later."""
    rig = Rig(max_in_flight=300)
    for number in range(255):
        rig.record(1, monitor=monitor(number))
    with pytest.raises(InvalidEvent) as caught:
        rig.record(1, monitor=OTHER)
    assert caught.value.field == "app_monitor"
    assert "256" in caught.value.rule
    assert rig.record(1)
    assert rig.record(1, monitor=monitor(7))
    rig.run(lambda _: DELIVERED)
    assert rig.record(1, monitor=OTHER)


def test_app_monitors_that_were_refused_and_have_nothing_left_make_place() -> None:
    """What is remembered of them is let go of when it is needed for others; home stays."""
    rig = Rig(make_store(max_pending_bytes=3000), rate=1e6, burst=1000)
    gone = Misconfigured(HoldScope.APP_MONITOR, "ResourceNotFoundException")
    for number in range(400):
        rig.record(1, monitor=monitor(number))
        rig.batcher.make_due()
        rig.settle(rig.send(), gone)  # held; and evicted by the next ones
    assert HOME in rig.store.lanes
    assert len(rig.store.lanes) <= 256
