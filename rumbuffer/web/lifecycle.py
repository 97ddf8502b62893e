"""The buffer's life in somebody's server: started and closed with the application, if nobody else does.

With a lifespan this is simple. The buffer starts when the application's own startup is complete (an
application that starts the buffer itself has done so by then) and closes after its shutdown. Where the
application knows no lifespan (Django), the middleware answers the server in its stead.

Where the server sends none, the buffer starts with the first request, and the end has to be found out:

- A loop that ends as `asyncio.run` ends it cancels its tasks and waits for them; a task of ours that
  does nothing but wait closes the buffer then.
- uvicorn ends a graceful shutdown by sending itself the signal again, which kills the process before
  its loop ends. `rumbuffer.web.sigterm` has that wait until the buffer is closed.
- Where the loop is left without either (granian), the interpreter's exit closes the buffer.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import multiprocessing
import multiprocessing.util
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from rumbuffer.errors import BufferClosed
from rumbuffer.web.door import Door
from rumbuffer.web.sigterm import sigterm

__all__ = ["Lifecycle"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_GUARDIAN = "rumbuffer guardian"
_LAST_REQUESTS = 1.0
"""Seconds that the closing of the buffer waits for what was cancelled together with it."""


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
        started = await self.start()
        self.settled = True
        if started:
            self._guardian = asyncio.get_running_loop().create_task(
                self._close_with_the_loop(), name=_GUARDIAN
            )
            sigterm.wait_for(self)
            if multiprocessing.parent_process() is None:
                atexit.register(self._close_at_exit)
            else:  # a forked child of multiprocessing's runs these and not atexit's
                self._finalizer = multiprocessing.util.Finalize(None, self._close_at_exit, exitpriority=100)

    async def start(self) -> bool:
        """Start the buffer, if that is ours to do, and tell whether it was. Never raises: it is logged."""
        if not self._manage or self._door.state != "new":
            return False
        try:
            await self._door.buffer.start()
        except Exception as error:  # noqa: BLE001 - a setting of ours must not keep the application from starting
            self._door.failed("starting the buffer", error)
            return False
        self._ours = True
        return True

    async def close(self) -> None:
        """Close the buffer, if it was started here. Never raises: it is logged."""
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
                await self.close()
                self.settled = not self._manage
                raise
        except BaseException:
            await self.close()
            raise
        await self._serve_the_rest(asked, answered, receive, send)

    async def _act(self, kind: str) -> None:
        if kind == "lifespan.startup.complete":
            await self.start()
        elif kind in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            await self.close()

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
        """Wait for the server's end: of its loop, or of its stop after a SIGTERM, whichever is first."""
        try:
            await sigterm.server_is_done(self)
            # The loop may end in this very moment too, and would cut a close short, but not this.
            with contextlib.suppress(BufferClosed):
                await self._door.buffer.flush(self._door.close_timeout)
        except asyncio.CancelledError:
            with contextlib.suppress(asyncio.CancelledError):
                await _others_end()
        await self.close()
        sigterm.let_go(self)

    def _close_at_exit(self) -> None:
        guardian = self._guardian
        # In a forked child the loop is the parent's, with all that is waiting in it.
        if guardian is None or not self._ours or self._door.state == "forked":
            return
        loop = guardian.get_loop()
        if not (loop.is_closed() or loop.is_running()):
            guardian.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(guardian)
        self._ours = False
        self._door.abandon()
        self._forget_exit()
        sigterm.let_go(self)


async def _others_end() -> None:
    """Wait for the tasks that are being cancelled together with this one, as a loop's end does.

    Requests, which record that they were broken off; and the buffer's own, which its close starts again,
    but only once they are over.
    """
    cancelled = [
        task
        for task in asyncio.all_tasks()
        if isinstance(task, asyncio.Task) and task.cancelling() and task.get_name() != _GUARDIAN
    ]
    if cancelled:
        await asyncio.wait(cancelled, timeout=_LAST_REQUESTS)
