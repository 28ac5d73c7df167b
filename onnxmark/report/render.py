"""From a document and a form to text: the one place that knows every renderer.

Each renderer is imported when it is asked for: an audit read at a terminal does not pay for HTML. All are pure
functions of the document, so a saved document gives the bytes that the command itself would have written.
"""

from __future__ import annotations

from io import StringIO
from typing import Final

from onnxmark.errors import ReportError
from onnxmark.report.formats import Document, Format, Kind, require_fit
from onnxmark.report.text import plain

TEXT_WIDTH: Final = 110
"""Columns of the terminal report when it is written into a file."""


def kind_of(document: Document) -> Kind:
    """The kind of a document.

    Raises:
        ReportError: It names no schema of ours, or one of a newer version.
    """
    schema = document.get("schema")
    if not isinstance(schema, str):
        raise ReportError(f"not a document of onnxmark: it names no schema, expected one of {', '.join(Kind)}")
    if schema in set(Kind):
        return Kind(schema)
    shown = plain(schema, 60)
    if _is_newer(schema):
        raise ReportError(f"the document has schema {shown!r}, newer than this onnxmark reads; update onnxmark")
    raise ReportError(f"not a document of onnxmark: it names schema {shown!r}, expected one of {', '.join(Kind)}")


def render(document: Document, format_: Format) -> str:
    """A document as text.

    Args:
        document: A valid document; see :func:`onnxmark.report.schema.validate` for one of unknown origin.
        format_: The form. ``rich`` gives the terminal report without colour, 110 columns wide.

    Returns:
        Text that UTF-8 can encode, the same for the same document.

    Raises:
        ReportError: The document is none of ours, or has no such form.
    """
    require_fit(kind_of(document), format_)
    return _RENDERERS[format_](document)


def _is_newer(schema: str) -> bool:
    """Whether only the version is not ours: none but the present one was ever published."""
    name, _, version = schema.rpartition("/v")
    return version.isascii() and version.isdigit() and f"{name}/v1" in set(Kind)


def _rich(document: Document) -> str:
    from rich.console import Console

    from onnxmark.report.pages import page_of
    from onnxmark.report.terminal import print_page

    text = StringIO()
    # Whoever sets FORCE_COLOR means the terminal, not the files.
    print_page(page_of(document), Console(file=text, width=TEXT_WIDTH, highlight=False, force_terminal=False))
    return text.getvalue()


def _json(document: Document) -> str:
    from onnxmark.report.documents.plain import to_json

    return to_json(document)


def _jsonl(document: Document) -> str:
    from onnxmark.report.jsonl import to_jsonl

    return to_jsonl(document)


def _csv(document: Document) -> str:
    from onnxmark.report.csv import to_csv

    return to_csv(document)


def _markdown(document: Document) -> str:
    from onnxmark.report.markdown import to_markdown
    from onnxmark.report.pages import page_of

    return to_markdown(page_of(document))


def _html(document: Document) -> str:
    from onnxmark.report.html import to_html
    from onnxmark.report.pages import page_of

    return to_html(page_of(document))


def _sarif(document: Document) -> str:
    from onnxmark.report.sarif import to_sarif

    return to_sarif(document)


def _junit(document: Document) -> str:
    from onnxmark.report.junit import to_junit

    return to_junit(document)


_RENDERERS: Final = {
    Format.RICH: _rich,
    Format.JSON: _json,
    Format.JSONL: _jsonl,
    Format.CSV: _csv,
    Format.MD: _markdown,
    Format.HTML: _html,
    Format.SARIF: _sarif,
    Format.JUNIT: _junit,
}
