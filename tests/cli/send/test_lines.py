"""What a line may say, and what is made of it."""

from __future__ import annotations

import json
import tracemalloc
import uuid
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rumbuffer import AppMonitor, Session
from rumbuffer.cli.recorded import recorded_requests
from rumbuffer.cli.send.lines import Fault, LineParser, Offer, derived_id
from rumbuffer.core.encoding import EventEncoder
from tests.fakes import MONITOR, OTHER_MONITOR, uuid_of

SESSION = {"id": uuid_of(1)}
EVENT: dict[str, Any] = {"type": "a.b", "details": {"n": 1}, "session": SESSION}
DOCUMENT: dict[str, Any] = {
    "Id": OTHER_MONITOR.id,
    "BatchId": uuid_of(9),
    "AppMonitorDetails": {"name": "other", "version": "2"},
    "UserDetails": {"userId": uuid_of(2), "sessionId": uuid_of(1)},
    "RumEvents": [
        {"id": uuid_of(5), "timestamp": 1767225600.5, "type": "a.b", "details": '{"n":1}', "metadata": "{}"},
        {"type": "a.c", "details": {"n": 2}},
    ],
    "SessionMetadata": '{"domain":"example.com"}',
    "Alias": "blue",
}


def parser(
    app_monitor: AppMonitor | None = MONITOR, session: Session | None = None, identity: str = "f" * 32
) -> LineParser:
    """A parser with these defaults."""
    encoder = EventEncoder(6144)
    return LineParser(encoder, identity, timestamp=1_700_000_000.25, app_monitor=app_monitor, session=session)


def read(line: object, number: int = 7, **defaults: Any) -> list[Offer | Fault]:
    """What a line holds."""
    text = line if isinstance(line, bytes) else orjson.dumps(line)
    return list(parser(**defaults).read(text, number))


def offers(line: object, **defaults: Any) -> list[Offer]:
    """The events of a line that is right."""
    found = read(line, **defaults)
    assert all(isinstance(each, Offer) for each in found), found
    return [each for each in found if isinstance(each, Offer)]


def event_of(offer: Offer) -> dict[str, Any]:
    """The event that would be sent."""
    event: dict[str, Any] = orjson.loads(offer.event)
    return event


def test_event_line() -> None:
    """An event with everything is sent as it says, to the app monitor and in the session that it names."""
    (offer,) = offers(
        {
            "type": "com.example.search",
            "details": {"q": "tea"},
            "metadata": {"page": 1},
            "id": uuid_of(3),
            "timestamp": 1767225600.125,
            "session": {"id": uuid_of(1), "user_id": uuid_of(2), "attributes": {"domain": "example.com"}},
            "app_monitor": {"id": OTHER_MONITOR.id, "name": "other", "version": "2", "alias": "blue"},
        }
    )
    assert event_of(offer) == {
        "id": uuid_of(3),
        "timestamp": 1767225600.125,
        "type": "com.example.search",
        "details": '{"q":"tea"}',
        "metadata": '{"page":1}',
    }
    assert offer.session == Session(uuid_of(1), uuid_of(2), {"domain": "example.com"})
    assert offer.app_monitor == AppMonitor(OTHER_MONITOR.id, "other", "2", "blue")


def test_missing_members_are_filled_in_alike_each_time() -> None:
    """Id and time come from the file, the line's number and its text; the rest from the options."""
    session = Session(uuid_of(8))
    line = {"type": "a.b", "details": "{}", "id": None, "metadata": None}
    (first,), (again,) = offers(line, session=session), offers(line, session=session)
    assert first.event == again.event
    assert first.session is session
    assert first.app_monitor is None
    event = event_of(first)
    assert uuid.UUID(event["id"]).version == 5
    assert uuid.UUID(event["id"]).variant == uuid.RFC_4122
    assert event["timestamp"] == 1_700_000_000.25
    others = [
        offers(line, session=session, number=8),
        offers(line, session=session, identity="e" * 32),
        offers({**line, "details": '{"n":1}'}, session=session),
    ]
    assert len({event["id"], *(event_of(other)["id"] for (other,) in others)}) == 4


def test_derived_id_is_rfc_9562s() -> None:
    """It is the UUIDv5 of file and name in our namespace."""
    namespace = uuid.UUID("d1b3a0e6-6f0e-5c55-9a31-6c0f6f1e2a7d")
    assert derived_id("file", b"7:0:x").decode() == str(uuid.uuid5(namespace, "file:7:0:x"))


@pytest.mark.parametrize(
    ("given", "sent"),
    [(1767225600, 1767225600), ("1767225600.5", 1767225600.5), ("2026-01-01T00:00:00Z", 1767225600)],
)
def test_times(given: object, sent: float) -> None:
    """Times are seconds, as a number or a text, or ISO 8601."""
    (offer,) = offers({**EVENT, "timestamp": given})
    assert event_of(offer)["timestamp"] == sent


@pytest.mark.parametrize("name", [MONITOR.id, None, {"id": MONITOR.id, "name": "shop", "version": "1.4.2"}])
def test_the_app_monitor_of_the_options(name: object) -> None:
    """A line that names it by its id, or none, gets it with its name and version."""
    (offer,) = offers({**EVENT, "app_monitor": name})
    assert offer.app_monitor is None


def test_document_as_boto3_takes_it() -> None:
    """Each event of a document is sent, in its session and to its app monitor; the batch id is not used."""
    first, second = offers(DOCUMENT)
    assert event_of(first)["id"] == uuid_of(5)
    assert event_of(first)["metadata"] == "{}"
    assert event_of(second)["details"] == '{"n":2}'
    assert first.session is second.session
    assert first.session == Session(uuid_of(1), uuid_of(2), {"domain": "example.com"})
    assert first.app_monitor == AppMonitor(OTHER_MONITOR.id, "other", "2", "blue")


def test_derived_ids_of_a_document_differ() -> None:
    """Events that are alike get ids of their own."""
    events = [{"type": "a.b", "details": "{}"}] * 3
    found = offers({"RumEvents": events, "UserDetails": {"sessionId": uuid_of(1)}})
    assert len({event_of(offer)["id"] for offer in found}) == 3


def test_recorded_browser_traffic() -> None:
    """Every request that the browser client sent is understood as it was recorded, event by event."""
    for request in recorded_requests():
        body = request["body"]
        monitor = AppMonitor(body["AppMonitorDetails"]["id"], version=body["AppMonitorDetails"]["version"])
        for line in (request, body, {"path": request["path"], "body": json.dumps(body)}):
            found = offers(line, app_monitor=None)
            assert [event_of(offer) for offer in found] == [
                {name: event[name] for name in ("id", "timestamp", "type", "details", "metadata")}
                for event in body["RumEvents"]
            ]
            assert {offer.session.id for offer in found} == {body["UserDetails"]["sessionId"]}
            assert {offer.app_monitor for offer in found} == {monitor}


def test_the_id_in_a_recorded_path() -> None:
    """Where the document names no app monitor, the path does."""
    body = {name: DOCUMENT[name] for name in ("UserDetails", "RumEvents")}
    for path in (f"/appmonitors/{OTHER_MONITOR.id}", f"/rum/appmonitors/{OTHER_MONITOR.id}/?x=1"):
        found = offers({"path": path, "body": body, "cookie": "c"})
        assert {offer.app_monitor for offer in found} == {OTHER_MONITOR}


SECRET = "personal secret"


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"", "line"),
        (b"{", "line"),
        (b"[1]", "line"),
        (b"null", "line"),
        (b'"personal secret"', "line"),
        (b"\xff\xfe{}", "line"),
        (b'{"type": "\xff"}', "line"),
        (b'{"type":"a.b","details":{"x":NaN},"session":{}}', "line"),
        (b'{"type":"a.b","details":{"x":NaN,"n":1234567890123456789012},"session":{}}', "line"),
        (b"[" * 100_000, "line"),
        (b"{}", "type"),
        ({**EVENT, "type": SECRET + "!"}, "type"),
        ({**EVENT, "type": [1]}, "type"),
        ({**EVENT, "details": None}, "details"),
        ({**EVENT, "details": [SECRET]}, "details"),
        ({**EVENT, "details": SECRET}, "details"),
        ({**EVENT, "details": {"x": "y" * 6200}}, "details"),
        (b'{"type":"a.b","details":{"n":123456789012345678901234567890}}', "details"),
        ({**EVENT, "metadata": 3}, "metadata"),
        ({**EVENT, "id": SECRET}, "id"),
        ({**EVENT, "id": 3}, "id"),
        ({**EVENT, "timestamp": SECRET}, "timestamp"),
        ({**EVENT, "timestamp": "inf"}, "timestamp"),
        ({**EVENT, "timestamp": 1767225600000}, "timestamp"),
        ({**EVENT, "timestamp": True}, "timestamp"),
        ({**EVENT, "metdata": {}}, "metdata"),
        ({**EVENT, SECRET: 1}, "a member"),
        ({**EVENT, "session": None}, "session"),
        ({**EVENT, "session": SECRET}, "session"),
        ({**EVENT, "session": {}}, "session.id"),
        ({**EVENT, "session": {"id": SECRET}}, "session.id"),
        ({**EVENT, "session": {"id": uuid_of(1), "user_id": 1}}, "session.user_id"),
        ({**EVENT, "session": {"id": uuid_of(1), "userId": uuid_of(1)}}, "session.userId"),
        ({**EVENT, "session": {"id": uuid_of(1), "attributes": SECRET}}, "session.attributes"),
        ({**EVENT, "app_monitor": SECRET}, "AppMonitor.id"),
        ({**EVENT, "app_monitor": 3}, "app_monitor"),
        ({**EVENT, "app_monitor": {"id": OTHER_MONITOR.id, "name": [1]}}, "app_monitor.name"),
        ({**EVENT, "app_monitor": {"ID": OTHER_MONITOR.id}}, "app_monitor.ID"),
        ({**DOCUMENT, "RumEvents": SECRET}, "RumEvents"),
        ({**DOCUMENT, "UserDetails": SECRET}, "UserDetails"),
        ({**DOCUMENT, "UserDetails": {}}, "UserDetails.sessionId"),
        ({**DOCUMENT, "UserDetails": {"sessionID": SECRET}}, "UserDetails.sessionID"),
        ({**DOCUMENT, "AppMonitorDetails": [SECRET]}, "AppMonitorDetails"),
        ({**DOCUMENT, "Id": SECRET}, "AppMonitor.id"),
        ({**DOCUMENT, "rumEvents": []}, "rumEvents"),
        ({"body": SECRET}, "body"),
        ({"body": "{}"}, "body"),
        ({"body": 3}, "body"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_without_its_content(line: object, field: str) -> None:
    """A line that cannot be sent gives one fault, which names the field and shows nothing of the content."""
    (fault,) = read(line)
    assert isinstance(fault, Fault)
    assert fault.field == field
    assert SECRET not in str(fault)
    assert fault.index is None


def test_app_monitor_must_come_from_somewhere() -> None:
    """Without one in the line or the options, the fault names the option."""
    for line in (EVENT, {name: DOCUMENT[name] for name in ("UserDetails", "RumEvents")}):
        (fault,) = read(line, app_monitor=None)
        assert isinstance(fault, Fault)
        assert "--app-monitor-id" in str(fault)


def test_the_good_events_of_a_document_are_sent() -> None:
    """A bad event is a fault that names its place; its neighbours are sent."""
    events = [DOCUMENT["RumEvents"][0], {"type": "!", "details": "{}"}, 3, {"type": "a.b", "details": "{}"}]
    first, bad, worse, last = read({**DOCUMENT, "RumEvents": events})
    assert isinstance(first, Offer)
    assert isinstance(last, Offer)
    assert isinstance(bad, Fault)
    assert isinstance(worse, Fault)
    assert (bad.field, bad.index) == ("RumEvents[1].type", 1)
    assert (worse.field, worse.index) == ("RumEvents[2]", 2)


def test_many_sessions_are_not_all_kept() -> None:
    """What is kept of sessions is bounded, and each line gets its own all the same."""
    reader = parser()
    for number in range(10_000):
        line = orjson.dumps({**EVENT, "session": {"id": uuid_of(number)}})
        (offer,) = reader.read(line, number)
        assert isinstance(offer, Offer)
        assert offer.session.id == uuid_of(number)
    assert len(reader._sessions) <= 4096


MEMBERS = st.sampled_from(["type", "details", "session", "body", "RumEvents", "Id", "id", "timestamp", "x"])
GARBAGE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(MEMBERS, inner),
).map(lambda value: json.dumps(value).encode())


@given(st.binary(max_size=60) | GARBAGE)
def test_garbage_raises_nothing(line: bytes) -> None:
    """Whatever a line holds, it gives events or faults."""
    for each in read(line):
        assert isinstance(each, (Offer, Fault))


@pytest.mark.parametrize(
    "number", ["18446744073709551616", "-9223372036854775809", "1e400"], ids=["large", "small", "infinite"]
)
def test_no_number_is_altered_in_a_recorded_body(number: str) -> None:
    """A number that cannot be sent as it is written is refused in a body's text as it is in a line."""
    body = f'{{"RumEvents": [{{"type": "a.b", "details": {{"n": {number}}}}}]}}'
    assert all(isinstance(each, Fault) for each in read({"body": body}, session=Session(uuid_of(1))))


def test_infinite_number_beside_a_long_one() -> None:
    """What is too large for a number does not become `null`, whichever parser reads the line."""
    line = b'{"type": "a.b", "details": {"n": 1e400, "id": 1234567890123456789}}'
    (fault,) = read(line, session=Session(uuid_of(1)))
    assert isinstance(fault, Fault)
    assert fault.field == "line"


def test_sessions_with_much_to_say_are_not_kept() -> None:
    """Sessions with long attributes take no memory once their line is read."""
    made = parser()
    tracemalloc.start()
    try:
        for number in range(200):
            attributes = {"text": f"{number:04}" * 10_000}
            line = orjson.dumps({**EVENT, "session": {"id": uuid_of(number), "attributes": attributes}})
            assert len(list(made.read(line, number))) == 1
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2_000_000
