"""The command as a whole: help, version, exit statuses, what is imported when."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

import rumbuffer
from rumbuffer.cli import main


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_says_where_to_begin(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The help, also without arguments, names the commands and which of them to begin with."""
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "needs no AWS account" in shown
    assert "rumbuffer demo" in shown
    assert "rumbuffer emulator" in shown


@pytest.mark.parametrize("command", ["bench", "demo", "emulator"])
def test_each_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every option of a command has a line that says what it is for."""
    from rumbuffer.cli.root import root

    assert main([command, "--help"]) == 0
    assert "Usage: rumbuffer" in capsys.readouterr().out
    options = [option for option in root.commands[command].params if isinstance(option, click.Option)]
    assert options
    assert [option.name for option in options if not option.help] == []


@pytest.mark.parametrize("command", ["bench", "completion", "demo", "emulator", "put-rum-events", "send"])
def test_help_keeps_its_examples_as_lines(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No help shows the mark that keeps a paragraph's lines; `completion` has each shell in a line."""
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert r"\b" not in shown
    if command == "completion":
        assert "\n    bash   rumbuffer completion bash >> ~/.bashrc\n" in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the name and the version."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"rumbuffer {rumbuffer.__version__}\n"


def test_mistake_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped option ends with status 2 and says so on stderr."""
    assert main(["demo", "--secnods", "3"]) == 2
    assert "--secnods" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["click", "rich"])
def test_missing_extra_says_what_to_install(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without click or rich the command says what to install, with status 2."""
    monkeypatch.delitem(sys.modules, "rumbuffer.cli.demo.command", raising=False)
    for module in [name for name in sys.modules if name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["demo"]) == 2
    shown = capsys.readouterr().err
    assert "pip install 'rumbuffer[cli]'" in shown
    assert package in shown


def test_other_missing_modules_are_not_the_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that misses for another reason is not explained away."""
    monkeypatch.setitem(sys.modules, "rumbuffer.emulator", None)
    with pytest.raises(ModuleNotFoundError, match=r"rumbuffer\.emulator"):
        main(["emulator"])


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, click.Abort])
def test_ctrl_c_is_status_130(interrupt: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, wherever it strikes, ends with status 130."""

    def run(*arguments: object, **settings: object) -> int:
        raise interrupt

    monkeypatch.setattr("rumbuffer.cli.root.root.main", run)
    assert main(["demo"]) == 130


def test_help_imports_little() -> None:
    """Showing help imports neither what the commands work with nor what draws."""
    code = (
        "import sys; from rumbuffer.cli import main; main(['--help']); "
        "print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(run.stdout.partition("LOADED")[2].split())
    assert "click" in loaded
    assert loaded & {"aiobotocore", "aiohttp", "botocore", "rich"} == set()


def test_module_is_the_command() -> None:
    """`python -m rumbuffer` is the command, exit status included."""
    run = subprocess.run(
        [sys.executable, "-m", "rumbuffer", "--nonsense"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "No such option" in run.stderr
