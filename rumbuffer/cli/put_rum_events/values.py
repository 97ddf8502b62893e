"""An option's value: JSON, shorthand, or a reference to a file that holds one of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from os.path import expandvars
from pathlib import Path
from typing import Any

from rumbuffer.cli.put_rum_events.failures import Failure, Kind
from rumbuffer.cli.put_rum_events.shorthand import ShorthandError, parse

__all__ = ["document", "events", "structure", "text"]


def text(option: str, value: str) -> str | bytes:
    """Return the value of an option that takes a text, or what is in the file that it refers to.

    `file://PATH` is read as UTF-8, `fileb://PATH` as bytes; `~` and `$VARIABLE` in a path are replaced.
    """
    try:
        return _loaded(value)
    except _Unreadable as error:
        raise _wrong(option, str(error)) from None


def structure(option: str, value: str) -> Any:
    """Return the value of an option that takes a structure, as JSON or as shorthand."""
    return _parsed(option, _as_text(text(option, value)))


def events(option: str, values: Sequence[str]) -> list[Any]:
    """Return the events that an option's words hold: each a JSON list, a JSON object, or shorthand."""
    found: list[Any] = []
    for value in values:
        content = _as_text(text(option, value))
        if content.lstrip().startswith("["):
            found += _json(option, content)
        else:
            found.append(_parsed(option, content))
    return found


def document(option: str, value: str) -> dict[str, Any]:
    """Return the request that `--cli-input-json` or `--cli-input-yaml` holds."""
    content = _as_text(text(option, value))
    read = _yaml(option, content) if option == "--cli-input-yaml" else _json(option, content)
    if not isinstance(read, dict):
        raise _wrong(option, f"Invalid type: expecting map, received {type(read)}")
    return read


def _wrong(option: str, message: str) -> Failure:
    return Failure(Kind.PARAMETER, f"Error parsing parameter '{option}': {message}")


def _parsed(option: str, content: str) -> Any:
    first = content.lstrip()[:1]
    if first == "{":
        return _json(option, content)
    if first == "[":
        raise _wrong(option, f"Invalid JSON:\n{content}")
    try:
        return parse(content, _loaded)
    except (ShorthandError, _Unreadable) as error:
        raise _wrong(option, str(error)) from None
    except RecursionError:
        raise _wrong(option, "lists or maps are nested too deeply") from None


def _json(option: str, content: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _wrong(option, f"Invalid JSON: {error}\nJSON received: {content}") from None


def _yaml(option: str, content: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(content)
    except (YAMLError, ValueError, RecursionError) as error:
        raise _wrong(option, f"Invalid YAML received: {error}") from None


# Files -------------------------------------------------------------------------------------------------


class _Unreadable(Exception):
    """A reference to a file that cannot be read."""


def _loaded(value: str) -> str | bytes:
    scheme, found, rest = value.partition("://")
    if not found or scheme not in {"file", "fileb"}:
        return value
    path = Path(expandvars(rest))
    try:
        content = path.expanduser().read_bytes()
    except (OSError, RuntimeError, ValueError) as error:
        raise _Unreadable(f"Unable to load paramfile {value}: {error}") from None
    if scheme == "fileb":
        return content
    try:
        return content.decode("utf-8-sig")  # without the mark that some editors of Windows put first
    except UnicodeDecodeError:
        raise _Unreadable(
            f"Unable to load paramfile ({path}), text contents could not be decoded.  If this is a binary "
            "file, please use the fileb:// prefix instead of the file:// prefix."
        ) from None


def _as_text(content: str | bytes) -> str:
    return content if isinstance(content, str) else content.decode(errors="replace")
