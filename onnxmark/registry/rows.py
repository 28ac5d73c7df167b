"""One entry of a journal, as SQLite keeps it, and the count of many.

SQLite sees that its pages fit together, not that what is in them is what was written: every row has a checksum.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, replace
from typing import Any, Final

from onnxmark.registry.entries import Found, Outcome, Stamp

Result = dict[str, Any]
"""What became of one model, as plain data."""

AUDITED: Final = "audited"
"""The only status that is used again."""
COMPANIONS: Final = "companions"
"""In a result: files read besides the model, as ``[path, size, mtime_ns, inode]`` each, taken before they were read."""

COLUMNS: Final = (
    "checksum, identity, location, layout, outcome, size, reason, stamp, evidence, status, companions, result"
)
"""What is kept of a row, in the order of :func:`values`."""


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of a journal.

    Args:
        found: The file.
        evidence: What tells that its content has changed, taken before it was read; None where nothing tells.
        result: What became of it; None for what is not audited.
    """

    found: Found
    evidence: str | None = None
    result: Result | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """How far a scan is.

    Args:
        found: Files that are or might be models.
        audited: Models with a result.
        failed: Files that could not be looked at or audited.
        skipped: Files of other formats, pointers, and what was left out on purpose.
        reused: Audited models whose result an earlier run had left.
        n_bytes: Size of the models with a result or a failure.
    """

    found: int = 0
    audited: int = 0
    failed: int = 0
    skipped: int = 0
    reused: int = 0
    n_bytes: int = 0

    def plus(self, outcome: str, status: str | None, *, n: int = 1, n_bytes: int = 0, reused: bool = False) -> Tally:
        """With ``n`` more entries of one kind."""
        audited = outcome == Outcome.MODEL and status == AUDITED
        failed = not audited and outcome in (Outcome.MODEL, Outcome.FAILED)
        return replace(
            self,
            found=self.found + n,
            audited=self.audited + n * audited,
            failed=self.failed + n * failed,
            skipped=self.skipped + n * (not audited and not failed),
            reused=self.reused + n * reused,
            n_bytes=self.n_bytes + n_bytes * (outcome == Outcome.MODEL),
        )


def values(row: Row) -> tuple[object, ...]:
    """What SQLite keeps of a row: its checksum, and then its content."""
    found, result = row.found, dict(row.result or {})
    stamp = found.stamp and [found.stamp.size, found.stamp.mtime_ns, found.stamp.inode, found.stamp.device]
    content = (
        stored(found.identity), stored(found.location), found.layout, found.outcome.value, found.size,
        stored(found.reason), json.dumps(stamp), row.evidence, result.get("status"),
        json.dumps(result.pop(COMPANIONS, [])), None if row.result is None else json.dumps(result, allow_nan=False),
    )  # fmt: skip
    return checksum(content), *content


def checksum(content: tuple[object, ...]) -> int:
    """Of everything in a row but the checksum."""
    return zlib.crc32(repr(content).encode())


def row_of(kept: tuple[Any, ...]) -> Row:
    """The row that SQLite kept.

    Raises:
        ValueError: It is not what was written.
    """
    known, *content = kept
    if known != checksum(tuple(content)):
        raise ValueError("a checksum does not fit")
    identity, location, layout, outcome, size, reason, stamp, evidence, _, companions, result = content
    mark = json.loads(stamp)
    try:
        found = Found(
            _given(identity), layout, _given(location), Outcome(outcome), size, mark and Stamp(*mark),
            None if reason is None else _given(reason),
        )  # fmt: skip
        if result is None:
            return Row(found, evidence)
        told, beside = json.loads(result), json.loads(companions)
        return Row(found, evidence, told | {COMPANIONS: beside} if beside else told)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"a row makes no sense: {error}") from error


def stored(text: str | None) -> str | bytes | None:
    """A name for SQLite, whose text is UTF-8: names of files need not be."""
    if text is None:
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def _given(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")
