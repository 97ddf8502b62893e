from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from rumbuffer.emulator import Emulator, Fault, Faults, Quota, serve
from tests.emulator.helpers import MONITOR, OTHER_MONITOR, PATH, Connection, body, call, event, post, uuid_of


class Clock:
    """Time that passes only where somebody waits for it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        """The time now."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Let the time pass at once."""
        self.waits.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Clock:
    """The clock of `emulator`."""
    return Clock()


@pytest.fixture
async def emulator(clock: Clock) -> AsyncIterator[Emulator]:
    """An emulator without signatures, whose counters add up in the end."""
    async with Emulator(signatures=False, clock=clock, sleep=clock.sleep) as running:
        yield running
    counts = running.requests
    assert counts.received == (
        counts.accepted + counts.throttled + sum(counts.rejected.values()) + counts.failed
    )


@pytest.fixture
async def connection(emulator: Emulator) -> AsyncIterator[Connection]:
    """A client's connection to it."""
    made = await Connection.to(emulator)
    yield made
    made.close()


async def test_success_is_200_with_an_empty_object(emulator: Emulator, connection: Connection) -> None:
    """A batch is answered as the service does, and the connection stays open for the next."""
    for number in (1, 2):
        connection.send(body(number))
        reply = await connection.receive()
        assert (reply.status, reply.body, reply.headers["content-type"]) == (200, b"{}", "application/json")
        assert reply.headers["x-amzn-requestid"]
    assert [batch.batch_id for batch in emulator.batches] == [uuid_of(1), uuid_of(2)]
    assert [e._asdict() for e in emulator.events()] == [event(), event()]


async def test_errors_have_the_service_s_form(emulator: Emulator) -> None:
    """An error is a status, its name in a header and its members in the body."""
    reply = await post(emulator, body(BatchId="x"))
    assert (reply.status, reply.headers["x-amzn-errortype"]) == (400, "ValidationException")
    assert reply.json["message"].startswith("1 validation error detected")
    assert emulator.requests.rejected == {"ValidationException": 1}


@pytest.mark.parametrize(
    ("method", "target", "status"), [("POST", "/", 404), ("GET", PATH, 405), ("DELETE", PATH, 405)]
)
async def test_unknown_operations_are_refused(
    emulator: Emulator, method: str, target: str, status: int
) -> None:
    """Other paths and methods are an UnknownOperationException."""
    reply = await post(emulator, b"{}", method=method, target=target)
    assert (reply.status, reply.headers["x-amzn-errortype"]) == (status, "UnknownOperationException")


@pytest.mark.parametrize("target", [f"http://rum.test{PATH}", f"http://dataplane.rum.test:80{PATH[:-1]}"])
async def test_targets_in_absolute_form_are_taken(emulator: Emulator, target: str) -> None:
    """A client that takes the emulator for its proxy reaches it."""
    reply = await post(emulator, body(), target=target, headers={"Host": "rum.test"})
    assert reply.status == 200


async def test_browsers_are_served(emulator: Emulator) -> None:
    """A beacon is taken as text/plain, a fetch with gzip, and any origin may read answers and errors."""
    target = PATH[:-1]
    beacon = {"Content-Type": "text/plain;charset=UTF-8", "Origin": "https://shop.example"}
    fetch = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answers = [
        await post(emulator, body(1), target=target, headers=beacon),
        await post(emulator, gzip.compress(body(2)), target=target, headers=fetch),
        await post(emulator, b"{", target=target, headers=beacon),
        await post(
            emulator, b"", method="OPTIONS", target=target, headers={"Origin": "https://shop.example"}
        ),
    ]
    assert [reply.status for reply in answers] == [200, 200, 400, 200]
    assert {reply.headers["access-control-allow-origin"] for reply in answers} == {"*"}
    assert "content-encoding" in answers[-1].headers["access-control-allow-headers"]
    assert emulator.requests.received == 3


async def test_chunked_bodies_and_expectations_are_taken(connection: Connection) -> None:
    """A body may come in chunks, and after a `100 Continue` if the client waits for one."""
    payload = body()
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.writer.write(head.encode())
    assert (await connection.receive()).status == 100
    connection.writer.write(
        b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (9, payload[:9], len(payload) - 9, payload[9:])
    )
    assert (await connection.receive()).status == 200


async def test_large_bodies_are_413(emulator: Emulator) -> None:
    """A body above the limit is refused without a name, as a front end does."""
    emulator.service.max_body_bytes = 1000
    reply = await post(emulator, body() + b" " * 1000)
    assert (reply.status, reply.body) == (413, b"Request Entity Too Large")
    assert "x-amzn-errortype" not in reply.headers


async def test_connections_end_when_the_client_says_so(emulator: Emulator, connection: Connection) -> None:
    """`Connection: close` is honoured and answered."""
    connection.send(body(), headers={"Connection": "close"})
    assert (await connection.receive()).headers["connection"] == "close"
    assert await connection.ended()


async def test_a_client_that_leaves_in_its_body_is_no_request(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Half a request is neither counted nor logged as a failure of the emulator."""
    for ending in (Connection.close, lambda each: each.writer.transport.abort()):
        connection = await Connection.to(emulator)
        connection.send(body()[:50], headers={"Content-Length": "500"})
        await connection.writer.drain()
        ending(connection)
    await post(emulator, body())
    await asyncio.sleep(0.05)
    assert emulator.requests.received == 1
    assert caplog.records == []


async def test_repeats_are_accepted_and_noted(emulator: Emulator) -> None:
    """A known BatchId gets its 200; the batch is kept once, and another body is noted."""
    for payload in (body(1), body(1), body(1, Alias="other"), body(2)):
        assert (await post(emulator, payload)).status == 200
    counts = emulator.requests
    assert (counts.accepted, counts.repeated, counts.conflicting, counts.batches) == (4, 2, 1, 2)
    assert [(b.repeats, b.conflicts) for b in emulator.batches] == [(2, 1), (0, 0)]


async def test_silently_dropped_events_get_their_200(emulator: Emulator) -> None:
    """The sender of an oversized event is told nothing; the emulator's user is."""
    events = [event(1), event(2, details='{"a":"' + "x" * 7000 + '"}')]
    assert (await post(emulator, body(1, RumEvents=events))).status == 200
    assert [e.id for e in emulator.events()] == [uuid_of(1)]
    assert emulator.silently_dropped == [(uuid_of(1), uuid_of(2))]
    assert (emulator.requests.events, emulator.requests.silently_dropped) == (1, 1)


async def test_bytes_are_counted_as_sent_and_as_decoded(emulator: Emulator) -> None:
    """Wire bytes are those of every request, body bytes those of accepted batches."""
    packed = gzip.compress(body(1))
    await post(emulator, packed, headers={"Content-Encoding": "gzip"})
    await post(emulator, b"{")
    assert (emulator.requests.wire_bytes, emulator.requests.body_bytes) == (len(packed) + 1, len(body(1)))


# The quota


async def test_the_quota_throttles_on_the_given_clock(emulator: Emulator, clock: Clock) -> None:
    """Over a simulated minute goodput is the burst and then the rate, to the request."""
    emulator.quota = Quota(rate=5, burst=10, retry_after=1)
    connection = await Connection.to(emulator)
    statuses = []
    for number in range(600):
        connection.send(body(number))
        statuses.append(await connection.receive())
        clock.now += 0.1
    connection.close()
    taken = [reply.status for reply in statuses].count(200)
    assert taken == 10 + 5 * 60 - 1  # the last token comes with the end of the minute
    throttled = next(reply for reply in statuses if reply.status == 429)
    assert throttled.headers["x-amzn-errortype"] == "ThrottlingException"
    assert throttled.headers["retry-after"] == "1"
    assert throttled.json == {"message": "Rate exceeded", "serviceCode": "rum", "quotaCode": "L-00000000"}
    assert emulator.requests.throttled == 600 - taken


async def test_the_quota_may_change_while_running(emulator: Emulator, clock: Clock) -> None:
    """Another quota holds at once, and none takes everything."""
    emulator.quota = Quota(rate=1, burst=1)
    statuses = [(await post(emulator, body(1))).status for _ in range(2)]
    emulator.quota = None
    statuses += [(await post(emulator, body(1))).status for _ in range(2)]
    emulator.quota = Quota(rate=1, burst=1)
    statuses += [(await post(emulator, body(1))).status for _ in range(2)]
    assert statuses == [200, 429, 200, 200, 200, 429]


# Faults


async def test_scripted_faults_strike_in_order_and_then_no_more(emulator: Emulator) -> None:
    """Each request takes the next fault of the script."""
    emulator.script(Fault.status(500), Fault.ok(), Fault.status(503, retry_after=9))
    replies = [await post(emulator, body(n)) for n in range(4)]
    assert [reply.status for reply in replies] == [500, 200, 503, 200]
    assert replies[2].headers["retry-after"] == "9"
    assert emulator.requests.faults == {"500": 1, "503": 1}
    assert (emulator.requests.failed, emulator.requests.accepted, emulator.scripted) == (2, 2, 0)


async def test_faults_strike_only_what_would_be_accepted(emulator: Emulator) -> None:
    """A request that a check refuses takes no fault from the script."""
    emulator.script(Fault.status(500))
    assert (await post(emulator, b"{")).status == 400
    assert (await post(emulator, body())).status == 500


async def test_an_error_after_storing_leaves_the_batch(emulator: Emulator) -> None:
    """The client sees an error, the service has the batch, and the retry is a repeat."""
    emulator.script(Fault.store_then_status(500))
    assert [(await post(emulator, body(1))).status for _ in range(2)] == [500, 200]
    (batch,) = emulator.batches
    assert (batch.repeats, batch.conflicts) == (1, 0)


@pytest.mark.parametrize(("fault", "kept"), [(Fault.reset(), 0), (Fault.store_then_reset(), 1)])
async def test_reset_ends_the_connection_without_an_answer(
    emulator: Emulator, connection: Connection, fault: Fault, kept: int
) -> None:
    """The client gets a TCP reset, whether or not the batch was kept."""
    emulator.script(fault)
    connection.send(body())
    with pytest.raises(ConnectionResetError, match="reset by peer"):
        await connection.receive()
    assert len(emulator.batches) == kept


@pytest.mark.parametrize(("store", "kept"), [(True, 1), (False, 0)])
async def test_cut_answer_ends_in_the_middle_of_the_body(
    emulator: Emulator, connection: Connection, store: bool, kept: int
) -> None:
    """Half of the promised body comes, then the end of the connection."""
    emulator.script(Fault.cut_answer(store=store))
    connection.send(body())
    reply = await connection.receive()
    assert (reply.status, reply.body, reply.complete) == (200, b"{", False)
    assert await connection.ended()
    assert len(emulator.batches) == kept


async def test_slow_answer_spreads_the_body_over_its_time(emulator: Emulator, clock: Clock) -> None:
    """The head comes first and the body byte by byte, and the connection goes on."""
    emulator.script(Fault.slow_answer(4.0))
    connection = await Connection.to(emulator)
    for number in (1, 2):
        connection.send(body(number))
        assert (await connection.receive()).body == b"{}"
    connection.close()
    assert clock.waits == [2.0, 2.0]


async def test_close_breaks_the_promise_to_keep_the_connection(
    emulator: Emulator, connection: Connection
) -> None:
    """The answer is whole and announces nothing; then the connection ends."""
    emulator.script(Fault.close())
    connection.send(body())
    reply = await connection.receive()
    assert (reply.status, reply.complete, "connection" in reply.headers) == (200, True, False)
    assert await connection.ended()


async def test_delay_waits_before_it_accepts(emulator: Emulator, clock: Clock) -> None:
    """A delayed request is accepted after its time, other faults may be delayed too."""
    emulator.script(Fault.delay(2.0), Fault.status(500).after(3.0))
    assert [(await post(emulator, body(n))).status for n in (1, 2)] == [200, 500]
    assert clock.waits == [2.0, 3.0]


async def test_hang_never_answers(emulator: Emulator, connection: Connection) -> None:
    """The request is taken in and nothing comes back; stopping the emulator ends it."""
    emulator.script(Fault.hang(store=True))
    connection.send(body())
    await emulator.until(lambda e: e.requests.accepted)
    answer = asyncio.create_task(connection.receive())
    await asyncio.sleep(0.02)
    assert not answer.done()
    await emulator.stop()
    with pytest.raises(ConnectionError):
        await answer


@pytest.mark.parametrize(
    ("fault", "status", "content", "retry_after"),
    [
        (Fault.throttle(body=b""), 429, b"", None),
        (Fault.throttle(retry_after=0), 429, None, "0"),
        (Fault.throttle(retry_after=10**12), 429, None, "1000000000000"),
        (Fault.throttle(retry_after="soon"), 429, None, "soon"),
        (
            Fault.status(503, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"),
            503,
            None,
            "Wed, 21 Oct 2026 07:28:00 GMT",
        ),
        (Fault.status(413), 413, b"Request Entity Too Large", None),
        (Fault.status(502, body="<html>Bad Gateway</html>"), 502, b"<html>Bad Gateway</html>", None),
        (Fault.status(599, body=b""), 599, b"", None),
        (Fault.garbage(b"\x00\xff"), 200, b"\x00\xff", None),
        (Fault.status(202), 202, b"{}", None),
    ],
)
async def test_answers_may_be_anything(
    emulator: Emulator, fault: Fault, status: int, content: bytes | None, retry_after: str | None
) -> None:
    """Statuses, bodies and Retry-After go out as the script has them."""
    emulator.script(fault)
    reply = await post(emulator, body())
    assert (reply.status, reply.headers.get("retry-after")) == (status, retry_after)
    assert content is None or reply.body == content
    assert emulator.batches == []


async def test_random_faults_and_latency_are_counted(emulator: Emulator, clock: Clock) -> None:
    """Random faults strike at the socket too, and every answer has its latency, refusals included."""
    emulator.quota = None
    emulator.faults = Faults(error_rate=0.3, error_after_store_rate=0.3, latency=0.25, seed=5)
    statuses = [(await post(emulator, body(n))).status for n in range(100)]
    assert (await post(emulator, b"{")).status == 400
    counts = emulator.requests
    assert statuses.count(500) == counts.faults["500"] + counts.faults["store then 500"]
    assert counts.accepted == 100 - counts.faults["500"]
    assert clock.waits == [0.25] * 101


async def test_app_monitors_fail_until_they_recover(emulator: Emulator, clock: Clock) -> None:
    """One app monitor answers 403 or 404 for a while, the others go on."""
    other = f"/appmonitors/{OTHER_MONITOR}/"
    emulator.fail_monitor(MONITOR, 403, seconds=10)
    emulator.fail_monitor(OTHER_MONITOR)
    first, second = await post(emulator, body()), await post(emulator, body(), target=other)
    assert (first.status, first.headers["x-amzn-errortype"]) == (403, "AccessDeniedException")
    assert (second.status, second.json["resourceName"]) == (404, OTHER_MONITOR)
    clock.now += 10
    assert (await post(emulator, body())).status == 200
    assert (await post(emulator, body(), target=other)).status == 404
    emulator.recover(OTHER_MONITOR)
    assert (await post(emulator, body(), target=other)).status == 200
    emulator.fail_monitor(MONITOR)
    emulator.recover()
    assert (await post(emulator, body())).status == 200


async def test_idle_connections_can_be_closed(emulator: Emulator) -> None:
    """Only connections without a request are reset."""
    idle, busy = await Connection.to(emulator), await Connection.to(emulator)
    idle.send(body(1))
    await idle.receive()
    emulator.script(Fault.hang(store=True))
    busy.send(body(2))
    await emulator.until(lambda e: e.requests.accepted == 2)
    emulator.close_connections(only_idle=True)
    assert await idle.ended()
    ended = asyncio.create_task(busy.ended())
    await asyncio.sleep(0.02)
    assert not ended.done()
    emulator.close_connections()
    assert await ended
    busy.close()
    idle.close()


async def test_an_outage_refuses_connections_and_keeps_everything(emulator: Emulator) -> None:
    """Stopped, the port refuses; started again on the same port, everything is still there."""
    await post(emulator, body(1))
    open_one = await Connection.to(emulator)
    url = emulator.endpoint_url
    await emulator.stop()
    await emulator.stop()
    assert await open_one.ended()
    open_one.close()
    with pytest.raises(ConnectionRefusedError):
        await post(emulator, body(2))
    assert "stopped" in repr(emulator)
    await emulator.start()
    await emulator.start()
    assert emulator.endpoint_url == url
    assert (await post(emulator, body(1))).status == 200
    assert emulator.requests.repeated == 1


async def test_an_outage_ends_requests_that_wait() -> None:
    """A request in a delay is not kept when the emulator stops, and is counted as failed."""
    async with Emulator(signatures=False) as emulator:
        emulator.script(Fault.delay(3600))
        waiting = asyncio.create_task(post(emulator, body()))
        await emulator.until(lambda e: not e.scripted)
        await emulator.stop()
        with pytest.raises(ConnectionError):
            await waiting
        assert (emulator.requests.failed, emulator.requests.received, emulator.batches) == (1, 1, [])


# What was kept, and who may look


async def test_a_file_keeps_batches_without_a_stall_of_the_loop(tmp_path: Path) -> None:
    """With a SQLite file every answered batch is in the file, also when many come at once."""
    path = tmp_path / "rum.sqlite"
    async with Emulator(signatures=False, quota=None, store=path) as emulator:
        replies = await asyncio.gather(*(post(emulator, body(n)) for n in range(30)))
        assert {reply.status for reply in replies} == {200}
        assert {batch.batch_id for batch in emulator.batches} == {uuid_of(n) for n in range(30)}
        await post(emulator, body(3))
        assert emulator.requests.repeated == 1
        listed = await post(emulator, b"", method="GET", target="/_emulator/batches?after=28")
        assert [each["number"] for each in listed.json["batches"]] == [29, 30]
    async with Emulator(signatures=False, store=path) as emulator:
        assert len(emulator.batches) == 30


async def test_keeping_nothing_counts_everything() -> None:
    """With keep=0 the counters are exact, repeats included, and no batch is held."""
    async with Emulator(signatures=False, quota=None, keep=0) as emulator:
        for number in (1, 2, 1):
            await post(emulator, body(number, RumEvents=[event(n) for n in range(10)]))
        assert emulator.batches == []
        assert (emulator.requests.batches, emulator.requests.events) == (2, 20)


async def test_other_processes_read_the_state_as_json(emulator: Emulator) -> None:
    """Counters, settings and batches are there as JSON, batches in pages."""
    for number in range(3):
        await post(emulator, body(number, Alias="shop"))
    await post(emulator, b"{")
    stats = (await post(emulator, b"", method="GET", target="/_emulator/stats")).json
    assert stats["requests"]["accepted"] == 3
    assert stats["requests"]["rejected"] == {"ValidationException": 1}
    assert stats["quota"] == asdict(Quota())
    page = (await post(emulator, b"", method="GET", target="/_emulator/batches?after=1&limit=1")).json
    assert page["last"] == 2
    (batch,) = page["batches"]
    assert (batch["batch_id"], batch["alias"], batch["events"]) == (uuid_of(1), "shop", [event()])
    rest = (await post(emulator, b"", method="GET", target="/_emulator/batches?after=3")).json
    assert rest == {"batches": [], "last": 3}


async def test_other_processes_change_the_quota_and_clear(emulator: Emulator) -> None:
    """A PUT sets the quota, a DELETE forgets; nonsense is a 400 and changes nothing."""

    async def ask(method: str, target: str, payload: bytes = b"") -> int:
        return (await post(emulator, payload, method=method, target=target)).status

    assert await ask("PUT", "/_emulator/quota", b'{"rate":7,"burst":3}') == 200
    assert emulator.quota == Quota(rate=7, burst=3)
    for wrong in (b'{"rate":0}', b'{"speed":1}', b"{", b'{"rate":"x"}'):
        assert await ask("PUT", "/_emulator/quota", wrong) == 400
    assert emulator.quota == Quota(rate=7, burst=3)
    assert await ask("PUT", "/_emulator/quota", b"null") == 200
    assert Emulator.quota.fget(emulator) is None  # type: ignore[attr-defined]
    await post(emulator, body())
    assert await ask("DELETE", "/_emulator/batches") == 200
    assert (emulator.batches, emulator.requests.received) == ([], 0)
    assert await ask("GET", "/_emulator/batches?after=x") == 400
    assert await ask("GET", "/_emulator/other") == 404


async def test_pages_of_other_origins_cannot_read_the_state(emulator: Emulator) -> None:
    """The state's answers permit no origin, and no preflight lets a browser change it."""
    for target in ("/", "/_emulator/stats", "/_emulator/batches"):
        reply = await post(emulator, b"", method="GET", target=target)
        assert "access-control-allow-origin" not in reply.headers
    preflight = await post(emulator, b"", method="OPTIONS", target="/_emulator/quota")
    assert "access-control-allow-origin" not in preflight.headers


async def test_clear_leaves_the_settings(emulator: Emulator) -> None:
    """Between two tests batches, counters, script and failures go, settings stay."""
    emulator.quota = Quota(rate=9)
    await post(emulator, body())
    emulator.script(Fault.reset())
    emulator.fail_monitor(MONITOR)
    emulator.clear()
    assert (await post(emulator, body())).status == 200
    assert (emulator.requests.received, emulator.requests.repeated, emulator.quota) == (1, 0, Quota(rate=9))


async def test_until_waits_for_a_condition(emulator: Emulator) -> None:
    """`until` returns once the condition holds, and gives up at its timeout."""
    waiting = asyncio.create_task(emulator.until(lambda e: e.requests.events >= 2))
    await post(emulator, body(1))
    assert not waiting.done()
    await post(emulator, body(2))
    await waiting
    with pytest.raises(TimeoutError):
        await emulator.until(lambda _: False, timeout=0.01)


# Clients and processes


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[Any]:
    """An aiobotocore client that does not retry."""
    async with get_session().create_client(
        "rum",
        region_name=emulator.region,
        endpoint_url=emulator.endpoint_url,
        aws_access_key_id=emulator.access_key_id,
        aws_secret_access_key=emulator.secret_access_key,
        config=AioConfig(inject_host_prefix=False, retries={"total_max_attempts": 1}),
    ) as made:
        yield made


@pytest.mark.parametrize(
    ("fault", "name", "members"),
    [
        (Fault.status(400), "ValidationException", {}),
        (Fault.status(403), "AccessDeniedException", {}),
        (Fault.status(404), "ResourceNotFoundException", {"resourceType": "AppMonitor"}),
        (
            Fault.throttle(retry_after=3),
            "ThrottlingException",
            {"serviceCode": "rum", "quotaCode": "L-00000000", "retryAfterSeconds": 3},
        ),
        (Fault.status(500, retry_after=4), "InternalServerException", {"retryAfterSeconds": 4}),
    ],
)
async def test_aiobotocore_sees_the_errors_of_the_model(
    emulator: Emulator, client: Any, fault: Fault, name: str, members: dict[str, Any]
) -> None:
    """Each error of the model arrives as its exception, with its members."""
    emulator.script(fault)
    with pytest.raises(getattr(client.exceptions, name)) as caught:
        await client.put_rum_events(**call())
    response = caught.value.response
    assert isinstance(caught.value, ClientError)
    assert response["Error"]["Code"] == name
    assert {member: response[member] for member in members} == members


async def test_serve_runs_until_it_is_cancelled(capfd: pytest.CaptureFixture[str]) -> None:
    """`serve` says when it listens, prints nothing, and ends with its port free."""
    started = asyncio.get_running_loop().create_future()
    emulator = Emulator(signatures=False)
    serving = asyncio.create_task(serve(emulator, started=started.set_result))
    assert await started is emulator
    assert (await post(emulator, body())).status == 200
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    with pytest.raises(ConnectionRefusedError):
        await post(emulator, body())
    assert capfd.readouterr() == ("", "")


async def test_a_taken_port_is_an_error(emulator: Emulator) -> None:
    """Where another listens, the start fails."""
    with pytest.raises(OSError, match="address already in use"):
        await Emulator(port=emulator.port).start()


def test_environment_leads_an_sdk_here() -> None:
    """The variables name keys, region and endpoint."""
    emulator = Emulator(port=4321, host="::1", region="eu-west-1")
    assert emulator.environment() == {
        "AWS_ACCESS_KEY_ID": emulator.access_key_id,
        "AWS_SECRET_ACCESS_KEY": emulator.secret_access_key,
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL_RUM": "http://[::1]:4321",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


async def test_answers_to_json_s_least_common_denominator(emulator: Emulator) -> None:
    """Details survive as the exact string that was sent, whatever characters it holds."""
    details = json.dumps({"a": 'é€😀</script>\u2028\\"'}, ensure_ascii=False)
    await post(emulator, body(1, RumEvents=[event(details=details)]))
    assert [e.details for e in emulator.events()] == [details]
