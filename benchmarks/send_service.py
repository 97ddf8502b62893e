"""The service of `benchmarks.send`: an emulator in a process of its own that notes every event it is sent.

Nothing is kept but two numbers for each line of the file: one over the whole event as it came (its id, time
and app monitor too), by which a repeat that differs is found, and one over what the line said.
"""

from __future__ import annotations

import zlib
from array import array
from typing import Any

import orjson

from benchmarks.quota_pipes import Parent, child_main
from rumbuffer.emulator import Emulator, Quota, ReceivedBatch
from rumbuffer.emulator.store import Kept, MemoryStore


def content_of(session_id: str, user_id: str, details: str) -> int:
    """One number over what a line says; never 0."""
    return zlib.crc32(f"{session_id}{user_id}{details}".encode()) or 1


class NotingStore(MemoryStore):
    """Keeps no batch."""

    def __init__(self, lines: int) -> None:
        super().__init__(keep=0)
        self.contents = array("L", bytes(8 * lines))
        self.came = array("q", bytes(8 * lines))
        self.events = self.again = self.differing = 0

    def put(self, batch: ReceivedBatch) -> Kept:
        session_id, user_id = str(batch.session_id), str(batch.user_id)
        for event in batch.events:
            number = orjson.loads(event.details)["n"]
            came = hash((event, session_id, user_id, batch.app_monitor_id)) or 1
            self.events += 1
            if self.came[number]:
                self.again += 1
                self.differing += self.came[number] != came
            else:
                self.came[number] = came
                self.contents[number] = content_of(session_id, user_id, event.details)
        return super().put(batch)

    def result(self) -> dict[str, int]:
        """What came, and a checksum over the contents of all lines in their order."""
        return {
            "distinct": sum(1 for came in self.came if came),
            "events": self.events,
            "again": self.again,
            "differing": self.differing,
            "checksum": zlib.crc32(self.contents.tobytes()),
        }


class NotingEmulator(Emulator):
    """An emulator with such a store."""

    def __init__(self, lines: int, quota: Quota) -> None:
        super().__init__(keep=0, quota=quota)
        self.noted = NotingStore(lines)
        self._store = self._handler.store = self.noted


async def work(parent: Parent, settings: dict[str, Any]) -> None:
    """Serve, and say at each word of the parent's what came until then."""
    quota = Quota(rate=settings["quota"], burst=settings["quota"])
    async with NotingEmulator(settings["lines"], quota) as service:
        parent.tell(service.environment())
        for _ in range(settings["questions"]):
            await parent.says_go_on()
            parent.tell(service.noted.result() | {"requests": service.requests.accepted})


if __name__ == "__main__":
    child_main(work)
