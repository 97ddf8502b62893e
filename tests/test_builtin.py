from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from rumbuffer import Event, InvalidEvent, RefusalReason, RumBuffer, Session
from rumbuffer.builtin import (
    CustomEvent,
    HttpEvent,
    JsErrorEvent,
    PageViewEvent,
    SessionStartEvent,
    XrayTraceEvent,
)
from tests.web.helpers import Site
from tests.web.rules import faults_of

METADATA = {"version": "1.0.0", "domain": "shop.example.com"}
SESSION = Session("d35b7114-9426-4abc-9ace-6b4248e6d799")
TRACE = "1-5759e988-bd862e3fe1be46a994272793"

GOOD: list[Event] = [
    HttpEvent(method="GET", metadata=METADATA),
    HttpEvent(
        method="GET",
        url="/items/{id}",
        status=200,
        status_text="OK",
        error={"type": "Oops", "message": "no", "filename": "a.py", "lineno": 7, "colno": 1, "stack": "x"},
        trace_id=TRACE,
        segment_id="53995c3f42cd8ad8",
        metadata={**METADATA, "tier": "gold", "blue": True, "n": 7, "pageTags": ["a"], "interaction": 3},
    ),
    JsErrorEvent(metadata=METADATA),
    JsErrorEvent(
        error_type="Oops", message="no", filename="a.py", lineno=7, colno=1, stack="x", metadata=METADATA
    ),
    JsErrorEvent.of(ValueError("no"), metadata=METADATA),
    XrayTraceEvent(
        name="shop", segment_id="53995c3f42cd8ad8", trace_id=TRACE, start_time=1.5, metadata=METADATA
    ),
    XrayTraceEvent(
        name="shop",
        segment_id="53995c3f42cd8ad8",
        trace_id=TRACE,
        start_time=1.5,
        end_time=2.5,
        parent_id="53995c3f42cd8ad9",
        http={
            "request": {
                "method": "GET",
                "url": "/",
                "client_ip": "::1",
                "x_forwarded_for": True,
                "traced": False,
            },
            "response": {"status": 200, "content_length": 2},
        },
        error=False,
        throttle=False,
        fault=True,
        in_progress=False,
        origin="AWS::EC2::Instance",
        user="u",
        cause={"exceptions": [{"type": "Oops", "stack": [{"line": 7, "file_name": "a.py"}]}]},
        annotations={"a": 1},
        trace_metadata={"b": {"c": 1}},
        subsegments=[{"id": "1", "name": "db", "start_time": 1.6, "subsegments": []}],
        metadata=METADATA,
    ),
    PageViewEvent(page_id="/items", metadata=METADATA),
    PageViewEvent(
        page_id="/items",
        page_interaction_id="/items-1",
        interaction=1,
        parent_page_interaction_id="/-0",
        time_on_parent_page=1234,
        referrer="https://example.com/",
        referrer_domain="example.com",
        metadata=METADATA,
    ),
    SessionStartEvent(metadata=METADATA),
]


@pytest.mark.parametrize("event", GOOD, ids=lambda event: event.type)
def test_typed_events_keep_the_service_s_rules(event: Event) -> None:
    """What the constructors make is what the schemas ask for, with every member that they know."""
    details, metadata = json.dumps(event.details), json.dumps(event.metadata)
    assert faults_of(event.type, details, metadata) == []


def http(**members: Any) -> Callable[[], Event]:
    """Return a way to make an `HttpEvent`."""
    return lambda: HttpEvent(**{"method": "GET", **members})


def xray(**members: Any) -> Callable[[], Event]:
    """Return a way to make an `XrayTraceEvent`."""
    needed = {"name": "a", "segment_id": "b", "trace_id": "c", "start_time": 1.0}
    return lambda: XrayTraceEvent(**{**needed, **members})


def js(**members: Any) -> Callable[[], Event]:
    """Return a way to make a `JsErrorEvent`."""
    return lambda: JsErrorEvent(**members)


def page(**members: Any) -> Callable[[], Event]:
    """Return a way to make a `PageViewEvent`."""
    return lambda: PageViewEvent(**{"page_id": "/", **members})


def start(**metadata: Any) -> Callable[[], Event]:
    """Return a way to make an event with this metadata."""
    return lambda: SessionStartEvent(metadata=metadata)


def deep() -> Event:
    """Make a segment with a hundred levels of parts."""
    part: dict[str, Any] = {"id": "1", "name": "a", "start_time": 1.0}
    for _ in range(100):
        part = {"id": "1", "name": "a", "start_time": 1.0, "subsegments": [part]}
    event: Event = xray(subsegments=[part])()
    return event


BAD: list[tuple[str, Callable[[], Event]]] = [
    ("details.request.method", http(method=7)),
    ("details.request.url", http(url=b"/")),
    ("details.response.status", http(status="200")),
    ("details.response.status", http(status=True)),
    ("details.response.status", http(status=float("nan"))),
    ("details.response.status", http(status_text="OK")),
    ("details.response.statusText", http(status=200, status_text=7)),
    ("details.error", http(error="x")),
    ("details.error", http(error={"duration": 7})),
    ("details.error", http(error={7: 7})),
    ("details.error.lineno", http(error={"lineno": "7"})),
    ("details.trace_id", http(trace_id="4bf92f3577b34da6a3ce929d0e0e4736")),
    ("details.segment_id", http(segment_id="1")),
    ("details.lineno", js(lineno="7")),
    ("details.message", js(message=b"x")),
    ("details.pageId", page(page_id=7)),
    ("details.interaction", page(interaction="1")),
    ("details.name", xray(name=7)),
    ("details.start_time", xray(start_time="now")),
    ("details.fault", xray(fault=1)),
    ("details.http.request.traced", xray(http={"request": {"traced": "yes"}})),
    ("details.cause.exceptions", xray(cause={"exceptions": {}})),
    ("details.cause.exceptions[0].stack[0].line", xray(cause={"exceptions": [{"stack": [{"line": 1.5}]}]})),
    ("details.annotations", xray(annotations=[1])),
    ("details.subsegments[0].id", xray(subsegments=[{"name": "a", "start_time": 1.0}])),
    ("details.subsegments", deep),
    ("metadata.version", start(version="2")),
    ("metadata.domain", start(domain=7)),
    ("metadata.pageTags", start(pageTags="a")),
    ("metadata.pageTags[0]", start(pageTags=[7])),
    ("metadata", start(**{"a.b": 1})),
    ("metadata", start(**{"aws:own": 1})),
    ("metadata", start(pageTagsOfMine=1)),
    ("metadata.a", start(a=None)),
    ("metadata.a", start(a="x" * 257)),
    ("metadata.a", start(a=float("inf"))),
    ("metadata.a", start(a=10**400)),
    ("metadata", start(**{f"a{number}": number for number in range(11)})),
    ("metadata", lambda: SessionStartEvent(metadata='{"a":1}')),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("field", "make"), BAD)
async def test_rules_are_checked_at_admission(field: str, make: Callable[[], Event]) -> None:
    """An event that breaks a rule is made without a word, and refused by its member's name at admission."""
    site = Site()
    async with site.buffer as buffer:
        event = make()
        with pytest.raises(InvalidEvent) as nowait:
            buffer.put_nowait(event, session=SESSION)
        with pytest.raises(InvalidEvent) as waiting:
            await buffer.put(event, session=SESSION)
        assert nowait.value.field == waiting.value.field == field
        assert buffer.stats().refused_by_reason == {RefusalReason.INVALID_EVENT: 2}


class Named(CustomEvent, type="com.example.named"):
    """A type of one's own."""

    name: str = "x"


@pytest.mark.parametrize(
    "metadata",
    [
        {"tier": ["gold"]},
        {"aws:x": 1},
        {"version": "2.0.0"},
        {f"a{number}": 1 for number in range(11)},
        '{"tier": {}}',
        "no JSON",
        "[]",
        "[" * 100_000,
    ],
)
async def test_metadata_of_ones_own_types_is_checked(metadata: dict[str, Any] | str) -> None:
    """Metadata of a custom event keeps the service's rules, as that of any typed event."""
    site = Site()
    event = Named()
    event.metadata = metadata
    async with site.buffer as buffer:
        with pytest.raises(InvalidEvent, match=r"^metadata"):
            buffer.put_nowait(event, session=SESSION)


@pytest.mark.parametrize("metadata", [METADATA, json.dumps({**METADATA, "tier": "gold"})])
async def test_metadata_of_ones_own_types(metadata: dict[str, Any] | str) -> None:
    """Metadata that keeps the rules is taken as it is given."""
    site = Site()
    event = Named()
    event.metadata = metadata
    async with site.buffer as buffer:
        assert buffer.put_nowait(event, session=SESSION)
    assert event.metadata == metadata


class Basket(HttpEvent):
    """A built-in type with a name of one's own."""


def test_built_in_types_may_be_derived_from() -> None:
    """A class that derives from a built-in type keeps its type and its rules."""
    event = Basket(method=7)  # type: ignore[arg-type]
    assert event.type == "com.amazon.rum.http_event"
    with pytest.raises(InvalidEvent, match=r"details\.request\.method"):
        _ = event.details


def test_unknown_arguments() -> None:
    """An argument that no event has is refused when the event is made."""
    with pytest.raises(TypeError, match="colour"):
        HttpEvent(method="GET", colour="red")  # type: ignore[call-arg]


async def test_missing_member() -> None:
    """A required member that is left out with force is named."""
    with pytest.raises(InvalidEvent, match=r"details\.pageId: must be there"):
        _ = PageViewEvent(page_id=None).details  # type: ignore[arg-type]


async def test_typed_events_arrive() -> None:
    """Typed events are admitted and arrive like any others, with the id and time that they were given."""
    site = Site()
    async with site.buffer as buffer:
        for event in GOOD:
            assert buffer.put_nowait(event, session=SESSION)
        event = SessionStartEvent(
            metadata=METADATA, id="00000000-0000-4000-8000-000000000001", timestamp=1_795_365_502.25
        )
        await buffer.put(event, session=SESSION)
    arrived = await site.events()
    assert len(arrived) == len(GOOD) + 1
    assert (arrived[0].id, arrived[0].timestamp) == ("00000000-0000-4000-8000-000000000001", 1_795_365_502.25)


async def test_other_events_pass_through() -> None:
    """A plain event of a built-in type is taken as given: schemas grow."""
    site = Site()
    async with site.buffer as buffer:
        event = Event("com.amazon.rum.session_start_event", {"version": "1.0.0", "new": 1})
        assert buffer.put_nowait(event, session=SESSION)
        assert buffer.stats().accepted == 1


def test_error_without_its_message() -> None:
    """An exception's text can be left out of its event."""
    event = JsErrorEvent.of(ValueError("jane@example.com"), message=False)
    assert "jane" not in json.dumps(event.details)


# Custom events -------------------------------------------------------------------------------------


class Checkout(CustomEvent, type="com.example.checkout"):
    total: float
    currency: str = "EUR"


class Refund(Checkout, type="com.example.refund"):
    reason: str


class Stolen(CustomEvent, type="com.amazon.rum.http_event"):
    total: float


class Nameless(CustomEvent, type="a b"):
    total: float


def test_custom_event() -> None:
    """A class of the user's is an event type, and its members are the details."""
    event = Checkout(total=42)
    assert (event.type, event.details, event.metadata) == (
        "com.example.checkout",
        {"total": 42, "currency": "EUR"},
        None,
    )
    assert Refund(total=1, reason="broken").details == {"total": 1, "currency": "EUR", "reason": "broken"}


async def test_custom_event_arrives() -> None:
    """A custom event is admitted with the metadata and the time that it is given."""
    site = Site()
    async with site.buffer as buffer:
        event = Checkout(total=42, currency="USD")
        event.metadata = METADATA
        event.timestamp = 1_795_365_502.25
        assert buffer.put_nowait(event, session=SESSION)
    arrived = await site.event()
    assert (arrived.type, arrived.details["currency"], arrived.timestamp) == (
        "com.example.checkout",
        "USD",
        1_795_365_502.25,
    )


@pytest.mark.parametrize("event", [Stolen(total=1), Nameless(total=1), Checkout(total=1j)])  # type: ignore[arg-type]
async def test_custom_event_that_breaks_a_rule(event: Event) -> None:
    """A type that is the service's own, or none, and details that JSON cannot hold, are refused."""
    async with Site().buffer as buffer:
        assert isinstance(buffer, RumBuffer)
        with pytest.raises(InvalidEvent, match=r"type|details"):
            buffer.put_nowait(event, session=SESSION)


def test_custom_event_with_a_taken_name() -> None:
    """A member that every event has cannot be one of the details, and the class says so."""
    with pytest.raises(TypeError, match="id"):

        class Broken(CustomEvent, type="com.example.broken"):
            id: str  # type: ignore[mutable-override]


def test_details_of_a_custom_event_are_its_members() -> None:
    """The details of a custom event cannot be replaced."""
    with pytest.raises(AttributeError):
        Checkout(total=1).details = {}


class Untyped(CustomEvent):
    total: float = 0.0


async def test_custom_event_without_a_type() -> None:
    """A class that names no type makes events that are refused, by the member."""
    async with Site().buffer as buffer:
        with pytest.raises(InvalidEvent, match="type"):
            buffer.put_nowait(Untyped(), session=SESSION)
