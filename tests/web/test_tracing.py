from __future__ import annotations

import re

import pytest

from rumbuffer.tracing import Trace, new_segment_id, new_trace_id, trace_of

ROOT = "1-5759e988-bd862e3fe1be46a994272793"


def test_xray_header() -> None:
    """X-Ray's header gives its trace, its parent and its sampling."""
    header = f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=1".encode()
    assert trace_of(header, None) == Trace(ROOT, "53995c3f42cd8ad8", sampled=True)


def test_xray_header_of_a_load_balancer() -> None:
    """A load balancer's header has its own part before the root, and may leave the rest open."""
    header = f"Self=1-67891234-12456789abcdef012345678;Root={ROOT};Sampled=0".encode()
    assert trace_of(header, None) == Trace(ROOT, None, sampled=False)
    assert trace_of(f"Root={ROOT}".encode(), None) == Trace(ROOT, None, sampled=None)


def test_traceparent() -> None:
    """The W3C's header gives a trace id in X-Ray's form, which has 35 characters."""
    trace = trace_of(None, b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    assert trace == Trace("1-4bf92f35-77b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)
    assert len(trace.trace_id) == 35


def test_xray_wins_over_traceparent() -> None:
    """Where both are there, X-Ray's own header counts; where that one is broken, the other."""
    parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
    trace = trace_of(f"Root={ROOT}".encode(), parent)
    assert trace is not None
    assert trace.trace_id == ROOT
    other = trace_of(b"Root=no", parent)
    assert other is not None
    assert other.trace_id == "1-4bf92f35-77b34da6a3ce929d0e0e4736"
    assert other.sampled is False


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"00",
        b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-" + b"0" * 16 + b"-01",
        b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
        b'00-4bf92f3577b34da6a3ce929d0e0e4736","x":"-01',
        b"\xff" * 5000,
    ],
)
def test_hostile_headers(header: bytes) -> None:
    """A header of another shape is the same as none."""
    assert trace_of(None, header) is None
    assert trace_of(header, None) is None


def test_new_ids() -> None:
    """New ids have X-Ray's form."""
    assert re.fullmatch(r"1-[0-9a-f]{8}-[0-9a-f]{24}", new_trace_id())
    assert re.fullmatch(r"[0-9a-f]{16}", new_segment_id())


def test_headers_have_a_bound() -> None:
    """A trace is found in the first 512 bytes of a header, and not beyond them."""
    root = f"Root={ROOT}".encode()
    inside = b"Self=" + b"x" * (512 - len(root) - 6) + b";" + root
    assert len(inside) == 512
    assert trace_of(inside, None) == Trace(ROOT, None, sampled=None)
    assert trace_of(b"x" + inside, None) is None
    assert trace_of(inside + b";Sampled=1;Parent=53995c3f42cd8ad8", None) == Trace(ROOT, None, sampled=None)
    parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert trace_of(None, parent + b"-" + b"x" * 5000) is not None
