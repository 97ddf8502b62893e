from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

from rumbuffer.web.errors import error_members


def raised(error: Exception) -> Exception:
    """Give an exception its traceback."""

    def throw() -> None:
        raise error

    with suppress(Exception):
        throw()
    return error


def told(error: BaseException, **settings: Any) -> dict[str, Any]:
    """Tell an exception with room enough."""
    return error_members(error, room=5000, **settings)


def test_a_plain_exception() -> None:
    """An exception gives its type, its message, its place and its stack."""
    members = told(raised(LookupError("no tea")))
    assert members["type"] == "LookupError"
    assert members["message"] == "no tea"
    assert members["filename"].endswith("test_errors.py")
    assert members["stack"].splitlines()[0] == "LookupError: no tea"
    assert "raised" in members["stack"].splitlines()[1]


def test_a_group_is_told_by_its_first_exception() -> None:
    """A group has the type, the message, the place and the stack of what is in it beside its own."""

    def deep() -> Exception:
        return raised(LookupError("no tea"))

    inner = ExceptionGroup("inner", [deep(), raised(KeyError("x"))])
    members = told(raised(ExceptionGroup("tasks", [inner, ValueError()])))
    assert members["type"] == "ExceptionGroup[LookupError]"
    assert members["message"] == "tasks (2 sub-exceptions): LookupError: no tea"
    lines = members["stack"].splitlines()
    assert lines[:3] == ["ExceptionGroup: tasks (2 sub-exceptions)", "First of 3:", "LookupError: no tea"]
    assert "throw (" in lines[3]
    assert members["lineno"] == int(lines[3].rpartition(":")[2].rstrip(")"))


def test_a_groups_messages_may_be_left_out() -> None:
    """Without messages, only the types are told."""
    members = told(raised(ExceptionGroup("secret", [ValueError("secret")])), message=False)
    assert members["type"] == "ExceptionGroup[ValueError]"
    assert "secret" not in json.dumps(members)


def test_a_group_whose_exceptions_were_never_raised() -> None:
    """The group's own place stands for them."""
    members = told(raised(ExceptionGroup("x", [ValueError()])))
    assert members["filename"].endswith("test_errors.py")


def test_a_group_with_a_long_message_leaves_room_for_the_exceptions() -> None:
    """Half of the room for the message is the group's."""
    members = told(raised(ExceptionGroup("x" * 3000, [ValueError("y" * 3000)])))
    assert len(members["message"]) == 512
    assert "x" * 256 + ": ValueError: yyy" in members["message"]


def test_groups_as_causes() -> None:
    """A group that caused an exception is told in its stack, in the same way."""
    error = LookupError("outer")
    error.__cause__ = raised(ExceptionGroup("tasks", [raised(ValueError("inner"))]))
    lines = told(raised(error))["stack"].splitlines()
    cause = lines[lines.index("Caused by:") + 1 :]
    assert cause[:3] == ["ExceptionGroup: tasks (1 sub-exception)", "First of 1:", "ValueError: inner"]


def test_a_cause_of_an_exception_in_a_group() -> None:
    """What caused the first exception of a group is told, too."""
    error = ValueError("inner")
    error.__cause__ = KeyError("cause")
    assert "KeyError: 'cause'" in told(raised(ExceptionGroup("tasks", [raised(error)])))["stack"]


@pytest.mark.parametrize("depth", [33, 3000])
def test_deep_groups_are_bounded(depth: int) -> None:
    """However deep groups are nested, what is told of them is short."""
    error: Exception = ValueError()
    for _ in range(depth):
        error = ExceptionGroup("x", [error])
    members = told(raised(error))
    assert len(json.dumps(members)) < 5000
    assert members["type"] == "ExceptionGroup[ExceptionGroup]"


def test_wide_groups_are_bounded() -> None:
    """The exceptions of a group are counted up to a bound."""
    error = ExceptionGroup("x", [ExceptionGroup("y", [ValueError()] * 500), *[ValueError()] * 5000])
    assert "First of 99 or more:" in told(raised(error))["stack"]
