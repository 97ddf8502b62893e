from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rumbuffer.emulator import ServiceError
from rumbuffer.emulator.model import content_size, request_model, sequence, string
from tests.emulator.helpers import MONITOR, body, document, event, uuid_of

TOO_SHORT = "greater than or equal to 36"
NO_UUID = "Member must satisfy regular expression pattern"
MISSING = "Member must not be null"
NO_OBJECT = "Member must be a JSON string that holds an object"


def error_of(payload: bytes, app_monitor_id: str = MONITOR) -> ServiceError:
    """The refusal of a request."""
    with pytest.raises(ServiceError) as caught:
        request_model().parse(app_monitor_id, payload)
    return caught.value


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"RumEvents": []},
        {"Alias": "shop"},
        {"Alias": "x" * 255},
        {"Alias": "é" * 255},
        {"SessionMetadata": '{"domain":"example.com"}'},
        {"AppMonitorDetails": {}},
        {"UserDetails": {}},
        {"UserDetails": {"userId": "ABCDEFab-0000-0000-0000-000000000000"}},
        {"SomethingNew": {"any": "thing"}},
        {"RumEvents": [event(metadata=None)]},
        {"RumEvents": [event(metadata="{}", details=" {} ")]},
        {"RumEvents": [event(timestamp=1795365502)]},
        {"RumEvents": [event(timestamp=-1.5)]},
        {"RumEvents": [{**event(), "extra": [1]}]},
        {"RumEvents": [event(n) for n in range(500)]},
        {"RumEvents": [event(type="com.amazon.rum.page_view_event")]},
    ],
)
def test_valid_requests_are_taken(changes: dict[str, Any]) -> None:
    """What the model allows is taken as it is, unknown members included."""
    assert request_model().parse(MONITOR, body(**changes)) == document(**changes)


@pytest.mark.parametrize("name", ["Alias", "SessionMetadata"])
def test_optional_members_may_be_null(name: str) -> None:
    """Null stands for a missing member, as in every service of this protocol."""
    request_model().parse(MONITOR, json.dumps({**document(), name: None}).encode())


@pytest.mark.parametrize(
    ("changes", "path", "constraint"),
    [
        ({"BatchId": None}, "batchId", MISSING),
        ({"BatchId": "abc"}, "batchId", TOO_SHORT),
        ({"BatchId": "x" * 37}, "batchId", "less than or equal to 36"),
        ({"BatchId": "g" * 36}, "batchId", NO_UUID),
        ({"BatchId": uuid_of(1).replace("-", "_")}, "batchId", NO_UUID),
        ({"BatchId": 1}, "batchId", "be a string"),
        ({"AppMonitorDetails": None}, "appMonitorDetails", MISSING),
        ({"AppMonitorDetails": "shop"}, "appMonitorDetails", "be a structure"),
        ({"AppMonitorDetails": {"version": 1}}, "appMonitorDetails.version", "be a string"),
        ({"UserDetails": None}, "userDetails", MISSING),
        ({"UserDetails": {"userId": "me"}}, "userDetails.userId", TOO_SHORT),
        ({"UserDetails": {"sessionId": "z" * 36}}, "userDetails.sessionId", NO_UUID),
        ({"RumEvents": None}, "rumEvents", MISSING),
        ({"RumEvents": {}}, "rumEvents", "be a list"),
        ({"RumEvents": [event(), None]}, "rumEvents.2.member", MISSING),
        ({"RumEvents": ["x"]}, "rumEvents.1.member", "be a structure"),
        ({"RumEvents": [event(id=None)]}, "rumEvents.1.member.id", MISSING),
        ({"RumEvents": [event(id="1")]}, "rumEvents.1.member.id", TOO_SHORT),
        ({"RumEvents": [event(), event(id="-" * 36)]}, "rumEvents.2.member.id", NO_UUID),
        ({"RumEvents": [event(timestamp=None)]}, "rumEvents.1.member.timestamp", MISSING),
        (
            {"RumEvents": [event(timestamp="2026-11-22T00:00:00Z")]},
            "rumEvents.1.member.timestamp",
            "number of",
        ),
        ({"RumEvents": [event(timestamp=True)]}, "rumEvents.1.member.timestamp", "number of"),
        ({"RumEvents": [event(type=None)]}, "rumEvents.1.member.type", MISSING),
        ({"RumEvents": [event(type="")]}, "rumEvents.1.member.type", "greater than or equal to 1"),
        ({"RumEvents": [event(type="a b")]}, "rumEvents.1.member.type", NO_UUID),
        ({"RumEvents": [event(type="ab\n")]}, "rumEvents.1.member.type", NO_UUID),
        ({"RumEvents": [event(type="x" * 257)]}, "rumEvents.1.member.type", "less than or equal to 256"),
        ({"RumEvents": [event(details=None)]}, "rumEvents.1.member.details", MISSING),
        ({"RumEvents": [event(details={"total": 42})]}, "rumEvents.1.member.details", "be a string"),
        ({"RumEvents": [event(details="total=42")]}, "rumEvents.1.member.details", NO_OBJECT),
        ({"RumEvents": [event(details="[1]")]}, "rumEvents.1.member.details", NO_OBJECT),
        ({"RumEvents": [event(details="NaN")]}, "rumEvents.1.member.details", NO_OBJECT),
        ({"RumEvents": [event(details='{"a":NaN}')]}, "rumEvents.1.member.details", NO_OBJECT),
        ({"RumEvents": [event(details="")]}, "rumEvents.1.member.details", NO_OBJECT),
        ({"RumEvents": [event(metadata="null")]}, "rumEvents.1.member.metadata", NO_OBJECT),
        ({"RumEvents": [event(metadata=7)]}, "rumEvents.1.member.metadata", "be a string"),
        ({"Alias": ""}, "alias", "greater than or equal to 1"),
        ({"Alias": "x" * 256}, "alias", "less than or equal to 255"),
        ({"SessionMetadata": {"domain": "x"}}, "sessionMetadata", "be a string"),
        ({"SessionMetadata": "domain"}, "sessionMetadata", NO_OBJECT),
    ],
)
def test_broken_constraints_are_named(changes: dict[str, Any], path: str, constraint: str) -> None:
    """A request that breaks a constraint gets a ValidationException that says where and which."""
    error = error_of(body(**changes))
    assert (error.status, error.code) == (400, "ValidationException")
    assert error.message.startswith("1 validation error detected: Value ")
    assert f"at '{path}' failed to satisfy constraint: Member must" in error.message
    assert constraint in error.message


@pytest.mark.parametrize("monitor", ["shop", "8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e1", "g" * 36, "%20" * 12])
def test_the_app_monitor_id_in_the_path_is_checked(monitor: str) -> None:
    """The id travels in the path and is held to the same pattern."""
    assert " at 'id' failed" in error_of(body(), monitor).message


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b"[]", b"7", b'"x"', b"{} {}", b"[" * 5000])
def test_bodies_that_are_no_object_are_refused(payload: bytes) -> None:
    """A body that is no JSON object is a ValidationException, never a failure of the emulator."""
    assert error_of(payload).code == "ValidationException"


def test_every_problem_is_counted_and_the_first_ten_are_told() -> None:
    """Many problems make one error of bounded length."""
    message = error_of(body(RumEvents=[event(id="1") for _ in range(50)])).message
    assert message.startswith("50 validation errors detected: ")
    assert message.count("failed to satisfy") == 10
    assert len(message) < 3000


def test_long_values_are_cut_in_messages() -> None:
    """A value is shown with its first hundred characters."""
    assert "x" * 101 not in error_of(body(Alias="x" * 5000)).message


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["BatchId", "RumEvents", "UserDetails", "userId", "id", "details", "Alias"]),
                inner,
            )
        ),
    )
)
def test_any_json_is_taken_or_refused_in_the_service_s_form(value: Any) -> None:
    """Whatever JSON comes, the outcome is a document or a ValidationException."""
    payload = json.dumps({**document(), **value} if isinstance(value, dict) else value).encode()
    try:
        request_model().parse(MONITOR, payload)
    except ServiceError as error:
        assert error.code == "ValidationException"  # noqa: PT017 - both ways are fine


@pytest.mark.parametrize(
    ("details", "metadata", "size"),
    [("{}", None, 2), ("{}", "{}", 4), ('{"a":"é€😀"}', None, 8 + 2 + 3 + 4)],
)
def test_size_of_an_event_counts_utf8_bytes(details: str, metadata: str | None, size: int) -> None:
    """The limit counts the encoded bytes of details and metadata together."""
    assert content_size(event(details=details, metadata=metadata)) == size


@pytest.mark.parametrize(
    ("value", "fine"), [(["a"], True), (["a", "b"], True), ([], False), (["a", "b", "c"], False)]
)
def test_lists_are_held_to_their_length(value: list[str], fine: bool) -> None:
    """Should the model come to limit a list, its length is checked."""
    problems = sequence(string(1, 1, None), 1, 2)(value)
    assert (not problems) is fine


def test_patterns_need_not_cover_the_whole_string() -> None:
    """A pattern of the model is searched for, as its language says."""
    check = string(None, None, "[0-9]")
    assert not check("a1b")
    assert check("ab")
