"""A server's SIGTERM, as far as it must wait for a buffer: where the server sends no lifespan.

uvicorn notes a SIGTERM, stops gracefully, puts the handler back that was there before, and sends itself
the signal again, so that the process dies of what it was told to die of. It does so before its loop ends,
and the buffer could not be closed any more. So while a buffer is open, our handler stands before the
server's: it calls that, and then takes the signal from the server's list of those to be sent again. We
send it in its stead, once the last buffer is closed: from the same process, to the same handler.

Nothing is masked or swallowed: child processes inherit nothing, a second SIGTERM goes to the server as
the first did, and one that comes after the server has put the old handler back ends the process at once.

A server that sends nothing again has no such list, and gets its signals as if we were not there.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

__all__ = ["sigterm"]

_LOOK_EVERY = 0.05
"""Seconds between two looks at whether a stopping server is done."""


class _Sigterm:
    """The process's SIGTERM, shared by all buffers that are open without a lifespan."""

    def __init__(self) -> None:
        self._open: set[object] = set()
        self._handler: Any = None
        """The server's, while ours stands before it."""
        self._pid = 0
        self._is_owed = False
        """Whether the server would have sent the signal again."""
        self._stopping: asyncio.Future[object] | None = None
        """Has the handler that is there while the server stops, once it does: ours, or one before ours."""

    def wait_for(self, owner: object) -> None:
        """Have a SIGTERM end the process only after `let_go` of this owner. For the main thread's loop."""
        if threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGTERM)
        if not callable(handler):
            return
        if handler != self._handle:
            self._handler = handler
            signal.signal(signal.SIGTERM, self._handle)
        loop = asyncio.get_running_loop()
        if self._stopping is None or self._stopping.get_loop() is not loop or self._pid != os.getpid():
            self._open, self._is_owed = set(), False
            self._stopping, self._pid = loop.create_future(), os.getpid()
        self._open.add(owner)

    def let_go(self, owner: object) -> None:
        """The owner's buffer is closed. Sends what is owed, if it was the last."""
        if owner not in self._open or self._pid != os.getpid():
            return
        self._open.discard(owner)
        if self._open:
            return
        self._stopping = None
        if signal.getsignal(signal.SIGTERM) == self._handle:
            signal.signal(signal.SIGTERM, self._handler)
        if self._is_owed:
            self._is_owed = False
            signal.raise_signal(signal.SIGTERM)

    async def server_is_done(self, owner: object) -> None:
        """Wait until the server has stopped after a SIGTERM, if the loop goes on then: it serves more."""
        if owner not in self._open or self._stopping is None:
            await asyncio.get_running_loop().create_future()
            return
        handler = await asyncio.shield(self._stopping)
        while signal.getsignal(signal.SIGTERM) == handler:  # noqa: ASYNC110 - nothing tells of a new handler
            await asyncio.sleep(_LOOK_EVERY)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._handler(number, frame)
        stopping = self._stopping
        if stopping is None or self._pid != os.getpid():  # a child that was forked with this handler
            return
        # uvicorn's `Server.handle_exit`, since 0.29. It is the one server that needs this.
        again = getattr(getattr(self._handler, "__self__", None), "_captured_signals", None)
        if isinstance(again, list) and number in again:
            again.remove(number)
            if not self._is_owed:
                self._is_owed = True
                handler = signal.getsignal(signal.SIGTERM)
                with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                    stopping.get_loop().call_soon_threadsafe(stopping.set_result, handler)


sigterm: _Sigterm = _Sigterm()
