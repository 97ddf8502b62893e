"""The service of these tests: an emulator in the test's own loop, signatures on, without a quota."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from rumbuffer.emulator import Emulator


@pytest.fixture
async def emulator(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Emulator]:
    """A service that accepts, and the environment with its keys."""
    async with Emulator(quota=None) as service:
        for name, value in service.environment().items():
            if name != "AWS_ENDPOINT_URL_RUM":
                monkeypatch.setenv(name, value)
        yield service
        assert service.scripted == 0


@pytest.fixture
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let holds be probed at once, where the real first probe comes after five seconds."""
    monkeypatch.setattr("rumbuffer.core.gates._FIRST_PROBE", 0.02)
    monkeypatch.setattr("rumbuffer.core.gates._SLOWEST_PROBE", 0.05)
    monkeypatch.setattr("rumbuffer.core.choice._PROBES_BURST", 1000)
