"""Cancellation at each await of a call, as `tests/shell/test_cancellation.py` does it for other calls."""

from __future__ import annotations

import gc
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError

import rumbuffer.buffer
import rumbuffer.calls
import rumbuffer.compat.stand_in
from rumbuffer import RumBuffer, calls, compat
from rumbuffer.core.news import Waiter
from tests.compat.helpers import call, event
from tests.fakes import SimulatedLoop, run_on
from tests.shell.test_cancellation import SENDERS, WAYS, Way, awaits_of, fill, one_life, reached

calls._load()  # in simulated time a thread takes for ever


def numbered(*numbers: int, padding: int = 0) -> Any:
    """A call of events that tell their numbers."""
    text = '{{"n":{},"padding":"{}"}}'
    return call(RumEvents=[event(number, details=text.format(number, "x" * padding)) for number in numbers])


# What is cancelled: each gets a running buffer of 4096 bytes.


async def put_at_once(buffer: RumBuffer) -> None:
    """A call that finds room."""
    await buffer.put_rum_events(**numbered(1, 2))


async def put_when_there_is_room(buffer: RumBuffer) -> None:
    """A call that waits."""
    await fill(buffer)
    await buffer.put_rum_events(**numbered(1, 2, padding=600))


async def put_piece_by_piece(buffer: RumBuffer) -> None:
    """A call that waits several times."""
    await buffer.put_rum_events(**numbered(*range(20), padding=200))


async def deliver(buffer: RumBuffer) -> None:
    """A client's call."""
    with suppress(ClientError):
        async with compat.client(buffer) as client:
            await client.put_rum_events(**numbered(1, 2))


async def deliver_when_there_is_room(buffer: RumBuffer) -> None:
    """A client's call that waits for room."""
    await fill(buffer)
    with suppress(ClientError):
        await compat.client(buffer).put_rum_events(**numbered(1, 2, padding=600))


async def deliver_until_the_time_is_over(buffer: RumBuffer) -> None:
    """A client's call that has little time."""
    await fill(buffer)
    with suppress(ClientError):
        await compat.client(buffer, timeout=0.15).put_rum_events(**numbered(1, padding=600))


OPERATIONS = [
    *(put_at_once, put_when_there_is_room, put_piece_by_piece),
    *(deliver, deliver_when_there_is_room, deliver_until_the_time_is_over),
]


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_cancelled_at_each_await(
    operation: Callable[[RumBuffer], Coroutine[Any, Any, None]], way: Way, sender: str
) -> None:
    """Wherever a call is cancelled, the buffer goes on, nobody waits for ever, every event is counted."""
    buffers: list[RumBuffer] = []

    async def remembering(buffer: RumBuffer) -> None:
        buffers.append(buffer)
        await operation(buffer)

    for at in range(1, 60):
        if not run_on(SimulatedLoop, one_life(remembering, at, way, SENDERS[sender]())):
            break
    else:
        pytest.fail("it suspends for ever")
    if operation is not put_at_once:
        assert at > 1
    for buffer in buffers:
        assert buffer._hooks.listeners == set()
        assert watched(buffer) == {}
    gc.collect()


def watched(buffer: RumBuffer) -> dict[bytes, list[Waiter]]:
    """Who still waits for the fate of an event."""
    return buffer._store.news._watched


def test_each_await_was_struck() -> None:
    """No await of a call was left out above: the list is read off the source."""
    if not reached:
        pytest.skip("the tests above did not run")
    awaits = {
        **awaits_of(rumbuffer.buffer, {"put_rum_events", "_admit_when_room"}),
        **awaits_of(rumbuffer.calls, {"check_call", "admit_call", "watch_call", "_admit"}),
        **awaits_of(rumbuffer.compat.stand_in, {"put_rum_events", "__aenter__", "__aexit__"}),
    }
    # The checks are loaded, or see `test_the_first_call_does_not_stall_the_loop`; a close gives no way.
    never_suspend = ("load_checks()", "check_call(", "self.close()")
    missed = {
        text
        for place, text in awaits.items()
        if place not in reached and not any(never in text for never in never_suspend)
    }
    assert not missed
    assert len(awaits) >= 9
