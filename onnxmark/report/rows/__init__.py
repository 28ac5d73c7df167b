"""Results as tables: which columns each kind of document has, and its rows.

The columns of a kind are always the same, in the same order; a column that a row does not name is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from onnxmark.report.formats import Document

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """A kind of document as a table.

    Args:
        columns: Their names.
        rows: The rows of a document, by column; what is no column is left out.
    """

    columns: tuple[str, ...]
    rows: Callable[[Document], Iterator[Row]]
