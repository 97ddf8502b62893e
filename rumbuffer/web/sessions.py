"""Whose request it is: from the browser client's cookies, else the user's own way, else our own cookie."""

from __future__ import annotations

import re
import time
from asyncio import CancelledError
from collections.abc import Callable
from typing import Any, TypeAlias

from rumbuffer.cookies import OwnCookieReader, SessionCookie, browser_session, uuid_text
from rumbuffer.errors import InvalidSetting
from rumbuffer.events import NIL_USER_ID, Session
from rumbuffer.ids import new_id
from rumbuffer.web.callables import check_callable
from rumbuffer.web.door import Door
from rumbuffer.web.known import UnsampledSession, known_session

__all__ = ["Found", "SessionFinder"]


Found: TypeAlias = tuple[Session, bool, bytes | None]
"""A request's session, whether it is sampled, and the ``Set-Cookie`` that its response must carry."""


class SessionFinder:
    """Finds the session of a request. Never raises, never waits."""

    def __init__(
        self,
        door: Door,
        *,
        session: Callable[[Any], Session | str | None] | None,
        session_header: str | None,
        own_session: SessionCookie | None,
        sample_rate: float,
    ) -> None:
        if session is not None:
            check_callable("session", session)
        if session_header is not None and not _is_header(session_header):
            raise InvalidSetting("session_header", "must be a header's name", type(session_header).__name__)
        if own_session is not None and not isinstance(own_session, SessionCookie):
            raise InvalidSetting("own_session", "must be a SessionCookie or None", type(own_session).__name__)
        self.header: bytes | None = None if session_header is None else session_header.lower().encode()
        self._door = door
        self._ask = session
        self._cookie = own_session
        self._read_own = None if own_session is None else OwnCookieReader(own_session).read
        self._cookie_of_monitor = f"s_{door.app_monitor.id}=".encode()
        self._is_kept: Callable[[str], bool] | None = door.keeps(sample_rate)
        """Whether a session's id is sampled; `None` where all are."""

    def find(self, cookies: bytes | None, header: bytes | None, request: object) -> Found | None:
        """Return the session of the request that has these headers; `None` where there is none."""
        user_id, is_kept = NIL_USER_ID, self._is_kept
        if cookies is not None:
            browsers, user_id = browser_session(cookies, self._cookie_of_monitor)
            if browsers is not None:
                if browsers.__class__ is not Session:
                    return browsers, False, None
                return browsers, is_kept is None or is_kept(browsers.id), None
        if header is not None or self._ask is not None:
            given = self._given(header, user_id, request)
            if given is not None:
                if isinstance(given, UnsampledSession):
                    return given, False, None
                return given, is_kept is None or is_kept(given.id), None
        return None if self._cookie is None else self._own(cookies, user_id)

    def _given(self, header: bytes | None, user_id: str, request: object) -> Session | None:
        """Return what the user's header or callable says."""
        if header is not None:
            session_id = uuid_text(header.strip())
            if session_id is not None and session_id != NIL_USER_ID:
                return known_session(session_id, user_id, Session)
        if self._ask is None:
            return None
        try:
            answer = self._ask(request)
            if answer is None:
                return None
            session = answer if isinstance(answer, Session) else Session(answer, user_id)
        except (Exception, CancelledError) as error:  # noqa: BLE001 - whatever a user's callable does, the request goes on
            self._door.failed("the session callable", error)
            return None
        return None if session.id == NIL_USER_ID else session

    def _own(self, cookies: bytes | None, user_id: str) -> Found:
        cookie, read = self._cookie, self._read_own
        assert cookie is not None
        assert read is not None
        now = int(time.time())
        kept = None if cookies is None else read(cookies, now)
        session_id, is_old = (new_id(), True) if kept is None else kept
        header = cookie.header(session_id, now) if is_old else None
        is_kept = self._is_kept
        session = known_session(session_id, user_id, Session)
        return session, is_kept is None or is_kept(session_id), header


_is_header = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}").fullmatch
