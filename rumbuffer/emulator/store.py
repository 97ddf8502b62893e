"""Where accepted batches are kept: in memory, or in a SQLite file.

A store knows every batch by app monitor and ``BatchId``, so that it can tell a
repeat, and whether the repeat's body is the same. Whether the real service does
so is not documented (RUM.md, 2026-11-22); the emulator notes repeats and keeps
the first.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from rumbuffer.emulator.records import ReceivedBatch


class Kept(Enum):
    """What a store made of a batch."""

    NEW = "new"
    REPEAT = "repeat"
    CONFLICT = "conflict"


class Store(Protocol):
    """Keeps batches. ``blocking`` means: `put` and `batches` are for another thread than the loop's."""

    blocking: bool

    def put(self, batch: ReceivedBatch) -> Kept:
        """Keep a batch, or note the repeat; the store gives it its number."""

    def batches(self, after: int = 0, limit: int | None = None) -> list[ReceivedBatch]:
        """Kept batches with a number above ``after``, in arrival order."""

    def latest(self, count: int) -> list[ReceivedBatch]:
        """The last ``count`` batches, in arrival order."""

    def clear(self) -> None:
        """Forget everything."""

    def close(self) -> None:
        """Free what the store holds open."""


@dataclass(slots=True)
class _Known:
    number: int
    body_hash: int


class MemoryStore:
    """Keeps the last ``keep`` batches (``None``: all) and knows repeats of more.

    The ids of the last ``remember`` batches are known, at about 250 bytes each,
    so a repeat is told long after its batch went; the default is over an hour of
    the default quota.
    """

    blocking = False

    def __init__(self, keep: int | None = None, remember: int = 200_000) -> None:
        if keep is not None and keep < 0:
            raise ValueError(f"keep must be None or a number of batches from 0, not {keep!r}")
        self._kept: deque[ReceivedBatch] = deque(maxlen=keep)
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._remember = max(remember, keep or 0) if keep is not None else None
        self._count = 0

    def put(self, batch: ReceivedBatch) -> Kept:
        """Keep it, or note the repeat on the first of its id."""
        key = (batch.app_monitor_id, batch.batch_id)
        known = self._known.get(key)
        if known is not None:
            return self._note_repeat(known, batch)
        self._count += 1
        self._known[key] = _Known(self._count, hash(batch.body))
        if self._remember is not None and len(self._known) > self._remember:
            self._known.popitem(last=False)
        self._kept.append(replace(batch, number=self._count))
        return Kept.NEW

    def _note_repeat(self, known: _Known, batch: ReceivedBatch) -> Kept:
        conflict = known.body_hash != hash(batch.body)
        place = known.number - 1 - (self._count - len(self._kept))
        if place >= 0:
            first = self._kept[place]
            self._kept[place] = replace(
                first, repeats=first.repeats + 1, conflicts=first.conflicts + conflict
            )
        return Kept.CONFLICT if conflict else Kept.REPEAT

    def batches(self, after: int = 0, limit: int | None = None) -> list[ReceivedBatch]:
        """Kept batches with a number above ``after``."""
        first = max(0, after - (self._count - len(self._kept)))
        kept = list(self._kept)
        return kept[first:] if limit is None else kept[first : first + limit]

    def latest(self, count: int) -> list[ReceivedBatch]:
        """The last ``count`` batches."""
        return list(self._kept)[-count:]

    def clear(self) -> None:
        """Forget batches and ids."""
        self._kept.clear()
        self._known.clear()
        self._count = 0

    def close(self) -> None:
        """Nothing is held open."""


_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
    number INTEGER PRIMARY KEY,
    app_monitor_id TEXT NOT NULL,
    batch_id TEXT NOT NULL,
    body BLOB NOT NULL,
    received_at REAL NOT NULL,
    event_count INTEGER NOT NULL,
    repeats INTEGER NOT NULL DEFAULT 0,
    conflicts INTEGER NOT NULL DEFAULT 0,
    dropped TEXT NOT NULL DEFAULT '',
    UNIQUE (app_monitor_id, batch_id)
);
-- For people with the sqlite3 shell: one row an event.
CREATE VIEW IF NOT EXISTS events AS
SELECT b.number AS batch, b.app_monitor_id,
       json_extract(CAST(b.body AS TEXT), '$.UserDetails.sessionId') AS session_id,
       json_extract(e.value, '$.id') AS id,
       json_extract(e.value, '$.timestamp') AS timestamp,
       json_extract(e.value, '$.type') AS type,
       json_extract(e.value, '$.details') AS details,
       json_extract(e.value, '$.metadata') AS metadata
FROM batches AS b, json_each(CAST(b.body AS TEXT), '$.RumEvents') AS e
WHERE ',' || b.dropped || ',' NOT LIKE '%,' || e.key || ',%';
"""
_COLUMNS = "number, app_monitor_id, batch_id, body, received_at, event_count, repeats, conflicts, dropped"


class SqliteStore:
    """Keeps every batch in a SQLite file, which may be one of an earlier run.

    A batch is in the file before the service answers. The write-ahead log makes
    that a write without a wait for the disk: a killed emulator loses nothing, a
    power cut may lose the last batches. Safe to use from any thread.
    """

    blocking = True

    def __init__(self, path: str | Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(_SCHEMA)

    def put(self, batch: ReceivedBatch) -> Kept:
        """Keep it, or note the repeat on the first of its id."""
        key = (batch.app_monitor_id, batch.batch_id)
        dropped = ",".join(map(str, batch.dropped))
        row = (*key, batch.body, batch.received_at, batch.event_count, dropped)
        with self._lock:
            inserted = self._connection.execute(
                "INSERT INTO batches "
                "(app_monitor_id, batch_id, body, received_at, event_count, dropped) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                row,
            )
            if inserted.rowcount:
                return Kept.NEW
            (conflict,) = self._connection.execute(
                "UPDATE batches SET repeats = repeats + 1, conflicts = conflicts + (body != ?) "
                "WHERE app_monitor_id = ? AND batch_id = ? RETURNING body != ?",
                (batch.body, *key, batch.body),
            ).fetchone()
        return Kept.CONFLICT if conflict else Kept.REPEAT

    def batches(self, after: int = 0, limit: int | None = None) -> list[ReceivedBatch]:
        """Kept batches with a number above ``after``."""
        return self._select(
            "WHERE number > ? ORDER BY number LIMIT ?", (after, -1 if limit is None else limit)
        )

    def latest(self, count: int) -> list[ReceivedBatch]:
        """The last ``count`` batches."""
        return self._select("ORDER BY number DESC LIMIT ?", (count,))[::-1]

    def _select(self, clause: str, parameters: tuple[int, ...]) -> list[ReceivedBatch]:
        query = f"SELECT {_COLUMNS} FROM batches {clause}"  # noqa: S608 - constants only
        with self._lock:
            rows = self._connection.execute(query, parameters).fetchall()
        return [_batch(row) for row in rows]

    def clear(self) -> None:
        """Empty the file."""
        with self._lock:
            self._connection.execute("DELETE FROM batches")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()


def _batch(row: tuple[Any, ...]) -> ReceivedBatch:
    positions = tuple(int(position) for position in row[-1].split(",") if position)
    return replace(ReceivedBatch(*row[:-1]), dropped=positions)
