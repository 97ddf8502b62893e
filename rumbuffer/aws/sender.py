"""`AwsSender`: one aiobotocore client, made when it is needed, and made again when a setting was wrong."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Any

from rumbuffer.aws.client import config_for, is_own_host, prepared_session
from rumbuffer.aws.compression import GZIP, SMALLEST, gzipped, gzipper
from rumbuffer.aws.errors import outcome_at_start
from rumbuffer.aws.link import Link, noticed
from rumbuffer.core.outcomes import Failed, HoldScope, Misconfigured, Outcome
from rumbuffer.core.sealed import SealedBatch
from rumbuffer.log import log
from rumbuffer.settings import Compression, check_compression

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
    - `session`: an `AioSession` to use in place of an own one. Its event handlers are called for each
      request, and with them all of botocore's, at half as much CPU again (see link.py).
    - `client_config`: an `AioConfig` that goes before our settings. Only retries stay off whatever it
      says, for the buffer retries by itself; the pool takes `max_in_flight` connections if it says nothing.
    - `read_timeout`, `connect_timeout`: seconds, the longest silence of the service and the longest wait
      for a connection.
    - `compression`: `"gzip"` sends bodies of 2 KiB and more compressed, with the `isal` package where that
      is installed (see compression.py). Else they go as they are.

    Raises `InvalidSetting` for another `compression`. What else does not work raises nothing: `send`
    answers `Misconfigured`, and the next one, or another `start`, makes the client again (with an own
    session from scratch: files are read anew).
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
        compression: Compression | None = None,
    ) -> None:
        check_compression(compression)
        self._region_name = region_name
        self._endpoint_url = endpoint_url
        self._session = session
        self._client_config = client_config
        self._read_timeout = read_timeout
        self._connect_timeout = connect_timeout
        self._compress = None if compression is None else gzipper()
        self._max_in_flight = 32
        self._loader: Any = None
        self._link: Link | None = None
        self._retired: set[Link] = set()
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
        body, encoding = batch.body(), None
        if self._compress is not None and len(body) >= SMALLEST:
            body, encoding = await gzipped(self._compress, body), GZIP
        link = self._link or await self._connect()
        if not isinstance(link, Link):
            return link
        outcome = await link.send(batch.app_monitor.id, body, encoding)
        if isinstance(outcome, Misconfigured) and outcome.scope is HoldScope.SENDER:
            self._retire(link)
        if self._retired:
            try:
                await self._close_retired()
            except Exception as error:  # noqa: BLE001 - of a client that nobody uses; the outcome is what counts
                text = "rumbuffer: an old client could not be closed (%s)"
                log(logging.WARNING, text, type(error).__name__)
        return outcome

    async def aclose(self) -> None:
        """Close the client and its connections; what is in flight fails. A second call does nothing."""
        self._closed = True
        if self._link is not None:
            self._retire(self._link)
        await self._close_retired(in_use=True)

    async def _connect(self) -> Link | Outcome:
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

    async def _make(self) -> Link:
        session = await asyncio.to_thread(prepared_session, self._session, self._loader)
        loader = session.get_component("data_loader")
        if self._session is None:
            self._loader = loader
        transports: list[Any] = []
        config = config_for(
            session,
            self._client_config,
            noticed,
            # A session of the user's may have handlers, which the short way would not call.
            transports if self._session is None else None,
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
        return Link(client, transports[-1] if transports else None)

    def _retire(self, link: Link) -> None:
        """Take a client out of use: credentials and certificates are part of it, another reads them anew."""
        if self._link is link:
            self._link = None
            self._retired.add(link)

    async def _close_retired(self, *, in_use: bool = False) -> None:
        for link in [link for link in self._retired if in_use or not link.users]:
            self._retired.discard(link)
            await link.client.close()
