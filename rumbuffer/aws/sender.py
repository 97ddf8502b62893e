"""`AwsSender`, one call of it, and the hooks that tie the call to its batch.

**The body is ours.** The API call is made with the least that botocore accepts, and a handler on
`before-call.rum.PutRumEvents` puts `batch.body()` in place of what was serialised: the cost of a call does
not grow with its events, and the bytes are the same in every try. That event comes after serialising and
endpoint rules, and before compression, checksums, the request object (which takes Content-Length from
the body) and signing, so all of these see our bytes (aiobotocore 3.10, `client.py`, `endpoint.py`).
PutRumEvents has no trait for compression, checksums or chunks, and `Expect: 100-continue` is S3's.

**A context variable ties the hooks to their call**, not the request context, for `before-parse` and the
socket factory are told nothing of the call that they work for. It is sound with many calls at once: each
send awaits botocore in a task, and so in a context, of its own; botocore calls its hooks in that task; and
the tasks that are started on the way (connections that race) inherit the context. The hooks sit on this
client alone, and nobody else calls it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from rumbuffer.aws.answers import Answer, code_of, http_date, outcome_of_answer, seconds
from rumbuffer.aws.client import config_for, is_own_host, prepared_session
from rumbuffer.aws.errors import outcome_at_start, outcome_of_exception
from rumbuffer.core.outcomes import Delivered, Failed, HoldScope, Misconfigured, Outcome
from rumbuffer.core.sealed import SealedBatch

if TYPE_CHECKING:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession

__all__ = ["AwsSender"]

_CLOSED = Failed("the sender is closed", unsent=True)


class AwsSender:
    """Sends through one aiobotocore client that lives as long as the sender; a `Sender`.

    Region, credentials, profile, endpoint, proxies and CA bundle are what botocore's chain gives; where
    it gives no region, `AWS_REGION` counts.

    - `region_name`, `endpoint_url`: as for `create_client`. A custom endpoint, wherever it is set, gets
      no `dataplane.` before its host, unless the host is botocore's own `rum.<region>.<suffix>`.
    - `session`: an `AioSession` to use in place of an own one.
    - `client_config`: an `AioConfig` that goes before our settings. Only retries stay off whatever it
      says, for the buffer retries by itself; the pool takes `max_in_flight` connections if it says nothing.
    - `read_timeout`, `connect_timeout`: seconds, the longest silence of the service and the longest wait
      for a connection.

    A setting that does not work raises nothing: `send` answers `Misconfigured`, and the next one, or
    another `start`, makes the client again (with an own session from scratch: files are read anew).
    Many sends may run at once, on one event loop; a cancelled one leaves the client as it was.
    """

    def __init__(
        self,
        *,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        session: AioSession | None = None,
        client_config: AioConfig | None = None,
        read_timeout: float = 10.0,
        connect_timeout: float = 5.0,
    ) -> None:
        self._region_name = region_name
        self._endpoint_url = endpoint_url
        self._session = session
        self._client_config = client_config
        self._read_timeout = read_timeout
        self._connect_timeout = connect_timeout
        self._max_in_flight = 32
        self._loader: Any = None
        self._link: _Link | None = None
        self._retired: set[_Link] = set()
        self._making = asyncio.Lock()
        self._tries = 0
        self._problem: Outcome | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "ready" if self._link else "without a client"
        return f"<AwsSender {state}>"

    async def start(self, *, max_in_flight: int) -> None:
        """Make the client, for that many requests at once; what goes wrong shows at `send`.

        Takes about 0.2 s at the first time in a process, in a thread. Call it again to try again.
        """
        self._max_in_flight = max_in_flight
        await self._connect()

    async def send(self, batch: SealedBatch) -> Outcome:
        """Send one batch with one PutRumEvents and say what became of it. Raises only `CancelledError`."""
        link = self._link or await self._connect()
        if not isinstance(link, _Link):
            return link
        outcome = await link.send(batch)
        if isinstance(outcome, Misconfigured) and outcome.scope is HoldScope.SENDER:
            self._retire(link)
        if self._retired:
            await self._close_retired()
        return outcome

    async def aclose(self) -> None:
        """Close the client and its connections; what is in flight fails. A second call does nothing."""
        self._closed = True
        if self._link is not None:
            self._retire(self._link)
        await self._close_retired(in_use=True)

    async def _connect(self) -> _Link | Outcome:
        """Return the client, or why there is none; all who wait share one try."""
        seen = self._tries
        async with self._making:
            if self._closed:
                return _CLOSED
            if self._link is not None:
                return self._link
            if self._tries == seen or self._problem is None:
                await self._try()
            return self._link or self._problem or _CLOSED

    async def _try(self) -> None:
        self._problem = None
        try:
            link = await self._make()
        except Exception as error:  # noqa: BLE001 - whatever the settings break becomes an outcome
            self._problem = outcome_at_start(error)
        else:
            if self._closed:  # meanwhile
                await link.client.close()
            else:
                self._link = link
        self._tries += 1

    async def _make(self) -> _Link:
        session = await asyncio.to_thread(prepared_session, self._session, self._loader)
        loader = session.get_component("data_loader")
        if self._session is None:
            self._loader = loader
        config = config_for(
            session,
            self._client_config,
            _noticed,
            read_timeout=self._read_timeout,
            connect_timeout=self._connect_timeout,
            max_pool_connections=self._max_in_flight,
            parameter_validation=False,  # all parameters but the id are constants, and the id is checked
        )
        region = self._region_name or session.get_config_variable("region") or os.environ.get("AWS_REGION")
        client = await session.create_client(
            "rum", region_name=region, endpoint_url=self._endpoint_url, config=config
        ).__aenter__()
        if not is_own_host(client.meta.endpoint_url, loader.load_data("partitions")):
            # Set on the finished client, for only botocore knows all the places that may name an endpoint.
            client.meta.config.inject_host_prefix = False
        return _Link(client)

    def _retire(self, link: _Link) -> None:
        """Take a client out of use: credentials and certificates are part of it, another reads them anew."""
        if self._link is link:
            self._link = None
            self._retired.add(link)

    async def _close_retired(self, *, in_use: bool = False) -> None:
        for link in [link for link in self._retired if in_use or not link.users]:
            self._retired.discard(link)
            await link.client.close()


@dataclass(slots=True)
class _Exchange:
    """What the hooks note about the call that they work for."""

    body: bytes
    handed_over: bool = False
    """It is signed and goes to the HTTP client; before that it certainly is unsent."""
    kept: bool = False
    """It goes out on a kept connection: none was opened for it."""
    status: int | None = None
    retry_after: float | None = None
    clock_ahead: float = 0.0
    redirected_to: str | None = None

    def outcome(self, error: Exception | None) -> Outcome:
        """What became of the call, which raised `error` or nothing."""
        if self.redirected_to is not None:
            text = f"the endpoint redirects to {self.redirected_to}; name where it is as endpoint_url"
            return Misconfigured(HoldScope.SENDER, "Redirected", text)
        if error is None:
            return Delivered()
        if self.status is None:
            return outcome_of_exception(error, handed_over=self.handed_over, kept=self.kept)
        # An answer came, whatever befell it then: a body that the parser choked on, a hook that raised.
        told = getattr(error, "response", {}).get("Error", {})
        code, message = code_of(told.get("Code")), told.get("Message")
        text = message if isinstance(message, str) else ""
        return outcome_of_answer(Answer(self.status, code, text, self.retry_after, self.clock_ahead))


_exchange: ContextVar[_Exchange] = ContextVar("rumbuffer.aws.exchange")

_OPERATION: Final = "rum.PutRumEvents"

_LEAST: Final[Mapping[str, Any]] = {
    "BatchId": "00000000-0000-0000-0000-000000000000",
    "AppMonitorDetails": {},
    "UserDetails": {},
    "RumEvents": [],
}


class _Link:
    """A client with our hooks on it."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.users = 0
        # Else the HTTP client does not tell when it opens a connection (see client.py).
        self._tells = "socket_factory" in client.meta.config.connector_args
        events = client.meta.events
        # With one attempt it never retries; without it that is certain, and 3 % cheaper.
        events.unregister("needs-retry.rum", unique_id="retry-config-rum")
        events.register(f"before-call.{_OPERATION}", _put_body)
        events.register(f"before-send.{_OPERATION}", _note_sending)
        events.register(f"before-parse.{_OPERATION}", _note_answer)
        events.register(f"after-call.{_OPERATION}", _note_redirect)

    async def send(self, batch: SealedBatch) -> Outcome:
        exchange = _Exchange(batch.body(), kept=self._tells)
        token = _exchange.set(exchange)
        self.users += 1
        try:
            await self.client.put_rum_events(Id=batch.app_monitor.id, **_LEAST)
        except Exception as error:  # noqa: BLE001 - one that nobody foresaw is an outcome too
            return exchange.outcome(error)
        finally:
            self.users -= 1
            _exchange.reset(token)
        return exchange.outcome(None)


def _put_body(params: dict[str, Any], **_: object) -> None:
    params["body"] = _exchange.get().body


def _note_sending(**_: object) -> None:
    _exchange.get().handed_over = True


def _note_answer(response_dict: dict[str, Any], **_: object) -> None:
    """Note the status, and take away what botocore's parser could trip over."""
    exchange = _exchange.get()
    exchange.status = status = response_dict["status_code"]
    if 200 <= status < 300:
        response_dict["body"] = b"{}"  # whatever it is, it changes nothing
        return
    headers, now = response_dict["headers"], time.time()
    served = http_date(headers.get("date"))
    if served is not None:
        exchange.clock_ahead = now - served
    # The model has an integer there, so that the parser raises ValueError on a date. What a date is
    # counted from is the server's clock, if it tells it.
    exchange.retry_after = seconds(headers.pop("retry-after", None), now if served is None else served)


def _note_redirect(http_response: Any, **_: object) -> None:
    """Note a redirect. aiohttp has followed it, with a GET: nothing was stored, even if a 2xx is its end.

    After a 307 or 308 it repeats the POST, and the answer is as good as any.
    """
    history = getattr(http_response.raw, "history", ())
    if any(step.status not in {307, 308} for step in history):
        url = urlsplit(str(http_response.url))
        _exchange.get().redirected_to = f"{url.scheme}://{url.hostname}"


def _noticed(factory: Callable[[Any], socket.socket] | None) -> Callable[[Any], socket.socket]:
    """Wrap a factory of aiohttp's for sockets, or its default, so that an opened connection is noted."""

    def make(address: Any) -> socket.socket:
        exchange = _exchange.get(None)
        if exchange is not None:
            exchange.kept = False
        if factory is not None:
            return factory(address)
        family, kind, protocol, _, _ = address
        return socket.socket(family, kind, protocol)

    return make
