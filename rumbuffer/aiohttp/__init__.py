"""The same for `aiohttp.web`, and for the calls that an aiohttp client makes.

    from rumbuffer.aiohttp import setup, trace_config

    setup(app, buffer)
    session = aiohttp.ClientSession(trace_configs=[trace_config(buffer)])

What becomes an event is as in `rumbuffer.asgi`; an `HTTPException` is the response that it stands for.
`rumbuffer.aiohttp.server` says when a request is over.
"""

from rumbuffer.aiohttp.client import trace_config
from rumbuffer.aiohttp.server import BUFFER, setup

__all__ = ["BUFFER", "setup", "trace_config"]
