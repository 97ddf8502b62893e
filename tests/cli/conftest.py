"""A service to send to, and `rumbuffer put-rum-events` to send with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from rumbuffer.cli import main
from rumbuffer.emulator import Emulator
from tests.emulator.helpers import MONITOR

__all__ = ["LEAST", "Run"]

LEAST = ["--id", MONITOR, "--rum-events", 'type=com.example.paid,details="{\\"total\\": 42}"']
"""The least that a request needs."""

Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def emulator(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Emulator]:
    """A running emulator; `AWS_*` variables lead to it."""
    async with Emulator() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in a thread; its exit status, output and errors."""

    async def run_it(*arguments: str) -> tuple[int, str, str]:
        status = await asyncio.to_thread(main, ["put-rum-events", *arguments])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run_it
