"""The site that the real servers serve: one application, written for the framework that is asked for.

Run by a server's own command line; what it needs to know comes in the environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rumbuffer import AppMonitor, CloseReport, Pacing, RumBuffer
from rumbuffer.asgi import RumMiddleware

PARTS = 100
PART = "part of a long answer " * 50


class NotingBuffer(RumBuffer):
    """Leaves a file when it is started, and one with its counters when it is closed, for each process."""

    async def start(self) -> None:
        """Start, and write the file."""
        await super().start()
        Path(os.environ["SITE_STATS"], f"{os.getpid()}.started").touch()

    async def aclose(self, timeout: float | None = None) -> CloseReport:
        """Close, and write the file."""
        report = await super().aclose(timeout)
        stats = asdict(self.stats())
        stats.pop("holds")
        Path(os.environ["SITE_STATS"], f"{os.getpid()}.json").write_text(json.dumps(stats))
        return report


buffer = NotingBuffer(
    AppMonitor(id=os.environ["SITE_MONITOR"]),
    region_name="us-east-1",
    endpoint_url=os.environ["SITE_ENDPOINT"],
    pacing=Pacing(quota=float(os.environ["SITE_QUOTA"])),
)


async def parts() -> AsyncIterator[str]:
    """Stream slowly."""
    for _ in range(PARTS):
        yield PART
        await asyncio.sleep(0.01)


def fastapi() -> Any:
    """FastAPI, with a lifespan of its own."""
    from fastapi import FastAPI
    from starlette.responses import StreamingResponse

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/items/{item_id}")
    async def item(item_id: int) -> str:
        buffer.record("com.example.seen", {"item": item_id})
        return "item"

    @app.get("/thread/{item_id}")
    def in_thread(item_id: int) -> str:
        time.sleep(0.001)
        buffer.record("com.example.seen", {"item": item_id})
        return "item"

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(parts())

    app.add_middleware(RumMiddleware, buffer=buffer)
    return app


def litestar() -> Any:
    """Litestar, from outside."""
    from litestar import Litestar, get
    from litestar.response import Stream

    @get("/items/{item_id:int}")
    async def item(item_id: int) -> str:
        buffer.record("com.example.seen", {"item": item_id})
        return "item"

    @get("/thread/{item_id:int}", sync_to_thread=True)
    def in_thread(item_id: int) -> str:
        buffer.record("com.example.seen", {"item": item_id})
        return "item"

    @get("/stream")
    async def stream() -> Any:
        return Stream(parts())

    return RumMiddleware(Litestar([item, in_thread, stream]), buffer=buffer)


def quart() -> Any:
    """Quart, around its ASGI part."""
    from quart import Quart

    app: Any = Quart(__name__, root_path=str(Path(__file__).parent))

    async def item(item_id: int) -> str:
        buffer.record("com.example.seen", {"item": item_id})
        return "item"

    def in_thread(item_id: int) -> str:
        buffer.record("com.example.seen", {"item": item_id})
        return "item"

    async def stream() -> Any:
        return parts()

    app.get("/items/<int:item_id>")(item)
    app.get("/thread/<int:item_id>")(in_thread)
    app.get("/stream")(stream)
    app.asgi_app = RumMiddleware(app.asgi_app, buffer=buffer)
    return app


def django() -> Any:
    """Django, which knows no lifespan."""
    import django as package
    from django.conf import settings
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import path

    async def item(request: Any, item_id: int) -> HttpResponse:
        buffer.record("com.example.seen", {"item": item_id})
        return HttpResponse("item")

    def in_thread(request: Any, item_id: int) -> HttpResponse:
        buffer.record("com.example.seen", {"item": item_id})
        return HttpResponse("item")

    async def stream(request: Any) -> StreamingHttpResponse:
        return StreamingHttpResponse(parts())

    urls = [
        path("items/<int:item_id>", item),
        path("thread/<int:item_id>", in_thread),
        path("stream", stream),
    ]
    settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=tuple(urls), SECRET_KEY="x", LOGGING_CONFIG=None)
    package.setup()
    from django.core.asgi import get_asgi_application

    return RumMiddleware(get_asgi_application(), buffer=buffer)


app = globals()[os.environ["SITE_FRAMEWORK"]]()
