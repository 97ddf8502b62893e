"""Answers onto the wire, whole or as a fault has it.

aiohttp parses the requests; answers are written here, as bytes in one write.
That is less work than its `Response`, and half an answer is just as easy.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
import uuid
from collections.abc import Awaitable, Callable

from aiohttp import web

from rumbuffer.emulator.answers import Answer
from rumbuffer.emulator.faults import Delivery, Fault

# SO_LINGER with no time: closing sends RST instead of FIN.
_RESET = struct.pack("ii", 1, 0)

_PROCESS = str(uuid.uuid4())[:24]
_NUMBERS = itertools.count(1)

Sleep = Callable[[float], Awaitable[None]]


def next_request_id() -> str:
    """A UUID for ``x-amzn-RequestId``; its last twelve digits count."""
    return f"{_PROCESS}{next(_NUMBERS):012x}"


class Written(web.StreamResponse):
    """A response that is on the wire already; tells aiohttp whether the connection goes on."""

    def __init__(self, *, goes_on: bool) -> None:
        super().__init__()
        self._keep_alive = goes_on

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing to send; where the connection is to end, aiohttp takes it for lost."""
        if not self._keep_alive:
            raise ConnectionResetError("closed by the emulator")

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to send."""


def write(request: web.BaseRequest, answer: Answer) -> Written:
    """Send a whole answer."""
    keep_alive = request.keep_alive
    transport = request.transport
    if transport is not None:
        transport.write(answer.head(next_request_id(), keep_alive=keep_alive) + answer.body)
    return Written(goes_on=keep_alive)


async def deliver(request: web.BaseRequest, fault: Fault, sleep: Sleep) -> Written:
    """Send the fault's answer the way the fault has it."""
    transport = request.transport
    if fault.delivery is Delivery.WHOLE or transport is None:
        return write(request, fault.answer)
    head = fault.answer.head(next_request_id(), keep_alive=request.keep_alive)
    body = fault.answer.body
    match fault.delivery:
        case Delivery.RESET:
            reset(transport)
        case Delivery.CUT:
            transport.write(head + body[: len(body) // 2])
        case Delivery.CLOSE:
            transport.write(head + body)
        case Delivery.SLOW:
            transport.write(head)
            await _trickle(transport, body, fault.seconds, sleep)
            return Written(goes_on=request.keep_alive)
        case Delivery.NEVER:
            await asyncio.get_running_loop().create_future()
    return Written(goes_on=False)


def reset(transport: asyncio.BaseTransport) -> None:
    """Drop the connection with a TCP reset."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


async def _trickle(transport: asyncio.Transport, body: bytes, seconds: float, sleep: Sleep) -> None:
    for byte in body:
        await sleep(seconds / len(body))
        transport.write(bytes([byte]))
