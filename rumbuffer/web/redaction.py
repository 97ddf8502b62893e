"""What of an address may stand in an event: no query string, no user names, no ids.

A framework's route template says all that an operator wants to know. Where there is none (a 404, an app
without a router) the path itself stands in the event, and a path holds what people put there: order
numbers, e-mail addresses, tokens of password resets.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

__all__ = ["redact_path", "redact_query", "redact_url"]

LONGEST_URL = 1024
"""Characters of an address that are kept."""

_LONGEST_SEGMENT = 64

# Numbers, UUIDs and other hexadecimal runs, whatever holds an @, and long runs with a digit in them, as
# tokens are and words are not.
_tells_who = re.compile(
    r"\d+|(?=[a-fA-F-]*\d)[0-9a-fA-F-]{8,}|[0-9a-fA-F]{16,}|.*(?:@|%40).*|(?=.*\d)[\w.~=+-]{20,}",
    re.DOTALL | re.ASCII,
).fullmatch

_is_secret = re.compile(
    r"pass|pwd|secret|token|key|auth|sig|session|sid\b|code|jwt|cred|mail|phone|otp|nonce|state|name|user",
    re.IGNORECASE,
).search


def redact_path(path: str) -> str:
    """Put ``*`` in the place of every segment that looks like an id, an address or a token."""
    if path.isascii() and path.replace("/", "").isalpha() and len(path) <= _LONGEST_SEGMENT:
        return path
    return "/".join(["*" if _is_private(part) else part for part in path[:LONGEST_URL].split("/")])


def _is_private(text: str) -> bool:
    """Tell whether a text looks like an id, an address or a token."""
    return len(text) > _LONGEST_SEGMENT or bool(_tells_who(text))


def redact_query(query: str) -> str:
    """Put ``*`` in the place of values whose names speak of secrets or persons."""
    pairs = [pair.partition("=") for pair in query[:LONGEST_URL].split("&")]
    return "&".join(
        [
            f"{name if equals or not _is_private(name) else '*'}{equals}"
            f"{'*' if value and (_is_secret(name) or _is_private(value)) else value}"
            for name, equals, value in pairs
        ]
    )


def redact_url(url: str) -> str:
    """Redact an absolute address: its path as `redact_path` does; user, query and fragment are cut."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return ""
    return f"{parts.scheme}://{host}{redact_path(parts.path)}"[:LONGEST_URL]
