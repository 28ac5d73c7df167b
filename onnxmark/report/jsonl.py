"""JSON Lines: a result for tools that read one record a line (jq, BigQuery, log collectors).

A line is the document with its list replaced by one entry of it, so that each line stands alone: the model and policy
of an audit are beside every finding. The other lists of a scan may be as long as its entries: beside each entry stand
their lengths. What an evaluation has for programs of NNT is left to JSON. A document without entries (a key, a marking,
an audit that failed) is one line.
"""

from __future__ import annotations

import json
from typing import Final

from onnxmark.report.formats import Document, Kind

_ENTRIES: Final = {
    Kind.AUDIT: ("findings", "finding"),
    Kind.ATTACK: ("steps", "step"),
    Kind.ATTACKS: ("attacks", "attack"),
    Kind.INSPECT: ("models", "model"),
    Kind.SCAN: ("entries", "entry"),
    Kind.CONVERSION: ("layers", "layer"),
    Kind.EVALUATION: ("schemes", "scheme"),
}
_EXCHANGED: Final = "nnt"
_OF_SCAN: Final = ("schema", "tool", "status", "verdict", "roots", "policy", "summary")


def to_jsonl(document: Document) -> str:
    """A document as JSON Lines, ASCII, one entry a line."""
    return "".join(json.dumps(line, ensure_ascii=True, allow_nan=False) + "\n" for line in _lines(document))


def _lines(document: Document) -> list[Document]:
    entries, entry = _ENTRIES.get(document["schema"], ("", ""))
    if not document.get(entries):
        return [document]
    if document["schema"] == Kind.SCAN:
        around = {name: document[name] for name in _OF_SCAN} | {"coverage": _counts(document["coverage"])}
    else:
        around = {name: value for name, value in document.items() if name not in (entries, _EXCHANGED)}
    return [{**around, entry: found} for found in document[entries]]


def _counts(coverage: Document) -> Document:
    skipped = sum(one["count"] for one in coverage["skipped"])
    return {**coverage, "skipped": skipped, "failed": len(coverage["failed"])}
