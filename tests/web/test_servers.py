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
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from rumbuffer.emulator import Emulator
from tests.web.helpers import MONITOR, session_cookie

ROOT = Path(__file__).parent.parent.parent
APP = "tests.web.server_app:app"
CLIENTS = 8
BEFORE_THE_STOP = 160
"""Answers that the clients get before the server is told to stop."""

QUOTA, USE, BURST = 100.0, 0.8, 10
"""The pace that two workers share: the buffer's default settings, but for the quota."""

SESSIONS = 240
"""The visitors in that test; each session is a batch of its own."""

CLOSE_TIMEOUT = 10.0
"""The buffer's own."""

SERVERS = {
    "uvicorn": ["uvicorn", APP, "--port", "{port}"],
    "uvicorn, lifespan off": ["uvicorn", APP, "--port", "{port}", "--lifespan", "off"],
    "hypercorn": ["hypercorn", APP, "--bind", "127.0.0.1:{port}"],
    "granian": ["granian", APP, "--interface", "asgi", "--port", "{port}"],
    "granian, lifespan off": ["granian", APP, "--interface", "asginl", "--port", "{port}"],
    "gunicorn": ["gunicorn", APP, "-k", "uvicorn_worker.UvicornWorker", "-w", "2", "-b", "127.0.0.1:{port}"],
}
ONE_PROCESS = [server for server in SERVERS if server != "gunicorn"]
STREAM_BYTES = 100 * 50 * len("part of a long answer ")
"""What `tests.web.server_app` answers to ``/stream``, for a second at least."""
FRAMEWORKS = ("fastapi", "litestar", "quart", "django")


class Told(NamedTuple):
    """What an `http_event` tells."""

    session_id: str
    status: int
    aborted: bool


@dataclass
class Site:
    """A server's process, and what its clients saw."""

    process: asyncio.subprocess.Process
    port: int
    stats_folder: Path
    answered: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    """Answers that were left after their first bytes."""
    reset: Counter[str] = field(default_factory=Counter)
    """Connections that were accepted and closed without an answer, after the stop."""
    failures: list[str] = field(default_factory=list)
    is_stopping: bool = False
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    def stats(self) -> list[dict[str, Any]]:
        """The counters of each process's buffer, after its close."""
        return [json.loads(file.read_text()) for file in self.stats_folder.glob("*.json")]

    def client(self, session_id: str, **headers: str) -> aiohttp.ClientSession:
        """A browser with a session."""
        return aiohttp.ClientSession(
            f"http://127.0.0.1:{self.port}", headers={"Cookie": session_cookie(session_id), **headers}
        )


def _session(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"


def require(package: str) -> None:
    """Skip the test where a package is missing; fail it where all are required."""
    if importlib.util.find_spec(package) is None:
        if os.environ.get("RUMBUFFER_REQUIRE_ALL") == "1":
            pytest.fail(f"{package} is not installed")
        pytest.skip(f"{package} is not installed")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def serving(
    server: str,
    framework: str,
    emulator: Emulator,
    folder: Path,
    *,
    quota: float = 1000.0,
    measured: bool = True,
) -> AsyncIterator[Site]:
    """Run a server until the block ends; what it says is shown when a test fails.

    Not `measured` is for many signals at once: coverage has a handler of its own for SIGTERM, which locks
    itself out where another one comes while it saves.
    """
    port = _free_port()
    name, *arguments = (part.format(port=port) for part in SERVERS[server])
    environment = {
        **os.environ,
        "SITE_FRAMEWORK": framework,
        "SITE_MONITOR": MONITOR,
        "SITE_ENDPOINT": emulator.endpoint_url,
        "SITE_STATS": str(folder),
        "SITE_QUOTA": str(quota),
        "XDG_RUNTIME_DIR": str(folder),  # no pace is shared with what else runs here
        "AWS_ACCESS_KEY_ID": emulator.access_key_id,
        "AWS_SECRET_ACCESS_KEY": emulator.secret_access_key,
        "PYTHONPATH": str(ROOT),
    }
    if not measured:
        environment = {key: value for key, value in environment.items() if not key.startswith("COVERAGE_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", name, *arguments, cwd=ROOT, env=environment
    )
    site = Site(process, port, folder)
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


async def visit(site: Site, session_id: str) -> None:
    """Be one visitor, each request on a connection of its own, until the server is gone."""
    async with site.client(session_id, Connection="close") as client:
        for turn in range(10_000):
            path = f"/items/{turn}" if turn % 2 else f"/thread/{turn}"
            try:
                async with client.get(path) as response:
                    await response.read()
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
                # Refused, or reset before the first byte: that of a new connection which the server had
                # not accepted, or not read from, when it stopped. That the application has not seen its
                # request either is asserted at the end.
                if not site.is_stopping:
                    site.failures.append(f"{path}: {error!r}")
                elif not isinstance(error, aiohttp.ClientConnectorError):
                    site.reset[session_id] += 1
                return
            except aiohttp.ClientError as error:  # an answer that was cut
                site.failures.append(f"{path}: {error!r}")
                return
            if response.status != 200:
                site.failures.append(f"{path}: {response.status}")
            site.answered[session_id] += 1
            if site.answered.total() >= BEFORE_THE_STOP:
                site.enough.set()


async def stay(site: Site, session_id: str, begun: asyncio.Event) -> None:
    """Be a visitor whose answer is under way when the server is told to stop, and read it to its end."""
    async with site.client(session_id) as client, client.get("/stream") as response:
        await response.content.readexactly(100)
        begun.set()
        try:
            length = 100 + len(await response.read())
        except aiohttp.ClientError as error:
            site.failures.append(f"/stream: {error!r}")
            return
        if (response.status, length) != (200, STREAM_BYTES):
            site.failures.append(f"/stream: {response.status}, {length} bytes")
        site.answered[session_id] += 1


async def leave(site: Site, session_id: str) -> None:
    """Be a client that leaves in the middle of an answer, again and again, until the server is gone."""
    loop = asyncio.get_running_loop()
    request = (
        f"GET /stream HTTP/1.1\r\nHost: shop.example.com\r\nCookie: {session_cookie(session_id)}\r\n\r\n"
    )
    while True:
        with socket.socket() as client:
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
            try:
                await loop.sock_connect(client, ("127.0.0.1", site.port))
                await loop.sock_sendall(client, request.encode())
                begun = await loop.sock_recv(client, 100)
            except ConnectionRefusedError as error:
                if not site.is_stopping:
                    site.failures.append(f"/stream: {error!r}")
                return
            except ConnectionResetError:
                begun = b""
            if begun:
                site.left[session_id] += 1
            elif site.is_stopping:
                site.reset[session_id] += 1
            else:
                site.failures.append("/stream: no answer")
            if site.is_stopping:
                return


async def load(site: Site) -> None:
    """Visit, leave, and stay; tell the server to stop in the middle, and wait for its end."""
    async with asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            clients.create_task(visit(site, _session(number)))
        for number in range(2):
            clients.create_task(leave(site, _session(100 + number)))
        await site.enough.wait()
        for number in range(2):
            begun = asyncio.Event()
            clients.create_task(stay(site, _session(200 + number), begun))
            await begun.wait()
        site.is_stopping = True
        site.process.send_signal(signal.SIGTERM)
    await site.process.wait()


def told(emulator: Emulator) -> tuple[list[Told], Counter[str]]:
    """What arrived: all `http_event`s, and how many events of the application's own each session has."""
    requests: list[Told] = []
    own: Counter[str] = Counter()
    for batch in emulator.batches:
        assert batch.session_id is not None
        for event in batch.events:
            assert event.type != "com.amazon.rum.js_error_event"
            if event.type == "com.example.seen":
                own[batch.session_id] += 1
                continue
            status = json.loads(event.details)["response"]["status"]
            aborted = json.loads(event.metadata or "{}").get("http_aborted", False)
            requests.append(Told(batch.session_id, status, aborted))
    return requests, own


def assert_books_balance(stats: dict[str, Any]) -> None:
    """Every event is delivered, or counted with its reason."""
    assert stats["pending"] == stats["in_flight"] == 0
    assert stats["offered"] == stats["accepted"] + stats["sampled_out"] + stats["refused"]
    assert stats["accepted"] == stats["delivered"] + stats["dropped"] + stats["dead_lettered"]
    assert stats["dropped"] == stats["dead_lettered"] == 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("server", ONE_PROCESS)
async def test_load_with_disconnects_and_a_stop(server: str, framework: str, tmp_path: Path) -> None:
    """No request fails, each is told once, and every recorded event is delivered, or counted."""
    for package in (server.partition(",")[0], framework):
        require(package)
    async with Emulator(quota=None) as emulator, serving(server, framework, emulator, tmp_path) as site:
        await load(site)
        (stats,) = site.stats()
        requests, own = told(emulator)
        assert site.failures == []
        # uvicorn dies of the signal, once its buffer is closed.
        assert site.process.returncode == (-signal.SIGTERM if server.startswith("uvicorn") else 0)
        assert_books_balance(stats)
        assert stats["refused"] == 0
        assert len(requests) + own.total() == stats["delivered"]
        # Each request was told once. None was served that had no answer, but by hypercorn, which closes new
        # connections at its stop although it has begun to serve their requests.
        by_session = Counter(request.session_id for request in requests)
        unanswered = by_session - site.answered - site.left
        assert by_session == site.answered + site.left + unanswered
        assert unanswered <= (site.reset if server == "hypercorn" else Counter())
        visitors = Counter({_session(number): site.answered[_session(number)] for number in range(CLIENTS)})
        assert visitors <= own <= visitors + unanswered
        told_once = [request for request in requests if request.session_id not in unanswered]
        assert set(told_once) == {
            *(Told(session, 200, aborted=False) for session in site.answered.keys() - unanswered.keys()),
            *(Told(session, 200, aborted=True) for session in site.left),
        }


async def pass_by(site: Site, sessions: Iterator[int]) -> None:
    """Be many visitors, one after the other, each with one request."""
    for number in sessions:
        session_id = _session(number)
        async with site.client(session_id, Connection="close") as client, client.get("/items/1") as response:
            await response.read()
            if response.status != 200:
                site.failures.append(f"/items/1: {response.status}")
            site.answered[session_id] += 1


@pytest.mark.timeout(120)
async def test_workers_share_one_pace(tmp_path: Path) -> None:
    """Two workers keep together to one pace, lose no request, and deliver everything when they stop."""
    for package in ("gunicorn", "uvicorn_worker", "fastapi"):
        require(package)
    async with (
        Emulator(quota=None) as emulator,
        serving("gunicorn", "fastapi", emulator, tmp_path, quota=QUOTA) as site,
    ):
        # One that is up would answer everybody.
        while len(list(tmp_path.glob("*.started"))) < 2:  # noqa: ASYNC110 - other processes write them
            await asyncio.sleep(0.05)
        sessions = iter(range(SESSIONS))
        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(pass_by(site, sessions))
        async with asyncio.TaskGroup() as clients:
            begun = asyncio.Event()
            clients.create_task(stay(site, _session(SESSIONS), begun))
            await begun.wait()
            site.process.send_signal(signal.SIGTERM)
        await site.process.wait()
        assert site.failures == []
        assert site.process.returncode == 0
        workers = site.stats()
        assert len(workers) == 2
        for stats in workers:
            assert_books_balance(stats)
            assert stats["refused"] == 0
            assert stats["delivered"] > 0
        requests, own = told(emulator)
        assert Counter(request.session_id for request in requests) == site.answered
        assert own.total() == SESSIONS
        sent = sorted(batch.received_at for batch in emulator.batches)
        assert len(sent) == SESSIONS + 1
        # Each worker for itself would send at that pace, and both in half the time.
        assert sent[-1] - sent[0] >= 0.8 * (len(sent) - BURST) / (QUOTA * USE)


async def _is_refused(site: Site) -> None:
    """Wait until the server has closed its door."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", site.port)
        except OSError:
            return
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        await asyncio.sleep(0.01)


async def test_second_sigterm_ends_the_process(tmp_path: Path) -> None:
    """Where the close takes long because nobody takes the events, another SIGTERM ends the process."""
    for package in ("uvicorn", "fastapi"):
        require(package)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        emulator = Emulator()
        emulator.port = silent.getsockname()[1]
        async with serving("uvicorn, lifespan off", "fastapi", emulator, tmp_path, measured=False) as site:
            await pass_by(site, iter((1,)))
            site.process.send_signal(signal.SIGTERM)
            await _is_refused(site)
            async with asyncio.timeout(CLOSE_TIMEOUT / 2):
                while site.process.returncode is None:
                    site.process.send_signal(signal.SIGTERM)
                    await asyncio.sleep(0.05)
            assert site.process.returncode == -signal.SIGTERM
            assert site.stats() == []
