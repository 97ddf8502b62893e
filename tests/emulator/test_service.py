from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import Any

import pytest

from rumbuffer.emulator import Credentials, Limiter, Quota, ServiceError
from rumbuffer.emulator.request import Request
from rumbuffer.emulator.service import MAX_EVENT_BYTES, FailingMonitor, Service, app_monitor_of
from rumbuffer.emulator.signature import SignatureCheck
from tests.emulator.helpers import MONITOR, OTHER_MONITOR, PATH, body, event

GZIP = {"Content-Encoding": "gzip"}


def make(**settings: Any) -> Service:
    """A service without quota and signatures, unless they are given."""
    return Service(**{"limiter": None, "signatures": None, **settings})


def request(
    payload: bytes, headers: Mapping[str, str] | None = None, *, method: str = "POST", target: str = PATH
) -> Request:
    """A request as it came over the wire."""
    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return Request(method, target, raw, payload)


def error_of(service: Service, received: Request, **circumstances: Any) -> ServiceError:
    """The refusal of a request."""
    with pytest.raises(ServiceError) as caught:
        service.check(app_monitor_of(received), received, **{"now": 0.0, "wall": 0.0, **circumstances})
    return caught.value


def accepted(service: Service, received: Request, now: float = 0.0) -> Any:
    """The batch of a request."""
    return service.check(app_monitor_of(received), received, now=now, wall=1795365502.0)


@pytest.mark.parametrize(
    "target",
    [PATH, PATH[:-1], f"http://rum.test{PATH}", f"http://rum.test:80{PATH[:-1]}", f"{PATH}?x=1"],
)
def test_the_app_monitor_is_in_the_path(target: str) -> None:
    """With and without trailing slash, in origin and in absolute form."""
    assert app_monitor_of(request(b"", target=target)) == MONITOR


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("POST", "/", 404),
        ("POST", "/appmonitors/", 404),
        ("POST", f"/rum{PATH}", 404),
        ("POST", f"{PATH}events", 404),
        ("POST", f"{PATH}\n", 404),
        ("POST", "http://rum.test", 404),
        ("POST", "*", 404),
        ("PUT", PATH, 405),
        ("GET", PATH, 405),
    ],
)
def test_other_paths_and_methods_are_unknown_operations(method: str, target: str, status: int) -> None:
    """What is not PutRumEvents is an UnknownOperationException."""
    with pytest.raises(ServiceError, match="UnknownOperationException") as caught:
        app_monitor_of(request(b"", method=method, target=target))
    assert caught.value.status == status


def test_a_request_becomes_a_batch() -> None:
    """An accepted request is a record of what was received."""
    payload = body(Alias="shop", SessionMetadata='{"domain":"example.com"}')
    batch = accepted(make(), request(payload))
    assert (batch.app_monitor_id, batch.body, batch.received_at) == (MONITOR, payload, 1795365502.0)
    assert (batch.alias, batch.session_metadata) == ("shop", '{"domain":"example.com"}')
    assert batch.app_monitor_details == {"id": MONITOR, "name": "shop", "version": "1.4.2"}
    assert batch.events[0]._asdict() == event()


@pytest.mark.parametrize("content_type", ["application/json", "text/plain;charset=UTF-8", "image/png", None])
def test_the_content_type_is_not_looked_at(content_type: str | None) -> None:
    """A beacon's text/plain is as good as any type."""
    headers = {"Content-Type": content_type} if content_type else {}
    assert accepted(make(), request(body(), headers)).event_count == 1


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
def test_gzip_is_undone(encoding: str) -> None:
    """The batch keeps the decoded body."""
    received = request(gzip.compress(body()), {"Content-Encoding": encoding})
    assert accepted(make(), received).body == body()


@pytest.mark.parametrize(
    ("payload", "encoding"),
    [
        (body(), "gzip"),
        (gzip.compress(body(), mtime=0)[:-9], "gzip"),
        (b"", "gzip"),
        (gzip.compress(b"{}", mtime=0), "identity"),
        (body(), "br"),
    ],
)
def test_broken_and_unknown_encodings_are_refused(payload: bytes, encoding: str) -> None:
    """A body that cannot be decoded is a ValidationException."""
    error = error_of(make(), request(payload, {"Content-Encoding": encoding}))
    assert (error.status, error.code) == (400, "ValidationException")


def test_a_body_above_the_limit_is_413_sent_or_decoded() -> None:
    """The limit holds for the bytes on the wire and for what they unfold to, without unfolding it all."""
    service = make(max_body_bytes=10_000)
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) > 10_000
    small = gzip.compress(b" " * 20_000)
    assert error_of(service, request(bomb, GZIP)).status == 413
    assert error_of(service, request(small, GZIP)).status == 413
    error = error_of(service, request(body() + b" " * 10_000))
    assert (error.status, error.answer.body) == (413, b"Request Entity Too Large")
    assert "x-amzn-ErrorType" not in error.answer.headers


def test_events_above_6_kb_are_marked_as_dropped_and_the_rest_is_kept() -> None:
    """An event of just the limit is kept, one byte more is dropped, and nobody is told."""
    fits = '{"a":"' + "x" * (MAX_EVENT_BYTES - 10) + '"}'
    wide = '{"a":"' + "é" * (MAX_EVENT_BYTES // 2) + '"}'
    events = [
        event(1, details=fits, metadata="{}"),
        event(2, details=fits, metadata="{ }"),
        event(3),
        event(4, details=wide, metadata=None),
    ]
    batch = accepted(make(), request(body(RumEvents=events)))
    assert [e.id[-1] for e in batch.events] == ["1", "3"]
    assert [e.id[-1] for e in batch.dropped_events] == ["2", "4"]


def test_oversized_events_can_be_refused_instead() -> None:
    """For those who want to be told, the batch is a ValidationException that names the event."""
    large = '{"a":"' + "x" * MAX_EVENT_BYTES + '"}'
    received = request(body(RumEvents=[event(1), event(2, details=large)]))
    assert "rumEvents.2.member exceeds 6144" in error_of(make(oversize="refuse"), received).message


def test_the_number_of_events_can_be_limited() -> None:
    """One event too many is a ValidationException."""
    service = make(max_events=2)
    accepted(service, request(body(RumEvents=[event(1), event(2)])))
    error = error_of(service, request(body(RumEvents=[event(n) for n in range(3)])))
    assert (error.code, "3 events, at most 2" in error.message) == ("ValidationException", True)


def test_single_events_can_be_refused() -> None:
    """A batch with a refused event is refused whole."""
    service = make(refuse_event=lambda received: received.type == "com.example.poison")
    accepted(service, request(body()))
    error = error_of(service, request(body(RumEvents=[event(1), event(2, type="com.example.poison")])))
    assert (error.code, "rumEvents.2.member" in error.message) == ("ValidationException", True)


def test_the_quota_is_shared_by_all_app_monitors() -> None:
    """One bucket for the account."""
    service = make(limiter=Limiter(Quota(rate=1, burst=1, retry_after=7)))
    accepted(service, request(body()))
    error = error_of(service, request(body(), target=f"/appmonitors/{OTHER_MONITOR}/"))
    assert (error.status, error.code) == (429, "ThrottlingException")
    assert error.members == {"serviceCode": "rum", "quotaCode": "L-00000000"}
    assert error.answer.headers["Retry-After"] == "7"
    accepted(service, request(body()), now=1.0)


def test_checks_come_in_the_documented_order() -> None:
    """Size, signature, quota, failing app monitor, content, known app monitor: the first refusal answers."""
    spent = Limiter(Quota(rate=1, burst=1))
    spent.admit(0.0)
    service = make(
        limiter=spent,
        signatures=SignatureCheck([Credentials("a", "b")], "us-east-1"),
        app_monitors=[OTHER_MONITOR],
        max_body_bytes=100,
    )
    failing = FailingMonitor(403)
    wrong = request(b"{" * 101)
    assert error_of(service, wrong, failing=failing).status == 413
    service.max_body_bytes = 1000
    assert error_of(service, wrong, failing=failing).code == "MissingAuthenticationTokenException"
    service.signatures = None
    assert error_of(service, wrong, failing=failing).code == "ThrottlingException"
    service.limiter = None
    assert error_of(service, wrong, failing=failing).code == "AccessDeniedException"
    assert error_of(service, wrong).code == "ValidationException"
    error = error_of(service, request(body()))
    assert (error.status, error.code) == (404, "ResourceNotFoundException")
    assert error.members == {"resourceName": MONITOR, "resourceType": "AppMonitor"}


def test_a_request_that_is_refused_before_the_quota_takes_no_token() -> None:
    """Unsigned requests cost the account nothing."""
    signatures = SignatureCheck([Credentials("a", "b")], "us-east-1")
    service = make(limiter=Limiter(Quota(rate=1, burst=1)), signatures=signatures)
    error_of(service, request(body()))
    service.signatures = None
    accepted(service, request(body()))


def test_an_app_monitor_fails_until_its_time() -> None:
    """From the end of the failure on, the app monitor takes batches."""
    failing = FailingMonitor(404, until=10.0)
    error = error_of(make(), request(body()), now=9.9, failing=failing)
    assert (error.status, error.code) == (404, "ResourceNotFoundException")
    make().check(MONITOR, request(body()), now=10.0, wall=0.0, failing=failing)
