r"""Comma-separated values: a result for spreadsheets, data frames and statistics.

An audit gives a row a finding and a row a simulated attack, told apart by the column ``kind``: ``finding``, ``trial``,
``unread`` (a layer that could not be read) and ``failed`` (a model that could not be audited). An inspection gives a
row a layer, a conversion a row a layer that was traced, an attack a row a step and layer, the list of attacks a row an
attack. A scan gives a row a model and finding (``finding``), a row a model without any (``none``), and rows for what
was not read: ``unread``, ``failed`` and, with their count, ``skipped``. An evaluation gives a row a scheme,
modification and value (``point``), a row a network and payload (``pair``), and a row a scheme that does not apply. The
columns of a kind of document are always the same, in the same order; an empty cell is a figure that there is not.

Names in a model are the attacker's to choose, and a spreadsheet computes text that looks like a formula. So a cell *of
text* that starts with ``= + - @``, their full-width forms, a tab or a line break gets an apostrophe in front, which
spreadsheets take for "text" and other readers must strip; control characters are shown as ``\xNN``. Numbers are never
touched.
"""

from __future__ import annotations

import csv
from io import StringIO
from typing import Any, Final

from onnxmark.report.formats import Document, Kind
from onnxmark.report.rows.evaluation import EVALUATION
from onnxmark.report.rows.findings import AUDIT, SCAN
from onnxmark.report.rows.layers import ATTACK, ATTACKS, CONVERSION, INSPECT
from onnxmark.report.text import plain

_TABLES: Final = {
    Kind.AUDIT: AUDIT,
    Kind.ATTACK: ATTACK,
    Kind.ATTACKS: ATTACKS,
    Kind.INSPECT: INSPECT,
    Kind.SCAN: SCAN,
    Kind.CONVERSION: CONVERSION,
    Kind.EVALUATION: EVALUATION,
}

MAX_CELL: Final = 32_000
"""Characters of a cell of text; a spreadsheet holds 32,767."""

_FORMULA: Final = tuple("=+-@＝＋－＠\t\r\n")


def to_csv(document: Document) -> str:
    """A document as a table with one header line, comma-separated, lines ending in a newline."""
    table = _TABLES[document["schema"]]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    for row in table.rows(document):
        writer.writerow([_cell(row.get(column)) for column in table.columns])
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return repr(value)
    guard = "'" if value.startswith(_FORMULA) else ""
    return guard + plain(value, MAX_CELL)
