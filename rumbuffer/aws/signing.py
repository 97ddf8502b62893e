"""SigV4 for one kind of request, at a quarter of what botocore's signer takes.

botocore builds the canonical request from header objects of the standard library's e-mail package, twice,
and derives the signing key anew for each request, though it holds for a day. The bytes that come out are
the same; tests/aws/test_signing.py compares them with botocore's. What depends on the URL alone (path and
query in canonical form, the host) is asked of botocore's signer, once a URL.

The rules: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hmac
import time
from functools import lru_cache
from hashlib import sha256
from typing import Any

from botocore.auth import SIGNED_HEADERS_BLACKLIST, SigV4Auth
from botocore.awsrequest import AWSRequest

__all__ = ["Signer"]

_UNSIGNED = frozenset(SIGNED_HEADERS_BLACKLIST)


class Signer:
    """Signs requests of one service in one region, with whatever credentials each brings.

    It keeps the key of the day that it derived last, as botocore keeps the secret that it is derived from.
    """

    __slots__ = ("_key", "_key_is_of", "_region", "_second", "_service", "_stamp")

    def __init__(self, service: str, region: str) -> None:
        self._service = service
        self._region = region
        self._key_is_of: tuple[str, str] | None = None
        self._key = b""
        self._second = -1
        self._stamp = ""

    def sign(
        self, credentials: Any, method: str, url: str, headers: dict[str, str], body: bytes, now: float
    ) -> None:
        """Add the headers of a signature to `headers`, all of which it covers but those AWS leaves out.

        `credentials` are frozen ones of botocore's; `now` is in seconds since the epoch.
        """
        stamp = self._stamp_of(int(now))
        headers["X-Amz-Date"] = stamp
        if credentials.token:
            headers["X-Amz-Security-Token"] = credentials.token
        place, host = _place(method, url)
        covered = {"host": host}
        for name, value in headers.items():
            lowered = name.lower()
            if lowered not in _UNSIGNED:
                covered[lowered] = " ".join(value.split())
        names = sorted(covered)
        signed_headers = ";".join(names)
        lines = "".join([f"{name}:{covered[name]}\n" for name in names])
        canonical = f"{place}\n{lines}\n{signed_headers}\n{sha256(body).hexdigest()}"
        scope = f"{stamp[:8]}/{self._region}/{self._service}/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
        key = self._key_for(credentials.secret_key, stamp[:8])
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={signed_headers}, Signature={hmac.digest(key, text.encode(), 'sha256').hex()}"
        )

    def _stamp_of(self, second: int) -> str:
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        return self._stamp

    def _key_for(self, secret_key: str, day: str) -> bytes:
        if self._key_is_of != (secret_key, day):
            key = f"AWS4{secret_key}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key, self._key_is_of = key, (secret_key, day)
        return self._key


@lru_cache(maxsize=1024)
def _place(method: str, url: str) -> tuple[str, str]:
    """Return the canonical request's first three lines, and the host."""
    canonical: str = SigV4Auth(None, "", "").canonical_request(AWSRequest(method=method, url=url))
    head, _, rest = canonical.partition("\nhost:")
    return head, rest.partition("\n")[0]
