"""Notices to the host: the log, and the host's own hooks.

A hook is a callable that takes one notice (see `rumbuffer.core.notices`). It runs on the buffer's
event loop, outside every lock, and should be quick; one that raises is logged once and never hurts
delivery.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TypeAlias

from rumbuffer.core.notices import (
    DeadLettered,
    Dropped,
    HoldEnded,
    HoldStarted,
    Notice,
    OutageEnded,
    OutageStarted,
    ShedRateChanged,
)
from rumbuffer.log import log

__all__ = ["Hook", "Hooks"]


Hook: TypeAlias = Callable[[Notice], object]

_LOSSES_LOGGED_EVERY = 60.0
"""Seconds between two log lines about losses for the same reason; none is left out of the sums."""


class Hooks:
    """Tells the log and the hooks what happened."""

    def __init__(self, hooks: Iterable[Hook]) -> None:
        self._hooks = tuple(hooks)
        self.listeners: set[Hook] = set()
        """Calls of ours that wait, and hear what the hooks hear."""
        self._broken: set[int] = set()
        self._unlogged: dict[str, int] = {}
        self._details: dict[str, str] = {}
        self._logged_at: dict[str, float] = {}

    def tell(self, notices: Iterable[Notice], now: float) -> None:
        """Hand each notice to the log and to every hook."""
        for key in [key for key in self._unlogged if now >= self._logged_at[key] + _LOSSES_LOGGED_EVERY]:
            self._log_losses(key, now)
        for notice in notices:
            self._log(notice, now)
            for hook in (*self._hooks, *self.listeners):
                try:
                    hook(notice)
                except (Exception, asyncio.CancelledError):  # noqa: BLE001 - logged with its traceback
                    if id(hook) not in self._broken:
                        self._broken.add(id(hook))
                        log(
                            logging.ERROR,
                            "a hook of rumbuffer raised; its later errors are not logged",
                            exc_info=True,
                        )

    def due(self) -> float:
        """Return when a line about losses that was put off is to be logged."""
        return min(
            (self._logged_at[key] + _LOSSES_LOGGED_EVERY for key in self._unlogged), default=float("inf")
        )

    def log_the_rest(self) -> None:
        """Log the losses whose line was put off."""
        for key in list(self._unlogged):
            self._log_losses(key, self._logged_at[key])

    def _log(self, notice: Notice, now: float) -> None:
        match notice:
            case Dropped():
                self._loss(f"dropped ({notice.reason})", notice.count, "", now)
            case DeadLettered():
                self._loss(f"dead-lettered ({notice.reason})", len(notice.events), notice.detail, now)
            case HoldStarted():
                log(
                    logging.ERROR,
                    "rumbuffer holds %s: %s%s; events stay pending and it is tried again",
                    _what(notice.app_monitor_id),
                    notice.code,
                    f": {notice.message.rstrip('.')}" if notice.message else "",
                )
            case HoldEnded():
                log(
                    logging.WARNING,
                    "rumbuffer sends %s again after a hold of %.0f s",
                    _what(notice.app_monitor_id),
                    notice.seconds,
                )
            case OutageStarted():
                log(
                    logging.WARNING,
                    "rumbuffer gets nothing through for %s (%s); events stay pending while it probes",
                    _what(notice.app_monitor_id),
                    notice.reason,
                )
            case OutageEnded():
                log(
                    logging.WARNING,
                    "rumbuffer gets %s through again after %.0f s",
                    _what(notice.app_monitor_id),
                    notice.seconds,
                )

            case ShedRateChanged(rate, previous) if previous == 1.0:
                log(
                    logging.WARNING,
                    "rumbuffer sheds sessions: more is offered than gets through; it keeps %.3g %% of them",
                    100 * rate,
                )
            case ShedRateChanged(rate) if rate < 1.0:
                log(logging.INFO, "rumbuffer keeps %.3g %% of the sessions", 100 * rate)
            case ShedRateChanged():
                log(logging.WARNING, "rumbuffer keeps all sessions again")
            case _:  # what is told to the hooks alone
                pass

    def _loss(self, key: str, count: int, detail: str, now: float) -> None:
        self._unlogged[key] = self._unlogged.get(key, 0) + count
        self._details[key] = detail
        if now >= self._logged_at.setdefault(key, float("-inf")) + _LOSSES_LOGGED_EVERY:
            self._log_losses(key, now)

    def _log_losses(self, key: str, now: float) -> None:
        self._logged_at[key] = now
        detail = self._details.pop(key, "")
        log(
            logging.WARNING,
            "rumbuffer lost events: %d %s%s",
            self._unlogged.pop(key),
            key,
            f": {detail}" if detail else "",
        )


def _what(app_monitor_id: str | None) -> str:
    return "everything" if app_monitor_id is None else f"app monitor {app_monitor_id}"
