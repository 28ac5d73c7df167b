"""Walking a directory that others fill while we look: everything in it once, in order of names, and never an exception.

Directories are listed one at a time and visited in the byte order of their names, so that two walks of one registry
agree on any file system, and only the names on the way from the root are held. Links to directories are never followed.
A link to a file is, where it ends inside the root or, in a Hugging Face cache, inside its repository's store: a
registry that may name any file of the machine as a model would have it read for whoever filled it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from onnxmark.registry.entries import Outcome
from onnxmark.registry.filters import Filters
from onnxmark.registry.layouts import Layout, recognised
from onnxmark.registry.layouts.hugging_face import SHARED_MARKER, Cache, Repository
from onnxmark.registry.layouts.layout import below, parent
from onnxmark.registry.layouts.mlflow_names import Names

_KINDS: Final = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(slots=True)
class Tally:
    """What a walk passed that is no model, counted as it goes.

    Args:
        directories: Directories listed.
        others: Files that are no models, and links and special files that are not called like one.
        again: Blobs of a Hugging Face cache that a revision names, and links to directories inside the root: what they
            hold is found under another name.
        unreadable: Those of ``others`` that could not be opened and are not called like a model.
    """

    directories: int = 0
    others: int = 0
    again: int = 0
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Sighting:
    """Something that was met and has to be judged, or an obstacle.

    Args:
        path: Absolute, the root as it was given and links not resolved.
        layout: Names it.
        status: Of the file, links followed; None where there is an obstacle.
        obstacle: What stands in the way of looking at it.
        directory: It is, or leads to, a directory.
        asked: It is a root: to be reported, if there is an obstacle, whatever it is called.
    """

    path: str
    layout: Layout
    status: os.stat_result | None = None
    obstacle: tuple[Outcome, str] | None = None
    directory: bool = False
    asked: bool = False


@dataclass(frozen=True, slots=True)
class _Descent:
    path: str
    layout: Layout


@dataclass(frozen=True, slots=True)
class Walker:
    """A walk of one root.

    Args:
        root: Absolute path.
        filters: What to leave out.
        tally: Counts what is not reported.
        names: Registered names of models in MLflow's directories.
    """

    root: str
    filters: Filters
    tally: Tally
    names: Callable[[str], Names]

    def sightings(self, start: Layout) -> Iterator[Sighting]:
        """Everything below the root that is not left alone, in order; ``start`` is the layout around the root."""
        # No recursion: directories may be nested deeper than Python's stack.
        trail = [self._directory(_Descent(self.root, start))]
        while trail:
            step = next(trail[-1], None)
            if step is None:
                trail.pop()
            elif isinstance(step, Sighting):
                yield step
            else:
                trail.append(self._directory(step))

    def _directory(self, step: _Descent) -> Iterator[Sighting | _Descent]:
        try:
            with os.scandir(step.path) as listing:
                entries = list(listing)
        except OSError as error:
            yield Sighting(step.path, step.layout, obstacle=_failure(error), directory=True)
            return
        self.tally.directories += 1
        layout = recognised(step.path, frozenset(entry.name for entry in entries), step.layout, self.names)
        entries.sort(key=lambda entry: (entry.name in layout.last, os.fsencode(entry.name)))
        for entry in entries:
            yield from self._entry(entry, layout)

    def _entry(self, entry: os.DirEntry[str], layout: Layout) -> Iterator[Sighting | _Descent]:
        try:
            directory, link = entry.is_dir(follow_symlinks=False), entry.is_symlink()
        except OSError as error:
            yield Sighting(entry.path, layout, obstacle=_failure(error))
            return
        objection = self.filters.objection(below(self.root, entry.path), directory=directory)
        if objection is not None:
            yield Sighting(entry.path, layout, obstacle=(Outcome.SKIPPED, objection), directory=directory)
        elif directory:
            if entry.name not in layout.never:
                yield self._subdirectory(entry, layout)
        else:
            yield from self._once(self._link(entry.path, layout) if link else _file(entry, layout))

    def _subdirectory(self, entry: os.DirEntry[str], layout: Layout) -> Sighting | _Descent:
        if is_utf8(entry.name):
            return _Descent(entry.path, layout)
        return Sighting(entry.path, layout, obstacle=(Outcome.FAILED, NOT_UTF8), directory=True)

    def _link(self, path: str, layout: Layout) -> Sighting:
        try:
            target = Path(path).resolve(strict=True)
            status = target.stat()
        except (OSError, RuntimeError, ValueError) as error:
            return Sighting(path, layout, obstacle=_failure(error, "is a link that leads nowhere"))
        inside = any(target.is_relative_to(store) for store in self._stores(layout))
        directory = stat.S_ISDIR(status.st_mode)
        if not inside:
            where = "its repository" if isinstance(layout, Repository) else "the registry"
            reason = f"is a link that leads out of {where}; name its target as a root if it is meant"
            return Sighting(path, layout, obstacle=(Outcome.SKIPPED, reason), directory=directory)
        return Sighting(path, layout, status, directory=True) if directory else _regular(path, layout, status)

    def _stores(self, layout: Layout) -> Iterator[Path]:
        """Where a link may end."""
        yield Path(layout.home if isinstance(layout, Repository) else self.root).resolve()
        if isinstance(layout, Repository):
            shared = Path(parent(layout.home), "blobs")
            if _is_shared_store(shared):
                yield shared.resolve()

    def _once(self, sighting: Sighting) -> Iterator[Sighting]:
        """Not at all, if it is known under another name."""
        status, layout = sighting.status, sighting.layout
        if sighting.obstacle is None and sighting.directory:
            self.tally.again += 1
        elif status is None or not isinstance(layout, Cache | Repository):
            yield sighting
        elif isinstance(layout, Repository) and layout.is_revision(sighting.path):
            layout.named.add((status.st_dev, status.st_ino))
            yield sighting
        elif (status.st_dev, status.st_ino) in layout.named:
            self.tally.again += 1
        else:
            yield sighting


NOT_UTF8: Final = "has a name that is not UTF-8; rename it"


def is_utf8(name: str) -> bool:
    """Whether a name from the file system can be written anywhere else."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def single(path: str, layout: Layout) -> Sighting:
    """A root that is a file itself; a link is followed wherever it leads, as its user named it."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError) as error:
        return Sighting(path, layout, obstacle=_failure(error), asked=True)
    return replace(_regular(path, layout, status), asked=True)


def _is_shared_store(directory: Path) -> bool:
    try:
        return not directory.is_symlink() and stat.S_ISREG((directory / SHARED_MARKER).lstat().st_mode)
    except OSError:
        return False


def _file(entry: os.DirEntry[str], layout: Layout) -> Sighting:
    try:
        return _regular(entry.path, layout, entry.stat(follow_symlinks=False))
    except OSError as error:
        return Sighting(entry.path, layout, obstacle=_failure(error))


def _regular(path: str, layout: Layout, status: os.stat_result) -> Sighting:
    for test, words in _KINDS:
        if test(status.st_mode):
            return Sighting(path, layout, obstacle=(Outcome.SKIPPED, f"is {words}, not a regular file"))
    return Sighting(path, layout, status)


def _failure(
    error: OSError | RuntimeError | ValueError, missing: str = "is gone, or was never there"
) -> tuple[Outcome, str]:
    code = error.errno if isinstance(error, OSError) else None
    # Before Python 3.13, pathlib raises RuntimeError for a loop.
    if code == errno.ELOOP or isinstance(error, RuntimeError):
        return Outcome.FAILED, "is a link in a loop"
    if code == errno.ENOENT:
        return Outcome.FAILED, missing
    words = error.strerror if isinstance(error, OSError) else str(error)
    return Outcome.FAILED, f"cannot be opened ({words or type(error).__name__}); check its permissions"
