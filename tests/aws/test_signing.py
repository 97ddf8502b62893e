"""Our signatures against botocore's signer."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from rumbuffer.aws.signing import Signer

_words = st.text("abcXYZ 019-_.~/+=\t", min_size=1, max_size=20).map(lambda text: text.strip() or "x")
_credentials = st.builds(ReadOnlyCredentials, _words, _words, st.none() | _words)
_hosts = st.sampled_from(["rum.test", "RUM.test:8080", "127.0.0.1:80", "[::1]:8750", "[::1]", "ann:pw@host"])
_schemes = st.sampled_from(["http", "https"])
_paths = st.sampled_from(
    ["", "/", "/appmonitors/1111/", "/a b/./../c//", "/ä/%20/~x", "/x?b=2&a=1&a=0", "/?q"]
)
_urls = st.builds("{}://{}{}".format, _schemes, _hosts, _paths)
_names = st.sampled_from(
    ["Content-Type", "Content-Encoding", "User-Agent", "X-Amzn-Trace-Id", "Expect", "x-own"]
)
_seconds = st.integers(0, 4_000_000_000)


def _theirs(
    credentials: Any, url: str, headers: dict[str, str], body: bytes, second: int, monkeypatch: Any
) -> dict[str, str]:
    """What botocore's own signer makes of the request at that second."""
    moment = datetime.fromtimestamp(second, UTC)
    with monkeypatch.context() as patch:
        if hasattr(__import__("botocore.auth").auth, "get_current_datetime"):
            patch.setattr("botocore.auth.get_current_datetime", lambda: moment)
        else:
            stopped = SimpleNamespace(utcnow=lambda: moment)
            patch.setattr("botocore.auth.datetime", SimpleNamespace(datetime=stopped))
        request = AWSRequest("POST", url, headers, body)
        SigV4Auth(credentials, "rum", "eu-west-1").add_auth(request)
    return dict(request.headers.items())


@given(_credentials, _urls, st.dictionaries(_names, _words), st.binary(), _seconds)
def test_the_headers_are_botocores(
    credentials: Any, url: str, headers: dict[str, str], body: bytes, second: int
) -> None:
    """The signature's headers, in their order, are those that botocore adds to the same request."""
    ours = dict(headers)
    Signer("rum", "eu-west-1").sign(credentials, "POST", url, ours, body, second + 0.75)
    with pytest.MonkeyPatch.context() as monkeypatch:
        theirs = _theirs(credentials, url, headers, body, second, monkeypatch)
    assert list(ours.items()) == list(theirs.items())


def test_a_key_is_of_its_secret_and_its_day() -> None:
    """One signer signs rightly when the credentials change, and when the day does."""
    signer, url = Signer("rum", "eu-west-1"), "http://rum.test/appmonitors/1/"
    one, other = (
        ReadOnlyCredentials("AKIDONE", "one", None),
        ReadOnlyCredentials("AKIDOTHER", "other", "token"),
    )
    for credentials, second in ((one, 0), (one, 1), (other, 1), (other, 86_400), (one, 0)):
        ours: dict[str, str] = {}
        signer.sign(credentials, "POST", url, ours, b"{}", second)
        with pytest.MonkeyPatch.context() as monkeypatch:
            assert ours == _theirs(credentials, url, {}, b"{}", second, monkeypatch)
