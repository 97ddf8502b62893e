"""Doubles for the tests of the shell: a sender that answers as told, and a loop that needs no waiting."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ParamSpec, TypeVar

import orjson

from rumbuffer import (
    AppMonitor,
    BufferStats,
    Delivered,
    Event,
    Limits,
    Outcome,
    Pacing,
    RumBuffer,
    SealedBatch,
    Session,
)

MONITOR = AppMonitor("8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11", name="shop", version="1.4.2")
OTHER_MONITOR = AppMonitor("11111111-2222-3333-4444-555555555555")

P = ParamSpec("P")
Result = TypeVar("Result")

# Events, sessions, buffers ---------------------------------------------------------------------------


def uuid_of(number: int) -> str:
    """A UUID for each number."""
    return f"00000000-0000-4000-8000-{number:012x}"


def session_of(number: int = 1, **more: Any) -> Session:
    """A session for each number."""
    return Session(uuid_of(number), **more)


def event_of(number: int, *, padding: int = 0) -> Event:
    """An event that tells its number; its id tells it too. `padding` makes it so many bytes larger."""
    return Event("com.example.test", {"n": number, "padding": "x" * padding}, id=uuid_of(number))


def pacing_of(**settings: Any) -> Pacing:
    """A pace that this buffer keeps for itself, for the host's other processes live in real time."""
    return Pacing(share=None, **settings)


QUICK = pacing_of(quota=10_000.0, use=1.0, burst=1_000)
"""A pace that never makes a test wait."""


def buffer_of(sender: object, **arguments: Any) -> RumBuffer:
    """A buffer over `sender`, quick unless `arguments` say otherwise."""
    arguments = {"pacing": QUICK, "limits": Limits(linger=0.01), **arguments}
    return RumBuffer(MONITOR, sender=sender, **arguments)  # type: ignore[arg-type]


def assert_laws(stats: BufferStats, *, closed: bool = False) -> None:
    """Every offered event is in exactly one counter; once closed, in a final one."""
    assert stats.offered == stats.accepted + stats.sampled_out + stats.refused
    assert stats.accepted == (
        stats.delivered + stats.dropped + stats.dead_lettered + stats.pending + stats.in_flight
    ) + (stats.spooled)
    assert stats.refused == sum(stats.refused_by_reason.values())
    assert stats.dropped == sum(stats.dropped_by_reason.values())
    assert stats.dead_lettered == sum(stats.dead_lettered_by_reason.values())
    assert 0 <= stats.pending_bytes <= stats.max_pending_bytes
    if closed:
        assert (stats.pending, stats.in_flight, stats.pending_bytes, stats.waiters) == (0, 0, 0, 0)


# The sender ------------------------------------------------------------------------------------------

Answer = Outcome | BaseException | Callable[[SealedBatch], Any]


_DELIVERED = Delivered()


class FakeSender:
    """Answers each request with the next of `script`, and with `then` when that is used up.

    An answer is an outcome, an exception to raise, or a function that is given the batch. Each answer
    takes `seconds`, and none is given while `pause()` is in force. `requests` are the batches as they
    were sent, `arrived` those of them that were answered `Delivered`.
    """

    def __init__(self, *script: Answer, then: Answer = _DELIVERED, seconds: float = 0.0) -> None:
        self.script = deque(script)
        self.then = then
        self.seconds = seconds
        self.requests: list[SealedBatch] = []
        self.arrived: list[SealedBatch] = []
        self.starts = 0
        self.closes = 0
        self.busy = 0
        self.most_busy = 0
        self._may_answer = asyncio.Event()
        self._may_answer.set()
        self._bodies: dict[str, bytes] = {}

    async def start(self, *, max_in_flight: int) -> None:
        """Count it."""
        self.starts += 1

    async def send(self, batch: SealedBatch) -> Outcome:
        """Answer as told."""
        self.requests.append(batch)
        body = batch.body()
        assert self._bodies.setdefault(batch.id, body) == body, "a sealed batch changed"
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        try:
            if self.seconds:
                await asyncio.sleep(self.seconds)
            await self._may_answer.wait()
            answer = self.script.popleft() if self.script else self.then
            if isinstance(answer, BaseException):
                raise answer
            outcome: Outcome = answer(batch) if callable(answer) else answer
            if isinstance(outcome, Delivered):
                self.arrived.append(batch)
            return outcome
        finally:
            self.busy -= 1

    async def aclose(self) -> None:
        """Count it."""
        self.closes += 1

    def pause(self) -> None:
        """Answer nothing from now on."""
        self._may_answer.clear()

    def resume(self) -> None:
        """Answer what came meanwhile, and go on."""
        self._may_answer.set()

    def numbers(self) -> list[int]:
        """The numbers of the events that arrived, in order."""
        return numbers_of(self.arrived)


def events_of(batches: Iterable[SealedBatch]) -> list[dict[str, Any]]:
    """The batches' events, parsed."""
    return [orjson.loads(bytes(event)) for batch in batches for event in batch.events]


def numbers_of(batches: Iterable[SealedBatch]) -> list[int]:
    """The numbers of the batches' events."""
    return [orjson.loads(event["details"])["n"] for event in events_of(batches)]


# The loop --------------------------------------------------------------------------------------------


class DeadlockError(AssertionError):
    """Nothing is ready, nothing is scheduled, and no thread came to help."""


_GRACE_FOR_THREADS = 5.0
"""Seconds of real time in which a thread may wake a loop that has nothing else to wait for."""


_START = 1_000.0
_LATEST = _START + 100_000.0


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            ready = super().select(_GRACE_FOR_THREADS)
            if not ready:
                raise DeadlockError("everything waits, and nothing will ever happen")
            return ready
        ready = super().select(0)
        if not ready:
            self._loop.now += timeout
            if self._loop.now > _LATEST:
                raise DeadlockError("more than a day went by, and something still goes on")
        return ready


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Its time is virtual, and jumps ahead to the next timer when nothing is ready.

    A thousand seconds take as long as what happens in them. Where a real loop would hang for ever,
    this one raises `DeadlockError`.
    """

    def __init__(self) -> None:
        self.now = _START
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """The loop's own time, seconds."""
        return self.now

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the threads in real time: Python 3.12 gives them five minutes, which pass at once here."""
        await super().shutdown_default_executor()


def run_on(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], main: Coroutine[Any, Any, Result]
) -> Result:
    """Run a coroutine on a loop of its own, and fail if it leaves a task or an unheard error behind."""
    complaints: list[str] = []

    async def and_nothing_is_left() -> Result:
        result = await main
        for _ in range(3):
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks are left: {left}"
        return result

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: complaints.append(str(context)))
        result = runner.run(and_nothing_is_left())
    assert not complaints, complaints
    return result


def simulated(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make an ordinary test of an asynchronous one, run in simulated time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        run_on(SimulatedLoop, test(*args, **kwargs))

    return run
