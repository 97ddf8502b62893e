"""The report: whole in one file, safe to open, and drawn as plotly understands it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import orjson
import pytest

from rumbuffer.bench import page
from rumbuffer.bench.charts import charts
from rumbuffer.bench.compare import Comparison
from rumbuffer.bench.plots import COLOURS, Chart
from rumbuffer.bench.result import Result
from tests.bench.helpers import books, histograms, result, series

EVIL = '</script><img src=https://example.com/x onerror=alert(1)>&"'
SCRIPT = "/* plotly */"


@pytest.fixture(autouse=True)
def no_plotly(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Stand in for plotly's script of five megabytes, but where a test asks for the real one."""
    if "real_plotly" not in request.fixturenames:
        monkeypatch.setattr(page, "_plotly", lambda: SCRIPT)


@pytest.fixture
def real_plotly() -> Any:
    """plotly, if it is installed."""
    return pytest.importorskip("plotly")


class Tags(HTMLParser):
    """Collects the tags of a page, and the text outside of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        self.tags.append((tag, dict(attrs)))


def tags(html: str) -> list[tuple[str, dict[str, str | None]]]:
    """All tags."""
    parser = Tags()
    parser.feed(html)
    return parser.tags


def evil() -> Result:
    """A result in which every text is markup."""
    made = result()
    lost = books(delivered=24_999, answered=24_999, dropped=1, dropped_by_reason={EVIL: 1})
    return replace(
        made,
        books=lost,
        service=None,
        machine={**made.machine, "cpu": EVIL},
        versions={**made.versions, EVIL: EVIL},
        settings={**made.settings, "service": {"endpoint": EVIL}},
    )


def pages() -> Iterator[str]:
    """A report, and a comparison under evil names."""
    yield page.report(evil())
    yield page.comparison(Comparison(evil(), result(), EVIL, "b.json"))


@pytest.mark.parametrize("html", [0, 1])
def test_page_needs_and_fetches_nothing(html: int) -> None:
    """No tag names anything outside the page, and a policy forbids it to whatever would."""
    made = list(pages())[html]
    found = tags(made)
    assert not any({"src", "href", "srcset", "data", "action"} & set(attributes) for _, attributes in found)
    assert {tag for tag, _ in found} & {"img", "link", "iframe", "object", "form"} == set()
    (policy,) = [
        attributes["content"] or ""
        for tag, attributes in found
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert "@import" not in made
    assert "url(" not in made


@pytest.mark.parametrize("html", [0, 1])
def test_page_shows_text_as_text(html: int) -> None:
    """Markup in a name, a setting or a reason is shown and not obeyed; no script ends early."""
    made = list(pages())[html]
    assert EVIL not in made
    assert "&lt;/script&gt;" in made
    assert len(re.findall("<script", made)) == len(re.findall("</script", made)) == 3
    data = made.partition('id="charts">')[2].partition("</script>")[0]
    assert {"id", "data", "layout"} == set(orjson.loads(data)[0])


def test_charts_cannot_end_their_script() -> None:
    """Nothing in a chart's data is taken for markup, and all of it arrives as it was."""
    made = page._page("t", [], [Chart("id", "t", "t", [{"name": EVIL}], {})])
    data = made.partition('id="charts">')[2].partition("</script>")[0]
    assert orjson.loads(data)[0]["data"] == [{"name": EVIL}]
    assert "<" not in data


def test_report_holds_what_was_asked_for() -> None:
    """Verdict, figures, charts, percentiles, books, method and settings are all there."""
    made = page.report(result())
    for text in (
        "All 25,000 events that were accepted were delivered",
        "Offered and delivered",
        "Pending",
        "Fill",
        "throttles",
        "Age at delivery",
        "record(), all calls",
        "Loop lag",
        "Memory",
        "p99.9",
        "offered = accepted + sampled out + refused",
        "What the emulator counted",
        "A processor",
        "CPython 3.11.7",
        "max pending bytes",
        "Seed 1 ",
    ):
        assert text in made, text
    for chart in charts([("a", result())]):
        assert f'id="chart-{chart.id}"' in made


def test_law_that_is_broken_is_seen() -> None:
    """A law that does not hold is marked as such."""
    assert "BROKEN" not in page.report(result())
    assert "BROKEN" in page.report(result(books=books(planned=25_001)))


def sparse() -> Result:
    """A run that was over before anything was measured."""
    empty = histograms(record={}, age={}, request={}, fill={}, loop_lag={}, delay={})
    nothing = dict.fromkeys(
        ("age_p50", "age_p99", "record_p50", "record_p99", "lag_p50", "lag_max", "delay_max")
    )
    return result(histograms=empty, series=series(**nothing))


def test_empty_run_has_a_report() -> None:
    """A run in which nothing was measured has a report, and so has one without a single sample."""
    assert "Nothing was measured" in page.report(sparse())
    bare = replace(sparse(), series={name: [] for name in series()}, seconds=0.0)
    assert "Percentiles" in page.report(bare)


@pytest.mark.parametrize("results", [[("", result())], [("", sparse())], [("A", result()), ("B", result())]])
def test_charts_are_what_plotly_knows(results: list[tuple[str, Result]], real_plotly: Any) -> None:
    """Each chart's data and layout are valid to plotly, and each colour has its name in the page's script."""
    from plotly import graph_objects

    script = (files("rumbuffer.bench") / "assets" / "report.js").read_text(encoding="utf-8")
    for colour in COLOURS:
        assert script.count(f'"{colour}":') == 2  # light and dark
    for chart in charts(results):
        named = set(re.findall(r'"(@[^"]*)"', orjson.dumps([chart.data, chart.layout]).decode()))
        assert named <= set(COLOURS)
        plain = re.sub(r'"@[^"]*"', '"#123456"', orjson.dumps([chart.data, chart.layout]).decode())
        data, layout = orjson.loads(plain)
        graph_objects.Figure(data, layout)


def test_report_holds_the_real_plotly(real_plotly: Any) -> None:
    """The script in the page is plotly's, whole, and does not end the page's script early."""
    made = page.report(result())
    assert "plotly.js v" in made
    assert len(made) > 3_000_000
    assert len(re.findall("</script", made)) == 3
