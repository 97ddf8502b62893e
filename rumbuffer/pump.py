"""The pump: one task that asks the core what to do, and does it.

It owns the sends and the news: whatever the core decided for someone who waits (room, a delivery, a
flush) is handed over from here, on the loop, outside the lock. Producers only wake it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, get_args

from rumbuffer.core.batcher import Batcher
from rumbuffer.core.flights import Flight, Waiter
from rumbuffer.core.outcomes import Failed, Outcome
from rumbuffer.core.store import RoomWaiter
from rumbuffer.errors import DeliveryError
from rumbuffer.guard import Guard
from rumbuffer.hooks import Hooks
from rumbuffer.log import log
from rumbuffer.reports import Delivery
from rumbuffer.sender import Sender

__all__ = ["DeliveryWaiter", "Pump"]


Result = TypeVar("Result")

_AFTER_A_DEFECT = 1.0
"""Seconds before the pump goes on after an error of our own."""

_SENDER_START_AGAIN = 5.0
_CLEAN_UP = 2.0
"""Seconds that a cancelled send, or the sender's closing, may take before the close goes on without."""


class DeliveryWaiter(Waiter):
    """A `deliver()` that waits: its future gets a `Delivery` or a `DeliveryError` as its result."""

    __slots__ = ("event_id", "future")

    def __init__(self, event_id: str, future: asyncio.Future[Delivery | DeliveryError]) -> None:
        self.event_id = event_id
        self.future = future


class Pump:
    """Runs the core on one event loop. `wake` may be called from the loop's thread only."""

    def __init__(
        self,
        batcher: Batcher,
        sender: Sender,
        guard: Guard,
        hooks: Hooks,
        clock: Callable[[], float],
        *,
        max_in_flight: int,
    ) -> None:
        self.failed = False
        self.rooms: dict[RoomWaiter, asyncio.Future[bool]] = {}
        self._batcher = batcher
        self._sender = sender
        self._guard = guard
        self._hooks = hooks
        self._clock = clock
        self._max_in_flight = max_in_flight
        self._loop = asyncio.get_running_loop()
        self._awake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sends: set[asyncio.Task[None]] = set()
        self._settled: list[tuple[int, asyncio.Future[None]]] = []
        self._sender_started = False

    def wake(self) -> None:
        """Look at the core again, soon."""
        self._awake.set()

    def ensure_running(self) -> None:
        """Start the task; again, if somebody cancelled it."""
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._run(), name="rumbuffer pump")

    async def settled(self, mark: int) -> None:
        """Wait until every batch that was opened before the mark has its final outcome."""
        with self._guard:
            if self._batcher.settled_before(mark):
                return
        future: asyncio.Future[None] = self._loop.create_future()
        self._settled.append((mark, future))
        self._awake.set()
        await future

    async def stop(self) -> None:
        """Stop at once: nothing is sent any more, and what has no answer is counted as lost."""
        tasks = [task for task in (self._task, *self._sends) if task is not None]
        with self._guard:
            self._batcher.abandon()
        for task in tasks:
            task.cancel()
        self._tell(everything=True)
        self._hooks.log_the_rest()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=_CLEAN_UP)
            if stuck:
                log(logging.ERROR, "rumbuffer: %d sends ignored their cancellation at the close", len(stuck))
        try:
            async with asyncio.timeout(_CLEAN_UP):
                await self._sender.aclose()
        except Exception:  # noqa: BLE001 - logged with its traceback
            log(logging.ERROR, "rumbuffer: the sender could not be closed", exc_info=True)

    # The task -----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._sender_started:
            await self._start_sender()
        while True:
            self._awake.clear()
            try:
                until = self._turn()
            except Exception:  # noqa: BLE001 - logged with its traceback
                self.failed = True
                log(logging.ERROR, "rumbuffer: a defect; please report it", exc_info=True)
                until = self._clock() + _AFTER_A_DEFECT
            await self._sleep(until)

    async def _start_sender(self) -> None:
        try:
            await self._sender.start(max_in_flight=self._max_in_flight)
            self._sender_started = True
        except Exception:  # noqa: BLE001 - logged with its traceback
            log(
                logging.ERROR,
                "rumbuffer: the sender did not start; trying again in %d s",
                _SENDER_START_AGAIN,
                exc_info=True,
            )
            await asyncio.sleep(_SENDER_START_AGAIN)

    def _turn(self) -> float:
        """Send what may be sent, tell what is to be told; return when to look again."""
        while True:
            with self._guard:
                action = self._batcher.next_action(self._clock())
            if not isinstance(action, Flight):
                break
            task = self._loop.create_task(self._send(action), name="rumbuffer send")
            self._sends.add(task)
            task.add_done_callback(self._sends.discard)
        self._tell()
        return action

    async def _sleep(self, until: float) -> None:
        timer = None
        if until != float("inf"):
            timer = self._loop.call_later(max(0.0, until - self._clock()), self._awake.set)
        try:
            await self._awake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _send(self, flight: Flight) -> None:
        outcome: Outcome = Failed("cancelled")
        try:
            answer: object = await self._sender.send(flight.batch)
            if isinstance(answer, get_args(Outcome)):
                outcome = answer
            else:
                outcome = Failed(f"the sender returned {type(answer).__name__}, which is no outcome")
        except Exception as error:  # noqa: BLE001 - logged with its traceback
            outcome = Failed(type(error).__name__)
            log(
                logging.ERROR,
                "rumbuffer: the sender raised instead of answering with an outcome",
                exc_info=True,
            )
        finally:
            with self._guard:
                self._batcher.settle(flight, outcome, self._clock())
            self._awake.set()

    # News ---------------------------------------------------------------------------------------------

    def _tell(self, *, everything: bool = False) -> None:
        """Hand over what the core decided for those who wait, and the notices."""
        batcher, store = self._batcher, self._batcher.store
        now = self._clock()
        with self._guard:
            granted, store.granted = store.granted, []
            delivered, batcher.delivered = batcher.delivered, []
            lost, store.losses.unheard = store.losses.unheard, []
            notices = batcher.take_notices(now, all_of_them=everything)
            settled = [entry for entry in self._settled if batcher.settled_before(entry[0])]
        for room in granted:
            _resolve(self.rooms.get(room), result=True)
        for waiter, batch_id in delivered:
            if isinstance(waiter, DeliveryWaiter):
                _resolve(waiter.future, Delivery(waiter.event_id, batch_id))
        for waiter, reason, detail in lost:
            if isinstance(waiter, DeliveryWaiter):
                _resolve(waiter.future, DeliveryError(reason, detail))
        for entry in settled:
            self._settled.remove(entry)
            _resolve(entry[1], None)
        self._hooks.tell(notices, now)


def _resolve(future: asyncio.Future[Result] | None, result: Result) -> None:
    """Set a result, unless its owner is gone."""
    if future is not None and not future.done():
        with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            future.set_result(result)
