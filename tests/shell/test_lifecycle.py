"""Starting, being left open, and the end of the process."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import subprocess
import sys
import textwrap
import warnings
from typing import Any

import pytest

from rumbuffer import (
    AppMonitor,
    BufferClosed,
    InvalidSetting,
    Limits,
    Overflow,
    Pacing,
    RetryPolicy,
    RumBuffer,
)
from tests.fakes import MONITOR, FakeSender, assert_laws, buffer_of, event_of, session_of, simulated

HEAD = """
import asyncio, gc, json, os, signal, sys, threading, time
from rumbuffer import *
from tests.fakes import FakeSender, buffer_of, event_of, session_of

# A shell's background jobs are started with this signal ignored, and so are their children.
signal.signal(signal.SIGINT, signal.default_int_handler)

def report(buffer, sender):
    stats = buffer.stats()
    print(json.dumps({
        "accepted": stats.accepted, "delivered": stats.delivered, "dropped": stats.dropped_by_reason,
        "pending": stats.pending, "in_flight": stats.in_flight, "closes": sender.closes,
    }), flush=True)
"""


def python(script: str, *, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    command = [sys.executable, *flags, "-c", HEAD + textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


@simulated
async def test_starting_waits_for_nothing() -> None:
    """`start()` returns without giving way, and events are taken from then on, whatever the sender does."""

    class Never(FakeSender):
        async def start(self, *, max_in_flight: int) -> None:
            await asyncio.Event().wait()

    buffer = buffer_of(Never())
    with pytest.raises(StopIteration):
        buffer.start().send(None)
    assert buffer.record("a", {}, session=session_of())
    assert "running: 1 pending" in repr(buffer)
    assert (await buffer.aclose(timeout=1)).dropped_by_reason == {"closed": 1}


@simulated
async def test_a_buffer_is_started_once() -> None:
    """A running buffer cannot be started again, nor a closed one."""
    buffer = buffer_of(FakeSender())
    await buffer.start()
    with pytest.raises(RuntimeError, match="running already"):
        await buffer.start()
    await buffer.aclose()
    with pytest.raises(BufferClosed, match="is closed"):
        await buffer.start()
    with pytest.raises(BufferClosed):
        async with buffer:
            pytest.fail("was started")


@simulated
async def test_the_sender_hears_of_the_limit() -> None:
    """The sender is started once, with as many requests as may be in flight, and never gets more."""
    seen: list[int] = []

    class Asking(FakeSender):
        async def start(self, *, max_in_flight: int) -> None:
            seen.append(max_in_flight)

    sender = Asking(seconds=1.0)
    async with buffer_of(sender, limits=Limits(linger=0.0, max_in_flight=3)) as buffer:
        for number in range(20):
            buffer.put_nowait(event_of(number), session=session_of(number))
        await buffer.flush()
    assert seen == [3]
    assert sender.most_busy == 3


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"app_monitor": "8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11"}, "app_monitor"),
        ({"limits": {"linger": 1}}, "limits"),
        ({"pacing": 50}, "pacing"),
        ({"retry": None}, "retry"),
        ({"overflow": "drop_oldest"}, "overflow"),
        ({"sample_rate": 1.5}, "sample_rate"),
        ({"close_timeout": -1}, "close_timeout"),
        ({"region_name": "eu-west-1"}, "sender"),
        ({"endpoint_url": "http://localhost"}, "sender"),
        ({"sender": None, "region_name": 7}, "region_name"),
        ({"sender": None, "endpoint_url": b"http://localhost"}, "endpoint_url"),
        ({"sender": object()}, "sender"),
        ({"hooks": print}, "hooks"),
        ({"hooks": [print, 7]}, "hooks"),
    ],
)
def test_wrong_settings(arguments: dict[str, Any], field: str) -> None:
    """A wrong argument raises `InvalidSetting` naming it, before anything is started."""
    with pytest.raises(InvalidSetting) as raised:
        RumBuffer(**{"app_monitor": MONITOR, "sender": FakeSender(), **arguments})
    assert raised.value.field == field
    gc.collect()  # the half-made buffer has nothing to say


@simulated
async def test_from_env() -> None:
    """`from_env()` makes a working buffer as the variables say, and arguments win over them."""
    sender = FakeSender()
    environment = {
        "RUMBUFFER_APP_MONITOR_ID": MONITOR.id,
        "RUMBUFFER_APP_MONITOR_NAME": "shop",
        "RUMBUFFER_LINGER": "0.01",
        "RUMBUFFER_MAX_PENDING_BYTES": "5000",
        "RUMBUFFER_OVERFLOW": "drop_newest",
        "RUMBUFFER_SAMPLE_RATE": "0",
        "RUMBUFFER_CLOSE_TIMEOUT": "3",
        "PATH": "/bin",
    }
    async with RumBuffer.from_env(environment, sender=sender, sample_rate=1.0) as buffer:
        while buffer.put_nowait(event_of(1), session=session_of()):
            pass
        stats = buffer.stats()
        assert stats.max_pending_bytes == 5000
        assert stats.refused_by_reason == {"buffer_full": 1}
        await buffer.flush()
        assert sender.arrived[0].app_monitor == AppMonitor(MONITOR.id, name="shop")
        sender.pause()
        buffer.put_nowait(event_of(2), session=session_of())
        assert (await buffer.aclose()).seconds == pytest.approx(3, abs=0.1)


def test_from_the_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping `from_env()` reads the process's environment, and says what is missing."""
    with pytest.raises(InvalidSetting, match="RUMBUFFER_APP_MONITOR_ID"):
        RumBuffer.from_env(sender=FakeSender())
    monkeypatch.setenv("RUMBUFFER_APP_MONITOR_ID", MONITOR.id)
    assert RumBuffer.from_env(sender=FakeSender()).stats().health == "ok"
    assert RumBuffer.from_env({}, app_monitor=MONITOR, sender=FakeSender()).stats().offered == 0


def test_all_arguments_may_be_given() -> None:
    """Every argument of DESIGN.md is taken by its name."""
    buffer = RumBuffer(
        MONITOR,
        region_name="eu-west-1",
        endpoint_url="http://localhost:1",
        limits=Limits(),
        pacing=Pacing(),
        retry=RetryPolicy(),
        overflow=Overflow.RAISE,
        sample_rate=0.5,
        hooks=[lambda _: None],
        close_timeout=1.0,
    )
    assert repr(buffer) == "<RumBuffer new: 0 pending, 0 in flight>"


def test_a_buffer_left_open_warns() -> None:
    """A started buffer that is thrown away gives a `ResourceWarning`; an unstarted or closed one does not."""

    async def leave_open() -> None:
        buffer = buffer_of(FakeSender())
        await buffer.start()

    async def close() -> None:
        async with buffer_of(FakeSender()):
            buffer_of(FakeSender())

    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(close())
        gc.collect()
        assert not caught
        asyncio.run(leave_open())
        gc.collect()
    (warning,) = caught
    assert warning.category is ResourceWarning
    assert "unclosed <RumBuffer running" in str(warning.message)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("forked", [False, True])
def test_a_kept_session_does_not_keep_a_buffer_that_was_left_open(forked: bool) -> None:
    """What the buffer held goes with it, although the session that a caller keeps knew its batch."""
    kept = session_of(1)

    async def leave_open() -> None:
        buffer = buffer_of(FakeSender())
        await buffer.start()
        for _ in range(3):
            assert buffer.record("a", {}, session=kept)
        assert kept._batch is not None
        if forked:
            buffer._after_fork()  # as in a child

    asyncio.run(leave_open())
    gc.collect()
    assert kept._batch is None


def test_a_program_that_ends_without_a_close() -> None:
    """`asyncio.run` ends without hanging, with a `ResourceWarning` and without a broken task."""
    done = python(
        """
        async def main():
            sender = FakeSender()
            sender.pause()
            buffer = buffer_of(sender)
            await buffer.start()
            for number in range(10):
                buffer.record("a", {}, session=session_of(number))
            await asyncio.sleep(0.1)
            print(buffer.stats().in_flight)

        asyncio.run(main())
        """,
        flags=("-W", "always::ResourceWarning"),
    )
    assert (done.returncode, done.stdout) == (0, "10\n")
    assert "ResourceWarning: unclosed <RumBuffer" in done.stderr
    assert "destroyed" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_buffer_in_a_global_that_is_never_closed() -> None:
    """A module's buffer that is never closed does not keep the process from ending."""
    done = python(
        """
        sender = FakeSender()
        buffer = buffer_of(sender)

        async def main():
            await buffer.start()
            await buffer.deliver(event_of(1), session=session_of())

        asyncio.run(main())
        for number in range(5):
            buffer.record("a", {}, session=session_of(number))
        report(buffer, sender)
        """
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["delivered"] == 1
    assert "destroyed" not in done.stderr


def interrupted(script: str) -> tuple[int, dict[str, Any], str]:
    """Run a script until it prints "ready", interrupt it, and return how it ended."""
    command = [sys.executable, "-c", HEAD + textwrap.dedent(script)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=40)
    finally:
        process.kill()
        process.wait()
    return process.returncode, json.loads(output), errors


@pytest.mark.parametrize("answers", [True, False])
def test_ctrl_c(answers: bool) -> None:
    """An interrupt ends the program with everything delivered or counted, and the sender closed."""
    status, report, errors = interrupted(
        f"""
        sender = FakeSender()
        if not {answers}:
            sender.pause()
        buffer = buffer_of(sender, limits=Limits(linger=60.0), close_timeout=0.2)

        async def main():
            async with buffer:
                for number in range(10):
                    buffer.record("a", {{}}, session=session_of(number))
                print("ready", flush=True)
                await asyncio.sleep(60)

        try:
            asyncio.run(main())
        finally:
            report(buffer, sender)
        """
    )
    assert status in (-signal.SIGINT, 130)
    assert report == {
        "accepted": 10,
        "delivered": 10 if answers else 0,
        "dropped": {} if answers else {"outcome_unknown": 10},
        "pending": 0,
        "in_flight": 0,
        "closes": 1,
    }
    assert errors.count("Traceback") <= 2  # the cancellation, and the KeyboardInterrupt made of it
    assert "destroyed" not in errors


def test_ctrl_c_twice() -> None:
    """A second interrupt cuts the draining short: the program ends at once, with everything counted."""
    status, report, errors = interrupted(
        """
        sender = FakeSender()
        sender.pause()
        buffer = buffer_of(sender, limits=Limits(linger=60.0), close_timeout=3600.0)

        async def again():
            while "closing" not in repr(buffer):
                await asyncio.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)

        async def main():
            task = asyncio.ensure_future(again())
            async with buffer:
                for number in range(10):
                    buffer.record("a", {}, session=session_of(number))
                print("ready", flush=True)
                await asyncio.sleep(60)

        try:
            asyncio.run(main())
        finally:
            report(buffer, sender)
        """
    )
    assert status in (-signal.SIGINT, 130)
    assert (report["pending"], report["in_flight"], report["closes"]) == (0, 0, 1)
    assert sum(report["dropped"].values()) == 10
    assert "destroyed" not in errors


@simulated
async def test_somebody_cancels_every_task() -> None:
    """A buffer whose tasks were cancelled by somebody goes on with the next event, flush or close."""
    sender = FakeSender(seconds=0.5)
    async with buffer_of(sender) as buffer:
        for number in range(0, 30, 3):
            buffer.put_nowait(event_of(number), session=session_of(number))
            await asyncio.sleep(0.2)  # in flight now
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0.1)
            buffer.put_nowait(event_of(number + 1), session=session_of(number))
            await asyncio.sleep(0.2)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await buffer.put(event_of(number + 2), session=session_of(number))
            await asyncio.sleep(60)
            assert buffer.stats().delivered == number + 3
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        buffer.put_nowait(event_of(30), session=session_of())
        assert (await buffer.flush()).complete
    assert sorted(sender.numbers()) == list(range(31))
    assert_laws(buffer.stats(), closed=True)


@simulated
async def test_an_event_alone_revives_the_pump() -> None:
    """After somebody cancelled every task, an event that nobody waits for still goes out."""
    sender = FakeSender()
    async with buffer_of(sender) as buffer:
        await buffer.deliver(event_of(1), session=session_of())
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.1)
        buffer.record("a", {}, session=session_of())
        await asyncio.sleep(10)
        assert buffer.stats().delivered == 2
