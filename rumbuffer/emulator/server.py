"""`Emulator`: the service of `service.py` behind a socket, in the caller's event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from aiohttp import web

from rumbuffer.emulator import inspection, wire
from rumbuffer.emulator.counters import Requests, Tally
from rumbuffer.emulator.faults import Dice, Fault, Faults
from rumbuffer.emulator.handling import Handler
from rumbuffer.emulator.quota import Limiter, Quota
from rumbuffer.emulator.records import ReceivedBatch, ReceivedEvent
from rumbuffer.emulator.request import Request
from rumbuffer.emulator.service import MAX_BODY_BYTES, FailingMonitor, Service
from rumbuffer.emulator.signature import Credentials, SignatureCheck
from rumbuffer.emulator.store import MemoryStore, SqliteStore, Store

DEFAULT_CREDENTIALS = Credentials("RUMEMULATORACCESSKEY", "rum-emulator-secret-access-key")


class Emulator:
    """A local CloudWatch RUM for tests and laptops.

    ::

        async with Emulator() as emulator:
            client = session.create_client("rum", endpoint_url=emulator.endpoint_url, ...)
            ...
            assert [event.type for event in emulator.events()] == [...]

    - ``host``, ``port``: where it listens; port 0 takes a free one.
    - ``region``, ``credentials``: what requests must be signed for and with;
      ``signatures=False`` takes unsigned ones too.
    - ``quota``: shared by all app monitors as in an account; ``None`` for none.
    - ``faults``: random faults; `script` sets single ones.
    - ``app_monitors``: the known ids; ``None`` knows any.
    - ``max_body_bytes``: more is answered with 413, sent and decoded.
      ``max_events``: more is answered with 400; the real service names no number.
    - ``oversize``: events above 6 KB are dropped silently, as the service does,
      or (``"refuse"``) answered with 400.
    - ``refuse_event``: batches with an event for which it is true get a 400.
    - ``store``: path of a SQLite file; without it batches stay in memory, all or
      the last ``keep``. ``keep=0`` is for load: counters only.
    - ``clock``: seconds for the quota and failing app monitors; ``wall_clock``:
      seconds since the epoch for signatures and arrival times; ``sleep``: waits
      in faults and latencies.

    What concerns the checks is in ``service`` (a `Service`) and may change while
    running, for example ``emulator.service.refuse_event = None``.

    Use it from the thread of its loop. It may be stopped and started again on
    the same port, with everything it kept. Raises ``OSError`` at the start when
    the port is taken, ``ValueError`` for settings that contradict.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        region: str = "us-east-1",
        credentials: Credentials | Sequence[Credentials] = DEFAULT_CREDENTIALS,
        signatures: bool = True,
        quota: Quota | None = Quota(),  # noqa: B008 - frozen
        faults: Faults | None = None,
        app_monitors: Collection[str] | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_events: int | None = None,
        oversize: Literal["drop", "refuse"] = "drop",
        refuse_event: Callable[[ReceivedEvent], bool] | None = None,
        store: str | Path | None = None,
        keep: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: wire.Sleep = asyncio.sleep,
    ) -> None:
        if store is not None and keep is not None:
            raise ValueError("keep bounds the memory store; a SQLite file keeps everything")
        self.host = host
        self.port: int = port
        self.region = region
        self._clock = clock
        self._signatures = signatures
        self.service: Service = Service(
            limiter=None,
            signatures=None,
            app_monitors=app_monitors,
            max_body_bytes=max_body_bytes,
            max_events=max_events,
            oversize=oversize,
            refuse_event=refuse_event,
        )
        self._store: Store = MemoryStore(keep) if store is None else SqliteStore(store)
        self._handler = Handler(self.service, self._store, clock, wall_clock, sleep)
        self.credentials = credentials
        self.quota = quota
        self.faults = faults or Faults()
        self._server: asyncio.Server | None = None
        self._web: web.Server | None = None
        self._busy: set[asyncio.Transport | None] = set()

    def __repr__(self) -> str:
        state = f"at {self.endpoint_url}" if self._server is not None else "stopped"
        counts = self._handler.tally
        return f"<Emulator {state}, {counts.accepted} accepted, {counts.throttled} throttled>"

    # Where it is, and how to reach it

    @property
    def endpoint_url(self) -> str:
        """``http://host:port``, for a client's ``endpoint_url``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def credentials(self) -> tuple[Credentials, ...]:
        """The known keys, the first of them the one to give to clients; settable."""
        return self._credentials

    @credentials.setter
    def credentials(self, credentials: Credentials | Sequence[Credentials]) -> None:
        self._credentials = (credentials,) if isinstance(credentials, Credentials) else tuple(credentials)
        if not self._credentials:
            raise ValueError("an emulator needs one pair of keys at least")
        self.service.signatures = SignatureCheck(self._credentials, self.region) if self._signatures else None

    @property
    def access_key_id(self) -> str:
        """The first known key's id."""
        return self._credentials[0].access_key_id

    @property
    def secret_access_key(self) -> str:
        """The first known key's secret."""
        return self._credentials[0].secret_access_key

    def environment(self) -> dict[str, str]:
        """``AWS_*`` variables that lead a subprocess's SDK here.

        The SDK must not put its host prefix before an IP address: botocore's
        ``Config(inject_host_prefix=False)``, for which there is no variable.
        """
        variables = {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL_RUM": self.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if self._credentials[0].session_token is not None:
            variables["AWS_SESSION_TOKEN"] = self._credentials[0].session_token
        return variables

    # What it does to requests

    @property
    def quota(self) -> Quota | None:
        """The quota in force; settable while running, saved-up tokens stay."""
        limiter = self.service.limiter
        return None if limiter is None else limiter.quota

    @quota.setter
    def quota(self, quota: Quota | None) -> None:
        if quota is None:
            self.service.limiter = None
        elif self.service.limiter is None:
            self.service.limiter = Limiter(quota, self._clock())
        else:
            self.service.limiter.change(quota, self._clock())

    @property
    def faults(self) -> Faults:
        """The random faults; settable while running, the dice start again at the seed."""
        return self._handler.dice.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._handler.dice = Dice(faults)

    def script(self, *faults: Fault) -> None:
        """Add faults for the next requests that would be accepted, one each, in order."""
        self._handler.script.extend(faults)

    @property
    def scripted(self) -> int:
        """How many scripted faults are still to come."""
        return len(self._handler.script)

    def fail_monitor(
        self, app_monitor_id: str, status: Literal[403, 404] = 404, seconds: float | None = None
    ) -> None:
        """Answer 403 or 404 for an app monitor until `recover`, or for ``seconds``."""
        until = float("inf") if seconds is None else self._clock() + seconds
        self._handler.failing[app_monitor_id] = FailingMonitor(status, until)

    def recover(self, app_monitor_id: str | None = None) -> None:
        """End what `fail_monitor` began, for one app monitor or for all."""
        if app_monitor_id is None:
            self._handler.failing.clear()
        else:
            self._handler.failing.pop(app_monitor_id, None)

    # What it was sent

    @property
    def batches(self) -> list[ReceivedBatch]:
        """Accepted batches in arrival order, repeats noted on the first of their id."""
        return self._store.batches()

    def events(self) -> Iterator[ReceivedEvent]:
        """The kept batches' events, in arrival order."""
        for batch in self._store.batches():
            yield from batch.events

    async def fetch(self, read: Callable[[Store], list[ReceivedBatch]]) -> list[ReceivedBatch]:
        """What ``read`` takes from the store; off the loop's thread if the store is a file."""
        if self._store.blocking:
            return await asyncio.get_running_loop().run_in_executor(None, read, self._store)
        return read(self._store)

    @property
    def requests(self) -> Requests:
        """The counters."""
        return self._handler.tally.snapshot()

    @property
    def silently_dropped(self) -> list[tuple[str, str]]:
        """Batch id and event id of the last 1000 events that were dropped silently."""
        return list(self._handler.drops)

    def clear(self) -> None:
        """Forget batches, counters, script and failing app monitors; settings stay."""
        self._store.clear()
        self._handler.tally = Tally()
        self._handler.drops.clear()
        self._handler.script.clear()
        self._handler.failing.clear()

    async def until(self, condition: Callable[[Self], object], timeout: float = 10.0) -> None:
        """Wait until ``condition(emulator)`` is true; asked whenever a request has changed something.

        Raises ``TimeoutError`` after ``timeout`` seconds of the loop's clock.
        """
        async with asyncio.timeout(timeout):
            while not condition(self):
                waiter = asyncio.get_running_loop().create_future()
                self._handler.waiters.append(waiter)
                await waiter

    # Starting and stopping

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Listen; after a `stop`, on the same port."""
        if self._server is not None:
            return
        # Signatures cover the body as sent, so aiohttp must leave gzip alone.
        self._web = web.Server(
            self._handle,
            request_factory=self._make_request,
            auto_decompress=False,
            access_log=None,
        )
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._web, self.host, self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """An outage: reset every connection, answered or not, and refuse new ones."""
        if self._server is None or self._web is None:
            return
        server, self._server = self._server, None
        server.close()
        self.close_connections()
        await self._handler.shut()
        await self._web.shutdown(0)
        await server.wait_closed()

    async def aclose(self) -> None:
        """Stop for good and close the store.

        Counters, and batches in memory, can be read afterwards; batches in a file from the file.
        """
        await self.stop()
        self._store.close()

    def close_connections(self, *, only_idle: bool = False) -> None:
        """Reset the open connections, or only those on which no request is being answered."""
        if self._web is None:
            return
        for connection in self._web.connections:
            if connection.transport is None or (only_idle and connection.transport in self._busy):
                continue
            wire.reset(connection.transport)

    # One request

    def _make_request(
        self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any
    ) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        limit = self.service.max_body_bytes
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=limit)

    async def _handle(self, received: web.BaseRequest) -> web.StreamResponse:
        transport = received.transport
        self._busy.add(transport)
        try:
            request = Request(received.method, received.raw_path, received.raw_headers)
            if inspection.is_for(request):
                page = await inspection.answer(self, request, received)
                return wire.write(received, page)
            return await self._handler.handle(request, received)
        finally:
            self._busy.discard(transport)


async def serve(emulator: Emulator, *, started: Callable[[Emulator], object] | None = None) -> None:
    """Run an emulator until cancelled; prints nothing.

    ``started`` is called with it once it listens (its ``port`` is known then).
    Everything else is set on the `Emulator` itself. Raises what
    `Emulator.start` raises.
    """
    async with emulator:
        if started is not None:
            started(emulator)
        await asyncio.get_running_loop().create_future()
