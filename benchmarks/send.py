"""Does `rumbuffer send` lose or alter any of a million lines when it is killed? `python -m benchmarks.send`.

A million lines are generated: visits with heavy tails (Pareto), two thousand of them at once, their events
mixed as a log of many servers mixes them; no line has an id or a time, so that all are derived. `rumbuffer
send` sends the file over real sockets to an emulator in another process that checks signatures and the
model, and has a quota that is never reached. Half-way the sender is killed with SIGKILL, and the same
command is given again.

The emulator notes each event. The bars: every line's event arrived, as the line says; what arrived twice
was the same both times, in all of its members; the command's own totals say the same, and its exit status
is 0; neither run's memory went above 150 MiB at its peak (VmHWM). Exit status 1 where one is missed.

    python -m benchmarks.send [--lines 1000000] [--seed 1] [--json [FILE]] [--versions]
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import urllib.request
import zlib
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO
from uuid import UUID

import orjson

from benchmarks.quota_pipes import Child
from benchmarks.report import Report, parser
from benchmarks.send_service import content_of

PEAK_MIB = 150.0
QUOTA = 100_000.0
VISITS_AT_ONCE = 2_000
MONITOR = "8c1d7b1e-5d0f-4a5e-9a52-0d6c3a1f7e11"
_ROOT = Path(__file__).parent.parent


def generate(lines: int, seed: int, file: TextIO) -> int:
    """Write so many lines; return the checksum over what they say."""
    source = random.Random(seed)
    contents = array("L")
    visits: list[tuple[str, str, int]] = []
    for number in range(lines):
        place = source.randrange(VISITS_AT_ONCE)
        if place >= len(visits) or not visits[place][2]:
            ids = [str(UUID(int=source.getrandbits(128), version=4)) for _ in range(2)]
            visit = (ids[0], ids[1], max(1, min(10_000, int(3 * source.paretovariate(1.1)))))
            if place >= len(visits):
                place = len(visits)
                visits.append(visit)
            visits[place] = visit
        session, user, left = visits[place]
        visits[place] = (session, user, left - 1)
        details = {
            "n": number,
            "page": f"/item/{source.randrange(5000)}",
            "text": "x" * source.randrange(80),
        }
        line = {
            "type": "com.example.page_seen",
            "details": details,
            "session": {"id": session, "user_id": user},
        }
        file.write(orjson.dumps(line).decode() + "\n")
        contents.append(content_of(session, user, orjson.dumps(details).decode()))
    return zlib.crc32(contents.tobytes())


@dataclass
class Sent:
    """One run of the command; its peak in MiB, its processor time in seconds."""

    status: int
    seconds: float
    processor: float
    peak: float
    output: str


async def run_send(file: Path, environment: Mapping[str, str], kill_at: int | None) -> Sent:
    """Send the file; kill it once the service has so many events."""
    options = ("--quota", str(QUOTA), "--use", "1", "--burst", "100", "--json")
    started, processor, peak = perf_counter(), 0.0, 0.0
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rumbuffer", "send", str(file), "--app-monitor-id", MONITOR, *options),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
    )
    output = asyncio.create_task(process.communicate())
    looks = 0
    try:
        while not output.done():
            await asyncio.wait((output,), timeout=0.05)
            with suppress(OSError, StopIteration):
                peak = max(peak, peak_of(process.pid))
                processor = max(processor, processor_of(process.pid))
            looks += 1
            if kill_at is not None and looks % 4 == 0:
                arrived = await asyncio.to_thread(arrived_at, environment["AWS_ENDPOINT_URL_RUM"])
                if arrived >= kill_at:
                    process.send_signal(signal.SIGKILL)
                    kill_at = None
    finally:
        if process.returncode is None:
            process.kill()
    out, _ = await output
    assert process.returncode is not None
    return Sent(process.returncode, perf_counter() - started, processor, peak, out.decode())


def peak_of(process: int) -> float:
    """The most memory that a process ever held, in MiB."""
    with Path(f"/proc/{process}/status").open(encoding="ascii") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


def processor_of(process: int) -> float:
    """The processor time that a process has had, in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def arrived_at(url: str) -> int:
    """How many events the emulator has."""
    with urllib.request.urlopen(f"{url}/_emulator/stats") as answer:  # noqa: S310 - our own
        events: int = json.load(answer)["requests"]["events"]
    return events


async def measure(lines: int, seed: int, folder: Path) -> dict[str, Any]:
    file = folder / "events.ndjson"
    with file.open("w", encoding="utf-8") as output:
        checksum = generate(lines, seed, output)
    size = file.stat().st_size
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RUMBUFFER_"))
    } | {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "XDG_RUNTIME_DIR": str(folder),
    }
    settings = {"lines": lines, "quota": QUOTA, "questions": 2}
    async with Child.started("benchmarks.send_service", settings, own) as service:
        environment = own | await service.said()
        first = await run_send(file, environment, kill_at=lines // 2)
        service.go_on()
        half = await service.said()
        second = await run_send(file, environment, kill_at=None)
        service.go_on()
        whole = await service.said()
    return {
        "lines": lines,
        "bytes": size,
        "runs": [asdict(first), asdict(second)],
        "totals": json.loads(second.output or "{}"),
        "first": half,
        "whole": whole,
        "checksum": checksum,
    }


def show(report: Report, found: dict[str, Any]) -> None:
    """Put what was found into the report, and judge it."""
    lines, whole, half, totals = found["lines"], found["whole"], found["first"], found["totals"]
    first, second = found["runs"]
    rest = whole["distinct"] - half["distinct"]
    table = report.table(
        f"Sending {lines:,} lines ({found['bytes'] / 1e6:.0f} MB)",
        ("run", "events", "seconds", "events/s", "CPU s", "µs/event", "peak MiB"),
    )
    for name, run, events in (("killed half-way", first, half["events"]), ("gone on", second, rest)):
        seconds, processor = run["seconds"], run["processor"]
        each = 1e6 * processor / events if events else None
        table.row(name, events, seconds, events / seconds, processor, each, run["peak"])
    table = report.table(
        "What arrived", ("of both runs", "events", "twice", "said at most", "differing", "requests", "fill")
    )
    repeated = totals.get("repeated", 0)
    fill = whole["events"] / whole["requests"] if whole["requests"] else None
    table.row(
        "at the service",
        whole["distinct"],
        whole["again"],
        repeated,
        whole["differing"],
        whole["requests"],
        fill,
    )
    killed = first["status"] == -signal.SIGKILL and 0 < half["distinct"] < lines
    same = whole["checksum"] == found["checksum"]
    report.bar("killed by SIGKILL half-way", "yes", "yes" if killed else "no", met=killed)
    report.bar("events that arrived", f"{lines:,}", whole["distinct"], met=whole["distinct"] == lines)
    report.bar("they say what their lines say", "yes", "yes" if same else "no", met=same)
    report.at_most("came twice, and differed", 0, whole["differing"])
    report.at_most("came twice, as the command says", repeated, whole["again"])
    report.bar("exit status when gone on", "0", second["status"], met=second["status"] == 0)
    for name, right in (("lines", lines), ("delivered", lines), ("rejected", 0)):
        told = totals.get(name)
        report.bar(f"totals: {name}", f"{right:,}", told, met=told == right)
    report.at_most("peak, MiB", PEAK_MIB, max(first["peak"], second["peak"]))


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser("send", __doc__)
    options.add_argument("--lines", type=int, default=1_000_000, help="of the file; bars are for a million")
    options.add_argument("--seed", type=int, default=1, help="of the lines")
    chosen = options.parse_args(arguments)
    report = Report("send", json_to=chosen.json)
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = asyncio.run(measure(chosen.lines, chosen.seed, Path(folder)))
    except KeyboardInterrupt:
        report.say("interrupted")
        return 130
    show(report, found)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
