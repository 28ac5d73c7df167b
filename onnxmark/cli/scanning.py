"""How far a scan is: a bar on a terminal, a line now and then elsewhere, always on standard error."""

from __future__ import annotations

import math
import os
import sys
import time
from bisect import bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from onnxmark.cli.output import remark
from onnxmark.report.progress import Counts, progress_line

if TYPE_CHECKING:
    from onnxmark.registry.entries import Found
    from onnxmark.registry.running import Done
    from onnxmark.verdict import Policy

Tell = Callable[["Done"], None]

_EVERY: Final = 30.0
"""Seconds between lines where there is no terminal."""


@contextmanager
def scan_progress(found: Sequence[Found], policy: Policy, *, quiet: bool) -> Iterator[Tell]:
    """Something to tell of each entry that is done.

    Args:
        found: Everything that will be.
        policy: Says what counts as a match so far.
        quiet: Show nothing.
    """
    from onnxmark.registry.entries import Outcome

    counter = _Counter(sum(one.outcome is Outcome.MODEL for one in found), policy)
    if quiet:
        yield counter.add
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _bar(counter) as tell:
            yield tell
    else:
        yield _lines(counter)


class _Counter:
    """Counts as they come; matches are provisional until everything that was tried is known."""

    def __init__(self, n_models: int, policy: Policy) -> None:
        self.counts = Counts(0, n_models)
        self._policy = policy
        self._started = time.monotonic()
        self._n_hypotheses = 0
        self._least: list[float] = []

    def add(self, done: Done) -> None:
        from onnxmark.registry.entries import Outcome

        now = replace(self.counts, seconds=time.monotonic() - self._started)
        result = done.result
        if done.found.outcome is not Outcome.MODEL:
            failed = done.found.outcome is Outcome.FAILED
            self.counts = replace(now, n_failed=now.n_failed + failed, n_skipped=now.n_skipped + (not failed))
            return
        if result is not None:
            self._n_hypotheses += result["n_hypotheses"]
            for hit in result["hits"]:
                insort(self._least, hit["log10_p"])
        bound = self._policy.log10_alpha - math.log10(max(self._n_hypotheses, 1))
        self.counts = replace(
            now,
            n_done=now.n_done + 1,
            n_matches=bisect_right(self._least, bound),
            n_inconclusive=now.n_inconclusive + (0 if result is None else len(result["doubts"])),
            n_failed=now.n_failed + (result is None or result["status"] != "audited"),
            n_resumed=now.n_resumed + done.reused,
            bytes_done=now.bytes_done + done.found.size,
        )


@contextmanager
def _bar(counter: _Counter) -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=counter.counts.n_total)

        def tell(done: Done) -> None:
            counter.add(done)
            bar.update(task, completed=counter.counts.n_done, description=progress_line(counter.counts))

        yield tell


def _lines(counter: _Counter) -> Tell:
    last = time.monotonic()

    def tell(done: Done) -> None:
        nonlocal last
        counter.add(done)
        if time.monotonic() - last >= _EVERY:
            last = time.monotonic()
            remark(f"onnxmark: {progress_line(counter.counts)}")

    return tell
