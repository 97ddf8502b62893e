"""Real servers with real applications, under load, with clients that leave and a SIGTERM in the middle."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import socket
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from rumbuffer.emulator import Emulator
from tests.web.helpers import MONITOR, session_cookie

ROOT = Path(__file__).parent.parent.parent
APP = "tests.web.server_app:app"
CLIENTS = 8
BEFORE_THE_STOP = 160
"""Answers that the clients get before the server is told to stop."""

SERVERS = {
    "uvicorn": ["uvicorn", APP, "--port", "{port}"],
    "uvicorn, lifespan off": ["uvicorn", APP, "--port", "{port}", "--lifespan", "off"],
    "hypercorn": ["hypercorn", APP, "--bind", "127.0.0.1:{port}"],
    "granian": ["granian", APP, "--interface", "asgi", "--port", "{port}"],
    "granian, lifespan off": ["granian", APP, "--interface", "asginl", "--port", "{port}"],
}
FRAMEWORKS = ("fastapi", "litestar", "quart", "django")


@dataclass
class Site:
    """A server's process, and what its clients saw."""

    process: asyncio.subprocess.Process
    port: int
    stats_file: Path
    answered: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    is_stopping: bool = False
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    def stats(self) -> dict[str, Any]:
        """The buffer's counters after its close."""
        stats: dict[str, Any] = json.loads(self.stats_file.read_text())
        return stats


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def serving(server: str, framework: str, emulator: Emulator, folder: Path) -> AsyncIterator[Site]:
    """Run a server until the block ends; what it says is shown when a test fails."""
    port = _free_port()
    name, *arguments = (part.format(port=port) for part in SERVERS[server])
    stats_file = folder / "stats.json"
    environment = {
        **os.environ,
        "SITE_FRAMEWORK": framework,
        "SITE_MONITOR": MONITOR,
        "SITE_ENDPOINT": emulator.endpoint_url,
        "SITE_STATS": str(stats_file),
        "AWS_ACCESS_KEY_ID": emulator.access_key_id,
        "AWS_SECRET_ACCESS_KEY": emulator.secret_access_key,
        "PYTHONPATH": str(ROOT),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", name, *arguments, cwd=ROOT, env=environment
    )
    site = Site(process, port, stats_file)
    try:
        await _is_up(site)
        yield site
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _is_up(site: Site) -> None:
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.close()
            await writer.wait_closed()
            return
        assert site.process.returncode is None, "the server did not start"
        await asyncio.sleep(0.05)


async def visit(site: Site, number: int) -> None:
    """Be one visitor, each request on a connection of its own, until the server is gone."""
    session_id = f"00000000-0000-4000-8000-{number:012x}"
    headers = {"Cookie": session_cookie(session_id), "Connection": "close"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{site.port}", headers=headers) as client:
        for turn in range(10_000):
            path = f"/items/{turn}" if turn % 2 else f"/thread/{turn}"
            try:
                async with client.get(path) as response:
                    await response.read()
            except aiohttp.ClientError as error:
                # What the server had not accepted when it stopped is nobody's request.
                if not site.is_stopping:
                    site.failures.append(repr(error))
                return
            if response.status != 200:
                site.failures.append(f"{path}: {response.status}")
            site.answered[session_id] += 1
            if site.answered.total() >= BEFORE_THE_STOP:
                site.enough.set()


async def leave(site: Site) -> None:
    """Be a client that leaves in the middle of an answer, again and again."""
    loop = asyncio.get_running_loop()
    while not site.is_stopping:
        with suppress(OSError), socket.socket() as client:
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
            await loop.sock_connect(client, ("127.0.0.1", site.port))
            await loop.sock_sendall(client, b"GET /stream HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
            await loop.sock_recv(client, 100)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("server", SERVERS)
async def test_load_with_disconnects_and_a_stop(server: str, framework: str, tmp_path: Path) -> None:
    """No request fails, and every recorded event is delivered, or counted, after SIGTERM."""
    for package in (server.partition(",")[0], framework):
        if importlib.util.find_spec(package) is None:
            if os.environ.get("RUMBUFFER_REQUIRE_ALL") == "1":
                pytest.fail(f"{package} is not installed")
            pytest.skip(f"{package} is not installed")
    async with Emulator(quota=None) as emulator, serving(server, framework, emulator, tmp_path) as site:
        async with asyncio.TaskGroup() as clients:
            for number in range(CLIENTS):
                clients.create_task(visit(site, number))
            leaving = [clients.create_task(leave(site)) for _ in range(2)]
            await site.enough.wait()
            site.is_stopping = True
            site.process.send_signal(signal.SIGTERM)
            for task in leaving:
                task.cancel()
        await site.process.wait()
        stats = site.stats()
        assert site.failures == []
        assert stats["pending"] == stats["in_flight"] == 0
        assert stats["accepted"] == stats["delivered"] + stats["dropped"] + stats["dead_lettered"]
        assert stats["dropped"] == 0
        # granian ends the lifespan while answers that nobody listens to still go on.
        assert stats["refused_by_reason"].keys() <= {"not_running"}
        events = [(batch.session_id, event.type) for batch in emulator.batches for event in batch.events]
        assert len(events) == stats["delivered"]
        seen = Counter(events)
        for session_id, answers in site.answered.items():
            assert seen[session_id, "com.amazon.rum.http_event"] >= answers
            assert seen[session_id, "com.example.seen"] >= answers
        assert not [kind for _, kind in events if kind == "com.amazon.rum.js_error_event"]
