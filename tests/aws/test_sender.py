"""The sender at work, over real sockets."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import subprocess
import threading
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import orjson
import pytest

import rumbuffer.aws.link
import rumbuffer.aws.sender
from rumbuffer.aws import AwsSender
from rumbuffer.aws.client import prepared_session
from rumbuffer.core.outcomes import (
    Delivered,
    Failed,
    HoldScope,
    Misconfigured,
    Outcome,
    Rejected,
    Throttled,
    TooLarge,
)
from rumbuffer.emulator import Credentials, Emulator, Fault
from rumbuffer.sender import Sender
from tests.aws.conftest import Start
from tests.aws.helpers import MONITOR, OK, Wire, answer, batch

_OWN_SESSION = pytest.mark.parametrize("way", ["short"])
"""For what a session of the user's does by its own lights: it keeps the credentials that it found."""


@pytest.fixture(params=["short", "long"])
def way(request: pytest.FixtureRequest) -> str:
    """Both ways through the client: what comes of a call is the same."""
    return str(request.param)


async def test_it_is_a_sender(sender: AwsSender) -> None:
    """The class is what the protocol asks for."""
    checked: Sender = sender
    assert repr(checked) == "<AwsSender ready>"


async def test_a_batch_arrives_as_it_is(sender: AwsSender, emulator: Emulator) -> None:
    """The signed bytes that arrive are the batch's own, under its app monitor."""
    sent = batch(100)
    assert await sender.send(sent) == Delivered()
    (received,) = emulator.batches
    assert received.body == sent.body()
    assert received.app_monitor_id == MONITOR.id


async def test_session_metadata_travels(sender: AwsSender, emulator: Emulator) -> None:
    """Session attributes arrive as SessionMetadata, whether botocore knows the name or not."""
    await sender.send(batch(attributes=orjson.dumps('{"domain":"example.com"}')))
    assert emulator.batches[0].session_metadata == '{"domain":"example.com"}'


async def test_headers_suit_the_body(emulator: Emulator, start: Start) -> None:
    """The request has the content type and the length of our body, and is neither chunked nor held back."""
    async with Wire() as wire:
        sent = batch(30)
        await (await start(endpoint_url=wire.url)).send(sent)
    head = {
        name.lower(): value
        for name, _, value in (line.partition(": ") for line in wire.heads[0].splitlines())
    }
    assert wire.heads[0].startswith(f"POST /appmonitors/{MONITOR.id}/ HTTP/1.1")
    assert head["content-length"] == str(len(sent.body()))
    assert head["content-type"] == "application/json"
    assert not {"transfer-encoding", "expect", "content-encoding"} & set(head)


async def test_many_at_once_keep_their_bodies(sender: AwsSender, emulator: Emulator) -> None:
    """Many concurrent sends over a smaller pool each carry their own batch."""
    batches = [batch(number % 7) for number in range(60)]
    outcomes = await asyncio.gather(*map(sender.send, batches))
    assert outcomes == [Delivered()] * 60
    assert {each.batch_id: each.body for each in emulator.batches} == {
        each.id: each.body() for each in batches
    }


async def test_many_at_once_keep_their_answers(sender: AwsSender, emulator: Emulator) -> None:
    """Calls that take turns before they are sent and after each get their own body and their own answer."""
    assert sender._link is not None

    async def pause(**_: object) -> None:
        await asyncio.sleep(0)

    sender._link.client.meta.events.register("before-parameter-build.rum.PutRumEvents", pause)
    sender._link.client.meta.events.register("before-call.rum.PutRumEvents", pause)
    emulator.script(*(Fault.throttle(retry_after=seconds) for seconds in range(20)))
    batches = [batch() for _ in range(40)]
    outcomes = await asyncio.gather(*map(sender.send, batches))
    refused = sorted(outcome.retry_after or 0.0 for outcome in outcomes if isinstance(outcome, Throttled))
    assert refused == [float(seconds) for seconds in range(20)]
    accepted = {each.id for each, outcome in zip(batches, outcomes, strict=True) if outcome == Delivered()}
    assert {each.batch_id for each in emulator.batches} == accepted


_ANSWERS: list[tuple[Fault, Outcome]] = [
    (Fault.ok(), Delivered()),
    (Fault.garbage(), Delivered()),
    (Fault.garbage(b"\xff\xfe"), Delivered()),
    (Fault.garbage(b"[1]"), Delivered()),
    (Fault.garbage(b"", status=204), Delivered()),
    (Fault.throttle(), Throttled(None)),
    (Fault.throttle(retry_after=3), Throttled(3.0)),
    (Fault.throttle(retry_after="2.5"), Throttled(2.5)),
    (Fault.throttle(retry_after="soon"), Throttled(None)),
    (Fault.throttle(retry_after="Wed, 01 Jan 2025 00:00:00 GMT"), Throttled(0.0)),
    (Fault.throttle(body=b""), Throttled(None)),
    (Fault.status(400), Rejected("ValidationException")),
    (Fault.status(400, body=b"<html>Bad Request</html>"), Failed("HTTP 400")),
    (Fault.status(400, body=b"[1]"), Failed("HTTP 400")),
    (Fault.status(400, body=b'{"__type":7}'), Failed("HTTP 400")),
    (Fault.status(400, body=b'{"code":["x"]}'), Failed("HTTP 400")),
    (Fault.status(400, body=b'{"__type":"com.amazon#ValidationException"}'), Rejected("ValidationException")),
    (Fault.status(413), TooLarge("HTTP 413")),
    (Fault.status(500, retry_after=4), Failed("InternalServerException", 4.0)),
    (Fault.status(500, retry_after="Thu, 01 Jan 1970 00:00:00 GMT"), Failed("InternalServerException", 0.0)),
    (Fault.status(502, body=b"<html>Bad Gateway</html>"), Failed("HTTP 502")),
    (Fault.status(503, body=b'{"code":"SlowDown"}'), Throttled(None)),
    (Fault.status(503, body=b""), Failed("HTTP 503")),
    (Fault.cut_answer(), Failed("ConnectionClosedError (ClientPayloadError)")),
]


@pytest.mark.parametrize(("fault", "expected"), _ANSWERS)
async def test_answers(fault: Fault, expected: Outcome, sender: AwsSender, emulator: Emulator) -> None:
    """An answer becomes its outcome after one try, and the sender goes on."""
    emulator.script(fault)
    assert await sender.send(batch()) == expected
    assert emulator.requests.received == 1
    assert await sender.send(batch()) == Delivered()


@pytest.mark.parametrize("status", [403, 404])
async def test_app_monitors_that_refuse(status: Any, sender: AwsSender, emulator: Emulator) -> None:
    """A refusal of the app monitor holds that app monitor and keeps the client."""
    link = sender._link
    emulator.fail_monitor(MONITOR.id, status)
    outcome = await sender.send(batch())
    assert isinstance(outcome, Misconfigured)
    assert outcome.scope is HoldScope.APP_MONITOR
    assert sender._link is link


async def test_retry_after_counts_from_the_servers_clock(emulator: Emulator, start: Start) -> None:
    """A date in Retry-After is counted from the answer's own Date, so that our clock does not matter."""
    headers = ("Date: Thu, 01 Jan 2026 00:00:00 GMT", "Retry-After: Thu, 01 Jan 2026 00:00:30 GMT")
    async with Wire(answer("503 Busy", *headers)) as wire:
        assert await (await start(endpoint_url=wire.url)).send(batch()) == Failed("HTTP 503", 30.0)


async def test_a_wrong_clock_is_told(emulator: Emulator, start: Start) -> None:
    """A signature that is refused for its time holds the sender, with how far the clocks differ."""
    refusal = answer(
        "403 Forbidden",
        f"Date: {formatdate(time.time() + 7200, usegmt=True)}",
        body=b'{"__type":"InvalidSignatureException","message":"Signature expired"}',
    )
    async with Wire(refusal) as wire:
        outcome = await (await start(endpoint_url=wire.url)).send(batch())
    assert isinstance(outcome, Misconfigured)
    assert outcome.scope is HoldScope.SENDER
    assert "s behind the service's" in outcome.message


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other"])
async def test_a_redirect_is_no_delivery(status: str, emulator: Emulator, start: Start) -> None:
    """A redirect that ends in a 200 delivered nothing: the sender is held and told where it leads."""
    async with Wire() as wire:
        wire.answers.append(answer(status, f"Location: {wire.url}/login?token=hunter2"))
        outcome = await (await start(endpoint_url=wire.url)).send(batch())
    assert isinstance(outcome, Misconfigured)
    assert (outcome.scope, outcome.code) == (HoldScope.SENDER, "Redirected")
    assert "http://localhost" in outcome.message
    assert "hunter2" not in outcome.message
    assert wire.heads[1].startswith("GET /login")


async def test_a_redirect_to_what_is_no_json(emulator: Emulator, start: Start) -> None:
    """A redirect is seen as one whatever the page at its end looks like."""
    async with Wire() as wire:
        wire.answers += [
            answer("302 Found", f"Location: {wire.url}/login"),
            answer("200 OK", body=b"\xff\xfe"),
        ]
        outcome = await (await start(endpoint_url=wire.url)).send(batch())
    assert isinstance(outcome, Misconfigured)
    assert outcome.code == "Redirected"


async def test_a_redirect_that_keeps_the_request(emulator: Emulator, start: Start) -> None:
    """After a 307 the request is repeated whole, and its answer counts."""
    async with Wire() as wire:
        wire.answers.append(answer("307 Temporary Redirect", f"Location: {wire.url}/elsewhere"))
        assert await (await start(endpoint_url=wire.url)).send(batch()) == Delivered()
    assert wire.heads[1].startswith("POST /elsewhere")


# Connections


async def test_a_refused_connection(emulator: Emulator, start: Start) -> None:
    """A refused connection fails as unsent, and the sender goes on when the service is back."""
    sender = await start()
    await emulator.stop()
    assert await sender.send(batch()) == Failed(
        "EndpointConnectionError (ConnectionRefusedError)", unsent=True
    )
    await emulator.start()
    assert await sender.send(batch()) == Delivered()


async def test_an_unknown_host(emulator: Emulator, start: Start) -> None:
    """A host that does not resolve fails as unsent."""
    outcome = await (await start(endpoint_url="http://nowhere.invalid")).send(batch())
    assert isinstance(outcome, Failed)
    assert outcome.unsent


@pytest.fixture
def knows_kept_connections(sender: AwsSender) -> None:
    """Skip where aiobotocore takes no socket factory, so that no failure is called stale."""
    if sender._link is None or not sender._link._tells:
        pytest.skip("this aiobotocore takes no socket factory")


@pytest.mark.usefixtures("knows_kept_connections")
async def test_a_reset_on_a_kept_connection_is_stale(sender: AwsSender, emulator: Emulator) -> None:
    """A reset before any answer is stale on a kept connection, and not on one opened for the batch."""
    emulator.script(Fault.reset())
    fresh = await sender.send(batch())
    assert fresh == Failed("EndpointConnectionError (ClientOSError)")
    assert await sender.send(batch()) == Delivered()
    emulator.script(Fault.reset())
    assert await sender.send(batch()) == Failed(
        "EndpointConnectionError (ClientOSError)", stale_connection=True
    )


@pytest.mark.usefixtures("knows_kept_connections")
@pytest.mark.parametrize(
    ("last", "stale"),
    [
        (None, True),
        (b"HTTP/1.1 200 OK\r\nX: CLOSE", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{CLOSE", False),
    ],
    ids=["nothing", "half a head", "half a body"],
)
async def test_a_close_on_a_kept_connection(last: bytes | None, stale: bool, start: Start) -> None:
    """A close on a kept connection is stale if no byte of an answer came, and a plain failure else."""
    async with Wire(OK, last) as wire:
        sender = await start(endpoint_url=wire.url)
        assert await sender.send(batch()) == Delivered()
        outcome = await sender.send(batch())
    assert isinstance(outcome, Failed)
    assert outcome.stale_connection is stale
    assert not outcome.unsent


async def test_a_silent_service(emulator: Emulator, start: Start) -> None:
    """A service that does not answer within the read timeout fails the batch, which may be stored."""
    sender = await start(read_timeout=0.05)
    emulator.script(Fault.hang())
    outcome = await sender.send(batch())
    assert isinstance(outcome, Failed)
    assert outcome.reason.startswith("ReadTimeoutError")
    assert not outcome.unsent


async def test_what_is_no_http(emulator: Emulator, start: Start) -> None:
    """An answer that is no HTTP fails with the name of the exception."""
    async with Wire(b"SSH-2.0-OpenSSH_9.2\r\n\r\n") as wire:
        outcome = await (await start(endpoint_url=wire.url)).send(batch())
    assert isinstance(outcome, Failed)
    assert not outcome.unsent


async def test_what_nobody_foresaw(sender: AwsSender) -> None:
    """An exception from anywhere in the call is an outcome, unsent if it came before the sending."""
    assert sender._link is not None

    def broken(**_: object) -> None:
        raise RuntimeError("hunter2")

    sender._link.client.meta.events.register("before-call.rum.PutRumEvents", broken)
    assert await sender.send(batch()) == Failed("RuntimeError", unsent=True)


async def test_a_delivery_stays_one(sender: AwsSender) -> None:
    """What is raised after a 2xx has arrived does not undo the delivery."""
    assert sender._link is not None

    def broken(**_: object) -> None:
        raise RuntimeError

    sender._link.client.meta.events.register("after-call.rum.PutRumEvents", broken)
    assert await sender.send(batch()) == Delivered()


async def test_cancellation_passes_through(sender: AwsSender, emulator: Emulator) -> None:
    """A cancelled send raises CancelledError, and the client goes on to send."""
    emulator.script(Fault.hang(), Fault.hang())
    tasks = [asyncio.create_task(sender.send(batch())) for _ in range(2)]
    await emulator.until(lambda seen: seen.requests.failed == 2)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert sender._link is not None
    assert sender._link.users == 0
    assert await asyncio.gather(*(sender.send(batch()) for _ in range(8))) == [Delivered()] * 8


# Credentials and certificates


@_OWN_SESSION
async def test_credentials_that_the_service_refuses(
    emulator: Emulator, start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Refused credentials hold the sender, and others in the file are found at the next send."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    file.write_text("[default]\naws_access_key_id = AKIDOLD\naws_secret_access_key = old\n")
    sender = await start()
    outcome = await sender.send(batch())
    assert isinstance(outcome, Misconfigured)
    assert (outcome.scope, outcome.code) == (HoldScope.SENDER, "UnrecognizedClientException")
    file.write_text(
        f"[default]\naws_access_key_id = {emulator.access_key_id}\n"
        f"aws_secret_access_key = {emulator.secret_access_key}\n"
    )
    assert await sender.send(batch()) == Delivered()


async def test_credentials_are_refreshed(
    emulator: Emulator, start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Credentials that expire are fetched again by botocore, without a new client."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    given = {"Version": 1, "AccessKeyId": "AKIDTEMP", "SecretAccessKey": "temp", "SessionToken": "token"}
    emulator.credentials = Credentials("AKIDTEMP", "temp", "token")
    counted, config = tmp_path / "counted", tmp_path / "config"
    script = tmp_path / "credentials.sh"
    # Within the quarter of an hour before they expire, botocore fetches at each use.
    expiry = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 300))
    script.write_text(
        f"echo x >> {counted}\ncat <<'END'\n{orjson.dumps({**given, 'Expiration': expiry}).decode()}\nEND\n"
    )
    config.write_text(f"[default]\ncredential_process = sh {script}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    sender = await start()
    link = sender._link
    assert await sender.send(batch()) == Delivered()
    before = len(counted.read_text())
    assert await sender.send(batch()) == Delivered()
    assert len(counted.read_text()) > before
    assert sender._link is link


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for localhost, with its key beside it."""
    made = tmp_path / "made.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += [
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        str(tmp_path / "key.pem"),
        "-out",
        str(made),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl to make a certificate with")
    return made


@_OWN_SESSION
@pytest.mark.usefixtures("credentials")
async def test_ca_bundles(
    certificate: Path, start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A certificate nobody knows holds the sender, and AWS_CA_BUNDLE with it mends that."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, tmp_path / "key.pem")
    async with Wire(tls=context) as wire:
        sender = await start(endpoint_url=wire.url)
        outcome = await sender.send(batch())
        assert isinstance(outcome, Misconfigured)
        assert (outcome.scope, outcome.code) == (HoldScope.SENDER, "SSLError")
        assert "self-signed" in outcome.message
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        assert await sender.send(batch()) == Delivered()
        await sender.aclose()


# The client's life


@_OWN_SESSION
async def test_one_try_for_all_who_wait(
    emulator: Emulator, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sends that find no client share one try to make it, good or bad."""
    tries: list[object] = []

    def counted(*arguments: Any) -> Any:
        tries.append(arguments)
        return prepared_session(*arguments)

    monkeypatch.setattr(rumbuffer.aws.sender, "prepared_session", counted)
    monkeypatch.setenv("AWS_PROFILE", "nowhere")
    sender = await start()
    outcomes = await asyncio.gather(*(sender.send(batch()) for _ in range(20)))
    assert all(isinstance(outcome, Misconfigured) for outcome in outcomes)
    assert len(tries) == 2
    monkeypatch.delenv("AWS_PROFILE")
    assert await asyncio.gather(*(sender.send(batch()) for _ in range(20))) == [Delivered()] * 20
    assert len(tries) == 3


@_OWN_SESSION
async def test_a_second_start(emulator: Emulator, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start makes the client again if there is none, and keeps it if there is one."""
    monkeypatch.setenv("AWS_PROFILE", "nowhere")
    sender = await start()
    assert repr(sender) == "<AwsSender without a client>"
    monkeypatch.delenv("AWS_PROFILE")
    await sender.start(max_in_flight=4)
    link = sender._link
    assert link is not None
    await sender.start(max_in_flight=4)
    assert sender._link is link


@_OWN_SESSION
async def test_a_cancelled_try(emulator: Emulator, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the send that makes the client is cancelled, the next in line makes it."""
    go, entered = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(*arguments: Any) -> Any:
        loop.call_soon_threadsafe(entered.set)
        go.wait(10)
        return prepared_session(*arguments)

    sender = AwsSender()
    monkeypatch.setattr(rumbuffer.aws.sender, "prepared_session", slow)
    first, second = (asyncio.create_task(sender.send(batch())) for _ in range(2))
    await entered.wait()
    first.cancel()
    go.set()
    assert await second == Delivered()
    assert first.cancelled()
    await sender.aclose()


@_OWN_SESSION
async def test_a_close_while_the_client_is_made(
    emulator: Emulator, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender that is closed while it makes its client ends up with none."""
    go, entered = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(*arguments: Any) -> Any:
        loop.call_soon_threadsafe(entered.set)
        go.wait(10)
        return prepared_session(*arguments)

    sender = AwsSender()
    monkeypatch.setattr(rumbuffer.aws.sender, "prepared_session", slow)
    sending = asyncio.create_task(sender.send(batch()))
    await entered.wait()
    await sender.aclose()
    go.set()
    assert await sending == Failed("the sender is closed", unsent=True)
    assert sender._link is None


async def test_a_close_frees_everything(emulator: Emulator) -> None:
    """After a close nothing is left to warn of, a second one does nothing, and a send is unsent."""
    sender = AwsSender()
    await sender.start(max_in_flight=4)
    await asyncio.gather(*(sender.send(batch()) for _ in range(8)))
    await sender.aclose()
    await sender.aclose()
    assert repr(sender) == "<AwsSender closed>"
    assert await sender.send(batch()) == Failed("the sender is closed", unsent=True)
    del sender
    gc.collect()  # an unclosed connector would warn, and warnings are errors here


async def test_a_close_before_any_start() -> None:
    """A sender that was never started can be closed."""
    await AwsSender().aclose()


async def test_a_close_fails_what_is_in_flight(sender: AwsSender, emulator: Emulator) -> None:
    """A send that is in flight at the close comes back as a failure."""
    emulator.script(Fault.hang())
    sending = asyncio.create_task(sender.send(batch()))
    await emulator.until(lambda seen: seen.requests.failed == 1)
    await sender.aclose()
    assert isinstance(await sending, Failed)


async def test_a_retired_client_lives_until_its_last_answer(
    sender: AwsSender, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that is taken out of use is closed when no send uses it any more."""
    closed: list[str] = []
    link = sender._link
    assert link is not None
    monkeypatch.setattr(link.client, "close", _closing(link.client.close, closed))
    emulator.script(Fault.hang(), Fault.status(401, body=b""))
    hanging = asyncio.create_task(sender.send(batch()))
    await emulator.until(lambda seen: seen.requests.failed == 1)
    assert isinstance(await sender.send(batch()), Misconfigured)
    assert await sender.send(batch()) == Delivered()
    assert sender._link is not link
    assert not closed
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)
    assert await sender.send(batch()) == Delivered()
    assert closed == ["closed"]


async def test_a_retired_client_that_does_not_close(
    sender: AwsSender,
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The answer that came counts, whatever goes wrong with an old client behind it."""
    link = sender._link
    assert link is not None

    async def fail() -> None:
        raise OSError("secret text")

    close = link.client.close
    monkeypatch.setattr(link.client, "close", fail)
    emulator.script(Fault.status(401, body=b""))
    assert isinstance(await sender.send(batch()), Misconfigured)
    assert caplog.messages == ["rumbuffer: an old client could not be closed (OSError)"]
    assert await sender.send(batch()) == Delivered()
    await close()


def _closing(close: Any, closed: list[str]) -> Any:
    async def closing() -> None:
        closed.append("closed")
        await close()

    return closing


def test_sockets_are_made_outside_of_a_send_too() -> None:
    """The socket factory makes a socket as asked, whether a send is going on or not, or lets the user's."""
    factory = rumbuffer.aws.link.noticed(None)
    made = factory((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0)))
    assert made.family is socket.AF_INET
    assert rumbuffer.aws.link.noticed(lambda _: made)(None) is made
    made.close()
