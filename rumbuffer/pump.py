"""The pump: one task that asks the core what to do, and does it.

It owns the sends and the news: whatever the core decided for someone who waits (room, a delivery, a
flush) is handed over from here, on the loop, outside the lock. Producers only wake it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar, get_args

from rumbuffer.core.batcher import Batcher
from rumbuffer.core.flights import Flight
from rumbuffer.core.news import Fate, Waiter
from rumbuffer.core.outcomes import Failed, Outcome
from rumbuffer.core.room import RoomWaiter
from rumbuffer.core.sealed import SealedBatch
from rumbuffer.guard import Guard
from rumbuffer.hooks import Hooks
from rumbuffer.log import log
from rumbuffer.sender import Sender

__all__ = ["DeliveryWaiter", "Pump", "resolve"]


Result = TypeVar("Result")

_AFTER_A_DEFECT = 1.0
"""Seconds before the pump goes on after an error of our own."""

_SENDER_START_AGAIN = 5.0
_CLEAN_UP = 2.0
"""Seconds that a cancelled send, or the sender's closing, may take before the close goes on without."""


class DeliveryWaiter(Waiter):
    """A `deliver()` that waits: its future gets what became of the event."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[Fate]) -> None:
        self.future: asyncio.Future[Fate] = future


class Pump:
    """Runs the core on one event loop, through one sender."""

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
        self.failed: bool = False
        """Whether a defect of ours, or a sender that does not start, keeps it from sending."""
        self.rooms: dict[RoomWaiter, asyncio.Future[bool]] = {}
        self._batcher = batcher
        self._sender = sender
        self._guard = guard
        self._hooks = hooks
        self._clock = clock
        self._max_in_flight = max_in_flight
        self._loop = asyncio.get_running_loop()
        # The start's: an event of some request may wake the pump, and its context is none of the pump's.
        self._context = contextvars.copy_context()
        self._awake = asyncio.Event()
        self._stopped = False
        self._going_on_since: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._sender_closed = False
        self._sends: dict[asyncio.Task[Outcome], Flight] = {}
        self._settled: list[tuple[int, asyncio.Future[None]]] = []

    def wake(self) -> None:
        """Look at the core again, soon; on the loop. Somebody may have cancelled the task meanwhile."""
        self._awake.set()
        if not self._stopped and (self._task is None or self._task.done()):
            self._task = self._loop.create_task(self._run(), name="rumbuffer pump", context=self._context)

    async def settled(self, mark: int) -> None:
        """Wait until every batch that was opened before the mark has its final outcome."""
        self.wake()
        with self._guard:
            if self._batcher.settled_before(mark):
                return
        entry = (mark, self._loop.create_future())
        self._settled.append(entry)
        try:
            await entry[1]
        finally:
            if entry in self._settled:
                self._settled.remove(entry)

    async def stop(self) -> None:
        """Stop at once: nothing is sent any more, and what has no answer is counted as lost."""
        self._stopped = True
        for send in [send for send in self._sends if send.done()]:
            self._sent(send)
        with self._guard:
            self._batcher.abandon()
        self.tell(everything=True)
        self._hooks.log_the_rest()
        tasks = [task for task in (self._task, self._starting, *self._sends) if task is not None]
        await self._end(tasks, "a send")
        closing = self._loop.create_task(self._close_sender(), name="rumbuffer sender close")
        await asyncio.wait((closing,), timeout=_CLEAN_UP)
        if closing.done() and not closing.cancelled() and (error := closing.exception()) is not None:
            log(logging.ERROR, "rumbuffer: the sender could not be closed (%s)", type(error).__name__)
        await self._end([closing], "the sender's closing")

    async def _close_sender(self) -> None:
        if not self._sender_closed:  # a close that was cancelled half-way is done again
            self._sender_closed = True
            await self._sender.aclose()

    async def _end(self, tasks: Iterable[asyncio.Future[Any]], what: str) -> None:
        """Cancel tasks, and wait for them as long as is decent."""
        left = [task for task in tasks if not task.done()]
        for task in left:
            task.cancel()
        if left:
            _, stuck = await asyncio.wait(left, timeout=_CLEAN_UP)
            if stuck:
                log(logging.ERROR, "rumbuffer: %s ignored its cancellation at the close", what)

    # The task -----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        self._going_on_since = None  # an earlier task may have been cancelled half-way, long ago
        try:
            while True:
                self._awake.clear()
                try:
                    until = self._turn()
                except Exception:  # noqa: BLE001 - logged with its traceback
                    self._defect()
                    self._going_on_since = None
                    until = self._clock() + _AFTER_A_DEFECT
                await self._sleep(until)
        finally:
            # Cancelled by somebody else, or with the loop: let the next event find out which.
            self._batcher.store.news.wake = not self._stopped

    async def _start_sender(self) -> None:
        said = False
        while True:
            try:
                await self._sender.start(max_in_flight=self._max_in_flight)
            except Exception as error:  # noqa: BLE001 - logged with its traceback, the first time
                self.failed = True
                text = "rumbuffer: the sender did not start (%s); it is tried again every %d s"
                if not said:
                    log(logging.ERROR, text, type(error).__name__, _SENDER_START_AGAIN, exc_info=True)
                said = True
                await asyncio.sleep(_SENDER_START_AGAIN)
            else:
                self.failed = False
                self._awake.set()
                return

    def _turn(self) -> float:
        """Begin a send if there may be one, tell what is to be told; return when to look again."""
        if self._starting is None or self._starting.cancelled():
            self._starting = self._loop.create_task(self._start_sender(), name="rumbuffer sender start")
        until = float("inf")
        # One time for all that may go out at once: on a busy machine it may be stopped half-way, and the
        # pacer would take that for a pause in which nobody had anything to send.
        now = self._clock() if self._going_on_since is None else self._going_on_since
        self._going_on_since = None
        if self._starting.done():
            with self._guard:
                action = self._batcher.next_action(now)
            if isinstance(action, Flight):
                send = self._loop.create_task(self._send(action.batch), name="rumbuffer send")
                self._sends[send] = action
                send.add_done_callback(self._sent)
                # Others have their turn on the loop before the next send, and so before the next answer.
                # Each takes half a millisecond of aiobotocore's time: 32 at once stopped the loop for 15 ms.
                until = self._going_on_since = now
            else:
                until = action
        else:
            with self._guard:
                until = self._batcher.tend(now)
        self.tell()
        return min(until, self._hooks.due())

    async def _sleep(self, until: float) -> None:
        timer = None
        if until != float("inf"):
            timer = self._loop.call_later(max(0.0, until - self._clock()), self._awake.set)
        try:
            await self._awake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _send(self, batch: SealedBatch) -> Outcome:
        try:
            answer: object = await self._sender.send(batch)
        except Exception as error:  # noqa: BLE001 - logged with its traceback
            log(logging.ERROR, "rumbuffer: the sender raised instead of answering", exc_info=True)
            return Failed(type(error).__name__)
        if isinstance(answer, get_args(Outcome)):
            outcome: Outcome = answer
            return outcome
        return Failed(f"the sender returned {type(answer).__name__}, which is no outcome")

    def _sent(self, send: asyncio.Task[Outcome]) -> None:
        """A send is done: in a callback, because a task that is cancelled early never runs at all."""
        flight = self._sends.pop(send, None)
        if flight is None:
            return
        outcome = Failed("cancelled") if send.cancelled() else send.result()
        news = self._batcher.store.news
        # Where somebody cancelled the pump, the loop may be ending: only the next event may revive it.
        revive = self._task is not None and not self._task.done()
        try:
            with self._guard:
                self._batcher.settle(flight, outcome, self._clock())
                news.wake = news.wake and revive
            news.wake = news.wake or not revive
        except Exception:  # noqa: BLE001 - logged with its traceback
            self._defect()
        self._awake.set()

    def _defect(self) -> None:
        self.failed = True
        log(logging.ERROR, "rumbuffer: a defect; please report it", exc_info=True)

    # News ---------------------------------------------------------------------------------------------

    def tell(self, *, everything: bool = False) -> None:
        """Hand over what the core decided for those who wait, and the notices."""
        now = self._clock()
        with self._guard:
            news = self._batcher.store.news.take(float("inf") if everything else now)
            settled = [entry for entry in self._settled if self._batcher.settled_before(entry[0])]
        for room in news.granted:
            resolve(self.rooms.get(room), result=True)
        for waiter, fate in news.fates:
            if isinstance(waiter, DeliveryWaiter):
                resolve(waiter.future, fate)
        for _, future in settled:
            resolve(future, None)
        self._hooks.tell(news.notices, now)


def resolve(future: asyncio.Future[Result] | None, result: Result) -> None:
    """Set a result, unless its owner is gone."""
    if future is not None and not future.done():
        with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            future.set_result(result)
