"""JSON Lines: a result for tools that read one record a line (jq, BigQuery, log collectors).

A line is the document with its list replaced by one entry of it, so that each line stands alone: the model and policy
of an audit are beside every finding. A document without entries (a key, a marking, an audit that failed) is one line.
"""

from __future__ import annotations

import json
from typing import Any, Final

from onnxmark.report.formats import Kind

Document = dict[str, Any]

_ENTRIES: Final = {
    Kind.AUDIT: ("findings", "finding"),
    Kind.ATTACK: ("steps", "step"),
    Kind.ATTACKS: ("attacks", "attack"),
    Kind.INSPECT: ("models", "model"),
}


def to_jsonl(document: Document) -> str:
    """A document as JSON Lines, ASCII, one entry a line."""
    return "".join(json.dumps(line, ensure_ascii=True, allow_nan=False) + "\n" for line in _lines(document))


def _lines(document: Document) -> list[Document]:
    entries, entry = _ENTRIES.get(document["schema"], ("", ""))
    if not document.get(entries):
        return [document]
    around = {name: value for name, value in document.items() if name != entries}
    return [{**around, entry: found} for found in document[entries]]
