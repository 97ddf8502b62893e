"""`RumBuffer`: what an application holds. Producers on any thread, awaitables on one loop."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sized
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Any, Never, Self, TypeVar, Unpack

from rumbuffer.aws import AwsSender
from rumbuffer.calls import admit_call, check_call
from rumbuffer.core.admission import ACCEPTED, Admission, RefusalReason
from rumbuffer.core.batcher import Batcher
from rumbuffer.core.counters import BufferStats
from rumbuffer.core.encoding import EventEncoder, shape_of
from rumbuffer.core.news import Lost, Waiter
from rumbuffer.core.room import RoomWaiter
from rumbuffer.core.store import Store
from rumbuffer.errors import BufferClosed, BufferFull, DeliveryError, InvalidEvent, InvalidSetting, WrongLoop
from rumbuffer.events import AppMonitor, Event, Session
from rumbuffer.hooks import Hook, Hooks
from rumbuffer.hostshare import pacer_for
from rumbuffer.ids import new_id
from rumbuffer.intake import Intake, check_event, no_session
from rumbuffer.log import log
from rumbuffer.pump import DeliveryWaiter, Pump, resolve
from rumbuffer.reports import CloseReport, Delivery, FlushReport
from rumbuffer.sender import Sender
from rumbuffer.settings import (
    Compression,
    Limits,
    Overflow,
    Pacing,
    RetryPolicy,
    check_compression,
    check_rate,
    check_seconds,
    from_environment,
    named_by_variable,
)
from rumbuffer.shapes import PutRumEventsRequest

__all__ = ["RumBuffer"]


_FOR_EVER = 1 << 62
_ONE = (None,)

Setting = TypeVar("Setting")


class RumBuffer:
    """Collects RUM events per session and delivers them in batches, under the account's quota.

    Use it as an async context manager, or `start()` and `aclose()` it. `record()` and `put_nowait()`
    may be called from any thread; the awaitables belong to the event loop that started the buffer.

    `app_monitor` receives the events that name no other. `sender` is an `AwsSender` for `region_name`
    and `endpoint_url` unless another is given; ``compression="gzip"`` has it compress the requests.
    `overflow` says what happens at the memory limit; `sample_rate` keeps that share of the sessions (whole
    ones, and the same in every process); `hooks` hear each notice (see `rumbuffer.core.notices`);
    `close_timeout` is how long `async with` drains at its end, in seconds. Raises `InvalidSetting`.
    """

    def __init__(
        self,
        app_monitor: AppMonitor,
        *,
        sender: Sender | None = None,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        compression: Compression | None = None,
        limits: Limits = Limits(),
        pacing: Pacing = Pacing(),
        retry: RetryPolicy = RetryPolicy(),
        overflow: Overflow = Overflow.DROP_OLDEST,
        sample_rate: float = 1.0,
        hooks: Iterable[Hook] = (),
        close_timeout: float = 10.0,
    ) -> None:
        self._app_monitor = _checked("app_monitor", app_monitor, AppMonitor)
        self._limits = _checked("limits", limits, Limits)
        self._overflow = _checked("overflow", overflow, Overflow)
        _checked("pacing", pacing, Pacing)
        check_rate("sample_rate", sample_rate)
        check_seconds("close_timeout", close_timeout)
        check_compression(compression)
        if sender is not None and any(own is not None for own in (region_name, endpoint_url, compression)):
            raise InvalidSetting(
                "sender",
                "brings its own region, endpoint and compression; give it those, or leave it out",
                "both",
            )
        for name, value in (("region_name", region_name), ("endpoint_url", endpoint_url)):
            if not (value is None or isinstance(value, str)):
                raise InvalidSetting(name, "must be a string", shape_of(value))
        if not (sender is None or callable(getattr(sender, "send", None))):
            raise InvalidSetting("sender", "must be a rumbuffer.Sender", shape_of(sender))
        hooks = _checked_hooks(hooks)
        self._sender_settings = (sender, region_name, endpoint_url, compression)
        self._close_timeout = close_timeout
        self._hooks = Hooks(hooks)
        self._store = Store(
            app_monitor,
            max_batch_events=limits.max_batch_events,
            max_batch_bytes=limits.max_batch_bytes,
            linger=limits.linger,
            max_pending_bytes=limits.max_pending_bytes,
            evicts=overflow in (Overflow.DROP_OLDEST, Overflow.SHED_SESSIONS),
            keep_dropped=bool(hooks),
            sample_rate=sample_rate,
        )
        self._batcher = Batcher(
            self._store,
            pacer=pacer_for(pacing),
            retry=_checked("retry", retry, RetryPolicy),
            max_in_flight=limits.max_in_flight,
            random=random.random,
            new_id=new_id,
            sheds=overflow is Overflow.SHED_SESSIONS,
        )
        self._intake = Intake(
            self._store,
            EventEncoder(limits.max_event_bytes, refuse_oversize=limits.oversize == "refuse"),
            self._wake_pump,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pump: Pump | None = None
        self._closing: asyncio.Task[CloseReport] | None = None
        self._cut_short: asyncio.Event | None = None
        self._last_stats: BufferStats = self._batcher.stats(0.0)
        _all_buffers.add(self)

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None, **arguments: Any) -> Self:
        """Make a buffer as the `RUMBUFFER_*` environment variables say; `arguments` win over them.

        `RUMBUFFER_APP_MONITOR_ID` must be set, unless `app_monitor` is given. The README lists the
        variables. Raises `InvalidSetting` naming the variable.
        """
        settings = from_environment(environment, arguments)
        try:
            return cls(**settings)
        except InvalidSetting as error:
            raise error if error.field in arguments else named_by_variable(error) from None

    # Lifecycle ----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to take and send events, on the running event loop. Returns without any network traffic.

        A buffer is started once. Raises `BufferClosed` if it was started in a parent process or is
        closed already, and `RuntimeError` if it is running.
        """
        if self._intake.state == "running":
            raise RuntimeError("the buffer is running already")
        if self._intake.state != "new":
            raise BufferClosed(self._intake.state)
        loop = asyncio.get_running_loop()
        # A loop that keeps its own time (a simulated one) is believed; all others tell monotonic time,
        # and the plain function costs half as much.
        own_time = type(loop).time
        self._intake.clock = time.monotonic if own_time is asyncio.BaseEventLoop.time else loop.time
        self._loop = loop
        self._pump = Pump(
            self._batcher,
            self._make_sender(),
            self._intake.guard,
            self._hooks,
            self._intake.clock,
            max_in_flight=self._limits.max_in_flight,
        )
        self._cut_short = asyncio.Event()
        self._intake.state = "running"
        self._pump.wake()

    def _make_sender(self) -> Sender:
        sender, region_name, endpoint_url, compression = self._sender_settings
        if sender is not None:
            return sender
        return AwsSender(region_name=region_name, endpoint_url=endpoint_url, compression=compression)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self, timeout: float | None = None) -> CloseReport:
        """Stop admitting, deliver what is there, free everything.

        Drains for up to `timeout` seconds (`close_timeout` when left out; 0 is allowed), also through
        an outage or a hold, which are tried once more at once. What is left then is counted as dropped
        and logged as a warning. May be called again, which cuts a close that is under way to the
        shorter time; cancelling it cuts the draining short, and everything is freed all the same.
        """
        if timeout is not None:
            check_seconds("timeout", timeout)
        if self._closing is None and self._intake.state != "running":
            if self._intake.state == "new":
                self._intake.state = "closed"
            return self._close_report(self.stats(), 0.0)
        if self._loop is not None and self._loop.is_closed():
            before = self.stats()
            self._loop_is_gone()
            return self._close_report(before, 0.0)
        loop = self._own_loop("aclose")
        assert self._cut_short is not None
        timer = loop.call_later(self._close_timeout if timeout is None else timeout, self._cut_short.set)
        if self._closing is None or self._closing.cancelled():  # by somebody who cancels all tasks
            self._closing = loop.create_task(self._close(), name="rumbuffer close")
        try:
            return await asyncio.shield(self._closing)
        except asyncio.CancelledError:
            self._cut_short.set()
            await asyncio.wait((self._closing,))
            raise
        finally:
            timer.cancel()

    async def _close(self) -> CloseReport:
        assert self._pump is not None
        assert self._cut_short is not None
        started = self._intake.clock()
        before = self.stats()
        with self._intake.guard:
            self._intake.stop("closing")
            self._batcher.begin_close(started)
        for room in self._pump.rooms.values():
            resolve(room, result=False)
        self._pump.wake()
        drained = asyncio.ensure_future(self._pump.settled(_FOR_EVER))
        cut = asyncio.ensure_future(self._cut_short.wait())
        # Cancelled when the loop is being shut down: what cannot be delivered then is counted and logged.
        with suppress(asyncio.CancelledError):
            await asyncio.wait((drained, cut), return_when=asyncio.FIRST_COMPLETED)
        drained.cancel()
        cut.cancel()
        await self._pump.stop()
        self._intake.state = "closed"
        return self._close_report(before, self._intake.clock() - started)

    def _close_report(self, before: BufferStats, seconds: float) -> CloseReport:
        after = self.stats()
        return CloseReport(
            delivered=after.delivered - before.delivered,
            dropped=after.dropped - before.dropped,
            dead_lettered=after.dead_lettered - before.dead_lettered,
            spooled=after.spooled - before.spooled,
            dropped_by_reason=_increase(before.dropped_by_reason, after.dropped_by_reason),
            seconds=seconds,
        )

    # Producers ----------------------------------------------------------------------------------------

    def record(
        self,
        type: str,
        details: Mapping[str, Any] | str,
        *,
        session: Session | None = None,
        metadata: Mapping[str, Any] | str | None = None,
        id: str | None = None,
        timestamp: float | datetime | None = None,
        app_monitor: AppMonitor | None = None,
    ) -> Admission:
        """Offer an event; never waits, never raises, from any thread.

        The arguments are an `Event`'s. `session` may be left out where a current one is set. What is
        wrong (an invalid event, no session, no room, a buffer that is not running) comes back in the
        `Admission`, is counted, and is logged once per reason.
        """
        try:
            return self._intake.offer(type, details, metadata, id, timestamp, session, app_monitor)
        except InvalidEvent as error:
            return self._intake.refuse(RefusalReason.INVALID_EVENT, error)
        except Exception:  # noqa: BLE001 - a defect of ours must not become a failed request of somebody's
            self._intake.say_once("defect", "rumbuffer: a defect; please report it", exc_info=True)
            return self._intake.refuse(RefusalReason.INTERNAL_ERROR)

    def put_nowait(
        self, event: Event, *, session: Session | None = None, app_monitor: AppMonitor | None = None
    ) -> Admission:
        """Offer an event; never waits, from any thread.

        Raises `InvalidEvent`, `BufferFull` (under `Overflow.RAISE`; the other policies answer with the
        `Admission`), and `BufferClosed`.
        """
        try:
            check_event(event)
            admission = self._intake.offer(
                event.type, event.details, event.metadata, event.id, event.timestamp, session, app_monitor
            )
        except InvalidEvent:
            self._intake.count_refusal(RefusalReason.INVALID_EVENT)
            raise
        if admission.reason is RefusalReason.BUFFER_FULL and self._overflow is Overflow.RAISE:
            raise BufferFull(self._store.room.capacity - self._store.room.free, self._store.room.capacity)
        self._raise_for(admission)
        return admission

    def _raise_for(self, admission: Admission) -> None:
        if admission.reason is RefusalReason.NO_SESSION:
            raise no_session()
        if admission.reason in (RefusalReason.NOT_RUNNING, RefusalReason.FORKED):
            raise BufferClosed(self._intake.state)

    async def put(
        self, event: Event, *, session: Session | None = None, app_monitor: AppMonitor | None = None
    ) -> Admission:
        """Offer an event, and wait for room where there is none, first come, first served.

        Ignores the overflow policy: nothing is evicted for it. Cancelled while it waits, the event is
        neither admitted nor counted. Raises `InvalidEvent`, and `BufferClosed`, also while it waits.
        """
        self._own_loop("put")
        in_session = self._session_for(event, session)
        if isinstance(in_session, Admission):
            return in_session
        await self._admit_encoded(self._encode(event, event.id), in_session, app_monitor, None)
        return ACCEPTED

    async def deliver(
        self, event: Event, *, session: Session | None = None, app_monitor: AppMonitor | None = None
    ) -> Delivery:
        """Offer an event as `put()` does, make its batch due, and wait until it arrived.

        Cancelling it does not withdraw the event once that is admitted. Returns at once where the
        session is not sampled (`Delivery.sampled_out`). Raises `InvalidEvent`, `BufferClosed`, and
        `DeliveryError` with the reason when the event is dropped or dead-lettered.
        """
        loop = self._own_loop("deliver")
        in_session = self._session_for(event, session)
        event_id = new_id() if event.id is None else event.id
        if isinstance(in_session, Admission):
            return Delivery(event_id, None, sampled_out=True)
        waiter = DeliveryWaiter(loop.create_future())
        await self._admit_encoded(self._encode(event, event_id), in_session, app_monitor, waiter)
        fate = await waiter.future
        if isinstance(fate, Lost):
            raise DeliveryError(fate.reason, fate.detail)
        return Delivery(event_id, fate.batch_id)

    def _session_for(self, event: Event, session: Session | None) -> Session | Admission:
        """Return the event's session; an `Admission` only where that is not sampled."""
        try:
            check_event(event)
            in_session = self._intake.session_for(session)
        except InvalidEvent:
            self._intake.count_refusal(RefusalReason.INVALID_EVENT)
            raise
        if isinstance(in_session, Admission):
            self._raise_for(in_session)
        return in_session

    def _encode(self, event: Event, event_id: str | None) -> bytes:
        try:
            return self._intake.encode(event.type, event.details, event.metadata, event_id, event.timestamp)
        except InvalidEvent:
            self._intake.count_refusal(RefusalReason.INVALID_EVENT)
            raise

    async def put_rum_events(self, **request: Unpack[PutRumEventsRequest]) -> dict[str, Never]:
        """Take a call of boto3's client, under its names; returns ``{}`` once its events are admitted.

        Waits for room as `put()` does. The events go in batches of their session, so `BatchId` is checked
        and not used; none of them is sampled out or shed. Nothing of an invalid call is admitted. A call that
        fits into one batch is admitted whole, also when it is cancelled; a larger one piece by piece.

        Raises botocore's `ParamValidationError` as boto3 does, and also where `details`, `metadata` or
        `SessionMetadata` holds no JSON object or an event is too large, which the service would drop without
        a word; `rumbuffer.compat.exceptions.ValidationException` for what else the service would refuse by
        its model; `ThrottlingException` when the buffer knows too many app monitors; `BufferClosed`.
        """
        await admit_call(self, await check_call(self, request))
        return {}

    async def _admit_encoded(
        self, encoded: bytes, session: Session, app_monitor: AppMonitor | None, waiter: Waiter | None
    ) -> None:
        arguments = (encoded, session, app_monitor, waiter)
        await self._admit_when_room(self._intake.admit_waiting, arguments, _ONE)

    async def _admit_when_room(
        self, admit: Callable[..., RoomWaiter | None], arguments: tuple[object, ...], left: Sized
    ) -> None:
        """Call `admit` until it wants no more room; a refusal counts for all that are `left`."""
        intake, pump, loop = self._intake, self._pump, self._loop
        assert pump is not None
        assert loop is not None
        pump.wake()
        room_waiter: RoomWaiter | None = None
        while True:
            try:
                room_waiter = admit(room_waiter, *arguments)
            except InvalidEvent:
                if room_waiter is not None:
                    intake.withdraw(room_waiter)
                intake.count_refusal(RefusalReason.INVALID_EVENT, len(left))
                raise
            if room_waiter is None:
                return
            room = pump.rooms[room_waiter] = loop.create_future()
            try:
                granted = await room
            except BaseException:
                intake.withdraw(room_waiter)
                raise
            finally:
                del pump.rooms[room_waiter]
            if not granted or intake.state != "running":
                intake.withdraw(room_waiter)
                intake.count_refusal(RefusalReason.NOT_RUNNING, len(left))
                raise BufferClosed(intake.state)

    # Flush and stats ----------------------------------------------------------------------------------

    async def flush(self, timeout: float | None = None) -> FlushReport:
        """Make everything that is there due, and wait until it has its outcome.

        Obeys pacing and holds. Returns when every event that was admitted before the call is neither
        pending nor in flight, or after `timeout` seconds; later events do not prolong it. Raises
        `BufferClosed`.
        """
        if timeout is not None:
            check_seconds("timeout", timeout)
        self._own_loop("flush")
        if self._intake.state != "running":
            raise BufferClosed(self._intake.state)
        assert self._pump is not None
        started, before = self._intake.clock(), self.stats()
        with self._intake.guard:
            mark = self._batcher.make_due()
        self._pump.wake()
        complete = True
        try:
            async with asyncio.timeout(timeout):
                await self._pump.settled(mark)
        except TimeoutError:
            complete = False
        after = self.stats()
        return FlushReport(
            complete=complete,
            delivered=after.delivered - before.delivered,
            dropped=after.dropped - before.dropped,
            dead_lettered=after.dead_lettered - before.dead_lettered,
            spooled=after.spooled - before.spooled,
            remaining=after.pending + after.in_flight,
            seconds=self._intake.clock() - started,
        )

    @property
    def pressure(self) -> float:
        """How full the buffer is, from 0 to 1, for a host that wants to slow down by itself.

        The share of `max_pending_bytes` that is charged; 1 while a `put()` waits for room. From any thread;
        it takes no lock.
        """
        return self._store.room.pressure

    def stats(self) -> BufferStats:
        """Return a snapshot of the counts; from any thread, in any state."""
        guard = self._intake.guard
        if not guard.enter():
            return self._last_stats  # called from inside a change: what was before it
        try:
            stats = self._batcher.stats(self._intake.clock())
        finally:
            guard.exit()
        if self._pump is not None and self._pump.failed:
            stats = stats.failed()
        self._last_stats = stats
        return stats

    # The loop, the fork, the end ----------------------------------------------------------------------

    def _own_loop(self, call: str) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            raise BufferClosed(self._intake.state)
        if loop is not self._loop:
            raise WrongLoop(call)
        return loop

    def _wake_pump(self) -> None:
        """Let the pump look again. A producer may be on any thread, or in a signal handler.

        `call_soon_threadsafe` also from the loop's own thread: it is the one call that wakes a loop
        which a signal handler interrupted on its way to sleep, and it happens once in many events.
        """
        self._store.news.wake = False
        loop, pump = self._loop, self._pump
        if loop is not None and pump is not None:
            try:
                loop.call_soon_threadsafe(pump.wake)
            except RuntimeError:
                self._loop_is_gone()

    def _loop_is_gone(self) -> None:
        """The loop was closed and the buffer was not: nothing will ever be sent again."""
        pump, self._pump, self._loop = self._pump, None, None
        with self._intake.guard:
            self._intake.stop("closed")
            self._batcher.abandon()
        log(logging.WARNING, "rumbuffer: the event loop ended, and nobody had called aclose()")
        if pump is not None:
            pump.tell(everything=True)

    def _after_fork(self) -> None:
        """In a forked child: the parent owns what is in the buffer, and its loop and sockets."""
        self._intake.after_fork()
        self._loop = self._pump = self._closing = None

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        intake = getattr(self, "_intake", None)
        if intake is None:
            return
        try:
            if intake.state in ("running", "closing"):
                _warn(f"unclosed {self!r}", ResourceWarning, source=self)
        finally:
            self._store.forget_sessions()

    def __repr__(self) -> str:
        counters = self._store.counters
        return f"<RumBuffer {self._intake.state}: {counters.pending} pending, {counters.in_flight} in flight>"


def _checked(name: str, value: Setting, kind: type[Setting]) -> Setting:
    if not isinstance(value, kind):
        raise InvalidSetting(name, f"must be a rumbuffer.{kind.__name__}", shape_of(value))
    return value


def _checked_hooks(hooks: object) -> tuple[Hook, ...]:
    if not isinstance(hooks, Iterable):
        raise InvalidSetting("hooks", "must be a sequence of callables", shape_of(hooks))
    checked = tuple(hooks)
    for hook in checked:
        if not callable(hook):
            raise InvalidSetting("hooks", "must be callables that take a notice", shape_of(hook))
    return checked


def _increase(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    grown = {reason: count - before.get(reason, 0) for reason, count in after.items()}
    return {reason: count for reason, count in grown.items() if count}


_all_buffers: weakref.WeakSet[RumBuffer] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for buffer in list(_all_buffers):
        buffer._after_fork()  # noqa: SLF001 - of this module's own class


os.register_at_fork(after_in_child=_after_fork_in_child)
