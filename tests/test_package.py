"""The package as a whole: what is in it, what it exports, what importing it costs."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import rumbuffer
from rumbuffer import errors

ROOT = Path(__file__).parents[1]
PACKAGE = Path(rumbuffer.__file__).parent
IN_CHECKOUT = PACKAGE.parent == ROOT
"""False in .ci/run's environments that hold the built wheel, and no checkout around it."""

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(PACKAGE)], "rumbuffer.")
    if not any(part.startswith("_") for part in module.name.split("."))
)
CORE = sorted((PACKAGE / "core").rglob("*.py"))

BANNED_IN_CORE = {
    "asyncio",
    "concurrent",
    "os",
    "random",
    "secrets",
    "selectors",
    "socket",
    "threading",
    "time",
}
CORE_MAY_IMPORT = ("rumbuffer.core", "rumbuffer.errors", "rumbuffer.events", "rumbuffer.settings")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the paths in the wheel: of the one that is installed, or of one built from the checkout."""
    if IN_CHECKOUT:
        folder = tmp_path_factory.mktemp("dist")
        command = [
            sys.executable,
            "-m",
            "hatchling",
            "build",
            "--target",
            "wheel",
            "--directory",
            str(folder),
        ]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return set(archive.namelist())
    paths = {str(path) for path in metadata.files("rumbuffer") or ()}
    return {path for path in paths if not path.startswith("..") and "__pycache__" not in path}


def test_wheel_says_that_it_is_typed(shipped: set[str]) -> None:
    """The wheel holds py.typed, without which type checkers ignore the annotations."""
    assert "rumbuffer/py.typed" in shipped


def test_wheel_holds_the_package_and_nothing_else(shipped: set[str]) -> None:
    """The wheel holds every file of the package, data included, and beside it only its own metadata."""
    files = {path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    metadata_folder = f"rumbuffer-{rumbuffer.__version__}.dist-info/"
    assert {path for path in shipped if not path.startswith(metadata_folder)} == {
        path for path in files if "__pycache__" not in path
    }
    assert any(path.startswith(metadata_folder) and path.endswith("LICENSE") for path in shipped)


def test_version_has_one_source() -> None:
    """The installed metadata and `rumbuffer.__version__` name the same version."""
    assert metadata.version("rumbuffer") == rumbuffer.__version__


def test_lowest_versions_are_the_bounds() -> None:
    """What .ci/run installs as the lowest versions is exactly what the metadata allows at the lowest."""
    lines = (Path(__file__).parent / "lowest.txt").read_text().splitlines()
    lowest = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    requirements = [Requirement(text) for text in metadata.requires("rumbuffer") or ()]
    bounds = {
        f"{requirement.name}=={specifier.version}"
        for requirement in requirements
        for specifier in requirement.specifier
        if specifier.operator == ">="
    }
    assert len(bounds) == len(requirements)
    assert {line for line in lowest if not line.startswith("boto3==")} == bounds


@pytest.mark.parametrize("name", MODULES)
def test_modules_list_their_names(name: str) -> None:
    """A module's `__all__` names what is there, once; a module that users import from has one."""
    module = importlib.import_module(name)
    is_package = hasattr(module, "__path__")
    names: list[str] = (
        module.__all__ if name.count(".") == 1 and not is_package else getattr(module, "__all__", [])
    )
    assert len(names) == len(set(names))
    assert {name for name in names if not hasattr(module, name)} == set()


def test_top_level_names_are_those_of_the_modules() -> None:
    """Each name that rumbuffer exports stands in the `__all__` of the module that defines it."""
    exported = {name: getattr(rumbuffer, name) for name in rumbuffer.__all__ if name != "__version__"}
    listed = {
        name: getattr(module, name)
        for module in map(importlib.import_module, MODULES)
        for name in getattr(module, "__all__", ())
    }
    assert {name for name, value in exported.items() if listed.get(name) is not value} == set()


def test_every_error_is_exported() -> None:
    """Users catch every error of ours by its name in rumbuffer."""
    assert set(errors.__all__) <= set(rumbuffer.__all__)


def test_import_is_light() -> None:
    """`import rumbuffer` imports none of what takes long or comes with an extra."""
    code = "import sys, rumbuffer; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    loaded = set(run.stdout.split())
    assert "rumbuffer" in loaded
    assert loaded & {"aiobotocore", "boto3", "botocore", "click", "rich", "uvloop"} == set()


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_core_does_no_io(path: Path) -> None:
    """A core module awaits nothing and imports no clock, loop, socket, thread or randomness of its own."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name for name in imported if name.partition(".")[0] in BANNED_IN_CORE} == set()
    ours = {name for name in imported if name.partition(".")[0] == "rumbuffer"}
    assert {name for name in ours if not name.startswith(CORE_MAY_IMPORT)} == set()
    assert not any(isinstance(node, (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor)) for node in nodes)
