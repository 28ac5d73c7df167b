"""Models behind a URL, through fsspec: which file system a URL means, and a model of it as a file on this machine.

The reader wants positions in regular files, so a worker gets a copy that lives as long as it is looked at: the model,
and of the files beside it only those it names as its data, under the same rules for names as for local models and
within one bound on their bytes. Backends raise whatever their service's library does, so what comes out of them is
caught whole and told in one line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

from onnxmark.conversion import container_of
from onnxmark.errors import MissingExtra, ModelLimitError, ModelUnavailable
from onnxmark.model import open_model
from onnxmark.model.external import reference
from onnxmark.model.records import Storage, Tensor
from onnxmark.registry.layouts.layout import parent
from onnxmark.registry.urls import carries_password, is_remote, public

if TYPE_CHECKING:
    from onnxmark.model import Model
    from onnxmark.model.records import Graph

DEFAULT_LIMIT: Final = 16 << 30
"""Bytes of a model and its data that are brought onto this machine."""
_PIECE: Final = 8 << 20


class RemoteFiles(Protocol):
    """What is used of an fsspec file system."""

    def ls(self, path: str, detail: bool = True) -> list[dict[str, Any]]:
        """The files and directories in a directory."""
        ...

    def info(self, path: str) -> dict[str, Any]:
        """Name, type and size of one of them."""
        ...

    def cat_file(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        """Bytes ``start`` to ``end`` of a file."""
        ...

    def open(self, path: str, mode: str) -> BinaryIO:
        """A file, to be read from its beginning."""
        ...

    def unstrip_protocol(self, name: str) -> str:
        """The URL of a path."""
        ...


def opened(url: str) -> tuple[RemoteFiles, str]:
    """The file system a URL means, and the path in it.

    Raises:
        MissingExtra: fsspec is not installed.
        ModelUnavailable: The URL carries a password, or no such file system can be had.
    """
    try:
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtra("fsspec", "remote", f"reading {public(url)!r}") from error
    if carries_password(url):
        raise ModelUnavailable(f"{public(url)!r}: the URL carries a password; configure it in fsspec instead")
    with told(url):
        files, path = url_to_fs(url)
    return files, path


@contextmanager
def local_copy(location: str, max_size: int | None = None) -> Iterator[Path]:
    """A model as a file on this machine, for as long as the context lasts.

    Args:
        location: As discovery gave it: a path, which is yielded as it is, or a URL; of a container of another
            framework (:func:`onnxmark.conversion.container_of`), the one file.
        max_size: Bytes the model and its data may have together; :data:`DEFAULT_LIMIT` if None. Paths are not limited.

    Raises:
        MissingExtra: fsspec is not installed.
        ModelUnavailable: The model or its data cannot be had.
        ModelLimitError: They are larger.
        ModelError: What was fetched is not a model; see :func:`onnxmark.model.open_model`.
    """
    if not is_remote(location):
        yield Path(location)
        return
    files, path = opened(location)
    with TemporaryDirectory(prefix="onnxmark-") as folder:
        fetch = _Fetch(files, location, DEFAULT_LIMIT if max_size is None else max_size)
        # The name is the registry's; what it may contain is of no consequence under another.
        copy = Path(folder, f"model{_suffix(path)}")
        fetch.file(path, copy)
        if container_of(copy) is not None:
            yield copy
            return
        with open_model(copy) as model:
            names = data_files(model)
        for name in names:
            fetch.file(f"{parent(path)}/{name}", copy.parent / name)
        yield copy


def _suffix(path: str) -> str:
    """The end of a name, by which some formats are told; that of ONNX where it could be anything."""
    found = re.search(r"\.[a-z0-9]{1,16}$", path.lower())
    return ".onnx" if found is None else found.group()


def data_files(model: Model) -> list[str]:
    """The files that hold a model's external data, in order, relative to its directory.

    Raises:
        ExternalDataError: One lies elsewhere.
    """
    tensors = (tensor for tensor in _tensors(model) if tensor.storage is Storage.EXTERNAL)
    return sorted({os.path.normpath(reference(tensor).location) for tensor in tensors})


def _tensors(model: Model) -> Iterator[Tensor]:
    view = model.graph
    waiting: list[Graph] = [view.root.body.graph, *(view.body_of(function).graph for function in view.functions)]
    while waiting:
        graph = waiting.pop()
        yield from graph.initializers
        for sparse in graph.sparse_initializers:
            yield from (sparse.values, sparse.indices)
        for node in graph.nodes:
            for attribute in view.decoder.attributes(node).values():
                yield from filter(None, (attribute.tensor, *attribute.tensors))
                waiting += [view.body(extents).graph for extents in attribute.graphs]


@dataclass(slots=True)
class _Fetch:
    """Copies files until there are more bytes than may be."""

    files: RemoteFiles
    location: str
    left: int

    def file(self, path: str, target: Path) -> None:
        """Copy one file, in pieces: neither its size nor the service's word for it has to fit into memory."""
        with told(self.location):
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as out, self.files.open(path, "rb") as source:
                while piece := source.read(min(_PIECE, self.left + 1)):
                    self.left -= len(piece)
                    if self.left < 0:
                        break
                    out.write(piece)
        if self.left < 0:
            where = public(self.location)
            raise ModelLimitError(f"{where!r}: with its data it has more bytes than may be fetched; raise the limit")


@contextmanager
def told(url: str) -> Iterator[None]:
    """Whatever a backend raises, as one line of ours.

    Raises:
        ModelUnavailable: Anything was raised inside.
    """
    try:
        yield
    except Exception as error:
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelUnavailable(f"{public(url)!r}: cannot be read ({what}); check the URL") from error
