"""Read a saved document, which may be anybody's file: limits first, then JSON, then the schema it names.

JSON is read more strictly than Python does. ``NaN`` and ``Infinity`` are no JSON; a number that a double or a 64-bit
integer cannot hold would turn into one or fail later, at a place that cannot say why; of two fields of the same name
one reader shows the first and another the second, which is how a forged report is made to say two things.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

from onnxmark.errors import ReportError
from onnxmark.report.formats import Document
from onnxmark.report.schema import validate
from onnxmark.report.text import plain

MAX_BYTES: Final = 64 * 1024 * 1024
"""Four hundred full sweeps, or a scan of a hundred thousand models."""

MAX_DEPTH: Final = 32
"""Nesting of lists and objects; documents of ours have 8 levels."""

STDIN: Final = Path("-")


def load_document(path: Path) -> Document:
    """A document from a file, or from standard input where the path is ``-``.

    Raises:
        ReportError: It cannot be read, is too large, is no JSON, or no valid document of a version we know.
    """
    return parse_document(_read(path), str(path))


def parse_document(content: bytes, name: str) -> Document:
    """A document from its bytes (UTF-8, UTF-16 or UTF-32).

    Args:
        content: The file.
        name: What error messages call it.

    Raises:
        ReportError: As for :func:`load_document`.
    """
    if len(content) > MAX_BYTES:
        raise ReportError(f"{name!r} is larger than {MAX_BYTES} bytes: not a saved result of onnxmark")
    try:
        document = _parsed(content)
        validate(document)
    except ReportError as error:
        raise ReportError(f"{name!r}: {error}") from error
    return document


def _read(path: Path) -> bytes:
    try:
        if path == STDIN:
            return sys.stdin.buffer.read(MAX_BYTES + 1)
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ReportError(f"cannot read {str(path)!r}: {error.strerror}") from error


def _parsed(content: bytes) -> Document:
    try:
        document = json.loads(
            content,
            object_pairs_hook=_object,
            parse_constant=_not_a_number,
            parse_float=_double,
            parse_int=_integer,
        )
    except RecursionError as error:
        raise ReportError(f"nested more than {MAX_DEPTH} levels deep: not a saved result of onnxmark") from error
    except ValueError as error:
        raise ReportError(f"not JSON: {error}; give a file made with --format json or -o json=PATH") from error
    if not isinstance(document, dict):
        raise ReportError("not a saved result of onnxmark: JSON, but not an object")
    _require_shallow(document)
    return document


def _object(pairs: list[tuple[str, Any]]) -> Document:
    found: Document = {}
    for name, value in pairs:
        if name in found:
            raise ReportError(f"field {plain(name, 60)!r} occurs twice in one object")
        found[name] = value
    return found


def _not_a_number(word: str) -> NoReturn:
    raise ReportError(f"holds {word}, which is no JSON")


def _double(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ReportError(f"holds the number {text[:40]}, larger than a double")
    return value


def _integer(text: str) -> int:
    if len(text) > len("-9223372036854775808") or not -(2**63) <= int(text) < 2**63:
        raise ReportError(f"holds the number {text[:40]}, larger than 64 bits")
    return int(text)


def _require_shallow(document: Document) -> None:
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        level = [child for value in level if isinstance(value, dict | list) for child in _children(value)]
        if not level:
            return
    raise ReportError(f"nested more than {MAX_DEPTH} levels deep: not a saved result of onnxmark")


def _children(value: Document | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value
