"""What an exception means that came instead of an answer.

Classes are known by name, so that the tables can be read without aiobotocore and aiohttp, and a class
that an older version lacks does no harm. A subclass counts as its nearest base that is listed.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Mapping
from typing import Any, Final

from rumbuffer.aws.answers import THROTTLES, code_of, shown
from rumbuffer.core.outcomes import Failed, HoldScope, Misconfigured, Outcome

__all__ = ["SETTINGS", "outcome_at_start", "outcome_of_exception"]

SETTINGS: Final[Mapping[str, str]] = {
    # Credentials
    "NoCredentialsError": (
        "no credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile with "
        "AWS_PROFILE, or give this machine a role"
    ),
    "PartialCredentialsError": "",
    "CredentialRetrievalError": (
        "the source of the credentials failed; `aws sts get-caller-identity` may tell why"
    ),
    "MetadataRetrievalError": "the metadata service gave no credentials",
    "InvalidIMDSEndpointError": "",
    "InvalidIMDSEndpointModeError": "",
    "UnknownCredentialError": "",
    "RefreshWithMFAUnsupportedError": "",
    "SSOError": "the single sign-on session has expired or is invalid; `aws sso login` renews it",
    "LoginError": "the sign-in session has expired or is invalid; `aws login` renews it",
    "TokenRetrievalError": "the source of the token failed; `aws sso login` may renew it",
    "NoAuthTokenError": "no token found; `aws sso login` gets one",
    "UnknownTokenProviderError": "",
    # Region and endpoint
    "NoRegionError": (
        "no region: give one as region_name (--region on the command line), in AWS_REGION or "
        "AWS_DEFAULT_REGION, or in the profile"
    ),
    "InvalidRegionError": "",
    "UnknownRegionError": "",
    "BaseEndpointResolverError": "",
    "EndpointProviderError": "",
    "InvalidEndpointConfigurationError": "",
    # Files and options
    "ProfileNotFound": "",
    "ConfigNotFound": "",
    "ConfigParseError": "",
    "InvalidConfigError": "",
    "InvalidDefaultsMode": "",
    "InvalidRetryConfigurationError": "",
    "InvalidChecksumConfigError": "",
    "InvalidProxiesConfigError": "the proxy's URL, CA bundle or certificate cannot be used",
    "ParamValidationError": "",
    "UnknownSignatureVersionError": "",
    "UnsupportedSignatureVersionError": "",
    "MissingDependencyException": "",
    "DataNotFoundError": "",
}
"""botocore's exceptions that mean a wrong setting, and what to do; their own text where that is empty.

Where a text is given here, their own may hold what a credential process printed.
"""

_CONNECTING = frozenset({"ClientConnectorError", "ConnectTimeoutError", "ProxyConnectionError"})
"""aiohttp's and botocore's for a connection that did not come about: nothing was sent."""

_FILE_ERRORS = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, ssl.SSLError)
"""What loading a CA bundle or a client certificate raises."""

_GONE = {errno.ECONNABORTED, errno.ECONNRESET, errno.ENOTCONN, errno.EPIPE, errno.ESHUTDOWN}


def outcome_of_exception(error: Exception, *, handed_over: bool = True, kept: bool = False) -> Outcome:
    """What `error` means that was raised before an answer was there.

    `handed_over` says that the request was with the HTTP client already, else it is certainly unsent;
    `kept`, that it went out on a kept connection.
    """
    if hasattr(error, "operation_name"):
        return _of_credentials_call(error)
    if (setting := _of_setting(error)) is not None:
        return setting
    names = _classes(error)
    # botocore's exceptions keep aiohttp's in `kwargs` (aiobotocore/httpsession.py).
    cause = getattr(error, "kwargs", {}).get("error") if "BotoCoreError" in names else error
    if (setting := _of_transport_setting(error, cause)) is not None:
        return setting
    unsent = not handed_over or bool(_CONNECTING & (names | _classes(cause)))
    return Failed(
        _named(error, cause),
        stale_connection=handed_over and kept and not unsent and _is_hang_up(cause),
        unsent=unsent or isinstance(cause, socket.gaierror),
    )


def outcome_at_start(error: Exception) -> Outcome:
    """What it means that the client could not be made: a setting, unless the network is to blame."""
    outcome = outcome_of_exception(error, handed_over=False)
    network = hasattr(error, "operation_name") or {"ConnectionError", "HTTPClientError"} & _classes(error)
    if isinstance(outcome, Failed) and not network:
        return _sender(type(error).__name__, f"the client cannot be made: {shown(str(error))}")
    return outcome


def _sender(code: str, message: str) -> Misconfigured:
    return Misconfigured(HoldScope.SENDER, code, message)


def _classes(error: object) -> frozenset[str]:
    return frozenset(base.__name__ for base in type(error).__mro__)


def _of_setting(error: Exception) -> Misconfigured | None:
    for base in type(error).__mro__:
        if base.__name__ in SETTINGS:
            return _sender(type(error).__name__, SETTINGS[base.__name__] or shown(str(error)))
    return None


def _of_credentials_call(error: Any) -> Outcome:
    """The error of another service, which botocore asked for credentials on the way."""
    code = code_of((error.response.get("Error") or {}).get("Code")) or type(error).__name__
    status = (error.response.get("ResponseMetadata") or {}).get("HTTPStatusCode") or 400
    if status >= 429 or code in THROTTLES:
        return Failed(f"{error.operation_name}: {code}", unsent=True)
    return _sender(code, f"no credentials: {shown(str(error))}")


def _of_transport_setting(error: Exception, cause: Any) -> Misconfigured | None:
    name, status = type(error).__name__, getattr(cause, "status", None)
    if isinstance(cause, ssl.CertificateError):
        return _sender(name, f"the server's certificate is not trusted: {_reason_of(cause)}")
    if "ClientHttpProxyError" in _classes(cause) and status in {401, 403, 407}:
        return _sender(name, f"the proxy refuses the connection with {status}")
    if "TooManyRedirects" in _classes(cause):
        return _sender("Redirected", "the endpoint redirects in circles")
    if name == "HTTPClientError" and isinstance(cause, _FILE_ERRORS):
        return _sender(name, f"the CA bundle or client certificate cannot be read ({type(cause).__name__})")
    return None


def _reason_of(cause: Any) -> str:
    """The reason OpenSSL gives; aiohttp keeps its exception."""
    inner = getattr(cause, "certificate_error", cause)
    return shown(getattr(inner, "verify_message", "") or str(inner))


def _is_hang_up(cause: Any) -> bool:
    """Whether the connection was closed before any byte of an answer.

    aiohttp raises ServerDisconnectedError with as much of the head as had come, if any had; a reset is an
    OSError while it waits for the head, and a ClientPayloadError after it (client_proto.py, 3.14).
    """
    if "ServerDisconnectedError" in _classes(cause):
        return isinstance(cause.message, str)
    return isinstance(cause, ConnectionError) or (isinstance(cause, OSError) and cause.errno in _GONE)


def _named(error: Exception, cause: Any) -> str:
    """Classes only: the texts hold addresses, and proxies' passwords."""
    deepest = getattr(cause, "os_error", None) or cause
    own = type(error).__name__
    return own if deepest is None or deepest is error else f"{own} ({type(deepest).__name__})"
