"""Line charts of a web report: a quantity against a parameter, a line for each subject, with confidence limits.

A subject is told by the colour and the shape of its points and by the dashes of its line, the same in every chart of a
page, so that none of the three is needed alone. Points of one tick stand side by side: limits that overlap can be read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from onnxmark.report.charts import Estimate, Line, LineChart
from onnxmark.report.markup import element, number, text, void
from onnxmark.report.palette import SERIES
from onnxmark.report.scales import Linear
from onnxmark.report.shapes import below, drawing, grid, label
from onnxmark.report.svg import DASHES
from onnxmark.report.text import shortened

_WIDTH: Final = 480
_HEIGHT: Final = 264
_LEFT: Final = 40
_TOP: Final = 28
_BOTTOM: Final = _HEIGHT - 44
_CHARACTER: Final = 6
"""Width of a character of a label, on average."""

_TICK: Final = 12
"""Characters of the label of a tick."""

_APART: Final = 8.0
"""Pixels between neighbours at one tick, where there is room."""


def sample(subject: int) -> str:
    """The line and the point of a subject, for a legend."""
    line = void("path", class_="drawn", d="M0 7h32", stroke_dasharray=_dashes(subject))
    return element(
        "svg", line + _point(16, 7, subject), class_=_colour(subject), width=32, height=14, aria_hidden="true"
    )


def line_chart(chart: LineChart, subjects: Sequence[str]) -> str:
    """A chart at its natural size.

    Args:
        chart: What is drawn.
        subjects: Their names, by index, for those who do not see the drawing.
    """
    y = Linear(chart.bottom, chart.top, _BOTTOM, _TOP)
    x = _places(chart)
    levels = grid(_LEFT, _WIDTH, [(y(tick), tick) for tick in y.ticks(6)])
    lines = "".join(_line(line, side, x, y) for line, side in zip(chart.lines, _sides(chart, x), strict=True))
    words = label(0, 12, chart.quantity) + label((_LEFT + _WIDTH) / 2, _HEIGHT - 8, chart.axis, "m")
    body = levels + _level(chart, y) + lines + words + below(_BOTTOM, _named(chart, x))
    return drawing(_WIDTH, _HEIGHT, chart.title, _said(chart, subjects), body)


def _places(chart: LineChart) -> Linear:
    """Ticks at equal steps, half a step from either end."""
    return Linear(-0.5, max(len(chart.ticks), 1) - 0.5, _LEFT, _WIDTH)


def _sides(chart: LineChart, x: Linear) -> list[float]:
    """How far each line stands aside of its ticks, so that the points of one tick do not cover each other."""
    count = len(chart.lines)
    apart = min(_APART, 0.7 * (x(1) - x(0)) / max(count, 1))
    return [(index - (count - 1) / 2) * apart for index in range(count)]


def _named(chart: LineChart, x: Linear) -> list[tuple[float, str]]:
    """As many of the ticks' labels as there is room for."""
    shown = [shortened(tick, _TICK) for tick in chart.ticks]
    wide = _CHARACTER * (max(map(len, shown), default=0) + 1)
    every = math.ceil(wide / max(x(1) - x(0), 1))
    return [(x(index), words) for index, words in enumerate(shown) if index % every == 0]


def _level(chart: LineChart, y: Linear) -> str:
    if chart.level is None:
        return ""
    height = y(chart.level.height)
    line = void("path", class_="limit", d=f"M{_LEFT} {number(height)}H{_WIDTH}")
    # On the left, where modifications are weak, marks and networks are still far from it.
    return line + label(_LEFT + 4, height - 5, chart.level.words, "on")


def _line(line: Line, side: float, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    places = [(x(one.tick) + side, y(one.mean), one) for one in line.estimates]
    steps = "L".join(f"{number(across)} {number(down)}" for across, down, _ in places)
    path = void("path", class_="drawn", d=f"M{steps}", stroke_dasharray=_dashes(line.subject)) if places[1:] else ""
    limits = "".join(_limits(across, y(one.low), y(one.high)) for across, _, one in places if one.low < one.high)
    whiskers = void("path", class_="whisker", d=limits) if limits else ""
    points = "".join(_titled(across, down, one, line.subject) for across, down, one in places)
    return element("g", path + whiskers + points, class_=_colour(line.subject))


def _limits(across: float, low: float, high: float) -> str:
    """From limit to limit, with a foot at either end."""
    return f"M{number(across - 3)} {number(low)}h6m-3 0V{number(high)}m-3 0h6"


def _titled(across: float, down: float, estimate: Estimate, subject: int) -> str:
    return element("g", element("title", text(estimate.label)) + _point(across, down, subject))


def _point(x: float, y: float, subject: int) -> str:
    """A disc, a square, a triangle, a diamond, a cross or a triangle on its head."""
    if subject % len(_OUTLINES) == 0:
        return void("circle", cx=x, cy=y, r=4)
    (right, down), steps = _OUTLINES[subject % len(_OUTLINES)]
    return void("path", class_="full", d=f"M{number(x + right)} {number(y + down)}{steps}z")


_OUTLINES: Final = (
    ((0, 0), ""),
    ((-4, -4), "h8v8h-8"),
    ((-5, 4), "l5-9 5 9"),
    ((0, -5.5), "l5 5.5-5 5.5-5-5.5"),
    ((-1.5, -5), "h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5"),
    ((-5, -4), "h10l-5 9"),
)
"""Where the pen starts, from the middle, and what it draws; a disc is none."""


def _dashes(subject: int) -> str:
    return DASHES[subject % len(DASHES)]


def _colour(subject: int) -> str:
    """The class that the style sheet gives a colour."""
    return f"s{subject % SERIES}"


def _said(chart: LineChart, subjects: Sequence[str]) -> str:
    """The chart in words: every estimate of every subject."""
    return "; ".join(
        f"{shortened(subjects[line.subject], 40)}: {', '.join(one.label for one in line.estimates)}"
        for line in chart.lines
    )
