"""What a walk asks of a layout, and the layout of a folder that has none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

NOTHING: Final[frozenset[str]] = frozenset()


class Layout(Protocol):
    """A kind of registry at one place."""

    @property
    def name(self) -> str:
        """As :class:`onnxmark.registry.entries.Found` has it."""
        ...

    @property
    def home(self) -> str:
        """The directory it begins at; paths are named from here."""
        ...

    @property
    def last(self) -> frozenset[str]:
        """Names visited after all others of their directory."""
        ...

    @property
    def never(self) -> frozenset[str]:
        """Names of directories that hold no files of their own."""
        ...

    def identity(self, path: str) -> str:
        """The name its owner knows the file at ``path`` by."""
        ...


@dataclass(frozen=True, slots=True)
class Plain:
    """A folder: files are known by their paths from its top.

    Args:
        home: The top.
        name: The kind of registry that tells no more than a folder does.
        last: See :class:`Layout`.
    """

    home: str
    name: str = "plain"
    last: frozenset[str] = NOTHING
    never: frozenset[str] = NOTHING

    def identity(self, path: str) -> str:
        """See :class:`Layout`."""
        return below(self.home, path)


def below(home: str, path: str) -> str:
    """``path`` as seen from ``home``; the whole of it where it is not below."""
    return path[len(home.rstrip("/")) + 1 :] if path.startswith(home.rstrip("/") + "/") else path


def last_part(path: str) -> str:
    """The name of a file or directory."""
    return path.rstrip("/").rpartition("/")[2]


def parent(path: str, times: int = 1) -> str:
    """The directory ``times`` above."""
    for _ in range(times):
        path = path.rstrip("/").rpartition("/")[0]
    return path or "/"
