"""Which requests are recorded."""

from __future__ import annotations

import fnmatch
import re
from asyncio import CancelledError
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from rumbuffer.errors import InvalidSetting
from rumbuffer.web.callables import check_callable
from rumbuffer.web.door import Door

__all__ = ["Filter", "Which"]

Which: TypeAlias = Iterable[str] | Callable[[Any], bool]
"""Paths, or a callable that is asked for each request.

In a path, ``*`` stands for anything (``/static/*``), ``?`` for any one character, ``[abc]`` for one of
these and ``[!abc]`` for one of no others, as in `fnmatch`; a bracket of the path's own is ``[[]``. The
whole path must match, in the same case.
"""


class Filter:
    """`include` and `exclude`. What neither names is recorded, unless there is an `include`."""

    def __init__(self, door: Door, include: Which | None, exclude: Which | None) -> None:
        self._door = door
        self._include = _test("include", include)
        self._exclude = _test("exclude", exclude)
        self.takes_all: bool = include is None and exclude is None

    def takes(self, path: str, request: object) -> bool:
        """Tell whether a request is recorded. Where a callable raises, it is not."""
        try:
            if self._exclude is not None and self._exclude(path, request):
                return False
            return self._include is None or bool(self._include(path, request))
        except (Exception, CancelledError) as error:  # noqa: BLE001 - whatever a user's callable does, the request goes on
            self._door.failed("include or exclude", error)
            return False


def _test(name: str, which: Which | None) -> Callable[[str, object], object] | None:
    if which is None:
        return None
    if callable(which):
        check_callable(name, which)
        return lambda _, request: which(request)
    patterns = (which,) if isinstance(which, str) else tuple(which)
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise InvalidSetting(name, "must be paths, or a callable that takes the request", "other values")
    match = re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns) or r"(?!)").match
    return lambda path, _: match(path)
