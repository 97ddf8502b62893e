"""How the client is made, and what of the user's settings arrives in it."""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import botocore
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from rumbuffer.aws import AwsSender
from rumbuffer.aws.client import config_for, is_own_host, prepared_session
from rumbuffer.core.outcomes import Delivered, HoldScope, Misconfigured
from rumbuffer.emulator import Emulator
from tests.aws.conftest import Start
from tests.aws.helpers import Wire, answer, batch

AWS = Path(__file__).parent


def test_the_import_is_light() -> None:
    """Importing the sender imports neither aiobotocore nor botocore nor aiohttp."""
    heavy = ("aiobotocore", "botocore", "aiohttp")
    code = f"import rumbuffer.aws, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


_WHAT_THE_LOOP_DOES = """
import asyncio, json, sys, threading
import aiohttp, rumbuffer.aws

loop_thread, imported, opened = threading.main_thread(), [], []

def audit(event, arguments):
    if threading.current_thread() is loop_thread:
        if event == "import":
            imported.append(arguments[0])
        elif event == "open" and isinstance(arguments[0], str) and "botocore" in arguments[0]:
            opened.append(arguments[0])

async def main():
    sender = rumbuffer.aws.AwsSender(region_name="eu-west-1")
    sys.addaudithook(audit)
    await sender.start(max_in_flight=4)
    print(json.dumps({"imported": list(imported), "opened": list(opened), "sender": repr(sender)}))
    await sender.aclose()

asyncio.run(main())
"""


def test_the_loop_neither_imports_nor_loads(tmp_path: Path) -> None:
    """In a fresh process the loop's thread opens no file of botocore's and loads no module to speak of."""
    config = tmp_path / "botocore-config"
    config.write_text("[default]\nregion = eu-west-1\n")
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_CONFIG_FILE": str(config),
    }
    done = subprocess.run(
        [sys.executable, "-c", _WHAT_THE_LOOP_DOES],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    seen = json.loads(done.stdout)
    assert seen["sender"] == "<AwsSender ready>"
    assert seen["opened"] == []
    # What is left is small modules of the standard library that asyncio wants for its threads.
    assert [
        name for name in seen["imported"] if name.partition(".")[0] in {"aiobotocore", "botocore", "aiohttp"}
    ] == []


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("https://rum.eu-west-1.amazonaws.com", True),
        ("https://rum.cn-north-1.amazonaws.com.cn", True),
        ("https://rum-fips.us-gov-west-1.amazonaws.com", True),
        ("https://rum.eu-west-1.api.aws", True),
        ("https://RUM.eu-west-1.AMAZONAWS.com:443", True),
        ("https://dataplane.rum.eu-west-1.amazonaws.com", False),
        ("https://vpce-0abc.rum.eu-west-1.vpce.amazonaws.com", False),
        ("https://rum.eu-west-1.vpce.amazonaws.com", False),
        ("https://rum.amazonaws.com", False),
        ("http://rum.test", False),
        ("http://rum.eu-west-1.example.com", False),
        ("http://127.0.0.1:8080", False),
        ("http://[::1]:8080", False),
    ],
)
def test_which_hosts_are_botocores_own(url: str, own: bool) -> None:
    """A host is botocore's own when it is rum, a region and a suffix of one of its partitions."""
    partitions = AioSession().get_component("data_loader").load_data("partitions")
    assert is_own_host(url, partitions) is own


@pytest.mark.parametrize("way", ["argument", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_RUM", "profile"])
async def test_endpoints(
    way: str, emulator: Emulator, start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A custom endpoint is reached wherever it is set, without the host prefix."""
    monkeypatch.delenv("AWS_ENDPOINT_URL_RUM")
    arguments = {}
    if way == "argument":
        arguments["endpoint_url"] = emulator.endpoint_url
    elif way == "profile":
        config = tmp_path / "config"
        config.write_text(
            "[profile shop]\nservices = local\n"
            f"[services local]\nrum =\n  endpoint_url = {emulator.endpoint_url}\n"
        )
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        monkeypatch.setenv("AWS_PROFILE", "shop")
    else:
        monkeypatch.setenv(way, emulator.endpoint_url)
    sender = await start(**arguments)
    assert await sender.send(batch()) == Delivered()
    assert emulator.requests.accepted == 1


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        (None, "dataplane.rum.eu-west-1.amazonaws.com"),
        ("http://rum.eu-west-1.amazonaws.com", "dataplane.rum.eu-west-1.amazonaws.com"),
        ("http://rum.test", "rum.test"),
    ],
)
@pytest.mark.usefixtures("credentials")
async def test_hosts_through_a_proxy(
    endpoint: str | None, host: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """botocore's own host gets its prefix, another does not, and the environment's proxy is used."""
    async with Wire() as wire:
        monkeypatch.setenv("HTTP_PROXY", wire.url)
        monkeypatch.setenv("HTTPS_PROXY", wire.url)
        if endpoint is None:
            wire.answers.append(answer("502 Bad Gateway"))
        sender = await start(endpoint_url=endpoint)
        await sender.send(batch())
    line = wire.heads[0].splitlines()[0]
    assert line.startswith(f"CONNECT {host}:443" if endpoint is None else f"POST http://{host}/appmonitors/")


async def test_the_region_of_other_sdks(
    emulator: Emulator, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS_REGION counts where botocore, which does not read it, finds no region."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    sender = await start()
    assert await sender.send(batch()) == Delivered()


@pytest.mark.usefixtures("credentials")
async def test_settings_of_the_client(start: Start) -> None:
    """The pool takes what may be in flight, and reading and connecting take what the arguments say."""
    sender = await start(max_in_flight=23, read_timeout=3.0, connect_timeout=2.0)
    config = _config(sender)
    assert (config.max_pool_connections, config.read_timeout, config.connect_timeout) == (23, 3.0, 2.0)
    assert config.retries["total_max_attempts"] == 1


@pytest.mark.usefixtures("credentials")
async def test_settings_of_the_user(start: Start) -> None:
    """A client config goes before our settings, except that retries stay off."""
    given = AioConfig(
        connector_args={"keepalive_timeout": 3},
        max_pool_connections=7,
        read_timeout=1,
        retries={"mode": "standard", "max_attempts": 9},
        user_agent_appid="shop",
    )
    config = _config(await start(max_in_flight=23, client_config=given))
    assert (config.max_pool_connections, config.read_timeout) == (7, 1)
    assert config.retries["total_max_attempts"] == 1
    assert config.connector_args["keepalive_timeout"] == 3
    assert given.retries == {"mode": "standard", "max_attempts": 9}


def test_a_socket_factory_of_the_user() -> None:
    """A socket factory of the user's makes the sockets, through ours."""
    if "socket_factory" not in config_for(AioSession(), None, lambda _: socket.socket).connector_args:
        pytest.skip("this aiobotocore takes no socket factory")
    made: list[Any] = []

    def notice(factory: Any) -> Any:
        made.append(factory)
        return factory or socket.socket

    def factory(_: Any) -> socket.socket:
        raise AssertionError

    given = AioConfig()
    given.connector_args["socket_factory"] = factory  # type: ignore[typeddict-unknown-key, unused-ignore]
    config_for(AioSession(), given, notice)
    assert made == [factory]


def test_a_transport_without_sockets_of_ours() -> None:
    """A transport of the user's is kept, and one that takes no socket factory gets none."""
    pytest.importorskip("aiobotocore.httpxsession")
    from aiobotocore.httpxsession import HttpxSession

    config = config_for(AioSession(), AioConfig(http_session_cls=HttpxSession), lambda _: socket.socket)
    assert config.http_session_cls is HttpxSession
    assert "socket_factory" not in config.connector_args


async def test_the_user_agent(emulator: Emulator, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user agent is botocore's, with the user's application id and extras."""
    given = AioConfig(user_agent_appid="shop", user_agent_extra="lib/mine")
    async with Wire() as wire:
        await (await start(endpoint_url=wire.url, client_config=given)).send(batch())
    agent = next(line for line in wire.heads[0].splitlines() if line.lower().startswith("user-agent:"))
    assert "aiobotocore/" in agent
    assert "app/shop" in agent
    assert agent.endswith("lib/mine")
    assert agent.split().count(f"botocore/{botocore.__version__}") == 1


async def test_an_own_session(emulator: Emulator, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session of the user's brings its credentials, and its way of loading files stays."""
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    session = AioSession()
    session.set_credentials(emulator.access_key_id, emulator.secret_access_key)
    loader = session.get_component("data_loader").file_loader
    sender = await start(session=session)
    assert await sender.send(batch()) == Delivered()
    assert session.get_component("data_loader").file_loader is loader


def test_our_files_are_botocores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick loader gives what botocore's own gives, plain and gzipped, and None for no file."""
    plain = AioSession().get_component("data_loader")
    quick = prepared_session(None, None).get_component("data_loader")
    assert quick.load_data("endpoints") == plain.load_data("endpoints")
    assert quick.load_service_model("rum", "service-2") == plain.load_service_model("rum", "service-2")
    assert quick.file_loader.load_file("/nowhere") is None
    assert gc.isenabled()


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_left_as_it_was(enabled: bool) -> None:
    """Loading leaves the garbage collector as it was, on or off."""
    if not enabled:
        gc.disable()
    try:
        prepared_session(None, None)
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


_BROKEN: list[tuple[str, dict[str, str | None], dict[str, Any], str]] = [
    ("no region", {"AWS_REGION": None, "AWS_DEFAULT_REGION": None}, {}, "NoRegionError"),
    ("profile", {"AWS_PROFILE": "nowhere"}, {}, "ProfileNotFound"),
    ("endpoint", {}, {"endpoint_url": "http://ann:hunter2@bad host"}, "ValueError"),
    ("region", {}, {"region_name": "eu west 1"}, "InvalidRegionError"),
    ("half the credentials", {"AWS_SECRET_ACCESS_KEY": None}, {}, "PartialCredentialsError"),
    ("no credentials", {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, {}, "NoCredentialsError"),
    ("CA bundle", {"AWS_CA_BUNDLE": "/nowhere/ca.pem"}, {}, "HTTPClientError"),
]


@pytest.mark.parametrize(
    ("environment", "arguments", "code"), [row[1:] for row in _BROKEN], ids=[r[0] for r in _BROKEN]
)
async def test_broken_settings(
    environment: dict[str, str | None],
    arguments: dict[str, Any],
    code: str,
    emulator: Emulator,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broken setting raises nothing, holds the sender with a text, and mends as soon as it is mended."""
    if "endpoint_url" not in arguments and code == "NoRegionError":
        monkeypatch.delenv("AWS_ENDPOINT_URL_RUM")
    with monkeypatch.context() as patch:
        for name, value in environment.items():
            patch.delenv(name) if value is None else patch.setenv(name, value)
        sender = await start(**arguments)
        outcome = await sender.send(batch())
        assert isinstance(outcome, Misconfigured)
        assert (outcome.scope, outcome.code) == (HoldScope.SENDER, code)
        assert outcome.message
        assert "hunter2" not in outcome.message
    if not arguments:
        monkeypatch.setenv("AWS_ENDPOINT_URL_RUM", emulator.endpoint_url)
        assert await sender.send(batch()) == Delivered()


def _config(sender: AwsSender) -> Any:
    assert sender._link is not None
    return sender._link.client.meta.config
