"""The service's rules without its sockets: from a request to a batch or an error.

A request is checked in this order, and the first refusal answers. The order is
what a front end does before the service behind it; the service's own is not
documented.

1. path and method: 404 and 405 ``UnknownOperationException``
2. size of the body: 413
3. signature: 403 of AWS's authentication
4. quota: 429 ``ThrottlingException``; a request that fails here costs little
5. an app monitor that was made to fail: 403 ``AccessDeniedException``, 404
   ``ResourceNotFoundException``
6. content encoding, JSON and the constraints of the model: 400
   ``ValidationException``
7. an unknown app monitor, if the known ones are given: 404

The content type is not looked at: a beacon comes as ``text/plain``.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

from rumbuffer.emulator.answers import (
    ServiceError,
    access_denied,
    resource_not_found,
    throttling,
    too_large,
    unknown_operation,
    validation,
)
from rumbuffer.emulator.model import content_size, request_model
from rumbuffer.emulator.quota import Limiter
from rumbuffer.emulator.records import ReceivedBatch, ReceivedEvent
from rumbuffer.emulator.request import Request
from rumbuffer.emulator.signature import SignatureCheck

# The SDKs send the trailing slash, the browser client does not (RUM.md, 2026-11-22).
_PATH = re.compile(r"/appmonitors/([^/]+)/?\Z")

# Details and metadata of one event, in UTF-8 bytes. The service documents that it
# drops larger events, and says nothing to their sender; whether session replay is
# exempt is not documented, and here it is not.
MAX_EVENT_BYTES = 6144

# No public number: the bound of AWS's HTTP front ends (10 MB in API Gateway).
MAX_BODY_BYTES = 10 * 2**20


@dataclass(frozen=True, slots=True)
class FailingMonitor:
    """An app monitor that answers an error until ``until``, in seconds of the quota's clock."""

    status: Literal[403, 404]
    until: float = float("inf")


@dataclass(slots=True)
class Service:
    """The rules and their settings; `check` is one request. All of it may change while running."""

    limiter: Limiter | None
    signatures: SignatureCheck | None
    app_monitors: Collection[str] | None = None
    max_body_bytes: int = MAX_BODY_BYTES
    max_events: int | None = None
    oversize: Literal["drop", "refuse"] = "drop"
    refuse_event: Callable[[ReceivedEvent], bool] | None = None

    def check(
        self,
        app_monitor_id: str,
        request: Request,
        *,
        now: float,
        wall: float,
        failing: FailingMonitor | None = None,
    ) -> ReceivedBatch:
        """The batch in the request; raises `ServiceError` for the first refusal.

        ``now`` is the quota's clock, ``wall`` seconds since the epoch.
        """
        if len(request.body) > self.max_body_bytes:
            raise too_large()
        if self.signatures is not None:
            self.signatures.check(request, wall)
        self._check_quota(now)
        if failing is not None and now < failing.until:
            raise _as_error(failing, app_monitor_id)
        body = decode(request.body, request.header("content-encoding"), self.max_body_bytes)
        document = request_model().parse(app_monitor_id, body)
        dropped = self._check_events(document["RumEvents"])
        if self.app_monitors is not None and app_monitor_id not in self.app_monitors:
            raise resource_not_found(app_monitor_id)
        return ReceivedBatch(
            number=0,
            app_monitor_id=app_monitor_id,
            batch_id=document["BatchId"],
            body=body,
            received_at=wall,
            event_count=len(document["RumEvents"]),
            dropped=dropped,
        )

    def _check_quota(self, now: float) -> None:
        if self.limiter is not None and not self.limiter.admit(now):
            raise throttling(self.limiter.quota.retry_after)

    def _check_events(self, events: list[dict[str, Any]]) -> tuple[int, ...]:
        """The positions of events to drop silently."""
        if self.max_events is not None and len(events) > self.max_events:
            raise validation(f"1 validation error detected: {len(events)} events, at most {self.max_events}")
        if self.refuse_event is not None:
            self._check_refused(events, self.refuse_event)
        # Characters take at most 4 bytes: most events are below by their length alone.
        dropped = tuple(
            place
            for place, event in enumerate(events)
            if (len(event["details"]) + len(event.get("metadata") or "")) * 4 > MAX_EVENT_BYTES
            and content_size(event) > MAX_EVENT_BYTES
        )
        if dropped and self.oversize == "refuse":
            where = f"rumEvents.{dropped[0] + 1}.member"
            raise validation(f"1 validation error detected: {where} exceeds {MAX_EVENT_BYTES} bytes")
        return dropped

    @staticmethod
    def _check_refused(events: list[dict[str, Any]], refuse: Callable[[ReceivedEvent], bool]) -> None:
        for place, event in enumerate(events, 1):
            if refuse(ReceivedEvent.of(event)):
                raise validation(f"1 validation error detected: rumEvents.{place}.member was refused")


def app_monitor_of(request: Request) -> str:
    """The app monitor id in the request's path, whatever it looks like.

    Raises `ServiceError` for another path or method than PutRumEvents has.
    """
    match = _PATH.match(request.path)
    if match is None:
        raise unknown_operation(404)
    if request.method != "POST":
        raise unknown_operation(405)
    return match[1]


def decode(body: bytes, encoding: str | None, limit: int) -> bytes:
    """Undo the content encoding; raises `ServiceError`, 413 above ``limit`` bytes."""
    match (encoding or "identity").strip().lower():
        case "identity":
            return body
        case "gzip" | "x-gzip":
            return _gunzip(body, limit)
        case other:
            raise validation(f"Unsupported content encoding: {other}")


def _gunzip(body: bytes, limit: int) -> bytes:
    decoder = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        decoded = decoder.decompress(body, limit + 1)
    except zlib.error as error:
        raise validation(f"The body is no gzip: {error}") from None
    if len(decoded) > limit:
        raise too_large()
    if not decoder.eof:
        raise validation("The body is no gzip: it ends too early")
    return decoded


def _as_error(failing: FailingMonitor, app_monitor_id: str) -> ServiceError:
    return access_denied(app_monitor_id) if failing.status == 403 else resource_not_found(app_monitor_id)
