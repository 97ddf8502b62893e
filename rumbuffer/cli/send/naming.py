"""Errors of the operating system that name the file they are about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["named"]


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Have an `OSError` that names no file name this one: a full disk says so without."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
