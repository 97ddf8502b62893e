"""`AppMonitor`, `Session` and `Event`: the values that users make."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime
from typing import Any

import pytest

from rumbuffer.core.encoding import EventEncoder, is_uuid
from rumbuffer.core.sealed import SealedBatch
from rumbuffer.errors import InvalidEvent, InvalidSetting
from rumbuffer.events import NIL_USER_ID, AppMonitor, Event, Session, current_session

ID = "12345678-1234-4234-8234-123456789abc"
USER = "87654321-4321-4321-8321-cba987654321"
SECRET = "s3cr3t-personal-thing"
NO_UUIDS = [
    "",
    SECRET,
    ID + "0",
    ID.replace("-", ""),
    ID + "\n",
    ID.replace("1", "g"),
    None,
    7,
    b"x",
    [SECRET],
]


# AppMonitor -----------------------------------------------------------------------------------------------


def pickled(value: Any) -> Any:
    """What a worker process gets of it."""
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - made here


def body_of(monitor: AppMonitor) -> Any:
    """A request's body with this app monitor, read again."""
    return json.loads(SealedBatch(ID, monitor, ID, USER, None, (b"{}",)).body())


def test_an_app_monitor_travels_with_what_it_has() -> None:
    """Name and version stand in `AppMonitorDetails` and the alias beside them, each only if it is given."""
    assert body_of(AppMonitor(ID)) == {
        "BatchId": ID,
        "AppMonitorDetails": {"id": ID},
        "UserDetails": {"userId": USER, "sessionId": ID},
        "RumEvents": [{}],
    }
    whole = body_of(AppMonitor(ID, name='a "shop"', version="1.4.2", alias="é" * 255))
    assert whole["AppMonitorDetails"] == {"id": ID, "name": 'a "shop"', "version": "1.4.2"}
    assert whole["Alias"] == "é" * 255
    assert body_of(AppMonitor(ID, name="", version=""))["AppMonitorDetails"] == {
        "id": ID,
        "name": "",
        "version": "",
    }


@pytest.mark.parametrize("id", NO_UUIDS)
def test_an_app_monitors_id_is_a_uuid(id: Any) -> None:
    """Anything else is an invalid setting, which names the field and not the content."""
    with pytest.raises(InvalidSetting) as caught:
        AppMonitor(id)
    assert caught.value.field == "AppMonitor.id"
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("name", 7), ("name", b"x"), ("name", SECRET + "\ud800"), ("version", 1.4), ("version", ["x"])),
        *(("alias", ""), ("alias", "x" * 256), ("alias", 7), ("alias", SECRET + "\udfff")),
    ],
)
def test_an_app_monitors_texts_are_checked(field: str, value: object) -> None:
    """Texts are texts of the service's lengths, which UTF-8 can hold."""
    with pytest.raises(InvalidSetting) as caught:
        AppMonitor(ID, **{field: value})  # type: ignore[arg-type]
    assert caught.value.field == f"AppMonitor.{field}"
    assert SECRET not in str(caught.value)


def test_app_monitors_are_immutable_values() -> None:
    """They are equal by what they were made of, and cannot be changed."""
    monitor = AppMonitor(ID, name="shop")
    assert monitor == AppMonitor(ID, "shop") != AppMonitor(ID, "shop", alias="a")
    assert len({monitor, AppMonitor(ID, "shop"), AppMonitor(ID)}) == 2
    with pytest.raises(FrozenInstanceError):
        monitor.name = "else"  # type: ignore[misc]
    assert "envelope" not in repr(monitor)


def test_app_monitors_can_be_pickled_and_copied() -> None:
    """A worker process gets an equal one, that works."""
    monitor = AppMonitor(ID, name="shop", alias="a")
    for other in (pickled(monitor), copy.deepcopy(monitor), copy.copy(monitor)):
        assert other == monitor
        assert other.envelope == monitor.envelope


# Session --------------------------------------------------------------------------------------------------


def test_a_session_has_no_user_unless_it_is_told() -> None:
    """The user's id is the nil UUID then, as the browser client's without cookies."""
    session = Session(ID)
    assert session.user_id == NIL_USER_ID == "00000000-0000-0000-0000-000000000000"
    assert session.attributes is None
    assert session.encoded_attributes is None


def test_a_new_session_has_a_random_id() -> None:
    """`Session.new()` makes valid ids that differ, and takes user and attributes."""
    one, other = Session.new(), Session.new(user_id=USER, attributes={"a": 1})
    assert is_uuid(one.id)
    assert one.id != other.id
    assert (other.user_id, other.attributes) == (USER, {"a": 1})


def test_new_of_a_subclass_makes_one() -> None:
    """`new()` is inherited, and so is the way through a pickle."""
    made = Visit.new()
    assert type(made) is Visit
    assert type(pickled(made)) is Visit


class Visit(Session):
    """A user's own kind of session."""


@pytest.mark.parametrize("value", NO_UUIDS)
def test_a_sessions_ids_are_uuids(value: Any) -> None:
    """Anything else is an invalid event, which names the field and not the content."""
    with pytest.raises(InvalidEvent) as caught:
        Session(value)
    assert caught.value.field == "session.id"
    assert SECRET not in str(caught.value)
    with pytest.raises(InvalidEvent) as caught:
        Session(ID, value)
    assert caught.value.field == "session.user_id"
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "attributes", [[SECRET], {"a": {SECRET}}, SECRET, f'["{SECRET}"]', {"a": SECRET + "\ud800"}, {1: SECRET}]
)
def test_a_sessions_attributes_hold_json(attributes: Any) -> None:
    """What JSON cannot hold is refused when the session is made."""
    with pytest.raises(InvalidEvent) as caught:
        Session(ID, attributes=attributes)
    assert caught.value.field == "session.attributes"
    assert SECRET not in str(caught.value)


def test_attributes_stand_ready_to_be_embedded() -> None:
    """A mapping or a text becomes a JSON string; none and an empty one are the same."""
    assert Session(ID, attributes={"a": 'x"'}).encoded_attributes == b'"{\\"a\\":\\"x\\\\\\"\\"}"'
    assert Session(ID, attributes='{ "a":1}').encoded_attributes == b'"{ \\"a\\":1}"'
    assert Session(ID, attributes={}).encoded_attributes is None
    assert Session(ID, attributes={}) == Session(ID)


def test_sessions_are_immutable() -> None:
    """Attributes cannot be set, added or deleted."""
    session = Session(ID)
    for name in ("id", "user_id", "attributes", "key", "else"):
        with pytest.raises(AttributeError, match=name):
            setattr(session, name, "x")
    with pytest.raises(AttributeError, match="id"):
        del session.id
    assert session == Session(ID)


def test_a_session_keeps_the_attributes_that_it_was_made_with() -> None:
    """Changing the mapping afterwards, or what the session gives out, changes nothing that is sent."""
    attributes = {"a": 1}
    session = Session(ID, attributes=attributes)
    attributes["a"] = 2
    assert session.attributes == {"a": 1}
    session.attributes["a"] = 3
    assert session.attributes == {"a": 1}
    assert session.encoded_attributes == b'"{\\"a\\":1}"'
    assert pickled(session) == session


def test_attributes_given_as_a_text_are_read() -> None:
    """A session tells its attributes as a mapping, however they were given, and sends the text verbatim."""
    session = Session(ID, attributes='{ "a":"\\ud800"}')
    assert session.attributes == {"a": "\ud800"}
    assert pickled(session).encoded_attributes == session.encoded_attributes


def test_sessions_are_equal_by_value() -> None:
    """Id, user and attributes make the value; nothing else is ever equal to one."""
    one = Session(ID, USER, {"a": 1})
    assert one == Session(ID, USER, '{"a":1}')
    assert hash(one) == hash(Session(ID, USER))
    assert one != Session(ID, USER)
    assert one != Session(ID, attributes={"a": 1})
    assert one != Session(USER, USER, {"a": 1})
    assert one != ID
    assert len({one, Session(ID, USER, {"a": 1}), Session(ID)}) == 2


@pytest.mark.parametrize("attributes", [None, {"a": 1}, '{"a":1}'])
def test_sessions_can_be_pickled_and_copied(attributes: Any) -> None:
    """A worker process gets an equal one."""
    session = Session(ID, USER, attributes)
    for other in (pickled(session), copy.copy(session), copy.deepcopy(session)):
        assert other == session
        assert other.attributes == session.attributes
        assert other.sample_point == session.sample_point


def test_a_session_does_not_print_who_it_is() -> None:
    """The text of a session, as it may come into a log, names its id alone."""
    assert repr(Session(ID, USER, {"name": SECRET})) == f"Session(id='{ID}')"


@pytest.mark.parametrize(
    ("id", "crc"),
    [
        ("00000000-0000-0000-0000-000000000000", 0x8151DA89),
        ("12345678-1234-4234-8234-123456789abc", 0xF2F8D85C),
        ("ffffffff-ffff-4fff-bfff-ffffffffffff", 0x6C686746),
    ],
)
def test_sampling_goes_by_the_crc32_of_the_id(id: str, crc: int) -> None:
    """The point is fixed by the id's text alone, so that every process and every release decides alike."""
    session = Session(id, USER)
    assert session.sample_point == crc / 2**32
    assert session.sample_point == Session(id, attributes={"a": 1}).sample_point


def test_sample_points_are_spread_evenly() -> None:
    """Of many random sessions about a tenth lies below 0.1, and all lie in [0, 1)."""
    points = [Session(f"{number:08x}-aaaa-4aaa-8aaa-aaaaaaaaaaaa").sample_point for number in range(5000)]
    assert all(0.0 <= point < 1.0 for point in points)
    assert 400 < sum(point < 0.1 for point in points) < 600


def test_there_is_no_current_session_at_first() -> None:
    """Middleware sets the context variable; without it there is none."""
    assert current_session.get() is None


# Event ----------------------------------------------------------------------------------------------------


def test_an_event_is_what_it_was_given() -> None:
    """It is checked when it is offered, not when it is made."""
    when = datetime(2026, 11, 3, tzinfo=UTC)
    event = Event("no type!", {"a": {1}}, metadata="no json", id="no id", timestamp=when)
    assert (event.type, event.details, event.metadata, event.id, event.timestamp) == (
        "no type!",
        {"a": {1}},
        "no json",
        "no id",
        when,
    )
    plain = Event("t", {})
    assert (plain.metadata, plain.id, plain.timestamp) == (None, None, None)


def test_an_event_prints_its_type_alone() -> None:
    """Details may be personal, and don't come into a log."""
    assert repr(Event("com.example.paid", {"card": SECRET})) == "Event('com.example.paid')"


@pytest.mark.parametrize("timestamp", ["1700000000", SECRET, None, True, [], 1j])
def test_a_time_that_is_neither_number_nor_datetime_is_invalid(timestamp: Any) -> None:
    """It is refused by its name and type when the event is encoded, and its content is not told."""
    with pytest.raises(InvalidEvent) as caught:
        EventEncoder(6144).encode_given("t", {}, None, ID, timestamp)
    assert caught.value.field == "timestamp"
    assert caught.value.shape.startswith(type(timestamp).__name__)
    assert SECRET not in str(caught.value)
