"""A local CloudWatch RUM that is as strict as the service, for tests and laptops.

`Emulator` runs in the caller's event loop, `serve` until it is cancelled. The
limiter is free of I/O and clocks and can be used in simulations of its own.
"""

from rumbuffer.emulator.answers import Answer, ServiceError
from rumbuffer.emulator.counters import Requests
from rumbuffer.emulator.faults import Fault, Faults
from rumbuffer.emulator.quota import Limiter, Quota
from rumbuffer.emulator.records import ReceivedBatch, ReceivedEvent
from rumbuffer.emulator.server import Emulator, serve
from rumbuffer.emulator.service import Service
from rumbuffer.emulator.signature import Credentials

__all__ = [
    "Answer",
    "Credentials",
    "Emulator",
    "Fault",
    "Faults",
    "Limiter",
    "Quota",
    "ReceivedBatch",
    "ReceivedEvent",
    "Requests",
    "Service",
    "ServiceError",
    "serve",
]
