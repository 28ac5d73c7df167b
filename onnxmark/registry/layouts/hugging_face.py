"""The cache of the Hugging Face hub: the same bytes under one name a revision.

    models--org--name/refs/main                     the revision a branch stands at
    models--org--name/snapshots/<revision>/<file>   a link to ../../blobs/<hash>, or a file where links are not possible
    models--org--name/blobs/<hash>                  the bytes, or (huggingface_hub 2) a link into the store beside it
    blobs/<two digits>/<hash>                       that store, shared by all repositories of a cache

A file is known by repository, revision and path. Branches move, so they name nothing. A blob without a revision is what
a deleted or interrupted download left behind: it is a model all the same, and listed after the revisions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from onnxmark.registry.layouts.layout import NOTHING, Layout, below, last_part, parent

_KINDS: Final = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}
_REVISION: Final = re.compile(r"[0-9a-f]{40}")
_BLOBS: Final = frozenset(["blobs"])
SHARED_MARKER: Final = ".huggingface-shared-blobs"


@dataclass(frozen=True, slots=True)
class Cache:
    """A directory of repositories. What lies in it beside them is named as in a folder.

    Args:
        home: The directory.
        outer: The layout it was found in.
    """

    home: str
    outer: Layout
    name: str = "plain"
    last: frozenset[str] = _BLOBS
    never: frozenset[str] = NOTHING
    named: set[tuple[int, int]] = field(default_factory=set)
    """Device and inode of every file that a revision names: what keeps blobs from being listed again."""

    def identity(self, path: str) -> str:
        """See :class:`onnxmark.registry.layouts.layout.Layout`."""
        return self.outer.identity(path)


@dataclass(frozen=True, slots=True)
class Repository:
    """One repository of a cache.

    Args:
        home: Its directory, ``models--org--name``.
        named: See :class:`Cache`; shared by all repositories of one.
    """

    home: str
    named: set[tuple[int, int]] = field(default_factory=set)
    name: str = "hugging-face"
    last: frozenset[str] = _BLOBS
    # Empty files that stand for files the hub said it does not have.
    never: frozenset[str] = frozenset([".no_exist"])

    def identity(self, path: str) -> str:
        """See :class:`onnxmark.registry.layouts.layout.Layout`."""
        kind, _, name = last_part(self.home).partition("--")
        repository = _KINDS[kind] + name.replace("--", "/")
        top, _, rest = below(self.home, path).partition("/")
        if top != "snapshots":
            return f"{repository}/{top}/{rest}" if rest else f"{repository}/{top}"
        revision, _, file = rest.partition("/")
        return f"{repository}@{revision[:12] if _REVISION.fullmatch(revision) else revision}/{file}"

    def is_revision(self, path: str) -> bool:
        """Whether ``path`` is a file of a revision."""
        return below(self.home, path).startswith("snapshots/")


def recognised(directory: str, names: frozenset[str], inside: Layout) -> Layout | None:
    """The repository or the cache that a directory is; None for neither."""
    if isinstance(inside, Repository):
        return inside
    if _is_repository(directory) and "snapshots" in names:
        return Repository(directory, inside.named) if isinstance(inside, Cache) else Repository(directory)
    if any(_is_repository(name) for name in names):
        return Cache(directory, inside)
    return None


def around(directory: str) -> str | None:
    """The repository that a directory lies in, from its path alone: ``models--org--name/snapshots/…``."""
    while len(directory) > 1:
        above = parent(directory)
        if last_part(directory) in ("snapshots", "blobs") and _is_repository(above):
            return above
        directory = above
    return None


def _is_repository(path: str) -> bool:
    kind, dashes, name = last_part(path).partition("--")
    return kind in _KINDS and bool(dashes and name)
