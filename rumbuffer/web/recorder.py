"""From what is known of a request to its events.

One `http_event` a request is the rule, and runs on every request of somebody's server. Nearly all of its
bytes are the same for all requests of one route with one status, so they are encoded once and kept
(`Mold`); what changes (id, times, sizes, trace id) is numbers and hexadecimal digits, which need no
escaping. Whatever is out of the ordinary (an error, a hook, a websocket) goes the long way, as dicts
through `RumBuffer.record`.
"""

from __future__ import annotations

import re
from asyncio import CancelledError
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from sys import getsizeof
from time import time
from typing import Any, TypeAlias

import orjson

from rumbuffer.builtin.schemas import check_metadata
from rumbuffer.core.admission import Admission
from rumbuffer.core.encoding import shape_of
from rumbuffer.errors import InvalidEvent, InvalidSetting
from rumbuffer.events import Event, Session
from rumbuffer.tracing import Trace, new_segment_id, new_trace_id
from rumbuffer.web.callables import check_callable
from rumbuffer.web.door import Door
from rumbuffer.web.errors import error_members
from rumbuffer.web.redaction import LONGEST_URL, redact_query

__all__ = ["BeforeRecord", "Exchange", "Recorder", "tracing_members"]

HTTP_EVENT = "com.amazon.rum.http_event"
JS_ERROR_EVENT = "com.amazon.rum.js_error_event"
XRAY_TRACE_EVENT = "com.amazon.rum.xray_trace_event"

BeforeRecord: TypeAlias = Callable[[Event, Any], Event | None]

_MOLDS = 2048
_MOLD_BYTES = 2 * 1024 * 1024
"""Kept molds: routes × methods × statuses × hosts of an ordinary application are some hundreds, of half a
kilobyte each. Above either bound all are thrown away: an attacker who makes up paths costs us the encoding
(5 µs), not memory."""

_MOLD_OVERHEAD = 400
"""Bytes that a mold takes beside its own and its key's texts: for objects, and the place in the dict."""

_LONGEST_KIND = 1024
"""Characters of a kind whose mold is kept: path, method and host are what a client cares to send."""

_LONGEST_PATH, _LONGEST_QUERY = 3072, 1536
"""Bytes of JSON that an address may take of an event's 6 KB."""

_LONGEST_METHOD = 32
_VARIABLE = 120
"""Bytes of details and metadata that a mold leaves open, at most: a trace id and three numbers."""

_is_domain = re.compile(r"[a-z0-9_](?:[a-z0-9._-]{0,253}[a-z0-9_.])?|\[[0-9a-f:.]{2,45}\]").fullmatch
_is_attribute = re.compile(r"(?!pageTags)(?!aws:)[a-zA-Z0-9_:]{1,128}").fullmatch

_MOST_ATTRIBUTES = 10
_OWN_ATTRIBUTES = 6
_LONGEST_VALUE = 256

Kind: TypeAlias = tuple[str | None, str, int, bytes, str | None]
"""Route, method, status, host, and the path, where there is no route."""

Mold: TypeAlias = bytes
"""An `http_event` in which id, time, trace, duration (ms), response's and request's size are left open."""


@dataclass(slots=True)
class Exchange:
    """One request and its answer, as far as events tell of them. Sizes in bytes, times in seconds."""

    session: Session
    method: str
    host: bytes
    url: str
    query: str = ""
    status: int = 0
    sent_status: int | None = None
    seconds: float = 0.0
    request_bytes: int = 0
    response_bytes: int = 0
    trace: Trace | None = None
    aborted: bool = False
    error: BaseException | None = None
    side: str = "server"
    more: Mapping[str, str | float | bool] | None = None
    context: object = None


class Recorder:
    """Records exchanges in a buffer. Nothing here waits; `record` and `record_error` never raise."""

    def __init__(
        self,
        door: Door,
        *,
        domain: str | None,
        attributes: Mapping[str, str | float | bool] | None,
        query: bool,
        redact: Callable[[str], str] | None,
        before_record: BeforeRecord | None,
        errors: bool,
        error_messages: bool,
        xray: bool,
    ) -> None:
        if domain is not None and not (isinstance(domain, str) and domain):
            raise InvalidSetting("domain", "must be a host name", type(domain).__name__)
        for name, value in (("redact", redact), ("before_record", before_record)):
            if value is not None:
                check_callable(name, value)
        self._attributes = _checked_attributes(attributes)
        self._door = door
        self.offer: Callable[[bytes, Session], Admission] = door.offer_encoded
        self._domain = domain
        self._with_query = query
        self._redact = redact
        self._before_record = before_record
        self._errors = errors
        self._messages = error_messages
        self._xray = xray
        self.molds: dict[Kind, Mold] = {}
        self._mold_bytes = 0
        self.is_plain: bool = not (xray or query or before_record is not None)
        """Whether an exchange without an error is one `http_event` made from a mold."""

    # The short way ------------------------------------------------------------------------------------

    def mold(self, kind: Kind) -> Mold | None:
        """Return the mold for all requests of one kind; `None` if they are too big to be recorded."""
        mold = self.molds.get(kind)
        if mold is None:
            mold = self._cast(kind)
            template, method, _, host, path = kind
            if mold is not None and len(template or path or "") + len(method) + len(host) <= _LONGEST_KIND:
                if len(self.molds) >= _MOLDS or self._mold_bytes > _MOLD_BYTES:
                    self.molds.clear()
                    self._mold_bytes = 0
                self.molds[kind] = mold
                self._mold_bytes += len(mold) + len(host) + getsizeof(path) + _MOLD_OVERHEAD
        return mold

    def _cast(self, kind: Kind) -> Mold | None:
        template, method, status, host, path = kind
        details = orjson.dumps(_http_details(method, self.address(template, path), status))
        metadata = orjson.dumps(self.metadata(host, "server", {"http_status": status}))
        if len(details) + len(metadata) + _VARIABLE > self._door.max_event_bytes:
            return None
        # One `%` over the whole event costs half of joining its parts.
        return b"".join(
            (
                b'{"id":"%b","timestamp":%.3f,"type":"',
                HTTP_EVENT.encode(),
                b'","details":',
                _embedded(details)[:-2],
                b'%b}","metadata":',
                _embedded(metadata)[:-2],
                rb",\"http_duration_ms\":%.3f,\"http_response_bytes\":",
                # `%.0a` takes a number as `%d` does, and writes nothing.
                b"0%.0a" if _has_no_body(method, status) else b"%d",
                rb',\"http_request_bytes\":%d}"}',
            )
        )

    # The long way -------------------------------------------------------------------------------------

    def record(self, exchange: Exchange) -> None:
        """Record an exchange: its `http_event`, its error, its X-Ray segment."""
        try:
            exchange.url += self._query_of(exchange)
            details, metadata = self._http_parts(exchange)
            ended = time()
            segment = None
            if self._xray and (exchange.trace is None or exchange.trace.sampled is not False):
                segment = new_segment_id()
                trace = exchange.trace or Trace(new_trace_id(), None, None)
                details["trace_id"], details["segment_id"] = trace.trace_id, segment
                self._offer(
                    XRAY_TRACE_EVENT, self._segment(exchange, trace, segment, ended), metadata, exchange
                )
            self._offer(HTTP_EVENT, details, metadata, exchange)
            if exchange.error is not None:
                self._js_error(exchange.error, exchange)
        except Exception as defect:  # noqa: BLE001 - a defect of ours must not become a failed request
            self.failed(defect)

    def record_error(self, error: BaseException, exchange: Exchange) -> None:
        """Record an exception as a `js_error_event`."""
        try:
            self._js_error(error, exchange)
        except Exception as defect:  # noqa: BLE001 - a defect of ours must not become a failed request
            self.failed(defect)

    def failed(self, defect: Exception) -> None:
        """Say that something of ours went wrong."""
        self._door.failed("a defect (please report it)", defect)

    def misread(self, error: Exception) -> None:
        """Say that a message of the application's, or of the server's, was none that ASGI knows."""
        self._door.failed("reading the ASGI messages", error)

    def _js_error(self, error: BaseException, exchange: Exchange) -> None:
        if not self._errors:
            return
        metadata = self.metadata(exchange.host, exchange.side, {})
        room = self._door.max_event_bytes - len(orjson.dumps(metadata))
        details = error_members(error, room=room, message=self._messages)
        self._offer(JS_ERROR_EVENT, details, metadata, exchange)

    def _http_parts(self, exchange: Exchange) -> tuple[dict[str, Any], dict[str, Any]]:
        details = _http_details(exchange.method, exchange.url, exchange.status)
        if exchange.trace is not None:
            details["trace_id"] = exchange.trace.trace_id
        if exchange.error is not None:
            # A third of the event at most; the stack is in the `js_error_event`.
            room = self._door.max_event_bytes // 3
            details["error"] = error_members(exchange.error, room=room, message=self._messages, stack=False)
        sent = exchange.status if exchange.sent_status is None else exchange.sent_status
        attributes: dict[str, str | float | bool] = {
            "http_status": sent,
            "http_duration_ms": round(exchange.seconds * 1000, 3),
            "http_response_bytes": _sent_bytes(exchange),
            "http_request_bytes": exchange.request_bytes,
        }
        if exchange.aborted:
            attributes["http_aborted"] = True
        attributes.update(exchange.more or {})
        return details, self.metadata(exchange.host, exchange.side, attributes)

    def _segment(self, exchange: Exchange, trace: Trace, segment: str, ended: float) -> dict[str, Any]:
        request: dict[str, Any] = {"method": exchange.method[:_LONGEST_METHOD], "url": exchange.url}
        details: dict[str, Any] = {
            "version": "1.0.0",
            "name": self.domain(exchange.host),
            "id": segment,
            "trace_id": trace.trace_id,
            "start_time": round(ended - exchange.seconds, 6),
            "end_time": round(ended, 6),
            "http": {"request": request},
        }
        if exchange.status:
            details["http"]["response"] = {
                "status": exchange.status,
                "content_length": _sent_bytes(exchange),
            }
        if trace.parent_id is not None:
            details["parent_id"] = trace.parent_id
        if exchange.status == 429:
            details["throttle"] = True
        if 400 <= exchange.status < 500:
            details["error"] = True
        if exchange.status >= 500 or exchange.error is not None:
            details["fault"] = True
        return details

    def _offer(
        self, type: str, details: dict[str, Any], metadata: dict[str, Any], exchange: Exchange
    ) -> None:
        before_record = self._before_record
        if before_record is None:
            self._door.buffer.record(type, details, metadata=metadata, session=exchange.session)
            return
        try:
            event = before_record(Event(type, details, metadata=dict(metadata)), exchange.context)
            if event is not None:
                self._door.buffer.record(
                    event.type,
                    event.details,
                    metadata=event.metadata,
                    session=exchange.session,
                    id=event.id,
                    timestamp=event.timestamp,
                )
        except InvalidEvent as error:
            self._door.refuse(error)
        except (Exception, CancelledError) as error:  # noqa: BLE001 - whatever a user's hook does, the request goes on
            # Not recorded as it was: the hook may be what keeps secrets out.
            self._door.failed("before_record", error)
            self._door.refuse(InvalidEvent("before_record", "must return an Event or None", "an exception"))

    # Parts --------------------------------------------------------------------------------------------

    def address(self, template: str | None, path: str | None) -> str:
        """Return what stands in the event for an address: a route's template, else the redacted path."""
        url = path or ""
        if template is not None:
            url = template
        elif self._redact is not None:
            try:
                url = self._redact(url)
            except (Exception, CancelledError) as error:  # noqa: BLE001 - whatever a user's callable does, the request goes on
                self._door.failed("redact", error)
                url = "/"
        return _bounded(url, _LONGEST_PATH)

    def _query_of(self, exchange: Exchange) -> str:
        if not self._with_query or not exchange.query:
            return ""
        query = exchange.query if self._redact is None else redact_query(exchange.query)
        return "?" + _bounded(query, _LONGEST_QUERY)

    def metadata(
        self, host: bytes, side: str, attributes: Mapping[str, str | float | bool]
    ) -> dict[str, Any]:
        """Return an event's metadata: `version`, `domain`, and at most ten attributes."""
        own = {"http_side": side, **attributes}
        return {"version": "1.0.0", "domain": self.domain(host), **self._attributes, **own}

    def domain(self, host: bytes) -> str:
        """Return the domain that is set, or the request's host without its port."""
        if self._domain is not None:
            return self._domain
        text = host[:300].decode("latin-1").lower()
        text = text[: text.find("]") + 1] if text.startswith("[") else text.partition(":")[0]
        return text if _is_domain(text) else "unknown"


def tracing_members(trace: Trace) -> bytes:
    """Return what stands in a mold for a trace."""
    return rb",\"trace_id\":\"%b\"" % trace.trace_id.encode()


def _has_no_body(method: str, status: int) -> bool:
    """Tell whether a server leaves the body out of such a response, whatever the application does."""
    return method == "HEAD" or status in (204, 304)


def _sent_bytes(exchange: Exchange) -> int:
    status = exchange.status if exchange.sent_status is None else exchange.sent_status
    return 0 if _has_no_body(exchange.method, status) else exchange.response_bytes


def _http_details(method: str, url: str, status: int) -> dict[str, Any]:
    details: dict[str, Any] = {
        "version": "1.0.0",
        "request": {"method": _text(method[:_LONGEST_METHOD]), "url": url},
    }
    if status:
        details["response"] = {"status": status}
    return details


def _embedded(text: bytes) -> bytes:
    """Return a JSON text as a JSON string, ready to be a part of what `%` fills in."""
    return orjson.dumps(text.decode()).replace(b"%", b"%%")


def _bounded(text: str, longest: int) -> str:
    """Return the beginning of an address: so much of it as leaves room for the rest of an event.

    JSON makes six bytes of a control character, which only somebody who makes up addresses would send.
    """
    text = _text(text[:LONGEST_URL])
    while len(orjson.dumps(text)) > longest:
        text = text[: len(text) * 3 // 4]
    return text


def _text(text: str) -> str:
    """Return text that UTF-8 can hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _checked_attributes(
    attributes: Mapping[str, str | float | bool] | None,
) -> dict[str, str | float | bool]:
    """Check the user's own attributes against the service's rules (meta-data.json, 2026-11)."""
    checked = dict(attributes or {})
    most = _MOST_ATTRIBUTES - _OWN_ATTRIBUTES
    if len(checked) > most:
        raise InvalidSetting(
            "attributes", f"must be at most {most}: an event may have 10, and 6 are ours", str(len(checked))
        )
    for name, value in checked.items():
        field = f"attributes[{name!r}]" if isinstance(name, str) else "attributes"
        if not (isinstance(name, str) and _is_attribute(name)):
            raise InvalidSetting("attributes", "a name must be 1 to 128 of a-z A-Z 0-9 _ :", shape_of(name))
        if name in ("version", "domain") or name.startswith(("http_", "ws_")):
            raise InvalidSetting(
                field,
                "must not be a name that is ours (an application's version is its AppMonitor's)",
                shape_of(value),
            )
        try:
            check_metadata({name: value})
            orjson.dumps(value)
        except InvalidEvent as error:
            raise InvalidSetting(field, error.rule, error.shape) from None
        except (TypeError, ValueError, OverflowError):
            raise InvalidSetting(field, "must be something that JSON can hold", shape_of(value)) from None
    return checked
