"""What can be imported from `rumbuffer` (the modules behind it: tests/test_package.py)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import rumbuffer

README = Path(__file__).parents[2] / "README.md"


def test_all_names_what_is_imported_and_nothing_else() -> None:
    """`__all__` is what `__init__` imports, without repeats, and `import *` gives exactly that."""
    tree = ast.parse(Path(rumbuffer.__file__).read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    imported = [alias.asname or alias.name for node in imports for alias in node.names]
    assert sorted(rumbuffer.__all__) == sorted(imported)
    space: dict[str, object] = {}
    exec("from rumbuffer import *", space)  # noqa: S102 - what a user may write
    assert space.keys() - {"__builtins__"} == set(rumbuffer.__all__)


@pytest.mark.skipif(not README.exists(), reason="no README beside the tests")
def test_what_the_readme_names_is_exported() -> None:
    """Each name that the README imports from rumbuffer, or calls `rumbuffer.…`, is in `__all__`."""
    text = README.read_text()
    lines: list[str] = re.findall(r"^ *from rumbuffer import ([^(\n]+)$", text, re.MULTILINE)
    named = {name.strip() for line in lines for name in line.split(",")}
    assert len(named) > 10
    assert named <= set(rumbuffer.__all__)
    assert "current_session" in rumbuffer.__all__


def test_the_names_of_the_design() -> None:
    """The public names that the design promises are there."""
    values = "AppMonitor Event Limits Overflow Pacing RetryPolicy RumBuffer Session Admission BufferStats"
    errors = "RumBufferError InvalidEvent BufferFull BufferClosed DeliveryError"
    reports = "Delivery FlushReport CloseReport"
    assert set(f"{values} {errors} {reports}".split()) <= set(rumbuffer.__all__)
