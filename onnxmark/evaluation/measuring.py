"""What a step takes: its time, and the most memory the process had while it ran.

On Linux the high-water mark of the resident set is reset before a step (``/proc/self/clear_refs``) and read after it;
elsewhere it is that of the whole process so far, an upper bound. Either includes the interpreter and the framework,
which are loaded whatever the step does.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

_STATUS: Final = Path("/proc/self/status")
_CLEAR: Final = Path("/proc/self/clear_refs")
_RESET_PEAK: Final = "5"
_UNIT: Final = 1 if sys.platform == "darwin" else 1024
"""Bytes in what ``ru_maxrss`` counts."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a step took.

    Args:
        seconds: Wall time.
        memory_bytes: Peak of the process's resident memory while it ran.
    """

    seconds: float
    memory_bytes: int


def measured(step: Callable[[], _Result]) -> tuple[_Result, Footprint]:
    """Carry out a step and measure it; steps within steps would reset each other's peak."""
    with suppress(OSError):
        _CLEAR.write_text(_RESET_PEAK)
    started = time.perf_counter()
    result = step()
    return result, Footprint(time.perf_counter() - started, _peak())


def _peak() -> int:
    with suppress(OSError, StopIteration):
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    return _UNIT * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
