"""One call's cost, measured in this process; prints a JSON line.

    python -m benchmarks.record_cases record

A case is a function that makes what it needs and returns two callables: `run(count)` makes so many calls,
`rest()` empties what they filled. What a case imports, it imports itself, so that a process holds one library
only. The cost is the thread's processor time, the loop around the calls (some 0.03 µs) included. The process
keeps to one core, rounds are short, and between two of them, uncounted, everything is delivered to a sender
or an exporter that does nothing: for all libraries alike, what is measured is what the caller pays.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import statistics
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks.cases import on_one_core

if TYPE_CHECKING:
    from rumbuffer import Outcome, Overflow, RumBuffer, SealedBatch, Session

Run: TypeAlias = Callable[[int], None]
Rest: TypeAlias = Callable[[], object]
Prepared: TypeAlias = tuple[Run, Rest]

TYPE = "com.example.checkout"
DETAILS: dict[str, Any] = {"total": 42, "currency": "EUR"}
METADATA: dict[str, Any] = {
    "version": "1.0.0",
    "domain": "example.com",
    "browserName": "Firefox",
    "paid": True,
}

SESSIONS = 20
ROUND = 2000
"""Calls a round: with so many sessions, each fills one batch of 100."""

WARM_UP = 5
MONITOR = "8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11"


def nothing() -> None:
    """Rest: there is nothing to be emptied."""


# What cannot be cheaper ------------------------------------------------------------------------------------


def floor(metadata: dict[str, Any] | None = None) -> Prepared:
    """Two dumps (four with metadata), an id from a pool, the clock, one join, and a list to keep it in."""
    from orjson import dumps

    ids = cycle([str(uuid.uuid4()).encode() for _ in range(ROUND)])
    kept: list[bytes] = []
    keep, now = kept.append, time.time

    def plain(count: int) -> None:
        for _ in range(count):
            keep(
                b'{"id":"%b","timestamp":%.3f,"type":"com.example.checkout","details":%b}'
                % (next(ids), now(), dumps(dumps(DETAILS).decode()))
            )

    def with_metadata(count: int) -> None:
        for _ in range(count):
            keep(
                b'{"id":"%b","timestamp":%.3f,"type":"com.example.checkout","details":%b,"metadata":%b}'
                % (next(ids), now(), dumps(dumps(DETAILS).decode()), dumps(dumps(metadata).decode()))
            )

    return (plain if metadata is None else with_metadata), kept.clear


# Ours ------------------------------------------------------------------------------------------------------


class NullSender:
    """Takes everything at once."""

    async def start(self, *, max_in_flight: int) -> None: ...

    async def send(self, batch: SealedBatch) -> Outcome:
        from rumbuffer import Delivered

        return Delivered()

    async def aclose(self) -> None: ...


class Ours:
    """A buffer on a loop that runs between the rounds only."""

    def __init__(self, *, overflow: Overflow | None = None, room: int = 64 << 20, rate: float = 1.0) -> None:
        from rumbuffer import AppMonitor, Limits, Overflow, Pacing, RumBuffer

        self._loop = asyncio.new_event_loop()
        self.buffer: RumBuffer = RumBuffer(
            AppMonitor(MONITOR),
            sender=NullSender(),
            pacing=Pacing(quota=1e6, burst=1000, share=None),
            limits=Limits(max_pending_bytes=room),
            overflow=overflow or Overflow.DROP_OLDEST,
            sample_rate=rate,
        )
        self._loop.run_until_complete(self.buffer.start())
        self.session: Callable[[], Session] = cycle(sessions(SESSIONS)).__next__

    def rest(self) -> None:
        """Deliver everything."""
        self._loop.run_until_complete(self.buffer.flush())

    def close(self) -> None:
        self._loop.run_until_complete(self.buffer.aclose())

    def record(self, *, metadata: dict[str, Any] | None = None) -> Run:
        """Call `record()`, for each event in another session of a few."""
        record, session = self.buffer.record, self.session

        def plain(count: int) -> None:
            for _ in range(count):
                record(TYPE, DETAILS, session=session())

        def with_metadata(count: int) -> None:
            for _ in range(count):
                record(TYPE, DETAILS, session=session(), metadata=metadata)

        return plain if metadata is None else with_metadata

    def admit(self) -> Run:
        """Admit events that are encoded: the web middleware's way in."""
        offer, session = self.buffer._intake.offer_encoded, self.session  # noqa: SLF001
        events = cycle(encoded_events())

        def run(count: int) -> None:
            for event in islice(events, count):
                offer(event, session())

        return run

    def fill(self) -> None:
        """Record until there is no room."""
        while self.buffer.record(TYPE, DETAILS, session=self.session()):
            pass


def sessions(count: int) -> Iterator[Session]:
    from rumbuffer import Session

    return (Session.new() for _ in range(count))


def encoded_events() -> list[bytes]:
    return [
        b'{"id":"%b","timestamp":1767225600.999,"type":"com.example.checkout",'
        b'"details":"{\\"total\\":42,\\"currency\\":\\"EUR\\"}"}' % str(uuid.uuid4()).encode()
        for _ in range(ROUND)
    ]


def record() -> Prepared:
    ours = Ours()
    return ours.record(), ours.rest


def record_with_metadata() -> Prepared:
    ours = Ours()
    return ours.record(metadata=METADATA), ours.rest


def record_in_new_sessions() -> Prepared:
    """Each event opens a batch."""
    ours = Ours()
    ours.session = cycle(sessions(ROUND)).__next__
    return ours.record(), ours.rest


def put_nowait() -> Prepared:
    from rumbuffer import Event

    ours = Ours()
    put, session = ours.buffer.put_nowait, ours.session

    def run(count: int) -> None:
        for _ in range(count):
            put(Event(TYPE, DETAILS), session=session())

    return run, ours.rest


def admit_encoded() -> Prepared:
    ours = Ours()
    return ours.admit(), ours.rest


def full(*, encoded: bool = False) -> Prepared:
    """Refused: no room, and nothing is evicted for it."""
    from rumbuffer import Overflow

    ours = Ours(overflow=Overflow.DROP_NEWEST, room=1 << 20)
    ours.fill()
    return (ours.admit() if encoded else ours.record()), nothing


def evicting() -> Prepared:
    """Accepted for another event that is dropped."""
    ours = Ours(room=1 << 20)
    run = ours.record()
    run(20_000)
    return run, nothing


def sampled_out() -> Prepared:
    ours = Ours(rate=0.0)
    return ours.record(), nothing


def shed() -> Prepared:
    """Refused, because the session is not kept under a lasting overload."""
    from rumbuffer import Overflow

    ours = Ours(overflow=Overflow.SHED_SESSIONS)
    store = ours.buffer._store  # noqa: SLF001
    store.shed_rate = store.keep_rate = 1e-9
    return ours.record(), nothing


def closed(*, encoded: bool = False) -> Prepared:
    ours = Ours()
    ours.close()
    return (ours.admit() if encoded else ours.record()), nothing


def without_session() -> Prepared:
    ours = Ours()
    record = ours.buffer.record

    def run(count: int) -> None:
        for _ in range(count):
            record(TYPE, DETAILS)

    return run, nothing


# Peers -----------------------------------------------------------------------------------------------------


def opentelemetry_provider() -> tuple[Any, Any]:
    """Return a tracer provider and its batching processor, whose worker thread is never awakened."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    processor = BatchSpanProcessor(
        Nowhere(), max_queue_size=1 << 20, max_export_batch_size=1 << 20, schedule_delay_millis=1e9
    )
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider, processor


def opentelemetry_span() -> Prepared:
    """Start a span with two attributes, and end it."""
    provider, processor = opentelemetry_provider()
    start = provider.get_tracer("benchmark").start_span

    def run(count: int) -> None:
        for _ in range(count):
            start(TYPE, attributes=DETAILS).end()

    return run, processor.force_flush


def opentelemetry_on_end() -> Prepared:
    """Hand spans that are ended and sampled to the batching processor."""
    from opentelemetry.sdk.trace import TracerProvider

    start = TracerProvider(shutdown_on_exit=False).get_tracer("benchmark").start_span
    spans = [start(TYPE, attributes=DETAILS) for _ in range(ROUND)]
    for span in spans:
        span.end()
    _, processor = opentelemetry_provider()
    on_end, ended = processor.on_end, cycle(spans)

    def run(count: int) -> None:
        for span in islice(ended, count):
            on_end(span)

    return run, processor.force_flush


def opentelemetry_log() -> Prepared:
    """Emit a log record with two attributes."""
    from opentelemetry._logs import SeverityNumber
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import (
        BatchLogRecordProcessor,
        LogRecordExporter,
        LogRecordExportResult,
    )

    class Nowhere(LogRecordExporter):
        def export(self, batch: Any) -> LogRecordExportResult:
            return LogRecordExportResult.SUCCESS

        def shutdown(self) -> None: ...

        def force_flush(self, timeout_millis: int = 30000) -> bool:
            return True

    processor = BatchLogRecordProcessor(
        Nowhere(), max_queue_size=1 << 20, max_export_batch_size=1 << 20, schedule_delay_millis=1e9
    )
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(processor)
    emit = provider.get_logger("benchmark").emit

    def run(count: int) -> None:
        for _ in range(count):
            emit(
                timestamp=time.time_ns(),
                severity_number=SeverityNumber.INFO,
                body="checkout",
                attributes=DETAILS,
                event_name=TYPE,
            )

    return run, processor.force_flush


def sentry_log() -> Prepared:
    """Log a line with two attributes."""
    import sentry_sdk
    import sentry_sdk.logger
    from sentry_sdk.transport import Transport

    class Nowhere(Transport):
        def capture_envelope(self, envelope: Any) -> None: ...

    sentry_sdk.init(
        dsn="https://key@example.com/1", transport=Nowhere, enable_logs=True, default_integrations=False
    )
    info = sentry_sdk.logger.info

    def run(count: int) -> None:
        for _ in range(count):
            info("checkout", attributes=DETAILS)

    return run, sentry_sdk.flush


def posthog_capture() -> Prepared:
    """Capture an event with two properties for a user."""
    import posthog

    client = posthog.Posthog("key", host="https://example.com", send=False, max_queue_size=ROUND * 2)
    capture, users = client.capture, cycle([str(uuid.uuid4()) for _ in range(SESSIONS)])

    def run(count: int) -> None:
        for user in islice(users, count):
            capture(TYPE, distinct_id=user, properties=DETAILS)

    return run, client.flush


CASES: dict[str, Callable[[], Prepared]] = {
    "floor": floor,
    "floor-metadata": lambda: floor(METADATA),
    "record": record,
    "record-metadata": record_with_metadata,
    "record-new-sessions": record_in_new_sessions,
    "put_nowait": put_nowait,
    "admit": admit_encoded,
    "full": full,
    "admit-full": lambda: full(encoded=True),
    "evicting": evicting,
    "sampled-out": sampled_out,
    "shed": shed,
    "closed": closed,
    "admit-closed": lambda: closed(encoded=True),
    "no-session": without_session,
    "otel-span": opentelemetry_span,
    "otel-on_end": opentelemetry_on_end,
    "otel-log": opentelemetry_log,
    "sentry-log": sentry_log,
    "posthog": posthog_capture,
}


def measure(case: str, seconds: float) -> dict[str, float]:
    """Run rounds for so much processor time; return the median and the lowest cost of a call, in µs."""
    run, rest = CASES[case]()
    costs: list[float] = []
    spent = 0.0
    while spent < seconds or len(costs) < 4 * WARM_UP:
        rest()
        gc.collect()
        started = time.thread_time()
        run(ROUND)
        took = time.thread_time() - started
        spent += took
        costs.append(took / ROUND * 1e6)
    costs = costs[WARM_UP:]
    return {"median": statistics.median(costs), "lowest": min(costs)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.record_cases", description=__doc__)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")  # the process ends with the buffer as it is
    on_one_core()
    print(json.dumps(measure(options.case, options.seconds)), flush=True)


if __name__ == "__main__":
    main()
