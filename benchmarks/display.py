"""What every benchmark shows alike: a bar while it runs, figures with their spread, a JSON file on request."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while that is a terminal; what it gives is called with the steps just done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _steps: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda steps: bar.advance(task, steps)


def wide_console() -> Console:
    """Standard output; at least as wide as the tables need where it is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, 120))


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Median with the smallest and largest value: ``1.20 (1.10–1.52)``."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):{form}} ({low:{form}}–{high:{form}})"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def write_json(path: Path | None, figures: dict[str, Any]) -> None:
    """Write the figures, with the machine they were measured on, where a path was given."""
    if path is None:
        return
    text = json.dumps({"command": Path(sys.argv[0]).stem, "machine": machine(), **figures}, indent=2)
    path.write_text(text + "\n", encoding="utf-8")
