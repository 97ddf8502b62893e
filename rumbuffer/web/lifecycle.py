"""The buffer's life in somebody's server: started and closed with the application, if nobody else does.

With a lifespan this is simple. The buffer starts when the application's own startup is complete (an
application that starts the buffer itself has done so by then) and closes after its shutdown. Where the
application knows no lifespan (Django), the middleware answers the server in its stead.

Where the server sends none, the buffer starts with the first request, and the end has to be found out:

- A loop that ends as `asyncio.run` ends it cancels its tasks and waits for them; a task of ours that
  does nothing but wait closes the buffer then.
- uvicorn ends a graceful shutdown by sending itself the signal again, which kills the process before
  its loop ends. So the first SIGTERM is blocked while its handler does its work, and let in again when
  the buffer is closed: the process dies of it as it would have, a little later.
- Where the loop is left without either (granian), the interpreter's exit closes the buffer.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import multiprocessing
import multiprocessing.util
import signal
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from types import FrameType
from typing import Any, TypeAlias

from rumbuffer.web.door import Door

__all__ = ["Lifecycle"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class Lifecycle:
    """Starts and closes the buffer behind a door, unless `manage` is false or somebody else started it."""

    def __init__(self, door: Door, *, manage: bool) -> None:
        self.settled: bool = not manage
        """Whether there is nothing left to do when a request comes."""
        self._door = door
        self._manage = manage
        self._ours = False
        self._beginning: asyncio.Task[None] | None = None
        self._guardian: asyncio.Task[None] | None = None
        self._finalizer: multiprocessing.util.Finalize | None = None
        self._holds_sigterm = False

    async def begin(self) -> None:
        """Start the buffer with the first request, where no lifespan did; the others wait for that.

        Not in that request's context, which the buffer's tasks would keep for as long as they live.
        """
        if self._door.state != "new":
            self.settled = True
            return
        if self._beginning is None or self._beginning.done():
            loop = asyncio.get_running_loop()
            self._beginning = loop.create_task(self._begin(), context=contextvars.Context())
        try:
            await asyncio.shield(self._beginning)
        except Exception as error:  # noqa: BLE001 - a defect of ours must not become a failed request
            self.settled = True
            self._door.failed("starting the buffer", error)

    async def _begin(self) -> None:
        started = await self._start()
        self.settled = True
        if started:
            self._guardian = asyncio.get_running_loop().create_task(
                self._close_with_the_loop(), name="rumbuffer guardian"
            )
            self._delay_sigterm()
            if multiprocessing.parent_process() is None:
                atexit.register(self._close_at_exit)
            else:  # a forked child of multiprocessing's runs these and not atexit's
                self._finalizer = multiprocessing.util.Finalize(None, self._close_at_exit, exitpriority=100)

    async def _start(self) -> bool:
        if not self._manage or self._door.state != "new":
            return False
        try:
            await self._door.buffer.start()
        except Exception as error:  # noqa: BLE001 - a setting of ours must not keep the application from starting
            self._door.failed("starting the buffer", error)
            return False
        self._ours = True
        return True

    async def _close(self) -> None:
        if not self._ours:
            return
        self._ours = False
        try:
            await self._door.buffer.aclose()
        except Exception as error:  # noqa: BLE001 - the application's shutdown goes on
            self._door.failed("closing the buffer", error)
        self._forget_exit()

    def _forget_exit(self) -> None:
        """Let go of what waits for the interpreter's exit: the buffer is closed, and may be collected."""
        self._guardian = None
        atexit.unregister(self._close_at_exit)
        if self._finalizer is not None:
            self._finalizer.cancel()

    # With a lifespan ----------------------------------------------------------------------------------

    async def lifespan(self, app: App, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve the lifespan scope: the application's own, with the buffer's around it."""
        asked: set[str] = set()
        answered: set[str] = set()

        async def receive_and_note() -> Message:
            message = await receive()
            asked.add(message["type"])
            return message

        async def send_and_act(message: Message) -> None:
            answered.add(message["type"])
            await self._act(message["type"])
            await send(message)

        self.settled = True
        try:
            await app(scope, receive_and_note, send_and_act)
        except Exception:
            if asked:  # it knows the protocol, and failed
                await self._close()
                self.settled = not self._manage
                raise
        except BaseException:
            await self._close()
            raise
        await self._serve_the_rest(asked, answered, receive, send)

    async def _act(self, kind: str) -> None:
        if kind == "lifespan.startup.complete":
            await self._start()
        elif kind in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            await self._close()

    async def _serve_the_rest(
        self, asked: set[str], answered: set[str], receive: Receive, send: Send
    ) -> None:
        """Answer what the application, which has returned, did not."""
        for name in ("startup", "shutdown"):
            if f"lifespan.{name}" not in asked:
                await receive()
            if f"lifespan.{name}.failed" in answered:
                return
            if f"lifespan.{name}.complete" not in answered:
                await self._act(f"lifespan.{name}.complete")
                await send({"type": f"lifespan.{name}.complete"})

    # Without one --------------------------------------------------------------------------------------

    async def _close_with_the_loop(self) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            # The buffer's own tasks were cancelled together with this one; aclose() starts them again,
            # once they are over.
            for _ in range(3):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)
            await self._close()
            self._let_sigterm_in()

    def _delay_sigterm(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGTERM)
        if not callable(handler):
            return

        def block_and_handle(number: int, frame: FrameType | None) -> None:
            if self._ours and not self._holds_sigterm:
                self._holds_sigterm = True
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            handler(number, frame)

        signal.signal(signal.SIGTERM, block_and_handle)

    def _let_sigterm_in(self) -> None:
        if self._holds_sigterm:
            self._holds_sigterm = False
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def _close_at_exit(self) -> None:
        guardian = self._guardian
        if guardian is None or not self._ours:
            return
        loop = guardian.get_loop()
        if not (loop.is_closed() or loop.is_running()):
            guardian.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(guardian)
        self._ours = False
        self._door.abandon()
        self._let_sigterm_in()
        self._forget_exit()
