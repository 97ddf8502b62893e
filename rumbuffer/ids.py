"""Ids: random UUIDs (version 4), made 256 at a time.

`uuid.uuid4()` costs 3 to 5 µs, most of it in building objects; cutting a block of hexadecimal digits
into texts costs a tenth. The bits are `os.urandom`'s, so that ids cannot be guessed, and the pool is
thrown away in a forked child, which would otherwise give its parent's ids again.
"""

from __future__ import annotations

import os
import struct
from binascii import hexlify

__all__ = ["new_id", "new_id_bytes"]

_POOL = 256

_cut = struct.Struct("8s4s3s3s12s").iter_unpack
_join = b"%b-%b-4%b-a%b-%b".__mod__  # 4: random; a: the variant of RFC 9562, two of its bits fixed
_pool: list[bytes] = []


def new_id_bytes() -> bytes:
    """Return a random UUID's text as ASCII. Safe from any thread."""
    while True:
        try:
            return _pool.pop()
        except IndexError:
            _pool.extend(map(_join, _cut(hexlify(os.urandom(15 * _POOL)))))


def new_id() -> str:
    """Return a random UUID's text. Safe from any thread."""
    return new_id_bytes().decode()


os.register_at_fork(after_in_child=_pool.clear)
