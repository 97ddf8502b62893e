from __future__ import annotations

from html.parser import HTMLParser

from rumbuffer.emulator import Emulator, Fault
from tests.emulator.helpers import SESSION, body, event, post

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class Page(HTMLParser):
    """A page's tags, attributes and text, as a browser would take them."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str | None] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag and what it refers to."""
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in {"src", "href"}]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        """Note what can be read."""
        self.text += data


async def page(emulator: Emulator) -> Page:
    """What a browser gets."""
    reply = await post(emulator, b"", method="GET", target="/")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    return Page(reply.body.decode())


async def test_the_page_shows_what_arrived() -> None:
    """App monitor, session, batches, events, refusals and faults are all there."""
    async with Emulator(signatures=False) as emulator:
        emulator.script(Fault.ok(), Fault.status(503))
        for number in (1, 2, 1):
            await post(emulator, body(number))
        await post(emulator, b"{")
        shown = (await page(emulator)).text
    for expected in ("shop", "1.4.2", SESSION, "com.example.checkout", '{"total":42}', "ValidationException"):
        assert expected in shown
    assert "Batches1" in shown
    assert "Fault503" in shown
    assert "1 repeated" in shown


async def test_an_empty_emulator_has_a_page() -> None:
    """Before the first batch the page says so."""
    async with Emulator(quota=None) as emulator:
        shown = (await page(emulator)).text
    assert "None is kept yet." in shown
    assert "no quota" in shown


async def test_hostile_content_is_only_text() -> None:
    """Markup in anything that was sent is shown and never becomes part of the page."""
    details = '{"a":"' + HOSTILE.replace('"', "'") + '"}'
    async with Emulator(signatures=False) as emulator:
        plain = await page(emulator)
        hostile = body(
            1,
            Alias=HOSTILE,
            AppMonitorDetails={"name": HOSTILE, "version": HOSTILE},
            SessionMetadata=details,
            RumEvents=[
                event(1, details=details, metadata=details),
                event(2, details='{"' + HOSTILE[:8] + '":"' + "x" * 7000 + '"}'),
            ],
        )
        assert (await post(emulator, hostile)).status == 200
        shown = await page(emulator)
    assert "<script>alert(1)</script>" in shown.text
    assert shown.tags - plain.tags <= {"details", "summary", "time", "br", "td", "code", "p"}
    assert shown.handlers == []


async def test_the_page_loads_nothing() -> None:
    """Nothing comes from elsewhere, and nothing runs."""
    async with Emulator(signatures=False) as emulator:
        await post(emulator, body())
        shown = await page(emulator)
    assert shown.links == ["/"]
    assert not shown.tags & {"script", "link", "img", "iframe", "object"}


async def test_odd_times_and_long_strings_fit_the_page() -> None:
    """A timestamp beyond the calendar is shown as it came, a long string is cut."""
    events = [event(1, timestamp=1e300), event(2, details='{"a":"' + "x" * 5000 + '"}')]
    async with Emulator(signatures=False) as emulator:
        await post(emulator, body(1, RumEvents=events))
        shown = (await page(emulator)).text
    assert "1e+300" in shown
    assert "(5008 characters)" in shown
    assert "x" * 2001 not in shown


async def test_long_batches_are_cut() -> None:
    """Of many events the first fifty are shown and the rest counted."""
    async with Emulator(signatures=False) as emulator:
        await post(emulator, body(1, RumEvents=[event(n) for n in range(130)]))
        assert "80 more" in (await page(emulator)).text
