from __future__ import annotations

import base64
import json
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rumbuffer import InvalidSetting, Session
from rumbuffer.cookies import OwnCookieReader, SessionCookie, browser_session, uuid_text
from tests.web.helpers import MONITOR, NIL, SESSION, USER, session_cookie

OURS = f"s_{MONITOR}=".encode()
OTHER = "00000000-1111-2222-3333-444444444444"


def read(*cookies: str) -> tuple[str | None, str, bool]:
    """Read a header of these cookies: the session's id, the user's, and whether they are recorded."""
    session, user_id = browser_session("; ".join(cookies).encode(), OURS)
    if session is None:
        return None, user_id, True
    assert session == Session(session.id, user_id)
    return session.id, session.user_id, session.sample_point < 1.0


def encoded(document: object) -> str:
    """Return a session cookie that holds the document."""
    return "cwr_s=" + base64.b64encode(json.dumps(document).encode()).decode()


def test_session_and_user_are_read() -> None:
    """The browser client's two cookies give the session's id and the user's."""
    assert read("a=b", f"cwr_u={USER}", session_cookie(), "c=d") == (SESSION, USER, True)


def test_order_and_place_do_not_matter() -> None:
    """The cookies may stand in any order, with or without others around them."""
    assert read(session_cookie(), f"cwr_u={USER}") == (SESSION, USER, True)
    assert read(session_cookie()) == (SESSION, NIL, True)


def test_our_monitors_cookie_wins_wherever_it_stands() -> None:
    """In every order of the browser client's three cookies, and with others around them."""
    ours = session_cookie(record=False).replace("cwr_s=", f"cwr_{OURS.decode()}", 1)
    three = (ours, session_cookie(OTHER), f"cwr_u={USER}")
    for order in permutations(three):
        assert read(*order) == (SESSION, USER, False)
        assert read("x=1", *order, "y=2") == (SESSION, USER, False)


def test_without_padding() -> None:
    """The base64 may lack its padding, whatever its length."""
    for count in range(4):
        assert read(session_cookie(padded=False, more="x" * count)) == (SESSION, NIL, True)


def test_record_false() -> None:
    """A session that the browser client did not sample says so."""
    assert read(session_cookie(record=False)) == (SESSION, NIL, False)


@pytest.mark.parametrize("record", ["true", 0, None, "false", 1])
def test_record_that_is_not_true(record: object) -> None:
    """Whatever is there instead of true means that nothing may be recorded."""
    assert read(session_cookie(record=record)) == (SESSION, NIL, False)


def test_members_in_another_order() -> None:
    """A client that writes its members in another order, or with spaces, is understood too."""
    assert read(encoded({"record": True, "eventCount": 1, "sessionId": SESSION})) == (SESSION, NIL, True)
    assert read(encoded({"sessionId": SESSION})) == (SESSION, NIL, True)


def test_cookie_of_our_app_monitor_wins() -> None:
    """The cookie that is named for our app monitor wins over the one without a name, in any order."""
    named = session_cookie(OTHER, name=f"cwr_s_{MONITOR}", record=False)
    assert read(session_cookie(), named) == (OTHER, NIL, False)
    assert read(named, session_cookie()) == (OTHER, NIL, False)


def test_cookie_of_another_app_monitor_is_not_ours() -> None:
    """The cookie that is named for another app monitor is left alone."""
    named = session_cookie(name=f"cwr_s_{OTHER}")
    assert read(named)[0] is None
    assert read(named, session_cookie(OTHER))[0] == OTHER


def test_name_within_another_name_or_value() -> None:
    """What only looks like the cookie, within another's name or value, is not it."""
    assert read("x" + session_cookie())[0] is None
    assert read("other=" + session_cookie())[0] is None


@pytest.mark.parametrize(
    "user", ["", "x", USER[:-1], USER + "0", USER.replace("-", "0"), f"{USER}=", "é" * 36, f'"{USER}"']
)
def test_user_cookie_that_is_no_uuid(user: str) -> None:
    """A user's cookie that is no bare UUID is the same as none."""
    assert read(f"cwr_u={user}", session_cookie()) == (SESSION, NIL, True)


@pytest.mark.parametrize(
    "cookie",
    [
        "cwr_s=",
        "cwr_s",
        "cwr_s=%%%",
        "cwr_s=bnVsbA==",
        encoded(None),
        encoded([]),
        encoded("x"),
        encoded(7),
        encoded({}),
        encoded({"sessionId": None, "record": True}),
        encoded({"sessionId": 7, "record": True}),
        encoded({"sessionId": "x" * 36, "record": True}),
        encoded({"sessionId": "é" * 36, "record": True}),
        encoded({"sessionId": SESSION + "0", "record": True}),
        encoded({"sessionId": NIL, "record": True}),
        "cwr_s=" + base64.b64encode(b'{"sessionId":"').decode(),
        "cwr_s=" + base64.b64encode(b"[" * 3000).decode(),
        "cwr_s=" + base64.b64encode(b"\xff" * 80).decode(),
        encoded({"a": "x" * 8000, "sessionId": SESSION, "record": True}),
        session_cookie(NIL),
    ],
)
def test_hostile_session_cookie(cookie: str) -> None:
    """A session cookie of another shape is the same as none."""
    assert read(cookie)[0] is None


@given(st.binary(max_size=400))
def test_any_bytes(header: bytes) -> None:
    """No header raises, and what comes out is UUIDs."""
    for cookies in (header, b"cwr_s=" + header, b"cwr_u=" + header, b"cwr_" + OURS + header):
        session, user_id = browser_session(cookies, OURS)
        assert session is None or session == Session(session.id, user_id)
        assert uuid_text(user_id.encode()) == user_id


@given(
    st.fixed_dictionaries(
        {"sessionId": st.uuids().map(str), "record": st.booleans()},
        optional={"eventCount": st.integers(0, 10**6), "page": st.dictionaries(st.text(), st.text())},
    )
)
def test_any_session(document: dict[str, Any]) -> None:
    """Every session that a client may write is read as it was written."""
    for separators in ((",", ":"), (", ", ": ")):
        text = json.dumps(document, separators=separators)
        if len(text) < 3000:
            cookie = "cwr_s=" + base64.b64encode(text.encode()).decode()
            expected = None if document["sessionId"] == NIL else document["sessionId"]
            assert read(cookie) == (expected, NIL, document["record"])


def test_own_cookie_is_read_back() -> None:
    """Our own cookie gives the session back, and is set again once it is a minute old."""
    cookie = SessionCookie()
    header = cookie.header(SESSION, 1000)
    assert header == (
        b"rum_session=%b.000003e8; Max-Age=1800; Path=/; Secure; HttpOnly; SameSite=Lax" % SESSION.encode()
    )
    value = header.partition(b";")[0]
    reader = OwnCookieReader(cookie)
    for sent in (value, b"a=b; " + value, value + b"; a=b", b"a=b;" + value + b";"):
        assert reader.read(sent, 1000) == (SESSION, False)
        assert reader.read(sent, 1059) == (SESSION, False)
        assert reader.read(sent, 1060) == (SESSION, True)
        assert reader.read(sent, 2800) == (SESSION, True)


def test_own_cookie_expires() -> None:
    """Our own cookie that is older than its age, or from the future, is the same as none."""
    reader = OwnCookieReader(SessionCookie(max_age=100))
    value = f"rum_session={SESSION}.{1000:08x}".encode()
    assert reader.read(value, 1100) == (SESSION, True)
    assert reader.read(value, 1101) is None
    assert reader.read(value, 940) == (SESSION, False)
    assert reader.read(value, 939) is None


def test_own_cookie_is_found_by_its_whole_name() -> None:
    """A cookie whose name ends like ours is another one, wherever it stands; the first of ours counts."""
    reader = OwnCookieReader(SessionCookie("b"))
    first, second = (f"{its}.{1000:08x}" for its in (SESSION, OTHER))
    for header in (
        f"ab={second}; b={first}; b={second}",
        f"a=1; ab={second};b={first}",
        f"b={first}; ab={second}",
    ):
        assert reader.read(header.encode(), 1000) == (SESSION, False)
    for header in (f"ab={second}", f"a=1; ab={second}", f"ab=b={second}", f"xb=b=b={second}", "b=", "b", ""):
        assert reader.read(header.encode(), 1000) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        SESSION,
        SESSION + ".",
        SESSION + ".3e8",
        SESSION + ".zz0003e8",
        SESSION + "x000003e8",
        SESSION + ".0000003e8",
        SESSION + "." + "f" * 900,
        NIL + ".000003e8",
        " " + SESSION + ".000003e8",
    ],
)
def test_hostile_own_cookie(value: str) -> None:
    """Our own cookie in another shape, or with the nil UUID, is the same as none."""
    assert OwnCookieReader(SessionCookie()).read(b"rum_session=" + value.encode(), 1000) is None


@given(st.binary(max_size=200), st.integers(0, 2**32 - 1))
def test_any_bytes_in_our_cookie(value: bytes, now: int) -> None:
    """No value of our own cookie raises, and what comes out is a UUID."""
    found = OwnCookieReader(SessionCookie()).read(b"rum_session=" + value, now)
    assert found is None or uuid_text(found[0].encode()) == found[0]


def test_own_cookie_settings() -> None:
    """A domain, a path, and plain HTTP are set where they are asked for."""
    cookie = SessionCookie("visit", secure=False, domain="example.com", path="/shop", max_age=60)
    assert cookie.header(SESSION, 0) == (
        b"visit=%b.00000000; Max-Age=60; Path=/shop; Domain=example.com; HttpOnly; SameSite=Lax"
        % SESSION.encode()
    )


@pytest.mark.parametrize(
    "settings", [{"name": "a;b"}, {"name": ""}, {"domain": "a;b"}, {"path": "a\nb"}, {"max_age": 0}]
)
def test_own_cookie_that_breaks_a_rule(settings: dict[str, Any]) -> None:
    """A setting that no cookie can carry is refused, by name."""
    with pytest.raises(InvalidSetting, match=next(iter(settings))):
        SessionCookie(**settings)


def test_browsers_cookie_has_a_bound() -> None:
    """A session cookie of 4096 bytes is read, and a longer one is the same as none, wherever it ends."""
    others = "; other=1"
    value = padded_to(4096)
    assert read(f"cwr_s={value}") == (SESSION, NIL, True)
    assert read(f"cwr_s={value}{others}") == (SESSION, NIL, True)
    assert read(f"cwr_s={padded_to(4100)}") == (None, NIL, True)
    assert read(f"cwr_s=*{value}") == (None, NIL, True)  # base64 skips what is none


def padded_to(length: int) -> str:
    """Return the value of a session cookie of this length, whose members stand in another order."""
    text = json.dumps({"record": True, "sessionId": SESSION})
    value = base64.b64encode(text.ljust(length // 4 * 3).encode()).decode()
    assert len(value) == length
    return value


@pytest.mark.parametrize(("max_age", "seconds"), [(10, 0), (60, 2), (1800, 60), (86400, 60)])
def test_own_cookie_slides_whatever_its_age(max_age: int, seconds: int) -> None:
    """It is set anew well before it ends: after a minute, or a thirtieth of a short life."""
    cookie = SessionCookie(max_age=max_age)
    header, reader = cookie.header(SESSION, 1000), OwnCookieReader(cookie)
    if seconds:
        assert reader.read(header, 1000 + seconds - 1) == (SESSION, False)
    assert reader.read(header, 1000 + seconds) == (SESSION, True)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "__Host-rum", "domain": "example.com"},
        {"name": "__host-rum", "path": "/shop"},
        {"secure": False, "name": "__Host-rum"},
        {"secure": False, "name": "__Secure-rum"},
    ],
)
def test_own_cookie_that_browsers_would_drop(settings: dict[str, Any]) -> None:
    """A name that promises what the other settings break is refused (RFC 6265bis, 4.1.3)."""
    with pytest.raises(InvalidSetting, match=next(iter(settings))):
        SessionCookie(**settings)
    assert SessionCookie("__Host-rum").secure
    assert SessionCookie("__Secure-rum", domain="example.com", path="/shop").secure
