"""The charts of a web report as inline SVG: shapes, classes and text, no styles of their own.

Colours come from the page's style sheet, so that a chart follows the light or dark theme. Verdicts differ in shape as
well as in colour: a disc is a match, a cross none, an open diamond a doubt. Every chart has a title and a description
for those who do not see it, and is drawn at its natural size in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from onnxmark.report.markup import element, number, void
from onnxmark.report.page import Bar, BitMap, CurvePoint, Curves, Histogram, Panel, Plane, PlanePoint, Series, Tone
from onnxmark.report.scales import Linear, SquareRoot, spread
from onnxmark.report.shapes import below, drawing, grid, label, mark, titled
from onnxmark.report.text import shortened

DASHES: Final = ("", "6 3", "2 3", "9 3 2 3")
"""What sets the curves of a panel apart, by position; further ones begin anew."""

BOUNDARY: Final = "boundary of a match"
_GONE: Final = "mark gone"
BAR: Final = 80
"""Pixels of a bar of full length."""

MAX_BITS: Final = 4096
"""Bits that a map shows."""

_STRENGTHS: Final = (0.4, 0.56, 0.7, 0.84)
"""Side of a cell, from the weakest quarter of the margins to the strongest."""

_CHARACTER: Final = 6
"""Width of a character of a label, on average."""

_TICK: Final = 12
"""Characters of the label of a tick."""

_PLANE_WIDTH: Final = 760
_PLANE_HEIGHT: Final = 440


def bar(part: Bar, tone: Tone) -> str:
    """A bar for a table's cell; the figure stands beside it. Its size is the style sheet's: a sweep has hundreds."""
    scale = Linear(0, 1, 0, BAR)
    limit = scale(part.boundary)
    body = void("rect", class_=str(tone), y=3, width=scale(part.length), height=6)
    line = void("path", d=f"M{number(limit)} 0v12")
    return element("svg", body + line, aria_hidden="true")


def sign(tone: Tone) -> str:
    """The shape that stands for a verdict, for a legend."""
    return element("svg", mark(7, 7, tone), width=14, height=14, aria_hidden="true")


def dash(index: int) -> str:
    """The line that stands for a series, for a legend."""
    line = void("path", class_="curve", d="M0 6h28", stroke_dasharray=DASHES[index % len(DASHES)])
    return element("svg", line, width=28, height=12, aria_hidden="true")


def histogram(chart: Histogram) -> str:
    """Bars to the left of 0 are wrong bits, to the right right ones; the words stand beside the colours."""
    width, height, left, bottom = 480, 220, 38, 172
    x = Linear(chart.edges[0], chart.edges[-1], left, width - 8)
    y = Linear(0, max(*chart.counts, 1), bottom, 26)
    bars = "".join(
        void(
            "rect",
            class_=f"full {Tone.BAD if high <= 0 else Tone.GOOD}",
            x=x(low) + 0.5,
            y=y(count),
            width=max(x(high) - x(low) - 1, 0.5),
            height=bottom - y(count),
        )
        for low, high, count in zip(chart.edges, chart.edges[1:], chart.counts, strict=False)
        if count
    )
    zero = x(0)
    sides = label(zero - 8, 14, f"← {chart.below}", "on e") + label(zero + 8, 14, f"{chart.above} →", "on")
    middle = void("path", class_="limit", d=f"M{number(zero)} 4V{bottom}")
    levels = grid(left, width - 8, [(y(tick), tick) for tick in y.ticks(5)])
    ticks = below(bottom, [(x(tick), f"{tick:g}") for tick in x.ticks(9)])
    axes = label((left + width - 8) / 2, height - 12, chart.axis, "m") + label(0, 14, "bits")
    return drawing(width, height, chart.title, chart.summary, levels + bars + middle + sides + ticks + axes)


def bit_map(chart: BitMap) -> str:
    """A cell a symbol, row by row: a square as large as its margin is strong, a cross where it is wrong or erased."""
    margins = chart.margins[:MAX_BITS]
    columns, cell = (32, 13) if len(margins) <= 512 else (64, 8)
    left = 34
    rows = -(-len(margins) // columns)
    width, height = left + min(columns, max(len(margins), 8)) * cell + 2, rows * cell + 4
    labels = "".join(
        label(left - 6, row * cell + cell - 1, str(row * columns), "e") for row in range(0, rows, 1 if cell > 10 else 4)
    )
    paths = "".join(
        void("path", class_=f"{kind} {tone}", d="".join(shapes))
        for (kind, tone), shapes in _cells(margins, columns, cell, left).items()
    )
    shown = "" if len(margins) == len(chart.margins) else f" The first {len(margins)} are shown."
    return drawing(width, height, chart.title, f"{chart.summary}.{shown}", labels + paths)


def _cells(margins: Sequence[float], columns: int, cell: int, left: int) -> dict[tuple[str, Tone], list[str]]:
    """Path data of the cells: right bits and wrong ones."""
    strongest = max((abs(margin) for margin in margins), default=0.0) or 1.0
    paths: dict[tuple[str, Tone], list[str]] = {}
    for index, margin in enumerate(margins):
        row, column = divmod(index, columns)
        quarter = min(int(abs(margin) / strongest * len(_STRENGTHS)), len(_STRENGTHS) - 1)
        side = cell * _STRENGTHS[quarter]
        x, y = left + (column + 0.5) * cell - side / 2, 2 + (row + 0.5) * cell - side / 2
        corner, edge = f"M{number(x)} {number(y)}", number(side)
        if margin > 0:
            paths.setdefault(("full", Tone.GOOD), []).append(f"{corner}h{edge}v{edge}h-{edge}z")
        else:
            paths.setdefault(("cross", Tone.BAD), []).append(f"{corner}l{edge} {edge}m0-{edge}l-{edge} {edge}")
    return paths


def highest(chart: Curves) -> float:
    """Top of the vertical scale that all panels share."""
    points = (point.best for panel in chart.panels for series in panel.series for point in series.points)
    return max([chart.boundary * 2, 1e-6, *points])


def panel(part: Panel, chart: Curves) -> str:
    """The curves of one attack."""
    width, height, left, bottom = 300, 190, 30, 146
    y = SquareRoot(highest(chart), bottom, 12)
    wide = _CHARACTER * max((len(shortened(tick, _TICK)) for tick in part.ticks), default=0)
    x = Linear(0, max(len(part.ticks) - 1, 1), left + max(14, wide / 2 - left), width - max(14, wide / 2))
    limit = y(chart.boundary)
    ground = void("rect", class_="below", x=left, y=limit, width=width - left, height=bottom - limit)
    levels = grid(left, width, [(y(tick), tick) for tick in y.ticks()])
    line = void("path", class_="limit", d=f"M{left} {number(limit)}H{width}")
    every = math.ceil((wide + _CHARACTER) / (x(1) - x(0)))
    names = [(x(index), shortened(tick, _TICK)) for index, tick in enumerate(part.ticks) if index % every == 0]
    curves = "".join(_curve(series, x, y, DASHES[index % len(DASHES)]) for index, series in enumerate(part.series))
    words = label(left + 4, limit + 13, BOUNDARY, "on") + label((left + width) / 2, height - 10, part.axis, "m")
    body = ground + levels + line + curves + words + below(bottom, names)
    return drawing(width, height, part.title, _said(part), body)


_WORDS: Final = {Tone.GOOD: "match", Tone.BAD: "no match"}


def _said(part: Panel) -> str:
    """A panel in words: which strengths end in which verdict, curve by curve."""
    lines = []
    for series in part.series:
        for tone in dict.fromkeys(point.tone for point in series.points):
            strengths = ", ".join(part.ticks[point.tick] for point in series.points if point.tone is tone)
            lines.append(f"{series.label}: {_WORDS.get(tone, 'inconclusive')} at {strengths}")
    return "; ".join(lines)


def _curve(series: Series, x: Linear, y: SquareRoot, dashes: str) -> str:
    places = [(x(point.tick), y(point.worst), y(point.best), point) for point in series.points]
    steps = "L".join(f"{number(across)} {number(down)}" for across, down, _, _ in places)
    line = void("path", class_="curve", d=f"M{steps}", stroke_dasharray=dashes) if len(places) > 1 else ""
    marks = "".join(titled(across, down, point.tone, point.label) for across, down, _, point in places)
    return line + _whiskers(places) + marks


def _whiskers(places: Sequence[tuple[float, float, float, CurvePoint]]) -> str:
    """From each worst draw up to the best, a path for each tone."""
    paths: dict[Tone, str] = {}
    for across, down, up, point in places:
        if down - up > 1:
            step = f"M{number(across)} {number(down)}V{number(up)}m-3 0h6"
            paths[point.tone] = paths.get(point.tone, "") + step
    return "".join(void("path", class_=f"whisker {tone}", d=path) for tone, path in paths.items())


def plane(chart: Plane) -> str:
    """A numbered point a trial, between what the model lost and what the mark kept."""
    left, bottom, right = 44, _PLANE_HEIGHT - 48, _PLANE_WIDTH - 10
    low, high = spread([point.loss for point in chart.points], 0.01)
    x = Linear(low, high, left + 12, right - 16)
    y = SquareRoot(max([chart.boundary * 2, 1e-6, *(point.evidence for point in chart.points)]), bottom, 34)
    limit = y(chart.boundary)
    ground = void("rect", class_="below", x=left, y=limit, width=right - left, height=bottom - limit)
    levels = grid(left, right, [(y(tick), tick) for tick in y.ticks(26)])
    factor = 100 if chart.percent else 1
    stops = void("path", class_="grid", d="".join(f"M{number(x(tick))} {bottom}v4" for tick in x.ticks(9)))
    ticks = stops + below(bottom, [(x(tick), f"{tick * factor:.6g}") for tick in x.ticks(9)])
    line = void("path", class_="limit", d=f"M{left} {number(limit)}H{right}")
    words = label(0, 12, chart.evidence_axis) + label((left + right) / 2, _PLANE_HEIGHT - 12, chart.loss_axis, "m")
    places = [(x(point.loss), y(point.evidence), point) for point in chart.points]
    marks = [_around(across, down) for across, down, _ in places]
    sides = [
        _free(left + 6, right - 6, top, _CHARACTER * len(side), marks)
        for top, side in ((limit - 15, BOUNDARY), (limit + 4, _GONE))
    ]
    named = "".join(label(box[0], box[3] - 1, side, "on") for box, side in zip(sides, (BOUNDARY, _GONE), strict=True))
    body = ground + levels + line + words + ticks + _numbered(places, [*marks, *sides]) + named
    return drawing(_PLANE_WIDTH, _PLANE_HEIGHT, chart.title, chart.note, body, "wide")


_Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def _around(across: float, down: float) -> _Box:
    """What a mark covers."""
    return across - 5, down - 5, across + 5, down + 5


def _free(left: float, right: float, top: float, wide: float, taken: Sequence[_Box]) -> _Box:
    """Where words of that width, at that height, cover least: at the right end, at the left end, or in between."""
    steps = (1.0, 0.0, *(step / 12 for step in range(11, 0, -1)))
    starts = (left + share * (right - left - wide) for share in steps)
    boxes = [(start, top, start + wide, top + 11) for start in starts]
    return min(boxes, key=lambda box: sum(_overlap(box, other) for other in taken))


def _numbered(places: Sequence[tuple[float, float, PlanePoint]], occupied: Sequence[_Box]) -> str:
    """Marks first, then the numbers that find room: none covers another or what is occupied."""
    marks = "".join(
        titled(across, down, point.tone, f"{point.number}. {point.label}") for across, down, point in places
    )
    taken = list(occupied)
    numbers = []
    for across, down, point in places:
        wide = 7 * len(str(point.number))
        for box in _boxes(across, down, wide):
            if not any(_overlap(box, other) for other in taken):
                taken.append(box)
                numbers.append(label(box[0], box[3] - 1, str(point.number), "on"))
                break
    return marks + "".join(numbers)


def _boxes(across: float, down: float, wide: float) -> Iterable[_Box]:
    """Places for a number of that width around a mark, the best first: left, top, right, bottom."""
    for left, top in ((6, -5), (-wide / 2, -17), (-wide / 2, 6), (-wide - 6, -5), (5, -15), (5, 4)):
        yield across + left, down + top, across + left + wide, down + top + 11


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
