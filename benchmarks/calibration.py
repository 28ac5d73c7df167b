"""Are probabilities honest? Empirical rates of p-values that should be uniform, beside the rates they promise."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from rich.table import Table
from rich.text import Text

from onnxmark.arrays import Float64Array

LEVELS: Final = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
_BINS: Final = 20
_BAR: Final = 50


@dataclass(frozen=True, slots=True)
class Calibration:
    """P-values of readings where there is nothing to read.

    Args:
        n: How many.
        hits: How many are at most each of :data:`LEVELS`.
        distance: Kolmogorov-Smirnov distance from the uniform law (the larger of the two sides).
        excess: Its harmful side: the most by which small p-values are too frequent; at most noise for an honest test.
        log10_smallest: The smallest p-value.
    """

    n: int
    hits: tuple[int, ...]
    distance: float
    excess: float
    log10_smallest: float

    @property
    def noise(self) -> float:
        """Kolmogorov-Smirnov distance that uniform p-values exceed in one case of twenty."""
        return 1.358 / math.sqrt(self.n)

    def rate(self, level: int) -> str:
        """Hits at a level over the hits promised."""
        return f"{self.hits[level] / (self.n * LEVELS[level]):.2f}"

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "levels": LEVELS, "noise": self.noise}


def calibrated(log10_p: Float64Array) -> Calibration:
    """The calibration of base-10 logarithms of p-values, shape (n,)."""
    p = np.sort(10.0 ** np.minimum(log10_p, 0.0))
    # Ties are taken together: a discrete p-value is judged at the points where its law steps up.
    distinct, counts = np.unique(p, return_counts=True)
    below = np.cumsum(counts) / p.size
    excess = float(np.max(below - distinct))
    lack = float(np.max(distinct - (below - counts / p.size)))
    return Calibration(
        n=int(p.size),
        # A hair of slack: 10 ** log10(p) need not give p back.
        hits=tuple(int(np.sum(log10_p <= math.log10(level) + 1e-12)) for level in LEVELS),
        distance=max(excess, lack),
        excess=excess,
        log10_smallest=float(log10_p.min()),
    )


def rate_table(title: str, rows: dict[str, Calibration]) -> Table:
    """Hits at every level beside those promised."""
    table = Table(title=title, title_justify="left")
    table.add_column("p-value")
    for level in LEVELS:
        table.add_column(f"≤ {level:.0e}", justify="right")
    for heading in ("KS", "excess", "5 % noise", "smallest"):
        table.add_column(heading, justify="right")
    first = next(iter(rows.values()))
    table.add_row("promised", *(f"{first.n * level:,.0f}" for level in LEVELS), "0", "0", "", "", style="dim")
    for name, found in rows.items():
        hits = (f"{count:,} ({found.rate(index)})" for index, count in enumerate(found.hits))
        figures = (f"{found.distance:.4f}", f"{found.excess:+.4f}", f"{found.noise:.4f}", _power(found.log10_smallest))
        table.add_row(name, *hits, *figures)
    return table


def breakdown_table(title: str, rows: dict[str, Calibration], heading: str) -> Table:
    """One line a group: how far its rates are from those promised."""
    table = Table(title=title, title_justify="left")
    table.add_column(heading)
    for name in ("n", *(f"rate/{level:.0e}" for level in LEVELS[:4]), "KS", "5 % noise", "smallest"):
        table.add_column(name, justify="right")
    for name, found in rows.items():
        rates = (found.rate(level) for level in range(4))
        distance = Text(f"{found.distance:.4f}", style="bold red" if found.distance > 1.5 * found.noise else "")
        table.add_row(name, f"{found.n:,}", *rates, distance, f"{found.noise:.4f}", _power(found.log10_smallest))
    return table


def histogram(log10_p: Float64Array) -> Text:
    """P-values in twenty equal bins, a bar each; an honest test fills them evenly."""
    counts, edges = np.histogram(10.0**log10_p, bins=_BINS, range=(0, 1))
    expected = log10_p.size / _BINS
    text = Text(f"p-values in {_BINS} bins, {expected:,.0f} expected in each (±{math.sqrt(expected):.0f})\n")
    for count, left, right in zip(counts.tolist(), edges[:-1], edges[1:], strict=True):
        length = min(_BAR, round(0.8 * _BAR * count / expected))
        text.append(f"{left:4.2f}–{right:4.2f} ")
        text.append("█" * length, style="cyan")
        text.append(f" {count:,}\n")
    return text


def _power(log10: float) -> str:
    exponent = math.floor(log10)
    return f"{10 ** (log10 - exponent):.1f}e{exponent:d}"
