"""The calls that an aiohttp client makes for a visitor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import perf_counter
from types import SimpleNamespace

from aiohttp import (
    ClientResponseError,
    ClientSession,
    TraceConfig,
    TraceRequestEndParams,
    TraceRequestExceptionParams,
    TraceRequestStartParams,
)
from yarl import URL

from rumbuffer.buffer import RumBuffer
from rumbuffer.events import Session, current_session
from rumbuffer.web.door import Door
from rumbuffer.web.recorder import BeforeRecord, Exchange, Recorder
from rumbuffer.web.redaction import redact_url

__all__ = ["trace_config"]


def trace_config(
    buffer: RumBuffer,
    *,
    domain: str | None = None,
    query: bool = False,
    redact: Callable[[str], str] | None = redact_url,
    attributes: Mapping[str, str | float | bool] | None = None,
    before_record: BeforeRecord | None = None,
    error_messages: bool = True,
) -> TraceConfig:
    """Return a `TraceConfig` that records a client's calls as `http_event`s of the current session.

    Which calls: those made while a session is the current one. What `setup` or `RumMiddleware` keeps out
    has its calls kept out too: a request that is excluded has no session, and the calls of a session
    whose requests are not sampled count as sampled out.

    What of them: `domain` is the site that the calls are made for; where it is left out, the host that is
    called stands for it. Addresses are absolute, without user (aiohttp keeps it apart) and fragment;
    `redact` (by default: what looks like an id becomes ``*``) takes and returns the whole address, `None`
    leaves it as it is. `query` adds the query string, with what looks secret or personal starred out
    unless `redact` is `None`. `attributes` (up to four) go into every event's metadata. `before_record`
    takes each event and the parameters of aiohttp's trace, and returns the event, changed or not, or
    `None` to drop it. `error_messages` puts the exceptions' texts into events.

    A call ends with the response's headers, as aiohttp's trace has it: its duration (ms) is until then,
    its size what the headers say, in bytes. A call that fails has no response but its `error`; one that
    is cancelled, ``http_aborted``. Raises `InvalidSetting`. Nothing that goes wrong later reaches a call:
    it is logged once.
    """
    door = Door(buffer)
    recorder = Recorder(
        door,
        domain=domain,
        attributes=attributes,
        query=query,
        redact=redact,
        before_record=before_record,
        errors=False,
        error_messages=error_messages,
        xray=False,
    )
    calls = _Calls(door, recorder)
    config = TraceConfig()
    config.on_request_start.append(calls.start)
    config.on_request_end.append(calls.end)
    config.on_request_exception.append(calls.fail)
    return config


class _Calls:
    """What aiohttp tells of each call."""

    def __init__(self, door: Door, recorder: Recorder) -> None:
        self._door = door
        self._recorder = recorder

    async def start(self, _: ClientSession, context: SimpleNamespace, __: TraceRequestStartParams) -> None:
        context.rumbuffer = (perf_counter(), current_session.get())

    async def end(
        self, _: ClientSession, context: SimpleNamespace, parameters: TraceRequestEndParams
    ) -> None:
        size = parameters.response.content_length or 0
        self._record(context, parameters, parameters.response.status, size, None)

    async def fail(
        self, _: ClientSession, context: SimpleNamespace, parameters: TraceRequestExceptionParams
    ) -> None:
        # With `raise_for_status` it was answered.
        error = parameters.exception
        status = error.status if isinstance(error, ClientResponseError) else 0
        self._record(context, parameters, status, 0, error)

    def _record(
        self,
        context: SimpleNamespace,
        parameters: TraceRequestEndParams | TraceRequestExceptionParams,
        status: int,
        size: int,
        error: BaseException | None,
    ) -> None:
        try:
            started, session = context.rumbuffer
            if session is None:
                return
            if not self._door.watches(session):
                self._door.count_sampled_out(session)
                return
            exchange = self._exchange(session, parameters.method, parameters.url)
            exchange.status, exchange.response_bytes = status, size
            exchange.seconds = perf_counter() - started
            exchange.context = parameters
            if isinstance(error, asyncio.CancelledError):
                exchange.aborted = True
            else:
                exchange.error = error
            self._recorder.record(exchange)
        except Exception as defect:  # noqa: BLE001 - a defect of ours must not become a failed call
            self._recorder.failed(defect)

    def _exchange(self, session: Session, method: str, url: URL) -> Exchange:
        return Exchange(
            session=session,
            method=method,
            host=_host(url),
            url=self._recorder.address(None, str(url.with_query(None).with_fragment(None))),
            query=url.raw_query_string,
            side="client",
        )


def _host(url: URL) -> bytes:
    """Return an address's host as a ``Host`` header has it: in ASCII, an IPv6 address in brackets."""
    host = (url.raw_host or "").partition("%")[0]  # an IPv6 address may have a zone
    return (f"[{host}]" if ":" in host else host).encode("ascii", "replace")
