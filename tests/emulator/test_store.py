from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rumbuffer.emulator import Emulator, ReceivedBatch
from rumbuffer.emulator.store import Kept, MemoryStore, SqliteStore, Store
from tests.emulator.helpers import MONITOR, OTHER_MONITOR, body, event, uuid_of


def batch(number: int, payload: bytes | None = None, monitor: str = MONITOR) -> ReceivedBatch:
    """A batch as the service hands it to a store."""
    return ReceivedBatch(0, monitor, uuid_of(number), payload or body(number), 1795365502.5, event_count=1)


def numbers(batches: list[ReceivedBatch]) -> list[int]:
    """Their places in arrival order."""
    return [kept.number for kept in batches]


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Each kind of store."""
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "rum.sqlite")
    yield made
    made.close()


def test_batches_are_kept_in_arrival_order(store: Store) -> None:
    """Batches come back as they arrived, numbered from 1."""
    for number in (3, 1, 2):
        assert store.put(batch(number)) is Kept.NEW
    kept = store.batches()
    assert numbers(kept) == [1, 2, 3]
    assert [each.batch_id for each in kept] == [uuid_of(3), uuid_of(1), uuid_of(2)]
    assert kept[0] == replace(batch(3), number=1)
    assert kept[0].events[0]._asdict() == event()


def test_batches_are_read_in_pages(store: Store) -> None:
    """A reader asks for what came after the last number it saw."""
    for number in range(10):
        store.put(batch(number))
    assert numbers(store.batches(after=7)) == [8, 9, 10]
    assert numbers(store.batches(after=2, limit=3)) == [3, 4, 5]
    assert numbers(store.batches(after=10)) == []
    assert numbers(store.latest(2)) == [9, 10]


def test_repeats_are_noted_and_not_kept_again(store: Store) -> None:
    """A known id is a repeat, with another body a conflict; the first body stays."""
    store.put(batch(1))
    store.put(batch(2))
    assert [store.put(batch(1)) for _ in range(3)] == [Kept.REPEAT] * 3
    assert store.put(batch(1, body(1, Alias="other"))) is Kept.CONFLICT
    first, second = store.batches()
    assert (first.repeats, first.conflicts, first.body) == (4, 1, body(1))
    assert (second.repeats, second.conflicts) == (0, 0)


def test_ids_are_known_by_app_monitor(store: Store) -> None:
    """The same id of another app monitor is another batch."""
    store.put(batch(1))
    assert store.put(batch(1, monitor=OTHER_MONITOR)) is Kept.NEW


def test_dropped_positions_are_kept(store: Store) -> None:
    """What was dropped silently stays marked."""
    payload = body(1, RumEvents=[event(n) for n in range(12)])
    store.put(replace(batch(1, payload), event_count=12, dropped=(0, 11)))
    (kept,) = store.batches()
    assert [e.id for e in kept.dropped_events] == [uuid_of(0), uuid_of(11)]
    assert len(kept.events) == 10


def test_clear_forgets_batches_and_ids(store: Store) -> None:
    """After it, an id is new again."""
    store.put(batch(1))
    store.clear()
    assert store.batches() == []
    assert store.put(batch(1)) is Kept.NEW


def test_memory_keeps_the_last_batches_and_knows_the_ids_of_more() -> None:
    """A repeat is told though its batch is gone, and lands on the right one while it is there."""
    store = MemoryStore(keep=2)
    for number in range(5):
        store.put(batch(number))
    assert numbers(store.batches()) == [4, 5]
    assert numbers(store.batches(after=4)) == [5]
    assert store.put(batch(0)) is Kept.REPEAT
    assert store.put(batch(1, b"{}")) is Kept.CONFLICT
    assert store.put(batch(3)) is Kept.REPEAT
    assert [each.repeats for each in store.batches()] == [1, 0]


def test_memory_can_keep_nothing() -> None:
    """For load, repeats are told without any batch kept."""
    store = MemoryStore(keep=0)
    assert [store.put(batch(1)), store.put(batch(1))] == [Kept.NEW, Kept.REPEAT]
    assert store.batches() == []


def test_memory_forgets_the_oldest_ids_beyond_its_bound() -> None:
    """The ids known are bounded too."""
    store = MemoryStore(keep=0, remember=3)
    for number in range(4):
        store.put(batch(number))
    assert store.put(batch(0)) is Kept.NEW
    assert store.put(batch(3)) is Kept.REPEAT


def test_a_file_outlives_its_emulator(tmp_path: Path) -> None:
    """Batches and ids of an earlier run are there in the next."""
    first = SqliteStore(tmp_path / "rum.sqlite")
    first.put(batch(1))
    first.close()
    second = SqliteStore(tmp_path / "rum.sqlite")
    assert second.put(batch(1)) is Kept.REPEAT
    second.put(batch(2))
    assert numbers(second.batches()) == [1, 2]
    second.close()


def test_the_file_shows_events_to_the_sqlite_shell(tmp_path: Path) -> None:
    """The view `events` has a row for each kept event, without those dropped."""
    store = SqliteStore(tmp_path / "rum.sqlite")
    payload = body(1, RumEvents=[event(n) for n in range(12)])
    store.put(replace(batch(1, payload), event_count=12, dropped=(1, 2)))
    store.close()
    with sqlite3.connect(tmp_path / "rum.sqlite") as connection:
        rows = connection.execute("SELECT id, type, details FROM events").fetchall()
    connection.close()
    assert [row[0] for row in rows] == [uuid_of(n) for n in (0, 3, 4, 5, 6, 7, 8, 9, 10, 11)]
    assert rows[0][1:] == ("com.example.checkout", '{"total":42}')


def test_a_file_keeps_everything_so_keep_contradicts(tmp_path: Path) -> None:
    """Settings that contradict are refused before anything is opened."""
    with pytest.raises(ValueError, match="keep"):
        Emulator(store=tmp_path / "rum.sqlite", keep=5)
    with pytest.raises(ValueError, match="keep"):
        Emulator(keep=-1)
    assert not (tmp_path / "rum.sqlite").exists()
