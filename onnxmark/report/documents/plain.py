"""Figures and texts of documents as JSON takes them."""

from __future__ import annotations

import json
import math

from onnxmark import __version__
from onnxmark.report.formats import Document, Kind


def head(kind: Kind) -> Document:
    """What every document begins with: its schema, and what made it."""
    return {"schema": kind.value, "tool": {"name": "onnxmark", "version": __version__}}


def to_json(document: Document) -> str:
    """A document as JSON text, indented, keys in the order they were written, ending in a newline."""
    return json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def probability(log10_p: float) -> float:
    """A probability from its logarithm; one too small for a double is shown as the smallest double, never as 0."""
    return max(math.pow(10.0, log10_p), 5e-324)


def finite(value: float) -> float | None:
    """The value, or None where JSON has no word for it."""
    return value if math.isfinite(value) else None
