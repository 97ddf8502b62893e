"""The README does what it says: its programs run, its commands parse, its settings are the real ones."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from rumbuffer import Limits, Pacing, RetryPolicy, settings
from rumbuffer.cli.root import root
from rumbuffer.emulator import Emulator

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SHELL = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]


async def run(*arguments: str, environment: dict[str, str]) -> str:
    """What a program prints; it must succeed and print nothing to stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (0, ""), out.decode()
    return out.decode()


def is_test(program: str) -> bool:
    """Whether a block is a test and not a program."""
    return "def test_" in program


def is_application(program: str) -> bool:
    """Whether a block is a web application; `tests/web/test_readme.py` serves those."""
    return "RumMiddleware" in program or "rumbuffer.aiohttp" in program


@pytest.mark.parametrize(
    "program", [program for program in PROGRAMS if not (is_test(program) or is_application(program))]
)
async def test_programs_run_as_they_stand(program: str) -> None:
    """Each Python program runs with nothing but the emulator's variables, and what it records arrives."""
    async with Emulator() as emulator:
        await run("-W", "error", "-c", program, environment=emulator.environment())
        expected = 0 if "sample_rate=0.5" in program else 1  # a coin decides whether the session is kept
        assert emulator.requests.events >= expected
        assert emulator.requests.rejected == {}


async def test_first_program_is_as_short_as_it_says() -> None:
    """The first example has ten lines, and delivers 250 events in 3 requests."""
    lines = [line for line in PROGRAMS[0].splitlines() if line]
    assert len(lines) <= 10
    async with Emulator() as emulator:
        shown = await run("-c", PROGRAMS[0], environment=emulator.environment())
        assert (emulator.requests.events, emulator.requests.accepted) == (250, 3)
    assert shown.startswith("FlushReport(complete=True, delivered=")
    assert "It delivers 250 events in 3 requests." in README


@pytest.mark.parametrize("program", [program for program in PROGRAMS if is_test(program)])
async def test_tests_pass(program: str, tmp_path: Path) -> None:
    """Each test that the README shows passes under pytest."""
    (tmp_path / "test_it.py").write_text(program)
    options = ("-q", "-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function")
    shown = await run("-m", "pytest", *options, str(tmp_path), environment={})
    assert "1 passed" in shown


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("rumbuffer ")])
def test_commands_are_understood(line: str) -> None:
    """Each `rumbuffer …` line is one that the command takes."""
    _, name, *arguments = shlex.split(line)
    command = root.commands[name]
    command.make_context(name, arguments)


def test_make_targets_are_there() -> None:
    """`make demo` and `make test` are targets of the Makefile."""
    makefile = ROOT / "Makefile"
    if not makefile.exists():
        pytest.skip("the installed wheel has no Makefile")
    targets = re.findall(r"^([a-z]+):", makefile.read_text(encoding="utf-8"), re.MULTILINE)
    assert {line.split()[1] for line in SHELL if line.startswith("make ")} == {"demo", "test"} <= set(targets)


def table() -> dict[str, tuple[str, str]]:
    """The settings' rows: default and environment of each."""
    rows = re.findall(r"^\| `([\w.]+)` \|([^|]*)\|([^|]*)\|", README, re.MULTILINE)
    return {name: (default.strip(" `"), environment) for name, default, environment in rows}


@pytest.mark.parametrize("group", [Limits, Pacing, RetryPolicy])
def test_settings_table_is_complete(group: type[Limits | Pacing | RetryPolicy]) -> None:
    """Every setting is in the table with its default."""
    rows = table()
    for field in fields(group):
        shown, _ = rows.pop(f"{group.__name__}.{field.name}")
        assert field.default is not MISSING
        assert eval(shown) == field.default  # noqa: S307 - our own README
    assert [name for name in rows if name.startswith(f"{group.__name__}.")] == []


def test_every_variable_is_in_the_table() -> None:
    """The variables that the table names are those that `from_env()` reads."""
    named = {
        name for _, environment in table().values() for name in re.findall(r"RUMBUFFER_\w+", environment)
    }
    assert named == {settings._PREFIX + name for name in settings._VARIABLES}


def test_links_within_the_page_lead_somewhere() -> None:
    """Each link to a section has its section."""
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", README)) <= anchors
