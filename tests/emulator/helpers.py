"""Requests for the emulator's tests, made by hand, and a socket that shows what came back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from rumbuffer.emulator import Emulator

MONITOR = "8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11"
OTHER_MONITOR = "11111111-2222-3333-4444-555555555555"
SESSION = "d35b7114-9426-4abc-9ace-6b4248e6d799"
USER = "00000000-0000-0000-0000-000000000000"
PATH = f"/appmonitors/{MONITOR}/"


def uuid_of(number: int) -> str:
    """A UUID for each number."""
    return f"00000000-0000-4000-8000-{number:012x}"


def event(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A valid event; ``changes`` replace its members, ``None`` takes one out."""
    members = {
        "id": uuid_of(number),
        "timestamp": 1795365502.25,
        "type": "com.example.checkout",
        "details": '{"total":42}',
        "metadata": '{"version":"1.0.0","domain":"example.com"}',
    }
    return {name: value for name, value in {**members, **changes}.items() if value is not None}


def document(batch: int = 1, **changes: Any) -> dict[str, Any]:
    """A valid body; ``changes`` replace its members, ``None`` takes one out."""
    members = {
        "BatchId": uuid_of(batch),
        "AppMonitorDetails": {"id": MONITOR, "name": "shop", "version": "1.4.2"},
        "UserDetails": {"userId": USER, "sessionId": SESSION},
        "RumEvents": [event()],
    }
    return {name: value for name, value in {**members, **changes}.items() if value is not None}


def body(batch: int = 1, **changes: Any) -> bytes:
    """`document` as JSON."""
    return json.dumps(document(batch, **changes)).encode()


def call(batch: int = 1, **changes: Any) -> dict[str, Any]:
    """`document` as arguments of an SDK's ``put_rum_events``."""
    return {"Id": MONITOR, **document(batch, **changes)}


def sign(
    payload: bytes,
    headers: Mapping[str, str],
    *,
    url: str = f"http://emulator{PATH}",
    key: str = "RUMEMULATORACCESSKEY",
    secret: str = "rum-emulator-secret-access-key",
    token: str | None = None,
    region: str = "us-east-1",
    service: str = "rum",
) -> dict[str, str]:
    """The headers of a POST, signed by botocore; the host among them."""
    request = AWSRequest("POST", url, data=payload, headers=dict(headers))
    SigV4Auth(BotoCredentials(key, secret, token), service, region).add_auth(request)
    return {"Host": url.split("/")[2], **request.headers}


class Reply(NamedTuple):
    """What came back on a connection until it was whole, closed or reset."""

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Connection:
    """A client's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, emulator: Emulator) -> Connection:
        """Connect."""
        return cls(*await asyncio.open_connection(emulator.host, emulator.port))

    def send(
        self,
        payload: bytes,
        *,
        method: str = "POST",
        target: str = PATH,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Write one request."""
        lines = [f"{method} {target} HTTP/1.1"]
        fields = {"Host": "emulator", "Content-Length": str(len(payload)), **(headers or {})}
        lines += [f"{name}: {value}" for name, value in fields.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + payload)

    async def receive(self) -> Reply:
        """Read one answer, as much of it as comes; raises ``ConnectionError`` when none does."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("closed without an answer") from error
        first, *lines = head.decode().rstrip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = int(headers.get("content-length", 0))
        try:
            received, complete = await self.reader.readexactly(length), True
        except asyncio.IncompleteReadError as error:
            received, complete = error.partial, False
        return Reply(int(first.split()[1]), headers, received, complete)

    async def ended(self) -> bool:
        """Whether the other side has closed or reset; waits for it."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        """Close."""
        self.writer.close()


async def post(
    emulator: Emulator,
    payload: bytes,
    *,
    method: str = "POST",
    target: str = PATH,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """One request on a connection of its own."""
    connection = await Connection.to(emulator)
    try:
        connection.send(payload, method=method, target=target, headers=headers)
        return await connection.receive()
    finally:
        connection.close()
