"""`--generate-cli-skeleton`: an empty request to fill in, as the AWS CLI prints it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

from rumbuffer.cli.put_rum_events.request import input_shape

__all__ = ["as_json", "as_yaml"]

_TIME = "1970-01-01T00:00:00"

_EMPTY = {"structure": "", "list": "", "timestamp": f" {_TIME}"}
_TEXT = " ''"


def as_json() -> str:
    """Return the skeleton for `--cli-input-json`."""
    return json.dumps(_empty(input_shape()), indent=4)


def as_yaml() -> str:
    """Return the skeleton for `--cli-input-yaml`, with what each member is behind it."""
    return "\n".join(_lines(input_shape(), ""))


def _empty(shape: Any) -> Any:
    match shape.type_name:
        case "structure":
            return {name: _empty(member) for name, member in shape.members.items()}
        case "list":
            return [_empty(shape.member)]
        case "timestamp":
            return _TIME
        case _:
            return ""


def _lines(structure: Any, indent: str) -> Iterator[str]:
    for name, member in structure.members.items():
        required = "[REQUIRED] " if name in structure.required_members else ""
        overview = _first_sentence(member.documentation)
        yield f"{indent}{name}:{_EMPTY.get(member.type_name, _TEXT)} # {required}{overview}"
        if member.type_name == "structure":
            yield from _lines(member, indent + "  ")
        elif member.type_name == "list":
            first, *rest = _lines(member.member, indent + "  ")
            yield f"{indent}- {first.lstrip()}"
            yield from rest


def _first_sentence(documentation: str) -> str:
    text = html.unescape(re.sub(r"<[^>]*>", "", documentation))
    return re.split(r"(?<=\.)\s", text.strip(), maxsplit=1)[0]
