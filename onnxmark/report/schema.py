"""The published JSON Schemas of our documents, and the check that a document follows its own.

The schemas are strict about what they name and say nothing of what they do not: a later version may add fields, and a
document that has them is still valid.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from onnxmark.errors import ReportError
from onnxmark.report.formats import Document, Kind
from onnxmark.report.render import kind_of
from onnxmark.report.validation import first_problem


def schema_text(kind: Kind) -> str:
    """The JSON Schema (draft 2020-12) of a kind of document, as it lies in the package."""
    return files("onnxmark.report").joinpath("schemas", f"{kind.word}-v1.json").read_text(encoding="utf-8")


@cache
def schema_of(kind: Kind) -> Document:
    """The same, parsed; not to be changed."""
    schema: Document = json.loads(schema_text(kind))
    return schema


def validate(document: Document) -> Kind:
    """Check a document against the schema it names.

    Returns:
        Its kind.

    Raises:
        ReportError: It names none of ours, or breaks it; the first place is named.
    """
    kind = kind_of(document)
    problem = first_problem(document, schema_of(kind))
    if problem is not None:
        raise ReportError(f"the document does not follow {kind.value}: {problem}")
    return kind
