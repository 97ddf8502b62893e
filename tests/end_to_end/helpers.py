"""A buffer over the real client and a real socket, and the comparison of both sides' books."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import orjson

from rumbuffer import (
    AppMonitor,
    BufferStats,
    DeadLettered,
    DeliveryError,
    Event,
    Limits,
    Notice,
    Pacing,
    RetryPolicy,
    RumBuffer,
    Session,
)
from rumbuffer.emulator import Emulator

MONITOR = AppMonitor("8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11", name="shop", version="1.4.2")
OTHER_MONITOR = AppMonitor("11111111-2222-3333-4444-555555555555")

PACING = Pacing(quota=1000.0, use=1.0, burst=100, share=None)
LIMITS = Limits(linger=0.01)
RETRY = RetryPolicy(base_delay=0.01, max_delay=0.05)
PATIENT = RetryPolicy(base_delay=1000.0, max_delay=1000.0)
"""With it, whatever is retried before the close was retried for another reason than the backoff's end."""

Kind = TypeVar("Kind", bound=Notice)


def uuid_of(number: int) -> str:
    """A UUID for each number."""
    return f"00000000-0000-4000-8000-{number:012x}"


def session_of(number: int = 1) -> Session:
    """A session for each number."""
    return Session(uuid_of(number))


def event_of(number: int, *, size: int = 0) -> Event:
    """An event for each number, which its id tells; `size` bytes larger than it need be."""
    return Event("com.example.test", {"n": number, "padding": "x" * size}, id=uuid_of(number))


class Run:
    """A running buffer, and what its hook heard."""

    def __init__(self, emulator: Emulator, **settings: Any) -> None:
        self.emulator = emulator
        self.notices: list[Notice] = []
        self.accepted: set[str] = set()
        settings = {
            "region_name": emulator.region,
            "endpoint_url": emulator.endpoint_url,
            "pacing": PACING,
            "limits": LIMITS,
            "retry": RETRY,
            **settings,
        }
        self._news = asyncio.Event()
        self.buffer = RumBuffer(MONITOR, hooks=[self._hear], **settings)

    def _hear(self, notice: Notice) -> None:
        self.notices.append(notice)
        self._news.set()

    def add(self, numbers: Iterable[int], *, session: int = 1, size: int = 0, **more: Any) -> None:
        """Offer events that must be accepted."""
        for number in numbers:
            event = event_of(number, size=size)
            assert event.id is not None
            assert self.buffer.put_nowait(event, session=session_of(session), **more)
            self.accepted.add(event.id)

    async def deliver(self, number: int, *, session: int = 1, size: int = 0) -> object:
        """Return what `deliver()` says of an event: the batch's id, or the reason of the error."""
        event = event_of(number, size=size)
        assert event.id is not None
        self.accepted.add(event.id)
        try:
            delivery = await self.buffer.deliver(event, session=session_of(session))
        except DeliveryError as error:
            return error.reason
        assert delivery.event_id == event.id
        return delivery.batch_id

    async def flush(self) -> None:
        """Let everything get its outcome."""
        report = await self.buffer.flush(timeout=20)
        assert report.complete, self.buffer.stats()

    def heard(self, kind: type[Kind]) -> list[Kind]:
        """The notices of one kind."""
        return [notice for notice in self.notices if isinstance(notice, kind)]

    async def until_heard(self, kind: type[Notice]) -> None:
        """Wait for a notice."""
        async with asyncio.timeout(20):
            while not self.heard(kind):
                self._news.clear()
                await self._news.wait()

    def dead(self) -> set[str]:
        """The ids of the events that the hook got as dead letters."""
        events = [event for letter in self.heard(DeadLettered) for event in letter.events]
        ids = [orjson.loads(event)["id"] for event in events]
        assert len(ids) == len(set(ids))
        return set(ids)

    def compare(self) -> BufferStats:
        """Compare the books of a closed buffer with the emulator's, id by id, and check both laws."""
        stats = self.buffer.stats()
        assert_laws(stats)
        assert (stats.pending, stats.in_flight, stats.pending_bytes) == (0, 0, 0)
        assert stats.accepted == len(self.accepted)
        assert stats.dropped == 0
        stored = stored_ids(self.emulator)
        assert stored == self.accepted - self.dead()
        assert stats.delivered == len(stored)
        assert stats.dead_lettered == len(self.dead())
        # Nothing is stored twice but as a repeat, and every request is in both sides' books.
        assert stats.batches_delivered == len(self.emulator.batches)
        return stats


def assert_laws(stats: BufferStats) -> None:
    """Check that every offered event is in exactly one counter."""
    assert stats.offered == stats.accepted + stats.sampled_out + stats.refused
    ended = stats.delivered + stats.dropped + stats.dead_lettered + stats.spooled
    assert stats.accepted == ended + stats.pending + stats.in_flight


def stored_ids(emulator: Emulator) -> set[str]:
    """The ids of the events that the emulator keeps; none is there twice, and every repeat was identical."""
    counts = Counter(event.id for event in emulator.events())
    assert [identifier for identifier, count in counts.items() if count > 1] == []
    assert emulator.requests.conflicting == 0
    assert emulator.requests.silently_dropped == 0
    return set(counts)


@asynccontextmanager
async def running(emulator: Emulator, **settings: Any) -> AsyncIterator[Run]:
    """A buffer at work; at the end it is closed and its books are compared with the emulator's."""
    run = Run(emulator, **settings)
    async with run.buffer:
        yield run
        assert_laws(run.buffer.stats())
    run.compare()
