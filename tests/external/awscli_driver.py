"""Runs many `aws` command lines in one process, which saves a second each; for the AWS CLI's own Python.

Standard input: a JSON list of objects with `arguments` (after `aws`) and `environment` (variables to set, and
with null to delete, for this one). Standard output: a JSON list of objects with `status`, `out` and `err`.
"""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import awscli.clidriver  # type: ignore[import-not-found,unused-ignore] # is in an environment of its own


def entry_point(arguments: list[str]) -> int:
    """What the script `aws` does, in the version that is there."""
    driver = awscli.clidriver
    if hasattr(driver, "AWSCLIEntryPoint"):  # version 2
        return int(driver.AWSCLIEntryPoint().main(arguments))
    return int(driver.create_clidriver().main(arguments))


def run(arguments: list[str], environment: dict[str, str | None]) -> dict[str, Any]:
    """Run one command line and return what it did."""
    before = dict(os.environ)
    out, err = io.StringIO(), io.StringIO()
    try:
        for name, value in environment.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        with redirect_stdout(out), redirect_stderr(err):
            try:
                status: object = entry_point(arguments)
            except SystemExit as exit_:
                status = exit_.code
    finally:
        os.environ.clear()
        os.environ.update(before)
    return {"status": status, "out": out.getvalue(), "err": err.getvalue()}


if __name__ == "__main__":
    json.dump([run(**case) for case in json.load(sys.stdin)], sys.stdout)
