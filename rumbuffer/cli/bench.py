"""`rumbuffer bench`: the load benchmark as a command; the engine is `rumbuffer.bench`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from rumbuffer.cli.bench_options import BUFFER_OPTIONS, Between, Section, SectionedCommand
from rumbuffer.cli.emulator import fault_options

__all__ = ["bench"]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_FILE = click.Path(dir_okay=False, path_type=Path)


def _buffer_options(command: Decorated) -> Decorated:
    for option in reversed(BUFFER_OPTIONS):
        command = option.decorate(command)
    return command


@click.command(cls=SectionedCommand)
@Section.LOAD.option(
    "--rate",
    type=Between("RATE", "events a second", lowest=0.001),
    default="500",
    show_default=True,
    help="Events a second, or a ramp from the first to the last: 100..5000.",
)
@Section.LOAD.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    metavar="N",
    help="How long the load is measured.",
)
@Section.LOAD.option(
    "--warmup",
    type=click.FloatRange(min=0.0),
    default=None,
    metavar="N",
    help="Seconds of the (first) rate before that, which are offered and not measured; by default until each "
    "of the first sessions had its turn, at most 60.",
)
@Section.LOAD.option(
    "--drain",
    type=click.FloatRange(min=0.0),
    default=30.0,
    show_default=True,
    metavar="N",
    help="Seconds that the rest may take at the end to be delivered.",
)
@Section.LOAD.option(
    "--arrivals",
    type=click.Choice(["poisson", "even"]),
    default="poisson",
    show_default=True,
    help="Events arrive at random (a Poisson process), or evenly spaced.",
)
@Section.LOAD.option(
    "--sessions",
    type=click.IntRange(1, 5_000_000),
    default=300,
    show_default=True,
    metavar="N",
    help="Sessions that are live at once; each event belongs to any of them.",
)
@Section.LOAD.option(
    "--session-events",
    type=Between("N", "events", lowest=1, whole=True),
    default="4..600",
    show_default=True,
    help="Events in a session, from the fewest to the most.",
)
@Section.LOAD.option(
    "--session-tail",
    type=click.FloatRange(min=0.01),
    default=0.9,
    show_default=True,
    metavar="INDEX",
    help="Pareto's index of those numbers: the smaller, the heavier the tail.",
)
@Section.LOAD.option(
    "--size",
    type=Between("BYTES", "bytes", lowest=60, whole=True),
    default="300",
    show_default=True,
    help="JSON text of an event's details; 200..4000 spreads sizes over the orders of magnitude.",
)
@Section.LOAD.option(
    "--metadata",
    type=click.IntRange(0, 13),
    default=4,
    show_default=True,
    metavar="N",
    help="Members of each event's metadata; 0 for none.",
)
@Section.LOAD.option(
    "--seed",
    type=click.IntRange(min=0),
    default=None,
    help="The same load again; the report tells each seed.",
)
@_buffer_options
@Section.SERVICE.option(
    "--endpoint-url",
    metavar="URL",
    help="Send here, with your AWS credentials, and not to an emulator that is started for the run.",
)
@Section.SERVICE.option("--region", metavar="NAME", help="Region to sign for, with --endpoint-url.")
@Section.SERVICE.option(
    "--app-monitor", metavar="ID", help="App monitor to send to; needed with --endpoint-url."
)
@Section.SERVICE.option(
    "--alias", metavar="TEXT", help="Alias that the app monitor's policy demands, if any."
)
@Section.SERVICE.option(
    "--share",
    is_flag=True,
    help="Keep one pace with other processes of this host: where they send to the same account.",
)
@Section.SERVICE.option("--yes", is_flag=True, help="Send to AWS without asking; it costs money and quota.")
@Section.EMULATOR.option(
    "--service-quota",
    type=click.FloatRange(min=0.0),
    default=50.0,
    show_default=True,
    metavar="RATE",
    help="What the emulator allows, requests a second; 0 for no limit.",
)
@Section.EMULATOR.option(
    "--service-burst",
    type=click.FloatRange(min=1.0),
    default=50.0,
    show_default=True,
    metavar="N",
    help="Requests that its token bucket holds.",
)
@Section.EMULATOR.option(
    "--service-shape",
    type=click.Choice(["bucket", "window"]),
    default="bucket",
    show_default=True,
    help="Token bucket, or so many in each second of the clock.",
)
@Section.EMULATOR.option(
    "--retry-after",
    type=click.IntRange(min=0),
    default=None,
    metavar="SECONDS",
    help="Name this in the Retry-After header of a 429.",
)
@partial(fault_options, latency=0.05, latency_spread=0.5)
@Section.REPORT.option(
    "--html",
    type=_FILE,
    default=None,
    metavar="FILE",
    help="Where the report goes; by default to rumbuffer-bench-TIME.html in this folder.",
)
@Section.REPORT.option("--no-html", is_flag=True, help="Write no report.")
@Section.REPORT.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    default=None,
    metavar="FILE",
    help="Write the result as JSON, for --compare and for scripts; - is standard output.",
)
@Section.REPORT.option(
    "--compare",
    type=_FILE,
    nargs=2,
    default=None,
    metavar="A B",
    help="Run nothing: compare two results that --json wrote.",
)
@Section.REPORT.option(
    "--no-live", is_flag=True, help="Print a line every few seconds in place of the live view."
)
@Section.REPORT.option(
    "--loop",
    type=click.Choice(["asyncio", "uvloop"]),
    default="asyncio",
    show_default=True,
    help="Event loop.",
)
@click.pass_context
def bench(context: click.Context, /, **options: Any) -> int:
    """Measure the buffer under a load of yours.

    Events arrive as planned, whatever the buffer does, and go through a RumBuffer over a real socket into an
    emulator of the service in another process (or to your --endpoint-url). At the end: a table, and a report
    with charts as one HTML file. Ctrl-C ends it early and still reports.

    \b
    Examples:
      rumbuffer bench --rate 1000 --sessions 5000 --seconds 60
      rumbuffer bench --rate 100..5000 --seconds 120 --json ramp.json
      rumbuffer bench --errors 0.05 --latency 0.3 --service-quota 20
      rumbuffer bench --compare before.json after.json

    The exit status is 0 if every event is accounted for, 1 if not, 130 after Ctrl-C.
    """  # noqa: D301 - click marks a paragraph with a backspace
    from rumbuffer.cli import bench_command

    compared = options.pop("compare")
    if compared:
        first, second = compared
        return bench_command.compare(context, first, second, options["html"])
    return bench_command.run(options)
