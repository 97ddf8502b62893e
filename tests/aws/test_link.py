"""The short way of a call through the client, against the long one and against plain aiobotocore."""

from __future__ import annotations

import re
from typing import Any

import botocore
import botocore.handlers
import orjson
import pytest
from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession

from rumbuffer.aws import AwsSender
from rumbuffer.core.outcomes import Delivered, HoldScope, Misconfigured
from rumbuffer.emulator import Credentials, Emulator
from tests.aws.conftest import Start
from tests.aws.helpers import Wire, batch

LONG = "before-sign.rum.PutRumEvents"
"""An event of botocore's that only the long way emits."""

_VARYING = re.compile(
    r"(?<=X-Amz-Date: )\w+|(?<=Signature=)\w+|(?<=/)\d{8}(?=/)|(?<=amz-sdk-invocation-id: )[\w-]{36}"
)
"""What differs from call to call."""


def _fixed(head: str) -> str:
    return _VARYING.sub("…", head)


def _calls(sender: AwsSender, event: str) -> list[str]:
    """A list that grows with each call that emits the event."""
    seen: list[str] = []
    assert sender._link is not None
    sender._link.client.meta.events.register(event, lambda event_name, **_: seen.append(event_name))
    return seen


_CONFIGS = [
    {},
    {"user_agent_appid": "shop", "user_agent_extra": "lib/mine"},
    {"user_agent": "mine/1"},
    {"parameter_validation": True},
    {"retries": {"mode": "standard", "max_attempts": 9}},
]


@pytest.mark.parametrize("config", _CONFIGS, ids=str)
@pytest.mark.parametrize("token", [None, "a-session-token"])
@pytest.mark.parametrize("compression", [None, "gzip"])
async def test_the_wire_is_the_same(
    config: dict[str, Any],
    token: str | None,
    compression: Any,
    emulator: Emulator,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both ways send the same bytes, in the same order, but for time, invocation id and signature."""
    if token is not None:
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    sent = batch(30)
    async with Wire() as wire:
        for session in (None, AioSession()):
            sender = await start(
                endpoint_url=f"{wire.url}/a%20b/../c",
                session=session,
                client_config=AioConfig(**config),
                compression=compression,
            )
            long = _calls(sender, LONG)
            assert await sender.send(sent) == Delivered()
            assert len(long) == (session is not None)
    short, long_way = wire.heads
    assert _fixed(short) == _fixed(long_way)
    assert wire.bodies[0] == wire.bodies[1]


async def test_it_is_plain_aiobotocores_request(emulator: Emulator, start: Start) -> None:
    """A plain `put_rum_events` has the same head, but for user agent and length, and the same document."""
    sent = batch(3)
    document = orjson.loads(sent.body())
    config = AioConfig(inject_host_prefix=False)
    async with Wire() as wire:
        async with AioSession().create_client("rum", endpoint_url=wire.url, config=config) as client:
            await client.put_rum_events(Id=sent.app_monitor.id, **document)
        await (await start(endpoint_url=wire.url)).send(sent)
    theirs, ours = (
        re.sub(r"(?<=User-Agent: )[^\r]*|(?<=Content-Length: )\d+", "…", _fixed(head)) for head in wire.heads
    )
    assert ours == theirs
    if not botocore.__version__.startswith("1.38."):  # which drops the fractions of timestamps
        assert orjson.loads(wire.bodies[0]) == document


async def test_the_signature_covers_a_session_token(emulator: Emulator, start: Start) -> None:
    """Temporary credentials are signed with, and their token is sent."""
    emulator.credentials = Credentials("AKIDTEMP", "temp", "token")
    session = {"AWS_ACCESS_KEY_ID": "AKIDTEMP", "AWS_SECRET_ACCESS_KEY": "temp", "AWS_SESSION_TOKEN": "token"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in session.items():
            patch.setenv(name, value)
        sender = await start()
        long = _calls(sender, LONG)
        assert await sender.send(batch()) == Delivered()
    assert long == []


async def test_handlers_of_the_users_session_are_called(emulator: Emulator, start: Start) -> None:
    """Each event of a call reaches the handlers that a session of the user's has."""
    session, seen = AioSession(), []
    events = ["before-call", "request-created", "choose-signer", "before-sign", "before-send", "after-call"]
    for event in events:
        session.register(f"{event}.rum", lambda event_name, **_: seen.append(event_name.partition(".")[0]))
    assert await (await start(session=session)).send(batch()) == Delivered()
    assert sorted(seen) == sorted(events)


async def test_what_answers_in_place_of_the_network(
    emulator: Emulator, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that a test library sets for all clients of the process keeps calls from the network."""
    asked: list[Any] = []

    class Nothing:
        history = ()

    def stub(request: Any, **_: object) -> AioAWSResponse:
        asked.append(request)
        return AioAWSResponse(request.url, 200, {}, Nothing())

    handlers = [*botocore.handlers.BUILTIN_HANDLERS, ("before-send", stub)]
    monkeypatch.setattr(botocore.handlers, "BUILTIN_HANDLERS", handlers)
    sender, sent = await start(), batch(2)
    long = _calls(sender, LONG)
    assert await sender.send(sent) == Delivered()
    assert (emulator.requests.received, long) == (0, [])
    assert [(request.method, request.body) for request in asked] == [("POST", sent.body())]
    assert "AWS4-HMAC-SHA256" in asked[0].headers["Authorization"]


async def test_a_context_that_asks_for_more(sender: AwsSender, emulator: Emulator) -> None:
    """A call whose context holds what is not known goes the long way."""
    assert sender._link is not None
    long = _calls(sender, LONG)

    def ask(context: dict[str, Any], **_: object) -> None:
        context["checksum"] = {}

    sender._link.client.meta.events.register("before-parameter-build.rum.PutRumEvents", ask)
    assert await sender.send(batch()) == Delivered()
    assert len(long) == 1


async def test_no_signature(emulator: Emulator, start: Start) -> None:
    """A config that wants no signature gets none, by botocore's own way."""
    config = AioConfig(signature_version=botocore.UNSIGNED)
    async with Wire() as wire:
        sender = await start(endpoint_url=wire.url, client_config=config)
        assert await sender.send(batch()) == Delivered()
    assert "authorization" not in wire.heads[0].lower()


async def test_another_signature(emulator: Emulator, start: Start) -> None:
    """A config that names another signature gets that one, which tells the hash of the body here."""
    async with Wire() as wire:
        sender = await start(endpoint_url=wire.url, client_config=AioConfig(signature_version="s3v4"))
        assert await sender.send(batch()) == Delivered()
    assert "X-Amz-Content-SHA256: " in wire.heads[0]


async def test_no_credentials(emulator: Emulator, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials botocore says so, and nothing is sent."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    outcome = await (await start()).send(batch())
    assert isinstance(outcome, Misconfigured)
    assert (outcome.scope, outcome.code) == (HoldScope.SENDER, "NoCredentialsError")
    assert emulator.requests.received == 0


async def test_a_transport_of_the_users(emulator: Emulator, start: Start) -> None:
    """An HTTP session class of the user's, derived from aiobotocore's, carries the short way too."""
    seen: list[Any] = []

    class Mine(AIOHTTPSession):  # type: ignore[misc]
        async def send(self, request: Any) -> Any:
            seen.append(request)
            return await super().send(request)

    sender = await start(client_config=AioConfig(http_session_cls=Mine))
    long = _calls(sender, LONG)
    assert await sender.send(batch()) == Delivered()
    assert (len(seen), long) == (1, [])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # aiobotocore's, of some versions of httpx
async def test_a_transport_that_is_not_aiobotocores(emulator: Emulator, start: Start) -> None:
    """httpx carries calls the long way."""
    pytest.importorskip("httpx")
    from aiobotocore.httpxsession import HttpxSession

    sender = await start(client_config=AioConfig(http_session_cls=HttpxSession))
    long = _calls(sender, LONG)
    assert await sender.send(batch()) == Delivered()
    assert len(long) == 1


async def test_the_header_of_lambda(
    emulator: Emulator, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What botocore's own handlers add to the headers, as in Lambda, is sent."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "shop")
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988-bd862e3fe1be46a994272793")
    async with Wire() as wire:
        assert await (await start(endpoint_url=wire.url)).send(batch()) == Delivered()
    assert "X-Amzn-Trace-Id: Root" in wire.heads[0]
