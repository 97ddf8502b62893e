"""What a user may set: `Limits`, `Pacing`, `RetryPolicy`, `Overflow`; from arguments or the environment.

Every value is checked when it is made, so that a typo fails at the start of the program and not in
the first outage. Sizes are in bytes, times in seconds, rates in requests a second.
"""

from __future__ import annotations

import difflib
import logging
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from rumbuffer.core.encoding import shape_of
from rumbuffer.errors import InvalidSetting
from rumbuffer.events import AppMonitor
from rumbuffer.log import log

__all__ = ["Limits", "Overflow", "Pacing", "RetryPolicy"]


Oversize: TypeAlias = Literal["refuse", "send"]
Share: TypeAlias = Literal["host"]
Compression: TypeAlias = Literal["gzip"]

_GROUP = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class Overflow(StrEnum):
    """What `record()` and `put_nowait()` do when the memory limit is reached, or comes near."""

    DROP_OLDEST = "drop_oldest"
    """Drop from the front of the open batch that was opened first, as much as is needed."""
    DROP_NEWEST = "drop_newest"
    """Refuse the new event."""
    RAISE = "raise"
    """Refuse the new event; `put_nowait` raises `BufferFull`."""
    SHED_SESSIONS = "shed_sessions"
    """Before the limit is reached, under lasting pressure, keep fewer sessions, and those whole."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a batch and the buffer may hold.

    `max_batch_events`, `max_batch_bytes` (the whole uncompressed request body) and `linger` (the
    longest an open batch waits for more, seconds) shape the batches. 100 events is what the browser
    client sends at most; the service publishes no number (2026-11).

    `max_pending_bytes` bounds the memory: every event that is not yet delivered is charged its
    encoded length + 100, every open batch 400 + its envelope. `max_event_bytes` is the UTF-8 length
    of details and metadata together, above which the service drops an event silently;
    ``oversize="send"`` lets larger ones pass (session replay). `max_in_flight` is the number of
    batches sealed and unfinished at once, and of connections.
    """

    max_batch_events: int = 100
    max_batch_bytes: int = 1_000_000
    linger: float = 5.0
    max_pending_bytes: int = 64 * 1024 * 1024
    max_event_bytes: int = 6144
    oversize: Oversize = "refuse"
    max_in_flight: int = 32

    def __post_init__(self) -> None:
        _whole("max_batch_events", self.max_batch_events, 1)
        _whole("max_batch_bytes", self.max_batch_bytes, 1024)
        _number("linger", self.linger, 0.0)
        _whole("max_pending_bytes", self.max_pending_bytes, 1024)
        _whole("max_event_bytes", self.max_event_bytes, 2)
        _whole("max_in_flight", self.max_in_flight, 1)
        if self.oversize not in ("refuse", "send"):
            raise InvalidSetting("oversize", "must be 'refuse' or 'send'", shape_of(self.oversize))


@dataclass(frozen=True, slots=True)
class Pacing:
    """How the service's quota is spent.

    `quota` is what the account may send in a region (requests a second; 50 unless it was raised),
    `use` the share of it that this buffer takes: the default leaves a fifth for browsers that post
    directly, and 0.98 is for those whose events all pass through here. ``quota=None`` means unknown:
    the pace starts slowly and is found from what the service refuses, and `use` has no say. `burst`
    is the number of requests that may go out at once at the start, where the quota is known; later it
    is two.

    ``share="host"`` makes the user's processes on one host that name the same `group` keep one pace
    together, through a small file of mode 0600 in the user's runtime folder; those that send to
    different accounts or regions should name different groups (letters, digits, ``._-``; at most 64).
    Where the file cannot be, each process learns for itself. ``share=None`` turns it off.
    """

    quota: float | None = 50.0
    use: float = 0.8
    burst: int = 10
    share: Share | None = "host"
    group: str = "default"

    def __post_init__(self) -> None:
        if self.quota is not None:
            _number("quota", self.quota, 0.0, exclusive=True)
        _number("use", self.use, 0.0, 1.0, exclusive=True)
        _whole("burst", self.burst, 1)
        if self.share not in ("host", None):
            raise InvalidSetting("share", "must be 'host' or None", shape_of(self.share))
        if not isinstance(self.group, str) or not _GROUP.fullmatch(self.group):
            raise InvalidSetting("group", "must be 1 to 64 of A-Z a-z 0-9 . _ -", shape_of(self.group))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a batch that failed (5xx, time-out, connection) goes again, and when it is given up.

    A batch is given up after `max_failures` failures, each counted only if other batches were
    delivered meanwhile: an outage expires nothing. Throttles never count. The delay before retry n is
    random between 0 and `base_delay` · 2ⁿ⁻¹, at most `max_delay` (seconds). `budget` bounds retries to
    that share of the first tries, with one a second always allowed.
    """

    max_failures: int = 8
    base_delay: float = 0.2
    max_delay: float = 30.0
    budget: float = 0.2

    def __post_init__(self) -> None:
        _whole("max_failures", self.max_failures, 1)
        _number("base_delay", self.base_delay, 0.0, exclusive=True)
        _number("max_delay", self.max_delay, self.base_delay)
        _number("budget", self.budget, 0.0)


def check_rate(name: str, value: object) -> None:
    """Check a share: a number from 0 to 1."""
    _number(name, value, 0.0, 1.0)


def check_seconds(name: str, value: object) -> None:
    """Check a duration: a number of seconds, 0 or more."""
    _number(name, value, 0.0)


def check_compression(value: object) -> None:
    """Check the name of a way to compress request bodies, or `None`."""
    if value not in ("gzip", None):
        raise InvalidSetting("compression", "must be 'gzip' or None", shape_of(value))


_TOO_MUCH = 1e15


def _whole(name: str, value: object, lowest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidSetting(name, "must be a whole number", shape_of(value))
    if value < lowest:
        raise InvalidSetting(name, f"must be at least {lowest}", str(value))


def _number(
    name: str, value: object, lowest: float, highest: float = math.inf, *, exclusive: bool = False
) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidSetting(name, "must be a number", shape_of(value))
    low_enough = value > lowest if exclusive else value >= lowest
    if not (low_enough and value <= highest and value < _TOO_MUCH):
        bound = f"above {lowest:g}" if exclusive else f"at least {lowest:g}"
        top = "" if highest == math.inf else f" and at most {highest:g}"
        shown = float(min(max(value, -1e300), 1e300))  # an int may be larger than any float
        raise InvalidSetting(name, f"must be a finite number, {bound}{top}", f"{shown:g}")


# The environment ------------------------------------------------------------------------------------

_PREFIX = "RUMBUFFER_"


def _means_none(text: str) -> bool:
    return text.strip().lower() in ("none", "unknown")


# variable (without the prefix) -> (settings class or None for an argument of RumBuffer, name, parser)
_VARIABLES: dict[str, tuple[type | None, str, Callable[[str], Any]]] = {
    "APP_MONITOR_ID": (AppMonitor, "id", str),
    "APP_MONITOR_NAME": (AppMonitor, "name", str),
    "APP_MONITOR_VERSION": (AppMonitor, "version", str),
    "APP_MONITOR_ALIAS": (AppMonitor, "alias", str),
    "REGION": (None, "region_name", str),
    "ENDPOINT_URL": (None, "endpoint_url", str),
    "COMPRESSION": (None, "compression", lambda text: None if _means_none(text) else text),
    "MAX_BATCH_EVENTS": (Limits, "max_batch_events", int),
    "MAX_BATCH_BYTES": (Limits, "max_batch_bytes", int),
    "LINGER": (Limits, "linger", float),
    "MAX_PENDING_BYTES": (Limits, "max_pending_bytes", int),
    "MAX_EVENT_BYTES": (Limits, "max_event_bytes", int),
    "OVERSIZE": (Limits, "oversize", str),
    "MAX_IN_FLIGHT": (Limits, "max_in_flight", int),
    "QUOTA": (Pacing, "quota", lambda text: None if _means_none(text) else float(text)),
    "USE": (Pacing, "use", float),
    "BURST": (Pacing, "burst", int),
    "SHARE": (Pacing, "share", lambda text: None if _means_none(text) else text),
    "GROUP": (Pacing, "group", str),
    "MAX_FAILURES": (RetryPolicy, "max_failures", int),
    "BASE_DELAY": (RetryPolicy, "base_delay", float),
    "MAX_DELAY": (RetryPolicy, "max_delay", float),
    "RETRY_BUDGET": (RetryPolicy, "budget", float),
    "OVERFLOW": (None, "overflow", Overflow),
    "SAMPLE_RATE": (None, "sample_rate", float),
    "CLOSE_TIMEOUT": (None, "close_timeout", float),
}

_GROUPS: dict[type, str] = {
    AppMonitor: "app_monitor",
    Limits: "limits",
    Pacing: "pacing",
    RetryPolicy: "retry",
}


def from_environment(environment: Mapping[str, str] | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return `RumBuffer`'s arguments as the `RUMBUFFER_*` variables set them, under those `given`.

    Empty variables count as unset. Raises `InvalidSetting` naming the variable; a `RUMBUFFER_*` name
    that means nothing is logged as a warning, with the nearest one that does.
    """
    environment = os.environ if environment is None else environment
    arguments: dict[str, Any] = {}
    grouped: dict[type, dict[str, Any]] = {AppMonitor: {}}
    for variable, text in environment.items():
        if not variable.startswith(_PREFIX) or not text:
            continue
        known = _VARIABLES.get(variable.removeprefix(_PREFIX))
        if known is None:
            _warn_unknown(variable)
            continue
        group, name, parse = known
        target = arguments if group is None else grouped.setdefault(group, {})
        target[name] = _parsed(variable, parse, text)
    if "id" not in grouped[AppMonitor] and "app_monitor" not in given:
        raise InvalidSetting(f"{_PREFIX}APP_MONITOR_ID", "must be set to the app monitor's UUID", "nothing")
    for group, values in grouped.items():
        if _GROUPS[group] not in given:
            arguments[_GROUPS[group]] = _made(group, values)
    if given.get("sender") is not None:  # it brings its own
        for own in ("region_name", "endpoint_url", "compression"):
            arguments.pop(own, None)
    return {**arguments, **given}


def _parsed(variable: str, parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except ValueError:
        if parse is Overflow:
            rule = "must be one of " + ", ".join(Overflow)
        else:
            rule = "must be a whole number" if parse is int else "must be a number"
        raise InvalidSetting(variable, rule, shape_of(text)) from None


def _made(group: type, values: dict[str, Any]) -> Any:
    try:
        return group(**values)
    except InvalidSetting as error:
        raise named_by_variable(error, group) from None


def named_by_variable(error: InvalidSetting, group: type | None = None) -> InvalidSetting:
    """Return the error under the name of the environment variable that the setting came from."""
    name = error.field.rpartition(".")[2]
    for variable, (of_group, known, _) in _VARIABLES.items():
        if of_group is group and known == name:
            return InvalidSetting(_PREFIX + variable, error.rule, error.shape)
    return error


def _warn_unknown(variable: str) -> None:
    near = difflib.get_close_matches(variable, [_PREFIX + name for name in _VARIABLES], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    log(logging.WARNING, "the environment variable %s means nothing to rumbuffer%s", variable, hint)
