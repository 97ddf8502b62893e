# ruff: noqa: SLF001 - these are the buffer's own calls, kept in a file of their own
"""Whole calls of PutRumEvents on a buffer: checked, re-batched with their session, admitted.

A call is checked before anything of it is admitted, so nothing of an invalid call gets in. Its events are
neither sampled nor shed: whoever makes such a call has decided what is to be sent. The checks are botocore's,
which is imported and compiled at the first call, in a thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from rumbuffer.aws import AwsSender
from rumbuffer.core.admission import RefusalReason
from rumbuffer.core.gates import Obstacle
from rumbuffer.core.news import Fate, Waiter
from rumbuffer.core.outcomes import HoldScope
from rumbuffer.errors import BufferClosed, InvalidEvent
from rumbuffer.hooks import Hook
from rumbuffer.pump import DeliveryWaiter

if TYPE_CHECKING:
    from rumbuffer.buffer import RumBuffer
    from rumbuffer.compat.checks import Call, CallChecks
    from rumbuffer.events import AppMonitor

__all__ = [
    "Offered",
    "admit_call",
    "check_call",
    "hold_of",
    "is_probed",
    "listening",
    "load_checks",
    "watch_call",
    "where",
]

Offered: TypeAlias = deque[tuple[bytes, Waiter | None]]
"""Encoded events of a call that are not admitted yet, each with who waits for its fate."""


@cache
def _load() -> CallChecks:
    from rumbuffer.compat.checks import call_checks

    return call_checks()


async def load_checks() -> CallChecks:
    """Return the checks; at the first time they are made in a thread, for it takes 0.1 s and more."""
    return _load() if _load.cache_info().currsize else await asyncio.to_thread(_load)


async def check_call(buffer: RumBuffer, request: Mapping[str, Any]) -> Call:
    """Check a call; a refusal counts for each of its events, and once where it has none.

    Raises `ParamValidationError`, `ValidationException` and `BufferClosed`.
    """
    buffer._own_loop("put_rum_events")
    checks = await load_checks()
    from botocore.exceptions import ClientError, ParamValidationError

    intake = buffer._intake
    if intake.state != "running":
        _count(buffer, RefusalReason.NOT_RUNNING, request)
        raise BufferClosed(intake.state)
    try:
        return _fitting(buffer, checks.check(request, intake._encoder))
    except (ClientError, ParamValidationError):
        _count(buffer, RefusalReason.INVALID_EVENT, request)
        raise


def _count(buffer: RumBuffer, reason: RefusalReason, request: Mapping[str, Any]) -> None:
    events = request.get("RumEvents")
    buffer._intake.count_refusal(reason, len(events) or 1 if isinstance(events, (list, tuple)) else 1)


def _fitting(buffer: RumBuffer, call: Call) -> Call:
    """Return the call; raise for an event that fits into no request, or not into the buffer."""
    from rumbuffer.compat.checks import param_error

    if not call.events:
        return call
    largest = max(call.events, key=len)
    try:
        buffer._intake.check_fit(largest, call.session, call.app_monitor)
    except InvalidEvent as error:
        if error.field == "app_monitor":
            raise _too_many_app_monitors(error) from error
        raise param_error(f"RumEvents[{call.events.index(largest)}]", error) from None
    return call


async def admit_call(buffer: RumBuffer, call: Call) -> None:
    """Admit the events, and wait for room where there is none. Raises `BufferClosed`.

    A call that fits into one batch is admitted as a whole; a larger one piece by piece.
    """
    await _admit(buffer, call, deque((event, None) for event in call.events))


async def watch_call(buffer: RumBuffer, call: Call, fates: list[asyncio.Future[Fate]], left: Offered) -> None:
    """Admit the events as `admit_call` does, and make them due.

    Puts a future for each into `fates`; `left` holds those that are not admitted yet.
    """
    loop = asyncio.get_running_loop()
    fates += [loop.create_future() for _ in call.events]
    left += ((event, DeliveryWaiter(fate)) for event, fate in zip(call.events, fates, strict=True))
    await _admit(buffer, call, left)


async def _admit(buffer: RumBuffer, call: Call, left: Offered) -> None:
    if not left:
        return
    arguments = (left, call.session, call.app_monitor)
    try:
        await buffer._admit_when_room(buffer._intake.admit_together, arguments, left)
    except InvalidEvent as error:  # while it waited for room, others took the last app monitor's place
        raise _too_many_app_monitors(error) from error


def _too_many_app_monitors(error: InvalidEvent) -> Exception:
    """Return the error for a call with which nothing is wrong, but that its time has not come."""
    from rumbuffer.compat.exceptions import client_error

    return client_error("ThrottlingException", f"{error.rule}; try again later")


@contextmanager
def listening(buffer: RumBuffer, hook: Hook) -> Iterator[None]:
    """Let a waiting call hear what the hooks hear."""
    listeners = buffer._hooks.listeners
    listeners.add(hook)
    try:
        yield
    finally:
        listeners.discard(hook)


def where(buffer: RumBuffer) -> tuple[str | None, str | None]:
    """Return region and endpoint as botocore found them; as they were given where there is no client yet."""
    sender, region_name, endpoint_url, _ = buffer._sender_settings
    if buffer._pump is not None:
        sender = buffer._pump._sender
    if not isinstance(sender, AwsSender):
        return region_name, endpoint_url
    if sender._link is None:
        return sender._region_name, sender._endpoint_url
    meta = sender._link.client.meta
    return meta.region_name, meta.endpoint_url


def hold_of(buffer: RumBuffer, app_monitor: AppMonitor) -> tuple[str, str] | None:
    """Return code and message of the hold that events of this app monitor wait behind, if one does."""
    for hold in buffer.stats().holds:
        if hold.scope is HoldScope.SENDER:
            return hold.code, hold.message
    lane = buffer._store.lanes.get(app_monitor)
    if lane is None or not lane.gate.is_shut or lane.gate.obstacle is Obstacle.OUTAGE:
        return None
    return lane.gate.code, lane.gate.message


def is_probed(buffer: RumBuffer, app_monitor: AppMonitor) -> bool:
    """Whether something is there with which a hold will be tried again."""
    lane = buffer._store.lanes.get(app_monitor)
    if lane is not None and lane.gate.is_shut:
        return not lane.is_empty
    stats = buffer.stats()
    return stats.pending + stats.in_flight > 0
