"""The applications that the README shows, served and asked as they stand."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from rumbuffer.emulator import Emulator
from tests.web.helpers import HTTP, SESSION, session_cookie
from tests.web.packages import needed

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
FRAMEWORKS = ("fastapi", "starlette", "litestar", "quart", "django", "aiohttp")
"""Of several that a program imports, the first is its framework."""

APPLICATIONS = {
    next(name for name in FRAMEWORKS if f"from {name}" in program): program
    for program in PROGRAMS
    if "RumMiddleware" in program or "rumbuffer.aiohttp" in program
}

WITH_AIOHTTP = "import shown; from aiohttp import web; web.run_app(shown.app, port={port}, print=None)"


@pytest.mark.parametrize(("framework", "program"), APPLICATIONS.items(), ids=APPLICATIONS)
async def test_applications_run_as_they_stand(framework: str, program: str, tmp_path: Path) -> None:
    """Each application is served, answers, and has both of its events delivered in the browser's session."""
    needed(framework)
    needed("uvicorn")
    (tmp_path / "shown.py").write_text(program)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve = ["-m", "uvicorn", "shown:app", "--port", str(port), "--log-level", "warning"]
    if framework == "aiohttp":
        serve = ["-c", WITH_AIOHTTP.format(port=port)]
    async with Emulator() as emulator:
        environment = {**os.environ, **emulator.environment(), "PYTHONPATH": os.pathsep.join(sys.path)}
        server = await asyncio.create_subprocess_exec(sys.executable, *serve, cwd=tmp_path, env=environment)
        try:
            assert await ask(server, f"http://127.0.0.1:{port}/items/42") == 200
            server.send_signal(signal.SIGTERM)
        finally:
            if server.returncode is None:
                await asyncio.wait_for(server.wait(), 20)
        events = [(batch.session_id, event) for batch in emulator.batches for event in batch.events]
    assert {session_id for session_id, _ in events} == {SESSION}
    assert sorted(event.type for _, event in events) == [HTTP, "com.example.item_seen"]
    assert any("items/{item_id" in event.details for _, event in events)


async def ask(server: asyncio.subprocess.Process, url: str) -> int:
    """Ask as a browser would, as soon as somebody answers; the answer's status."""
    async with aiohttp.ClientSession(headers={"Cookie": session_cookie()}) as client:
        while True:
            with suppress(aiohttp.ClientConnectorError):
                async with client.get(url) as response:
                    return response.status
            assert server.returncode is None, "the server did not start"
            await asyncio.sleep(0.05)
