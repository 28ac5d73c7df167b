"""External data, contained and bounded: where path traversal was fixed in onnx three times in four years.

A model names the file its data lie in, and models are downloaded from strangers. So the name must be relative and
plain, and what it leads to, links resolved, must lie in the model's own directory. One exception: in a Hugging Face
cache (``models--org--name/snapshots/<revision>/``) every file is a link into ``blobs/`` of the same repository, or of
the cache that keeps the blobs of all its repositories together.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path

from onnxmark.errors import ExternalDataError
from onnxmark.model.records import Tensor
from onnxmark.model.source import Source

_DIGITS = re.compile(r"[0-9]{1,19}")
_MOST_OPEN = 64
_DRIVE = re.compile(r"[A-Za-z]:")
_SHARED = ".huggingface-shared-blobs"
"""A file beside the repositories of a cache that shares their blobs."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Where the elements of an external tensor are."""

    location: str
    offset: int
    length: int | None
    """None: up to the end of the file."""


def reference(tensor: Tensor) -> Reference:
    """What the ``external_data`` entries of ``tensor`` say.

    Raises:
        ExternalDataError: The location leaves the model's directory, or offset or length is not a plain number.
    """
    entries = dict(tensor.external)
    location = entries.get("location", "")
    why = _objection(location)
    if why:
        raise _refused(tensor, f"its location {location!r} {why}")
    length = _number(tensor, entries, "length") if "length" in entries else None
    return Reference(location, _number(tensor, entries, "offset"), length)


class ExternalFiles:
    """The data files of one model, the latest of them kept open.

    Args:
        model: Path of the model as the user gave it; data lie relative to its directory, not to a link's target.
    """

    __slots__ = ("_base", "_extents", "_model", "_open")

    def __init__(self, model: Path) -> None:
        self._model = model
        self._base = model.parent
        self._open: dict[str, Source] = {}
        self._extents: dict[tuple[int, int], list[tuple[int, int, str]]] = {}

    def close(self) -> None:
        """Close all of them."""
        for source in self._open.values():
            source.close()
        self._open.clear()

    def path(self, tensor: Tensor) -> Path:
        """The regular file that holds ``tensor``, links resolved and found to be allowed.

        Raises:
            ExternalDataError: It is missing or lies outside.
        """
        location = reference(tensor).location
        try:
            base = self._base.resolve(strict=True)
            target = (base / location).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            hint = "; the model is a link, and data are looked for beside the link" if self._model.is_symlink() else ""
            raise _refused(tensor, f"its data file {location!r} is not beside the model{hint}") from None
        if not any(target.is_relative_to(root) for root in (base, *_blobs(base))):
            raise _refused(tensor, f"its data file {location!r} leads out of the model's directory")
        return target

    def locate(self, tensor: Tensor, nbytes: int) -> tuple[Source, int]:
        """The open data file and the offset of ``tensor``'s ``nbytes`` bytes in it.

        Raises:
            ExternalDataError: Anything about them is not as it must be.
        """
        place = reference(tensor)
        source = self._open.get(place.location)
        if source is None:
            try:
                source = Source(self.path(tensor), ExternalDataError)
            except ExternalDataError as error:
                raise _refused(tensor, str(error)) if repr(tensor.name) not in str(error) else error from None
            if len(self._open) >= _MOST_OPEN:
                # Exporters that write a file per tensor make thousands; a process may have a thousand open.
                self._open.pop(next(iter(self._open))).close()
            self._open[place.location] = source
        length = nbytes if place.length is None else place.length
        if length != nbytes:
            raise _refused(tensor, f"it has {nbytes} bytes by its shape and {length} in {place.location!r}")
        if place.offset + length > source.size:
            end = place.offset + length
            raise _refused(tensor, f"it ends at byte {end} of {place.location!r}, which has {source.size} bytes")
        self._claim(tensor, source, place.offset, place.offset + length)
        return source, place.offset

    def _claim(self, tensor: Tensor, source: Source, start: int, end: int) -> None:
        """Note the bytes as those of ``tensor``. Tied weights may share all of theirs with another, never a part."""
        if start == end:
            return
        taken = self._extents.setdefault(source.identity, [])
        at = bisect_left(taken, (start, end, ""))
        # None of those noted overlap, so the neighbours tell for all.
        for first, last, name in taken[max(0, at - 1) : at + 1]:
            if (first, last) == (start, end):
                return
            if first < end and start < last:
                raise _refused(tensor, f"its bytes {start} to {end} overlap those of {name!r}, {first} to {last}")
        taken.insert(at, (start, end, tensor.name))


def _objection(location: str) -> str:
    if not location:
        return "is empty"
    if "\0" in location:
        return "contains a NUL"
    if location.startswith(("/", "\\")) or _DRIVE.match(location):
        return "is not relative"
    if ".." in re.split(r"[/\\]", location):
        return "contains '..'"
    return ""


def _number(tensor: Tensor, entries: dict[str, str], key: str) -> int:
    text = entries.get(key, "0")
    if not _DIGITS.fullmatch(text):
        raise _refused(tensor, f"its {key} {text[:40]!r} is not a number of bytes")
    return int(text)


def _blobs(base: Path) -> tuple[Path, ...]:
    """Where the files of the Hugging Face snapshot that ``base`` lies in are kept, if it lies in one.

    That is the repository's ``blobs``; and ``blobs`` of the whole cache, where a cache that shares them says so by a
    file of its own.
    """
    for parent in (base, *base.parents):
        if parent.parent.name == "snapshots" and parent.parent.parent.name.startswith("models--"):
            repository = parent.parent.parent
            shared = repository.parent / "blobs"
            places = (repository / "blobs", *((shared,) if (repository.parent / _SHARED).is_file() else ()))
            return tuple(blobs for blobs in places if blobs.is_dir() and not blobs.is_symlink())
    return ()


def _refused(tensor: Tensor, why: str) -> ExternalDataError:
    return ExternalDataError(f"external data of tensor {tensor.name!r}: {why}; get the model with all its files again")


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file, also by a hard link; False where either does not exist."""
    try:
        return one.samefile(other)
    except OSError:
        return False
