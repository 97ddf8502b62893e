"""The result: its document, and the laws of its books."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from rumbuffer.bench.result import NoResult, Result, laws
from tests.bench.helpers import SERVICE, books, result, series

MEMBERS = {
    "schema",
    "balanced",
    "started",
    "interrupted",
    "seconds",
    "drained",
    "machine",
    "versions",
    "settings",
    "books",
    "harness",
    "service",
    "histograms",
    "series",
}
"""Scripts read these: a change of them is a change of the schema's name."""


def test_document_is_stable() -> None:
    """The document has its members, and is the same after it was read and written again."""
    document = orjson.loads(result().as_json())
    assert set(document) == MEMBERS
    assert document["schema"] == "rumbuffer-bench/1"
    assert document["balanced"] is True
    again = Result.from_dict(document)
    assert orjson.loads(again.as_json()) == document


def test_file_is_read(tmp_path: Path) -> None:
    """A file that was written can be read."""
    (tmp_path / "a.json").write_bytes(result().as_json())
    assert Result.read(tmp_path / "a.json").books == books()


def without(document: dict[str, Any], *path: str) -> dict[str, Any]:
    """The document without a member."""
    inner = document
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return document


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda _: [1, 2], "list of 2 members, not an object"),
        (lambda _: {}, "no member 'schema'"),
        (lambda document: document | {"schema": "rumbuffer-bench/9"}, "another schema"),
        (lambda document: without(document, "books"), "'books' is missing"),
        (lambda document: without(document, "books", "planned"), "'planned' is missing"),
        (lambda document: without(document, "histograms", "age"), "'age' is missing"),
        (lambda document: without(document, "series", "pending"), "'pending' is missing"),
        (lambda document: document | {"books": 3}, "another form"),
        (lambda document: document | {"machine": {}}, "'load_average' is missing"),
        (lambda document: document | {"settings": {}}, "'load' is missing"),
        (lambda document: document | {"settings": document["settings"] | {"load": 3}}, "another form"),
        (
            lambda document: document | {"series": {name: ["x"] for name in document["series"]}},
            "another form",
        ),
        (lambda document: document | {"series": document["series"] | {"t": [1]}}, "differ in length"),
    ],
)
def test_other_documents_are_refused(spoil: Any, said: str) -> None:
    """What is no result is refused with what is wrong with it."""
    with pytest.raises(NoResult, match=said):
        Result.from_dict(spoil(orjson.loads(result().as_json())))


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A file that holds no JSON is refused."""
    (tmp_path / "a.json").write_text("<html>")
    with pytest.raises(NoResult, match="no JSON"):
        Result.read(tmp_path / "a.json")


def test_books_of_a_good_run_hold() -> None:
    """Every law holds, and nothing is lost."""
    assert [law.holds for law in laws(result())] == [True] * 5
    assert result().lost == 0


@pytest.mark.parametrize(
    ("wrong", "law"),
    [
        ({"planned": 25_001}, "planned"),
        ({"refused": 1}, "offered"),
        ({"pending": 1}, "accepted"),
        ({"answered": 24_999}, "delivered = events in answered requests"),
    ],
)
def test_each_law_can_be_broken(wrong: dict[str, int], law: str) -> None:
    """An event too many or too few anywhere breaks the law of that place, and no other."""
    made = result(books=books(**wrong))
    assert not made.balanced
    (broken,) = [each for each in laws(made) if not each.holds]
    assert broken.text.startswith(law)


def test_service_must_have_kept_what_was_delivered() -> None:
    """One event less in the service breaks the books; events of unknown outcome may have been kept or not."""
    assert not result(service=SERVICE | {"events": 24_999}).balanced
    assert result(service=SERVICE | {"events": 24_999, "silently_dropped": 1}).balanced
    unknown = books(
        delivered=24_900, answered=24_900, dropped=100, dropped_by_reason={"outcome_unknown": 100}
    )
    for kept in (24_900, 24_950, 25_000):
        assert result(books=unknown, service=SERVICE | {"events": kept}).balanced
    assert not result(books=unknown, service=SERVICE | {"events": 25_001}).balanced


def test_endpoint_of_ones_own_is_not_asked() -> None:
    """Without an emulator the law about the service falls away."""
    assert len(laws(result(service=None))) == 4


def test_rates_are_those_of_the_measured_time() -> None:
    """Neither warm-up nor drain count."""
    made = result()
    assert made.rate("delivered") == 500
    assert made.growth("requests") == 800
    assert len(made.window("t")) == 80
    assert replace(made, seconds=0.0).rate("delivered") == 0


def test_rates_do_not_depend_on_when_samples_were_taken() -> None:
    """Samples come a little late; a rate is of the time between them, and not of the planned one."""
    late = [time + 0.07 for time in series()["t"]]
    made = result(series=series() | {"t": late, "offered": [int(500 * (time + 10)) for time in late]})
    assert made.rate("offered") == pytest.approx(500, rel=1e-3)
    assert len(made.window("t")) == 80


def test_losses_are_told_by_reason() -> None:
    """Lost events are told with what became of them, the most first."""
    made = result(
        books=books(
            refused=1, refused_by_reason={"buffer_full": 1}, dropped=5, dropped_by_reason={"overflow": 5}
        )
    )
    assert made.lost == 6
    assert list(made.lost_by_reason().items()) == [("dropped (overflow)", 5), ("refused (buffer_full)", 1)]
