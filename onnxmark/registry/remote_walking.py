"""Walking a URL: the same findings as of a directory, for as few requests as there can be.

A listing costs a request a directory, and looking into a file another. So names alone tell which files are models, and
only of those the first bytes are read. There are no links to follow and no databases to ask for names; the layouts that
paths show are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

from onnxmark.errors import ModelUnavailable
from onnxmark.registry.entries import Found, Outcome, Stamp
from onnxmark.registry.filters import Filters
from onnxmark.registry.formats import HEAD, Judgement, is_saved_model, judged, named_like_a_model
from onnxmark.registry.layouts import Layout, Plain, recognised
from onnxmark.registry.layouts.layout import below, last_part, parent
from onnxmark.registry.remote import RemoteFiles, opened, told
from onnxmark.registry.urls import public
from onnxmark.registry.walking import Tally

_DEEPEST: Final = 128
"""Directories inside each other: more is a file system that leads back to itself."""
_MARKS: Final = ("ETag", "etag", "md5", "md5Hash", "generation", "LastModified", "last_modified", "mtime", "created")


def remote_models(root: str, filters: Filters, tally: Tally) -> Iterator[Found]:
    """Everything below a URL that is, or might be, a model; see :func:`onnxmark.registry.discovery.discover`.

    Raises:
        MissingExtra: fsspec is not installed.
    """
    try:
        files, top = opened(root)
        with told(root):
            details = files.info(top)
    except ModelUnavailable as error:
        yield Found(public(root), "plain", public(root), Outcome.FAILED, reason=str(error))
        return
    walk = _RemoteWalk(files, top.rstrip("/"), filters, tally)
    if details["type"] == "file":
        yield from walk.file(details, _start(root, parent(top)), asked=True)
    else:
        yield from walk.below_top(_start(root, walk.top))


def _start(root: str, top: str) -> Layout:
    # The hub's own paths are the names its users know: organisation, repository, revision and file.
    return Plain("", "hugging-face") if root.startswith("hf://") else Plain(top)


class _RemoteWalk:
    """A walk of one URL.

    Args:
        files: The file system.
        top: Path of the root in it.
        filters: What to leave out.
        tally: Counts what is not reported.
    """

    def __init__(self, files: RemoteFiles, top: str, filters: Filters, tally: Tally) -> None:
        self.files, self.top, self.filters, self.tally = files, top, filters, tally

    def below_top(self, start: Layout) -> Iterator[Found]:
        """All of it, in order of names."""
        trail = [self._directory(self.top, start)]
        while trail:
            step = next(trail[-1], None)
            if step is None:
                trail.pop()
            elif isinstance(step, Found):
                yield step
            elif len(trail) < _DEEPEST:
                trail.append(self._directory(*step))
            else:
                yield self._found(*step, Judgement(Outcome.SKIPPED, f"is nested more than {_DEEPEST} deep"), slash="/")

    def file(self, details: dict[str, Any], layout: Layout, *, asked: bool = False) -> Iterator[Found]:
        """A file, if it is a model by name, or was asked for by name."""
        path = details["name"]
        name, size = last_part(path), int(details.get("size") or 0)
        judgement = self._judged(path, name, size) if asked or named_like_a_model(name) else None
        if judgement is None:
            self.tally.others += 1
        elif is_saved_model(name) and judgement.outcome is Outcome.UNSUPPORTED:
            yield self._found(parent(path), layout, judgement, size, slash="/")
        else:
            yield self._found(path, layout, judgement, size, _stamp(details, size))

    def _directory(self, path: str, inside: Layout) -> Iterator[Found | tuple[str, Layout]]:
        try:
            with told(self.files.unstrip_protocol(path)):
                listing = self.files.ls(path, detail=True)
        except ModelUnavailable:
            yield self._found(path, inside, Judgement(Outcome.FAILED, "cannot be listed; check permissions"), slash="/")
            return
        self.tally.directories += 1
        # An object store may list a directory in itself: an empty object by that name holds its place.
        entries = {last_part(each["name"]): each for each in listing if each["name"].rstrip("/") != path}
        layout = recognised(path, frozenset(entries), inside)
        for name in sorted(entries, key=str.encode):
            yield from self._entry(entries[name], layout)

    def _entry(self, details: dict[str, Any], layout: Layout) -> Iterator[Found | tuple[str, Layout]]:
        path = details["name"].rstrip("/")
        directory = details["type"] == "directory"
        objection = self.filters.objection(below(self.top, path), directory=directory)
        if objection is None and directory:
            yield path, layout
        elif objection is None and details["type"] == "file":
            yield from self.file(details, layout)
        elif directory or named_like_a_model(last_part(path)):
            reason = objection or f"is a {details['type']}, not a regular file"
            yield self._found(path, layout, Judgement(Outcome.SKIPPED, reason), slash="/" if directory else "")
        else:
            self.tally.others += 1

    def _judged(self, path: str, name: str, size: int) -> Judgement | None:
        too_large = self.filters.too_large(size)
        try:
            with told(self.files.unstrip_protocol(path)):
                head = self.files.cat_file(path, start=0, end=min(HEAD, size)) if size else b""
        except ModelUnavailable:
            return Judgement(Outcome.FAILED, "cannot be read; check that it is there and may be read")
        # Following the fields through the file would be a request each; what does not look like text may be a model,
        # and so may what begins with the signature of another format and goes on like a model. A SavedModel does.
        judgement = judged(name, head, size, lambda: False, lambda: not is_saved_model(name))
        # A SavedModel is a directory, and only files are fetched.
        if judgement is not None and self.filters.convert and not is_saved_model(name):
            judgement = judgement.converted
        if judgement is not None and judgement.outcome is Outcome.MODEL and too_large:
            return Judgement(Outcome.SKIPPED, too_large)
        return judgement

    def _found(
        self,
        path: str,
        layout: Layout,
        judgement: Judgement,
        size: int = 0,
        stamp: Stamp | None = None,
        slash: str = "",
    ) -> Found:
        identity, location = layout.identity(path) + slash, self.files.unstrip_protocol(path)
        return Found(identity, layout.name, location, judgement.outcome, size, stamp, judgement.reason)


def _stamp(details: dict[str, Any], size: int) -> Stamp | None:
    """What a service says about a version of a file, in the form local files have; None if it says nothing.

    There is no inode in it but a digest of the entity tag, generation or time that the service gives.
    """
    marks = [f"{mark}={details[mark]}" for mark in _MARKS if details.get(mark) is not None]
    if not marks:
        return None
    return Stamp(size, 0, int.from_bytes(hashlib.sha256("\n".join(marks).encode()).digest()[:7]), 0)
