"""One middleware's cost a request, measured in this process; prints a JSON line.

    python -m benchmarks.middleware_in_process rumbuffer

The application is called as a server calls it, once bare and once through the middleware, by turns, in
rounds of 250 requests. Every request is another visitor's. What is compared is the thread's processor
time, so that other processes of the machine disturb little; the cost is the difference between the
medians of the rounds. Between two rounds what the buffer holds is sent, uncounted: sending goes by batches,
of which there are as many as the service's quota allows, and not by requests. (`benchmarks.middleware`
measures it with the rest, under uvicorn.)
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import inspect
import json
import logging
import random
import statistics
import time
from functools import partial

from benchmarks.cases import Figures
from benchmarks.middleware_cases import CASES, App, Header, Message, Scope, headers

ROUND = 250


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Message) -> None:
    pass


def scope_with(request_headers: list[Header]) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 54321),
        "scheme": "https",
        "method": "GET",
        "root_path": "",
        "path": "/items/42",
        "raw_path": b"/items/42",
        "query_string": b"color=green",
        "headers": request_headers,
        "state": {},
    }


async def one_round(called: App, visitors: list[list[Header]]) -> float:
    scopes = [scope_with(visitor) for visitor in visitors]
    await asyncio.sleep(0)
    started = time.thread_time()
    for scope in scopes:
        await called(scope, receive, send)
    return (time.thread_time() - started) / len(scopes) * 1e6


def as_it_is(app: App) -> App:
    """Return the application out of reach of those who change its class later, as Sentry does."""
    return app if inspect.isfunction(app) else partial(type(app).__call__, app)


async def measure(case: str, rounds: int) -> Figures:
    make, wrap, cookie = CASES[case]
    source = random.Random(20261122)
    app = as_it_is(make())
    wrapped = wrap(app)
    bare_times, wrapped_times = [], []
    buffer = getattr(wrapped, "buffer", None)
    for number in range(rounds + 8):
        visitors = [headers(cookie(source)) for _ in range(ROUND)]
        gc.collect(0)
        bare, with_it = await one_round(app, visitors), await one_round(wrapped, visitors)
        if buffer is not None:
            await buffer.flush(10)
        if number >= 8:  # the first ones warm up
            bare_times.append(bare)
            wrapped_times.append(with_it)
    return {
        "bare": statistics.median(bare_times),
        "added": statistics.median(wrapped_times) - statistics.median(bare_times),
        "requests": rounds * ROUND,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--rounds", type=int, default=100)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    print(json.dumps(asyncio.run(measure(arguments.case, arguments.rounds))))


if __name__ == "__main__":
    main()
