"""Packages that some tests need: missing, their tests are skipped, or fail where all are required."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest


def needed(name: str) -> Any:
    """Import a package for a test; skip the test where it is missing and RUMBUFFER_REQUIRE_ALL is not 1."""
    try:
        return importlib.import_module(name)
    except ImportError:
        if os.environ.get("RUMBUFFER_REQUIRE_ALL") == "1":
            raise
        pytest.skip(f"{name} is not installed")
