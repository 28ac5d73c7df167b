"""A page as GitHub-flavoured Markdown, for issues, pull requests and README files.

Names from a model cannot become markup: characters that could are written as entities, which no Markdown reads as
structure, and quoted names stand in code spans where they can. Addresses and mentions are broken so that nothing turns
them into links. Drawings that need more than characters are left out; the table of trials has the same figures.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from onnxmark.report import blocks
from onnxmark.report.charts import LineCharts
from onnxmark.report.page import (
    SIGNS,
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

_LOWEST_HEADING: Final = 6
_HISTOGRAM_ROWS: Final = 4
_MOST_BITS: Final = 4096
_ENTITIES: Final = {ord(character): f"&#{ord(character)};" for character in "\\`*_{}[]<>#|~&$"}
_LEADING: Final = re.compile(r"^(?:[-+=](?=[-+=\s]|$)|\d+(?=[.)](?:\s|$)))")
_BREAKABLE: Final = re.compile(r"(?<=@)(?=\w)|(?<=:)(?=/)|(?<=\b[wW]{3})(?=\.)")
_JOINER: Final = "\u2060"
"""Invisible and without effect on line breaks: what stands on either side is no address any more."""


def to_markdown(page: Page) -> str:
    """The page as Markdown, ending in a newline."""
    lines = [
        f"# onnxmark {text(page.kind)}: {_literal(page.title)}",
        text(page.subtitle),
        _headline(page.headline),
        *(block for section in page.sections for block in _section(section, 2)),
        f"---\n\n{text(page.colophon)}",
    ]
    return "\n\n".join(filter(None, lines)) + "\n"


def text(words: str) -> str:
    """A string as text that is nothing but text."""
    escaped = plain(words, MAX_TEXT).strip().translate(_ENTITIES)
    broken = _BREAKABLE.sub(_JOINER, escaped)
    return _LEADING.sub(lambda found: _first_as_entity(found.group()), broken)


def _first_as_entity(start: str) -> str:
    """A list or heading marker that is none: ``-`` and ``1`` as entities."""
    return f"&#{ord(start[0])};{start[1:]}"


def _literal(words: str) -> str:
    """A quoted string in a code span, which nothing reads as a link or a mention; as text where it cannot be in one."""
    shown = plain(words, MAX_TEXT).strip()
    return f"`{shown}`" if shown and not set(shown) & set("`|\\") else text(words)


def _headline(headline: Headline) -> str:
    lines = [f"**{_signed(headline.word, headline.tone)}**: {text(headline.text)}", *map(text, headline.notes)]
    return "\n>\n".join(f"> {line}" for line in lines)


def _section(section: Section, level: int) -> Iterable[str]:
    badge = "" if section.badge is None else f": {_signed(section.badge.text, section.badge.tone)}"
    yield f"{'#' * min(level, _LOWEST_HEADING)} {text(section.title)}{badge}"
    for part in section.parts:
        yield from _part(part)
    for below in section.sections:
        yield from _section(below, level + 1)


def _part(part: Part) -> tuple[str, ...]:
    match part:
        case Facts():
            return (_grid(("", ""), "ll", [(text(fact.name), _fact(fact)) for fact in part.rows]),)
        case Notes():
            return ("\n".join(f"- {text(sentence)}" for sentence in part.sentences),)
        case Table():
            return (f"**{text(part.caption)}**", _table(part), text(part.note))
        case Histogram():
            drawing = _drawing(blocks.histogram(part, _HISTOGRAM_ROWS))
            return (f"**{text(part.title)}**: {text(part.axis)}", drawing, text(part.summary))
        case BitMap():
            lines = blocks.bits(part.margins[:_MOST_BITS])
            return (f"**{text(part.title)}**: {text(part.summary)} ({blocks.BIT_LEGEND})", _drawing(lines))
        case Curves() | Plane() | LineCharts():
            return ()


def _fact(fact: Fact) -> str:
    shown = _literal(fact.text) if fact.literal else text(fact.text)
    return f"{shown} ({text(fact.note)})" if fact.note else shown


def _table(table: Table) -> str:
    titles = [text(column.title) for column in table.columns]
    aligned = "".join("r" if column.numeric else "l" for column in table.columns)
    return _grid(titles, aligned, [[_cell(cell) for cell in row] for row in table.rows])


def _grid(titles: Sequence[str], aligned: str, rows: Iterable[Sequence[str]]) -> str:
    rule = ["---:" if side == "r" else "---" for side in aligned]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, rule, *rows))


def _cell(cell: Cell) -> str:
    if cell.literal:
        return _literal(cell.text)
    return _signed(cell.text, cell.tone) if cell.text and cell.bar is None else text(cell.text)


def _signed(words: str, tone: Tone) -> str:
    return text(words) if tone is Tone.NEUTRAL else f"{SIGNS[tone]} {text(words)}"


def _drawing(lines: Iterable[str]) -> str:
    drawn = "\n".join(line.rstrip() for line in lines)
    return f"```text\n{drawn}\n```"
