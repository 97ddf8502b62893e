"""An emulator that the environment leads to, and senders that are closed at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiobotocore.session import AioSession

from rumbuffer.aws import AwsSender
from rumbuffer.emulator import Emulator

Start = Callable[..., Awaitable[AwsSender]]


@pytest.fixture
async def emulator(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Emulator]:
    """A running emulator without quota; `AWS_*` variables lead to it."""
    async with Emulator(quota=None) as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some credentials and a region, for servers that do not look at them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")


@pytest.fixture
def way() -> str:
    """The way that calls go through the client: `short`, or `long` as for a session of the user's."""
    return "short"


@pytest.fixture
async def start(way: str) -> AsyncIterator[Start]:
    """Make and start a sender; it is closed at the end."""
    made: list[AwsSender] = []

    async def started(max_in_flight: int = 8, **arguments: object) -> AwsSender:
        if way == "long":
            arguments.setdefault("session", AioSession())
        sender = AwsSender(**arguments)  # type: ignore[arg-type]
        made.append(sender)
        await sender.start(max_in_flight=max_in_flight)
        return sender

    yield started
    for sender in made:
        await sender.aclose()


@pytest.fixture
async def sender(emulator: Emulator, start: Start) -> AwsSender:
    """A started sender that the environment leads to the emulator."""
    return await start()
