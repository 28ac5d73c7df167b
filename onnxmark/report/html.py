"""A page as one self-contained web page: readable without scripts, fonts or anything else from elsewhere.

A content security policy allows the page's own style block and nothing more, or one script of ours where there is a
table to sort; every string passes through :func:`onnxmark.report.markup.text`. The same page gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from onnxmark.report import lines, svg
from onnxmark.report.charts import LineCharts
from onnxmark.report.markup import element, text, void
from onnxmark.report.page import (
    SIGNS,
    BitMap,
    Cell,
    Column,
    Curves,
    Fact,
    Facts,
    Headline,
    Histogram,
    Notes,
    Page,
    Panel,
    Part,
    Plane,
    Section,
    Table,
    Tone,
)
from onnxmark.report.script import script
from onnxmark.report.stylesheet import digest, stylesheet

_LOWEST_HEADING: Final = 6
_MARGINS_A_LINE: Final = 16
_SHAPES: Final = ((Tone.GOOD, "match"), (Tone.BAD, "no match"), (Tone.DOUBT, "inconclusive"))


def to_html(page: Page) -> str:
    """The page as HTML, complete, in UTF-8."""
    body = element("main", "\n".join((_header(page), *(_section(one, 2) for one in page.sections), _footer(page))))
    code = script() if any(map(_has_sortable, page.sections)) else ""
    if code:
        body += element("script", code)
    return f'<!DOCTYPE html>\n<html lang="en">\n{_head(page, code)}\n{element("body", body)}\n</html>\n'


def _has_sortable(section: Section) -> bool:
    own = any(isinstance(part, Table) and part.sortable for part in section.parts)
    return own or any(map(_has_sortable, section.sections))


def _head(page: Page, code: str) -> str:
    style = stylesheet()
    allowed = f"style-src '{digest(style)}'" + (f"; script-src '{digest(code)}'" if code else "")
    policy = f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
    return element(
        "head",
        void("meta", charset="utf-8")
        + void("meta", http_equiv="Content-Security-Policy", content=policy)
        + void("meta", name="viewport", content="width=device-width, initial-scale=1")
        + void("meta", name="referrer", content="no-referrer")
        + element("title", text(f"{page.headline.word} – {page.kind} – {page.title}"))
        + element("style", style),
    )


def _header(page: Page) -> str:
    return element(
        "header",
        element("p", text(f"onnxmark {page.kind}"), class_="kind")
        + element("h1", text(page.title))
        + (element("p", text(page.subtitle), class_="sub") if page.subtitle else "")
        + _headline(page.headline),
    )


def _headline(headline: Headline) -> str:
    word = element("strong", _signed(headline.word, headline.tone), class_=_tone(headline.tone))
    notes = "".join(element("p", text(note), class_="note") for note in headline.notes)
    return element("div", f"{word}{element('p', text(headline.text))}{notes}", class_=f"result {_tone(headline.tone)}")


def _footer(page: Page) -> str:
    return element("footer", text(page.colophon))


def _section(section: Section, level: int) -> str:
    badge = section.badge
    shown = "" if badge is None else " " + element("span", text(badge.text), class_=f"badge {_tone(badge.tone)}")
    heading = element(f"h{min(level, _LOWEST_HEADING)}", text(section.title) + shown)
    body = _parts(section.parts, level + 1) + "".join(_section(one, level + 1) for one in section.sections)
    if section.detail:
        return element("section", element("details", element("summary", heading) + body))
    return element("section", heading + body)


def _parts(parts: Sequence[Part], level: int) -> str:
    """Parts one after the other; the drawings of a message stand side by side where there is room."""
    drawn = [_part(part, level) for part in parts]
    if len(parts) > 1 and all(isinstance(part, Histogram | BitMap) for part in parts):
        return element("div", "".join(drawn), class_="fig")
    return "\n".join(drawn)


def _part(part: Part, level: int) -> str:
    match part:
        case Facts():
            return _facts(part)
        case Notes():
            return element("ul", "".join(element("li", text(sentence)) for sentence in part.sentences))
        case Table():
            return _table(part)
        case Histogram():
            return _figure(part.title, part.summary, _drawn(svg.histogram(part)) + _bins(part))
        case BitMap():
            note = f"{part.summary}. A square is a bit read right, larger the surer; a cross is one read wrong."
            return _figure(part.title, note, _drawn(svg.bit_map(part)) + _margins(part))
        case Curves():
            return _curves(part, level)
        case Plane():
            return _figure(part.title, part.note, _key() + _drawn(svg.plane(part)))
        case LineCharts():
            return _line_charts(part)


def _facts(facts: Facts) -> str:
    """A name that repeats the one above is not said again."""
    names = [fact.name for fact in facts.rows]
    return element(
        "dl",
        "".join(
            ("" if name == before else element("dt", text(name))) + _fact(fact)
            for before, name, fact in zip([None, *names], names, facts.rows, strict=False)
        ),
    )


def _fact(fact: Fact) -> str:
    shown = _text(fact.text, literal=fact.literal)
    note = element("span", text(f" ({fact.note})"), class_="note") if fact.note else ""
    return element("dd", shown + note, class_=_tone(fact.tone))


def _table(table: Table) -> str:
    head = "".join(element("th", text(column.title), scope="col") for column in table.columns)
    rows = "\n".join(_row(row, ordered=table.sortable) for row in table.rows)
    classes = [f"n{index}" for index, column in enumerate(table.columns, start=1) if column.numeric]
    drawn = element(
        "table",
        element("caption", text(table.caption))
        + element("thead", element("tr", head))
        + element("tbody", f"\n{rows}\n" if rows else ""),
        class_=" ".join([*(["sort"] if table.sortable else []), *classes]),
    )
    note = element("p", text(table.note), class_="note") if table.note else ""
    return element("div", drawn, class_="scroll", role="region", tabindex="0", aria_label=table.caption) + note


def _row(row: Sequence[Cell], *, ordered: bool) -> str:
    first, *others = row
    head = element("th", _cell(first), scope="row", data_order=_order(first) if ordered else "")
    return element("tr", head + "".join(_data(cell, _order(cell) if ordered else "") for cell in others))


def _data(cell: Cell, order: str) -> str:
    toned = cell.bar is None and bool(cell.text)
    classes = "bar" if cell.bar else _tone(cell.tone) if toned else ""
    return element("td", _cell(cell), class_=classes, data_order=order)


def _order(cell: Cell) -> str:
    """What the script sorts a cell by; nothing where its text will do."""
    return "" if cell.order is None else repr(cell.order)


def _cell(cell: Cell) -> str:
    if cell.bar is not None:
        return svg.bar(cell.bar, cell.tone) + text(cell.text)
    if cell.tone is not Tone.NEUTRAL and cell.text:
        return _signed(cell.text, cell.tone)
    return _text(cell.text, literal=cell.literal)


def _curves(curves: Curves, level: int) -> str:
    panels = "".join(_panel(panel, curves, min(level, _LOWEST_HEADING)) for panel in curves.panels)
    caption = f"Height: {curves.axis} (square-root scale). {curves.note}"
    return _figure(curves.title, caption, _key() + element("div", panels, class_="many"))


def _panel(panel: Panel, curves: Curves, level: int) -> str:
    heading = element(f"h{level}", text(panel.title))
    lines = "".join(element("li", svg.dash(index) + text(series.label)) for index, series in enumerate(panel.series))
    key = element("ul", lines, class_="key") if len(panel.series) > 1 else ""
    return element("div", heading + _drawn(svg.panel(panel, curves)) + key)


def _line_charts(part: LineCharts) -> str:
    """The charts side by side where there is room, under one key."""
    drawn = {line.subject for chart in part.charts for line in chart.lines}
    named = [(index, name) for index, name in enumerate(part.subjects) if index in drawn]
    key = element("ul", "".join(element("li", lines.sample(index) + text(name)) for index, name in named), class_="key")
    charts = "".join(_drawn(lines.line_chart(chart, part.subjects)) for chart in part.charts)
    return _figure(part.title, part.note, key + element("div", charts, class_="fig"))


def _key() -> str:
    """What the shapes of points mean."""
    return element("ul", "".join(element("li", svg.sign(tone) + word) for tone, word in _SHAPES), class_="key")


def _figure(title: str, note: str, drawing: str) -> str:
    caption = element("figcaption", element("b", text(title)) + element("span", text(note), class_="note"))
    return element("figure", caption + drawing)


def _drawn(drawing: str) -> str:
    return element("div", drawing, class_="draw")


def _bins(histogram: Histogram) -> str:
    """The same figures for those who cannot see the drawing."""
    rows = tuple(
        (Cell(f"{low:.2f} to {high:.2f}"), Cell(str(count)))
        for low, high, count in zip(histogram.edges, histogram.edges[1:], histogram.counts, strict=False)
        if count
    )
    columns = (Column(histogram.axis), Column("bits", numeric=True))
    return _folded("As a table", _table(Table(histogram.title, columns, rows)))


def _margins(bit_map: BitMap) -> str:
    lines = []
    for start in range(0, min(len(bit_map.margins), svg.MAX_BITS), _MARGINS_A_LINE):
        figures = " ".join(f"{margin:+.2f}" for margin in bit_map.margins[start : start + _MARGINS_A_LINE])
        lines.append(f"{start:5d}  {figures}")
    return _folded("As figures: the margin of each bit", element("pre", "\n".join(lines), tabindex="0"))


def _folded(title: str, body: str) -> str:
    return element("details", element("summary", text(title)) + body)


def _text(words: str, *, literal: bool) -> str:
    return element("span", text(words), class_="lit") if literal else text(words)


def _signed(words: str, tone: Tone) -> str:
    """Words with the shape of their tone, which a screen reader need not read."""
    if tone is Tone.NEUTRAL:
        return text(words)
    return f"{element('span', SIGNS[tone], aria_hidden='true')} {text(words)}"


def _tone(tone: Tone) -> str:
    return "" if tone is Tone.NEUTRAL else str(tone)
