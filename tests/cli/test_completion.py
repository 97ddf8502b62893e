"""Completion in shells: the scripts, and what they are told to offer."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rumbuffer.cli import main


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each shell's script asks the command itself, and the shell finds no mistake in it."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_RUMBUFFER_COMPLETE={shell}_complete" in script
    if found := shutil.which(shell):
        checked = subprocess.run([found, "-n"], input=script, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_other_shells_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A shell that is not supported is answered with those that are."""
    assert main(["completion", "csh"]) == 2
    assert "bash" in capsys.readouterr().err


def offered(*words: str, **environment: str) -> list[str]:
    """What is offered for the last word of a command line."""
    run = subprocess.run(
        [sys.executable, "-m", "rumbuffer"],
        capture_output=True,
        text=True,
        check=True,
        env={
            "_RUMBUFFER_COMPLETE": "bash_complete",
            "COMP_WORDS": "rumbuffer " + " ".join(words),
            "COMP_CWORD": str(len(words)),
            "PYTHONPATH": ":".join(sys.path),
            **environment,
        },
    )
    assert run.stderr == ""
    return [line.partition(",")[2] for line in run.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["put"], ["put-rum-events"]),
        (["completion", "f"], ["fish"]),
        (["put-rum-events", "--rum"], ["--rum-events"]),
        (["put-rum-events", "--rum-events", "a=b", "c=d", "--ali"], ["--alias"]),
        (["put-rum-events", "--generate-cli-skeleton", "y"], ["yaml-input"]),
        (["put-rum-events", "--cli-exit-codes", ""], ["v1", "v2"]),
        (["put-rum-events", "--region", "eu-west-"], ["eu-west-1", "eu-west-2", "eu-west-3"]),
        (["emulator", "--shape", "w"], ["window"]),
    ],
)
def test_words(words: list[str], expected: list[str]) -> None:
    """Commands, options, choices and regions are offered, and nothing that is hidden."""
    assert offered(*words) == expected


def test_profiles(tmp_path: Path) -> None:
    """The profiles in AWS's configuration files are offered."""
    (tmp_path / "config").write_text("[profile shop]\nregion = eu-west-1\n[profile other]\n")
    files = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
    assert offered("put-rum-events", "--profile", "s", **files) == ["shop"]


def test_profiles_of_a_broken_file(tmp_path: Path) -> None:
    """A configuration file that cannot be read offers nothing, and says nothing in the middle of a line."""
    (tmp_path / "config").write_text("garbage [[")
    words = offered("put-rum-events", "--profile", "", AWS_CONFIG_FILE=str(tmp_path / "config"))
    assert "".join(words) == ""
