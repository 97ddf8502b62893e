r"""The AWS CLI's shorthand syntax: `id=…,name=shop` for `{"id": "…", "name": "shop"}`.

Written after the grammar that AWS publishes ("Using shorthand syntax", AWS CLI User Guide, 2026-11); the
tests compare it with the AWS CLI's own parser on made-up texts, so that it also agrees where the grammar
is silent. The AWS CLI's parser cannot be used from here: it comes with all of the AWS CLI, 155 MB with a
botocore of its own that takes the place of aiobotocore's.

    document  = pair *("," pair)
    pair      = key ["@"] "=" (list / map / words)
    words     = word *("," word)                   ; one word is a string, several are a list
    list      = "[" [item *("," item)] "]"
    map       = "{" [key ["@"] "=" item *("," key ["@"] "=" item)] "}"
    item      = list / map / word
    word      = "'" … "'" / '"' … '"' / bare       ; \' \" \\ within quotes, \, within a bare word

After `@=`, words are read as references to files.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from typing import Any

__all__ = ["ShorthandError", "parse"]

_KEY = re.compile(r"[A-Za-z0-9\-_.#/:]*")
_SPACE = re.compile(f"[{re.escape(string.whitespace)}]*")

# What a bare word may not begin with, and not hold. The first word after `=` may hold one itself, and ends
# where a list or a map around it does; later ones may not, for `a=b,c=d` are two pairs.
_BEGIN = r"[^\x00-\x20\"',=\[{]"
_FIRST = re.compile(rf"(?:\\,|{_BEGIN})(?:\\,|[^\x00-\x08\x0e-\x1b\"',\]}}])*")
_LATER = re.compile(rf"(?:\\,|{_BEGIN})(?:\\,|[^\x00-\x08\x0e-\x1b\"',=])*")
_QUOTED = {quote: re.compile(rf"{quote}(?:\\{quote}|[^{quote}])*{quote}") for quote in "'\""}


class ShorthandError(ValueError):
    """A text that is no shorthand; says what was expected, and points at the place."""


def parse(text: str, load: Callable[[str], Any]) -> dict[str, Any]:
    """Return what a shorthand text says: strings, lists and mappings. Raises `ShorthandError`.

    `load` is given each word after `@=`, and returns what stands in its place.
    """
    return _Parser(text, load).document()


class _Parser:
    """A place in a text, and a method for each rule of the grammar."""

    def __init__(self, text: str, load: Callable[[str], Any]) -> None:
        self._text = text
        self._load = load
        self._at = 0
        self._by_reference = False

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while True:
            start = self._at
            key = self._key()
            value = self._value()
            if key in found:
                raise ShorthandError(self._twice(key, start))
            found[key] = value
            if self._ended:
                return found
            self._take(",", spaces=True)

    # Rules -----------------------------------------------------------------------------------------

    def _key(self) -> str:
        key = self._match(_KEY)
        assert key is not None
        self._skip_spaces()
        self._by_reference = self._next == "@"
        if self._by_reference:
            self._take("@", spaces=True)
        self._take("=", spaces=True)
        return key

    def _value(self) -> Any:
        if self._ended:
            return ""
        return self._item() if self._next in {"[", "{"} else self._words()

    def _words(self) -> Any:
        words = [self._word(_FIRST)]
        self._skip_spaces()
        while not self._ended and self._next == ",":
            comma = self._at
            self._take(",", spaces=True)
            try:
                word = self._later_word()
            except ShorthandError:
                if self._ended:
                    raise
                self._at = self._text.rfind(",", comma, self._at + 1)
                break
            words.append(word)
        return words if len(words) > 1 else words[0]

    def _later_word(self) -> Any:
        if self._next not in _QUOTED and _LATER.match(self._text, self._at) is None:
            raise self._expected("<second>", "<none>")
        word = self._word(_LATER)
        self._skip_spaces()
        if not self._ended and self._next != ",":
            raise self._expected(",", self._next)
        return word

    def _item(self) -> Any:
        if self._next == "[":
            return self._list()
        if self._next == "{":
            return self._map()
        return self._word(_FIRST)

    def _list(self) -> list[Any]:
        items: list[Any] = []
        self._take("[", spaces=True)
        while self._next != "]":
            items.append(self._item())
            self._end_of_item("]")
        self._take("]")
        return items

    def _map(self) -> dict[str, Any]:
        items: dict[str, Any] = {}
        self._take("{", spaces=True)
        while self._next != "}":
            key = self._key()
            items[key] = self._item()
            self._end_of_item("}")
        self._take("}")
        return items

    def _end_of_item(self, end: str) -> None:
        self._skip_spaces()
        if self._next != end:
            self._take(",")
            self._skip_spaces()

    def _word(self, bare: re.Pattern[str]) -> Any:
        quote = self._next
        if quote in _QUOTED:
            quoted = self._match(_QUOTED[quote])
            if quoted is None:
                raise self._expected("<double quoted>" if quote == '"' else "<singled quoted>", "<none>")
            word = quoted[1:-1].replace(f"\\{quote}", quote).replace("\\\\", "\\")
        else:
            word = (self._match(bare) or "").replace("\\,", ",").rstrip()
        return self._load(word) if self._by_reference else word

    # Places ----------------------------------------------------------------------------------------

    @property
    def _ended(self) -> bool:
        return self._at >= len(self._text)

    @property
    def _next(self) -> str:
        return "" if self._ended else self._text[self._at]

    def _match(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return found[0]

    def _skip_spaces(self) -> None:
        self._match(_SPACE)

    def _take(self, expected: str, *, spaces: bool = False) -> None:
        if spaces:
            self._skip_spaces()
        if self._next != expected:
            raise self._expected(expected, self._next)
        self._at += 1
        if spaces:
            self._skip_spaces()

    # Errors ----------------------------------------------------------------------------------------

    def _expected(self, expected: str, received: str) -> ShorthandError:
        received = received or "EOF"
        return ShorthandError(
            f"Expected: '{expected}', received: '{received}' for input:\n{self._shown(self._at)}"
        )

    def _twice(self, key: str, at: int) -> str:
        return (
            f'Second instance of key "{key}" encountered for input:\n{self._shown(at)}\n'
            'This is often because there is a preceding "," instead of a space.'
        )

    def _shown(self, at: int) -> str:
        """The text with a mark under the place."""
        line_start = self._text.rfind("\n", 0, at) + 1
        line_end = self._text.find("\n", at)
        line_end = len(self._text) if line_end < 0 else line_end
        return f"{self._text[:line_end]}\n{' ' * (at - line_start)}^{self._text[line_end:]}"
