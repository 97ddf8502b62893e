"""The classification of exceptions, row by row, with the real classes."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Any

import aiohttp
import pytest
from aiohttp import RequestInfo
from aiohttp.client_reqrep import ConnectionKey
from botocore import exceptions as botocore
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from rumbuffer.aws.errors import SETTINGS, outcome_at_start, outcome_of_exception
from rumbuffer.core.outcomes import Failed, HoldScope, Misconfigured

_KEY: Any = ConnectionKey("host", 443, True, True, None, None, None)
_REQUEST = RequestInfo(URL("http://host/"), "POST", CIMultiDictProxy(CIMultiDict()), URL("http://host/"))

_REFUSED = aiohttp.ClientConnectorError(_KEY, ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
_RESET = aiohttp.ClientOSError(errno.ECONNRESET, "reset")
# Newer than the oldest aiohttp that we take.
_CLOSING = getattr(aiohttp, "ClientConnectionResetError", ConnectionResetError)("closing")
_HUNG_UP = aiohttp.ServerDisconnectedError()
_HALF_A_HEAD: Any = aiohttp.ServerDisconnectedError(object())  # type: ignore[arg-type]


def at(error: Exception) -> Any:
    """The arguments that aiobotocore gives."""
    return {"endpoint_url": "https://host/", "error": error}


def proxy(status: int) -> Any:
    """A proxy's refusal to make a tunnel."""
    error = aiohttp.ClientHttpProxyError(_REQUEST, (), status=status, message="no")
    return botocore.ProxyConnectionError(proxy_url="http://proxy", error=error)


def of_service(code: str, status: int, operation: str = "AssumeRole") -> Any:
    """An error of the service that was asked for credentials."""
    response: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.ClientError(response, operation)


_SETTING = [
    botocore.NoCredentialsError(),
    botocore.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
    botocore.CredentialRetrievalError(provider="custom-process", error_msg="it printed hunter2"),
    botocore.TokenRetrievalError(provider="sso", error_msg="hunter2"),
    botocore.SSOTokenLoadError(error_msg="hunter2"),
    botocore.UnauthorizedSSOTokenError(),
    botocore.NoAuthTokenError(),
    botocore.NoRegionError(),
    botocore.InvalidRegionError(region_name="eu west 1"),
    botocore.UnknownEndpointError(service_name="rum", region_name="nowhere"),
    botocore.EndpointProviderError(msg="no"),
    botocore.ProfileNotFound(profile="shop"),
    botocore.ConfigParseError(path="/etc/aws"),
    botocore.InvalidConfigError(error_msg="no"),
    botocore.InvalidProxiesConfigError(error="hunter2"),
    botocore.ParamValidationError(report="no"),
    botocore.DataNotFoundError(data_path="rum"),
    botocore.SSLError(
        **at(aiohttp.ClientConnectorCertificateError(_KEY, ssl.SSLCertVerificationError("no")))
    ),
    botocore.HTTPClientError(error=FileNotFoundError(2, "no such file")),
    botocore.HTTPClientError(error=ssl.SSLError(1, "no certificate")),
    botocore.HTTPClientError(error=aiohttp.TooManyRedirects(_REQUEST, ())),
    proxy(407),
    proxy(403),
    of_service("AccessDenied", 403),
    of_service("ExpiredTokenException", 400),
]


@pytest.mark.parametrize("error", _SETTING, ids=lambda error: type(error).__name__)
def test_settings(error: Exception) -> None:
    """A setting that botocore cannot work with holds the sender, with a text that tells no secret."""
    for outcome in (outcome_of_exception(error), outcome_at_start(error)):
        assert isinstance(outcome, Misconfigured)
        assert outcome.scope is HoldScope.SENDER
        assert outcome.code
        assert outcome.message
        assert "hunter2" not in outcome.message


def test_the_names_exist() -> None:
    """Each name in the table is an exception of botocore's, but for those that an older one lacks."""
    unknown = {name for name in SETTINGS if not hasattr(botocore, name)}
    assert unknown <= {"LoginError", "UnknownTokenProviderError"}


_UNSENT, _STALE = {"unsent": True}, {"stale_connection": True}

_FAILED: list[tuple[Exception, dict[str, bool]]] = [
    (botocore.EndpointConnectionError(**at(_REFUSED)), _UNSENT),
    (botocore.EndpointConnectionError(**at(socket.gaierror(-2, "unknown name"))), _UNSENT),
    (botocore.ConnectTimeoutError(**at(TimeoutError())), _UNSENT),
    (proxy(502), _UNSENT),
    (botocore.SSLError(**at(aiohttp.ClientConnectorSSLError(_KEY, ssl.SSLError(1, "no")))), _UNSENT),
    (botocore.EndpointConnectionError(**at(_RESET)), _STALE),
    (botocore.EndpointConnectionError(**at(_CLOSING)), _STALE),
    (botocore.ConnectionClosedError(**at(_HUNG_UP)), _STALE),
    (botocore.ConnectionClosedError(**at(_HALF_A_HEAD)), {}),
    (botocore.ConnectionClosedError(**at(aiohttp.ClientPayloadError("half a body"))), {}),
    (botocore.EndpointConnectionError(**at(aiohttp.ClientConnectionError("closed"))), {}),
    (botocore.ReadTimeoutError(**at(TimeoutError())), {}),
    (botocore.HTTPClientError(error=ValueError("no HTTP")), {}),
    (aiohttp.ServerTimeoutError(), {}),
    (ConnectionResetError(errno.ECONNRESET, "reset"), _STALE),
    (BrokenPipeError(errno.EPIPE, "broken"), _STALE),
    (OSError(errno.ENETDOWN, "down"), {}),
    (TimeoutError(), {}),
    (KeyError("hunter2"), {}),
    (of_service("Throttling", 400), _UNSENT),
    (of_service("InternalFailure", 500), _UNSENT),
]
_IDS = [type(error).__name__ for error, _ in _FAILED]


@pytest.mark.parametrize(("error", "marks"), _FAILED, ids=_IDS)
def test_failures(error: Exception, marks: dict[str, bool]) -> None:
    """What may pass fails; what never left is marked unsent, and a hang-up on a kept connection stale."""
    outcome = outcome_of_exception(error, kept=True)
    assert isinstance(outcome, Failed)
    assert outcome == Failed(outcome.reason, **marks)
    assert type(error).__name__ in outcome.reason or hasattr(error, "operation_name")
    assert "hunter2" not in outcome.reason


@pytest.mark.parametrize("error", [error for error, _ in _FAILED], ids=_IDS)
def test_new_connections_are_not_stale(error: Exception) -> None:
    """A connection that was opened for the request is never called stale."""
    outcome = outcome_of_exception(error, kept=False)
    assert isinstance(outcome, Failed)
    assert not outcome.stale_connection


@pytest.mark.parametrize("error", [error for error, _ in _FAILED], ids=_IDS)
def test_before_it_is_handed_over_it_is_unsent(error: Exception) -> None:
    """What fails before the request is with the HTTP client is unsent, whatever it was."""
    outcome = outcome_of_exception(error, handed_over=False, kept=True)
    assert isinstance(outcome, Failed)
    assert outcome.unsent
    assert not outcome.stale_connection


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("Invalid endpoint: ftp://ann:hunter2@host"), Misconfigured),
        (PermissionError(errno.EACCES, "denied", "/root/.aws/config"), Misconfigured),
        (ModuleNotFoundError("No module named 'awscrt'"), Misconfigured),
        (botocore.ConnectTimeoutError(**at(TimeoutError())), Failed),
        (botocore.ReadTimeoutError(**at(TimeoutError())), Failed),
        (of_service("Throttling", 400), Failed),
    ],
)
def test_at_the_start(error: Exception, kind: type) -> None:
    """At the start an exception that nobody foresaw is a setting's, and the network's is not."""
    outcome = outcome_at_start(error)
    assert type(outcome) is kind
    assert "hunter2" not in repr(outcome)
