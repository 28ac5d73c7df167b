"""A page at a terminal, whatever its width and colours.

Text enters rich as :class:`rich.text.Text` made by :func:`_text` and never as a string, so no name is read as markup
and none carries an escape sequence. Charts of lines and points are left to formats that can draw: the tables beside
them have the same figures. Details are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table as Grid
from rich.text import Text

from onnxmark.report import blocks
from onnxmark.report.charts import LineCharts
from onnxmark.report.page import (
    SIGNS,
    Bar,
    BitMap,
    Cell,
    Curves,
    Fact,
    Facts,
    Headline,
    Histogram,
    Notes,
    Page,
    Part,
    Plane,
    Section,
    Table,
    Tone,
)
from onnxmark.report.text import MAX_TEXT, plain

_STYLES: Final = {Tone.GOOD: "green", Tone.BAD: "red", Tone.DOUBT: "yellow", Tone.NEUTRAL: ""}
_HISTOGRAM_ROWS: Final = 4
_MOST_BITS: Final = 1024
_WHOLE: Final = 34
_TIGHT: Final = 14
"""A column whose cells are no longer than this is not broken into lines, where there is room and where there is not."""
_ABREAST: Final = 50
"""From this width on the names of facts stand beside them."""

_INDENT: Final = (0, 0, 0, 2)
_FRAME: Final = 8
"""Columns that a frame and its padding take."""


def print_page(page: Page, console: Console) -> None:
    """Print a page."""
    subtitle = f"  {page.subtitle}" if page.subtitle else ""
    console.print(Text.assemble(_text(f"{page.kind}  ", "dim"), _text(page.title, "bold"), _text(subtitle, "dim")))
    console.print(_headline(page.headline))
    for section in page.sections:
        if not section.detail:
            console.print(_top(section, console.width))


def _headline(headline: Headline) -> RenderableType:
    style = _STYLES[headline.tone]
    word = _text(_signed(headline.word, headline.tone), f"bold {style}".strip())
    notes = (_text(f"  {note}", "dim") for note in headline.notes)
    return Group(Text.assemble(word, "  ", _text(headline.text)), *notes)


def _top(section: Section, width: int) -> RenderableType:
    """A section of the page: in a frame where it bears a verdict, else below its heading."""
    if section.badge is None:
        return Group(Text(""), _text(section.title, "bold"), Padding(_body(section, width - 2), _INDENT, expand=False))
    style = _STYLES[section.badge.tone]
    title = Text.assemble(_text(f" {section.badge.text} ", f"bold {style}".strip()), _text(f"{section.title} "))
    body = _body(section, width - _FRAME)
    return Panel(body, title=title, title_align="left", border_style=style or "none", padding=(1, 2))


def _body(section: Section, width: int) -> RenderableType:
    below = (
        Group(Text(""), _text(one.title, "bold"), Padding(_body(one, width - 2), _INDENT, expand=False))
        for one in section.sections
        if not one.detail
    )
    return Group(*(drawn for part in section.parts for drawn in _part(part, width)), *below)


def _part(part: Part, width: int) -> tuple[RenderableType, ...]:
    """What is printed of a part; nothing of what needs a drawing."""
    match part:
        case Facts():
            return (_facts(part) if width >= _ABREAST else _facts_below(part),)
        case Notes():
            return tuple(_note(sentence) for sentence in part.sentences)
        case Table():
            note = (_text(part.note, "dim"),) if part.note else ()
            return (Text(""), _text(part.caption, "bold"), _table(part, width), *note)
        case Histogram():
            return (_histogram(part),)
        case BitMap():
            return (_bit_map(part),)
        case Curves() | Plane() | LineCharts():
            return ()


def _note(sentence: str) -> RenderableType:
    grid = Grid.grid(padding=(0, 1))
    grid.add_row(Text("•", style="dim"), _text(sentence))
    return grid


def _facts(facts: Facts) -> RenderableType:
    grid = Grid.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    before = None
    for fact in facts.rows:
        grid.add_row(_text("" if fact.name == before else fact.name), _fact(fact))
        before = fact.name
    return grid


def _facts_below(facts: Facts) -> RenderableType:
    return Group(*(Text.assemble(_text(f"{fact.name}: ", "dim"), _fact(fact)) for fact in facts.rows))


def _fact(fact: Fact) -> Text:
    note = f"  ({fact.note})" if fact.note else ""
    return Text.assemble(_text(fact.text, _STYLES[fact.tone]), _text(note))


def _table(table: Table, width: int) -> RenderableType:
    grid = Grid(box=None, padding=(0, 1, 0, 0), header_style="dim")
    shown = _fitting(table, width)
    longest = _WHOLE if _width(table, shown) <= width else _TIGHT
    for index in shown:
        column = table.columns[index]
        whole = _need(table, index) <= longest and not _drawn(table, index)
        grid.add_column(
            _text(column.title), justify="right" if column.numeric else "left", no_wrap=whole, overflow="fold"
        )
    for row in table.rows:
        grid.add_row(*(_cell(row[index]) for index in shown))
    return grid


def _fitting(table: Table, width: int) -> Sequence[int]:
    """Indices of the columns to show: those that are details go, the last first, until the others have room."""
    shown = list(range(len(table.columns)))
    for index in reversed(range(len(table.columns))):
        if table.columns[index].detail and _width(table, shown) > width:
            shown.remove(index)
    return shown


def _width(table: Table, shown: Sequence[int]) -> int:
    return sum(_need(table, index) + 1 for index in shown)


def _need(table: Table, index: int) -> int:
    """Columns of the terminal that a column would like to have."""
    longest = max((len(_words(row[index])) for row in table.rows), default=0)
    return max(longest, len(table.columns[index].title)) + (_BarAndFigure.least if _drawn(table, index) else 0)


def _drawn(table: Table, index: int) -> bool:
    return any(row[index].bar is not None for row in table.rows)


def _cell(cell: Cell) -> RenderableType:
    if cell.bar is not None:
        return _BarAndFigure(cell.bar, plain(cell.text, 12), _STYLES[cell.tone])
    return _text(_words(cell), _STYLES[cell.tone])


def _words(cell: Cell) -> str:
    return _signed(cell.text, cell.tone) if cell.text and cell.bar is None else cell.text


class _BarAndFigure:
    """A bar as wide as the table lets it be, and its figure flush right behind it."""

    least: Final = 8
    most: Final = 40

    def __init__(self, bar: Bar, figure: str, style: str) -> None:
        self._bar = bar
        self._figure = figure.rjust(6)
        self._style = style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(options.max_width - len(self._figure), 1)
        drawn = Text(blocks.bar(self._bar, width), style=self._style)
        drawn.highlight_regex("│", "bold default")
        yield Text.assemble(drawn, self._figure)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(self.least + len(self._figure), self.most + len(self._figure))


def _histogram(chart: Histogram) -> RenderableType:
    zero = blocks.BIN * blocks.below_zero(chart)
    lines = [
        Text.assemble((line[:zero], _STYLES[Tone.BAD]), (line[zero:], _STYLES[Tone.GOOD]))
        for line in blocks.columns(chart.counts, _HISTOGRAM_ROWS)
    ]
    return Group(*lines, *(_text(line, "dim") for line in blocks.axis(chart)), _text(chart.summary))


def _bit_map(chart: BitMap) -> RenderableType:
    if len(chart.margins) > _MOST_BITS:
        return Group()
    lines = [Text(line) for line in blocks.bits(chart.margins)]
    for line in lines:
        line.highlight_regex(blocks.WRONG, f"bold {_STYLES[Tone.BAD]}")
    return Group(Text(""), _text(f"{chart.title}: {chart.summary}  ({blocks.BIT_LEGEND})"), *lines)


def _signed(words: str, tone: Tone) -> str:
    return words if tone is Tone.NEUTRAL else f"{SIGNS[tone]} {words}"


def _text(words: str, style: str = "") -> Text:
    """The one door through which a string reaches the terminal."""
    return Text(plain(words, MAX_TEXT), style=style)
