"""Request bodies in gzip: when, and that the service gets what the batch holds."""

from __future__ import annotations

import gzip
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from rumbuffer import AppMonitor, InvalidSetting, RumBuffer, Session
from rumbuffer.aws import AwsSender
from rumbuffer.aws.compression import LARGE, SMALLEST, gzipped, gzipper
from rumbuffer.core.outcomes import Delivered, HoldScope, Misconfigured
from rumbuffer.core.sealed import SealedBatch
from rumbuffer.emulator import Emulator, Fault
from tests.aws.conftest import Start
from tests.aws.helpers import MONITOR, Wire, answer, batch


@pytest.fixture(params=["zlib", "isal"])
def compress(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], bytes]:
    """What compresses, with either library."""
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "isal", None)
    else:
        pytest.importorskip("isal")
    return gzipper()


def _of_length(length: int) -> SealedBatch:
    """A batch whose body has that many bytes."""
    event = b'{"id":"%s","timestamp":1.5,"type":"com.example.test","details":"{\\"x\\":\\"%s\\"}"}'
    identifier = b"11111111-1111-4111-8111-111111111111"
    user = identifier.decode()
    missing = length - len(SealedBatch(user, MONITOR, user, user, None, (event % (identifier, b""),)).body())
    return SealedBatch(user, MONITOR, user, user, None, (event % (identifier, b"x" * missing),))


@pytest.mark.parametrize("session", [False, True], ids=["short way", "long way"])
async def test_the_service_gets_the_batch(session: bool, emulator: Emulator, start: Start) -> None:
    """A compressed body is signed as it is sent, and what the service unpacks is the batch's body."""
    from aiobotocore.session import AioSession

    sent = batch(100)
    sender = await start(compression="gzip", session=AioSession() if session else None)
    assert await sender.send(sent) == Delivered()
    assert emulator.batches[0].body == sent.body()
    assert emulator.requests.wire_bytes < len(sent.body()) / 4


async def test_the_request_on_the_wire(emulator: Emulator, start: Start) -> None:
    """Encoding and length suit the compressed body, and the signature covers the encoding."""
    sent = batch(100)
    async with Wire() as wire:
        assert await (await start(endpoint_url=wire.url, compression="gzip")).send(sent) == Delivered()
    assert gzip.decompress(wire.bodies[0]) == sent.body()
    lines = wire.heads[0].splitlines()
    assert "Content-Encoding: gzip" in lines
    assert f"Content-Length: {len(wire.bodies[0])}" in lines
    assert "SignedHeaders=content-encoding;content-type;" in wire.heads[0]


@pytest.mark.parametrize(("length", "packed"), [(SMALLEST - 1, False), (SMALLEST, True)])
async def test_small_bodies_go_as_they_are(
    length: int, packed: bool, emulator: Emulator, start: Start
) -> None:
    """A body below the threshold is sent as it is, and says so."""
    sent = _of_length(length)
    async with Wire() as wire:
        assert await (await start(endpoint_url=wire.url, compression="gzip")).send(sent) == Delivered()
    assert ("Content-Encoding" in wire.heads[0]) is packed
    assert (wire.bodies[0] == sent.body()) is not packed


async def test_without_the_setting_nothing_is_compressed(emulator: Emulator, start: Start) -> None:
    """The default is to send the bytes as they are."""
    sent = batch(100)
    async with Wire() as wire:
        await (await start(endpoint_url=wire.url)).send(sent)
    assert wire.bodies == [sent.body()]


async def test_a_retry_sends_the_same_bytes(emulator: Emulator, start: Start) -> None:
    """Each try of a batch has the same body, byte for byte."""
    sent = batch(100)
    async with Wire(answer("503 Busy"), None) as wire:
        sender = await start(endpoint_url=wire.url, compression="gzip")
        for _ in range(3):
            await sender.send(sent)
    assert len(set(wire.bodies)) == 1
    assert len(wire.bodies) == 3


async def test_large_bodies_are_compressed_in_a_thread(compress: Callable[[bytes], bytes]) -> None:
    """Above the bound a thread compresses, up to it the loop's own."""
    threads: list[threading.Thread] = []

    def noted(body: bytes) -> bytes:
        threads.append(threading.current_thread())
        return compress(body)

    for length in (LARGE, LARGE + 1):
        body = b"x" * length
        assert gzip.decompress(await gzipped(noted, body)) == body
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


async def test_a_large_batch_arrives(emulator: Emulator, start: Start) -> None:
    """A batch that a thread compressed is delivered, and the emulator's bound holds for what it unpacks."""
    sender = await start(compression="gzip")
    emulator.service.max_body_bytes = 1_000_000
    assert await sender.send(_of_length(1_000_000)) == Delivered()
    assert type(await sender.send(_of_length(1_000_001))).__name__ == "TooLarge"
    assert emulator.requests.wire_bytes < 100_000


def test_the_same_body_gives_the_same_bytes(compress: Callable[[bytes], bytes]) -> None:
    """Both libraries write a gzip that is the same each time and opens to the body."""
    body = batch(50).body()
    assert compress(body) == gzipper()(body)
    assert gzip.decompress(compress(body)) == body
    assert len(compress(body)) < len(body) / 3


async def test_an_endpoint_that_takes_no_gzip(start: Start, emulator: Emulator) -> None:
    """A 415 holds the sender, and the text names the setting."""
    async with Wire(answer("415 Unsupported Media Type")) as wire:
        outcome = await (await start(endpoint_url=wire.url, compression="gzip")).send(batch(30))
    assert isinstance(outcome, Misconfigured)
    assert outcome.scope is HoldScope.SENDER
    assert "compression" in outcome.message


# The setting


@pytest.mark.parametrize("value", ["br", "GZIP", True, 6, b"gzip"])
def test_what_is_no_compression(value: Any) -> None:
    """Another value is refused at once, with the field's name, by the sender and by the buffer."""
    for make in (AwsSender, lambda compression: RumBuffer(MONITOR, compression=compression)):
        with pytest.raises(InvalidSetting, match=r"compression.*'gzip' or None") as caught:
            make(compression=value)
        assert caught.value.field == "compression"


async def test_the_buffer_compresses(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A buffer that is told to, by argument or environment, sends compressed and delivers all."""
    monkeypatch.setenv("RUMBUFFER_APP_MONITOR_ID", MONITOR.id)
    monkeypatch.setenv("RUMBUFFER_COMPRESSION", "gzip")
    for made in (RumBuffer(AppMonitor(MONITOR.id), compression="gzip"), RumBuffer.from_env()):
        emulator.clear()
        emulator.script(Fault.status(500))
        async with made as buffer:
            session = Session.new()
            for number in range(100):
                buffer.record("com.example.test", {"number": number}, session=session)
            await buffer.flush()
        assert len(list(emulator.events())) == 100
        assert emulator.requests.wire_bytes < 2 * emulator.requests.body_bytes / 3


def test_the_variable() -> None:
    """The environment says gzip or none; else the error names the variable."""
    given = {"RUMBUFFER_APP_MONITOR_ID": MONITOR.id}
    assert RumBuffer.from_env({**given, "RUMBUFFER_COMPRESSION": "none"})._sender_settings[3] is None
    assert RumBuffer.from_env({**given, "RUMBUFFER_COMPRESSION": "gzip"})._sender_settings[3] == "gzip"
    with pytest.raises(InvalidSetting, match="RUMBUFFER_COMPRESSION"):
        RumBuffer.from_env({**given, "RUMBUFFER_COMPRESSION": "snappy"})


def test_a_sender_of_the_users_compresses_by_itself() -> None:
    """With a sender of one's own the argument is refused, and the variable is not looked at."""
    with pytest.raises(InvalidSetting, match=r"sender.*compression"):
        RumBuffer(MONITOR, sender=AwsSender(), compression="gzip")
    environment = {"RUMBUFFER_APP_MONITOR_ID": MONITOR.id, "RUMBUFFER_COMPRESSION": "gzip"}
    assert RumBuffer.from_env(environment, sender=AwsSender())._sender_settings[3] is None
