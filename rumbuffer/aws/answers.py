"""What an answer means: the status decides first, the error's code second, in the order of `RULES`.

An unforeseen 4xx, a 400 without a code that AWS has for bad content, and anything else that no rule
knows is taken for a proxy's or a gateway's answer and fails: it is sent again, as a judgement on the
content would cost events that the service never saw.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

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

__all__ = ["RULES", "THROTTLES", "Answer", "Rule", "code_of", "outcome_of_answer", "seconds", "shown"]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as far as it matters.

    `code` is the error's name if it has one of AWS's form, `retry_after` is in seconds, and `clock_ahead`
    says by how many seconds this machine's clock is ahead of the answer's `Date`.
    """

    status: int
    code: str | None = None
    message: str = ""
    retry_after: float | None = None
    clock_ahead: float = 0.0

    @property
    def name(self) -> str:
        """The code, or the status where there is none."""
        return self.code or f"HTTP {self.status}"


# Codes -------------------------------------------------------------------------------------------------

THROTTLES: Final = frozenset(
    {  # botocore's own list (retries/standard.py, 1.43, 2026-11)
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)

_PASSING = frozenset(  # botocore's too
    {"PriorRequestNotComplete", "RequestTimeout", "RequestTimeoutException", "TransactionInProgressException"}
)

_TOO_LARGE = frozenset(
    {
        "EntityTooLarge",
        "PayloadTooLargeException",
        "RequestEntityTooLarge",
        "RequestEntityTooLargeException",
        "RequestTooLargeException",
    }
)

# What stands before every service says ("Common error types" in the services' API references, 2026-11),
# under its names in the query and the JSON protocols.
_AUTHENTICATION = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignature",
        "InvalidSignatureException",
        "InvalidToken",
        "InvalidTokenException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "MissingClientTokenId",
        "NotAuthenticated",
        "NotSignedUp",
        "OptInRequired",
        "RequestExpired",
        "RequestExpiredException",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "SubscriptionRequiredException",
        "UnauthorizedException",
        "UnrecognizedClient",
        "UnrecognizedClientException",
    }
)

_ENDPOINT = frozenset({"InvalidAction", "UnknownOperation", "UnknownOperationException"})

_PERMISSION = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})

# RUM's model has the first only. The others are what front ends of AWS's services call bad content.
_CONTENT = frozenset(
    {
        "ValidationException",
        "BadRequestException",
        "InvalidInputException",
        "InvalidParameterException",
        "InvalidParameterValue",
        "InvalidParameterValueException",
        "InvalidRequestException",
        "SerializationException",
        "ValidationError",
    }
)


# Rules -------------------------------------------------------------------------------------------------

_CLOCK_TOLERANCE = 240.0
"""Seconds of difference worth mentioning; AWS refuses signatures at 300."""


def _delivered(_: Answer) -> Outcome:
    return Delivered()


def _throttled(answer: Answer) -> Outcome:
    return Throttled(answer.retry_after)


def _too_large(answer: Answer) -> Outcome:
    return TooLarge(answer.name)


def _failed(answer: Answer) -> Outcome:
    return Failed(answer.name, answer.retry_after)


def _rejected(answer: Answer) -> Outcome:
    """Say which members the service named; its own text quotes their values, which may be personal."""
    members = list(dict.fromkeys(_MEMBER.findall(answer.message)))
    return Rejected(f"{answer.name} at {', '.join(members[:5])}" if members else answer.name)


def _hold(scope: HoldScope, hint: str) -> Callable[[Answer], Outcome]:
    def outcome(answer: Answer) -> Outcome:
        text = shown(answer.message) if answer.code else ""
        text = f"{hint}: {text}" if text else hint
        if abs(answer.clock_ahead) > _CLOCK_TOLERANCE and answer.code in _AUTHENTICATION:
            way = "ahead of" if answer.clock_ahead > 0 else "behind"
            text += f" (this machine's clock is {abs(answer.clock_ahead):.0f} s {way} the service's)"
        return Misconfigured(scope, answer.name, text)

    return outcome


def _sender(hint: str) -> Callable[[Answer], Outcome]:
    return _hold(HoldScope.SENDER, hint)


def _monitor(hint: str) -> Callable[[Answer], Outcome]:
    return _hold(HoldScope.APP_MONITOR, hint)


@dataclass(frozen=True, slots=True)
class Rule:
    """An answer with one of `statuses`, and with one of `codes` where they are given, means `outcome`."""

    statuses: Collection[int]
    codes: frozenset[str] | None
    outcome: Callable[[Answer], Outcome]

    def fits(self, answer: Answer) -> bool:
        """Whether the rule speaks of this answer."""
        return answer.status in self.statuses and (self.codes is None or answer.code in self.codes)


_4XX, _5XX = range(400, 500), range(500, 1000)

RULES: Final = (
    # The browser client takes any 2xx, whatever its body.
    Rule(range(200, 300), None, _delivered),
    Rule({429}, None, _throttled),
    Rule({413}, None, _too_large),
    # A refusal for load by its name, 503 SlowDown too: nothing was stored, and to send less is what helps.
    Rule(range(400, 1000), THROTTLES, _throttled),
    Rule(_5XX, None, _failed),
    Rule({408, 425}, None, _failed),
    Rule(_4XX, _PASSING, _failed),
    Rule(_4XX, _TOO_LARGE, _too_large),
    Rule(_4XX, _AUTHENTICATION, _sender("the service does not accept the credentials or the signature")),
    Rule(_4XX, _ENDPOINT, _sender("the endpoint does not know PutRumEvents; look at endpoint_url")),
    Rule(_4XX, _PERMISSION, _monitor("no permission for rum:PutRumEvents on this app monitor")),
    Rule({403}, None, _monitor("refused; by a proxy or gateway on the way, if there is no more text")),
    Rule({404}, None, _monitor("no such app monitor in this account and region")),
    Rule({400}, _CONTENT, _rejected),
    Rule({401}, None, _sender("something on the way asks for credentials of its own")),
    Rule({405}, None, _sender("the endpoint takes no POST; look at endpoint_url")),
    Rule({415}, None, _sender("the endpoint does not take the body as it is; leave compression out")),
    Rule({407}, None, _sender("the proxy asks for credentials; put them into its URL")),
    Rule(range(300, 400), None, _sender("the endpoint redirects; name where it is as endpoint_url")),
    Rule(range(1000), None, _failed),
)
"""The first that fits holds."""


def outcome_of_answer(answer: Answer) -> Outcome:
    """What the answer means for its batch."""
    return next(rule for rule in RULES if rule.fits(answer)).outcome(answer)


# What may be shown of a text ---------------------------------------------------------------------------

_MEMBER = re.compile(
    r"\b(?:rumEvents(?:\.\d+|\[\d+\])?(?:\.member)?(?:\.(?:id|timestamp|type|details|metadata))?"
    r"|batchId|appMonitorDetails(?:\.(?:id|name|version))?|userDetails(?:\.(?:userId|sessionId))?"
    r"|alias|sessionMetadata)\b",
    re.IGNORECASE,
)

_SECRETS = re.compile(
    r"(?<=://)[^/@\s]*@"  # user and password of a URL
    r"|\?[^\s\"']*"  # a query
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{12,}"
    r"|[A-Za-z0-9+=]{32,}"  # signatures, keys, tokens
)


def shown(text: str) -> str:
    """A text of the service's or botocore's as it may be logged: one line, nothing secret.

    The refusal of a signature goes on with the whole canonical request, session token included.
    """
    return _SECRETS.sub("…", text.strip().partition("\n")[0])[:300]


def code_of(code: object) -> str | None:
    """The code if it is one: botocore puts the status where an answer has none, or what a proxy sent."""
    return code if isinstance(code, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,99}", code) else None


# Retry-After -------------------------------------------------------------------------------------------


def seconds(value: str | None, now: float) -> float | None:
    """A `Retry-After` in seconds from `now` (seconds since the epoch); `None` for what makes no sense.

    HTTP allows whole seconds and dates (RFC 9110, 10.2.3); fractions are taken too. The past is 0.
    """
    if value is None:
        return None
    if re.fullmatch(r"\s*[+-]?\d+(\.\d*)?\s*", value, re.ASCII):
        delay = float(value)
        return max(0.0, delay) if math.isfinite(delay) else None
    date = http_date(value)
    return None if date is None else max(0.0, date - now)


def http_date(value: str | None) -> float | None:
    """An HTTP date in seconds since the epoch; `None` for what is none."""
    try:
        date = parsedate_to_datetime(value or "")
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()  # asctime's form has no zone
    except (IndexError, OverflowError, TypeError, ValueError):
        return None
