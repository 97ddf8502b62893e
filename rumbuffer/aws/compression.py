"""Request bodies in gzip: when, at which level, and where.

- **From 2 KiB on**, as the service's browser client does. A smaller request goes out in two network packets
  as it is, so that there is nothing to gain for the time.
- **At level 1**: a batch of a hundred events shrinks to a seventh, and to an eighth at zlib's default level 6
  for two and a half times the CPU. With the `isal` package (the extra `gzip`) level 1 is as small as zlib's
  level 4, for less than half of the CPU of zlib's level 1.
- **In a thread above 256 KiB**, of which zlib makes a stall of a millisecond; it lets go of the interpreter's
  lock meanwhile. Below that the hand-over would cost more than it saves.

The same body gives the same bytes, in every try: there is no time in the header.
"""

from __future__ import annotations

import asyncio
import importlib
import zlib
from collections.abc import Callable
from typing import Any

__all__ = ["GZIP", "LARGE", "SMALLEST", "gzipped", "gzipper"]

GZIP = "gzip"

SMALLEST = 2048
"""Bytes of a body from which on it is compressed."""
LARGE = 256 * 1024
"""Bytes of a body above which a thread compresses it."""

_LEVEL = 1
_GZIP_FORMAT = 31
"""zlib's number for the largest window, with gzip's header and trailer."""


def gzipper() -> Callable[[bytes], bytes]:
    """Return what compresses: ISA-L's code where the `isal` package is installed, else zlib's."""
    library: Any
    try:
        library = importlib.import_module("isal.isal_zlib")
    except ImportError:
        library = zlib

    def compress(body: bytes) -> bytes:
        compressed: bytes = library.compress(body, _LEVEL, _GZIP_FORMAT)
        return compressed

    return compress


async def gzipped(compress: Callable[[bytes], bytes], body: bytes) -> bytes:
    """Return the body compressed, without a stall of the loop."""
    return await asyncio.to_thread(compress, body) if len(body) > LARGE else compress(body)
