"""The same arguments through boto3 and a buffer, both over sockets: the same events, or the same error."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import botocore.serialize
import pytest

from rumbuffer.compat.checks import call_checks
from rumbuffer.emulator import Emulator
from tests.compat.helpers import (
    LEFT_OUT,
    MONITOR,
    NOBODY,
    OTHER_MONITOR,
    SESSION,
    USER,
    Refused,
    boto3_client,
    buffer_at,
    call,
    event,
    kept_by,
    of_boto3,
    outcome,
    uuid_of,
)
from tests.fakes import assert_laws

SENDS_FRACTIONS = hasattr(botocore.serialize, "TIMESTAMP_PRECISION_DEFAULT")
"""Older versions of botocore cut the fractions of seconds off."""

BRUSSELS = timezone(timedelta(hours=2))

TIMES: dict[str, Any] = {
    "whole seconds": 1795365502,
    "a fraction": 1767225600.999,
    "microseconds": 1767225600.123456,
    "more than microseconds": 1767225600.1234567,
    "zero": 0,
    "before the epoch": -86400.5,
    "a bool, which is an int": True,
    "the year 2100": 4102444800,
    "a decimal": Decimal("1767225600.25"),
    "a numeric text": "1767225600",
    "a numeric text with a fraction": "1767225600.75",
    "a naive datetime": datetime(2026, 1, 1, 12, 30, 15, 250_000),
    "a naive datetime of whole seconds": datetime(2026, 7, 1, 12, 30, 15),
    "a datetime in UTC": datetime(2026, 1, 1, 12, 30, 15, 123_456, tzinfo=UTC),
    "a datetime elsewhere": datetime(2026, 1, 1, 12, 30, 15, tzinfo=BRUSSELS),
    "the first datetime": datetime(1, 1, 1),
    "the last datetime": datetime(9999, 12, 31, 23, 59, 59, 999_999),
    "ISO 8601 with Z": "2026-01-01T12:30:15Z",
    "ISO 8601 with an offset": "2026-01-01T12:30:15.5+02:00",
    "ISO 8601 without a zone": "2026-01-01T12:30:15",
    "ISO 8601, basic": "20260101T123015Z",
    "a date": "2026-01-01",
    "RFC 822": "Thu, 01 Jan 2026 12:30:15 GMT",
    "what dateutil understands": "1 January 2026 5pm",
}

VALID: dict[str, dict[str, Any]] = {
    "as it stands in the documentation": call(),
    "no metadata": call(RumEvents=[event(metadata=LEFT_OUT)]),
    "empty objects": call(RumEvents=[event(details="{}", metadata="{}")]),
    "details with spaces and line ends": call(RumEvents=[event(details=' {\n"a": [1, {}] } ')]),
    "details beyond ASCII": call(RumEvents=[event(details='{"a":"Grüße, 東京 🍵"}')]),
    "details with escapes": call(RumEvents=[event(details='{"a":"\\u00e4\\"\\\\ \\t"}')]),
    "details with a key twice": call(RumEvents=[event(details='{"a":1,"a":2}')]),
    "details with a large number": call(RumEvents=[event(details='{"a":123456789012345678901234567890}')]),
    "a built-in type": call(RumEvents=[event(type="com.amazon.rum.page_view_event")]),
    "a type of 256 characters": call(RumEvents=[event(type="a" * 256)]),
    "several events": call(RumEvents=[event(number) for number in range(7)]),
    "a tuple of events": call(RumEvents=tuple(event(number) for number in range(3))),
    "more events than a batch takes": call(RumEvents=[event(number) for number in range(250)]),
    "the same event twice": call(RumEvents=[event(), event()]),
    "no events": call(RumEvents=[]),
    "ids in capitals": call(
        BatchId=uuid_of(171).upper(),
        UserDetails={"userId": USER.upper(), "sessionId": SESSION.upper()},
        RumEvents=[event(id=uuid_of(171).upper())],
    ),
    "an alias": call(Alias="shop-production"),
    "an alias of 255 characters": call(Alias="ä" * 255),
    "another app monitor": call(Id=OTHER_MONITOR, AppMonitorDetails={"id": OTHER_MONITOR}),
    "another version": call(AppMonitorDetails={"id": MONITOR, "name": "shop", "version": "2.0.0"}),
    "an app monitor without name and version": call(AppMonitorDetails={"id": MONITOR}),
    "empty name and version": call(AppMonitorDetails={"id": MONITOR, "name": "", "version": ""}),
    "a name beyond ASCII": call(AppMonitorDetails={"id": MONITOR, "name": 'Lädchen "東京"\n'}),
    "details of another id": call(AppMonitorDetails={"id": "shop", "name": "shop"}),
    "details of an empty id": call(AppMonitorDetails={"id": ""}),
    "nobody": call(UserDetails={"userId": NOBODY, "sessionId": SESSION}),
}

WHOSE_IDS_ARE_FILLED_IN: dict[str, dict[str, Any]] = {
    "no details of the app monitor": call(AppMonitorDetails={}),
    "no details of the user": call(UserDetails={}),
    "no session": call(UserDetails={"userId": USER}),
    "no user": call(UserDetails={"sessionId": SESSION}),
}

INVALID: dict[str, dict[str, Any]] = {
    # botocore's own checks
    "nothing": {},
    "no Id": call(Id=LEFT_OUT),
    "no BatchId": call(BatchId=LEFT_OUT),
    "no AppMonitorDetails": call(AppMonitorDetails=LEFT_OUT),
    "no UserDetails": call(UserDetails=LEFT_OUT),
    "no RumEvents": call(RumEvents=LEFT_OUT),
    "a short Id": call(Id="shop"),
    "a short BatchId": call(BatchId="1"),
    "a short userId": call(UserDetails={"userId": "me", "sessionId": SESSION}),
    "a short sessionId": call(UserDetails={"userId": USER, "sessionId": ""}),
    "a short event id": call(RumEvents=[event(), event(id="2")]),
    "an empty alias": call(Alias=""),
    "None for an alias": call(Alias=None),
    "None for metadata": call(RumEvents=[event(metadata=None)]),
    "None for the events": call(RumEvents=None),
    "an event that is None": call(RumEvents=[None]),
    "an event that is a text": call(RumEvents=["event"]),
    "an event alone": call(RumEvents=event()),
    "a generator of events": call(RumEvents=(event(number) for number in range(2))),
    "details that are a dict": call(RumEvents=[event(details={"n": 1})]),
    "metadata that are a dict": call(RumEvents=[event(), event(metadata={"version": "1.0.0"})]),
    "details in bytes": call(RumEvents=[event(details=b"{}")]),
    "a number for a type": call(RumEvents=[event(type=7)]),
    "a number for a name": call(AppMonitorDetails={"id": MONITOR, "version": 1.4}),
    "a text for UserDetails": call(UserDetails=USER),
    "an event without an id": call(RumEvents=[event(id=LEFT_OUT)]),
    "an event without a time": call(RumEvents=[event(), event(timestamp=LEFT_OUT)]),
    "an event without a type": call(RumEvents=[event(type=LEFT_OUT)]),
    "an event without details": call(RumEvents=[event(details=LEFT_OUT)]),
    "an unknown argument": call(Batch=uuid_of(1)),
    "boto3's name in lower case": call(batchId=uuid_of(1)),
    "an unknown member of an event": call(RumEvents=[event(session="x")]),
    "an unknown member of the user": call(UserDetails={"userId": USER, "sessionId": SESSION, "name": "x"}),
    "an unknown member of the app monitor": call(AppMonitorDetails={"id": MONITOR, "alias": "x"}),
    "a time that is none": call(RumEvents=[event(timestamp="yesterday")]),
    "a time that is None": call(RumEvents=[event(timestamp=None)]),
    "a time that is a list": call(RumEvents=[event(timestamp=[1])]),
    "a time that is no number": call(RumEvents=[event(timestamp=float("nan"))]),
    "a time in milliseconds": call(RumEvents=[event(timestamp=1767225600000)]),
    "several at once": call(Id="x", Alias=7, RumEvents=[event(id="1"), event(details=LEFT_OUT, other=1)]),
    # The service's
    "an Id that is no UUID": call(Id="x" * 36),
    "a long Id": call(Id=MONITOR + "0"),
    "a BatchId that is no UUID": call(BatchId="z" * 36),
    "a long BatchId": call(BatchId=uuid_of(1) + "1"),
    "a userId that is no UUID": call(UserDetails={"userId": "-" * 36, "sessionId": SESSION}),
    "a sessionId in braces": call(UserDetails={"userId": USER, "sessionId": "{" + SESSION + "}"}),
    "an event id that is no UUID": call(RumEvents=[event(), event(), event(id="g" * 36)]),
    "an event id with a line end": call(RumEvents=[event(id=uuid_of(1) + "\n")]),
    "a long alias": call(Alias="a" * 256),
    "an empty type": call(RumEvents=[event(type="")]),
    "a type with a space": call(RumEvents=[event(type="my event")]),
    "a long type": call(RumEvents=[event(type="a" * 257)]),
    "several of the service's": call(BatchId="z" * 36, RumEvents=[event(type="?"), event(id="?" * 36)]),
}

RAISED_EARLIER: dict[str, tuple[dict[str, Any], str]] = {
    # What the service would refuse or drop, and what no error of botocore's is for; with its parameter.
    "details that are no JSON": (call(RumEvents=[event(details="total=42")]), "RumEvents[0].details"),
    "details that are empty": (call(RumEvents=[event(details="")]), "RumEvents[0].details"),
    "details that hold a list": (call(RumEvents=[event(), event(details="[1]")]), "RumEvents[1].details"),
    "details that hold a text": (call(RumEvents=[event(details='"{}"')]), "RumEvents[0].details"),
    "details that hold NaN": (call(RumEvents=[event(details='{"a":NaN}')]), "RumEvents[0].details"),
    "details with half a character": (
        call(RumEvents=[event(details='{"a":"\ud800"}')]),
        "RumEvents[0].details",
    ),
    "metadata that are no JSON": (call(RumEvents=[event(metadata="{")]), "RumEvents[0].metadata"),
    "metadata that hold null": (call(RumEvents=[event(metadata="null")]), "RumEvents[0].metadata"),
    "an event of more than 6 KB": (
        call(RumEvents=[event(), event(details='{"a":"' + "x" * 6140 + '"}', metadata=LEFT_OUT)]),
        "RumEvents[1].details",
    ),
    "a time that never ends": (call(RumEvents=[event(timestamp=float("inf"))]), "RumEvents[0].timestamp"),
    "a time beyond all": (call(RumEvents=[event(), event(timestamp=10**400)]), "RumEvents[1].timestamp"),
    "a time beyond all, behind one that is none": (
        call(RumEvents=[event(timestamp="yesterday"), event(timestamp=float("-inf"))]),
        "RumEvents[1].timestamp",
    ),
    "a text of a time beyond all": (
        call(RumEvents=[event(timestamp="inf")]),
        "RumEvents[0].timestamp",
    ),
    "a datetime beyond the last": (
        call(
            RumEvents=[event(timestamp=datetime(9999, 12, 31, 23, 30, tzinfo=timezone(timedelta(hours=-1))))]
        ),
        "RumEvents[0].timestamp",
    ),
}


async def both(
    emulator: Emulator, other_emulator: Emulator, request: dict[str, Any]
) -> tuple[Refused | None, Refused | None]:
    """Make a call of boto3 and of a buffer, which is closed then; return what they came to."""
    theirs = await of_boto3(other_emulator, request)
    async with buffer_at(emulator, sample_rate=0.0) as buffer:
        ours = await outcome(buffer.put_rum_events(**request))
        stats = buffer.stats()
        assert_laws(stats)
        assert stats.sampled_out == 0
    stats = buffer.stats()
    assert_laws(stats, closed=True)
    if ours is None:
        assert (stats.delivered, stats.refused) == (len(request["RumEvents"]), 0)
    else:
        assert stats.accepted == 0
        assert stats.refused >= 1
    return theirs, ours


@pytest.mark.parametrize("request_", VALID.values(), ids=VALID)
async def test_valid_calls(emulator: Emulator, other_emulator: Emulator, request_: dict[str, Any]) -> None:
    """What boto3 delivers, the buffer delivers; all of it is the same but the batches."""
    assert await both(emulator, other_emulator, request_) == (None, None)
    assert kept_by(emulator) == kept_by(other_emulator)
    assert len(kept_by(emulator)) == len(request_["RumEvents"])
    detail_ids = [
        [batch.app_monitor_details.get("id") for batch in service.batches if batch.event_count]
        for service in (emulator, other_emulator)
    ]
    assert set(detail_ids[0]) == set(detail_ids[1])


@pytest.mark.parametrize("request_", WHOSE_IDS_ARE_FILLED_IN.values(), ids=WHOSE_IDS_ARE_FILLED_IN)
async def test_ids_that_may_be_left_out(
    emulator: Emulator, other_emulator: Emulator, request_: dict[str, Any]
) -> None:
    """Ids that the model does not require are filled in: nobody's, and `Id` for the details."""
    assert await both(emulator, other_emulator, request_) == (None, None)
    assert [kept[:8] for kept in kept_by(emulator)] != []
    assert [kept[:5] for kept in kept_by(emulator)] == [kept[:5] for kept in kept_by(other_emulator)]
    (ours,), (theirs,) = emulator.batches, other_emulator.batches
    assert ours.app_monitor_details == {"id": MONITOR, **theirs.app_monitor_details}
    assert (ours.user_id, ours.session_id) == (theirs.user_id or NOBODY, theirs.session_id or NOBODY)


@pytest.mark.parametrize("time", TIMES.values(), ids=TIMES)
async def test_times(emulator: Emulator, other_emulator: Emulator, time: Any) -> None:
    """Each form of a time that botocore takes is the same number on the wire."""
    request_ = call(RumEvents=[event(timestamp=time)])
    assert await both(emulator, other_emulator, request_) == (None, None)
    (ours,), (theirs,) = emulator.events(), other_emulator.events()
    if SENDS_FRACTIONS:
        assert (ours.timestamp, type(ours.timestamp)) == (theirs.timestamp, type(theirs.timestamp))
    else:
        assert 0 <= ours.timestamp - theirs.timestamp <= 1


@pytest.mark.parametrize("request_", INVALID.values(), ids=INVALID)
async def test_invalid_calls(emulator: Emulator, other_emulator: Emulator, request_: dict[str, Any]) -> None:
    """What boto3 refuses, the buffer refuses, by an error of the same class with the same parameters."""
    theirs, ours = await both(emulator, other_emulator, request_)
    assert theirs is not None
    assert ours is not None
    assert (ours.kind, ours.parameters) == (theirs.kind, theirs.parameters)
    assert ours.parameters
    if ours.kind == "ParamValidationError":
        assert ours.text.replace(", SessionMetadata", "") == theirs.text.replace(", SessionMetadata", "")


@pytest.mark.parametrize(("request_", "parameter"), RAISED_EARLIER.values(), ids=RAISED_EARLIER)
async def test_what_is_raised_earlier(emulator: Emulator, request_: dict[str, Any], parameter: str) -> None:
    """What the service would drop, or botocore stumble over, is boto3's error for a wrong parameter."""
    async with buffer_at(emulator) as buffer:
        refused = await outcome(buffer.put_rum_events(**request_))
        assert refused is not None
        assert (refused.kind, refused.parameters) == ("ParamValidationError", frozenset({parameter}))
        for text in ("total=42", "xxx"):
            assert text not in refused.text
        assert buffer.stats().accepted == 0
    assert emulator.requests.received == 0


METADATA = '{"domain": "example.com", "version": "1.0.0"}'


async def test_session_metadata(emulator: Emulator, other_emulator: Emulator) -> None:
    """`SessionMetadata` is sent as it is given, whether botocore knows it yet or not."""
    request_ = call(SessionMetadata=METADATA)
    theirs = await of_boto3(other_emulator, request_)
    async with buffer_at(emulator) as buffer:
        assert await outcome(buffer.put_rum_events(**request_)) is None
    assert [batch.session_metadata for batch in emulator.batches] == [METADATA]
    known = (
        "SessionMetadata"
        in boto3_client(emulator).meta.service_model.operation_model("PutRumEvents").input_shape.members
    )
    assert (theirs is None) == known
    assert (
        "SessionMetadata" in call_checks().service_model.operation_model("PutRumEvents").input_shape.members
    )


@pytest.mark.parametrize("metadata", ["", "{", "[]", "null", 7, None, {"domain": "example.com"}])
async def test_session_metadata_that_hold_no_object(emulator: Emulator, metadata: Any) -> None:
    """`SessionMetadata` is checked as `details` is."""
    async with buffer_at(emulator) as buffer:
        refused = await outcome(buffer.put_rum_events(**call(SessionMetadata=metadata)))
    assert refused is not None
    assert (refused.kind, refused.parameters) == ("ParamValidationError", frozenset({"SessionMetadata"}))
    assert emulator.requests.received == 0


@pytest.mark.parametrize("where", ["name", "version", "id", "alias"])
async def test_half_a_character(emulator: Emulator, where: str) -> None:
    """Text that cannot be UTF-8 is the service's to refuse, and the error names the parameter."""
    request_ = call(AppMonitorDetails={"id": MONITOR, where: "a\ud800"})
    if where == "alias":
        request_ = call(Alias="a\ud800")
    async with buffer_at(emulator) as buffer:
        refused = await outcome(buffer.put_rum_events(**request_))
    assert refused is not None
    parameter = "Alias" if where == "alias" else f"AppMonitorDetails.{where}"
    assert (refused.kind, refused.parameters) == ("ValidationException", frozenset({parameter}))


async def test_structures_of_the_callers_own(emulator: Emulator) -> None:
    """What a class of the caller's raises when it is read comes out as it is, and nothing gets in."""

    class Broken(dict[str, Any]):
        def __iter__(self) -> Any:
            raise RuntimeError("broken")

    async with buffer_at(emulator) as buffer:
        with pytest.raises(RuntimeError, match="broken"):
            await buffer.put_rum_events(**call(RumEvents=[event(), Broken(event())]))
        assert buffer.stats().accepted == 0
        assert_laws(buffer.stats())


async def test_positional_arguments(emulator: Emulator) -> None:
    """boto3 takes keyword arguments only, and so does the buffer."""
    with pytest.raises(TypeError):
        boto3_client(emulator).put_rum_events(MONITOR)
    async with buffer_at(emulator) as buffer:
        with pytest.raises(TypeError):
            await buffer.put_rum_events(MONITOR)  # type: ignore[call-arg]
