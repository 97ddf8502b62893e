"""What a middleware adds to a request, ours beside its peers': in process, and under uvicorn.

    python -m benchmarks.middleware [--rounds 100] [--seconds 4] [--no-server] [--json [FILE]]

In process, each case is `benchmarks.middleware_in_process` in a fresh process of its own: the processor
time of a call through the middleware less that of a bare call. The cases run in turn, several times over:
a shared machine is faster and slower by the minute. What is shown is the median of a case's runs, and a ratio
is the median of the turns' ratios.

Under uvicorn, each case is a server process, driven by wrk, where that is installed; what is shown is the
server's own processor time a request, sending at the default quota included, less the server's without a
middleware. The requests of wrk carry the cookies of 5,000 visitors in turn.

The application is the smallest one that answers, and in the cases that say so the same one made with
Starlette, where Sentry puts itself into the framework, as it does in production.

The bars: at most 8 µs with one event a request; 3 where the session is not sampled, 5 where there is a
browser's session cookie to read for that. They are for a machine on which OpenTelemetry's middleware costs
200 µs and Sentry's without tracing 112, and machines differ, so they are taken as ratios to these in the
same run: 25, 66.7 and 40 times for OpenTelemetry, 14 times for Sentry. The exit status tells whether all are
reached.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cases import Figures, by_turns, in_fresh_process, lowest, medians, ratio
from benchmarks.middleware_cases import CASES, browser_cookie
from benchmarks.report import Report, parser

TURNS = 7
TURNS_SERVED = 3
VISITORS = 5000
BARS = (
    ("rumbuffer", "opentelemetry", 200 / 8),
    ("rumbuffer, own cookie", "opentelemetry", 200 / 8),
    ("rumbuffer, not sampled: browser's record=false", "opentelemetry", 200 / 5),
    ("rumbuffer, not sampled: browser's cookie", "opentelemetry", 200 / 5),
    ("rumbuffer, not sampled: own cookie", "opentelemetry", 200 / 3),
    ("rumbuffer", "sentry, tracing off", 112 / 8),
    ("Starlette: rumbuffer", "Starlette: opentelemetry", 200 / 8),
    ("Starlette: rumbuffer", "Starlette: sentry, tracing off", 112 / 8),
)
"""A case of ours, a peer, and how many times ours the peer must cost at least."""

UNDER_A_SERVER = (
    "nothing",
    "minimal",
    "rumbuffer",
    "opentelemetry",
    "sentry, tracing off",
    "sentry, tracing on",
    "prometheus-fastapi-instrumentator",
)
PACKAGES = (
    "uvicorn starlette opentelemetry-instrumentation-asgi opentelemetry-sdk sentry-sdk "
    "prometheus-fastapi-instrumentator"
).split()


def in_process(case: str, rounds: int) -> Figures:
    return in_fresh_process("benchmarks.middleware_in_process", case, "--rounds", str(rounds))


def wrk_script(folder: Path) -> Path:
    source = random.Random(20261122)
    cookies = ",\n".join(f'"{browser_cookie(source).decode()}"' for _ in range(VISITORS))
    script = folder / "visitors.lua"
    script.write_text(
        f"local cookies = {{{cookies}}}\n"
        "local number = 0\n"
        "request = function()\n"
        "  number = number % #cookies + 1\n"
        '  return wrk.format("GET", "/items/42", {Cookie = cookies[number]})\n'
        "end\n"
    )
    return script


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit("the server did not start")


def under_uvicorn(case: str, script: Path, seconds: int) -> dict[str, float]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--no-access-log", "--log-level", "warning", "--factory"]
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "benchmarks.middleware_server:make", *options],
        env={**os.environ, "MIDDLEWARE_CASE": case},
    )
    try:
        wait_for(port)
        url = f"http://127.0.0.1:{port}/items/42"
        wrk = ["wrk", "-t1", "-c16", "-s", str(script)]
        subprocess.run([*wrk, "-d1s", url], check=True, capture_output=True)
        before = processor_seconds(server.pid)
        run = subprocess.run([*wrk, f"-d{seconds}s", url], check=True, capture_output=True, text=True)
        spent = processor_seconds(server.pid) - before
    finally:
        server.terminate()
        server.wait()
    requests = next(int(line.split()[0]) for line in run.stdout.splitlines() if "requests in" in line)
    if "Non-2xx" in run.stdout:
        raise SystemExit(f"{case}: not every answer was a 200")
    return {"requests_per_second": requests / seconds, "microseconds": spent / requests * 1e6}


def all_under_uvicorn(seconds: int) -> dict[str, dict[str, float]]:
    if shutil.which("wrk") is None:
        print("wrk is not installed: nothing is measured under uvicorn", file=sys.stderr)
        return {}
    runs: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        script = wrk_script(Path(folder))
        for _ in range(TURNS_SERVED):
            for case in UNDER_A_SERVER:
                runs.setdefault(case, []).append(under_uvicorn(case, script, seconds))
    return {
        case: {name: statistics.median(run[name] for run in of_case) for name in of_case[0]}
        for case, of_case in runs.items()
    }


def show(report: Report, runs: dict[str, list[Figures]], served: dict[str, dict[str, float]]) -> None:
    columns = ("case", "µs", "lowest µs", "times ours")
    table = report.table("In process: µs added to a request", columns)
    for case, of_case in runs.items():
        times = ratio(runs, case, "rumbuffer", "added")
        table.row(case, medians(of_case)["added"], lowest(of_case)["added"], times)
    if served:
        bare = served["nothing"]["microseconds"]
        table = report.table("Under uvicorn, driven by wrk", ("case", "requests/s", "µs added"))
        for case, seen in served.items():
            table.row(case, round(seen["requests_per_second"]), seen["microseconds"] - bare)
    for case, peer, bar in BARS:
        report.at_least(f"{peer}: times {case}", round(bar, 1), ratio(runs, peer, case, "added"))


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser("middleware", __doc__, PACKAGES)
    options.add_argument("--rounds", type=int, default=40, help="rounds of 250 requests for each run")
    options.add_argument("--seconds", type=int, default=4, help="seconds of load for each server")
    options.add_argument("--no-server", action="store_true", help="measure in process only")
    given = options.parse_args(arguments)
    report = Report("middleware", PACKAGES, given.json)
    runs = by_turns(list(CASES), TURNS, lambda case: in_process(case, given.rounds))
    served = {} if given.no_server else all_under_uvicorn(given.seconds)
    show(report, runs, served)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
