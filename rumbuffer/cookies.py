"""The cookies that carry a visitor's session: the browser client's, and our own.

The browser client (aws-rum-web 3.2, read 2026-11) keeps its session in ``cwr_s`` or
``cwr_s_<app monitor id>``: base64, possibly without its padding, of JSON that begins
``{"sessionId":"…36…","record":true,…``; and the user's id, a bare UUID, in ``cwr_u``. A cookie that is
there has not expired: the browser removes it after 30 idle minutes.

A cookie is whatever a stranger cared to send. It is bounded, checked against one shape, never logged,
and what does not fit is the same as no cookie. Nothing here raises.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from dataclasses import dataclass, field
from typing import Any

import orjson

from rumbuffer.errors import InvalidSetting
from rumbuffer.events import NIL_USER_ID, Session
from rumbuffer.web.known import UnsampledSession, known_session

__all__ = ["OwnCookieReader", "SessionCookie", "browser_session", "uuid_text"]

_LONGEST = 4096
"""Bytes of one cookie that a browser stores at most (RFC 6265, 6.1)."""

_HEAD = 2 + 88
"""Where, after ``s=``, the 88 base64 characters end in which a session's id and its `record` stand."""

_HEXADECIMAL = bytes.maketrans(b"0123456789abcdefABCDEF", b"0" * 22)
_SHAPE = b"00000000-0000-0000-0000-000000000000"
_OWN_SHAPE = _SHAPE + b".00000000"
_OWN_SHAPE_BEFORE_MORE = _OWN_SHAPE + b";"
_RECORDED_SHAPE = (b'{"sessionId":"%b","record":true,u=%b' % (_SHAPE, _SHAPE)).translate(_HEXADECIMAL)
_NOT_RECORDED_SHAPE = (b'{"sessionId":"%b","record":falseu=%b' % (_SHAPE, _SHAPE)).translate(_HEXADECIMAL)
_NOBODY = (None, NIL_USER_ID)

_BEFORE_A_NAME = (b" ", b"", b";")
_AFTER_A_VALUE = (b";", b"", b" ")

_REFRESH = 60
"""Seconds after which our own cookie is set again, at most. Not with every response: one that sets a cookie
cannot be cached, and 1 minute of 30 is near enough to sliding."""

_SLIDES = 30
"""Times that a cookie which lives for less than 30 minutes is set again in its life, at most."""

_CLOCKS_APART = 60
"""Seconds that another server's clock may be ahead."""

_is_token = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}").fullmatch
_is_attribute = re.compile(r"[^\x00-\x1f;,\x7f]{1,255}").fullmatch


def uuid_text(value: bytes) -> str | None:
    """Return the UUID that `value` is, as text; `None` where it is anything else."""
    return value.decode() if value.translate(_HEXADECIMAL) == _SHAPE else None


def browser_session(header: bytes, own_name: bytes) -> tuple[Session | None, str]:
    """Read the browser client's cookies: the session that they tell of, if any, and the user's id.

    A session that the browser does not record is an `UnsampledSession`. `own_name` is the name of the
    session cookie for one app monitor, without its ``cwr_`` and with its ``=``; that cookie wins over
    ``cwr_s``.

    The client writes the members of a session in one order, so its first 66 bytes nearly always tell: with
    every hexadecimal digit made 0, they and the user's id are one of two texts. (So "sessionId" with other
    letters up to f passes too. Who makes up a cookie may as well write it correctly.) What looks different
    is read one by one.
    """
    parts = header.split(b"; cwr_")
    if len(parts) == 1:
        return _NOBODY if header.find(b"cwr_") < 0 else _read_in_turn(header, own_name)
    try:
        if len(parts) == 3:
            before, user, session = parts
            if before.startswith(b"cwr_"):  # a third one of the browser client's
                return _read_in_turn(header, own_name)
        elif header.startswith(b"cwr_"):
            user, session = parts
            user = user[4:]
        else:
            return _read_in_turn(header, own_name)
        # One session and one user: what nearly every browser sends.
        if session[0] == 117:  # u
            user, session = session, user
        read = a2b_base64(session[2:_HEAD]) + user[:38]
    except (ValueError, IndexError):  # no base64, or another number of cookies
        return _read_in_turn(header, own_name)
    shape = read.translate(_HEXADECIMAL)
    if (
        (shape == _RECORDED_SHAPE or shape == _NOT_RECORDED_SHAPE)  # noqa: PLR1714, SIM109 - a tuple costs more
        and session[:2] == b"s="
        and (len(user) == 38 or user[38] == 59)  # a semicolon
    ):
        text = read.decode()
        session_id, user_id = text[14:50], text[68:]
        if session_id != NIL_USER_ID:
            kind = Session if shape == _RECORDED_SHAPE else UnsampledSession
            return known_session(session_id, user_id, kind), user_id
    return _read_in_turn(header, own_name)


def _read_in_turn(header: bytes, own_name: bytes) -> tuple[Session | None, str]:
    """Read the cookies one by one, whatever there is."""
    session_id, user_id, recorded, is_ours = None, NIL_USER_ID, True, False
    before, *parts = header.split(b"cwr_")
    for part in parts:
        name = part[:2]
        if before[-1:] not in _BEFORE_A_NAME:
            pass
        elif name == b"s=":
            if session_id is None:
                session_id, recorded = _parsed(part[2:])
        elif name == b"u=":
            if part[38:39] in _AFTER_A_VALUE:
                user_id = uuid_text(part[2:38]) or NIL_USER_ID
        elif name == b"s_" and part.startswith(own_name) and not is_ours:
            found, its_recorded = _parsed(part[len(own_name) :])
            if found is not None:
                session_id, recorded, is_ours = found, its_recorded, True
        before = part
    if session_id is None:
        return None, user_id
    return known_session(session_id, user_id, Session if recorded else UnsampledSession), user_id


def _parsed(value: bytes) -> tuple[str | None, bool]:
    """Read the value of a session cookie, which ends at the first semicolon."""
    value = value[: _LONGEST + 1].partition(b";")[0].rstrip()
    if len(value) > _LONGEST:
        return None, True
    try:
        document = _decoded(value)
        session_id = uuid_text(document["sessionId"].encode("ascii"))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None, True
    if session_id is None or session_id == NIL_USER_ID:
        return None, True
    return session_id, document.get("record", True) is True


def _decoded(value: bytes) -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads(a2b_base64(value.rstrip(b"=") + b"=="))
    return document


@dataclass(frozen=True, slots=True)
class SessionCookie:
    """Our own session cookie, for visitors without the browser client.

    It is always ``HttpOnly`` and ``SameSite=Lax``, and lives for `max_age` seconds after the last
    request. `secure=False` is for plain HTTP on a developer's machine. Its value is the session's id
    and the time when it was set, in seconds, as 8 hexadecimal digits (which do until 2106). Raises
    `InvalidSetting`.
    """

    name: str = "rum_session"
    secure: bool = True
    domain: str | None = None
    path: str = "/"
    max_age: int = 1800
    template: bytes = field(init=False, repr=False, compare=False)
    """The header that sets it, without the session's id and the time."""

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and _is_token(self.name)):
            raise InvalidSetting("SessionCookie.name", "must be a cookie's name", type(self.name).__name__)
        for name in ("domain", "path"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and _is_attribute(value)):
                raise InvalidSetting(
                    f"SessionCookie.{name}",
                    "must be text without control characters, commas or semicolons",
                    "text",
                )
        if isinstance(self.max_age, bool) or not isinstance(self.max_age, int) or self.max_age < 1:
            raise InvalidSetting("SessionCookie.max_age", "must be a number of seconds", str(self.max_age))
        self._check_prefix()
        parts = [f"Max-Age={self.max_age}", f"Path={self.path}"]
        if self.domain is not None:
            parts.append(f"Domain={self.domain}")
        if self.secure:
            parts.append("Secure")
        parts += ("HttpOnly", "SameSite=Lax")
        constant = "; ".join(parts).encode("latin-1", "replace").replace(b"%", b"%%")
        start = self.name.replace("%", "%%").encode() + b"=%b.%08x; "
        object.__setattr__(self, "template", start + constant)

    def _check_prefix(self) -> None:
        """Check what a name promises: a browser drops a cookie that breaks it, and says nothing."""
        name = self.name.lower()
        if name.startswith(("__host-", "__secure-")) and not self.secure:
            raise InvalidSetting("SessionCookie.secure", "must be true for a name that begins so", "false")
        if name.startswith("__host-") and (self.domain is not None or self.path != "/"):
            raise InvalidSetting(
                "SessionCookie.name", "must not begin with __Host- beside a domain or a path", "one that does"
            )

    def header(self, session_id: str, now: int) -> bytes:
        """Return the value of the ``Set-Cookie`` header that sets it at `now`, in seconds."""
        return self.template % (session_id.encode(), now)


class OwnCookieReader:
    """Reads our own cookie from requests.

    The time in it has 8 hexadecimal digits, so that times compare as texts do; what they are compared with
    is worked out once a second.
    """

    __slots__ = ("_max_age", "_newest", "_now", "_oldest", "_prefix", "_refresh", "_refreshed")

    def __init__(self, cookie: SessionCookie) -> None:
        self._prefix = f"{cookie.name}=".encode()
        self._max_age = cookie.max_age
        self._refresh = min(_REFRESH, cookie.max_age // _SLIDES)
        self._now = -1
        self._oldest = self._refreshed = self._newest = b""

    def read(self, header: bytes, now: int) -> tuple[str, bool] | None:
        """Return the session's id, and whether the cookie is to be set anew; `None` if there is none.

        `header` is a request's ``Cookie`` header, of which the first cookie of our name counts, and `now` is
        in seconds.
        """
        before, _, rest = header.partition(self._prefix)
        if before and before[-1] not in b" ;":  # there is none, or it is the end of another cookie's name
            rest = self._behind_others(header)
        shape = rest[:46].translate(_HEXADECIMAL)
        if shape != _OWN_SHAPE and shape != _OWN_SHAPE_BEFORE_MORE:  # noqa: PLR1714 - a tuple costs more
            return None
        if now != self._now:
            self._work_out(now)
        set_at = rest[37:45]
        # From the future: another server's clock is ahead, or somebody made it up.
        if set_at < self._oldest or set_at > self._newest:
            return None
        session_id = rest[:36].decode()
        return None if session_id == NIL_USER_ID else (session_id, set_at <= self._refreshed)

    def _behind_others(self, header: bytes) -> bytes:
        """Return what follows the cookie's name where others end with it; nothing where there is none."""
        prefix = self._prefix
        start = header.find(prefix, 1)
        while start > 0 and header[start - 1] not in b" ;":
            start = header.find(prefix, start + 1)
        return b"" if start < 0 else header[start + len(prefix) :]

    def _work_out(self, now: int) -> None:
        self._oldest, self._refreshed, self._newest = (
            b"%08x" % max(0, then) for then in (now - self._max_age, now - self._refresh, now + _CLOCKS_APART)
        )
        self._now = now
