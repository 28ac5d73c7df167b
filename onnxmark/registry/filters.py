"""Which part of a registry is scanned: the patterns and limits its operator gave, and nobody else.

Patterns are those of a shell (``*``, ``?``, ``[abc]``), not all of gitignore: ``*`` also matches ``/``, and there is no
``!``. One without ``/`` is compared with the last part of a path, any other with the whole path from the root; one that
ends in ``/`` is meant for directories. ``--exclude`` wins over ``--include``.

``.onnxmarkignore`` is read at the root only. Whoever may put a model into a registry may put a file beside it, and that
must not hide the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import translate
from typing import Final, Self

IGNORE_FILE: Final = ".onnxmarkignore"
MOST_IGNORED: Final = 1 << 20
"""Bytes of an ignore file that are read."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern, as its user wrote it.

    Args:
        text: Shell pattern; see the module.
        origin: Where it stands, for the reason of what it leaves out.

    Raises:
        ValueError: It is empty, or begins with ``!``.
    """

    text: str
    origin: str
    _regex: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        body = self.text.removeprefix("**/").strip("/")
        if not body or self.text.startswith("!"):
            raise ValueError(f"{self.origin}: {self.text!r} is not a pattern (there is no '!' and no empty one)")
        object.__setattr__(self, "_regex", re.compile(translate(body)))

    def matches(self, relative: str, *, directory: bool) -> bool:
        """Whether the path, relative to the root and with ``/`` between its parts, is meant."""
        if self.text.endswith("/") and not directory:
            return False
        anchored = "/" in self.text.removeprefix("**/").rstrip("/")
        return self._regex.match(relative if anchored else relative.rpartition("/")[2]) is not None

    def covers(self, relative: str) -> bool:
        """Whether a file or a directory above it is meant."""
        return self.matches(relative, directory=False) or any(
            self.matches(above, directory=True) for above in _above(relative)
        )


@dataclass(frozen=True, slots=True)
class Filters:
    """What to leave out.

    Args:
        include: Where given, a file must be covered by one of them, itself or by a directory above it.
        exclude: Files and directories to leave out.
        max_size: Bytes a model file may have; its external data are not counted. None for any.
        convert: Models of other frameworks are not left out: they will be converted.
    """

    include: tuple[Pattern, ...] = ()
    exclude: tuple[Pattern, ...] = ()
    max_size: int | None = None
    convert: bool = False

    @classmethod
    def given(
        cls,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        max_size: int | None = None,
        *,
        convert: bool = False,
    ) -> Self:
        """Filters as the command line has them.

        Raises:
            ValueError: A pattern is none, or ``max_size`` is negative.
        """
        if max_size is not None and max_size < 0:
            raise ValueError(f"the largest size must be a number of bytes, 0 or more, found {max_size}")
        return cls(
            tuple(Pattern(text, "--include") for text in include),
            tuple(Pattern(text, "--exclude") for text in exclude),
            max_size,
            convert,
        )

    def ignoring(self, patterns: Sequence[Pattern]) -> Filters:
        """The same, leaving out these as well."""
        return replace(self, exclude=(*self.exclude, *patterns))

    def objection(self, relative: str, *, directory: bool) -> str | None:
        """Why a path is left out; None for one that is not."""
        for pattern in self.exclude:
            if pattern.matches(relative, directory=directory):
                return f"left out by {pattern.origin} {pattern.text!r}"
        if directory or not self.include or any(pattern.covers(relative) for pattern in self.include):
            return None
        return "not among --include"

    def too_large(self, size: int) -> str | None:
        """Why a model of ``size`` bytes is left out; None for one that is not."""
        if self.max_size is None or size <= self.max_size:
            return None
        return f"larger than --max-size {self.max_size}"


def ignore_patterns(data: bytes) -> tuple[Pattern, ...]:
    """The patterns of an ignore file: one a line, blank lines and those with ``#`` in front not counted.

    Raises:
        ValueError: A line is not a pattern, or the file is not text. A pattern that cannot be honoured must not be
            dropped in silence: the scan would cover other than was asked for.
    """
    try:
        lines = [line.strip() for line in data.decode().splitlines()]
    except UnicodeDecodeError:
        raise ValueError(f"{IGNORE_FILE}: is not UTF-8 text") from None
    return tuple(Pattern(line, IGNORE_FILE) for line in lines if line and not line.startswith("#"))


def _above(relative: str) -> Iterator[str]:
    at = relative.find("/")
    while at >= 0:
        yield relative[:at]
        at = relative.find("/", at + 1)
