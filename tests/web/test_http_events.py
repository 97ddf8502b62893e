"""What the event of a request tells."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from rumbuffer import InvalidSetting, Session
from rumbuffer.asgi import RumMiddleware
from tests.web.helpers import (
    BROWSER,
    HTTP,
    SESSION,
    USER,
    XRAY,
    Receive,
    Scope,
    Send,
    Site,
    answering,
    get,
    rum,
)


async def test_request_becomes_an_http_event(site: Site) -> None:
    """A request is one http_event in the browser's session, with status, duration and sizes beside it."""
    reply = await get(rum(answering(201, b"hello"), site), "/items/search", headers=BROWSER)
    assert (reply.status, reply.body) == (201, b"hello")
    event = await site.event()
    assert event.details == {
        "version": "1.0.0",
        "request": {"method": "GET", "url": "/items/search"},
        "response": {"status": 201},
    }
    duration = event.metadata.pop("http_duration_ms")
    assert 0 <= duration < 10_000
    assert event.metadata == {
        "version": "1.0.0",
        "domain": "shop.example.com",
        "http_side": "server",
        "http_status": 201,
        "http_request_bytes": 0,
        "http_response_bytes": 5,
    }
    assert (event.session_id, event.user_id) == (SESSION, USER)


async def test_metadata_travels_in_the_event(site: Site) -> None:
    """Version and domain are no session attributes, so that the event may share a batch with any other."""
    app = rum(answering(), site)
    await get(app, headers=BROWSER)
    site.buffer.record("com.example.other", {}, session=Session(SESSION, USER, {"a": 1}))
    await site.buffer.aclose()
    assert len(site.service.batches) == 1


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        (b"example.com", "example.com"),
        (b"EXAMPLE.com:80", "example.com"),
        (b"[2001:db8::1]:8080", "[2001:db8::1]"),
        (b"192.0.2.1:8080", "192.0.2.1"),
        (b'x"y', "unknown"),
        (b"\xff\xfe", "unknown"),
        (b"", "203.0.113.5"),
        (b"a" * 2000, "unknown"),
        (None, "203.0.113.5"),
    ],
)
async def test_domain(site: Site, host: bytes | None, domain: str) -> None:
    """The domain is the request's host without its port; the server's own where there is none."""
    await get(rum(answering(), site), host=host, headers=BROWSER)
    assert (await site.event()).metadata["domain"] == domain


async def test_domain_that_is_set(site: Site) -> None:
    """A domain that is set stands in every event."""
    await get(rum(answering(), site, domain="shop.test"), headers=BROWSER)
    assert (await site.event()).metadata["domain"] == "shop.test"


async def test_no_server_name() -> None:
    """Where nobody names a host (a unix socket, HTTP/1.0), the domain is unknown."""
    site = Site()
    await get(rum(answering(), site), host=None, headers=BROWSER, server=None)
    assert (await site.event()).metadata["domain"] == "unknown"


async def test_path_without_a_route_is_redacted(site: Site) -> None:
    """Where no route is known the path stands in the event, without ids, and never the query string."""
    await get(rum(answering(404), site), "/orders/12345/jane@example.com", query=b"q=1", headers=BROWSER)
    assert (await site.event()).url == "/orders/*/*"


async def test_path_with_percent_and_quotes(site: Site) -> None:
    """A path with what JSON and formatting treat specially stands in the event as it is."""
    for _ in range(2):
        await get(rum(answering(), site, redact=None), '/100%/%d"\\/é\u2028/{}', headers=BROWSER)
    assert {event.url for event in await site.events()} == {'/100%/%d"\\/é\u2028/{}'}


async def test_path_with_lone_surrogates(site: Site) -> None:
    """A path that UTF-8 cannot hold is written with question marks."""
    await get(rum(answering(), site), "/\ud800x", headers=BROWSER)
    assert (await site.event()).url == "/?x"


async def test_long_path_and_method_are_bounded(site: Site) -> None:
    """A path of any length makes an event of bounded size."""
    app = rum(answering(), site, redact=None)
    await get(app, "/" + "é" * 50_000, method="M" * 5000, headers=BROWSER)
    event = await site.event()
    assert len(event.url) == 1024
    assert event.details["request"]["method"] == "M" * 32


async def test_redact_may_be_replaced(site: Site) -> None:
    """A redact of the user's decides about paths without a route."""
    await get(rum(answering(), site, redact=lambda path: path.upper()), "/a/42", headers=BROWSER)
    assert (await site.event()).url == "/A/42"


async def test_redact_that_raises(site: Site) -> None:
    """A redact that raises leaves nothing of the path."""

    def redact(path: str) -> str:
        raise KeyError(path)

    await get(rum(answering(), site, redact=redact), "/secret", headers=BROWSER)
    assert (await site.event()).url == "/"


async def test_query_when_asked_for(site: Site) -> None:
    """The query string is added when asked for, with what is secret starred out."""
    app = rum(answering(), site, query=True)
    await get(app, "/search", query=b"q=tea&token=abc", headers=BROWSER)
    await get(app, "/plain", headers=BROWSER)
    assert [event.url for event in await site.events()] == ["/search?q=tea&token=*", "/plain"]


async def test_query_unredacted(site: Site) -> None:
    """Without redaction the query string stands as it came."""
    app = rum(answering(), site, query=True, redact=None)
    await get(app, "/search", query=b"token=abc\xff", headers=BROWSER)
    assert (await site.event()).url == "/search?token=abc\xff"


async def test_attributes(site: Site) -> None:
    """The user's own attributes stand in every event's metadata."""
    await get(rum(answering(), site, attributes={"region": "eu", "blue": True}), headers=BROWSER)
    metadata = (await site.event()).metadata
    assert (metadata["region"], metadata["blue"]) == ("eu", True)


@pytest.mark.parametrize(
    "attributes",
    [
        {"a.b": 1},
        {"aws:x": 1},
        {"pageTags": 1},
        {"a": "x" * 257},
        {"a": None},
        {"a": float("nan")},
        {f"a{number}": 1 for number in range(5)},
    ],
)
def test_attributes_that_break_a_rule(site: Site, attributes: dict[str, Any]) -> None:
    """An attribute that the service would not take is refused when the middleware is made."""
    with pytest.raises(InvalidSetting, match="attributes"):
        rum(answering(), site, attributes=attributes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("domain", 7),
        ("domain", ""),
        ("session", "x"),
        ("session_header", "a b"),
        ("own_session", "x"),
        ("redact", "x"),
        ("before_record", "x"),
        ("sample_rate", 2),
        ("include", [7]),
        ("exclude", [None]),
    ],
)
def test_settings_that_break_a_rule(site: Site, name: str, value: Any) -> None:
    """A setting that means nothing is refused by name when the middleware is made."""
    with pytest.raises(InvalidSetting, match=name):
        rum(answering(), site, **{name: value})


class _Waiting:
    async def __call__(self, *_: object) -> bool:
        return False


async def _waiting(*_: object) -> bool:
    return False


async def _generating(*_: object) -> AsyncIterator[bool]:
    yield False


@pytest.mark.parametrize("name", ["include", "exclude", "session", "redact", "before_record"])
@pytest.mark.parametrize(
    "value", [_waiting, _Waiting(), partial(_waiting, 1), _Waiting().__call__, _generating]
)
def test_callables_that_must_be_awaited(site: Site, name: str, value: Any) -> None:
    """A coroutine function, whose answer nobody waits for, is refused by name when the middleware is made."""
    with pytest.raises(InvalidSetting, match=f"{name}.*plain callable.*coroutine"):
        rum(answering(), site, **{name: value})


def test_buffer_that_is_none() -> None:
    """Whatever is given for the buffer must be one."""
    with pytest.raises(InvalidSetting, match="buffer"):
        RumMiddleware(answering(), buffer=None)  # type: ignore[arg-type]


async def test_trace_id(site: Site) -> None:
    """A trace header gives the event its trace id, in both of the forms."""
    app = rum(answering(), site)
    parent = (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    root = (b"x-amzn-trace-id", b"Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1")
    await get(app, headers=[*BROWSER, parent])
    await get(app, headers=[*BROWSER, root])
    await get(app, headers=[*BROWSER, (b"traceparent", b'00-x","y":"')])
    assert [event.details.get("trace_id") for event in await site.events()] == [
        "1-4bf92f35-77b34da6a3ce929d0e0e4736",
        "1-5759e988-bd862e3fe1be46a994272793",
        None,
    ]


async def test_xray_event(site: Site) -> None:
    """An xray_trace_event brings the request's start and end, and its id stands in the http_event."""
    app = rum(answering(404, b"no"), site, xray=True)
    root = (b"x-amzn-trace-id", b"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8")
    await get(app, "/x", headers=[*BROWSER, root])
    trace, http = sorted(await site.events(), key=lambda event: event.type == HTTP)
    assert (trace.type, http.type) == (XRAY, HTTP)
    assert http.details["segment_id"] == trace.details["id"]
    assert http.details["trace_id"] == trace.details["trace_id"] == "1-5759e988-bd862e3fe1be46a994272793"
    assert trace.details["parent_id"] == "53995c3f42cd8ad8"
    assert trace.details["end_time"] >= trace.details["start_time"] > 1_700_000_000
    assert trace.details["http"] == {
        "request": {"method": "GET", "url": "/x"},
        "response": {"status": 404, "content_length": 2},
    }
    assert trace.details["error"] is True


async def test_xray_event_without_a_header(site: Site) -> None:
    """Without a trace header a trace of our own begins; one that is not sampled makes no segment."""
    app = rum(answering(429), site, xray=True)
    await get(app, headers=BROWSER)
    await get(
        app, headers=[*BROWSER, (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")]
    )
    events = await site.events()
    (trace,) = [event for event in events if event.type == XRAY]
    assert len(trace.details["trace_id"]) == 35
    assert trace.details["throttle"] is True
    assert len([event for event in events if event.type == HTTP]) == 2


async def test_xray_event_of_an_error(site: Site) -> None:
    """A request that failed is a fault in its segment."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await get(rum(app, site, xray=True), headers=BROWSER)
    (trace,) = [event for event in await site.events() if event.type == XRAY]
    assert trace.details["fault"] is True


@pytest.mark.parametrize("path", ["/" + "\0" * 5000, "/" + "\N{GRINNING FACE}" * 5000])
@pytest.mark.parametrize("query", [False, True])
async def test_paths_are_bounded_as_they_are_sent(site: Site, path: str, query: bool) -> None:
    """What JSON makes six bytes of takes no more room than what it makes one of."""
    app = rum(answering(), site, query=query, redact=None)
    await get(app, path, query=b"\0" * 5000, headers=BROWSER)
    event = await site.event()
    assert event.url.startswith(path[:300])


async def test_times_are_cut_to_milliseconds(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a request is cut and not rounded, as that of events which its handler records."""
    for module in ("rumbuffer.web.visits", "rumbuffer.web.recorder"):
        monkeypatch.setattr(f"{module}.time", lambda: 1795365502.2509)
    await get(rum(answering(), site), headers=BROWSER)
    assert (await site.event()).timestamp == 1795365502.25


@pytest.mark.parametrize(
    "attributes", [{"version": "4.2.0"}, {"http_status": 3}, {"title": 7}, {"n": 2**70}, {"n": 10**400}]
)
def test_attributes_that_would_break_events(site: Site, attributes: dict[str, Any]) -> None:
    """A name that is ours, or a value that the service refuses, is an error at the start."""
    with pytest.raises(InvalidSetting, match=next(iter(attributes))):
        rum(answering(), site, attributes=attributes)
