"""One request after the other: checked by the service, struck by a fault, kept, answered, counted."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from rumbuffer.emulator import wire
from rumbuffer.emulator.answers import PREFLIGHT, ServiceError, too_large
from rumbuffer.emulator.counters import Tally
from rumbuffer.emulator.faults import Dice, Fault, Faults
from rumbuffer.emulator.records import ReceivedBatch
from rumbuffer.emulator.request import Request
from rumbuffer.emulator.service import FailingMonitor, Service, app_monitor_of
from rumbuffer.emulator.store import Kept, Store

# How many of the silently dropped events are named; their count goes on.
NAMED_DROPS = 1000


@dataclass(slots=True)
class Handler:
    """Handles PutRumEvents requests; `Emulator` sets what is in it and reads what it noted."""

    service: Service
    store: Store
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    sleep: wire.Sleep
    dice: Dice = field(default_factory=lambda: Dice(Faults()))
    script: deque[Fault] = field(default_factory=deque)
    failing: dict[str, FailingMonitor] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    drops: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=NAMED_DROPS))
    waiters: list[asyncio.Future[None]] = field(default_factory=list)
    _handling: set[asyncio.Future[wire.Written]] = field(default_factory=set)
    _storing: set[asyncio.Task[None]] = field(default_factory=set)

    async def handle(self, request: Request, received: web.BaseRequest) -> wire.Written:
        """Handle one request to its end, its answer included."""
        if request.method == "OPTIONS":
            return wire.write(received, PREFLIGHT)
        try:
            batch = await self._check(request, received)
        except ServiceError as error:
            return await self._refuse(error, received)
        except (ConnectionError, web.RequestPayloadError):
            # The client left in the middle of its body: no request, no answer.
            return wire.Written(goes_on=False)
        return await self._accept(batch, received)

    async def shut(self) -> None:
        """End what waits in latencies and faults; see through what is being stored."""
        for task in self._handling:
            task.cancel()
        while self._storing:
            await asyncio.wait(self._storing)

    async def _check(self, request: Request, received: web.BaseRequest) -> ReceivedBatch:
        app_monitor_id = app_monitor_of(request)
        request.body = await _read(received)
        self.tally.wire_bytes += len(request.body)
        return self.service.check(
            app_monitor_id,
            request,
            now=self.clock(),
            wall=self.wall_clock(),
            failing=self.failing.get(app_monitor_id),
        )

    async def _refuse(self, error: ServiceError, received: web.BaseRequest) -> wire.Written:
        self.tally.received += 1
        if error.status == 429:
            self.tally.throttled += 1
        else:
            self.tally.rejected[error.code] += 1
        self._wake()
        await self._wait(self.dice.latency())
        return wire.write(received, error.answer)

    async def _accept(self, batch: ReceivedBatch, received: web.BaseRequest) -> wire.Written:
        self.tally.received += 1
        fault = self.script.popleft() if self.script else self.dice.fault()
        if fault.name != "ok":
            self.tally.faults[fault.name] += 1
            self._wake()
        try:
            await self._wait(fault.wait + self.dice.latency())
        except asyncio.CancelledError:
            self.tally.failed += 1
            raise
        if fault.store:
            await self._keep(batch)
        else:
            self.tally.failed += 1
        self._wake()
        with _Tracked(self._handling):
            return await wire.deliver(received, fault, self.sleep)

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            with _Tracked(self._handling):
                await self.sleep(seconds)

    async def _keep(self, batch: ReceivedBatch) -> None:
        if not self.store.blocking:
            self._count(batch, self.store.put(batch))
            return
        # Off the loop's thread; a handler that is cancelled leaves no batch uncounted.
        storing = asyncio.create_task(self._keep_in_thread(batch))
        self._storing.add(storing)
        storing.add_done_callback(self._storing.discard)
        await asyncio.shield(storing)

    async def _keep_in_thread(self, batch: ReceivedBatch) -> None:
        loop = asyncio.get_running_loop()
        self._count(batch, await loop.run_in_executor(None, self.store.put, batch))

    def _count(self, batch: ReceivedBatch, kept: Kept) -> None:
        tally = self.tally
        tally.accepted += 1
        tally.body_bytes += len(batch.body)
        if kept is not Kept.NEW:
            tally.repeated += 1
            tally.conflicting += kept is Kept.CONFLICT
            return
        tally.events += batch.event_count - len(batch.dropped)
        if batch.dropped:
            tally.silently_dropped += len(batch.dropped)
            self.drops += [(batch.batch_id, event.id) for event in batch.dropped_events]

    def _wake(self) -> None:
        if self.waiters:
            waiters, self.waiters = self.waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)


class _Tracked:
    """While inside, the current task is one that `Handler.shut` cancels."""

    __slots__ = ("_task", "_tasks")

    def __init__(self, tasks: set[asyncio.Future[wire.Written]]) -> None:
        self._tasks = tasks
        self._task = asyncio.current_task()

    def __enter__(self) -> None:
        if self._task is not None:
            self._tasks.add(self._task)

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._tasks.discard(self._task)


async def _read(received: web.BaseRequest) -> bytes:
    expect = received.headers.get("Expect", "")
    if expect.lower() == "100-continue" and received.transport is not None:
        received.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        return await received.read()
    except web.HTTPRequestEntityTooLarge:
        raise too_large() from None
