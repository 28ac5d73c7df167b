"""On what an evaluation ran: times and memory mean nothing without it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from onnxmark._version import __version__

_ALWAYS: Final = ("numpy", "onnx", "onnxruntime")


def environment(packages: Iterable[str], laboratory: str, workers: int) -> dict[str, Any]:
    """The machine and the software.

    Args:
        packages: Distributions that the figures depend on.
        laboratory: What it calls itself.
        workers: Processes that worked at a time, with one thread each.
    """
    return {
        "onnxmark": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": _memory(),
        "packages": {name: found for name in sorted({*_ALWAYS, *packages}) if (found := _version(name)) is not None},
        "workers": workers,
        "threads_per_worker": 1,
        "laboratory": laboratory,
    }


def _processor() -> str:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    with suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def _version(package: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(package)
    return None
