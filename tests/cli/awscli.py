"""The AWS CLI's own Python, where it is installed, and drivers to run in it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

_DRIVERS = Path(__file__).parents[1] / "external"


def python_of_awscli() -> Path:
    """The interpreter that has awscli; skips, or fails where everything is required, if there is none."""
    command = os.environ.get("RUMBUFFER_AWS_CLI")
    python = Path(command).with_name("python") if command else None
    if python is not None and python.exists():
        return python
    missing = "awscli in an environment of its own is not there; tests/external/install.sh installs it"
    if os.environ.get("RUMBUFFER_REQUIRE_ALL") == "1":
        pytest.fail(missing)
    pytest.skip(missing)


def version_of_awscli() -> str:
    """The version of the AWS CLI that is there."""
    code = "import awscli; print(awscli.__version__)"
    run = subprocess.run([python_of_awscli(), "-c", code], capture_output=True, text=True, check=True)
    return run.stdout


def drive(driver: str, given: Any) -> Any:
    """Run `tests/external/<driver>.py` there, and return what it answers."""
    run = subprocess.run(
        [python_of_awscli(), "-W", "ignore", _DRIVERS / f"{driver}.py"],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": os.devnull},
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)
