"""What tells, without auditing it again, that a model or the data beside it has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnxmark.errors import ModelError
from onnxmark.model.source import Source
from onnxmark.registry.entries import Stamp


def stamped(stamp: Stamp) -> str:
    """Size, time and number of a file, in one text."""
    # The device is left out: its number changes when a disk is mounted anew.
    return f"{stamp.size}:{stamp.mtime_ns}:{stamp.inode}"


def content(path: Path) -> str | None:
    """SHA-256 of a file; None where it cannot be read."""
    found = hashlib.sha256()
    try:
        with Source(path) as source:
            offset = 0
            while piece := source.upto(offset, 1 << 20):
                found.update(piece)
                offset += len(piece)
    except ModelError:
        return None
    return f"sha256:{found.hexdigest()}"


def unchanged(companion: Sequence[Any]) -> bool:
    """Whether a file beside a model is as it was: path, size, time of change in nanoseconds, inode."""
    try:
        path, *known = companion
        status = Path(path).stat()
    except (OSError, TypeError, ValueError):
        return False
    return known == [status.st_size, status.st_mtime_ns, status.st_ino]
