"""The classification of answers, row by row."""

from __future__ import annotations

import time

import pytest

from rumbuffer.aws.answers import RULES, THROTTLES, Answer, code_of, outcome_of_answer, seconds, shown
from rumbuffer.core.outcomes import (
    Delivered,
    Failed,
    HoldScope,
    Misconfigured,
    Outcome,
    Rejected,
    Throttled,
    TooLarge,
)

SENDER, MONITOR = HoldScope.SENDER, HoldScope.APP_MONITOR

ROWS: list[tuple[int, str | None, type[Outcome] | HoldScope]] = [
    (200, None, Delivered),
    (202, None, Delivered),
    (299, None, Delivered),
    (429, "ThrottlingException", Throttled),
    (429, None, Throttled),
    (429, "AccessDeniedException", Throttled),
    (400, "ThrottlingException", Throttled),
    (503, "SlowDown", Throttled),
    (413, None, TooLarge),
    (413, "ValidationException", TooLarge),
    (400, "RequestEntityTooLargeException", TooLarge),
    (500, "InternalServerException", Failed),
    (500, "ValidationException", Failed),
    (500, "ExpiredTokenException", Failed),
    (502, None, Failed),
    (503, None, Failed),
    (504, None, Failed),
    (599, None, Failed),
    (408, None, Failed),
    (425, None, Failed),
    (400, "RequestTimeout", Failed),
    (400, "ValidationException", Rejected),
    (400, "SerializationException", Rejected),
    (400, "ValidationError", Rejected),
    (400, None, Failed),
    (400, "SomethingNew", Failed),
    (409, None, Failed),
    (422, "ValidationException", Failed),
    (451, None, Failed),
    (403, "AccessDeniedException", MONITOR),
    (403, "AccessDenied", MONITOR),
    (400, "AccessDeniedException", MONITOR),
    (403, "SomethingNew", MONITOR),
    (403, None, MONITOR),
    (404, "ResourceNotFoundException", MONITOR),
    (404, None, MONITOR),
    (404, "UnknownOperationException", SENDER),
    (403, "UnrecognizedClientException", SENDER),
    (400, "UnrecognizedClientException", SENDER),
    (403, "InvalidSignatureException", SENDER),
    (403, "SignatureDoesNotMatch", SENDER),
    (403, "ExpiredToken", SENDER),
    (400, "ExpiredTokenException", SENDER),
    (403, "ExpiredTokenException", SENDER),
    (403, "InvalidClientTokenId", SENDER),
    (403, "MissingAuthenticationToken", SENDER),
    (403, "MissingAuthenticationTokenException", SENDER),
    (400, "IncompleteSignature", SENDER),
    (400, "RequestExpired", SENDER),
    (403, "RequestTimeTooSkewed", SENDER),
    (403, "OptInRequired", SENDER),
    (401, None, SENDER),
    (405, None, SENDER),
    (407, None, SENDER),
    (415, None, SENDER),
    (300, None, SENDER),
    (302, None, SENDER),
    (308, None, SENDER),
    (999, None, Failed),
]


@pytest.mark.parametrize(("status", "code", "expected"), ROWS)
def test_row(status: int, code: str | None, expected: type[Outcome] | HoldScope) -> None:
    """An answer is classified by its status first and its code second."""
    outcome = outcome_of_answer(Answer(status, code))
    if isinstance(expected, HoldScope):
        assert isinstance(outcome, Misconfigured)
        assert outcome.scope is expected
        assert outcome.code == (code or f"HTTP {status}")
        assert outcome.message
    else:
        assert type(outcome) is expected


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{next(iter(rule.statuses))}")
def test_every_rule_is_met(rule: object) -> None:
    """Each rule of the table decides at least one of the rows above."""
    deciding = [next(each for each in RULES if each.fits(Answer(status, code))) for status, code, _ in ROWS]
    assert any(each is rule for each in deciding)


def test_throttling_codes_are_botocores() -> None:
    """The throttling codes are the ones that botocore retries as throttles, less one that is none."""
    from botocore.retries.standard import ThrottledRetryableChecker, TransientRetryableChecker

    known = {*ThrottledRetryableChecker._THROTTLED_ERROR_CODES}
    assert known - THROTTLES <= {"TransactionInProgressException", "PriorRequestNotComplete"}
    assert not THROTTLES & {*TransientRetryableChecker._TRANSIENT_ERROR_CODES}


@pytest.mark.parametrize("status", [429, 503])
def test_the_wish_to_wait_travels_along(status: int) -> None:
    """A throttle and a failure carry the seconds that the service asked for."""
    outcome = outcome_of_answer(Answer(status, None, retry_after=7.5))
    assert isinstance(outcome, Throttled | Failed)
    assert outcome.retry_after == 7.5


def test_a_rejection_names_members_and_no_content() -> None:
    """A rejection says which members the service named, and nothing of their values."""
    message = (
        "1 validation error detected: Value 'ann@example.com' at 'rumEvents.3.member.details' failed to "
        "satisfy constraint: Member must have length less than 6144"
    )
    outcome = outcome_of_answer(Answer(400, "ValidationException", message))
    assert outcome == Rejected("ValidationException at rumEvents.3.member.details")


def test_the_canonical_request_is_not_shown() -> None:
    """Of a refused signature the first line is shown, and not the request with its session token."""
    message = (
        "The request signature we calculated does not match.\n\nThe Canonical String for this request "
        "should have been\n'POST\nx-amz-security-token:IQoJb3JpZ2luX2VjEXAMPLE'"
    )
    outcome = outcome_of_answer(Answer(403, "InvalidSignatureException", message))
    assert isinstance(outcome, Misconfigured)
    assert "does not match" in outcome.message
    assert "token" not in outcome.message


@pytest.mark.parametrize(
    ("ahead", "said"),
    [(3600.0, "3600 s ahead of"), (-3600.0, "3600 s behind"), (200.0, None), (0.0, None)],
)
def test_a_wrong_clock_is_told(ahead: float, said: str | None) -> None:
    """A signature refused while the clocks differ by minutes is told with the difference."""
    outcome = outcome_of_answer(Answer(403, "InvalidSignatureException", "expired", clock_ahead=ahead))
    assert isinstance(outcome, Misconfigured)
    assert said in outcome.message if said else "clock" not in outcome.message


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("http://ann:pass@proxy:3128 refused", "pass"),
        ("see https://host/path?X-Amz-Signature=abc", "abc"),
        ("key AKIAIOSFODNN7EXAMPLE is unknown", "AKIAIOSFODNN7EXAMPLE"),
        ("token " + "q" * 40, "q" * 40),
        ("first\nsecond", "second"),
    ],
)
def test_secrets_are_hidden(text: str, hidden: str) -> None:
    """What may be a secret does not get into a text for people."""
    assert hidden not in shown(text)


def test_texts_are_short() -> None:
    """A text for people has 300 characters at most."""
    assert len(shown("a b " * 1000)) == 300


@pytest.mark.parametrize("code", [403, None, [], "", "403", "<html>", "with space", "x" * 101])
def test_what_is_no_code(code: object) -> None:
    """Only a name of the form that AWS's errors have counts as a code."""
    assert code_of(code) is None


NOW = 1767225600.0  # Thu, 01 Jan 2026 00:00:00 GMT


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("3", 3.0),
        (" 3 ", 3.0),
        ("2.5", 2.5),
        ("0", 0.0),
        ("-5", 0.0),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
        ("Thursday, 01-Jan-26 00:00:30 GMT", 30.0),
        ("Thu Jan  1 00:00:30 2026", 30.0),
        ("Wed, 31 Dec 2025 23:59:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("1_000", None),
        ("1e3", None),
        ("٣", None),
        ("9" * 400, None),
        ("Thu, 99 Jan 2026 00:00:30 GMT", None),
        ("Thu, 01 Jan 99999 00:00:30 GMT", None),
    ],
)
def test_retry_after(value: str | None, expected: float | None) -> None:
    """Retry-After is read as seconds or an HTTP date, is never negative, and nonsense is none."""
    assert seconds(value, NOW) == expected


def test_a_date_without_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A date in the form that has no zone is GMT, whatever the machine's zone."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "XYZ-5")
        time.tzset()
        assert seconds("Thu Jan  1 00:00:30 2026", NOW) == 30.0
    time.tzset()
