"""The kinds of failure, and the exit statuses that the two versions of the AWS CLI give them."""

from __future__ import annotations

from enum import Enum
from typing import IO, Any, Final

import click

__all__ = ["NAME", "Failure", "Kind"]

NAME: Final = "rumbuffer put-rum-events"


class Kind(Enum):
    """What went wrong; `v1` and `v2` are the exit statuses of the AWS CLI's versions 1 and 2 for it."""

    USAGE = 1, 2, 252
    UNKNOWN_OPTION = 2, 255, 252
    PARAMETER = 3, 255, 252
    CONFIGURATION = 4, 255, 253
    SERVICE = 5, 255, 254
    OTHER = 6, 255, 255

    def __init__(self, _: int, v1: int, v2: int) -> None:
        self.v1 = v1
        self.v2 = v2


class Failure(click.ClickException):
    """Ends the command with the AWS CLI's text for it, and a hint on what to do, if there is one."""

    def __init__(self, kind: Kind, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.hint = hint
        self._version = "v1"

    @property
    def exit_code(self) -> int:  # type: ignore[override] # click's is a constant of the class
        """The exit status of the command."""
        return self.kind.v2 if self._version == "v2" else self.kind.v1

    def count_as(self, version: str) -> None:
        """Take the exit status of this version of the AWS CLI: `v1` or `v2`."""
        self._version = version

    def show(self, file: IO[Any] | None = None) -> None:
        """Write it to standard error, or to `file`."""
        if self.kind in {Kind.USAGE, Kind.UNKNOWN_OPTION}:
            text = (
                f"Usage: {NAME} --id ID --rum-events EVENT... [OPTIONS]\n"
                f"Try '{NAME} --help' for help.\n\nError: {self.message}"
            )
        else:
            text = f"\n{self.message}"
            if self.hint:
                text += f"\nHint: {self.hint}"
        click.echo(text, file=file, err=file is None)
