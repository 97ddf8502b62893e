"""Whatever is offered: `record()` never raises, the others raise only what they promise."""

from __future__ import annotations

import collections
import decimal
import enum
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rumbuffer import BufferClosed, Event, InvalidEvent, Overflow, RefusalReason, Session
from tests.fakes import (
    MONITOR,
    OTHER_MONITOR,
    FakeSender,
    SimulatedLoop,
    assert_laws,
    buffer_of,
    run_on,
    session_of,
    simulated,
    uuid_of,
)


class Nasty:
    """Raises at whatever is done with it."""

    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError(name)

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    def __hash__(self) -> int:
        raise ZeroDivisionError

    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__

    def __bool__(self) -> bool:
        raise ZeroDivisionError

    def __len__(self) -> int:
        raise ZeroDivisionError

    def __iter__(self) -> Iterator[Any]:
        raise ZeroDivisionError


class NastyText(str):
    """A string that raises when it is compared, hashed or encoded."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    def __hash__(self) -> int:
        raise ZeroDivisionError

    def encode(self, *args: Any) -> bytes:
        """Raise."""
        raise ZeroDivisionError


class NastyMapping(Mapping[str, Any]):
    """A mapping that breaks off half-way."""

    def __getitem__(self, key: str) -> Any:
        raise ZeroDivisionError(key)

    def __iter__(self) -> Iterator[str]:
        yield "a"
        raise ZeroDivisionError

    def __len__(self) -> int:
        return 2


class LostMapping(NastyMapping):
    """A mapping that does not even know its length."""

    def __len__(self) -> int:
        raise ZeroDivisionError


class NastyZone(tzinfo):
    """A time zone that does not know its offset."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        """Raise."""
        raise ZeroDivisionError

    dst = utcoffset

    def tzname(self, moment: datetime | None) -> str:
        """Raise."""
        raise ZeroDivisionError


class NastyNumber(float):
    """A number that cannot be rounded."""

    def __round__(self, ndigits: int | None = None) -> Any:  # type: ignore[override]
        raise ZeroDivisionError


Colour = enum.Enum("Colour", "RED GREEN")

_deep: dict[str, Any] = {}
for _ in range(2000):
    _deep = {"deeper": _deep}
_loop: dict[str, Any] = {}
_loop["self"] = _loop

ODD: list[Any] = [
    *(None, True, False, 0, -1, 10**400, 1.5, float("nan"), float("inf"), 1j, decimal.Decimal(1)),
    *("", "{", "{}", "[]", "null", '{"a":NaN}', '{"a":"\\ud800"}', "\ud800", "\x00", "é" * 4000, "a" * 257),
    *(
        b"{}",
        bytearray(b"{}"),
        [],
        (),
        set(),
        {1: 2},
        {None: 1},
        {"a": object()},
        {"a": {1, 2}},
        {"\ud800": 1},
    ),
    *({"a": "\ud800"}, {"a": 2**64}, {"a": float("nan")}, {"a": 10**400}, {"a": Colour.RED}, _deep, _loop),
    *(object(), object, len, Nasty(), Nasty, {"a": Nasty()}, NastyMapping(), LostMapping(), NastyText("a")),
    *(collections.OrderedDict(a=1), collections.ChainMap({"a": 1}), collections.defaultdict(int, a=1)),
    *(Mock(), MagicMock(), {"a": Mock()}, Colour.RED, ValueError("x"), ..., NotImplemented, NastyNumber(1)),
    *(datetime(2026, 1, 1), datetime.max.replace(tzinfo=UTC)),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    datetime(2026, 1, 1, tzinfo=NastyZone()),
    *(timedelta(1), uuid_of(1), uuid_of(1).upper(), "g" * 36, NastyText(uuid_of(1)), MONITOR, session_of()),
]


@dataclass(frozen=True)
class Odd:
    """Stands for `ODD[place]`, which hypothesis could not print."""

    place: int


anything = st.one_of(
    st.builds(Odd, st.integers(0, len(ODD) - 1)),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=20)
        | st.binary(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
)

arguments = st.fixed_dictionaries(
    {
        "type": st.just("com.example.test") | anything,
        "details": st.just({"a": 1}) | anything,
        "session": st.just(session_of()) | anything,
    },
    optional={
        "metadata": st.just({"b": 2}) | anything,
        "id": st.just(uuid_of(3)) | anything,
        "timestamp": st.just(1767225600.5) | anything,
        "app_monitor": st.sampled_from([MONITOR, OTHER_MONITOR]) | anything,
    },
)


def real(offer: dict[str, Any]) -> dict[str, Any]:
    """Put the odd things in their places."""
    return {name: ODD[value.place] if isinstance(value, Odd) else value for name, value in offer.items()}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep thousands of tracebacks from the report."""
    logging.getLogger("rumbuffer").disabled = True
    yield
    logging.getLogger("rumbuffer").disabled = False


@settings(max_examples=400)
@given(st.lists(arguments, min_size=1, max_size=6), st.sampled_from(Overflow), st.sampled_from([1.0, 0.5]))
def test_record_never_raises(offers: list[dict[str, Any]], overflow: Overflow, sample_rate: float) -> None:
    """Whatever `record()` is given, it answers, counts it once, and what it took is delivered."""

    async def main() -> None:
        sender = FakeSender()
        async with buffer_of(sender, overflow=overflow, sample_rate=sample_rate) as buffer:
            answers = [buffer.record(**real(offer)) for offer in offers]
            stats = buffer.stats()
            assert stats.offered == len(offers)
            assert stats.accepted == sum(map(bool, answers))
            assert_laws(stats)
        assert buffer.stats().delivered == stats.accepted
        assert_laws(buffer.stats(), closed=True)

    run_on(SimulatedLoop, main())


@settings(max_examples=400)
@given(arguments, st.sampled_from(["put_nowait", "put", "deliver"]))
def test_the_others_raise_what_they_promise(offer: dict[str, Any], call: str) -> None:
    """With any garbage `put_nowait()`, `put()` and `deliver()` raise `InvalidEvent` or nothing, and count."""
    offer = real(offer)
    places = {name: offer.pop(name) for name in ("session", "app_monitor") if name in offer}

    async def main() -> None:
        async with buffer_of(FakeSender()) as buffer:
            try:
                answer = getattr(buffer, call)(Event(**offer), **places)
                if call != "put_nowait":
                    await answer
            except InvalidEvent:
                refused = 1
            else:
                refused = 0
            stats = buffer.stats()
            assert (stats.offered, stats.refused) == (1, refused)
            assert_laws(stats)

    run_on(SimulatedLoop, main())


@pytest.mark.parametrize("nasty", [NastyMapping(), LostMapping(), collections.ChainMap(Nasty())])  # type: ignore[arg-type]
@simulated
async def test_a_mapping_that_raises_is_an_invalid_event(nasty: Mapping[str, Any]) -> None:
    """Details that raise while they are read are the caller's fault, and are said to be so."""
    async with buffer_of(FakeSender()) as buffer:
        assert buffer.record("a", nasty, session=session_of()).reason is RefusalReason.INVALID_EVENT
        with pytest.raises(InvalidEvent, match="details"):
            buffer.put_nowait(Event("a", nasty), session=session_of())
        with pytest.raises(InvalidEvent, match="metadata"):
            await buffer.put(Event("a", {}, metadata=nasty), session=session_of())


class RaisingHandler(logging.Handler):
    """A log handler that fails."""

    def emit(self, record: logging.LogRecord) -> None:
        """Raise."""
        raise OSError("the disk is full")


@pytest.mark.parametrize(
    "offer",
    [
        {"details": 7, "session": session_of()},
        {"details": {}},
        {"details": LostMapping(), "session": session_of()},
    ],
)
@simulated
async def test_record_does_not_raise_where_logging_does(offer: dict[str, Any]) -> None:
    """A log handler of the host's that raises does not make `record()` raise."""
    logger, handler = logging.getLogger("rumbuffer"), RaisingHandler()
    logger.disabled = False
    logger.addHandler(handler)
    try:
        async with buffer_of(FakeSender()) as buffer:
            assert not buffer.record("a", **offer)
            assert buffer.stats().refused == 1
        assert not buffer.record("a", {}, session=session_of())
    finally:
        logger.removeHandler(handler)


@simulated
async def test_a_closed_buffer_raises_before_it_looks() -> None:
    """On a closed buffer garbage is answered by an error that the call promises."""
    buffer = buffer_of(FakeSender())
    async with buffer:
        pass
    for odd in ODD:
        with pytest.raises((InvalidEvent, BufferClosed)):
            buffer.put_nowait(Event("a", odd), session=odd)
        for call in (buffer.put, buffer.deliver):
            with pytest.raises((InvalidEvent, BufferClosed)):
                await call(Event("a", odd), session=odd)


@simulated
async def test_a_session_may_be_subclassed() -> None:
    """A session of the host's own class is taken for what it is."""

    class Visit(Session):
        __slots__ = ("page",)

    sender = FakeSender()
    async with buffer_of(sender) as buffer:
        assert buffer.record("a", {}, session=Visit(uuid_of(9)))
    assert sender.arrived[0].session_id == uuid_of(9)
