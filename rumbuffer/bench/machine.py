"""What a result was measured on: the machine, the versions, how busy it was."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import rumbuffer

__all__ = ["machine", "versions"]

_PACKAGES = ("aiobotocore", "botocore", "aiohttp", "orjson", "uvloop")


def machine() -> dict[str, Any]:
    """Describe this machine; no name of it or of anybody."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _cpu(),
        "cores": cores,
        "memory_bytes": _memory(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def versions(loop: str) -> dict[str, str]:
    """The versions of what takes part, Python's and the loop's first."""
    found = {
        "rumbuffer": rumbuffer.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "loop": loop,
    }
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
