"""Two services for these tests, one for boto3 and one for the buffer, so that they can be compared."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from rumbuffer.calls import load_checks
from rumbuffer.emulator import Emulator


@pytest.fixture
async def emulator(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Emulator]:
    """The buffer's; the environment has its keys."""
    await load_checks()
    async with Emulator(quota=None) as service:
        for name, value in service.environment().items():
            if name != "AWS_ENDPOINT_URL_RUM":
                monkeypatch.setenv(name, value)
        yield service


@pytest.fixture
async def other_emulator() -> AsyncIterator[Emulator]:
    """boto3's."""
    async with Emulator(quota=None) as service:
        yield service
