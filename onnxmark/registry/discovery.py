"""What is in a registry: every file that looks like a model, once, under the name its owner knows it by.

    discover(["/models", "s3://bucket/models"], Filters.given(exclude=["old/"])) → Found, Found, …

A file looks like a model by its name or by what it begins with; each such file gives one :class:`Found`, whatever
becomes of it. Others are only counted, in the :class:`Tally`: there are many, and a report of a scan has no use for
their names. Directories that were left out or cannot be listed are reported, too, with a ``/`` at the end: there is no
telling what is in them. The order depends on nothing but the names, and nothing is held but the names on the way.

Locations of Git LFS and DVC are those of the pointers. A model that was pulled is found itself, and its DVC pointer is
then one of the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from onnxmark.errors import ModelError
from onnxmark.model.outline import has_outline
from onnxmark.model.source import Source
from onnxmark.registry.entries import Found, Outcome, Stamp
from onnxmark.registry.filters import IGNORE_FILE, MOST_IGNORED, Filters, Pattern, ignore_patterns
from onnxmark.registry.formats import HEAD, Judgement, holds_graph, is_saved_model, judged, named_like_a_model
from onnxmark.registry.layouts import Plain
from onnxmark.registry.layouts.hugging_face import Repository, around
from onnxmark.registry.layouts.layout import last_part, parent
from onnxmark.registry.layouts.mlflow_names import Registry
from onnxmark.registry.pointers import MOST_BYTES, SUFFIX, dvc_pointer
from onnxmark.registry.remote_walking import remote_models
from onnxmark.registry.urls import is_remote, public
from onnxmark.registry.walking import NOT_UTF8, Sighting, Tally, Walker, is_utf8, single

_EVERYTHING: Final = Filters()


def discover(roots: Sequence[str], filters: Filters = _EVERYTHING, tally: Tally | None = None) -> Iterator[Found]:
    """Everything in ``roots`` that is, or might be, a model.

    Args:
        roots: Directories, files, or URLs that fsspec knows. One that lies in another is part of it. With several, each
            model's identity begins with its root as it was given.
        filters: What to leave out. Files left out are reported as skipped if they are called like models.
        tally: Counts what is no model while the iterator advances.

    Raises:
        MissingExtra: A root is a URL and fsspec is not installed.
    """
    tally = Tally() if tally is None else tally
    given = _outermost([_path_of(root) for root in roots])
    for root in given:
        found = remote_models(root, filters, tally) if is_remote(root) else _local(root, filters, tally)
        prefix = f"{public(root).rstrip('/')}/" if len(given) > 1 else ""
        for each in found:
            yield replace(each, identity=printable(prefix + each.identity)) if prefix else each


def printable(path: str) -> str:
    """A path that can be written as UTF-8, other bytes shown as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace") if not is_utf8(path) else path


def _path_of(root: str) -> str:
    """A URL of a local file as a path: the walk of directories knows about links, fsspec's does not."""
    return url2pathname(urlsplit(root).path) if root.startswith("file://") else root


def _outermost(roots: Sequence[str]) -> list[str]:
    """The roots without those that lie in another, in the order given."""
    reals = [root if is_remote(root) else os.path.realpath(root) for root in roots]
    return [
        root
        for index, (root, real) in enumerate(zip(roots, reals, strict=True))
        if real not in reals[:index]
        and not any(real != other and real.startswith(f"{other.rstrip('/')}/") for other in reals)
    ]


def _local(root: str, filters: Filters, tally: Tally) -> Iterator[Found]:
    # Links in the root are kept: locations should look as its user wrote it.
    path = str(Path(root).absolute())
    if not _is_directory(path):
        sightings = iter([single(path, Plain(parent(path)))])
    else:
        # A snapshot's links lead to its repository's blobs, so the walk of one has to know where it is.
        repository = around(os.path.realpath(path))
        top, start = (path, Plain(path)) if repository is None else (os.path.realpath(path), Repository(repository))
        try:
            filters = filters.ignoring(_ignored(path))
        except ValueError as error:
            yield Found(IGNORE_FILE, "plain", f"{path}/{IGNORE_FILE}", Outcome.FAILED, reason=str(error))
        sightings = Walker(top, filters, tally, Registry().names).sightings(start)
    for sighting in sightings:
        found = _found(sighting, filters, tally)
        if found is not None:
            yield found


def _is_directory(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except OSError:
        return False


def _ignored(root: str) -> tuple[Pattern, ...]:
    path = Path(root, IGNORE_FILE)
    if not os.path.lexists(path):
        return ()
    try:
        with Source(path) as source:
            return ignore_patterns(source.upto(0, MOST_IGNORED))
    except ModelError as error:
        raise ValueError(str(error)) from None


def _found(sighting: Sighting, filters: Filters, tally: Tally) -> Found | None:
    """What a sighting comes to; None, and counted, if it is no model."""
    name = last_part(sighting.path)
    if sighting.obstacle is not None:
        if sighting.directory or sighting.asked or named_like_a_model(name):
            return _reported(sighting, Judgement(*sighting.obstacle))
        tally.others += 1
        return None
    judgement = _examined(sighting, name, tally)
    if judgement is None:
        tally.others += 1
        return None
    if filters.convert:
        judgement = judgement.converted
    if judgement.outcome is Outcome.MODEL and sighting.status is not None:
        objection = filters.too_large(sighting.status.st_size)
        judgement = Judgement(Outcome.SKIPPED, objection) if objection else judgement
    if is_saved_model(name) and judgement.outcome is Outcome.UNSUPPORTED:
        sighting = replace(sighting, path=parent(sighting.path), directory=True)
    return _reported(sighting, judgement)


def _examined(sighting: Sighting, name: str, tally: Tally) -> Judgement | None:
    try:
        with Source(Path(sighting.path)) as source:
            if name.endswith(SUFFIX):
                return dvc_pointer(sighting.path, source.upto(0, MOST_BYTES).decode("utf-8", "replace"))
            return judged(
                name, source.upto(0, HEAD), source.size, lambda: holds_graph(source), lambda: has_outline(source)
            )
    except ModelError as error:
        if named_like_a_model(name):
            return Judgement(Outcome.FAILED, _why(error))
        tally.unreadable += 1
        return None


def _why(error: ModelError) -> str:
    """The reason without the path, so that a report can count it."""
    cause = error.__cause__
    words = cause.strerror if isinstance(cause, OSError) else None
    return f"cannot be read ({words or 'it changed while it was looked at'}); check that it is there and may be read"


def _reported(sighting: Sighting, judgement: Judgement) -> Found:
    path, status = sighting.path, sighting.status
    identity = sighting.layout.identity(path) + ("/" if sighting.directory else "")
    if not is_utf8(path):
        judgement = Judgement(Outcome.FAILED, NOT_UTF8)
    return Found(
        printable(identity),
        sighting.layout.name,
        printable(path),
        judgement.outcome,
        0 if status is None else status.st_size,
        None if status is None else Stamp(status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev),
        judgement.reason,
    )
