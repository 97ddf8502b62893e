"""The one lock around the core, and what happens when its holder is interrupted by itself.

While a thread is inside the core, the garbage collector or a signal may run other code on the same
thread, and that code may call the buffer (a destructor that records, say). An ordinary lock would
deadlock, a re-entrant one alone would let the call see the core half-changed. So a call that finds
its own thread inside leaves what it wants done with the thread, which does it as soon as it is out.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType

__all__ = ["Guard"]


class Guard:
    """A context manager: inside it, this thread alone is in the core.

    `busy` tells a thread that holds `lock` whether it interrupted itself; then it must not touch the
    core, but put a callable on `deferred`. `RumBuffer._admit` does by hand what this does, for speed.
    """

    __slots__ = ("busy", "deferred", "lock")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.busy = False
        self.deferred: deque[Callable[[], object]] = deque()

    def __enter__(self) -> None:
        self.lock.acquire()
        if self.busy:
            self.lock.release()
            raise RuntimeError("the buffer's core was entered from inside itself")
        self.busy = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.busy = False
        self.lock.release()
        if self.deferred:
            self.run_deferred()

    def run(self, change: Callable[[], object]) -> None:
        """Make a change inside, now or as soon as this thread is out of the core."""
        with self.lock:
            if self.busy:
                self.deferred.append(change)
                return
            self.busy = True
            try:
                change()
            finally:
                self.busy = False
        if self.deferred:
            self.run_deferred()

    def run_deferred(self) -> None:
        """Make the changes that were left; from outside."""
        while self.deferred:
            with self.lock:
                if self.busy:
                    return
                self.busy = True
                try:
                    while self.deferred:
                        self.deferred.popleft()()
                finally:
                    self.busy = False
