"""What people and other processes may look at: the page, and the state as JSON.

- ``GET /``: the page (`page.py`).
- ``GET /_emulator/stats``: counters, quota and settings.
- ``GET /_emulator/batches?after=N&limit=N``: kept batches with a number above
  ``after``, at most 1000; ``last`` is what to ask for next.
- ``PUT /_emulator/quota``: members of `Quota` as a JSON object, or ``null`` for none.
- ``DELETE /_emulator/batches``: forget batches and counters.

Pages of other origins can neither read nor change any of it: the answers carry no
permission for that, and a browser asks before it sends a PUT or a DELETE.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import orjson
from aiohttp import web

from rumbuffer.emulator.answers import Answer
from rumbuffer.emulator.page import render
from rumbuffer.emulator.quota import Quota
from rumbuffer.emulator.records import ReceivedBatch
from rumbuffer.emulator.request import Request

if TYPE_CHECKING:
    from rumbuffer.emulator.server import Emulator

PREFIX = "/_emulator/"
_MOST_BATCHES = 1000
_LOOKED_AT = 200


def is_for(request: Request) -> bool:
    """Whether a request is for this module and not for the service."""
    if request.path == "/":
        return request.method in ("GET", "HEAD")
    return request.path.startswith(PREFIX)


async def answer(emulator: Emulator, request: Request, received: web.BaseRequest) -> Answer:
    """The answer to a request that is not the service's."""
    query = parse_qs(request.query)
    try:
        match request.method, request.path:
            case "GET", "/":
                return await _page(emulator)
            case "GET", "/_emulator/stats":
                return _json(200, stats(emulator))
            case "GET", "/_emulator/batches":
                return await _batches(emulator, query)
            case "PUT", "/_emulator/quota":
                settings = orjson.loads(await received.read())
                emulator.quota = None if settings is None else Quota(**settings)
                return _json(200, stats(emulator))
            case "DELETE", "/_emulator/batches":
                emulator.clear()
                return _json(200, stats(emulator))
            case _:
                return _json(404, {"message": f"nothing at {request.path}"})
    except (TypeError, ValueError) as error:
        return _json(400, {"message": str(error)})


def stats(emulator: Emulator) -> dict[str, Any]:
    """Counters and settings, ready for JSON."""
    requests = emulator.requests
    quota = emulator.quota
    return {
        "endpoint_url": emulator.endpoint_url,
        "region": emulator.region,
        "quota": None if quota is None else asdict(quota),
        "scripted_faults": emulator.scripted,
        "requests": {**asdict(requests), "batches": requests.batches},
        "silently_dropped": emulator.silently_dropped,
    }


def describe(batch: ReceivedBatch) -> dict[str, Any]:
    """A batch, ready for JSON; events are those that were kept."""
    return {
        "number": batch.number,
        "app_monitor_id": batch.app_monitor_id,
        "batch_id": batch.batch_id,
        "received_at": batch.received_at,
        "repeats": batch.repeats,
        "conflicts": batch.conflicts,
        "app_monitor_details": batch.app_monitor_details,
        "user_id": batch.user_id,
        "session_id": batch.session_id,
        "alias": batch.alias,
        "session_metadata": batch.session_metadata,
        "events": [event._asdict() for event in batch.events],
        "dropped_events": [event._asdict() for event in batch.dropped_events],
    }


async def _batches(emulator: Emulator, query: dict[str, list[str]]) -> Answer:
    after = int(query.get("after", ["0"])[0])
    limit = min(int(query.get("limit", ["100"])[0]), _MOST_BATCHES)
    batches = await emulator.fetch(lambda store: store.batches(after, limit))
    last = batches[-1].number if batches else after
    return _json(200, {"batches": [describe(batch) for batch in batches], "last": last})


async def _page(emulator: Emulator) -> Answer:
    batches = await emulator.fetch(lambda store: store.latest(_LOOKED_AT))
    return Answer(200, render(stats(emulator), batches).encode(), _PAGE_HEADERS, shared=False)


_PAGE_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    # What arrived is shown as text; should any of it ever be taken for markup,
    # nothing may run or load.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def _json(status: int, value: object) -> Answer:
    return Answer(status, orjson.dumps(value), {"Cache-Control": "no-store"}, shared=False)
