"""What of an address may stand in an event: no query string, no user names, no ids.

A framework's route template says all that an operator wants to know. Where there is none (a 404, an app
without a router) the path itself stands in the event, and a path holds what people put there: order
numbers, e-mail addresses, tokens of password resets. No rule tells all of these from words; these are
strict, for a star too many costs less than a name. A segment of a path is starred out that

- has a digit in it (``42``, ``ORD-12345``, a UUID, a telephone number), unless it is a version (``v1``,
  ``v2.1``), a known word (``oauth2``) or a file of a site's build (``main.4f5a6b7c.js``);
- has an ``@`` in it, or a dot and no known ending (``alice.smith``);
- is longer than 64 characters, or has 24 letters or more in a row, as a token has;
- follows the name of a collection of people (``/users/alice``), unless it is a known word (``/users/me``).

What is left are words, and a word may be a name: ``/blog/alice``. Who has paths of that kind names the
route (``scope["rumbuffer.route"]``) or hands in a `redact` of their own.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, unquote_plus, urlsplit

__all__ = ["redact_path", "redact_query", "redact_url"]

LONGEST_URL = 1024
"""Characters of an address that are kept."""

_LONGEST_SEGMENT = 64

_is_token = re.compile(r"[0-9a-fA-F]{16,}|.*[^\W_]{24,}.*", re.DOTALL).fullmatch

_is_known = re.compile(
    r"v\d{1,3}(\.\d{1,3}){0,2}((alpha|beta|rc)\d?)?|oauth[12]|saml2|2fa|mfa2?|s3|ec2|k8s|i18n|l10n|a11y|web3|http[23]|"
    r"h2|h3|mp[34]|utf-?8|base64|sha(1|256|512)|md5|[23]d|b2[bc]|c2c|p2p",
    re.IGNORECASE,
).fullmatch

_is_built = re.compile(r"[\w.~-]+\.(m?js|css|map|woff2?|ttf|wasm)", re.ASCII).fullmatch

_is_file = re.compile(
    r"\.?[\w-]+(\.(x?html?|php|aspx?|jsp|cgi|m?js|css|map|json|xml|txt|ico|png|jpe?g|gif|svg|webp|woff2?|ttf|"
    r"wasm|webmanifest|rss|atom|env|well-known))?",
    re.IGNORECASE,
).fullmatch

_is_collection = re.compile(
    r"(users?|u|people|persons?|members?|customers?|clients?|employees|patients|students|profiles|accounts|"
    r"authors|friends|contacts)",
    re.IGNORECASE,
).fullmatch

_is_page = re.compile(
    r"|me|self|current|all|new|list|search|count|login|logout|log-?out|sign-?(in|up|out)|register|settings|"
    r"profile|password|reset|verify|confirm|invite|invitations|import|export|edit|delete|bulk|batch|create",
    re.IGNORECASE,
).fullmatch

_is_secret = re.compile(
    r"pass|pwd|secret|token|key|auth|sig|session|sid\b|code|jwt|cred|mail|phone|tel\b|otp|nonce|state|name|user",
    re.IGNORECASE,
).search


def redact_path(path: str) -> str:
    """Put ``*`` in the place of every segment that looks like an id, an address, a name or a token.

    That is one with a digit in it (but for versions, ``v1``, known words, ``oauth2``, and files of a site's
    build), with an ``@``, with a dot and no file's ending, of more than 64 characters or 24 letters in a
    row, and what follows a collection of people (``/users/alice``, but ``/users/me``).
    """
    redacted = []
    of_people = False
    for segment in path[:LONGEST_URL].split("/"):
        plain = unquote(segment) if "%" in segment else segment
        private = _is_private(plain) or (of_people and not _is_page(plain))
        redacted.append("*" if private else segment)
        of_people = _is_collection(plain) is not None
    return "/".join(redacted)


def _is_private(text: str) -> bool:
    """Tell whether a text looks like an id, an address or a token."""
    if text.isascii() and text.isalpha() and len(text) < 24:
        return bool(_is_token(text))
    if len(text) > _LONGEST_SEGMENT or "@" in text or _is_token(text):
        return not (_is_built(text) and len(text) <= _LONGEST_SEGMENT and "@" not in text)
    if any(character.isdigit() for character in text):
        return not (_is_known(text) or _is_built(text))
    return "." in text.strip(".") and not (_is_file(text) or _is_built(text))


def redact_query(query: str) -> str:
    """Put ``*`` in the place of values whose names speak of secrets or persons, and of those that look so.

    What is percent-encoded is judged by what it stands for.
    """
    pairs = [pair.partition("=") for pair in query[:LONGEST_URL].split("&")]
    return "&".join([_redacted_pair(*pair) for pair in pairs])


def _redacted_pair(name: str, equals: str, value: str) -> str:
    plain_name, plain = unquote_plus(name), unquote_plus(value)
    if _is_private(plain_name):
        name = "*"
    return f"{name}{equals}{'*' if value and (_is_secret(plain_name) or _is_private(plain)) else value}"


def redact_url(url: str) -> str:
    """Redact an absolute address: its path as `redact_path` does; user, query and fragment are cut."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return ""
    return f"{parts.scheme}://{host}{redact_path(parts.path)}"[:LONGEST_URL]
