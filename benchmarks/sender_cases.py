"""One case of `benchmarks.sender`, measured in this process; prints a JSON line.

    python -m benchmarks.sender_cases 'aiobotocore, 100 events'

What is measured is this process's processor time, in rounds of some hundred requests of which eight are on
the way at once; the service is a process of its own (`benchmarks.sender_sink`). The median of the rounds
counts. Before the rounds there are warm-up requests.

Events are what the middleware records of requests: about 400 bytes each as they are sent. aiobotocore is
given the same as its callers would have it, details and metadata as JSON texts, made before the clock runs.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import logging
import os
import random
import statistics
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from benchmarks.cases import on_one_core
from benchmarks.sender_sink import Sink
from rumbuffer import AppMonitor, Pacing, RumBuffer, Session
from rumbuffer.aws import AwsSender
from rumbuffer.core.encoding import EventEncoder
from rumbuffer.core.outcomes import Delivered
from rumbuffer.core.sealed import SealedBatch

__all__ = ["CALLS", "PIPELINE"]

AT_ONCE = 8
ROUNDS = 7
BURST = 50_000
UNPACED = Pacing(quota=1e6, use=1.0, burst=1000, share=None)

MONITOR = AppMonitor("8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11", name="shop", version="1.0")
TYPE = "com.amazon.rum.http_event"
ROUTES = ("/", "/basket", "/items/{item_id}", "/search", "/checkout", "/account/orders")

Call: TypeAlias = Callable[[], Awaitable[object]]


def contents(source: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """Details and metadata of an event."""
    details = {
        "version": "1.0.0",
        "request": {"method": source.choice(("GET", "POST")), "url": source.choice(ROUTES)},
        "response": {"status": source.choice((200, 200, 200, 302, 404))},
    }
    metadata = {
        "version": "1.0.0",
        "domain": "example.com",
        "http_duration_ms": round(source.lognormvariate(3, 1), 2),
        "http_request_bytes": source.randrange(900),
        "http_response_bytes": source.randrange(90_000),
    }
    return details, metadata


def batch(events: int, source: random.Random) -> SealedBatch:
    encode = EventEncoder(6144).encode_given
    encoded = tuple(
        encode(TYPE, *contents(source), str(uuid.uuid4()), 1767225600.0 + place / 8)
        for place in range(events)
    )
    return SealedBatch(str(uuid.uuid4()), MONITOR, str(uuid.uuid4()), str(uuid.uuid4()), None, encoded)


# One request -------------------------------------------------------------------------------------------


async def in_turn(call: Call, times: int) -> None:
    left = iter(range(times))

    async def caller() -> None:
        for _ in left:
            await call()

    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))


async def microseconds(call: Call, requests: int) -> float:
    """Processor time of a call."""
    await in_turn(call, requests)
    gc.collect()
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        await in_turn(call, requests)
        rounds.append((time.process_time() - started) / requests * 1e6)
    return statistics.median(rounds)


async def with_aiohttp(sink: Sink, events: int) -> float:
    """The floor: the same bytes, by nothing but the HTTP client."""
    import aiohttp

    body, url = batch(events, random.Random(1)).body(), f"{sink.url}/appmonitors/{MONITOR.id}/"
    async with aiohttp.ClientSession() as session:

        async def call() -> None:
            headers = {"Content-Type": "application/json"}
            async with session.post(url, data=body, headers=headers) as answer:
                await answer.read()

        return await microseconds(call, 300)


async def with_aiobotocore(sink: Sink, events: int) -> float:
    """One `put_rum_events` with that many events, which are ready."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    source = random.Random(1)
    ready = [
        {
            "id": str(uuid.uuid4()),
            "timestamp": 1767225600.0 + place / 8,
            "type": TYPE,
            "details": json.dumps(details),
            "metadata": json.dumps(metadata),
        }
        for place, (details, metadata) in enumerate(contents(source) for _ in range(events))
    ]
    config = AioConfig(inject_host_prefix=False, max_pool_connections=AT_ONCE)
    async with get_session().create_client("rum", endpoint_url=sink.url, config=config) as client:

        async def call() -> None:
            await client.put_rum_events(
                Id=MONITOR.id,
                BatchId=str(uuid.uuid4()),
                AppMonitorDetails={"id": MONITOR.id, "name": MONITOR.name, "version": MONITOR.version},
                UserDetails={"userId": str(uuid.uuid4()), "sessionId": str(uuid.uuid4())},
                RumEvents=ready,
            )

        return await microseconds(call, 60 if events >= 100 else 200)


async def with_sender(sink: Sink, events: int, **settings: Any) -> float:
    """`AwsSender.send` with a batch."""
    sender, sent = AwsSender(endpoint_url=sink.url, **settings), batch(events, random.Random(1))
    await sender.start(max_in_flight=AT_ONCE)

    async def call() -> None:
        outcome = await sender.send(sent)
        if outcome != Delivered():
            raise SystemExit(f"not delivered: {outcome}")

    try:
        return await microseconds(call, 200)
    finally:
        await sender.aclose()


def own_session(sink: Sink, events: int) -> Awaitable[float]:
    from aiobotocore.session import AioSession

    return with_sender(sink, events, session=AioSession())


def with_isal(sink: Sink, events: int) -> Awaitable[float]:
    return with_sender(sink, events, compression="gzip")


def with_zlib(sink: Sink, events: int) -> Awaitable[float]:
    sys.modules["isal"] = None  # type: ignore[assignment]
    return with_sender(sink, events, compression="gzip")


CALLS: dict[str, Callable[[Sink, int], Awaitable[float]]] = {
    "aiohttp": with_aiohttp,
    "rumbuffer": with_sender,
    "rumbuffer, a session of the user's": own_session,
    "rumbuffer, gzip by isal": with_isal,
    "rumbuffer, gzip by zlib": with_zlib,
    "aiobotocore": with_aiobotocore,
}
"""Who makes the call; a case is "NAME, N events"."""


async def one_request(who: str, events: int) -> dict[str, float]:
    with Sink() as sink:
        on_one_core()
        cost = await CALLS[who](sink, events)
        counts = sink.counts()
    if counts["events"] != counts["requests"] * events:
        raise SystemExit(f"{who}: the service saw {counts}")
    return {"microseconds": cost, "bytes": counts["bytes"] / counts["requests"]}


# From record() to the delivery -------------------------------------------------------------------------


async def recorded_and_delivered() -> dict[str, float]:
    """Processor time of an event from `record()` to its delivery, in full batches."""
    sessions, events, rounds = 40, 100, []
    source = random.Random(1)
    ready = [contents(source) for _ in range(sessions * events)]
    with Sink() as sink:
        on_one_core()
        async with RumBuffer(MONITOR, endpoint_url=sink.url, pacing=UNPACED) as buffer:
            for turn in range(ROUNDS + 1):
                visits = [Session.new() for _ in range(sessions)]
                gc.collect()
                started = time.process_time()
                for (details, metadata), session in zip(ready, itertools.cycle(visits), strict=False):
                    buffer.record(TYPE, details, metadata=metadata, session=session)
                await buffer.flush()
                if turn:
                    rounds.append((time.process_time() - started) / len(ready) * 1e6)
        delivered, counts = buffer.stats().delivered, sink.counts()
    if not delivered == counts["events"] == (ROUNDS + 1) * len(ready):
        raise SystemExit(f"delivered {delivered}, the service saw {counts}")
    return {"microseconds": statistics.median(rounds), "fill": counts["events"] / counts["requests"]}


# A burst -----------------------------------------------------------------------------------------------


async def burst_through_rumbuffer() -> dict[str, float]:
    """A burst at default settings, to a service that takes 20 ms."""
    visits, source = [Session.new() for _ in range(BURST // 100)], random.Random(1)
    details, metadata = contents(source)
    with Sink(delay=0.02) as sink:
        on_one_core()
        async with RumBuffer(MONITOR, endpoint_url=sink.url) as buffer:
            started = time.perf_counter()
            for place in range(BURST):
                buffer.record(TYPE, details, metadata=metadata, session=visits[place % len(visits)])
            recorded = time.perf_counter() - started
            await buffer.flush()
            drained = time.perf_counter() - started
        counts = sink.counts()
    return {"delivered": counts["events"], "burst": recorded, "drained": drained}


async def burst_through_spans() -> dict[str, float]:
    """The same burst of spans through `BatchSpanProcessor`, with an exporter that takes 20 ms."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Exporter(SpanExporter):
        taken = 0

        def export(self, spans: Any) -> SpanExportResult:
            time.sleep(0.02)
            self.taken += len(spans)
            return SpanExportResult.SUCCESS

    exporter, provider = Exporter(), TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("benchmark")
    started = time.perf_counter()
    for _ in range(BURST):
        tracer.start_span("request").end()
    recorded = time.perf_counter() - started
    await asyncio.to_thread(provider.force_flush)
    drained = time.perf_counter() - started
    provider.shutdown()
    return {"delivered": exporter.taken, "burst": recorded, "drained": drained}


async def burst_through_logs() -> dict[str, float]:
    """The same burst of log records through `BatchLogRecordProcessor`."""
    from opentelemetry._logs import SeverityNumber
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import (
        BatchLogRecordProcessor,
        LogRecordExporter,
        LogRecordExportResult,
    )

    class Exporter(LogRecordExporter):
        taken = 0

        def export(self, batch: Any) -> LogRecordExportResult:
            time.sleep(0.02)
            self.taken += len(batch)
            return LogRecordExportResult.SUCCESS

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return True

        def shutdown(self) -> None:
            """Nothing to close."""

    exporter, provider = Exporter(), LoggerProvider()
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logger = provider.get_logger("benchmark")
    started = time.perf_counter()
    for _ in range(BURST):
        logger.emit(severity_number=SeverityNumber.INFO, body="request", attributes={"status": 200})
    recorded = time.perf_counter() - started
    await asyncio.to_thread(provider.force_flush)
    drained = time.perf_counter() - started
    provider.shutdown()
    return {"delivered": exporter.taken, "burst": recorded, "drained": drained}


PIPELINE: dict[str, Callable[[], Awaitable[dict[str, float]]]] = {
    "recorded and delivered": recorded_and_delivered,
    "burst: rumbuffer": burst_through_rumbuffer,
    "burst: OpenTelemetry spans": burst_through_spans,
    "burst: OpenTelemetry logs": burst_through_logs,
}


async def measure(case: str) -> dict[str, float]:
    if case in PIPELINE:
        return await PIPELINE[case]()
    who, _, events = case.removesuffix(" events").rpartition(", ")
    return await one_request(who, int(events))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case")
    case = parser.parse_args().case
    logging.disable(logging.WARNING)
    # Nothing of the caller's: no credentials, endpoint or proxy.
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        del os.environ[name]
    os.environ.update(
        AWS_ACCESS_KEY_ID="AKIDEXAMPLE",
        AWS_SECRET_ACCESS_KEY="not-a-secret",  # noqa: S106 - it is none
        AWS_DEFAULT_REGION="eu-west-1",
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    )
    print(json.dumps(asyncio.run(measure(case))))


if __name__ == "__main__":
    main()
