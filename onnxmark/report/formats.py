"""The documents there are, the forms they come in, and which form fits which document.

Parsing a command line needs these names and nothing else, so this module imports nothing heavy.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import PurePath
from typing import Any, Final

from onnxmark.errors import ReportError

Document = dict[str, Any]
"""A result as plain data, of one :class:`Kind`, or a part of one."""


class Format(StrEnum):
    """Forms of a result."""

    RICH = "rich"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    MD = "md"
    HTML = "html"
    SARIF = "sarif"
    JUNIT = "junit"


class Kind(StrEnum):
    """Kinds of documents, by the schema that each names.

    The version rises when a field is removed or changes its meaning, never when one is added.
    """

    AUDIT = "onnxmark/audit/v1"
    ATTACK = "onnxmark/attack/v1"
    ATTACKS = "onnxmark/attacks/v1"
    MARKING = "onnxmark/marking/v1"
    INSPECT = "onnxmark/inspect/v1"
    SCAN = "onnxmark/scan/v1"
    KEY = "onnxmark/key/v1"
    CONVERSION = "onnxmark/conversion/v1"
    EVALUATION = "onnxmark/evaluation/v1"

    @property
    def word(self) -> str:
        """What a user types: ``audit``."""
        return self.value.split("/")[1]

    @property
    def formats(self) -> tuple[Format, ...]:
        """Forms that fit: a table needs rows, and SARIF and JUnit need a verdict."""
        return tuple(format_ for format_ in Format if self in _ONLY.get(format_, Kind))


_ONLY: Final = {
    Format.CSV: (Kind.AUDIT, Kind.ATTACK, Kind.ATTACKS, Kind.INSPECT, Kind.SCAN, Kind.CONVERSION, Kind.EVALUATION),
    Format.SARIF: (Kind.AUDIT, Kind.SCAN),
    Format.JUNIT: (Kind.AUDIT, Kind.SCAN),
}

_SUFFIXES: Final = {
    ".sarif.json": Format.SARIF,
    ".sarif": Format.SARIF,
    ".json": Format.JSON,
    ".jsonl": Format.JSONL,
    ".csv": Format.CSV,
    ".md": Format.MD,
    ".html": Format.HTML,
    ".htm": Format.HTML,
    ".xml": Format.JUNIT,
    ".txt": Format.RICH,
}


def format_of(path: PurePath) -> Format | None:
    """The form a file's name asks for; None where its suffix does not tell."""
    name = path.name.lower()
    return next((format_ for suffix, format_ in _SUFFIXES.items() if name.endswith(suffix)), None)


def require_fit(schema: str, format_: Format) -> None:
    """Refuse a form that a kind of document does not come in.

    Args:
        schema: One of :class:`Kind`.
        format_: The form asked for.

    Raises:
        ReportError: Naming the forms that there are.
    """
    kind = Kind(schema)
    if format_ not in kind.formats:
        forms = ", ".join(kind.formats)
        raise ReportError(f"there is no {format_.value} form of {schema}; choose one of {forms}")
