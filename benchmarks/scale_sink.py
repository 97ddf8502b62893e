"""A service that takes everything at once, as cheap as Python can: `python -m benchmarks.scale_sink`.

It prints its port, and ends when its standard input does. It reads requests only as far as it must to find
their ends, and answers each as CloudWatch RUM does, so that what is measured is the sender.
"""

from __future__ import annotations

import asyncio
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Sink(asyncio.Protocol):
    """One connection. `needed` bytes end the request that is coming in, as far as they are known."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._needed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        while received:
            if not self._needed:
                head = received.find(b"\r\n\r\n")
                if head < 0:
                    return
                at = received.lower().find(b"content-length:", 0, head) + len(b"content-length:")
                self._needed = head + 4 + int(received[at : received.find(b"\r\n", at)])
            if len(received) < self._needed:
                return
            del received[: self._needed]
            self._needed = 0
            self._transport.write(ANSWER)


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
