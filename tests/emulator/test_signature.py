from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import boto3
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.config import Config
from botocore.exceptions import ClientError

from rumbuffer.emulator import Credentials, Emulator, ServiceError
from rumbuffer.emulator.request import Request
from rumbuffer.emulator.signature import SignatureCheck
from tests.emulator.helpers import PATH, body, call, post, sign

KEYS = Credentials("RUMEMULATORACCESSKEY", "rum-emulator-secret-access-key")
JSON = {"Content-Type": "application/json"}


def request(headers: Mapping[str, str], payload: bytes = b"{}", target: str = PATH) -> Request:
    """A request as it came over the wire."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request("POST", target, raw, payload)


def check(
    received: Request, *, now: float | None = None, keys: Credentials = KEYS, region: str = "us-east-1"
) -> str | None:
    """The name of the error, or None."""
    try:
        SignatureCheck([keys], region).check(received, time.time() if now is None else now)
    except ServiceError as error:
        return error.code if error.status == 403 else f"not 403 but {error}"
    return None


@pytest.mark.parametrize("target", [PATH, PATH[:-1], f"http://rum.test{PATH}", f"{PATH}?b=2&a=1%20&a=0"])
def test_a_signed_request_passes(target: str) -> None:
    """Origin and absolute form, with and without query and trailing slash, verify as botocore signs them."""
    path = target.removeprefix("http://rum.test")
    headers = sign(b"{}", JSON, url=f"http://emulator{path}")
    assert check(request(headers, target=target)) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda r: setattr(r, "body", b"{ }"),
        lambda r: setattr(r, "path", "/appmonitors/other/"),
        lambda r: setattr(r, "query", "a=1"),
        lambda r: setattr(r, "method", "PUT"),
        lambda r: r._headers.update({"content-type": ["text/plain"]}),
        lambda r: r._headers.update({"host": ["elsewhere"]}),
        lambda r: r._headers.pop("content-type"),
        lambda r: r._headers["content-type"].append("text/plain"),
    ],
    ids=["body", "path", "query", "method", "header", "host", "header missing", "header doubled"],
)
def test_whatever_is_signed_cannot_be_changed(change: Callable[[Any], object]) -> None:
    """A change of anything that the signature covers is an InvalidSignatureException."""
    received = request(sign(b"{}", JSON))
    assert check(received) is None
    change(received)
    assert check(received) == "InvalidSignatureException"


def test_a_wrong_secret_is_refused() -> None:
    """The secret decides."""
    assert check(request(sign(b"{}", JSON, secret="guess"))) == "InvalidSignatureException"


def test_an_unknown_key_is_refused() -> None:
    """An access key nobody knows is an UnrecognizedClientException."""
    assert check(request(sign(b"{}", JSON, key="SOMEBODY"))) == "UnrecognizedClientException"


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        ({"region": "eu-west-1"}, "a valid region, not 'eu-west-1'"),
        ({"service": "s3"}, "correct service: 'rum'"),
    ],
)
def test_signatures_for_another_scope_are_refused(scope: dict[str, str], message: str) -> None:
    """A signature holds for one region and one service, and the refusal says which is wrong."""
    received = request(sign(b"{}", JSON, **scope))
    with pytest.raises(ServiceError, match=f"InvalidSignatureException.*{message}"):
        SignatureCheck([KEYS], "us-east-1").check(received, time.time())


@pytest.mark.parametrize(
    ("skew", "expected"),
    [
        (0, None),
        (299, None),
        (-299, None),
        (302, "InvalidSignatureException"),
        (-302, "InvalidSignatureException"),
    ],
)
def test_signatures_hold_for_five_minutes_around_the_clock(skew: int, expected: str | None) -> None:
    """The signing time may be off by five minutes, either way."""
    headers = sign(b"{}", JSON)
    signed_at = datetime.fromisoformat(headers["X-Amz-Date"]).timestamp()
    assert check(request(headers), now=signed_at + skew) == expected


def test_the_date_header_counts_where_x_amz_date_is_missing() -> None:
    """A request may be dated by Date alone, as the protocol has it."""
    headers = sign(b"{}", {**JSON, "Date": format_datetime(datetime.now(UTC), usegmt=True)})
    assert "X-Amz-Date" not in headers
    assert check(request(headers)) is None


def test_a_payload_may_be_left_unsigned() -> None:
    """UNSIGNED-PAYLOAD is taken literally: the body may then be anything."""
    headers = sign(b"{}", {**JSON, "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    assert check(request(headers, payload=b'{"other":1}')) is None


def test_a_stated_hash_must_be_that_of_the_body() -> None:
    """A body that is not the hashed one is refused though the signature of the hash is right."""
    headers = sign(b"{}", {**JSON, "X-Amz-Content-SHA256": "0" * 64})
    assert check(request(headers)) == "InvalidSignatureException"


@pytest.mark.parametrize(
    ("sent", "known", "expected"),
    [
        ("token", "token", None),
        ("other", "token", "UnrecognizedClientException"),
        (None, "token", "UnrecognizedClientException"),
        ("token", None, "UnrecognizedClientException"),
    ],
)
def test_session_tokens_must_match(sent: str | None, known: str | None, expected: str | None) -> None:
    """Keys with a token need just that token, keys without need none."""
    keys = Credentials(KEYS.access_key_id, KEYS.secret_access_key, known)
    assert check(request(sign(b"{}", JSON, token=sent)), keys=keys) == expected


def test_tokens_expire() -> None:
    """From its time on a token is an ExpiredTokenException."""
    now = time.time()
    keys = Credentials(KEYS.access_key_id, KEYS.secret_access_key, "token", expires_at=now + 10)
    received = request(sign(b"{}", JSON, token="token"))
    assert check(received, keys=keys, now=now + 9) is None
    assert check(received, keys=keys, now=now + 10) == "ExpiredTokenException"


GOOD = (
    "AWS4-HMAC-SHA256 Credential={key}/20261122/us-east-1/rum/aws4_request, SignedHeaders=host, Signature=00"
)


@pytest.mark.parametrize(
    ("authorization", "date", "expected"),
    [
        (None, "20261122T000000Z", "MissingAuthenticationTokenException"),
        ("", "20261122T000000Z", "MissingAuthenticationTokenException"),
        ("Bearer x", "20261122T000000Z", "IncompleteSignatureException"),
        ("AWS4-HMAC-SHA256", "20261122T000000Z", "IncompleteSignatureException"),
        ("AWS4-HMAC-SHA256 =,,;=", "20261122T000000Z", "IncompleteSignatureException"),
        (re.sub(r", Signature=00", "", GOOD), "20261122T000000Z", "IncompleteSignatureException"),
        (GOOD.replace("/rum", ""), "20261122T000000Z", "IncompleteSignatureException"),
        (GOOD.replace("=host", "=date"), "20261122T000000Z", "IncompleteSignatureException"),
        (GOOD, None, "IncompleteSignatureException"),
        (GOOD, "yesterday", "IncompleteSignatureException"),
        (GOOD, "20261399T000000Z", "InvalidSignatureException"),
        (GOOD.replace("20261122", "20261399"), "20261399T000000Z", "IncompleteSignatureException"),
        (GOOD.replace("aws4_request", "aws3"), "20261122T000000Z", "InvalidSignatureException"),
        (GOOD, "20261123T000000Z", "InvalidSignatureException"),
        (GOOD, "20261122T000000Z", "InvalidSignatureException"),
        (GOOD.replace("=00", "=\xe9"), "20261122T000000Z", "InvalidSignatureException"),
    ],
)
def test_broken_authorizations_are_refused(
    authorization: str | None, date: str | None, expected: str
) -> None:
    """Whatever stands in the header, the answer is one of AWS's authentication errors."""
    headers = {"Host": "emulator"}
    if authorization is not None:
        headers["Authorization"] = authorization.format(key=KEYS.access_key_id)
    if date is not None:
        headers["X-Amz-Date"] = date
    now = datetime(2026, 11, 22, tzinfo=UTC).timestamp()
    assert check(request(headers), now=now) == expected


async def test_aiobotocore_is_accepted() -> None:
    """aiobotocore's own signature verifies, and the events arrive as they were sent."""
    async with (
        Emulator() as emulator,
        get_session().create_client(
            "rum",
            region_name=emulator.region,
            endpoint_url=emulator.endpoint_url,
            aws_access_key_id=emulator.access_key_id,
            aws_secret_access_key=emulator.secret_access_key,
            config=AioConfig(inject_host_prefix=False),
        ) as client,
    ):
        answer = await client.put_rum_events(**call())
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert [e.details for e in emulator.events()] == ['{"total":42}']


def boto3_call(emulator: Emulator, keys: Credentials) -> None:
    """One call of plain boto3 with these keys; for another thread than the loop's."""
    client = boto3.client(
        "rum",
        region_name=emulator.region,
        endpoint_url=emulator.endpoint_url,
        aws_access_key_id=keys.access_key_id,
        aws_secret_access_key=keys.secret_access_key,
        aws_session_token=keys.session_token,
        config=Config(inject_host_prefix=False, retries={"total_max_attempts": 1}),
    )
    try:
        client.put_rum_events(**call())
    finally:
        client.close()


async def test_boto3_is_accepted_with_a_session_token() -> None:
    """boto3's signature with temporary credentials verifies."""
    keys = Credentials("ASIA", "secret", "token/with+signs==")
    async with Emulator(credentials=keys) as emulator:
        await asyncio.to_thread(boto3_call, emulator, keys)
        assert emulator.requests.accepted == 1


async def test_boto3_sees_a_wrong_secret_as_the_service_s_error() -> None:
    """A refusal reaches the caller as ClientError with AWS's error name."""
    async with Emulator() as emulator:
        with pytest.raises(ClientError) as caught:
            await asyncio.to_thread(boto3_call, emulator, Credentials(KEYS.access_key_id, "guess"))
        assert caught.value.response["Error"]["Code"] == "InvalidSignatureException"
        assert emulator.requests.rejected == {"InvalidSignatureException": 1}


async def test_keys_may_change_while_running() -> None:
    """After a rotation the old keys are unknown."""
    new, following = Credentials("NEW", "new"), Credentials("NEXT", "next")
    async with Emulator() as emulator:
        await asyncio.to_thread(boto3_call, emulator, KEYS)
        emulator.credentials = [new, following]
        assert (emulator.access_key_id, emulator.secret_access_key) == ("NEW", "new")
        await asyncio.to_thread(boto3_call, emulator, following)
        with pytest.raises(ClientError, match="UnrecognizedClientException"):
            await asyncio.to_thread(boto3_call, emulator, KEYS)


def test_an_emulator_needs_keys() -> None:
    """No keys at all is a mistake, not a way to take unsigned requests."""
    with pytest.raises(ValueError, match="keys"):
        Emulator(credentials=[])


async def test_unsigned_requests_are_taken_with_signatures_off() -> None:
    """With signatures off, requests need no authorization."""
    async with Emulator(signatures=False) as emulator:
        assert (await post(emulator, body())).status == 200
    async with Emulator() as emulator:
        reply = await post(emulator, body())
        assert (reply.status, reply.headers["x-amzn-errortype"]) == (
            403,
            "MissingAuthenticationTokenException",
        )
