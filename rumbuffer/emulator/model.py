"""The constraints of PutRumEvents, compiled from botocore's own service model.

Each shape becomes a function that takes a value and returns its problems, so
that a newer botocore brings its newer constraints along. What the service
checks and the model does not say stands in `_STRICTER` and `_NEWER`. As in every service
of this protocol, members that the model does not know are ignored, and a member
that is null counts as missing.

All of it is answered with ``ValidationException``, the one error of status 400
that the operation's model lists, in the wording of AWS's services:
``1 validation error detected: Value 'x' at 'batchId' failed to satisfy
constraint: Member must have length greater than or equal to 36``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import botocore.loaders
import botocore.model
import orjson

from rumbuffer.emulator.answers import validation


class Problem(NamedTuple):
    """One broken constraint; ``path`` is where, in the service's notation."""

    path: str
    constraint: str
    value: object

    def under(self, parent: str) -> Problem:
        """The same problem, seen from the structure around it."""
        path = f"{parent}.{self.path}" if self.path else parent
        return self._replace(path=path)

    def __str__(self) -> str:
        value = "null" if self.value is None else f"'{_excerpt(self.value)}'"
        return f"Value {value} at '{self.path}' failed to satisfy constraint: {self.constraint}"


Check = Callable[[Any], Sequence[Problem]]
_FINE: tuple[Problem, ...] = ()


def _excerpt(value: object) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= 100 else text[:100] + "…"


def _problem(constraint: str, value: object) -> tuple[Problem, ...]:
    return (Problem("", f"Member must {constraint}", value),)


def json_object(value: object) -> Sequence[Problem]:
    """A string that holds a JSON object: `details`, `metadata`, `SessionMetadata`."""
    if type(value) is not str:
        return _problem("be a string", value)
    try:
        if type(orjson.loads(value)) is dict:
            return _FINE
    except orjson.JSONDecodeError:
        pass
    return _problem("be a JSON string that holds an object", value)


def string(minimum: int | None, maximum: int | None, pattern: str | None) -> Check:
    """A string of so many characters that holds a match of the pattern."""
    low = minimum or 0
    high = float("inf") if maximum is None else maximum
    matches = re.compile(pattern).search if pattern is not None else None

    def check(value: Any) -> Sequence[Problem]:
        if type(value) is not str:
            return _problem("be a string", value)
        if len(value) < low:
            return _problem(f"have length greater than or equal to {low}", value)
        if len(value) > high:
            return _problem(f"have length less than or equal to {high}", value)
        if matches is not None and matches(value) is None:
            return _problem(f"satisfy regular expression pattern: {pattern}", value)
        return _FINE

    return check


def timestamp(value: Any) -> Sequence[Problem]:
    """Seconds since the epoch as a JSON number; ISO strings are the SDK's to convert."""
    if type(value) is float or type(value) is int:
        return _FINE
    return _problem("be a timestamp: a number of seconds since the epoch", value)


def anything(_: Any) -> Sequence[Problem]:
    """Unchecked: a kind of shape that the operation has none of today."""
    return _FINE


def sequence(member: Check, minimum: int | None, maximum: int | None) -> Check:
    """A list of so many members, none of them null."""
    low = minimum or 0
    high = float("inf") if maximum is None else maximum

    def check(value: Any) -> Sequence[Problem]:
        if type(value) is not list:
            return _problem("be a list", value)
        if not low <= len(value) <= high:
            return _problem(f"have a length from {low} to {high}", value)
        problems: list[Problem] = []
        for position, item in enumerate(value, 1):
            found = _problem("not be null", None) if item is None else member(item)
            if found:
                problems += [problem.under(f"{position}.member") for problem in found]
        return problems

    return check


def structure(members: dict[str, Check], required: frozenset[str]) -> Check:
    """An object with these members; others are ignored."""
    plan = [(name, check, name in required) for name, check in members.items()]

    def check(value: Any) -> Sequence[Problem]:
        if type(value) is not dict:
            return _problem("be a structure", value)
        problems: list[Problem] = []
        for name, check_member, is_required in plan:
            member = value.get(name)
            if member is not None:
                found = check_member(member)
            elif is_required:
                found = _problem("not be null", None)
            else:
                continue
            if found:
                problems += [problem.under(_as_path(name)) for problem in found]
        return problems

    return check


def _as_path(name: str) -> str:
    return name[0].lower() + name[1:]


# What the service checks and no model says: the type of an event is at most 256
# characters of this set (custom events' documentation; every built-in type fits).
_STRICTER: dict[str, dict[str, Check]] = {"RumEvent": {"type": string(1, 256, r"^[a-zA-Z0-9_.-]+\Z")}}

# Members that an older botocore does not know: `SessionMetadata` came with 1.44.5.
_NEWER: dict[str, dict[str, Check]] = {
    "PutRumEventsRequest": {"Alias": string(1, 255, None), "SessionMetadata": json_object}
}


def _compile(shape: Any) -> Check:
    """The check for one shape of botocore's model."""
    limits = shape.metadata
    if shape.serialization.get("jsonvalue"):
        return json_object
    match shape.type_name:
        case "structure":
            return _compile_structure(shape)
        case "list":
            return sequence(_compile(shape.member), limits.get("min"), limits.get("max"))
        case "string":
            return string(limits.get("min"), limits.get("max"), limits.get("pattern"))
        case "timestamp":
            return timestamp
        case _:
            return anything


def _compile_structure(shape: Any) -> Check:
    members = {
        name: _compile(member)
        for name, member in shape.members.items()
        if member.serialization.get("location") is None
    }
    members = _NEWER.get(shape.name, {}) | members | _STRICTER.get(shape.name, {})
    return structure(members, frozenset(shape.required_members) & members.keys())


class RequestModel:
    """What a request to PutRumEvents must look like."""

    def __init__(self) -> None:
        description = botocore.loaders.Loader().load_service_model("rum", "service-2", "2018-05-10")
        operation = botocore.model.ServiceModel(description, "rum").operation_model("PutRumEvents")
        self._path_id = _compile(operation.input_shape.members["Id"])
        self._body = _compile(operation.input_shape)

    def parse(self, app_monitor_id: str, body: bytes) -> dict[str, Any]:
        """The request's document; raises `ServiceError` for what breaks a constraint."""
        try:
            document: Any = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise validation(f"The request body is no JSON: {error}") from None
        problems = [problem.under("id") for problem in self._path_id(app_monitor_id)]
        problems += self._body(document)
        if problems:
            count = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''} detected: "
            raise validation(count + "; ".join(map(str, problems[:10])))
        parsed: dict[str, Any] = document
        return parsed


@cache
def request_model() -> RequestModel:
    """The model, compiled once for the process (it takes some milliseconds)."""
    return RequestModel()


def content_size(event: dict[str, Any]) -> int:
    """UTF-8 bytes of an event's details and metadata, what the limit of 6 KB counts."""
    return _utf8_length(event["details"]) + _utf8_length(event.get("metadata") or "")


def _utf8_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
