"""From what a user hands in to an event's final bytes; every refusal names the field, none the content."""

from __future__ import annotations

import json
import math
import traceback
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NoReturn

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rumbuffer.core.encoding import EventEncoder, embedded_json, json_text, shape_of
from rumbuffer.errors import InvalidEvent

ID = "0f0e0d0c-0b0a-4908-8706-050403020100"
SECRET = "hunter2"


class Text(str):
    """A subclass, as libraries make them."""

    __slots__ = ()


class Number(float):
    """A subclass that keeps its class through rounding, as NumPy's does."""

    def __round__(self, ndigits: Any = None) -> Any:
        return self


class Naughty(Mapping[str, Any]):
    """A mapping that is not what it says."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError(SECRET)

    def __iter__(self) -> Any:
        return iter(["a"])

    def __len__(self) -> int:
        raise ValueError(SECRET)


def encode(
    details: Any = None,
    metadata: Any = None,
    *,
    type: Any = "com.example.test",
    id: Any = ID,
    timestamp: Any = 1_767_225_600.5,
    max_event_bytes: int = 6_144,
    refuse_oversize: bool = True,
) -> bytes:
    """Encode an event of which everything was given."""
    encoder = EventEncoder(max_event_bytes, refuse_oversize=refuse_oversize)
    return encoder.encode_given(type, {} if details is None else details, metadata, id, timestamp)


def refused(field: str, **given: Any) -> InvalidEvent:
    """The error for an event that is refused for that field."""
    with pytest.raises(InvalidEvent) as caught:
        encode(**given)
    error = caught.value
    assert error.field == field
    assert str(error) == f"{field}: {error.rule}; got {error.shape}"
    assert SECRET not in str(error)
    assert isinstance(error, ValueError)
    assert SECRET not in "".join(traceback.format_exception_only(error))
    assert error.__cause__ is None
    return error


# What is taken --------------------------------------------------------------------------------------


def test_an_event_is_encoded_as_the_service_models_it() -> None:
    """Details and metadata become JSON strings that hold an object; the rest stands as it is."""
    encoded = encode({"a": [1, "ü", None]}, {"version": "1.0.0"})
    assert json.loads(encoded) == {
        "id": ID,
        "timestamp": 1_767_225_600.5,
        "type": "com.example.test",
        "details": '{"a":[1,"ü",null]}',
        "metadata": '{"version":"1.0.0"}',
    }
    assert "metadata" not in json.loads(encode({}))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), JSON, max_size=4)


@given(details=OBJECTS, metadata=st.none() | OBJECTS)
def test_what_goes_in_comes_out(details: dict[str, Any], metadata: dict[str, Any] | None) -> None:
    """Every JSON object survives the way, and the bytes are one JSON document."""
    held = json.loads(encode(details, metadata))
    assert json.loads(held["details"]) == details
    assert (json.loads(held["metadata"]) if "metadata" in held else None) == metadata


@given(details=OBJECTS, metadata=st.none() | OBJECTS)
def test_the_fast_and_the_slow_way_give_the_same_bytes(
    details: dict[str, Any], metadata: dict[str, Any] | None
) -> None:
    """A mapping of another kind, or its JSON text, is encoded as the plain dict is."""
    plain = encode(details, metadata)
    assert plain == encode(MappingProxyType(details), metadata and OrderedDict(metadata))
    assert plain == encode(orjson.dumps(details).decode(), metadata and orjson.dumps(metadata).decode())


@pytest.mark.parametrize(
    "text",
    [
        '{"b": 1,  "a":\n2.50, "b": 3}',
        '{"n": 1e400, "big": 123456789012345678901234567890}',
        '{"lone": "\\ud800"}',
        " {} ",
        '{"nested": ' + "[" * 200 + "]" * 200 + "}",
    ],
)
def test_a_json_text_is_kept_verbatim(text: str) -> None:
    """A text that holds an object is embedded as it is, with its spaces, order, repeats and digits."""
    assert json.loads(encode(text, text))["details"] == text
    assert json.loads(encode(text, text))["metadata"] == text
    assert json.loads(encode(Text(text)))["details"] == text


def test_nan_in_a_mapping_becomes_null() -> None:
    """What JSON has no word for among the numbers becomes null, as orjson does."""
    assert json.loads(encode({"n": math.nan, "i": math.inf}))["details"] == '{"n":null,"i":null}'


@pytest.mark.parametrize("type", ["a", "A.b_c-9", "x" * 256, Text("com.example")])
def test_types_of_the_services_pattern_are_taken(type: str) -> None:
    """1 to 256 of the characters that the service allows."""
    assert json.loads(encode(type=type))["type"] == type


def test_more_types_than_are_remembered_are_taken() -> None:
    """Types that are made from input neither fail nor pile up."""
    encoder = EventEncoder(6_144)
    for number in (*range(1_100), 0, 1_099):
        assert f'"t{number}"'.encode() in encoder.encode(f"t{number}", {}, None, ID.encode(), 1.0)
    assert len(encoder._type_members) <= 1_024


# What is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "type", ["", "a b", "x" * 257, "ü", f"{SECRET}!", "a\n", None, 7, b"a", [], "\ud800"], ids=repr
)
def test_other_types_are_refused(type: Any) -> None:
    """A type that the service would refuse is refused here."""
    assert "a-z A-Z 0-9 _ . -" in refused("type", type=type).rule


@pytest.mark.parametrize("field", ["details", "metadata"])
@pytest.mark.parametrize(
    ("value", "rule", "shape"),
    [
        (7, "must be a mapping or a JSON text", "int"),
        ([SECRET], "must be a mapping or a JSON text", "list of 1 members"),
        (b"{}", "must be a mapping or a JSON text", "bytes of 2 bytes"),
        (True, "must be a mapping or a JSON text", "bool"),
        ({"a": Decimal("1.5")}, "must hold only JSON values", "dict of 1 members"),
        ({"a": {SECRET}}, "must hold only JSON values", "dict of 1 members"),
        ({"a": SECRET.encode()}, "must hold only JSON values", "dict of 1 members"),
        ({"a": 2**64}, "must hold only JSON values", "dict of 1 members"),
        ({1: SECRET}, "must hold only JSON values", "dict of 1 members"),
        ({"a": SECRET + "\ud800"}, "", "dict of 1 members"),
        (MappingProxyType({"a": object()}), "must hold only JSON values", "mappingproxy of 1 members"),
        (Naughty(), "must be readable (RuntimeError)", "Naughty of unknown size"),
        (SECRET, "a string must be a JSON text", "str of 7 characters"),
        ("", "a string must be a JSON text", "str of 0 characters"),
        ('{"a": NaN}', "a string must be a JSON text", "str of 10 characters"),
        ('{"a": -Infinity}', "a string must be a JSON text", "str of 16 characters"),
        ('{"a": "' + SECRET + '"', "a string must be a JSON text", "str of 15 characters"),
        ("{'a': 1}", "a string must be a JSON text", "str of 8 characters"),
        ('["' + SECRET + '"]', "must hold an object", "a JSON text of list of 1 members"),
        ("null", "must hold an object", "a JSON text of NoneType"),
        ('"' + SECRET + '"', "must hold an object", "a JSON text of str of 7 characters"),
        ("7", "must hold an object", "a JSON text of int"),
        ('{"a": "\ud800"}', "UTF-8", "str of 10 characters"),
        ("[" * 100_000, "a string must be a JSON text", "str of 100000 characters"),
        ('{"a": 1' + "1" * 5_000 + "}", "", ""),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_json_cannot_hold_is_refused(field: str, value: Any, rule: str, shape: str) -> None:
    """Details and metadata are mappings or texts of JSON objects; all else is named, not shown."""
    error = refused(field, **{field: value})
    assert rule in error.rule
    assert "; got" not in error.rule
    assert shape in error.shape


def test_deep_nesting_is_refused() -> None:
    """A mapping deeper than the encoder goes is invalid, and crashes nothing."""
    deep: dict[str, Any] = {}
    for _ in range(2_000):
        deep = {"a": deep}
    refused("details", details=deep)
    deep["a"] = deep
    refused("details", details=deep)


@pytest.mark.parametrize(
    "id", [None, 7, "", ID[:-1], ID + "0", ID.replace("-", "_"), "g" + ID[1:], ID + "\n"]
)
def test_an_id_is_a_uuid(id: Any) -> None:
    """An id that the service would refuse is refused here."""
    assert "UUID of 36 characters" in refused("id", id=id).rule


def test_an_id_of_our_own_is_not_checked_again() -> None:
    """An id that is given as bytes was made by us, and goes in as it is."""
    assert encode(id=ID.encode()) == encode(id=ID)


def test_uuids_of_either_case_are_taken() -> None:
    """The service's pattern allows both cases, and the id is kept as it is."""
    assert json.loads(encode(id=ID.upper()))["id"] == ID.upper()


# Time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [
        (0, "0"),
        (1_767_225_600, "1767225600"),
        (1_767_225_600.5, "1767225600.5"),
        (1_767_225_600.123456, "1767225600.123"),
        (Number(1.5), "1.5"),
        (datetime(2026, 1, 1), "1767225600.0"),
        (datetime(2026, 1, 1, tzinfo=UTC), "1767225600.0"),
        (datetime(2026, 1, 1, 2, 0, 0, 999_000, timezone(timedelta(hours=2))), "1767225600.999"),
        (datetime(1970, 1, 1), "0.0"),
    ],
    ids=repr,
)
def test_a_timestamp_is_seconds_or_a_datetime(timestamp: Any, seconds: str) -> None:
    """Seconds since the epoch to the millisecond; a naive datetime means UTC, as botocore takes it."""
    assert f'"timestamp":{seconds},'.encode() in encode(timestamp=timestamp)


@pytest.mark.parametrize(
    "timestamp",
    [
        1_767_225_600_500,
        1e11,
        -1,
        -0.001,
        math.nan,
        math.inf,
        10**400,
        datetime(1969, 12, 31),
        datetime(9999, 12, 31),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_timestamp_out_of_range_is_refused(timestamp: Any) -> None:
    """Milliseconds, times before the epoch and what is no number are refused."""
    assert "seconds" in refused("timestamp", timestamp=timestamp).rule


class Nowhere(tzinfo):
    """A time zone that does not know where it is."""

    def _unknown(self, when: datetime | None, /) -> NoReturn:
        raise ValueError(SECRET)

    utcoffset = dst = tzname = _unknown


def test_a_datetime_that_cannot_tell_its_time_is_refused() -> None:
    """A time zone of the user's may do anything when it is asked."""
    error = refused("timestamp", timestamp=datetime(2026, 1, 1, tzinfo=Nowhere()))
    assert error.shape == "datetime (ValueError)"


def test_milliseconds_by_mistake_are_told() -> None:
    """The error for JavaScript's time says what is probably wrong with it."""
    assert "milliseconds" in refused("timestamp", timestamp=1_767_225_600_500).rule


def test_an_event_that_cannot_be_read_at_all_is_refused() -> None:
    """Where no member is at fault by itself, the event is, and nothing else than `InvalidEvent` is raised."""
    nothing: dict[str, Any] = {}
    for metadata in (None, nothing):
        with pytest.raises(InvalidEvent, match="must be readable") as caught:
            EventEncoder(6_144).encode("a", {}, metadata, ID.encode(), 1j)  # type: ignore[arg-type]
        assert caught.value.field == "event"


@pytest.mark.parametrize("timestamp", [True, SECRET, "2026-01-01", Decimal(1), [], 1j], ids=repr)
def test_other_timestamps_are_refused(timestamp: Any) -> None:
    """ISO strings and other kinds are not guessed at."""
    assert "datetime" in refused("timestamp", timestamp=timestamp).rule


# Size -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(("details", "metadata", "size"), [("ü" * 10, None, 28), ("x", "ü", 19)])
def test_max_event_bytes_is_the_utf8_length_of_both_texts(
    details: str, metadata: str | None, size: int, as_text: bool
) -> None:
    """The limit holds for details and metadata together, in UTF-8, before they are embedded, to the byte."""
    given_details: Any = {"a": details}
    given_metadata: Any = None if metadata is None else {"a": metadata}
    if as_text:
        given_details = orjson.dumps(given_details).decode()
        given_metadata = given_metadata and orjson.dumps(given_metadata).decode()
    assert encode(given_details, given_metadata, max_event_bytes=size)
    error = refused("details", details=given_details, metadata=given_metadata, max_event_bytes=size - 1)
    assert f"max_event_bytes={size - 1}" in error.rule
    assert error.shape == f"{size} bytes"
    assert encode(given_details, given_metadata, max_event_bytes=2, refuse_oversize=False)


# The helpers ----------------------------------------------------------------------------------------


def test_attributes_are_embedded_like_details() -> None:
    """A mapping or a JSON text becomes a JSON string; what cannot names its field."""
    assert embedded_json("session.attributes", {"a": "ü"}) == '"{\\"a\\":\\"ü\\"}"'.encode()
    assert embedded_json("session.attributes", ' {"a": 1}') == b'" {\\"a\\": 1}"'
    for value in ({"a": object()}, "[]", '{"a":"\ud800"}', {"a": "\ud800"}):
        with pytest.raises(InvalidEvent) as caught:
            embedded_json("session.attributes", value)
        assert caught.value.field == "session.attributes"
        assert "; got" not in caught.value.rule
    assert json_text("metadata", {"a": 1}) == '{"a":1}'


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (None, "NoneType"),
        (True, "bool"),
        (SECRET, "str of 7 characters"),
        (b"abc", "bytes of 3 bytes"),
        (bytearray(2), "bytearray of 2 bytes"),
        ({"a": 1}, "dict of 1 members"),
        ((1, 2), "tuple of 2 members"),
        (frozenset(), "frozenset of 0 members"),
        (1.5, "float"),
        (object(), "object"),
        (Naughty(), "Naughty of unknown size"),
    ],
)
def test_a_shape_tells_type_and_size_only(value: object, shape: str) -> None:
    """What was given is described, and never shown: it may be personal."""
    assert shape_of(value) == shape
