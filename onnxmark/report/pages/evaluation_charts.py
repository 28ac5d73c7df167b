"""Two charts of a modification to one axis: what becomes of the mark, and what becomes of the network meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from onnxmark.report.charts import Estimate, Level, Line, LineChart, LineCharts
from onnxmark.report.formats import Document
from onnxmark.report.pages.evaluation_words import (
    Measured,
    metric_of,
    modification_of,
    parameter_of,
    points_of,
    scheme_of,
    value_of,
)
from onnxmark.report.pages.figures import rate, score
from onnxmark.report.scales import spread

_USUAL: Final = 0.6
"""Upper end of the scale of symbol error rates; above it lies only a decoder that is wrong on purpose."""

_GUESSING: Final = "guessing"
_NOTE: Final = "Means with their 95 % confidence limits. Values as tried; steps are not to scale."


@dataclass(frozen=True, slots=True)
class _Quantity:
    """What is drawn upwards.

    Args:
        field: Its mean in a point of the document.
        words: What it is called.
        text: Writes a value.
        level: What guessing gives, where that is known.
        scale: Lower and upper end, from all that is drawn; something is.
    """

    field: str
    words: str
    text: Callable[[float], str]
    level: Level | None
    scale: Callable[[Sequence[Estimate]], tuple[float, float]]


def charts_of(entry: Document, plan: Document, schemes: Sequence[Document]) -> tuple[LineCharts, ...]:
    """The charts of one modification; none where no symbol was decoded.

    Args:
        entry: The modification, as any scheme has it.
        plan: Of the document.
        schemes: Those that apply; each has its line.
    """
    points = points_of(schemes, entry["modification"])
    charts = tuple(_chart(quantity, entry, points) for quantity in _quantities(plan, schemes))
    if not charts[0].lines:
        return ()
    title = f"{modification_of(entry)}: what is left of the mark, and of the network"
    return (LineCharts(title, tuple(map(scheme_of, schemes)), tuple(chart for chart in charts if chart.lines), _NOTE),)


def _quantities(plan: Document, schemes: Sequence[Document]) -> tuple[_Quantity, _Quantity]:
    guessed = {scheme["guessing"] for scheme in schemes}
    blind = Level(guessed.pop(), _GUESSING) if len(guessed) == 1 else None
    metric, classes = metric_of(plan), plan["task"]["n_classes"]
    by_chance = Level(1 / classes, _GUESSING) if metric == "accuracy" and classes > 0 else None
    return (
        _Quantity("symbol_error_rate", "symbol error rate", rate, blind, _of_rates),
        _Quantity("score", f"{metric} of the marked networks", score, by_chance, _of_scores),
    )


def _of_rates(estimates: Sequence[Estimate]) -> tuple[float, float]:
    return 0.0, _USUAL if max(one.high for one in estimates) <= _USUAL else 1.0


def _of_scores(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """From 0 to 1 for a share, such as an accuracy: its limits may lie beyond, and are cut there."""
    means = [one.mean for one in estimates]
    return spread(means, 1.0 if min(means) >= 0 else 1e-6)


def _chart(quantity: _Quantity, entry: Document, points: Sequence[Measured]) -> LineChart:
    values = _values(points)
    drawn = [one for one in points if one.point[quantity.field] is not None and one.point["value"] is not None]
    lines = tuple(_line(subject, quantity, values, drawn) for subject in dict.fromkeys(one.subject for one in drawn))
    low, high = quantity.scale([one for line in lines for one in line.estimates]) if lines else (0.0, 1.0)
    return LineChart(
        f"{modification_of(entry)}: {quantity.words}",
        quantity.words,
        parameter_of(entry),
        tuple(f"{value:g}" for value in values),
        high,
        lines,
        quantity.level,
        low,
    )


def _values(points: Sequence[Measured]) -> list[float]:
    """Every value, in the order of the fullest grid: that of a scheme may have gaps."""
    grids: dict[int, list[float]] = {}
    for one in points:
        if one.point["value"] is not None:
            grids.setdefault(one.subject, []).append(one.point["value"])
    return list(dict.fromkeys(value for grid in sorted(grids.values(), key=len, reverse=True) for value in grid))


def _line(subject: int, quantity: _Quantity, values: Sequence[float], drawn: Sequence[Measured]) -> Line:
    own = sorted((one for one in drawn if one.subject == subject), key=lambda one: values.index(one.point["value"]))
    return Line(subject, tuple(_estimate(quantity, values.index(one.point["value"]), one) for one in own))


def _estimate(quantity: _Quantity, tick: int, measured: Measured) -> Estimate:
    found = measured.point[quantity.field]
    mean = found["mean"]
    low, high = (mean if found[limit] is None else found[limit] for limit in ("low", "high"))
    return Estimate(tick, mean, low, high, f"{quantity.text(mean)} at {value_of(measured.point)}")
