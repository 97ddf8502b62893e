from __future__ import annotations

from rumbuffer import RefusalReason, Session
from rumbuffer.web.door import Door
from rumbuffer.web.known import UnsampledSession
from tests.web.helpers import SESSION, Site

EVENT = b'{"id":"00000000-0000-4000-8000-000000000001","timestamp":1.5,"type":"a","details":"{}"}'


async def test_inside_the_core(site: Site) -> None:
    """What comes while its own thread is inside the core waits until it is out, and is then counted."""
    await site.buffer.start()
    door, guard = Door(site.buffer), site.buffer._intake.guard
    with guard:
        assert door.offer_encoded(EVENT, Session(SESSION))
        door.count_sampled_out(Session(SESSION))
        assert site.buffer.stats().offered == 0
    stats = site.buffer.stats()
    assert (stats.accepted, stats.sampled_out) == (1, 1)


async def test_not_running(site: Site) -> None:
    """Before its start a buffer refuses; in a forked child it says so; nothing is sampled out in either."""
    door = Door(site.buffer)
    door.count_sampled_out(Session(SESSION))
    assert door.offer_encoded(EVENT, Session(SESSION)).reason is RefusalReason.NOT_RUNNING
    await site.buffer.start()
    site.buffer._after_fork()
    assert door.offer_encoded(EVENT, Session(SESSION)).reason is RefusalReason.FORKED
    assert site.buffer.stats().offered == 2


async def test_sampled_out_of_a_session_that_is_no_plain_one(site: Site) -> None:
    """Everything of a session that the browser does not record is sampled out, whatever the rate."""
    await site.buffer.start()
    assert site.buffer.record("a", {}, session=UnsampledSession(SESSION)).status == "sampled_out"
