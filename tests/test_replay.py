"""What a real browser client sent goes through a buffer and comes out unchanged."""

from __future__ import annotations

import pytest

from rumbuffer import AppMonitor, Event, Limits, RumBuffer, Session
from rumbuffer.cli.recorded import recorded_requests
from rumbuffer.emulator import Emulator


async def test_recorded_browser_requests_come_out_as_they_went_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """All 84 requests arrive with the same ids, types, details and metadata, in 12 batches, one a session.

    The longest of the 12 sessions has 76 events, so that the default of 100 events a batch holds each of
    them. The linger is longer than the test: only the flush makes batches due.
    """
    requests = recorded_requests()
    assert len(requests) == 84
    async with Emulator() as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        default = AppMonitor("11111111-2222-3333-4444-555555555555")
        async with RumBuffer(default, limits=Limits(linger=3600.0)) as buffer:
            for request in requests:
                body = request["body"]
                monitor = AppMonitor(**body["AppMonitorDetails"])
                user = body["UserDetails"]
                session = Session(user["sessionId"], user["userId"], body["SessionMetadata"])
                for event in body["RumEvents"]:
                    admission = await buffer.put(
                        Event(
                            event["type"],
                            event["details"],
                            metadata=event["metadata"],
                            id=event["id"],
                            timestamp=event["timestamp"],
                        ),
                        session=session,
                        app_monitor=monitor,
                    )
                    assert admission
            assert emulator.requests.received == 0
            report = await buffer.flush(timeout=30)
        assert report.complete
        assert report.delivered == 718
        counts = emulator.requests
        batches = emulator.batches

    assert (counts.received, counts.accepted, counts.repeated) == (12, 12, 0)
    assert len({batch.session_id for batch in batches}) == len(batches) == 12
    sent: dict[str, list[tuple[object, ...]]] = {}
    for request in requests:
        body = request["body"]
        sent.setdefault(body["UserDetails"]["sessionId"], []).extend(
            (event["id"], event["timestamp"], event["type"], event["details"], event["metadata"])
            for event in body["RumEvents"]
        )
    assert {batch.session_id: [tuple(event) for event in batch.events] for batch in batches} == sent
    envelopes = {
        (
            request["body"]["UserDetails"]["sessionId"],
            request["body"]["UserDetails"]["userId"],
            request["body"]["SessionMetadata"],
            str(request["body"]["AppMonitorDetails"]),
        )
        for request in requests
    }
    assert {
        (batch.session_id, batch.user_id, batch.session_metadata, str(batch.app_monitor_details))
        for batch in batches
    } == envelopes
