"""How far a scan is, in words: one line for a log, one screen for ``watch``. Pure functions of counts, without a clock.

Matches are counted as they come. How improbable a reading must be depends on everything that is tried, so until the
scan is complete such a count is provisional, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from onnxmark.report.text import byte_size, plain

_BAR: Final = 40
_TITLE: Final = 60
_FIRST_MOMENTS: Final = 0.1
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How far a scan is.

    Args:
        n_done: Models with an outcome, failed and resumed ones included.
        n_total: Models to be audited; None while they are still being found.
        n_matches: Pairs of model and key that match, as far as can be told.
        n_inconclusive: Pairs about which nothing can be said.
        n_failed: Models that could not be audited.
        n_skipped: Files left out.
        n_resumed: Models whose outcome an earlier run had left.
        bytes_done: Size of the models with an outcome.
        seconds: Since this run began.
    """

    n_done: int
    n_total: int | None = None
    n_matches: int = 0
    n_inconclusive: int = 0
    n_failed: int = 0
    n_skipped: int = 0
    n_resumed: int = 0
    bytes_done: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float | None:
        """Models a second in this run; None before the first, and in the first moments, which tell nothing."""
        done = self.n_done - self.n_resumed
        return done / self.seconds if done > 0 and self.seconds >= _FIRST_MOMENTS else None

    @property
    def seconds_left(self) -> float | None:
        """Until the end at this rate; None where that cannot be told."""
        if self.n_total is None or self.rate is None:
            return None
        return max(0, self.n_total - self.n_done) / self.rate


def progress_line(counts: Counts) -> str:
    """``1,203 of 10,000 models, 3 matches, 12 failed, 4.1 models/s, about 35 min left``."""
    total = "" if counts.n_total is None else f" of {counts.n_total:,}"
    noun = "model" if (counts.n_total if counts.n_total is not None else counts.n_done) == 1 else "models"
    matches = f"{counts.n_matches:,} {'match' if counts.n_matches == 1 else 'matches'}"
    rate, left = counts.rate, counts.seconds_left
    parts = (
        f"{counts.n_done:,}{total} {noun}",
        matches,
        f"{counts.n_inconclusive:,} inconclusive" if counts.n_inconclusive else "",
        f"{counts.n_failed:,} failed" if counts.n_failed else "",
        "" if rate is None else rate_of(rate),
        "" if left is None or counts.n_done == counts.n_total else f"about {duration(left)} left",
    )
    return ", ".join(filter(None, parts))


def summary(title: str, counts: Counts) -> str:
    """A screen of less than 80 columns and 24 lines, without escape sequences, ending in a newline.

    Args:
        title: What is scanned; made harmless here.
        counts: How far the scan is.
    """
    rate, left = counts.rate, counts.seconds_left
    rows = (
        ("matches so far", f"{counts.n_matches:,}"),
        ("inconclusive", f"{counts.n_inconclusive:,}"),
        ("failed", f"{counts.n_failed:,}"),
        ("skipped", f"{counts.n_skipped:,}"),
        ("from an earlier run", f"{counts.n_resumed:,}"),
        ("size of these models", byte_size(counts.bytes_done)),
        ("speed", "–" if rate is None else rate_of(rate)),
        ("time so far", duration(counts.seconds)),
        ("time left", "–" if left is None else f"about {duration(left)}"),
    )
    lines = [
        f"onnxmark scan  {plain(title, _TITLE)}",
        "",
        _bar(counts),
        "",
        *(f"  {name:<22}{text:>18}" for name, text in rows),
        "",
        "Verdicts come with the report, corrected for everything that was tried.",
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def duration(seconds: float) -> str:
    """A time for people, in one unit or two: ``45 s``, ``35 min``, ``2 h 10 min``, ``3 d 4 h``."""
    count = round(seconds)
    if count < 90:
        return f"{count} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24:,} d {hours % 24} h"


def rate_of(rate: float) -> str:
    """A speed for people: models a second, or a minute where they are slow.

    Args:
        rate: Models a second, above 0.
    """
    if rate >= 0.1:
        return f"{rate:,.0f} models/s" if rate >= 100 else f"{rate:.1f} models/s"
    return f"{60 * rate:.1f} models/min" if 60 * rate >= 0.1 else f"{3600 * rate:.2g} models/h"


def _bar(counts: Counts) -> str:
    if counts.n_total is None:
        return f"  {counts.n_done:,} done, and more are being found"
    share = counts.n_done / counts.n_total if counts.n_total else 1.0
    # Full is for done: 9,999 of 10,000 are not all.
    full = int(_BAR * min(1.0, share))
    percent = min(int(100 * share), 100)
    return f"  [{'#' * full}{'.' * (_BAR - full)}] {percent} %\n  {counts.n_done:,} of {counts.n_total:,} models"
