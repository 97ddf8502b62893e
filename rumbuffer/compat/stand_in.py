"""An object with the face of aiobotocore's `rum` client, in front of a buffer.

A call which returns has arrived, and one which raises tells why: that is what such a client promises. How a
call waits here is written at the head of `waiting`.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack

from rumbuffer.buffer import RumBuffer
from rumbuffer.calls import check_call, hold_of, is_probed, listening, load_checks, watch_call, where
from rumbuffer.compat.checks import call_checks
from rumbuffer.compat.exceptions import Exceptions
from rumbuffer.compat.waiting import Waiting
from rumbuffer.core.encoding import shape_of
from rumbuffer.errors import InvalidSetting
from rumbuffer.settings import check_seconds
from rumbuffer.shapes import PutRumEventsRequest, PutRumEventsResponse

__all__ = ["Client", "ClientMeta", "client"]

_METHOD = "put_rum_events"


class ClientMeta:
    """What a client's `meta` tells: the service's model as botocore has it, and where requests go.

    `region_name` and `endpoint_url` are what botocore found; as the buffer was given them, `None` included,
    until it has made its client.
    """

    def __init__(self, buffer: RumBuffer) -> None:
        self._buffer = buffer
        self.method_to_api_mapping: dict[str, str] = {_METHOD: "PutRumEvents"}

    @property
    def service_model(self) -> Any:
        """botocore's `ServiceModel` of RUM."""
        return call_checks().service_model

    @property
    def region_name(self) -> str | None:
        """The region that the buffer sends to."""
        return where(self._buffer)[0]

    @property
    def endpoint_url(self) -> str | None:
        """The endpoint that the buffer sends to."""
        return where(self._buffer)[1]


class Client:
    """Stands in for aiobotocore's `rum` client; made by `client()`.

    `exceptions` holds the service's errors as an aiobotocore client's does. Many calls may run at once, on
    the event loop that started the buffer.
    """

    def __init__(self, buffer: RumBuffer, timeout: float | None) -> None:
        self.exceptions: Exceptions = Exceptions()
        self.meta: ClientMeta = ClientMeta(buffer)
        self.waiter_names: list[str] = []
        self._buffer = buffer
        self._timeout = timeout
        self._closed = False

    async def put_rum_events(self, **request: Unpack[PutRumEventsRequest]) -> PutRumEventsResponse:
        """Send the events, and wait until all of them have arrived.

        They go in batches of their session with what else is there for it, at the buffer's pace, and are sent
        again where that helps; none is sampled out or shed. Cancelling the call does not withdraw events that
        are admitted, and neither does an error after which they are still the buffer's: a hold, or the
        time-out. Those say so, and name the events in ``error.response["LostEventIds"]``.

        Raises `ParamValidationError` as boto3 does (see `RumBuffer.put_rum_events`), the service's five
        errors (`exceptions`), another `ClientError` with the service's code, or botocore's own
        (`NoCredentialsError`) where everything is held, and `BufferClosed`.
        """
        if self._closed:
            raise RuntimeError("the client is closed (the buffer is not closed by that)")
        waiting = Waiting(self._buffer)
        try:
            async with asyncio.timeout(self._timeout) as waiting.scope:
                with listening(self._buffer, waiting.hear):
                    call = waiting.call = await check_call(self._buffer, request)
                    hold = hold_of(self._buffer, call.app_monitor)
                    if hold is not None and is_probed(self._buffer, call.app_monitor):
                        raise waiting.held(*hold)
                    await watch_call(self._buffer, call, waiting.fates, waiting.left)
                    if waiting.fates:
                        await asyncio.wait(waiting.fates)
        except TimeoutError:
            if not waiting.is_over:
                raise waiting.out_of_time(self._timeout) from None
        waiting.raise_for_losses()
        return {
            "ResponseMetadata": {
                "RequestId": waiting.batch_id or request["BatchId"],
                "HTTPStatusCode": 200,
                "HTTPHeaders": {},
                "RetryAttempts": 0,
            }
        }

    def can_paginate(self, operation_name: str) -> bool:
        """Return false: PutRumEvents has no pages."""
        return False

    async def close(self) -> None:
        """Take no more calls. Those that wait go on; the buffer stays open."""
        self._closed = True

    async def __aenter__(self) -> Self:
        await load_checks()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<rumbuffer.compat.Client of {self._buffer!r}>"

    if not TYPE_CHECKING:  # pragma: no branch - a checker shall refuse what is not there

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            raise AttributeError(
                f"this client has put_rum_events alone, and no {name}: for everything else of RUM make an "
                f"aiobotocore client (session.create_client('rum')) beside it"
            )


def client(buffer: RumBuffer, *, timeout: float | None = 60.0) -> Client:
    """Return a client in front of a running buffer, for `async with`.

    `timeout` bounds each call, in seconds, waiting for room included; `None` waits as long as it takes. A
    call whose time is over raises `ThrottlingException` where it waited for room or its turn, and
    `InternalServerException` where the service failed or did not answer. Raises `InvalidSetting`.
    """
    if not isinstance(buffer, RumBuffer):
        raise InvalidSetting("buffer", "must be a rumbuffer.RumBuffer", shape_of(buffer))
    if timeout is not None:
        check_seconds("timeout", timeout)
    return Client(buffer, timeout)
