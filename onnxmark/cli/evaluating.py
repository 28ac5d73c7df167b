"""How far an evaluation is, and how long one would take: words and figures for people, on a terminal and in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from onnxmark.cli.output import remark
from onnxmark.report.progress import duration
from onnxmark.report.text import plain

if TYPE_CHECKING:
    from onnxmark.evaluation import Estimate, Progress

Tell = Callable[["Progress"], None]

_EVERY: Final = 60.0
"""Seconds between lines where there is no terminal: an evaluation takes hours."""

_STEP: Final = 80
"""Characters of the name of a step."""


def line_of(progress: Progress) -> str:
    """``312 of 1,120 steps, 40 from the journal, about 42 min left: network 1, noise 0.2``."""
    left = progress.seconds_left
    parts = (
        f"{progress.n_done:,} of {progress.n_total:,} steps",
        f"{progress.n_reused:,} from the journal" if progress.n_reused else "",
        f"about {duration(left)} left" if left is not None and progress.n_done < progress.n_total else "",
    )
    latest = f": {plain(progress.latest, _STEP)}" if progress.latest else ""
    return ", ".join(filter(None, parts)) + latest


def lines_of(estimate: Estimate) -> tuple[str, ...]:
    """What a dry run shows: how much of what there is to do, and how long it takes here."""
    counts = (
        ("networks to train", estimate.n_trainings),
        ("epochs of training", estimate.n_epochs),
        ("networks to modify", estimate.n_modifications),
        ("marks to look for and read", estimate.n_detections),
    )
    workers = f"{estimate.jobs:,} {'worker' if estimate.jobs == 1 else 'workers'}"
    return (
        *(f"{words:<28}{count:>12,}" for words, count in counts),
        f"about {duration(estimate.seconds)} on this machine with {workers}, nothing taken from a journal",
    )


@contextmanager
def evaluation_progress(*, quiet: bool) -> Iterator[Tell | None]:
    """Something to tell of each step that is done, always on standard error.

    Args:
        quiet: Show nothing.
    """
    if quiet:
        yield None
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _bar() as tell:
            yield tell
    else:
        yield _lines()


@contextmanager
def _bar() -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done: bar.update(task, completed=done.n_done, total=done.n_total, description=line_of(done))


def _lines() -> Tell:
    last = -_EVERY

    def tell(done: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY:
            last = time.monotonic()
            remark(f"onnxmark: {line_of(done)}")

    return tell
