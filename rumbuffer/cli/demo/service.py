"""The RUM service of the demo: `rumbuffer emulator` in a process of its own, asked over HTTP.

It stands apart so that neither loop slows the other, and so that what is compared at the end was really
received: nothing but sockets joins the two.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

__all__ = ["Service", "ServiceGone", "isolated_environment", "service"]

# Our own search path, and not `-m rumbuffer`, so that it runs the package that we are of.
_CODE = """\
import json, sys
sys.path[:] = json.loads(sys.argv.pop(1))
from rumbuffer.cli import main
sys.exit(main())
"""
_LARGEST_LINE = 2**20
_PAGE = 200
_END = 5.0
"""Seconds that the emulator may take to end."""


class ServiceGone(Exception):
    """The emulator did not start, or ended before it was asked to."""


@dataclass(frozen=True, slots=True)
class Service:
    """A running emulator."""

    endpoint_url: str
    environment: Mapping[str, str]
    http: aiohttp.ClientSession

    async def stats(self) -> dict[str, Any]:
        """Return its counters and settings."""
        return await self._json("GET", "/_emulator/stats")

    async def set_quota(self, quota: Mapping[str, Any]) -> None:
        """Put another quota in force."""
        await self._json("PUT", "/_emulator/quota", quota)

    async def batches(self) -> list[dict[str, Any]]:
        """Return every batch that it kept."""
        batches: list[dict[str, Any]] = []
        last = 0
        while True:
            page = await self._json("GET", f"/_emulator/batches?after={last}&limit={_PAGE}")
            if not page["batches"]:
                return batches
            batches += page["batches"]
            last = page["last"]

    async def _json(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        data = None if body is None else orjson.dumps(body)
        try:
            async with self.http.request(method, self.endpoint_url + path, data=data) as response:
                response.raise_for_status()
                document: dict[str, Any] = orjson.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ServiceGone(f"the emulator does not answer ({type(error).__name__})") from None
        return document


@asynccontextmanager
async def service(options: Sequence[str]) -> AsyncIterator[Service]:
    """Run `rumbuffer emulator` with `options`, on a free port. Raises `ServiceGone` if it does not start.

    Ctrl-C in the terminal does not reach it, so that it outlives what is sent to it; it ends with us at
    the latest, for its standard input ends then.
    """
    arguments = ["emulator", "--port", "0", "--json", "--stop-on-eof", *options]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-c",
        _CODE,
        json.dumps(sys.path),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LARGEST_LINE,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        if not line:
            raise ServiceGone("the emulator did not start; it says why above")
        ready = orjson.loads(line)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
            yield Service(ready["endpoint_url"], ready["environment"], http)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await _ended(process)


async def _ended(process: asyncio.subprocess.Process) -> None:
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(_END):
                await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@contextmanager
def isolated_environment() -> Iterator[None]:
    """Hide the user's AWS settings, our own, and proxies, from this process and those that it starts.

    What is set inside is taken back at the end.
    """
    before = dict(os.environ)
    for name in before:
        if name.startswith(("AWS_", "RUMBUFFER_")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(
        AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, AWS_EC2_METADATA_DISABLED="true"
    )
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
