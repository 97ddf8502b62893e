"""`rumbuffer emulator`: the local RUM service as a command."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import rumbuffer

if TYPE_CHECKING:
    from rumbuffer.emulator import Emulator

__all__ = ["DEFAULT_PORT", "FAULTS", "emulator", "fault_options"]

DEFAULT_PORT = 8750

Command = TypeVar("Command", bound=Callable[..., Any])

_SHARE = click.FloatRange(0.0, 1.0)
_SECONDS = click.FloatRange(min=0.0)
_SIGMA = click.FloatRange(min=0.0)
_UNITS = {_SHARE: "SHARE", _SECONDS: "SECONDS", _SIGMA: "SIGMA"}

FAULTS: tuple[tuple[str, str, Any, float, str], ...] = (
    ("--latency", "latency", _SECONDS, 0.0, "Wait before every answer; the median, with a spread."),
    ("--latency-spread", "latency_spread", _SIGMA, 0.0, "Spread of lognormal latencies; 0 for none."),
    ("--errors", "error_rate", _SHARE, 0.0, "Share answered 500 and not kept."),
    (
        "--errors-after-store",
        "error_after_store_rate",
        _SHARE,
        0.0,
        "Share kept and answered 500: the retry comes twice.",
    ),
    ("--resets", "reset_rate", _SHARE, 0.0, "Share whose connection is reset, not kept."),
    ("--resets-after-store", "reset_after_store_rate", _SHARE, 0.0, "Share kept, and the connection reset."),
    ("--cut-answers", "cut_answer_rate", _SHARE, 0.0, "Share kept, and the answer ends half-way."),
    ("--slow-answers", "slow_answer_rate", _SHARE, 0.0, "Share kept and answered slowly."),
    ("--slow-answer", "slow_answer", _SECONDS, 1.0, "How long a slow answer takes."),
)


def fault_options(command: Command, **defaults: float) -> Command:
    """Give a command the options of the faults; values and other `defaults` go by the names in `FAULTS`."""
    for flag, name, kind, usual, text in reversed(FAULTS):
        default = defaults.get(name, usual)
        option = click.option(
            flag,
            name,
            type=kind,
            default=default,
            show_default=bool(default),
            help=text,
            metavar=_UNITS[kind],
        )
        command = option(command)
    return command


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option("--region", default="us-east-1", show_default=True, help="Region to be signed for.")
@click.option(
    "--tps",
    type=click.FloatRange(min=0.0),
    default=50.0,
    show_default=True,
    metavar="NUMBER",
    help="Quota in requests a second; 0 for none.",
)
@click.option(
    "--burst",
    type=click.FloatRange(min=1.0),
    default=50.0,
    show_default=True,
    metavar="NUMBER",
    help="Requests that the token bucket holds.",
)
@click.option(
    "--shape",
    type=click.Choice(["bucket", "window"]),
    default="bucket",
    show_default=True,
    help="Token bucket, or so many in each second of the clock.",
)
@click.option("--refusals-consume", is_flag=True, help="A refused request empties the bucket.")
@click.option(
    "--retry-after",
    type=click.IntRange(min=0),
    default=None,
    metavar="SECONDS",
    help="Name this in the Retry-After header of a 429.",
)
@click.option("--no-signatures", is_flag=True, help="Take unsigned requests too.")
@click.option(
    "--app-monitor",
    "app_monitors",
    multiple=True,
    metavar="ID",
    help="Know this app monitor, and answer 404 for others; may be repeated. Any is known without it.",
)
@click.option(
    "--store",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    metavar="FILE",
    help="Keep what arrives in this SQLite file (table batches, view events). Without it: in memory.",
)
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    default=None,
    metavar="COUNT",
    help="Keep only the last so many batches in memory.",
)
@fault_options
@click.option("--seed", type=int, default=None, help="The same faults in the same order.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line when ready, and one at the end.")
@click.option("--stop-on-eof", is_flag=True, help="Stop when standard input ends, too; for scripts.")
def emulator(
    host: str,
    port: int,
    region: str,
    tps: float,
    burst: float,
    shape: str,
    refusals_consume: bool,  # noqa: FBT001 - click passes by name
    retry_after: int | None,
    no_signatures: bool,  # noqa: FBT001
    app_monitors: tuple[str, ...],
    store: Path | None,
    keep: int | None,
    seed: int | None,
    as_json: bool,  # noqa: FBT001
    stop_on_eof: bool,  # noqa: FBT001
    **faults: float,
) -> int:
    """Run a local RUM service until Ctrl-C.

    It checks requests as strictly as the real one (signature, quota, every constraint of the model),
    shows what arrived on a web page, and can fail on purpose. Prints what to set so that programs send
    to it. Faults strike requests that would be accepted; shares are from 0 to 1.

    \b
    A service that throttles early and fails now and then:
      rumbuffer emulator --tps 5 --retry-after 1 --errors 0.05
    """  # noqa: D301 - click marks a paragraph with a backspace
    if store is not None and keep is not None:
        raise click.UsageError("--keep bounds the memory, and --store keeps everything: use one of them.")
    from rumbuffer.emulator import Emulator, Faults, Quota

    latency, spread = faults.pop("latency"), faults.pop("latency_spread")
    try:
        running = Emulator(
            host=host,
            port=port,
            region=region,
            signatures=not no_signatures,
            quota=Quota(
                rate=tps,
                burst=burst,
                shape="window" if shape == "window" else "bucket",
                refusals_consume=refusals_consume,
                retry_after=retry_after,
            )
            if tps
            else None,
            faults=Faults(latency=(latency, spread) if spread else latency, seed=seed, **faults),
            app_monitors=app_monitors or None,
            store=store,
            keep=keep,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except sqlite3.Error as error:
        raise click.ClickException(f"cannot keep batches in {store}: {error}") from None
    began = time.monotonic()
    try:
        status = asyncio.run(
            _serve(running, _say_ready_json if as_json else _say_ready, stop_on_eof=stop_on_eof)
        )
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host} port {port}: {error.strerror}") from None
    (_say_end_json if as_json else _say_end)(running, time.monotonic() - began)
    return status


async def _serve(running: Emulator, ready: Callable[[Emulator], None], *, stop_on_eof: bool) -> int:
    """Serve until a signal; the exit status is 130 after Ctrl-C and 0 otherwise."""
    from rumbuffer.emulator import serve

    loop = asyncio.get_running_loop()
    status: asyncio.Future[int] = loop.create_future()

    def stop(result: int) -> None:
        if not status.done():
            status.set_result(result)

    loop.add_signal_handler(signal.SIGINT, stop, 130)
    loop.add_signal_handler(signal.SIGTERM, stop, 0)
    if stop_on_eof:
        threading.Thread(target=_stop_on_eof, args=(loop, stop), daemon=True).start()
    serving = asyncio.ensure_future(serve(running, started=ready))
    await asyncio.wait((serving, status), return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    serving.cancel()
    await asyncio.wait((serving,))
    return await status


def _stop_on_eof(loop: asyncio.AbstractEventLoop, stop: Callable[[int], None]) -> None:
    """Read away standard input; a thread, for a loop cannot watch every kind of file."""
    while os.read(sys.stdin.fileno(), 65536):
        pass
    with suppress(RuntimeError):  # it stopped for another reason, and the loop is closed
        loop.call_soon_threadsafe(stop, 0)


def _say_ready(running: Emulator) -> None:
    quota = running.quota
    limits = "no quota"
    if quota is not None:
        shape = "in each second" if quota.shape == "window" else f"a second, burst {quota.burst:g}"
        limits = f"{quota.rate:g} requests {shape}"
    signatures = "checked" if running.service.signatures else "not checked"
    click.echo(f"rumbuffer emulator {rumbuffer.__version__} at {running.endpoint_url}")
    click.echo(f"  {limits}; signatures {signatures}; region {running.region}")
    click.echo(f"  what arrived, as a page: {running.endpoint_url}/")
    click.echo("\nIn the shell of a program that shall send here:\n")
    for name, value in running.environment().items():
        click.echo(f"  export {name}={shlex.quote(value)}")
    click.echo("\nCtrl-C stops it.")
    sys.stdout.flush()


def _say_ready_json(running: Emulator) -> None:
    ready = {"endpoint_url": running.endpoint_url, "environment": running.environment()}
    click.echo(json.dumps(ready))
    sys.stdout.flush()


def _say_end(running: Emulator, seconds: float) -> None:
    counts = running.requests
    rejected = sum(counts.rejected.values())
    struck = sum(counts.faults.values())
    click.echo(
        f"\n{counts.received:,} requests in {seconds:,.0f} s: {counts.throttled:,} throttled, "
        f"{rejected:,} rejected, {struck:,} struck by faults.\n"
        f"Kept: {counts.batches:,} batches with {counts.events:,} events; {counts.repeated:,} came again."
    )


def _say_end_json(running: Emulator, seconds: float) -> None:
    from dataclasses import asdict

    counts = running.requests
    click.echo(json.dumps({"seconds": round(seconds, 3), **asdict(counts), "batches": counts.batches}))
