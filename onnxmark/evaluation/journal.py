"""What an evaluation has done so far: a line of JSON a finished cell, so that it can be killed and taken up again.

Only the coordinator writes, and only at the end of the file. A line that a kill has torn is the last one; it is cut off
and its cell done again. Lines belong to a plan by its digest, so that one file may hold several plans.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from onnxmark.errors import JournalError

_SCHEMA: Final = "onnxmark/evaluation-journal/v1"


class Journal:
    """The journal of one plan; made by :func:`open_journal`.

    Args:
        records: What is done already, by cell.
        digest: Of the plan.
        descriptor: The file, open for appending; None keeps nothing.
    """

    def __init__(self, records: dict[str, dict[str, Any]], digest: str, descriptor: int | None) -> None:
        self.records = records
        self._digest = digest
        self._descriptor = descriptor

    def put(self, cell: str, record: dict[str, Any]) -> None:
        """Add what came of a cell, unless something did before.

        Raises:
            JournalError: It cannot be written.
        """
        if cell in self.records:
            return
        self.records[cell] = record
        if self._descriptor is None:
            return
        line = json.dumps({"plan": self._digest, "cell": cell, "record": record}, allow_nan=False) + "\n"
        try:
            _write(self._descriptor, line.encode())
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise JournalError(
                f"the journal cannot be written ({error.strerror}); what was done before is kept"
            ) from error


@contextmanager
def open_journal(path: Path | None, digest: str) -> Iterator[Journal]:
    """The journal of a plan, for the one process that writes it.

    Args:
        path: A file, made if it is not there; None keeps nothing.
        digest: Of the plan.

    Raises:
        JournalError: It cannot be opened, is something else or damaged, or another evaluation is writing it.
    """
    if path is None:
        yield Journal({}, digest, None)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalError(f"journal {str(path)!r} cannot be opened: {error.strerror}") from error
    try:
        _lock(descriptor, path)
        yield Journal(_recalled(descriptor, path, digest), digest, descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise JournalError(f"journal {str(path)!r} is being written by another evaluation; wait for its end") from error


def _recalled(descriptor: int, path: Path, digest: str) -> dict[str, dict[str, Any]]:
    """The records of a plan; the file is left with whole lines only."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if not whole:
        if data and not _header().startswith(data):
            raise _foreign(path)
        os.ftruncate(descriptor, 0)
        _write(descriptor, _header())
        return {}
    first, *lines = whole.splitlines()
    if first + b"\n" != _header():
        raise _foreign(path)
    os.ftruncate(descriptor, len(whole))
    found = {}
    for number, line in enumerate(lines, start=2):
        try:
            entry = json.loads(line)
            cell, record = str(entry["cell"]), dict(entry["record"])
            if entry["plan"] == digest:
                found[cell] = record
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise JournalError(
                f"journal {str(path)!r}: line {number} is damaged ({type(error).__name__}); remove that line, or the "
                "file to start anew"
            ) from error
    return found


def _header() -> bytes:
    return json.dumps({"schema": _SCHEMA}).encode() + b"\n"


def _foreign(path: Path) -> JournalError:
    return JournalError(f"{str(path)!r} is not the journal of an evaluation; give another file")


def _write(descriptor: int, data: bytes) -> None:
    """All of it: the system may take less at a time."""
    while data:
        data = data[os.write(descriptor, data) :]
