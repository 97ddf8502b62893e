"""The log, made safe: a handler of the host's that raises must not fail a request or stop the pump."""

from __future__ import annotations

import logging
from contextlib import suppress

__all__ = ["log"]

_logger = logging.getLogger("rumbuffer")


def log(level: int, text: str, *values: object, exc_info: bool | BaseException = False) -> None:
    """Log to the logger ``rumbuffer``, and never raise."""
    with suppress(Exception):
        _logger.log(level, text, *values, exc_info=exc_info)
