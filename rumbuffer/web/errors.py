"""An exception as the members of a JavaScript error, which is how RUM knows errors."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from rumbuffer.web.redaction import redact_url

__all__ = ["error_members"]

_LONGEST_MESSAGE = 512
_LONGEST_NAME = 256
_LONGEST_STACK = 2000
"""Characters. They stay below the 6 KB that the service takes of an event; what JSON and UTF-8 make longer
(a message in Chinese, say) is halved until it does."""

_LONGEST_READ = 4 * _LONGEST_MESSAGE

_CAUSES = 3

_DEEPEST, _MOST_COUNTED = 32, 100
"""Levels of exception groups that are looked into, and exceptions of a group that are counted."""

_address = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s'\"<>)]+", re.IGNORECASE)

_OURS = str(Path(__file__).resolve().parent.parent) + os.sep


def error_members(
    error: BaseException, *, room: int, message: bool = True, stack: bool = True
) -> dict[str, Any]:
    """Return type, message, file, line and stack of an exception, bounded.

    The stack names functions, files and lines, innermost first, and shows no source and no values.
    An exception group is told by the first exception in it: its type and message beside the group's, and
    its place and stack. `room` is what the members may take as JSON, in bytes.
    """
    first = _first_of(error)
    frames = _frames_of(first, error)
    members: dict[str, Any] = {"version": "1.0.0", "type": _name(error)}
    if first is not error:
        members["type"] = _text(f"{_name(error)}[{_name(first)}]", _LONGEST_NAME)
    if message:
        members["message"] = _told(error, first)
    if frames:
        filename, line, _ = frames[-1]
        members["filename"] = filename
        members["lineno"] = line
    if stack and frames:
        members["stack"] = "\n".join(_stack(error, message=message))[:_LONGEST_STACK]
    while len(orjson.dumps(members)) > room and _halve(members):
        pass
    return members


def _halve(members: dict[str, Any]) -> bool:
    """Halve the longest text; tell whether there was one worth it."""
    texts = {name: len(text) for name, text in members.items() if isinstance(text, str) and name != "version"}
    longest = max(texts, key=texts.__getitem__)
    members[longest] = members[longest][: texts[longest] // 2]
    return texts[longest] > 1


def _stack(error: BaseException, *, message: bool) -> Iterator[str]:
    for _ in range(_CAUSES):
        first = _first_of(error)
        if first is not error:
            yield _headline(error, message=message)
            yield f"First of {_count(error)}:"
        yield _headline(first, message=message)
        for filename, line, function in reversed(_frames_of(first, error)):
            yield f"    at {function} ({filename}:{line})"
        cause = _cause_of(first) or _cause_of(error)
        if cause is None:
            return
        error = cause
        yield "Caused by:"


def _headline(error: BaseException, *, message: bool) -> str:
    return f"{_name(error)}: {_message(error)}" if message else _name(error)


def _cause_of(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _first_of(error: BaseException) -> BaseException:
    """Return the first exception in a group that is none itself; what is no group, as it is."""
    for _ in range(_DEEPEST):
        if not isinstance(error, BaseExceptionGroup):
            break
        error = error.exceptions[0]
    return error


def _count(error: BaseException) -> str:
    """Return how many exceptions a group holds, those of the groups in it included."""
    count, left = 0, [error]
    for _ in range(_MOST_COUNTED):
        if not left:
            return str(count)
        one = left.pop()
        if isinstance(one, BaseExceptionGroup):
            left.extend(one.exceptions[:_MOST_COUNTED])
        else:
            count += 1
    return f"{count} or more"


def _told(error: BaseException, first: BaseException) -> str:
    if first is error:
        return _message(error)
    group = _message(error)[: _LONGEST_MESSAGE // 2]
    return f"{group}: {_name(first)}: {_message(first)}"[:_LONGEST_MESSAGE]


def _frames_of(first: BaseException, error: BaseException) -> list[tuple[str, int, str]]:
    """Return the frames of an exception; of its group, where it was never raised itself."""
    return list(_frames(first.__traceback__)) or list(_frames(error.__traceback__))


def _frames(traceback: TracebackType | None) -> Iterator[tuple[str, int, str]]:
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not code.co_filename.startswith(_OURS):
            yield _short(code.co_filename), traceback.tb_lineno, code.co_qualname[:_LONGEST_NAME]
        traceback = traceback.tb_next


@lru_cache(maxsize=1024)
def _short(filename: str) -> str:
    """Cut off the folder that the module was found in, which tells of the machine and not of the code."""
    roots = [root for root in sys.path if root and filename.startswith(root.rstrip(os.sep) + os.sep)]
    root = max(roots, key=len, default="")
    return _text(filename[len(root) :].lstrip(os.sep) if root else filename, _LONGEST_NAME)


def _name(error: BaseException) -> str:
    return _text(type(error).__qualname__, _LONGEST_NAME)


def _message(error: BaseException) -> str:
    try:
        # An HTTP client's exceptions tell the address, with query string and all.
        return _text(_address.sub(_redacted, str(error)[:_LONGEST_READ]), _LONGEST_MESSAGE)
    except Exception:  # noqa: BLE001 - it is somebody's __str__
        return ""


def _redacted(address: re.Match[str]) -> str:
    return redact_url(address[0])


def _text(text: str, longest: int) -> str:
    return text[:longest].encode("utf-8", "replace").decode()
