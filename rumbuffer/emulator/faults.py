"""Faults: what a service, a proxy or a network does to a request now and then.

A `Fault` strikes one request that would otherwise be accepted: it has passed
authentication, quota and every check. Scripted faults strike in the order of
the script, one request each; when the script is empty, `Faults` throws dice.
Nothing here does I/O; the server reads a fault's fields and acts.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace
from enum import Enum

from rumbuffer.emulator.answers import (
    SUCCESS,
    Answer,
    access_denied,
    internal,
    resource_not_found,
    throttling,
    too_large,
    validation,
)


class Delivery(Enum):
    """How the answer goes out."""

    WHOLE = "whole"
    RESET = "reset"
    CUT = "cut"
    SLOW = "slow"
    CLOSE = "close"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to one request. Build it with the class methods.

    ``store`` tells whether the batch is kept all the same: then the client sees
    a failure of something that has happened, and its retry is a repeat.
    """

    name: str
    store: bool = True
    answer: Answer = SUCCESS
    delivery: Delivery = Delivery.WHOLE
    wait: float = 0.0
    seconds: float = 0.0

    @classmethod
    def ok(cls) -> Fault:
        """No fault: the request is accepted."""
        return cls("ok")

    @classmethod
    def delay(cls, seconds: float) -> Fault:
        """Accepted, after ``seconds``."""
        return cls("delay", wait=seconds)

    @classmethod
    def status(
        cls,
        status: int,
        *,
        body: bytes | str | None = None,
        retry_after: str | int | None = None,
        store: bool = False,
    ) -> Fault:
        """Answer ``status``.

        The body is the service's own for that status unless ``body`` is given;
        ``b""`` answers without body and error name. ``retry_after`` goes into
        the header as it is, be it a number, an HTTP date or nonsense.
        """
        answer = _in_service_form(status) if body is None else Answer(status, _bytes(body))
        if retry_after is not None:
            answer = replace(answer, headers={**answer.headers, "Retry-After": str(retry_after)})
        return cls(f"store then {status}" if store else str(status), store=store, answer=answer)

    @classmethod
    def store_then_status(cls, status: int = 500, *, retry_after: str | int | None = None) -> Fault:
        """Keep the batch and answer an error."""
        return cls.status(status, retry_after=retry_after, store=True)

    @classmethod
    def throttle(cls, *, retry_after: str | int | None = None, body: bytes | str | None = None) -> Fault:
        """Answer 429, whatever the quota says."""
        return cls.status(429, retry_after=retry_after, body=body)

    @classmethod
    def garbage(
        cls, body: bytes | str = b"<html>\x00not JSON", *, status: int = 200, store: bool = False
    ) -> Fault:
        """Answer something that is no JSON."""
        return replace(cls.status(status, body=body, store=store), name="garbage")

    @classmethod
    def reset(cls) -> Fault:
        """Reset the connection (TCP RST); the batch is not kept."""
        return cls("reset", store=False, delivery=Delivery.RESET)

    @classmethod
    def store_then_reset(cls) -> Fault:
        """Keep the batch and reset the connection."""
        return cls("store then reset", delivery=Delivery.RESET)

    @classmethod
    def cut_answer(cls, *, store: bool = True) -> Fault:
        """Send half of the answer's body and close the connection."""
        return cls("cut answer", store=store, delivery=Delivery.CUT)

    @classmethod
    def slow_answer(cls, seconds: float, *, store: bool = True) -> Fault:
        """Send the head at once and the body byte by byte over ``seconds``."""
        return cls("slow answer", store=store, delivery=Delivery.SLOW, seconds=seconds)

    @classmethod
    def close(cls) -> Fault:
        """Accept, answer, and close the connection without having announced it."""
        return cls("close", delivery=Delivery.CLOSE)

    @classmethod
    def hang(cls, *, store: bool = False) -> Fault:
        """Read the request and never answer; the connection stays open until `Emulator.stop`."""
        return cls("hang", store=store, delivery=Delivery.NEVER)

    def after(self, seconds: float) -> Fault:
        """The same fault, ``seconds`` later."""
        return replace(self, wait=self.wait + seconds)


def _bytes(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _in_service_form(status: int) -> Answer:
    match status:
        case 400:
            return validation("Refused by a scripted fault").answer
        case 403:
            return access_denied("(scripted fault)").answer
        case 404:
            return resource_not_found("(scripted fault)").answer
        case 413:
            return too_large().answer
        case 429:
            return throttling(None).answer
        case _ if status >= 500:
            return internal(status).answer
        case _:
            return Answer(status, b"{}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Random faults: shares of the requests that would be accepted, from 0 to 1.

    At most one of them strikes a request, so they add up to at most 1.

    - ``error_rate``: 500, the batch is not kept; ``error_after_store_rate``: it is.
    - ``reset_rate``, ``reset_after_store_rate``: connection reset, likewise.
    - ``cut_answer_rate``: kept, half an answer.
    - ``slow_answer_rate``: kept, the answer's body takes ``slow_answer`` seconds.
    - ``latency``: seconds before *every* answer, throttles too; a pair
      ``(median, sigma)`` draws them from a lognormal distribution.
    - ``seed``: for the same faults in the same order.
    """

    error_rate: float = 0.0
    error_after_store_rate: float = 0.0
    reset_rate: float = 0.0
    reset_after_store_rate: float = 0.0
    cut_answer_rate: float = 0.0
    slow_answer_rate: float = 0.0
    slow_answer: float = 1.0
    latency: float | tuple[float, float] = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        rates = [rate for rate, _ in self.table()]
        if min(rates) < 0 or sum(rates) > 1 + 1e-9:
            raise ValueError(f"rates must be shares from 0 that add up to at most 1, not {rates}")
        median, sigma = self.latency if isinstance(self.latency, tuple) else (self.latency, 0.0)
        if median < 0 or sigma < 0:
            raise ValueError(f"latency must be seconds from 0, not {self.latency!r}")

    def table(self) -> list[tuple[float, Fault]]:
        """Each rate with its fault."""
        return [
            (self.error_rate, Fault.status(500)),
            (self.error_after_store_rate, Fault.store_then_status(500)),
            (self.reset_rate, Fault.reset()),
            (self.reset_after_store_rate, Fault.store_then_reset()),
            (self.cut_answer_rate, Fault.cut_answer()),
            (self.slow_answer_rate, Fault.slow_answer(self.slow_answer)),
        ]


_OK = Fault.ok()


@dataclass(slots=True)
class Dice:
    """Draws faults and latencies as `Faults` sets them."""

    faults: Faults
    _random: random.Random = field(init=False)
    _table: list[tuple[float, Fault]] = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.faults.seed)
        self._table = [(rate, fault) for rate, fault in self.faults.table() if rate]

    def fault(self) -> Fault:
        """The fault for the next request; mostly `Fault.ok`."""
        if not self._table:
            return _OK
        draw = self._random.random()
        for rate, fault in self._table:
            draw -= rate
            if draw < 0:
                return fault
        return _OK

    def latency(self) -> float:
        """Seconds until the next answer."""
        latency = self.faults.latency
        if isinstance(latency, tuple):
            median, sigma = latency
            return self._random.lognormvariate(math.log(median), sigma) if median else 0.0
        return latency
