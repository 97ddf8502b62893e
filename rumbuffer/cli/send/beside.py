"""The names of what `send` writes beside a file, and which of the files that are named are such."""

from __future__ import annotations

from pathlib import Path

__all__ = ["JOURNAL", "REJECTS", "is_own"]

JOURNAL = ".rumbuffer-journal"
REJECTS = ".rumbuffer-rejects"


def is_own(path: Path) -> bool:
    """Tell whether a path has the name of a journal or reject file, as `send FOLDER/*` names them too."""
    return path.name.endswith((JOURNAL, JOURNAL + ".new", REJECTS))
