"""Trace ids, from ``X-Amzn-Trace-Id`` or W3C ``traceparent``, in the form that X-Ray gives them.

Both headers are hostile input: what does not fit their grammar is the same as no header.
"""

from __future__ import annotations

import os
import re
import time
from typing import NamedTuple

__all__ = ["Trace", "new_segment_id", "new_trace_id", "trace_of"]

_find_root = re.compile(rb"(?:^|[; ])Root=(1-[0-9a-f]{8}-[0-9a-f]{24})(?![0-9a-f])").search
_find_parent = re.compile(rb"(?:^|[; ])Parent=([0-9a-f]{16})(?![0-9a-f])").search
_find_sampled = re.compile(rb"(?:^|[; ])Sampled=([01])").search
_match_traceparent = re.compile(
    rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{8})([0-9a-f]{24})-([0-9a-f]{16})-([0-9a-f]{2})(?:$|-)"
).match

_LONGEST = 512
"""Bytes of a trace header that are looked at; what X-Ray and the W3C define takes less."""


class Trace(NamedTuple):
    """The trace that a request belongs to. `sampled` is `None` where the caller left that open."""

    trace_id: str
    parent_id: str | None
    sampled: bool | None


def trace_of(amzn: bytes | None, traceparent: bytes | None) -> Trace | None:
    """Read the trace headers; X-Ray's own wins."""
    if amzn is not None:
        root = _find_root(amzn[:_LONGEST])
        if root is not None:
            parent, sampled = _find_parent(amzn[:_LONGEST]), _find_sampled(amzn[:_LONGEST])
            return Trace(
                root[1].decode(),
                None if parent is None else parent[1].decode(),
                None if sampled is None else sampled[1] == b"1",
            )
    if traceparent is not None:
        match = _match_traceparent(traceparent[:_LONGEST])
        if match is not None:
            seconds, rest, parent_id, flags = match.groups()
            if (seconds + rest).strip(b"0") and parent_id.strip(b"0"):
                trace_id = f"1-{seconds.decode()}-{rest.decode()}"
                return Trace(trace_id, parent_id.decode(), bool(int(flags, 16) & 1))
    return None


def new_trace_id() -> str:
    """Return a random trace id in X-Ray's form, which begins with the time."""
    return f"1-{int(time.time()):08x}-{os.urandom(12).hex()}"


def new_segment_id() -> str:
    """Return a random segment id: 16 hexadecimal digits."""
    return os.urandom(8).hex()
