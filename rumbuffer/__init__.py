"""An event buffer for CloudWatch RUM.

from rumbuffer import AppMonitor, RumBuffer, Session

async with RumBuffer(AppMonitor(id=...), region_name="eu-west-1") as buffer:
    buffer.record("com.example.checkout", {"total": 42}, session=Session.new())
"""

from rumbuffer.buffer import RumBuffer
from rumbuffer.core.admission import Admission, RefusalReason
from rumbuffer.core.counters import BufferStats, HoldStats
from rumbuffer.core.notices import (
    DeadLettered,
    DeadLetterReason,
    Dropped,
    DropReason,
    HoldEnded,
    HoldStarted,
    Notice,
    OutageEnded,
    OutageStarted,
    RateChanged,
    ShedRateChanged,
)
from rumbuffer.core.outcomes import (
    Delivered,
    Failed,
    HoldScope,
    Misconfigured,
    Outcome,
    Rejected,
    Throttled,
    TooLarge,
)
from rumbuffer.core.sealed import SealedBatch
from rumbuffer.errors import (
    BufferClosed,
    BufferFull,
    DeliveryError,
    InvalidEvent,
    InvalidSetting,
    RumBufferError,
    WrongLoop,
)
from rumbuffer.events import NIL_USER_ID, AppMonitor, Event, Session, current_session
from rumbuffer.hooks import Hook
from rumbuffer.reports import CloseReport, Delivery, FlushReport
from rumbuffer.sender import Sender
from rumbuffer.settings import Limits, Overflow, Pacing, RetryPolicy

__version__ = "0.1.0"

__all__ = [
    "NIL_USER_ID",
    "Admission",
    "AppMonitor",
    "BufferClosed",
    "BufferFull",
    "BufferStats",
    "CloseReport",
    "DeadLetterReason",
    "DeadLettered",
    "Delivered",
    "Delivery",
    "DeliveryError",
    "DropReason",
    "Dropped",
    "Event",
    "Failed",
    "FlushReport",
    "HoldEnded",
    "HoldScope",
    "HoldStarted",
    "HoldStats",
    "Hook",
    "InvalidEvent",
    "InvalidSetting",
    "Limits",
    "Misconfigured",
    "Notice",
    "OutageEnded",
    "OutageStarted",
    "Outcome",
    "Overflow",
    "Pacing",
    "RateChanged",
    "RefusalReason",
    "Rejected",
    "RetryPolicy",
    "RumBuffer",
    "RumBufferError",
    "SealedBatch",
    "Sender",
    "Session",
    "ShedRateChanged",
    "Throttled",
    "TooLarge",
    "WrongLoop",
    "current_session",
]
