"""The frame of the benchmarks: what they print, write and judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("benchmarks", reason="where the wheel is tested, there is the package alone")

from benchmarks.__main__ import BENCHMARKS, README
from benchmarks.cases import by_turns, lowest, medians
from benchmarks.report import Report, parser, shown
from benchmarks.send import show as show_send
from benchmarks.tables import replaced


def test_the_results_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables, bars, machine, versions and commit are written; the exit status tells of a missed bar."""
    file = tmp_path / "results.json"
    report = Report("example", ("orjson",), str(file))
    report.table("Cost", ("case", "µs")).row("a", 1.5)
    report.at_most("a, µs", 2.0, 1.5)
    assert report.finish() == 0
    report.at_least("a, events", 3.0, 2.5)
    assert report.finish() == 1
    results = json.loads(file.read_text(encoding="utf-8"))
    assert results["benchmark"] == "example"
    assert results["tables"] == [{"title": "Cost", "columns": ["case", "µs"], "rows": [["a", 1.5]]}]
    assert results["bars"] == [
        {"question": "a, µs", "bar": "at most 2", "measured": 1.5, "met": True},
        {"question": "a, events", "bar": "at least 3", "measured": 2.5, "met": False},
    ]
    assert {"rumbuffer", "orjson"} <= set(results["versions"])
    assert results["machine"]
    assert results["commit"]
    assert "MISSED" in capsys.readouterr().out


def test_json_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` without a file leaves standard output to the JSON."""
    options = parser("example", "Text.").parse_args(["--json"])
    report = Report("example", json_to=options.json)
    report.table("Cost", ("case", "µs")).row("a", 1.5)
    report.finish()
    captured = capsys.readouterr()
    assert json.loads(captured.out)["tables"][0]["rows"] == [["a", 1.5]]
    assert "Cost" in captured.err


def test_versions_and_leave(capsys: pytest.CaptureFixture[str]) -> None:
    """`--versions` names what would be measured, and measures nothing."""
    with pytest.raises(SystemExit) as left:
        parser("example", "Text.", ("no-such-package",)).parse_args(["--versions"])
    assert left.value.code == 0
    assert "no-such-package not installed" in capsys.readouterr().out.replace("\n", " ")


def test_a_row_has_a_cell_for_each_column() -> None:
    """A row of another length is a mistake."""
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Report("example").table("Cost", ("case", "µs")).row("a")


def test_figures_have_about_three_digits() -> None:
    """A cell is shown as people read it."""
    assert [shown(cell) for cell in (None, "a", 12345, 1234.5, 12.34, 1.234, 0.0123, 0.0)] == [
        "–",
        "a",
        "12,345",
        "1,234",
        "12.3",
        "1.23",
        "0.012",
        "0",
    ]


def test_tables_go_between_their_marks() -> None:
    """The README's results are replaced, and its prose is left alone."""
    results = {
        "machine": "M",
        "versions": {"rumbuffer": "1"},
        "commit": "abc",
        "seconds": 3.0,
        "tables": [{"title": "Cost", "columns": ["case", "µs"], "rows": [["a|b", 1.5]]}],
        "bars": [{"question": "q", "bar": "at most 1", "measured": 1.5, "met": False}],
    }
    text = "before\n<!-- results of x -->\nold\n<!-- end of x -->\nafter\n"
    written = replaced(text, "x", results)
    assert written.startswith("before\n<!-- results of x -->\n")
    assert written.endswith("<!-- end of x -->\nafter\n")
    assert "old" not in written
    assert "| a\\|b | 1.50 |" in written
    assert "| q | at most 1 | 1.50 | **no** |" in written
    assert replaced(written, "x", results) == written
    with pytest.raises(ValueError, match="no marks for y"):
        replaced(text, "y", results)


def test_the_readme_has_marks_for_every_benchmark() -> None:
    """What `make bench` runs has its place."""
    text = README.read_text(encoding="utf-8")
    for name in BENCHMARKS:
        assert replaced(text, name, {}) == text


def test_cases_by_turns() -> None:
    """Cases run in turn; of their runs, the median and the lowest are taken."""
    order: list[str] = []

    def measure(case: str) -> dict[str, float]:
        order.append(case)
        return {"µs": float(len(order))}

    runs = by_turns(["a", "b"], 3, measure)
    assert order == ["a", "b"] * 3
    assert (medians(runs["a"]), lowest(runs["b"])) == ({"µs": 3.0}, {"µs": 2.0})


def found_by_send(**changed: Any) -> dict[str, Any]:
    """What `benchmarks.send` measures where all is well."""
    run = {"seconds": 2.0, "processor": 1.0, "peak": 90.0, "output": ""}
    half = {"distinct": 4, "events": 4, "again": 0, "differing": 0, "requests": 1, "checksum": 1}
    return {
        "lines": 10,
        "bytes": 1000,
        "runs": [{"status": -9, **run}, {"status": 0, **run}],
        "totals": {"lines": 10, "delivered": 10, "rejected": 0, "repeated": 2},
        "first": half,
        "whole": {"distinct": 10, "events": 12, "again": 2, "differing": 0, "requests": 3, "checksum": 7},
        "checksum": 7,
        **changed,
    }


def test_send_reaches_its_bars() -> None:
    """Its tables have both runs and what arrived."""
    report = Report("send")
    show_send(report, found_by_send())
    assert [len(table.rows) for table in report.tables] == [2, 1]
    assert report.finish() == 0


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({"checksum": 8}, "they say what their lines say"),
        ({"totals": {}}, "totals: delivered"),
        ({"lines": 11}, "events that arrived"),
    ],
)
def test_send_misses_its_bars(changed: dict[str, Any], missed: str) -> None:
    """Each thing that is not as it should be is a bar of its own."""
    report = Report("send")
    show_send(report, found_by_send(**changed))
    assert missed in [bar.question for bar in report.bars if not bar.met]
    assert report.finish() == 1
