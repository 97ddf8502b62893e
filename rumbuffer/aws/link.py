"""A client with our hooks on it, and the two ways of a call through it.

**The body is ours.** The API call is made with the least that botocore accepts, and a handler on
`before-call.rum.PutRumEvents` puts `batch.body()` in place of what was serialised: the cost of a call does
not grow with its events, and the bytes are the same in every try. That event comes after serialising and
endpoint rules, and before compression, checksums, the request object (which takes Content-Length from
the body) and signing, so all of these see our bytes (aiobotocore 3.10, `client.py`, `endpoint.py`).
PutRumEvents has no trait for compression, checksums or chunks, and `Expect: 100-continue` is S3's.

**The short way.** A handler on `before-call` may answer the call itself, as botocore's own `Stubber` does.
Ours signs (signing.py) with the credentials of the client's signer, which refreshes them, and sends through
the client's HTTP session, with its proxies, certificates, time-outs and pool: what is left out is objects
and events on the way from the one to the other, which cost twice what aiohttp takes for the request. What
is on the wire is the same, byte by byte. `before-send` is emitted as ever: what answers there in place of the
network, for all clients of a process, answers here too. An error's answer is read by botocore's parser. The
long way is taken

- for a session of the user's: its handlers (tracing, stubs) would not be called on the short one;
- for another HTTP session than aiobotocore's own on aiohttp;
- where the call's context holds anything that is not known to be without effect (another signature, a
  checksum), or there are no credentials, so that botocore does, or says, what is to be.

**A context variable ties the hooks to their call**, not the request context, for `before-parse` and the
socket factory are told nothing of the call that they work for. It is sound with many calls at once: each
send awaits botocore in a task, and so in a context, of its own; botocore calls its hooks in that task; and
the tasks that are started on the way (connections that race) inherit the context. The hooks sit on this
client alone, and nobody else calls it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from rumbuffer.aws.answers import Answer, code_of, http_date, outcome_of_answer, seconds
from rumbuffer.aws.errors import outcome_of_exception
from rumbuffer.core.outcomes import Delivered, HoldScope, Misconfigured, Outcome
from rumbuffer.ids import new_id

__all__ = ["Link", "noticed"]


@dataclass(slots=True)
class _Exchange:
    """What the hooks note about the call that they work for."""

    body: bytes
    encoding: str | None
    """The body's Content-Encoding."""
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
"""What botocore's validation asks for, where a config of the user's turns that on; else it can be nothing."""


class Link:
    """A client with our hooks on it; `http` is its HTTP session where calls may go the short way."""

    def __init__(self, client: Any, http: Any) -> None:
        self.client: Any = client
        self.users: int = 0
        # Else the HTTP client does not tell when it opens a connection (see client.py).
        self._tells = "socket_factory" in client.meta.config.connector_args
        self._parameters = _LEAST if client.meta.config.parameter_validation else {}
        events = client.meta.events
        # With one attempt it never retries; without it that is certain, and 3 % cheaper.
        events.unregister("needs-retry.rum", unique_id="retry-config-rum")
        events.register(f"before-call.{_OPERATION}", _put_body)
        events.register(f"before-send.{_OPERATION}", _note_sending)
        events.register(f"before-parse.{_OPERATION}", _note_answer)
        events.register(f"after-call.{_OPERATION}", _note_redirect)
        if http is not None:
            # The last of all, so that what botocore's own handlers put into the headers is there.
            events.register_last("before-call", _ShortWay(http, events.emit))

    async def send(self, app_monitor_id: str, body: bytes, encoding: str | None) -> Outcome:
        """Make one call, and say what became of it; raises only `CancelledError`."""
        exchange = _Exchange(body, encoding, kept=self._tells)
        token = _exchange.set(exchange)
        self.users += 1
        try:
            await self.client.put_rum_events(Id=app_monitor_id, **self._parameters)
        except Exception as error:  # noqa: BLE001 - one that nobody foresaw is an outcome too
            return exchange.outcome(error)
        finally:
            self.users -= 1
            _exchange.reset(token)
        return exchange.outcome(None)


class _ShortWay:
    """The handler on `before-call` that answers the call."""

    _WITHOUT_EFFECT = frozenset(
        {
            "auth_options",
            "auth_type",
            "client_config",
            "client_region",
            "has_streaming_input",
            "unsigned_payload",
        }
    )
    """What the context of a PutRumEvents call holds; all else may ask for something that is not done here."""

    def __init__(self, http: Any, emit: Callable[..., Awaitable[Any]]) -> None:
        from aiobotocore.parsers import create_parser
        from botocore.awsrequest import AWSPreparedRequest
        from botocore.hooks import first_non_none_response

        from rumbuffer.aws.signing import Signer

        self._http = http
        self._emit = emit
        self._first = first_non_none_response
        self._parser = create_parser("rest-json")
        self._prepared = AWSPreparedRequest
        self._make_signer = Signer
        self._signer: Signer | None = None

    async def __call__(
        self, params: dict[str, Any], model: Any, request_signer: Any, context: dict[str, Any], **_: object
    ) -> tuple[Any, dict[str, Any]] | None:
        """Return the response and what botocore's parser makes of it, or `None` for the long way."""
        if not self._is_for(context, request_signer):
            return None
        name, region = request_signer.signing_name, request_signer.region_name
        credentials = (await request_signer.get_auth_instance(name, region, "v4")).credentials
        if credentials is None:
            return None
        if self._signer is None:
            self._signer = self._make_signer(name, region)
        body, headers = params["body"], dict(params["headers"])
        self._signer.sign(credentials, params["method"], params["url"], headers, body, time.time())
        # What botocore puts in after the signature.
        headers["amz-sdk-invocation-id"] = new_id()
        headers["amz-sdk-request"] = "attempt=1"
        headers["Content-Length"] = str(len(body))
        prepared = self._prepared(params["method"], params["url"], headers, body, stream_output=False)
        response = self._first(await self._emit(f"before-send.{_OPERATION}", request=prepared))
        if response is None:
            response = await self._http.send(prepared)
        _exchange.get().status = response.status_code
        if 200 <= response.status_code < 300:
            return response, {}
        answer = {
            "headers": response.headers,
            "status_code": response.status_code,
            "body": await response.content,
            "context": {"operation_name": model.name},
        }
        _note_answer(answer)
        return response, await self._parser.parse(answer, model.output_shape)

    def _is_for(self, context: dict[str, Any], request_signer: Any) -> bool:
        return (
            context.keys() <= self._WITHOUT_EFFECT
            and context.get("auth_type") in {None, "v4"}
            and not context.get("unsigned_payload")
            and request_signer.signature_version == "v4"
        )


def _put_body(params: dict[str, Any], **_: object) -> None:
    exchange = _exchange.get()
    params["body"] = exchange.body
    params["headers"]["Content-Type"] = "application/json"
    if exchange.encoding is not None:
        params["headers"]["Content-Encoding"] = exchange.encoding


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


def noticed(factory: Callable[[Any], socket.socket] | None) -> Callable[[Any], socket.socket]:
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
