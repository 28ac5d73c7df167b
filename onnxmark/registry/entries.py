"""What a scan finds before it reads anything: models and what looks like one, each under the name its owner knows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What became of a file that is, or might be, a model."""

    MODEL = "model"
    """To be audited."""
    UNSUPPORTED = "unsupported"
    """A model of another format; the reason names it and the command that converts it."""
    POINTER = "pointer"
    """Stands for a model that is not here (Git LFS, DVC); the reason names the command that fetches it."""
    SKIPPED = "skipped"
    """Left out on purpose; the reason says by what."""
    FAILED = "failed"
    """Cannot be looked at; the reason says why."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells that a file has changed, without reading it.

    Args:
        size: Bytes.
        mtime_ns: Time of the last change, nanoseconds since 1970.
        inode: Number of the file on its device.
        device: Number of the device.
    """

    size: int
    mtime_ns: int
    inode: int
    device: int


@dataclass(frozen=True, slots=True)
class Found:
    """One file that is, or might be, a model.

    Args:
        identity: As its owner names it: repository, revision and file; model and version; or the path in its root.
        layout: Kind of registry: ``plain``, ``hugging-face``, ``mlflow``, ``triton``.
        location: Absolute path, or URL.
        outcome: What becomes of it.
        size: Bytes; 0 where unknown.
        stamp: For a local file, what tells that it has changed.
        reason: Why it is not audited; None for a model.
    """

    identity: str
    layout: str
    location: str
    outcome: Outcome
    size: int = 0
    stamp: Stamp | None = None
    reason: str | None = None
