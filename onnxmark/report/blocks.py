"""Drawings made of characters, for formats that have nothing else: no colour, so that they mean the same without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from onnxmark.report.page import Bar, Histogram

_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
_SHADES: Final = "░▒▓█"
WRONG: Final = "×"
BITS_A_LINE: Final = 64
BIN: Final = 2
"""Characters of a bin."""

BIT_LEGEND: Final = f"{_SHADES} right, the fuller the surer; {WRONG} wrong"


def bar(part: Bar, width: int) -> str:
    """A bar of ``width`` characters with the boundary drawn through it."""
    filled = round(part.length * width)
    mark = min(round(part.boundary * width), width - 1)
    return "".join("│" if cell == mark else "█" if cell < filled else " " for cell in range(width))


def columns(counts: Sequence[int], rows: int) -> tuple[str, ...]:
    """Counts as upright bars of ``rows`` lines, the top line first; what is counted at all is seen."""
    top = max(*counts, 1)
    heights = [max(round(count / top * rows * 8), 1) if count else 0 for count in counts]
    return tuple(
        "".join(_EIGHTHS[min(max(height - row * 8, 0), 8)] * BIN for height in heights) for row in reversed(range(rows))
    )


def histogram(chart: Histogram, rows: int) -> tuple[str, ...]:
    """The bars, their axis, and what either side of 0 means."""
    return (*columns(chart.counts, rows), *axis(chart))


def axis(chart: Histogram) -> tuple[str, str]:
    """The ends and the 0 of the axis, and below them the meaning of either side."""
    width = BIN * len(chart.counts)
    left = BIN * below_zero(chart)
    ends = f"{chart.edges[0]:<.1f}".ljust(max(left - 1, 0)) + "0" + f"{chart.edges[-1]:.1f}".rjust(max(width - left, 5))
    sides = f"{chart.below:<{left}}{chart.above:>{max(width - left, len(chart.above))}}"
    return ends, sides


def below_zero(chart: Histogram) -> int:
    """How many bins lie below 0."""
    return sum(high <= 0 for high in chart.edges[1:])


def bits(margins: Sequence[float]) -> tuple[str, ...]:
    """A character a symbol, 64 a line; one that is erased counts as wrong."""
    strongest = max((abs(margin) for margin in margins), default=0.0) or 1.0
    drawn = "".join(WRONG if margin <= 0 else _shade(margin / strongest) for margin in margins)
    return tuple(drawn[start : start + BITS_A_LINE] for start in range(0, len(drawn), BITS_A_LINE))


def _shade(strength: float) -> str:
    return _SHADES[min(int(strength * len(_SHADES)), len(_SHADES) - 1)]
