"""SigV4, checked with botocore's own signer.

The signer is given the request as it arrived, and what it would have signed is
compared with what the client signed. The refusals are those that AWS's services
share (names and wording as seen from them; status 403, RUM's included).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders

from rumbuffer.emulator.answers import ServiceError, unauthorized
from rumbuffer.emulator.request import Request

SERVICE = "rum"
# The window of AWS's services around their own clock, in seconds.
MAX_SKEW = 300.0
# A payload that is not part of the signature is said so literally.
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

_ALGORITHM = "AWS4-HMAC-SHA256"
_DATE = re.compile(r"\d{8}T\d{6}Z")
_PARTS = ("Credential", "SignedHeaders", "Signature")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Keys the service knows; ``expires_at`` is in seconds since the epoch."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class _Authorization:
    """The parts of an ``Authorization`` header."""

    access_key_id: str
    date: str
    region: str
    service: str
    terminator: str
    signed_headers: tuple[str, ...]
    signature: str


@lru_cache(maxsize=64)
def _signing_key(secret_access_key: str, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret_access_key}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


class _Signer(SigV4Auth):  # type: ignore[misc]
    """botocore's signer, held to the headers the client chose and with its key cached."""

    def headers_to_sign(self, request: Any) -> Any:
        return request.context["signed_headers"]

    def signature(self, string_to_sign: str, request: Any) -> str:
        key = _signing_key(
            self.credentials.secret_key,
            request.context["timestamp"][:8],
            self._region_name,
            self._service_name,
        )
        return hmac.digest(key, string_to_sign.encode(), "sha256").hex()


@dataclass(frozen=True, slots=True)
class _SignerCredentials:
    access_key: str
    secret_key: str
    token: str | None


class SignatureCheck:
    """Checks requests against known credentials, for one region."""

    def __init__(self, credentials: Iterable[Credentials], region: str) -> None:
        self._known = {known.access_key_id: known for known in credentials}
        self._region = region

    def check(self, request: Request, now: float) -> None:
        """Raise `ServiceError` unless the request is signed with known keys.

        ``now`` is the service's clock, in seconds since the epoch.
        """
        authorization = _parse(request.header("authorization"))
        known = self._known.get(authorization.access_key_id)
        if known is None:
            raise _invalid_token()
        timestamp = _timestamp(request)
        self._check_scope(authorization, timestamp)
        _check_date(timestamp, now)
        _check_token(request, known, now)
        expected = self._sign(request, authorization, known, timestamp)
        if not hmac.compare_digest(expected.encode(), authorization.signature.encode()):
            raise unauthorized(
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method. "
                "Consult the service documentation for details.",
            )

    def _check_scope(self, authorization: _Authorization, timestamp: str) -> None:
        scope = "Credential should be scoped to"
        if authorization.region != self._region:
            raise _invalid_signature(f"{scope} a valid region, not '{authorization.region}'.")
        if authorization.service != SERVICE:
            raise _invalid_signature(f"{scope} correct service: '{SERVICE}'.")
        if authorization.terminator != "aws4_request":
            raise _invalid_signature(f"{scope} 'aws4_request', not '{authorization.terminator}'.")
        if authorization.date != timestamp[:8]:
            raise _invalid_signature(
                f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of "
                f"date from HTTP: '{authorization.date}' != '{timestamp[:8]}'."
            )

    def _sign(
        self, request: Request, authorization: _Authorization, known: Credentials, timestamp: str
    ) -> str:
        signer = _Signer(
            _SignerCredentials(known.access_key_id, known.secret_access_key, known.session_token),
            SERVICE,
            self._region,
        )
        signed = AWSRequest(
            method=request.method,
            url=f"http://emulator{request.path}{'?' if request.query else ''}{request.query}",
            headers={"X-Amz-Content-SHA256": _payload_hash(request)},
        )
        signed.context["timestamp"] = timestamp
        signed.context["signed_headers"] = _signed_headers(request, authorization)
        canonical = signer.canonical_request(signed)
        signature: str = signer.signature(signer.string_to_sign(signed, canonical), signed)
        return signature


def _parse(header: str | None) -> _Authorization:
    if not header:
        raise unauthorized("MissingAuthenticationTokenException", "Missing Authentication Token")
    algorithm, _, rest = header.partition(" ")
    if algorithm != _ALGORITHM:
        raise _incomplete(f"Unsupported AWS 'algorithm': '{algorithm}'.")
    parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    missing = [f"Authorization header requires '{name}' parameter." for name in _PARTS if not parts.get(name)]
    if missing:
        raise _incomplete(" ".join(missing))
    scope = parts["Credential"].split("/")
    if len(scope) < 5:
        raise _incomplete("Credential must have exactly 5 slash-delimited elements.")
    # An access key may hold a slash; the four elements after it may not.
    key, (date, region, service, terminator) = "/".join(scope[:-4]), scope[-4:]
    headers = tuple(parts["SignedHeaders"].split(";"))
    if "host" not in headers:
        raise _incomplete("'Host' must be a 'SignedHeader' in the AWS Authorization.")
    return _Authorization(key, date, region, service, terminator, headers, parts["Signature"])


def _timestamp(request: Request) -> str:
    """The signing time in SigV4's notation, from ``X-Amz-Date`` or else ``Date``."""
    stamp = request.header("x-amz-date")
    if stamp is None and (date := request.header("date")) is not None:
        try:
            stamp = parsedate_to_datetime(date).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        except ValueError:
            stamp = None
    if stamp is None or not _DATE.fullmatch(stamp):
        raise _incomplete("Authorization header requires existence of a valid 'X-Amz-Date' or 'Date' header.")
    return stamp


def _check_date(timestamp: str, now: float) -> None:
    try:
        signed_at = datetime.fromisoformat(timestamp).timestamp()
    except ValueError:
        raise _incomplete(f"Date must be in ISO-8601 'basic format', not '{timestamp}'.") from None
    clock = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    if signed_at < now - MAX_SKEW:
        raise _invalid_signature(f"Signature expired: {timestamp} is now earlier than {clock} - 5 min.")
    if signed_at > now + MAX_SKEW:
        raise _invalid_signature(
            f"Signature not yet current: {timestamp} is still later than {clock} + 5 min."
        )


def _check_token(request: Request, known: Credentials, now: float) -> None:
    sent = request.header("x-amz-security-token") or ""
    if not hmac.compare_digest(sent.encode(), (known.session_token or "").encode()):
        raise _invalid_token()
    if known.expires_at is not None and now >= known.expires_at:
        raise unauthorized("ExpiredTokenException", "The security token included in the request is expired")


def _payload_hash(request: Request) -> str:
    """What stands for the body in the signature: its hash, whatever the client says that is."""
    if request.header("x-amz-content-sha256") == UNSIGNED_PAYLOAD:
        return UNSIGNED_PAYLOAD
    return hashlib.sha256(request.body).hexdigest()


def _signed_headers(request: Request, authorization: _Authorization) -> HTTPHeaders:
    headers = HTTPHeaders()
    for name in authorization.signed_headers:
        values = request.all_headers(name)
        if not values:
            raise _invalid_signature(f"The signed header '{name}' is missing from the request.")
        for value in values:
            headers[name] = value
    return headers


def _incomplete(message: str) -> ServiceError:
    return unauthorized("IncompleteSignatureException", message)


def _invalid_signature(message: str) -> ServiceError:
    return unauthorized("InvalidSignatureException", message)


def _invalid_token() -> ServiceError:
    return unauthorized(
        "UnrecognizedClientException", "The security token included in the request is invalid."
    )
