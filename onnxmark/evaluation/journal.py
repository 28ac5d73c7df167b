"""What an evaluation has done so far: a line of JSON a finished cell, so that it can be killed and taken up again.

Before the first cell of a run stands what it was carried out on, unless that stands there already: times of several
machines must not be taken for those of one. Only the coordinator writes, and only at the end of the file. A line that a
kill has torn is the last one; it is cut off and its cell done again. Lines belong to a plan by its digest, so that one
file may hold several plans.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from onnxmark.errors import JournalError

_KIND: Final = "onnxmark/evaluation-journal/"
_SCHEMA: Final = f"{_KIND}v3"


Environment = dict[str, Any]
"""See :func:`onnxmark.evaluation.environment.environment`."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """What a journal holds of a plan.

    Args:
        records: What came of cells, by name.
        environments: What they were carried out on, in order of their first use.
    """

    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    environments: list[Environment] = field(default_factory=list)


class Journal:
    """The journal of one plan; made by :func:`open_journal`.

    Args:
        recalled: What is done already.
        digest: Of the plan.
        environment: What this process carries out cells on.
        descriptor: The file, open for appending; None keeps nothing.
    """

    def __init__(self, recalled: Recalled, digest: str, environment: Environment, descriptor: int | None) -> None:
        self.records = recalled.records
        self.environments = recalled.environments
        self._digest = digest
        self._environment = environment
        self._descriptor = descriptor

    def put(self, cell: str, record: dict[str, Any]) -> None:
        """Add what came of a cell, unless something did before.

        Raises:
            JournalError: It cannot be written.
        """
        if cell in self.records:
            return
        self.records[cell] = record
        entries: list[dict[str, Any]] = [{"cell": cell, "record": record}]
        if self._environment not in self.environments:
            self.environments.append(self._environment)
            entries.insert(0, {"environment": self._environment})
        if self._descriptor is None:
            return
        lines = (json.dumps({"plan": self._digest, **entry}, allow_nan=False) + "\n" for entry in entries)
        try:
            _write(self._descriptor, "".join(lines).encode())
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise JournalError(
                f"the journal cannot be written ({error.strerror}); what was done before is kept"
            ) from error


@contextmanager
def open_journal(path: Path | None, digest: str, environment: Environment) -> Iterator[Journal]:
    """The journal of a plan, for the one process that writes it.

    Args:
        path: A file, made if it is not there; None keeps nothing.
        digest: Of the plan.
        environment: What this process carries out cells on.

    Raises:
        JournalError: It cannot be opened, is something else or damaged, or another evaluation is writing it.
    """
    if path is None:
        yield Journal(Recalled(), digest, environment, None)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalError(f"journal {str(path)!r} cannot be opened: {error.strerror}") from error
    try:
        _lock(descriptor, path)
        yield Journal(_recalled(descriptor, path, digest), digest, environment, descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise JournalError(f"journal {str(path)!r} is being written by another evaluation; wait for its end") from error


def _recalled(descriptor: int, path: Path, digest: str) -> Recalled:
    """What there is of a plan; the file is left with whole lines only."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if not whole:
        if data and not _header().startswith(data):
            raise _foreign(path)
        os.ftruncate(descriptor, 0)
        _write(descriptor, _header())
        return Recalled()
    first, *lines = whole.splitlines()
    if first + b"\n" != _header():
        raise _older(path) if first.startswith(json.dumps({"schema": _KIND}).encode()[:-2]) else _foreign(path)
    os.ftruncate(descriptor, len(whole))
    found = Recalled()
    for number, line in enumerate(lines, start=2):
        try:
            entry = json.loads(line)
            ours = entry["plan"] == digest
            if "environment" in entry:
                found.environments.extend([dict(entry["environment"])] if ours else [])
                continue
            cell, record = str(entry["cell"]), dict(entry["record"])
            if ours:
                found.records[cell] = record
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise JournalError(
                f"journal {str(path)!r}: line {number} is damaged ({type(error).__name__}); remove that line, or the "
                "file to start anew"
            ) from error
    return found


def _header() -> bytes:
    return json.dumps({"schema": _SCHEMA}).encode() + b"\n"


def _older(path: Path) -> JournalError:
    return JournalError(
        f"journal {str(path)!r} was written by another version of onnxmark, whose records hold other things; finish it "
        "with that version, or give another file"
    )


def _foreign(path: Path) -> JournalError:
    return JournalError(f"{str(path)!r} is not the journal of an evaluation; give another file")


def _write(descriptor: int, data: bytes) -> None:
    """All of it: the system may take less at a time."""
    while data:
        data = data[os.write(descriptor, data) :]
