"""Parent and children of `benchmarks.quota`: fresh interpreters that talk in lines of JSON.

A child is started with its settings, says what it has to say on its standard output, and goes on when a
line comes on its standard input. When that ends the parent is gone, whatever killed it, and so is the
child at once: none is ever left behind. Children are outside the terminal's process group, so a Ctrl-C
is the parent's alone to answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

__all__ = ["Child", "Parent", "child_main"]

_ROOT = Path(__file__).parent.parent
_LONGEST_LINE = 1 << 28
_LAST_WORDS = 10.0
"""Seconds that a child has to end after it has said everything."""


class Child:
    """The parent's side."""

    def __init__(self, module: str, process: asyncio.subprocess.Process) -> None:
        self._module = module
        self._process = process

    @classmethod
    @asynccontextmanager
    async def started(
        cls, module: str, settings: Mapping[str, Any], environment: Mapping[str, str]
    ) -> AsyncIterator[Child]:
        """Run a module in a process of its own, which ends with the context: by itself, or killed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            json.dumps(settings),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
            cwd=_ROOT,
            env=environment,
            process_group=0,
        )
        try:
            yield cls(module, process)
            async with asyncio.timeout(_LAST_WORDS):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    def go_on(self) -> None:
        """Let it do the next thing."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")

    async def said(self) -> Any:
        """Wait for what it says next. Raises `RuntimeError` if it ends instead."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._module} ended with status {await self._process.wait()}")
        return json.loads(line)


class Parent:
    """The child's side."""

    def __init__(self, lines: asyncio.StreamReader) -> None:
        self._lines = lines
        self._arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def connected(cls) -> Parent:
        lines = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        return cls(lines)

    async def _listen(self) -> None:
        while line := await self._lines.readline():
            self._arrived.put_nowait(line)
        os._exit(1)

    async def says_go_on(self) -> None:
        await self._arrived.get()

    def tell(self, value: object) -> None:
        print(json.dumps(value), flush=True)


def child_main(work: Callable[[Parent, dict[str, Any]], Awaitable[None]]) -> None:
    """What a child does: its work, with its parent and its settings."""

    async def run() -> None:
        await work(await Parent.connected(), json.loads(sys.argv[1]))

    asyncio.run(run())
