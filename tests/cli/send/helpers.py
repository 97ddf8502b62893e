"""Files to send, and a run of them in this process through a sender that answers as told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson

from rumbuffer import Limits, SealedBatch
from rumbuffer.cli.send.file import Wishes
from rumbuffer.cli.send.journal import Bookmark
from rumbuffer.cli.send.run import Ended, Moment, Run
from tests.fakes import MONITOR, QUICK, FakeSender, events_of, uuid_of


def line_of(number: int, *, sessions: int = 5, **more: Any) -> bytes:
    """A line without an id and a time, that tells its number."""
    session = {"id": uuid_of(number % sessions)}
    return orjson.dumps({"type": "a.b", "details": {"n": number}, "session": session, **more})


def write(path: Path, lines: Iterable[bytes], *, end: bytes = b"\n") -> Path:
    """Write a file of lines."""
    path.write_bytes(b"\n".join(lines) + end)
    return path


def run_of(
    paths: Sequence[Path | None],
    sender: FakeSender,
    *,
    show: Callable[[Moment], None] = lambda _: None,
    give_up: float = 0.0,
    arguments: dict[str, Any] | None = None,
    **wishes: Any,
) -> Run:
    """A run that needs no settings. Its batches wait for the end of the files, or for a full one."""
    return Run(
        paths,
        Wishes(**{"app_monitor": MONITOR, **wishes}),
        {"app_monitor": MONITOR, "pacing": QUICK, "limits": Limits(linger=60.0), **(arguments or {})},
        sender,
        show=show,
        give_up=give_up,
    )


async def send(paths: Path | Sequence[Path], sender: FakeSender, **more: Any) -> Ended:
    """Send to the end."""
    run = run_of([paths] if isinstance(paths, Path) else paths, sender, **more)
    run.begin()
    async with asyncio.timeout(30):
        return await run.run()


def came(batches: Iterable[SealedBatch]) -> Counter[bytes]:
    """How often each event arrived, by its bytes."""
    return Counter(event for batch in batches for event in batch.events)


def numbers(batches: Iterable[SealedBatch]) -> list[int]:
    """The numbers of the lines whose events arrived, sorted, as often as they did."""
    return sorted(orjson.loads(event["details"])["n"] for event in events_of(batches))


def rejects(path: Path) -> list[dict[str, Any]]:
    """What a file's reject file says."""
    file = path.with_name(path.name + ".rumbuffer-rejects")
    return [orjson.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []


def journal(path: Path) -> Bookmark:
    """What a file's journal says."""
    return Bookmark.load(path.with_name(path.name + ".rumbuffer-journal").read_bytes())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what other tasks do."""
    while not condition():  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)
