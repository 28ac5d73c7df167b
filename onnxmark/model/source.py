"""Opening a file without trusting it: regular files only, read by position, never mapped and never blocking.

``os.pread`` keeps resident memory at what is asked for, where a memory map of a hot file counts every page around it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from onnxmark.errors import MalformedModel, ModelError, ModelUnavailable


class Source:
    """A regular file open for reading by position.

    Args:
        path: The file.
        error: What to raise when it cannot be opened.

    Raises:
        ModelError: The given kind: nothing there, a directory, a pipe or device, or no permission.
    """

    __slots__ = ("_fd", "identity", "path", "size")

    def __init__(self, path: Path, error: type[ModelError] = ModelUnavailable) -> None:
        self.path = path
        self._fd = -1
        # O_NONBLOCK: opening a FIFO without a writer would wait for ever.
        flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        try:
            self._fd = os.open(path, flags)
            status = os.fstat(self._fd)
        except (OSError, ValueError) as cause:
            self.close()
            raise error(f"{self}: cannot be opened ({_reason(cause)}); check the path and its permissions") from cause
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise error(f"{self}: is {_kind(status.st_mode)}, not a regular file; name the file itself")
        self.size = status.st_size
        self.identity = (status.st_dev, status.st_ino)
        """The same for all names and links of one file."""

    def __str__(self) -> str:
        return repr(str(self.path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back; harmless when done twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def upto(self, offset: int, length: int) -> bytes:
        """At most ``length`` bytes from ``offset``: fewer only at the end of the file."""
        if self._fd < 0:
            raise ValueError(f"{self} has been closed")
        pieces = []
        while length > 0:
            try:
                piece = os.pread(self._fd, min(length, 1 << 30), offset)
            except OSError as cause:
                raise ModelUnavailable(f"{self}: cannot be read at byte {offset} ({_reason(cause)})") from cause
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def exactly(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``.

        Raises:
            MalformedModel: The file ends before (it has become shorter since it was opened).
        """
        data = self.upto(offset, length)
        if len(data) != length:
            raise MalformedModel(f"{self}: truncated: byte {offset} should be followed by {length}, found {len(data)}")
        return data


def _reason(cause: OSError | ValueError) -> str:
    return (cause.strerror or type(cause).__name__) if isinstance(cause, OSError) else str(cause)


def _kind(mode: int) -> str:
    for test, words in (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if test(mode):
            return words
    return "something special"
