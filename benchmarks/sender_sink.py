"""The service of `benchmarks.sender`: takes every request, counts, and answers as the service does.

    python -m benchmarks.sender_sink [--delay 0.02]

It checks nothing, so that it is never what is waited for, and it has a process and, where there are two, a
core of its own (`Sink`). The counts are asked for with a GET: requests, bytes as they came over the wire with
their heads, and events, which are counted by their timestamps.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import subprocess
import sys
import urllib.request
from types import TracebackType
from typing import Self

__all__ = ["Sink"]

_ANSWER = (
    b"HTTP/1.1 200 OK\r\n"
    b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
    b"Content-Type: application/json\r\n"
    b"Content-Length: %d\r\n"
    b"Connection: keep-alive\r\n"
    b"x-amzn-RequestId: 11111111-1111-4111-8111-111111111111\r\n"
    b"\r\n%b"
)
_TAKEN = _ANSWER % (2, b"{}")
_PER_EVENT = b'"timestamp":'


class Sink:
    """The parent's side: a running sink at `url`, which ends with the context, or with its parent."""

    def __init__(self, delay: float = 0.0) -> None:
        command = [sys.executable, "-m", "benchmarks.sender_sink", "--delay", str(delay)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def counts(self) -> dict[str, int]:
        """Return what came since the last call: `requests`, `bytes`, `events`."""
        with urllib.request.urlopen(self.url) as answer:  # noqa: S310 - our own
            counts: dict[str, int] = json.load(answer)
        return counts


class _Connection(asyncio.Protocol):
    counts = dict.fromkeys(("requests", "bytes", "events"), 0)
    delay = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received: list[bytes] = []
        self._missing = 0

    def data_received(self, data: bytes) -> None:
        self._received.append(data)
        if self._missing:
            self._missing -= len(data)
        else:
            head, end, body = b"".join(self._received).partition(b"\r\n\r\n")
            if not end:
                return
            self._missing = _length(head) - len(body)
        if self._missing == 0:
            request, self._received = b"".join(self._received), []
            self._take(*request.split(b"\r\n\r\n", 1))

    def _take(self, head: bytes, body: bytes) -> None:
        counts = self.counts
        if head.startswith(b"GET"):
            text = json.dumps(counts).encode()
            self._transport.write(_ANSWER % (len(text), text))
            counts.update(dict.fromkeys(counts, 0))
            return
        counts["requests"] += 1
        counts["bytes"] += len(head) + 4 + len(body)
        document = gzip.decompress(body) if b"content-encoding: gzip" in head.lower() else body
        counts["events"] += document.count(_PER_EVENT)
        if self.delay:
            asyncio.get_running_loop().call_later(self.delay, self._transport.write, _TAKEN)
        else:
            self._transport.write(_TAKEN)


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"content-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


class _Parent(asyncio.Protocol):
    def connection_lost(self, error: Exception | None) -> None:
        os._exit(0)


async def serve(delay: float) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    _Connection.delay = delay
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(_Parent, sys.stdin)
    server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before an answer")
    asyncio.run(serve(parser.parse_args().delay))


if __name__ == "__main__":
    main()
