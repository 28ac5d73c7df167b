"""What a report says, before any format draws it: one small vocabulary of frozen parts.

A page function turns a document into a :class:`Page`; a renderer turns a page into a terminal, a web page or Markdown.
Neither knows the other, so a new document needs no new renderer and a new format no new page.

Strings are raw: names in a model are the attacker's to choose, and making them harmless is the work of each renderer,
which has one door for text. Meaning is never colour alone: a tone always comes with a word or a shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from onnxmark.report.charts import LineCharts


class Tone(StrEnum):
    """What a piece of text means to its reader."""

    GOOD = "good"
    BAD = "bad"
    DOUBT = "doubt"
    NEUTRAL = "neutral"


SIGNS: Final = {Tone.GOOD: "✓", Tone.BAD: "✗", Tone.DOUBT: "?", Tone.NEUTRAL: "•"}
"""The shape that goes with a tone."""


@dataclass(frozen=True, slots=True)
class Headline:
    """The result in a word and a sentence, and what must be read with it.

    Args:
        word: ``MATCH``.
        text: One sentence.
        tone: Of both.
        notes: What qualifies the result: its coverage, its standing.
    """

    word: str
    text: str
    tone: Tone = Tone.NEUTRAL
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and what it is.

    Args:
        name: A word or two of ours.
        text: Anything.
        tone: Of the text.
        literal: The text is quoted from a file (a path, a digest, a layer's name) and set as such.
        note: Ours, after the text.
    """

    name: str
    text: str
    note: str = ""
    tone: Tone = Tone.NEUTRAL
    literal: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts, one below the other."""

    rows: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Notes:
    """Sentences, each of its own."""

    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """A length beside a boundary, both parts of the full width in [0, 1]."""

    length: float
    boundary: float


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Args:
        text: What it says; with a bar, the figure the bar stands for.
        tone: Of text and bar.
        literal: Quoted from a file, see :class:`Fact`.
        bar: Drawn beside the text where the format can draw.
        order: What the cell is sorted by, where its text does not tell.
    """

    text: str
    tone: Tone = Tone.NEUTRAL
    literal: bool = False
    bar: Bar | None = None
    order: float | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Args:
        title: Its heading.
        numeric: Set flush right.
        detail: Left out where there is little room.
    """

    title: str
    numeric: bool = False
    detail: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under columns; every row has as many cells as there are columns.

    Args:
        caption: What the table shows.
        columns: From left to right.
        rows: From top to bottom; the first cell of a row names it.
        note: How to read it.
        sortable: May be long: its reader can sort and search it, where the format can be used and not only read.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    sortable: bool = False

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.caption!r} has {len(self.columns)} columns and a row of {len(row)}")


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values lie in each bin, below and above 0.

    Args:
        title: What is counted.
        edges: Ends of the bins, one more than counts, ascending.
        counts: Values in each bin.
        axis: What the values are, with their unit.
        below: What a value below 0 means.
        above: What a value above 0 means.
        summary: The same in words.
    """

    title: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    axis: str
    below: str
    above: str
    summary: str

    def __post_init__(self) -> None:
        if len(self.edges) != len(self.counts) + 1:
            raise ValueError(f"{len(self.counts)} bins have {len(self.edges)} edges, expected one more than bins")


@dataclass(frozen=True, slots=True)
class BitMap:
    """Every bit of a message in order, right or wrong, and how strongly it is read.

    Args:
        title: What is shown.
        margins: Signed margin of each bit: positive is right, and the larger the surer.
        summary: The same in words.
    """

    title: str
    margins: tuple[float, ...]
    summary: str


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A point of a survival curve.

    Args:
        tick: Index of its tick.
        worst: Evidence left in the worst draw.
        best: Evidence left in the best draw; equal to ``worst`` where nothing is random.
        tone: Of the verdict.
        label: What was tried and what came of it.
    """

    tick: int
    worst: float
    best: float
    tone: Tone
    label: str


@dataclass(frozen=True, slots=True)
class Series:
    """One curve of a panel, in the order of its ticks."""

    label: str
    points: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """The curves of one attack.

    Args:
        title: The attack.
        axis: What the ticks say, with their unit.
        ticks: Strengths tried, weakest first; steps are not to scale.
        series: One for each variant of the attack.
    """

    title: str
    axis: str
    ticks: tuple[str, ...]
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Curves:
    """Survival curves: the evidence left after attacks of growing strength, a panel for each attack.

    Args:
        title: What is shown.
        panels: All to the same vertical scale.
        axis: What the height is, with its unit.
        boundary: Height at and above which the verdict is a match.
        note: How to read it.
    """

    title: str
    panels: tuple[Panel, ...]
    axis: str
    boundary: float
    note: str


@dataclass(frozen=True, slots=True)
class PlanePoint:
    """One trial between fidelity and robustness.

    Args:
        number: Of the trial in the table of trials.
        loss: What the model lost.
        evidence: What the mark kept.
        tone: Of the verdict.
        label: The attack.
    """

    number: int
    loss: float
    evidence: float
    tone: Tone
    label: str


@dataclass(frozen=True, slots=True)
class Plane:
    """What attacks cost the model (to the right) and what they left of the mark (upwards).

    Args:
        title: What is shown.
        points: One for each trial whose fidelity was measured.
        loss_axis: What the loss is, with its unit.
        evidence_axis: What the height is, with its unit.
        boundary: Height at and above which the verdict is a match.
        percent: The loss is a share, written in percent.
        note: How to read it.
    """

    title: str
    points: tuple[PlanePoint, ...]
    loss_axis: str
    evidence_axis: str
    boundary: float
    percent: bool
    note: str


Part = Facts | Notes | Table | Histogram | BitMap | Curves | Plane | LineCharts


@dataclass(frozen=True, slots=True)
class Section:
    """Parts under a heading, and sections below it.

    Args:
        title: The heading.
        parts: What it says.
        sections: Subsections.
        badge: A verdict shown beside the heading.
        detail: Folded away, or left out where that cannot be done.
    """

    title: str
    parts: tuple[Part, ...] = ()
    sections: tuple[Section, ...] = ()
    badge: Cell | None = None
    detail: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report.

    Args:
        kind: What was done: ``audit``.
        title: What it was done to, quoted: a path.
        subtitle: Facts about that in a line.
        headline: The result.
        sections: Everything else.
        colophon: What made the report, and from what.
    """

    kind: str
    title: str
    subtitle: str
    headline: Headline
    sections: tuple[Section, ...]
    colophon: str
