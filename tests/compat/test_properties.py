"""Whatever a call holds, it comes to what boto3 makes of it; and no call is taken by halves."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import botocore.loaders
import botocore.model
import botocore.serialize
import botocore.validate
import orjson
import pytest
from botocore.exceptions import ClientError, ParamValidationError
from hypothesis import event as note
from hypothesis import given
from hypothesis import strategies as st

from rumbuffer import Limits, calls
from rumbuffer.compat.checks import call_checks
from rumbuffer.core.encoding import EventEncoder
from rumbuffer.emulator.answers import ServiceError
from rumbuffer.emulator.model import request_model
from tests.compat.helpers import LEFT_OUT, MONITOR, parameters_of, uuid_of
from tests.compat.test_same_as_boto3 import SENDS_FRACTIONS
from tests.fakes import FakeSender, SimulatedLoop, assert_laws, buffer_of, events_of, run_on

calls._load()

OPERATION = botocore.model.ServiceModel(
    botocore.loaders.Loader().load_service_model("rum", "service-2"), "rum"
).operation_model("PutRumEvents")
"""botocore's own, which ours is compared with."""

VALIDATOR = botocore.validate.ParamValidator()
SERIALIZER = botocore.serialize.create_serializer("rest-json", include_validation=False)
MAX_EVENT_BYTES = 300

# Calls -----------------------------------------------------------------------------------------------

ODD = st.sampled_from([None, 7, 1.5, b"x", [], {}, "", "x", LEFT_OUT, ("x",), "\n"])
GOOD_IDS = st.uuids().map(str)
GOOD_TIMES = st.floats(0, 4e9) | st.datetimes()
IDS = st.one_of(
    GOOD_IDS,
    st.uuids().map(lambda uuid: str(uuid).upper()),
    st.text(min_size=34, max_size=38),
    st.text("0123456789abcdef-\n", min_size=36, max_size=36),
    ODD,
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
OBJECTS = st.dictionaries(st.text(), JSON_VALUES, max_size=4).map(json.dumps)
TEXTS = st.one_of(OBJECTS, OBJECTS, JSON_VALUES.map(json.dumps), st.text(), ODD)
TIMES = st.one_of(
    st.integers(0, 4_000_000_000),
    st.floats(0, 4e9),
    st.datetimes(),
    st.datetimes(timezones=st.timezones()),
    st.datetimes().map(str),
    st.floats(),
    st.floats().map(str),
    st.integers(),
    st.text(max_size=5),
    ODD,
)
TYPES = st.one_of(
    st.sampled_from(["com.example.test", "a", "com.amazon.rum.page_view_event"]),
    st.text("ab_.-é ", max_size=300),
    ODD,
)


MONITORS = st.sampled_from([{"id": MONITOR, "name": "shop", "version": "1.4.2"}, {"id": MONITOR}])

WRONG: dict[tuple[str, ...], st.SearchStrategy[Any]] = {
    ("Id",): IDS,
    ("BatchId",): IDS,
    ("Alias",): st.text(max_size=300) | ODD,
    ("AppMonitorDetails",): ODD,
    ("AppMonitorDetails", "id"): st.text() | ODD,
    ("AppMonitorDetails", "name"): st.text() | ODD,
    ("AppMonitorDetails", "version"): st.text() | ODD,
    ("AppMonitorDetails", "other"): ODD,
    ("UserDetails",): ODD,
    ("UserDetails", "userId"): IDS,
    ("UserDetails", "sessionId"): IDS,
    ("RumEvents",): ODD,
    ("RumEvents", "id"): IDS,
    ("RumEvents", "timestamp"): TIMES,
    ("RumEvents", "type"): TYPES,
    ("RumEvents", "details"): TEXTS,
    ("RumEvents", "metadata"): TEXTS,
    ("RumEvents", "other"): ODD,
    ("other",): ODD,
}
"""What may be put, or be wrong, in which place."""


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """A call that is valid but for up to three places."""
    request: dict[str, Any] = {
        "Id": MONITOR,
        "BatchId": draw(GOOD_IDS),
        "AppMonitorDetails": dict(draw(MONITORS)),
        "UserDetails": {"userId": draw(GOOD_IDS), "sessionId": draw(GOOD_IDS)},
        "RumEvents": [
            {"id": draw(GOOD_IDS), "timestamp": draw(GOOD_TIMES), "type": "a", "details": draw(OBJECTS)}
            for _ in range(draw(st.integers(0, 4)))
        ],
    }
    for path in draw(st.lists(st.sampled_from(list(WRONG)), max_size=3)):
        place: Any = request
        for name in path[:-1]:
            place = place[name] if isinstance(place, dict) and name in place else {}
        if isinstance(place, list):
            place = draw(st.sampled_from(place)) if place else {}
        if isinstance(place, dict):
            place[path[-1]] = draw(WRONG[path])
            if place[path[-1]] is LEFT_OUT:
                del place[path[-1]]
    return request


def expected(request: dict[str, Any]) -> tuple[str, Any]:
    """What boto3 and the service make of a call, and what we raise before the service would drop it."""
    try:
        report = VALIDATOR.validate(request, OPERATION.input_shape)
    except (ArithmeticError, OSError, RuntimeError):
        return "ParamValidationError", None  # a time that no datetime can hold, which boto3 stumbles over
    if report.has_errors():
        error = ParamValidationError(report=report.generate_report())
        return "ParamValidationError", parameters_of(error)
    dropped = {
        name
        for place, event in enumerate(request["RumEvents"])
        for name in dropped_of(event, f"RumEvents[{place}]")
    }
    try:
        body = SERIALIZER.serialize_to_request(request, OPERATION)["body"]
    except (ArithmeticError, OSError, RuntimeError):
        return "ParamValidationError", None
    if dropped:
        return "ParamValidationError", dropped
    try:
        document = request_model().parse(request["Id"], body)
    except ServiceError as error:
        return error.code, parameters_of(ClientError({"Error": {"Message": error.message}}, "PutRumEvents"))
    return "taken", document["RumEvents"]


def dropped_of(event: dict[str, Any], where: str) -> set[str]:
    """The members of an event for which the service would drop it."""
    texts = {name: event[name] for name in ("details", "metadata") if name in event}
    wrong = {f"{where}.{name}" for name, text in texts.items() if not holds(text)}
    size = len("".join(texts.values()).encode())
    return wrong or ({f"{where}.details"} if size > MAX_EVENT_BYTES else set())


def holds(text: str) -> bool:
    """Whether a text is JSON and holds an object."""
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


@given(requests())
@pytest.mark.filterwarnings("ignore")  # dateutil's, about texts that it does not understand
def test_every_call_comes_to_what_boto3_makes_of_it(request_: dict[str, Any]) -> None:
    """Taken with the same events, or refused by the same class of error with the same parameters."""
    outcome, about = expected(request_)
    note(outcome)
    encoder = EventEncoder(MAX_EVENT_BYTES)
    try:
        call = call_checks().check(request_, encoder)
    except (ClientError, ParamValidationError) as error:
        check_refused(error, outcome, about)
        return
    assert outcome == "taken"
    events = [orjson.loads(event) for event in call.events]
    if not SENDS_FRACTIONS:
        for event in (*events, *about):
            event["timestamp"] //= 1
    assert events == about
    assert call.event_ids == tuple(event["id"] for event in about)


def check_refused(error: Exception, outcome: str, about: set[str] | None) -> None:
    """Compare an error with what was expected."""
    assert type(error).__name__ == outcome
    assert about is None or parameters_of(error) == about


# Many calls ------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.integers(1, 3),  # the session
        st.integers(1, 12),  # how many events
        st.integers(0, 700),  # and of what size
        st.sampled_from([True, True, True, False]),  # whether they are valid
        st.sampled_from([None, None, 0.0, 0.05, 0.3]),  # when it is cancelled
        st.floats(0, 0.1),  # until the next call
    ),
    max_size=15,
)


@given(STEPS, st.sampled_from([0.0, 0.05, 0.5]))
def test_no_call_is_taken_by_halves(steps: list[Any], seconds: float) -> None:
    """Calls that return arrive, in order; those that raise or are cancelled leave nothing behind."""
    run_on(SimulatedLoop, many_calls(steps, seconds))


async def many_calls(steps: list[Any], seconds: float) -> None:
    """Make the calls, cancel some, and compare what arrived."""
    sender = FakeSender(seconds=seconds)
    limits = Limits(max_pending_bytes=14_000, linger=0.02, max_batch_events=20, max_in_flight=2)
    made: list[tuple[int, list[str], asyncio.Task[Any]]] = []
    async with buffer_of(sender, limits=limits, sample_rate=0.0) as buffer:
        for number, (session, count, size, is_valid, cancel_after, pause) in enumerate(steps):
            ids = [uuid_of(number * 100 + place) for place in range(count)]
            task = asyncio.create_task(
                buffer.put_rum_events(**request_of(session, ids, size, is_valid=is_valid))
            )
            made.append((session, ids, task))
            if cancel_after is not None:
                asyncio.get_running_loop().call_later(cancel_after, task.cancel)
            await asyncio.sleep(pause)
            assert_laws(buffer.stats())
        await asyncio.gather(*(task for _, _, task in made), return_exceptions=True)
        assert buffer.stats().waiters == 0
        assert (await buffer.flush()).complete
    stats = buffer.stats()
    assert_laws(stats, closed=True)
    arrived = [event["id"] for event in events_of(sender.arrived)]
    taken = {tuple(ids): not (task.cancelled() or task.exception()) for _, ids, task in made}
    for call_ids, was_taken in taken.items():
        assert [arrived.count(one) for one in call_ids] == [int(was_taken)] * len(call_ids)
    for session in range(1, 4):
        in_order = [one for of, ids, _ in made if of == session and taken[tuple(ids)] for one in ids]
        batches = [batch for batch in sender.requests if batch.session_id == uuid_of(session)]
        assert [event["id"] for event in events_of(batches)] == in_order


def request_of(session: int, ids: list[str], size: int, *, is_valid: bool) -> Any:
    """A call of so many events; where it is not valid, the last of them is wrong."""
    events = [
        {"id": one, "timestamp": 1, "type": "a", "details": json.dumps({"padding": "x" * size})}
        for one in ids
    ]
    if not is_valid:
        events[-1]["details"] = "x"
    return {
        "Id": MONITOR,
        "BatchId": uuid_of(0),
        "AppMonitorDetails": {"id": MONITOR},
        "UserDetails": {"userId": uuid_of(9), "sessionId": uuid_of(session)},
        "RumEvents": events,
    }
