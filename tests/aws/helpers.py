"""Batches to send, and a server that says exactly what it is told."""

from __future__ import annotations

import asyncio
import ssl
import uuid
from types import TracebackType
from typing import Self

from rumbuffer.core.encoding import EventEncoder
from rumbuffer.core.sealed import SealedBatch
from rumbuffer.events import NIL_USER_ID, AppMonitor

MONITOR = AppMonitor("11111111-1111-4111-8111-111111111111", name="shop", version="1.4.2")

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

_encode = EventEncoder(6144).encode_given


def batch(events: int = 1, *, attributes: bytes | None = None) -> SealedBatch:
    """A batch of small events with a random id."""
    encoded = tuple(
        _encode("com.example.test", {"place": place}, None, str(uuid.uuid4()), 1767225600.5)
        for place in range(events)
    )
    return SealedBatch(str(uuid.uuid4()), MONITOR, str(uuid.uuid4()), NIL_USER_ID, attributes, encoded)


class Wire:
    """Answers each request with the next of `answers`, as it is; `None` closes the connection instead.

    What is after the last answer is `OK`. `heads` and `bodies` are the requests' as they came.
    """

    def __init__(self, *answers: bytes | None, tls: ssl.SSLContext | None = None) -> None:
        self.answers = list(answers)
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self._tls = tls
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Where it is; `localhost`, as its certificate says."""
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://localhost:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lengths = [
                    line[15:] for line in head.lower().splitlines() if line.startswith("content-length:")
                ]
                self.bodies.append(await reader.readexactly(int(lengths[0]) if lengths else 0))
                self.heads.append(head)
                answer = self.answers.pop(0) if self.answers else OK
                if answer is None:
                    return
                writer.write(answer)
                if answer.endswith(b"CLOSE"):
                    return
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


def answer(status: str, *headers: str, body: bytes = b"") -> bytes:
    """An answer's bytes."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body
