"""One question of `benchmarks.scale`, measured in this process; prints a JSON line.

python -m benchmarks.scale_cases record 1000000
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.cases import Figures, on_one_core
from benchmarks.record_cases import DETAILS, MONITOR, TYPE, NullSender
from rumbuffer import AppMonitor, Event, Limits, Pacing, RumBuffer, Session

ROUND = 2000
ROUNDS = 40
"""Calls a round, and rounds: a thousand sessions get 80 events each, and no batch is full."""

PLENTY = 16 << 30
OPEN = 200_000
EVENTS_EACH = 10
DONE_ROUNDS = 12
DONE_EARLY = 4
DONE_OPEN = 4000
UNPACED = 1e6


def buffer_of(*, quota: float = UNPACED, **more: Any) -> RumBuffer:
    return RumBuffer(
        AppMonitor(MONITOR),
        pacing=Pacing(quota=quota, use=1.0, burst=10, share=None),
        limits=Limits(max_pending_bytes=PLENTY, linger=3600.0),
        **more,
    )


def id_of(number: int, group: int = 0) -> str:
    return f"{number:08x}-aaaa-4aaa-8aaa-{group:012x}"


def sessions(count: int, group: int = 0) -> Iterator[Session]:
    """Sessions that nobody holds but their batches."""
    return (Session(id_of(number, group)) for number in range(count))


def resident() -> int:
    """Return the memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def pauses() -> Iterator[list[float]]:
    """Collect how long the garbage collector stops the program, in ms."""
    took: list[float] = []
    started = 0.0

    def look(phase: str, _: dict[str, int]) -> None:
        nonlocal started
        if phase == "start":
            started = time.perf_counter()
        else:
            took.append(1000.0 * (time.perf_counter() - started))

    gc.callbacks.append(look)
    try:
        yield took
    finally:
        gc.callbacks.remove(look)


def fault_in(size: int = 400) -> list[bytes]:
    """Have the machine give the process the memory of all that the rounds will make; return what keeps it.

    A page that a process touches for the first time costs a trap, and on a virtual machine, the more memory
    is in use, the more often the host's help: 4 µs to 14 µs were seen, a quarter of what `record()` costs.
    A process that has run for an hour has its memory.
    """
    blocks = [bytes(size) for _ in range(ROUND * ROUNDS)]
    return blocks[::500]  # one or more of each arena, which stays


def in_rounds(
    live: Sequence[Any], call: Callable[[Any], object], again: Callable[[Any], Any] | None = None
) -> Figures:
    """Call with the live ones in random order, or with what is made of them `again`; return µs a call."""
    source = random.Random(20261122)
    costs = []
    kept = fault_in()
    for _ in range(ROUNDS):
        order = source.choices(live, k=ROUND)
        if again is not None:
            order = [again(one) for one in order]
        started = time.thread_time()
        for one in order:
            call(one)
        costs.append((time.thread_time() - started) / ROUND * 1e6)
    del kept
    return {"median": statistics.median(costs), "lowest": min(costs)}


def floor(count: int) -> Figures:
    """Look a list up in a dict of so many keys, and append to it."""
    keys = [id_of(number) for number in range(count)]
    lists: dict[str, list[bytes]] = {key: [b"", b""] for key in keys}

    def append(key: str) -> None:
        lists[key].append(b"%d" % len(key))

    return in_rounds(keys, append)


async def record(count: int, again: Callable[[Session], Session] | None = None) -> Figures:
    """Call `record()` with so many live sessions, with the objects that are kept, or with equal ones."""
    buffer = buffer_of(sender=NullSender())
    await buffer.start()
    live = list(sessions(count))

    def one(session: Session) -> None:
        buffer.record(TYPE, DETAILS, session=session)

    for _ in range(2):  # each is in the middle of its visit
        for session in live:
            one(session)
    return in_rounds(live, one, again)


def anew(session: Session) -> Session:
    """Make the session as a web server does, from what the request tells."""
    return Session(session.id, session.user_id)


async def memory(kind: str) -> Figures:
    """Compare the process's memory with what is charged: for a batch of one event, and for further events."""
    buffer = buffer_of(sender=NullSender())
    await buffer.start()
    for session in sessions(1000, group=1):  # what grows once
        buffer.record(TYPE, DETAILS, session=session)
    gc.collect()
    before, charged_before = resident(), buffer.stats().pending_bytes
    for number in range(OPEN):
        user = {"user_id": id_of(number, 2)} if kind == "user" else {}
        buffer.record(TYPE, DETAILS, session=Session(id_of(number), **user))
    opened, charged_opened = resident(), buffer.stats().pending_bytes
    live = [batch.session for batch in buffer._store.home.open.values()]  # noqa: SLF001
    gc.collect()
    held = resident()
    for _ in range(EVENTS_EACH):
        for session in live:
            buffer.record(TYPE, DETAILS, session=session)
    filled, charged_filled = resident(), buffer.stats().pending_bytes
    events = len(live) * EVENTS_EACH
    return {
        "batch": (opened - before) / OPEN,
        "batch charge": (charged_opened - charged_before) / OPEN,
        "event": (filled - held) / events,
        "event charge": (charged_filled - charged_opened) / events,
    }


async def done() -> Figures:
    """Open, deliver and open others, many times over; return the memory that is left, in MB."""
    buffer = buffer_of(sender=NullSender())
    await buffer.start()
    left, highest = [], 0.0
    for group in range(DONE_ROUNDS):
        for session in sessions(DONE_OPEN, group):
            buffer.record(TYPE, DETAILS, session=session)
        highest = max(highest, resident() / 1e6)
        await buffer.flush()
        gc.collect()
        left.append(resident() / 1e6)
    return {"highest": highest, "early": left[DONE_EARLY - 1], "last": left[-1]}


async def collector(count: int) -> Figures:
    """The longest stops by the garbage collector: on the way to so many live sessions, and by a whole one."""
    buffer = buffer_of(sender=NullSender())
    await buffer.start()
    gc.collect()
    with pauses() as took:
        for session in sessions(count):
            buffer.record(TYPE, DETAILS, session=session)
    way = max(took, default=0.0)
    with pauses() as took:
        gc.collect()
    whole = max(took)
    gc.freeze()
    with pauses() as took:
        gc.collect()
    return {"way": way, "whole": whole, "frozen": max(took)}


async def drain(quota: float) -> Figures:
    """How long another task of the loop waits for its turn while 100,000 events are sent over a socket."""
    os.environ.update(AWS_ACCESS_KEY_ID="AKIDEXAMPLE", AWS_SECRET_ACCESS_KEY="example")  # noqa: S106
    sink = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.scale_sink",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert sink.stdout is not None
    url = f"http://127.0.0.1:{int(await sink.stdout.readline())}"
    buffer = buffer_of(quota=quota, region_name="eu-west-1", endpoint_url=url)
    async with buffer:
        await buffer.deliver(Event(TYPE, DETAILS), session=Session.new())  # the client is made
        live = list(sessions(1000))
        for _ in range(100):
            for session in live:
                buffer.record(TYPE, DETAILS, session=session)
        gc.collect()
        lags: list[float] = []
        busy: list[float] = []
        watch = asyncio.create_task(_watch(lags, busy))
        started = time.monotonic()
        await buffer.flush()
        seconds = time.monotonic() - started
        watch.cancel()
        delivered = buffer.stats().delivered - 1
    assert sink.stdin is not None
    sink.stdin.close()
    await sink.wait()
    return {
        "delivered": delivered,
        "seconds": seconds,
        **{f"busy {share}": _quantile(busy, share) for share in (0.5, 0.99, 0.999)},
        **{f"late {share}": _quantile(lags, share) for share in (0.5, 0.99, 0.999)},
    }


async def _watch(lags: list[float], busy: list[float]) -> None:
    """Sleep for a millisecond at a time; note by how much it was longer, and what was computed meanwhile."""
    clock = asyncio.get_running_loop().time
    while True:
        began, computed = clock(), time.thread_time()
        await asyncio.sleep(0.001)
        busy.append(1000.0 * (time.thread_time() - computed))
        lags.append(1000.0 * (clock() - began - 0.001))


def _quantile(values: list[float], share: float) -> float:
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale_cases", description=__doc__)
    parser.add_argument("case", choices=("floor", "record", "anew", "memory", "done", "collector", "drain"))
    parser.add_argument("argument", nargs="?", default="")
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")  # the process ends with the buffer as it is
    if options.case != "drain":
        on_one_core()
    figures: Figures
    match options.case:
        case "floor":
            figures = floor(int(options.argument))
        case "record":
            figures = asyncio.run(record(int(options.argument)))
        case "anew":
            figures = asyncio.run(record(int(options.argument), anew))
        case "memory":
            figures = asyncio.run(memory(options.argument))
        case "done":
            figures = asyncio.run(done())
        case "collector":
            figures = asyncio.run(collector(int(options.argument)))
        case _:
            figures = asyncio.run(drain(float(options.argument)))
    print(json.dumps(figures), flush=True)
    os._exit(0)  # without a close: a million batches would be dropped one by one


if __name__ == "__main__":
    main()
