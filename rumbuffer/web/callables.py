"""The callables that users hand in: none of them is awaited."""

from __future__ import annotations

import inspect

from rumbuffer.core.encoding import shape_of
from rumbuffer.errors import InvalidSetting

__all__ = ["check_callable"]


def check_callable(name: str, value: object) -> None:
    """Check a setting that is called for each request: raises `InvalidSetting` for what must be awaited.

    What a coroutine function returns is always true, and never an event, a path or a session: as
    `exclude`, one would exclude everything.
    """
    if not callable(value):
        raise InvalidSetting(name, "must be a callable", shape_of(value))
    for function in (value, getattr(value, "__call__", None)):  # noqa: B004 - the method of an object
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise InvalidSetting(
                name, "must be a plain callable: the request does not wait for it", "a coroutine function"
            )
