"""The Sender protocol: what carries a batch to the service."""

from __future__ import annotations

from typing import Protocol

from rumbuffer.core.outcomes import Outcome
from rumbuffer.core.sealed import SealedBatch

__all__ = ["Sender"]


class Sender(Protocol):
    """What a `RumBuffer` sends through.

    One sender serves one buffer on one event loop. `start` is awaited before the first `send` and may
    be awaited again, to try again; `send` may run up to `max_in_flight` times at once; `aclose` is
    awaited last, once.
    """

    async def start(self, *, max_in_flight: int) -> None:
        """Make ready for that many requests at once. What is wrong with the settings shows at `send`."""

    async def send(self, batch: SealedBatch) -> Outcome:
        """Carry one batch in one request and say what became of it. Raises only `CancelledError`."""
        ...

    async def aclose(self) -> None:
        """Free everything. Called once, also after a failed `start`."""
