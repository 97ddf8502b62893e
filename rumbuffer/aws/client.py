"""A client for RUM, made without stalling the loop.

What keeps a loop busy for 150 ms and more at the first `create_client` of a process is imports, JSON models
and garbage collections that fall into them. Here imports and models are loaded in a thread, so that what
is left for the loop is 5 ms. A thread still competes for the interpreter's lock, which it gives up every
5 ms unless one call of C code holds it: parsing botocore's `endpoints.json` (1.25 MB) does, for 25 to 50 ms
with `json`, and for 5 to 8 with orjson and no collection half-way (CPython 3.11, 2026-11).
"""

from __future__ import annotations

import copy
import gc
import gzip
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

__all__ = ["config_for", "is_own_host", "prepared_session", "user_agent"]


def prepared_session(session: Any, loader: Any) -> Any:
    """Return `session`, or a new one, with all loaded that `create_client` would load; for a thread.

    `loader` is the data loader of an earlier session of ours, so that files are parsed once. A session of
    the user's keeps its own way of loading.
    """
    from aiobotocore.session import AioSession

    if session is None:
        session = AioSession()
        if loader is None:
            session.get_component("data_loader").file_loader = _QuickFiles()
        else:
            session.register_component("data_loader", loader)
    session.get_scoped_config()
    loader = session.get_component("data_loader")
    for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        loader.load_data(name)
    for kind in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model("rum", kind)
    return session


class _QuickFiles:
    """Stands in for botocore's `JSONFileLoader`."""

    def exists(self, file_path: str) -> bool:
        return any(Path(file_path + suffix).is_file() for suffix, _ in _OPENERS)

    def load_file(self, file_path: str) -> Any:
        for suffix, opened in _OPENERS:
            if Path(file_path + suffix).is_file():
                with opened(file_path + suffix, "rb") as file:
                    return _loads_at_one_go(file.read())
        return None


_OPENERS: tuple[tuple[str, Callable[[str, str], Any]], ...] = ((".json", open), (".json.gz", gzip.open))


def _loads_at_one_go(data: bytes) -> Any:
    """Parse without a collection half-way.

    orjson holds the interpreter's lock throughout, so nothing else runs meanwhile that could miss the
    collector, and a full collection in there makes 35 ms of 8.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return orjson.loads(data)
    finally:
        if enabled:
            gc.enable()


def config_for(
    session: Any,
    given: Any,
    notice: Callable[[Any], Any],
    transports: list[Any] | None = None,
    **settings: Any,
) -> Any:
    """Return our `settings` with the user's `AioConfig` (or None) on them, and retries off in any case.

    `notice` makes the sockets where the HTTP client lets it: it is given the user's own factory, if any.
    The client's HTTP session is put into `transports` when it is made, if it is of aiobotocore's class for
    aiohttp.
    """
    from aiobotocore.config import AioConfig
    from botocore.exceptions import ParamValidationError

    config = AioConfig(user_agent=user_agent(session, given), **settings)
    connector_args = dict(config.connector_args)
    if given is not None:
        config = config.merge(given)
        connector_args |= getattr(given, "connector_args", None) or {}
    noticed = {**connector_args, "socket_factory": notice(connector_args.get("socket_factory"))}
    transport_class = _watched(getattr(given, "http_session_cls", None), transports)
    transport = {} if transport_class is None else {"http_session_cls": transport_class}
    try:
        last = AioConfig(connector_args=noticed, retries={"total_max_attempts": 1}, **transport)
    except ParamValidationError:
        # The httpx transport, or an aiobotocore without socket factories: kept connections cannot be told
        # from new ones there, and no failure is called stale.
        last = AioConfig(connector_args=connector_args, retries={"total_max_attempts": 1}, **transport)
    merged = config.merge(last)
    # merge() of older versions forgets these two.
    merged.connector_args, merged.http_session_cls = last.connector_args, last.http_session_cls
    return merged


def _watched(transport_class: Any, transports: list[Any] | None) -> Any:
    """Return the class with the noting of its objects, where there is to be one; `None` is the default."""
    from aiobotocore.httpsession import AIOHTTPSession

    base: Any = transport_class or AIOHTTPSession
    if transports is None or not issubclass(base, AIOHTTPSession):
        return transport_class
    note = transports.append

    class Watched(base):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            note(self)

    return Watched


def user_agent(session: Any, given: Any) -> str:
    """botocore's user-agent string as a constant; it builds it twice a call, a sixth of the CPU.

    What is lost is the list of botocore's features in use, which is AWS's statistics. What the session
    and the config add as "extra" is added by botocore itself.
    """
    from botocore.config import Config

    maker = copy.copy(session.get_component("user_agent_creator"))
    maker.set_session_config(session.user_agent_name, session.user_agent_version, None)
    app_id = getattr(given, "user_agent_appid", None) or session.get_config_variable("user_agent_appid")
    return str(maker.with_client_config(Config(user_agent_appid=app_id)).to_string())


def is_own_host(endpoint_url: str, partitions: Mapping[str, Any]) -> bool:
    """Whether the host is botocore's own `rum.<region>.<suffix>`, which needs the operation's prefix.

    `partitions` is botocore's data of that name. Any other host is a custom one and is taken as it is.
    """
    outputs = [partition["outputs"] for partition in partitions["partitions"]]
    suffixes = {output[key] for output in outputs for key in ("dnsSuffix", "dualStackDnsSuffix")}
    found = re.fullmatch(r"rum(?:-fips)?\.[a-z0-9-]+\.(.+)", urlsplit(endpoint_url).hostname or "")
    return found is not None and found[1] in suffixes
