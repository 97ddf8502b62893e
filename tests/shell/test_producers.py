"""`record()` and `put_nowait()`: what each answer means, and how it is counted and logged."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest

from rumbuffer import (
    BufferClosed,
    BufferFull,
    Event,
    InvalidEvent,
    Limits,
    Overflow,
    RefusalReason,
    RumBuffer,
    current_session,
)
from rumbuffer.emulator.model import request_model
from tests.fakes import (
    MONITOR,
    OTHER_MONITOR,
    FakeSender,
    assert_laws,
    buffer_of,
    event_of,
    events_of,
    session_of,
    simulated,
    uuid_of,
)

SMALL = Limits(max_pending_bytes=4096, linger=3600.0)
"""Room for a few events of 500 bytes."""


def fill(buffer: RumBuffer) -> int:
    """Record until there is no room, and return how many events got in."""
    count = 0
    while buffer.put_nowait(event_of(count, padding=500), session=session_of()):
        count += 1
    return count


@simulated
async def test_a_recorded_event_arrives_as_it_was_given() -> None:
    """What `record()` was given is what the sender gets: type, details, metadata, id and time."""
    sender = FakeSender()
    async with buffer_of(sender) as buffer:
        admission = buffer.record(
            "com.example.checkout",
            {"total": 42},
            session=session_of(),
            metadata={"version": "1"},
            id=uuid_of(7),
            timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        )
        assert admission
        assert (admission.status, admission.reason, admission.error) == ("accepted", None, None)
        assert repr(admission) == "<Admission accepted>"
        await buffer.flush()
    assert events_of(sender.arrived) == [
        {
            "id": uuid_of(7),
            "timestamp": 1767225600.0,
            "type": "com.example.checkout",
            "details": '{"total":42}',
            "metadata": '{"version":"1"}',
        }
    ]
    (batch,) = sender.arrived
    assert (batch.app_monitor, batch.session_id) == (MONITOR, uuid_of(1))


@simulated
async def test_an_event_gets_an_id_and_a_time_of_its_own() -> None:
    """What is left out is made up so that the service's model takes it."""
    sender = FakeSender()
    async with buffer_of(sender) as buffer:
        for _ in range(3):
            assert buffer.record("a", {}, session=session_of())
    (batch,) = sender.arrived
    document = request_model().parse(MONITOR.id, batch.body())
    assert len({event["id"] for event in document["RumEvents"]}) == 3


@simulated
async def test_the_current_session_is_used(caplog: pytest.LogCaptureFixture) -> None:
    """Without `session` the event goes to the current one, and is refused, said once, where none is set."""
    sender = FakeSender()
    async with buffer_of(sender) as buffer:
        for _ in range(3):
            refused = buffer.record("a", {})
            assert not refused
            assert (refused.status, refused.reason) == ("refused", RefusalReason.NO_SESSION)
        with pytest.raises(InvalidEvent, match="session"):
            buffer.put_nowait(event_of(1))
        token = current_session.set(session_of(5))
        assert buffer.record("a", {})
        assert buffer.put_nowait(event_of(2))
        current_session.reset(token)
        stats = buffer.stats()
        assert stats.refused_by_reason == {"no_session": 4}
        assert_laws(stats)
    assert [batch.session_id for batch in sender.arrived] == [uuid_of(5)]
    assert len([line for line in caplog.messages if "current_session" in line]) == 1


@simulated
async def test_other_app_monitors_have_batches_of_their_own() -> None:
    """An event may name another app monitor than the buffer's, and goes there."""
    sender = FakeSender()
    async with buffer_of(sender) as buffer:
        buffer.record("a", {}, session=session_of())
        buffer.record("a", {}, session=session_of(), app_monitor=OTHER_MONITOR)
        buffer.put_nowait(event_of(1), session=session_of(), app_monitor=OTHER_MONITOR)
        await buffer.deliver(event_of(2), session=session_of(), app_monitor=OTHER_MONITOR)
    assert {batch.app_monitor.id: len(batch.events) for batch in sender.arrived} == {
        MONITOR.id: 1,
        OTHER_MONITOR.id: 3,
    }


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"type": ""}, "type"),
        ({"type": "no spaces"}, "type"),
        ({"type": 7}, "type"),
        ({"details": [1]}, "details"),
        ({"details": "[1]"}, "details"),
        ({"details": {"n": object()}}, "details"),
        ({"details": {"n": "x" * 7000}}, "details"),
        ({"metadata": "{"}, "metadata"),
        ({"id": "7"}, "id"),
        ({"timestamp": 1767225600000.0}, "timestamp"),
        ({"timestamp": "now"}, "timestamp"),
        ({"session": "d35b7114-9426-4abc-9ace-6b4248e6d799"}, "session"),
        ({"app_monitor": MONITOR.id}, "app_monitor"),
    ],
)
@simulated
async def test_an_invalid_event_is_refused(
    arguments: dict[str, object], field: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is invalid comes back with the error, is counted, and is logged once a field without content."""
    given = {"type": "a", "details": {}, "session": session_of(), **arguments}
    async with buffer_of(FakeSender()) as buffer:
        for _ in range(3):
            admission = buffer.record(**given)  # type: ignore[arg-type]
            assert not admission
            assert admission.reason is RefusalReason.INVALID_EVENT
            assert admission.error is not None
            assert admission.error.field == field
        session, app_monitor = given.pop("session"), given.pop("app_monitor", None)
        event = Event(**given)  # type: ignore[arg-type]
        with pytest.raises(InvalidEvent) as raised:
            buffer.put_nowait(event, session=session, app_monitor=app_monitor)  # type: ignore[arg-type]
        assert raised.value.field == field
        stats = buffer.stats()
        assert (stats.refused, stats.refused_by_reason) == (4, {"invalid_event": 4})
        assert_laws(stats)
    (line,) = [record for record in caplog.records if record.name == "rumbuffer"]
    assert line.levelno == logging.WARNING
    assert field in line.getMessage()
    assert "xxx" not in line.getMessage()


@simulated
async def test_what_is_no_event_is_refused() -> None:
    """`put_nowait()` names what it was given instead of an event."""
    async with buffer_of(FakeSender()) as buffer:
        with pytest.raises(InvalidEvent, match=r"event: must be a rumbuffer.Event; got dict of 1 members"):
            buffer.put_nowait({"type": "a"}, session=session_of())  # type: ignore[arg-type]
        assert buffer.stats().refused_by_reason == {"invalid_event": 1}


@simulated
async def test_a_buffer_that_does_not_run_takes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Before the start and after the close `record()` refuses and `put_nowait()` raises, with the reason."""
    buffer = buffer_of(FakeSender())
    assert buffer.record("a", {}, session=session_of()).reason is RefusalReason.NOT_RUNNING
    with pytest.raises(BufferClosed, match="not started yet") as raised:
        buffer.put_nowait(event_of(1), session=session_of())
    assert raised.value.state == "new"
    assert len([line for line in caplog.messages if "not started yet" in line]) == 1
    async with buffer:
        pass
    assert buffer.record("a", {}, session=session_of()).reason is RefusalReason.NOT_RUNNING
    with pytest.raises(BufferClosed, match="it is closed") as raised:
        buffer.put_nowait(event_of(1), session=session_of())
    assert raised.value.state == "closed"
    assert buffer.stats().refused_by_reason == {"not_running": 4}
    assert_laws(buffer.stats(), closed=True)


@simulated
async def test_drop_oldest_makes_room(caplog: pytest.LogCaptureFixture) -> None:
    """Under `DROP_OLDEST` every event gets in, and the oldest are counted as dropped and logged."""
    sender = FakeSender()
    sender.pause()
    async with buffer_of(sender, limits=SMALL) as buffer:
        for number in range(100):
            assert buffer.put_nowait(event_of(number, padding=500), session=session_of())
            assert buffer.record("a", {"n": number, "padding": "x" * 500}, session=session_of())
            assert_laws(buffer.stats())
        stats = buffer.stats()
        assert stats.accepted == 200
        assert stats.dropped == 200 - stats.pending - stats.in_flight > 180
        assert stats.dropped_by_reason == {"overflow": stats.dropped}
        sender.resume()
    assert buffer.stats().delivered == 200 - stats.dropped
    assert max(sender.numbers()) == 99
    assert any("overflow" in line for line in caplog.messages)


@simulated
async def test_drop_newest_refuses() -> None:
    """Under `DROP_NEWEST` a full buffer refuses what comes, by `record()` and by `put_nowait()` alike."""
    async with buffer_of(FakeSender(), limits=SMALL, overflow=Overflow.DROP_NEWEST) as buffer:
        count = fill(buffer)
        assert count > 2
        refused = buffer.record("a", {"padding": "x" * 500}, session=session_of())
        assert refused.reason is RefusalReason.BUFFER_FULL
        assert buffer.stats().refused_by_reason == {"buffer_full": 2}
        assert_laws(buffer.stats())
        await buffer.flush()
        assert buffer.record("a", {}, session=session_of())
    assert buffer.stats().delivered == count + 1


@simulated
async def test_raise_raises_from_put_nowait_only() -> None:
    """Under `RAISE` a full buffer raises `BufferFull` with its sizes, and `record()` still only refuses."""
    async with buffer_of(FakeSender(), limits=SMALL, overflow=Overflow.RAISE) as buffer:
        with pytest.raises(BufferFull, match="max_pending_bytes=4096") as raised:
            fill(buffer)
        assert 0 < raised.value.pending_bytes <= raised.value.max_pending_bytes == 4096
        admission = buffer.record("a", {"padding": "x" * 500}, session=session_of())
        assert admission.reason is RefusalReason.BUFFER_FULL
        assert buffer.stats().refused == 2
        assert_laws(buffer.stats())


@pytest.mark.parametrize("overflow", list(Overflow))
@simulated
async def test_an_event_above_the_whole_limit_is_invalid(overflow: Overflow) -> None:
    """An event that can never fit is invalid under every policy, and evicts nothing."""
    async with buffer_of(FakeSender(), limits=SMALL, overflow=overflow) as buffer:
        assert buffer.put_nowait(event_of(1), session=session_of())
        with pytest.raises(InvalidEvent, match="max_pending_bytes"):
            buffer.put_nowait(event_of(2, padding=5000), session=session_of())
        admission = buffer.record("a", {"padding": "x" * 5000}, session=session_of())
        assert admission.reason is RefusalReason.INVALID_EVENT
        assert (buffer.stats().pending, buffer.stats().dropped) == (1, 0)
        assert_laws(buffer.stats())


@simulated
async def test_sessions_are_sampled_whole() -> None:
    """At a sample rate each session is kept or left out as its id's CRC-32 says, with every event of it."""
    import zlib

    sender = FakeSender()
    sessions = [session_of(number) for number in range(400)]
    async with buffer_of(sender, sample_rate=0.25) as buffer:
        for session in sessions:
            kept = zlib.crc32(session.id.encode()) / 2**32 < 0.25
            for admission in (
                buffer.record("a", {}, session=session),
                buffer.put_nowait(Event("a", {}), session=session),
                await buffer.put(Event("a", {}), session=session),
            ):
                assert admission.status == ("accepted" if kept else "sampled_out")
                assert bool(admission) is kept
        stats = buffer.stats()
        assert stats.sampled_out + stats.accepted == stats.offered == 1200
        assert_laws(stats)
    kept_ids = {session.id for session in sessions if session.sample_point < 0.25}
    assert {batch.session_id for batch in sender.arrived} == kept_ids
    assert 60 < len(kept_ids) < 140


@simulated
async def test_a_sample_rate_of_zero_takes_nothing() -> None:
    """With a sample rate of 0 nothing is kept or sent, and all is counted."""
    sender = FakeSender()
    async with buffer_of(sender, sample_rate=0.0) as buffer:
        assert buffer.record("a", {}, session=session_of()).status == "sampled_out"
        assert (await buffer.deliver(Event("a", {}), session=session_of())).sampled_out
        assert buffer.stats().sampled_out == 2
        assert_laws(buffer.stats())
    assert not sender.requests


@simulated
async def test_a_defect_of_ours_is_a_refusal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error inside the library comes back as a refusal, counted, with one traceback in the log."""
    async with buffer_of(FakeSender()) as buffer:
        monkeypatch.setattr(buffer._intake, "offer", lambda *_: 1 / 0)
        for _ in range(3):
            admission = buffer.record("a", {}, session=session_of())
            assert admission.reason is RefusalReason.INTERNAL_ERROR
        assert buffer.stats().refused_by_reason == {"internal_error": 3}
    assert caplog.text.count("ZeroDivisionError") == 1
