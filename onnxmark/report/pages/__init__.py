"""From a document to its page: the only code of the reports that knows what documents look like.

A page function is pure. Fields that came after the first documents of a version may be missing from a saved one.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

from onnxmark.errors import ReportError
from onnxmark.report.formats import Document
from onnxmark.report.page import Page

_MODULES: Final = {
    "onnxmark/audit/v1": ("audit", "audit_page"),
    "onnxmark/attack/v1": ("attack", "attack_page"),
    "onnxmark/attacks/v1": ("attack", "attacks_page"),
    "onnxmark/marking/v1": ("marking", "marking_page"),
    "onnxmark/inspect/v1": ("inspect", "inspect_page"),
    "onnxmark/scan/v1": ("scan", "scan_page"),
    "onnxmark/key/v1": ("key", "key_page"),
    "onnxmark/conversion/v1": ("conversion", "conversion_page"),
    "onnxmark/evaluation/v1": ("evaluation", "evaluation_page"),
}


def page_of(document: Document) -> Page:
    """The page of a document.

    Args:
        document: Of a schema and structure this version knows.

    Raises:
        ReportError: Its schema has no page.
    """
    schema = document.get("schema")
    if not isinstance(schema, str) or schema not in _MODULES:
        raise ReportError(f"no report for a document of schema {schema!r}; known are {', '.join(_MODULES)}")
    module, function = _MODULES[schema]
    page: Page = getattr(import_module(f"{__name__}.{module}"), function)(document)
    return page
