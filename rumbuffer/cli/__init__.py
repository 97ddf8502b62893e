"""The `rumbuffer` command; it needs the extra `[cli]`, and says so where that is missing.

Each command is a module here that imports only click at its head: what a command works with is imported
when it runs, so that `rumbuffer --help` is quick.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

__all__ = ["main"]

_EXTRA = ("click", "rich", "ruamel")
_MISSING = """\
The rumbuffer command needs {name}, which is not installed. It comes with an extra:

    pip install 'rumbuffer[cli]'
"""

_FULL = {errno.ENOSPC, errno.EDQUOT}
_USAGE = 2
_INTERRUPTED = 130
"""128 + SIGINT: what a shell expects of a program that Ctrl-C stopped."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, `sys.argv`'s when left out, and return the exit status."""
    try:
        return _run(arguments)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write(_MISSING.format(name=error.name.partition(".")[0]))
        return _USAGE
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run(arguments: Sequence[str] | None) -> int:
    import click

    from rumbuffer.cli.root import root

    try:
        status = root.main(arguments, prog_name="rumbuffer", standalone_mode=False)
        click.echo(nl=False)  # what is still to be written is, or is told of
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:  # what click makes of Ctrl-C
        return _INTERRUPTED
    except OSError as error:
        if error.errno not in _FULL:
            raise
        sys.stderr.write(f"Error: cannot write: {error.strerror}\n")
        _discard_output()
        return 1
    return status if isinstance(status, int) else 0


def _discard_output() -> None:
    """Have what could not be written go nowhere: Python would try again at its end, and exit with 120."""
    with suppress(OSError, ValueError, AttributeError):  # no file, or closed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
