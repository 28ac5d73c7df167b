"""Line charts before any format draws them: quantities against a parameter, a line for each subject that is compared.

Parts of a page like those of :mod:`onnxmark.report.page`, without any verdict: a height here is a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its confidence limits, at one tick of a chart.

    Args:
        tick: Index of its tick.
        mean: The height.
        low: Lower limit; equal to the mean where there is none.
        high: Upper limit; likewise.
        label: The same in words.
    """

    tick: int
    mean: float
    low: float
    high: float
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """How one subject answers, in the order of the ticks.

    Args:
        subject: Index among the subjects of all charts of a page: it looks the same in each of them.
        estimates: Nothing where nothing was measured.
    """

    subject: int
    estimates: tuple[Estimate, ...]


@dataclass(frozen=True, slots=True)
class Level:
    """A height that means something by itself."""

    height: float
    words: str


@dataclass(frozen=True, slots=True)
class LineChart:
    """One quantity against one parameter.

    Args:
        title: What is shown.
        quantity: What the height is.
        axis: What the ticks say, with their unit.
        ticks: Values of the parameter, weakest first; steps are not to scale.
        top: Height at the upper end of the scale, which begins at ``bottom``.
        lines: One for each subject that was measured.
        level: Drawn across, or None.
        bottom: Height at the lower end.
    """

    title: str
    quantity: str
    axis: str
    ticks: tuple[str, ...]
    top: float
    lines: tuple[Line, ...]
    level: Level | None = None
    bottom: float = 0.0


@dataclass(frozen=True, slots=True)
class LineCharts:
    """Charts side by side that share their subjects.

    Args:
        title: What is shown.
        subjects: Names, in the order of their indices.
        charts: From left to right.
        note: How to read them.
    """

    title: str
    subjects: tuple[str, ...]
    charts: tuple[LineChart, ...]
    note: str
