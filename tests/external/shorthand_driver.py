"""Parses texts with the AWS CLI's own parser of shorthand; for the AWS CLI's own Python.

Standard input: a JSON list of texts. Standard output: a JSON list with what each says, or with a string, the
error's text.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from awscli.shorthand import (  # type: ignore[import-not-found,unused-ignore] # see awscli_driver.py
    ShorthandParseError,
    ShorthandParser,
)


def parsed(text: str) -> Any:
    """What the text says."""
    try:
        return ShorthandParser().parse(text)
    except ShorthandParseError as error:
        return str(error)


if __name__ == "__main__":
    json.dump([parsed(text) for text in json.load(sys.stdin)], sys.stdout)
