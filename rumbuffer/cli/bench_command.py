"""What `rumbuffer bench` does around a run: the service, signals, files, exit status."""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from rumbuffer.aws import AwsSender
from rumbuffer.bench import page
from rumbuffer.bench.compare import Comparison
from rumbuffer.bench.load import LoadSettings, settling
from rumbuffer.bench.result import NoResult, Result
from rumbuffer.bench.run import Bench, BenchSettings, Moment, shown_endpoint
from rumbuffer.bench.terminal import Lines, LiveView, comparison_table, summary
from rumbuffer.cli.bench_options import BUFFER_OPTIONS, buffer_settings
from rumbuffer.cli.console import Console, log_to
from rumbuffer.cli.demo.service import Service, ServiceGone, isolated_environment, service
from rumbuffer.cli.emulator import FAULTS
from rumbuffer.errors import InvalidSetting
from rumbuffer.events import AppMonitor
from rumbuffer.live import View

__all__ = ["compare", "run"]

_OUT_OF_BALANCE = 1
_LONGEST_WARMUP = 60.0
_MONITOR = "8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11"
_SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}

_FLAGS = {
    "seconds": "--seconds",
    "most": "--session-events",
    "largest": "--size",
    "AppMonitor.id": "--app-monitor",
    "AppMonitor.alias": "--alias",
    **{option.field: option.flag for option in BUFFER_OPTIONS},
}
"""The option that a setting comes from."""


# A run ----------------------------------------------------------------------------------------------


def run(options: dict[str, Any]) -> int:
    """Run the benchmark, write what is asked for, and return the exit status."""
    html = _html_file(options["html"], no_html=options["no_html"])
    json_file: Path | None = options["json_file"]
    _check_folders(options["html"], json_file)
    settings = _settings(options)
    if options["endpoint_url"] is not None and not options["yes"]:
        _ask_before_aws(options["endpoint_url"])
    to_stdout = json_file == Path("-")
    console = Console(stderr=to_stdout, highlight=False)
    live = not options["no_live"] and console.is_terminal and not console.is_dumb_terminal
    view: View[Moment] = LiveView(console) if live else Lines(console)
    surroundings: AbstractContextManager[None] = (
        isolated_environment() if options["endpoint_url"] is None else nullcontext()
    )
    try:
        with surroundings, log_to(console), view:
            result, status = _run_loop(_measured(settings, options, view), options["loop"])
    except ServiceGone as error:
        raise click.ClickException(str(error)) from None
    console.print(summary(result))
    if json_file is not None:
        _write(json_file, result.as_json(), console)
    if html is not None:
        _write(html, page.report(result).encode(), console)
    elif not options["no_html"]:
        console.print(f"\n{page.MISSING}", markup=False, soft_wrap=True)
    return status or (0 if result.balanced else _OUT_OF_BALANCE)


def _run_loop(main: Coroutine[Any, Any, tuple[Result, int]], loop: str) -> tuple[Result, int]:
    if loop == "asyncio":
        return asyncio.run(main)
    try:
        import uvloop
    except ImportError:
        main.close()
        raise click.UsageError("--loop uvloop needs it: pip install 'rumbuffer[cli,uvloop]'") from None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def _measured(
    settings: BenchSettings, options: dict[str, Any], view: View[Moment]
) -> tuple[Result, int]:
    """Measure; a signal ends it early, and a second one at once."""
    status = 0
    async with _target(options) as target:
        bench = Bench(settings, target.sender, view.show, target.counts)

        def interrupted(number: signal.Signals) -> None:
            nonlocal status
            status = _SIGNALS[number]
            bench.stop()

        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, interrupted, number)
        return await bench.run(), status


@dataclass(frozen=True, slots=True)
class _Target:
    """Where the events go, and who is asked for counts."""

    sender: AwsSender
    counts: Callable[[], Coroutine[Any, Any, dict[str, Any]]] | None = None


@asynccontextmanager
async def _target(options: dict[str, Any]) -> AsyncIterator[_Target]:
    if options["endpoint_url"] is not None:
        yield _Target(
            AwsSender(
                endpoint_url=options["endpoint_url"],
                region_name=options["region"],
                compression=options["compression"],
            )
        )
        return
    async with service(_emulator_options(options)) as emulator:
        os.environ.update(emulator.environment)  # an isolated one, which is put back
        sender = AwsSender(endpoint_url=emulator.endpoint_url, compression=options["compression"])
        yield _Target(sender, lambda: _counts(emulator))


async def _counts(emulator: Service) -> dict[str, Any]:
    counts: dict[str, Any] = (await emulator.stats())["requests"]
    return counts


def _emulator_options(options: dict[str, Any]) -> list[str]:
    """The command line of the emulator; it keeps counts and no batches."""
    asked: dict[str, Any] = {
        "--keep": 0,
        "--tps": options["service_quota"],
        "--burst": options["service_burst"],
        "--shape": options["service_shape"],
        "--retry-after": options["retry_after"],
        "--seed": options["seed"],
        **{flag: options[name] for flag, name, *_ in FAULTS},
    }
    return [text for flag, value in asked.items() if value is not None for text in (flag, str(value))]


# Settings -------------------------------------------------------------------------------------------


def _settings(options: dict[str, Any]) -> BenchSettings:
    if options["seed"] is None:
        options["seed"] = random.getrandbits(31)
    (rate, last_rate), (fewest, most) = options["rate"], options["session_events"]
    smallest, largest = options["size"]
    try:
        buffer = buffer_settings(options, share=options["share"])
        warmup = _warmup(buffer, options["sessions"]) if options["warmup"] is None else options["warmup"]
        settings = BenchSettings(
            load=LoadSettings(
                rate=rate,
                last_rate=last_rate,
                seconds=options["seconds"],
                warmup=warmup,
                spacing=options["arrivals"],
                sessions=options["sessions"],
                fewest=fewest,
                most=most,
                tail=options["session_tail"],
                smallest=smallest,
                largest=largest,
                metadata=options["metadata"],
                seed=options["seed"],
            ),
            app_monitor=_app_monitor(options),
            drain=options["drain"],
            service=_service(options),
            **buffer,
        )
    except InvalidSetting as error:
        flag = _FLAGS.get(error.field, f"--{error.field}")
        raise click.UsageError(f"{flag}: {error.rule}; got {error.shape}") from None
    if settings.limits.oversize == "refuse" and largest > settings.limits.max_event_bytes:
        raise click.UsageError(
            f"--size: {largest} bytes are more than the {settings.limits.max_event_bytes} of "
            "--max-event-bytes, and would be refused; --oversize send lets larger events pass"
        )
    return settings


def _warmup(buffer: dict[str, Any], sessions: int) -> float:
    """Seconds until the buffer has settled, whole ones."""
    pacing = buffer["pacing"]
    pace = None if pacing.quota is None else pacing.quota * pacing.use
    return float(min(_LONGEST_WARMUP, math.ceil(settling(buffer["limits"].linger, sessions, pace))))


def _app_monitor(options: dict[str, Any]) -> AppMonitor:
    monitor = options["app_monitor"]
    if monitor is None and options["endpoint_url"] is not None:
        raise click.UsageError("--endpoint-url needs --app-monitor, the id of who receives the events.")
    if options["endpoint_url"] is None:
        for name in ("region", "app_monitor", "alias", "share"):
            if options[name]:
                raise click.UsageError(
                    f"--{name.replace('_', '-')} is for an endpoint: give --endpoint-url too."
                )
    return AppMonitor(monitor or _MONITOR, name="rumbuffer-bench", version="1.0.0", alias=options["alias"])


def _service(options: dict[str, Any]) -> dict[str, Any]:
    """What the report says of the service."""
    if options["endpoint_url"] is not None:
        return {"endpoint": shown_endpoint(options["endpoint_url"])}
    names = (
        "service_quota",
        "service_burst",
        "service_shape",
        "retry_after",
        *(name for _, name, *_ in FAULTS),
    )
    return {"endpoint": "emulator", **{name: options[name] for name in names}}


def _ask_before_aws(endpoint_url: str) -> None:
    """Ask before a benchmark is run against AWS; without anybody to ask, refuse."""
    host = urlsplit(endpoint_url).hostname
    if host is None:
        raise click.UsageError("--endpoint-url: must be a URL with a scheme and a host")
    if not _is_aws(host):
        return
    warning = (
        f"{host} is AWS: events cost money there, and requests take from the quota of the account, which "
        "real browsers share."
    )
    if not sys.stdin.isatty():
        raise click.UsageError(f"{warning} Say --yes if that is meant.")
    click.echo(warning, err=True)
    click.confirm("Send this load there?", abort=True, err=True)


def _is_aws(host: str) -> bool:
    from botocore.loaders import Loader

    partitions: dict[str, Any] = Loader().load_data("partitions")
    outputs = [partition["outputs"] for partition in partitions["partitions"]]
    suffixes = {output[key] for output in outputs for key in ("dnsSuffix", "dualStackDnsSuffix")}
    return any(host == suffix or host.endswith(f".{suffix}") for suffix in suffixes)


# Files ----------------------------------------------------------------------------------------------


def compare(context: click.Context, first: Path, second: Path, html: Path | None) -> int:
    """Compare two results, write what is asked for, and return the exit status."""
    given = [
        name
        for name in context.params
        if name not in {"compare", "html"}
        and context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        flag = given[0].replace("_file", "").replace("_", "-")
        raise click.UsageError(f"--compare runs nothing, so that --{flag} has no meaning beside it.")
    _check_folders(html, None)
    page_file = _html_file(html, no_html=html is None)
    comparison = Comparison(_read(first), _read(second), first.name, second.name)
    console = Console(highlight=False)
    console.print(comparison_table(comparison))
    if page_file is not None:
        _write(page_file, page.comparison(comparison).encode(), console)
    return 0


def _read(path: Path) -> Result:
    try:
        return Result.read(path)
    except OSError as error:
        raise click.ClickException(f"cannot read {path}: {error.strerror}") from None
    except NoResult as error:
        raise click.ClickException(f"{path} is no result of rumbuffer bench: {error}") from None


def _html_file(asked: Path | None, *, no_html: bool) -> Path | None:
    """Where the report goes; None where there is to be none, or where plotly is missing and nobody asked."""
    if asked is None and no_html:
        return None
    if not page.can_be_made():
        if asked is not None:
            raise click.UsageError(f"--html: {page.MISSING}")
        return None
    return asked or Path(f"rumbuffer-bench-{datetime.now().astimezone():%Y%m%d-%H%M%S}.html")


def _check_folders(*files: Path | None) -> None:
    """Find out before the run, and not after it, that a file cannot be written."""
    for file in files:
        if file is not None and file != Path("-") and not os.access(file.parent, os.W_OK):
            raise click.UsageError(f"cannot write {file}: {file.parent} is no folder that can be written to")


def _write(file: Path, content: bytes, console: Console) -> None:
    if file == Path("-"):
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    try:
        file.write_bytes(content)
    except OSError as error:
        raise click.ClickException(f"cannot write {file}: {error.strerror}") from None
    console.print(f"written: {file} ({len(content) / 1e6:.1f} MB)", markup=False, soft_wrap=True)
