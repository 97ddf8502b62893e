"""The bound on how many refused batches wait to be searched."""

from __future__ import annotations

import pytest

from rumbuffer.core import batcher
from rumbuffer.core.notices import DeadLettered, DeadLetterReason
from rumbuffer.core.outcomes import Rejected
from tests.core.helpers import Rig


def test_more_refused_batches_than_can_be_searched_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a refused batch is a dead letter at once, and the others are searched on."""
    monkeypatch.setattr(batcher, "_SEARCHED_AT_ONCE", 1)
    rig = Rig()
    rig.fill(1)
    rig.fill(2)
    flights = rig.send()
    assert len(flights) == 2
    refused = flights[1].batch.id
    rig.settle(flights, Rejected("a bad event"))
    rig.notices()
    (lost,) = (notice for notice in rig.heard if isinstance(notice, DeadLettered))
    assert (lost.reason, lost.batch_id) == (DeadLetterReason.UNRESOLVED, refused)
    assert [flight.is_halving for flight in rig.home.flights] == [True]
