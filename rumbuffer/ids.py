"""Ids: random UUIDs (version 4), made 256 at a time.

`uuid.uuid4()` costs 3 to 5 µs, most of it in building objects; cutting a block of hexadecimal digits
into texts costs a tenth. An event's id only has to differ from all others, so 256 of them share 112 random
bits and differ in a count, which costs a third of that. The bits are `os.urandom`'s, and the pools are
thrown away in a forked child, which would otherwise give its parent's ids again.
"""

from __future__ import annotations

import os
import struct
from binascii import hexlify

__all__ = ["new_event_id", "new_id"]

_POOL = 256

_cut = struct.Struct("8s4s3s3s12s").iter_unpack
_join = b"%b-%b-4%b-a%b-%b".__mod__  # 4: random; a: the variant of RFC 9562, two of its bits fixed
_ids: list[bytes] = []
_event_ids: list[bytes] = []
_ends = [b"%02x" % number for number in range(_POOL)]


def new_id() -> str:
    """Return the text of a UUID that cannot be guessed: a batch's, a session's. Safe from any thread."""
    while True:
        try:
            return _ids.pop().decode()
        except IndexError:
            _ids.extend(map(_join, _cut(hexlify(os.urandom(15 * _POOL)))))


def new_event_id() -> bytes:
    """Return the text of a UUID that is like no other, as ASCII. Safe from any thread."""
    while True:
        try:
            return _event_ids.pop()
        except IndexError:
            digits = hexlify(os.urandom(15))
            head = _join((digits[:8], digits[8:12], digits[12:15], digits[15:18], digits[18:28]))
            _event_ids.extend([head + end for end in _ends])


def _forget() -> None:
    _ids.clear()
    _event_ids.clear()


os.register_at_fork(after_in_child=_forget)
