"""A function in a process of its own, with the time and the memory it took: TensorFlow and PyTorch never meet here."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Measured(Generic[_T]):
    """What a function gave.

    Args:
        value: What it returned.
        seconds: Wall time of the call, without starting the process.
        peak: Largest resident memory of the process, or of one that it started, in bytes.
    """

    value: _T
    seconds: float
    peak: int


def apart(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Measured[_T]:
    """Call a function of a module in a fresh process; what it raises is raised here."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        found: Measured[_T] = pool.submit(_measured, function, args, kwargs).result()
    return found


def _measured(function: Callable[..., _T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Measured[_T]:
    start = time.perf_counter()
    value = function(*args, **kwargs)
    seconds = time.perf_counter() - start
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return Measured(value, seconds, max(_own_peak(), children))


def _own_peak() -> int:
    """Not from ``getrusage``: Linux counts there what the parent had before the program was exchanged."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
