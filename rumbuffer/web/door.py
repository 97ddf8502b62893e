# ruff: noqa: SLF001 - see below
"""What the web integration asks of a buffer: the one module that knows a `RumBuffer` from inside."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary
from zlib import crc32

from rumbuffer.buffer import RumBuffer
from rumbuffer.core.admission import Admission, RefusalReason
from rumbuffer.core.encoding import shape_of
from rumbuffer.errors import InvalidEvent, InvalidSetting
from rumbuffer.events import AppMonitor, Session
from rumbuffer.settings import Overflow

__all__ = ["Door"]


_watched_rates: WeakKeyDictionary[RumBuffer, float] = WeakKeyDictionary()
"""The largest `sample_rate` of the middlewares that record in a buffer."""


class Door:
    """The way into a buffer. None of it waits, none of it raises. Raises `InvalidSetting` when it is made."""

    def __init__(self, buffer: RumBuffer) -> None:
        if not isinstance(buffer, RumBuffer):
            raise InvalidSetting("buffer", "must be a rumbuffer.RumBuffer", shape_of(buffer))
        self.buffer: RumBuffer = buffer
        self._intake = buffer._intake
        self._store = buffer._store
        self.offer_encoded: Callable[[bytes, Session], Admission] = buffer._intake.offer_encoded

    @property
    def app_monitor(self) -> AppMonitor:
        """The app monitor that receives the events."""
        return self.buffer._app_monitor

    @property
    def state(self) -> str:
        """``new``, ``running``, ``closing``, ``closed`` or ``forked``."""
        return self._intake.state

    def keeps(self, sample_rate: float) -> Callable[[str], bool] | None:
        """Return what tells whether a session's id is kept: at this rate, the buffer's, and its shed rate.

        `None` where every session is.
        """
        store = self._store
        _watched_rates[self.buffer] = max(sample_rate, _watched_rates.get(self.buffer, 0.0))
        rate = min(sample_rate, store.sample_rate)
        # `Session.sample_point` below the rate, without the division.
        if self.buffer._overflow is Overflow.SHED_SESSIONS:
            return lambda session_id: crc32(session_id.encode()) < min(rate, store.keep_rate) * 4294967296
        threshold = rate * 4294967296
        return None if rate >= 1.0 else lambda session_id: crc32(session_id.encode()) < threshold

    def watches(self, session: Session) -> bool:
        """Tell whether requests of the session are sampled, where a server is watched for this buffer."""
        return session.sample_point < _watched_rates.get(self.buffer, 1.0)

    @property
    def max_event_bytes(self) -> int:
        """Bytes of details and metadata together that an event may have."""
        return self.buffer._limits.max_event_bytes

    @property
    def close_timeout(self) -> float:
        """Seconds that the buffer's close may take."""
        return self.buffer._close_timeout

    @property
    def brings_own_sender(self) -> bool:
        """Whether the buffer was given a sender, and needs no AWS SDK."""
        return self.buffer._sender_settings[0] is not None

    def count_sampled_out(self, session: Session) -> None:
        """Count an event of a session that is not kept, while the buffer runs."""
        intake = self._intake
        if intake.state == "running":
            store = self._store
            is_shed = store.shed_rate != 1.0 and session.sample_point < store.sample_rate
            intake.count_sampled_out(is_shed=is_shed)

    def refuse(self, error: InvalidEvent) -> Admission:
        """Count an event that could not be made."""
        return self._intake.refuse(RefusalReason.INVALID_EVENT, error)

    def failed(self, what: str, error: BaseException) -> None:
        """Log that something raised, the first time; where and what type, for its text may be personal.

        Errors of ours that name a setting or a member hold nothing personal, and are told whole.
        """
        if isinstance(error, (InvalidSetting, InvalidEvent)):
            self._intake.say_once(what, f"rumbuffer: {what} raised {type(error).__name__}: {error}")
            return
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        where = "" if frame is None else f" in {frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}"
        self._intake.say_once(what, f"rumbuffer: {what} raised {type(error).__name__}{where}")

    def abandon(self) -> None:
        """The loop ended before the buffer was closed: count and log what is left."""
        if self.state in ("running", "closing"):
            self.buffer._loop_is_gone()
