"""What a member of an event may be: rules that name the member which breaks them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

from rumbuffer.core.encoding import shape_of
from rumbuffer.errors import InvalidEvent

__all__ = [
    "Rule",
    "a_mapping",
    "a_number",
    "a_text",
    "a_truth",
    "a_version",
    "a_whole",
    "is_finite",
    "list_of",
    "object_of",
    "text_of",
]

Rule: TypeAlias = Callable[[str, object], None]
"""Checks the member that the first argument names; raises `InvalidEvent`."""


def a_text(field: str, value: object) -> None:
    """Text."""
    if not isinstance(value, str):
        raise InvalidEvent(field, "must be a string", shape_of(value))


def text_of(length: int) -> Rule:
    """Text of so many characters."""

    def check(field: str, value: object) -> None:
        if not isinstance(value, str) or len(value) != length:
            raise InvalidEvent(field, f"must be a string of {length} characters", shape_of(value))

    return check


def a_number(field: str, value: object) -> None:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not is_finite(value):
        raise InvalidEvent(field, "must be a finite number", shape_of(value))


def is_finite(number: float) -> bool:
    """Tell whether a number is finite, and no integer beyond all floats."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def a_whole(field: str, value: object) -> None:
    """A whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidEvent(field, "must be a whole number", shape_of(value))


def a_truth(field: str, value: object) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise InvalidEvent(field, "must be true or false", shape_of(value))


def a_version(field: str, value: object) -> None:
    """The schemas' one version."""
    if value != "1.0.0":
        raise InvalidEvent(field, "must be '1.0.0'", shape_of(value))


def a_mapping(field: str, value: object) -> None:
    """An object with any members."""
    if not isinstance(value, Mapping):
        raise InvalidEvent(field, "must be a mapping", shape_of(value))


def object_of(members: Mapping[str, Rule], *required: str) -> Rule:
    """Rule for an object that has no members but these."""

    def check(field: str, value: object) -> None:
        if not isinstance(value, Mapping):
            raise InvalidEvent(field, "must be a mapping", shape_of(value))
        for name in required:
            if name not in value:
                raise InvalidEvent(f"{field}.{name}", "must be there", "nothing")
        for name, member in value.items():
            rule = members.get(name) if isinstance(name, str) else None
            if rule is None:
                allowed = ", ".join(members)
                raise InvalidEvent(field, f"may have no members but {allowed}", "another one")
            rule(f"{field}.{name}", member)

    return check


def list_of(rule: Rule) -> Rule:
    """A list of what keeps a rule."""

    def check(field: str, value: object) -> None:
        if not isinstance(value, (list, tuple)):
            raise InvalidEvent(field, "must be a list", shape_of(value))
        for place, member in enumerate(value):
            rule(f"{field}[{place}]", member)

    return check
