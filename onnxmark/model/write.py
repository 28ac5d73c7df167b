"""Host weights back into a copy of their model, every other byte as it was.

The file and its external data are copied and only the weights' own bytes are overwritten, so nothing that a library
would drop or reorder is lost, and size does not matter. New files appear under their names only when complete.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path

import numpy as np

from onnxmark.arrays import Float32Array
from onnxmark.errors import WriteBackError
from onnxmark.model.expression import Leaf, leaves
from onnxmark.model.external import is_same_file, reference
from onnxmark.model.graph import GraphView
from onnxmark.model.inverse import NotInvertible, native_values, stored_bytes
from onnxmark.model.limits import MAX_TENSOR_BYTES
from onnxmark.model.locate import WeightSite
from onnxmark.model.opened import Model
from onnxmark.model.records import Graph, Run, Storage, Tensor
from onnxmark.model.rewrite import replace_weights


@dataclass(slots=True)
class _Changes:
    """What is to be done: bytes to overwrite in the model file and in data files, and weights to replace."""

    inline: list[tuple[tuple[Run, ...], bytes]] = field(default_factory=list)
    external: dict[str, list[tuple[tuple[Run, ...], bytes]]] = field(default_factory=dict)
    replaced: list[tuple[WeightSite, Float32Array]] = field(default_factory=list)


def write_model(
    source_path: str | PathLike[str],
    values: Mapping[str, Float32Array],
    out_path: str | PathLike[str],
    limit: int = MAX_TENSOR_BYTES,
) -> None:
    """Copy a model with other weights.

    Weights stored as float32 are written exactly, others rounded to their type (or their scale, if quantised).
    Where that cannot be done in place they are replaced by a new initializer.

    Args:
        source_path: The model. It and its data files are never changed.
        values: New weights by site name: float32, canonical shape.
        out_path: The copy, replaced if it exists. External data are copied to the same relative names beside it.
        limit: Bytes a single tensor may have as float32.

    Raises:
        WriteBackError: A site is missing or of another shape, or the copy would overwrite the original or its data.
        ModelError: The source cannot be read.
    """
    out = Path(fspath(out_path))
    with Model(Path(fspath(source_path)), limit) as model:
        if is_same_file(model.path, out):
            raise WriteBackError(f"{str(out)!r} is the model itself; write the copy elsewhere")
        changes = _changes(model, values)
        beside = is_same_file(model.path.parent, out.parent)
        if beside and changes.external:
            location = next(iter(changes.external))
            raise WriteBackError(
                f"{str(out)!r}: its weights lie in {location!r}, which a copy in the same directory would share with"
                " the original; write the copy to another directory"
            )
        data = {} if beside else _data_files(model, out)
        with _Staged() as staged:
            for location, origin in data.items():
                copy = staged.copy(origin, out.parent / location)
                _patch(copy, changes.external.get(location, []))
            copy = staged.copy(model.path, out)
            _patch(copy, changes.inline)
            if changes.replaced:
                replace_weights(copy, changes.replaced)
            staged.publish()


def _changes(model: Model, values: Mapping[str, Float32Array]) -> _Changes:
    sites = {site.name: site for site in model.sites()}
    # Two ways to read one layer are one user.
    users: dict[int, set[frozenset[tuple[int, int]]]] = {}
    for site in sites.values():
        nodes = frozenset((id(use.scope), use.node) for use in site.uses)
        for leaf in leaves(site.plan) if site.plan is not None else ():
            users.setdefault(id(leaf), set()).add(nodes)
    changes = _Changes()
    for name, array in values.items():
        if name not in sites:
            raise WriteBackError(f"{str(model.path)!r} has no layer whose weights are called {name!r}")
        site = sites[name]
        if site.plan is None or site.native is None or site.problem is not None:
            raise WriteBackError(f"weights {name!r} of {str(model.path)!r} cannot be written: {site.problem}")
        if array.dtype != np.float32 or array.shape != site.shape:
            raise WriteBackError(
                f"weights {name!r} are float32 {site.shape}, but {array.dtype} {array.shape} should be written"
            )
        try:
            leaf, data = stored_bytes(site.plan, array, model.payloads)
            if len(users[id(leaf)]) > 1:
                raise NotInvertible("another layer uses the same tensor in another way")
        except NotInvertible as why:
            changes.replaced.append((site, _native(site, array, model, why)))
        else:
            _put(changes, model, leaf, data)
    return changes


def _native(site: WeightSite, array: Float32Array, model: Model, why: NotInvertible) -> Float32Array:
    assert site.plan is not None
    assert site.native is not None
    try:
        return np.ascontiguousarray(native_values(site.plan, site.native, array, model.payloads))
    except NotInvertible as also:
        raise WriteBackError(f"weights {site.name!r} cannot be written back: {why}; {also}") from None


def _put(changes: _Changes, model: Model, leaf: Leaf, data: bytes) -> None:
    tensor = leaf.tensor
    assert tensor is not None
    if tensor.storage is Storage.EXTERNAL:
        _, offset = model.payloads.external.locate(tensor, len(data))
        patches = changes.external.setdefault(_plain(reference(tensor).location), [])
        patches.append((((offset, len(data), len(data), 1),), data))
    else:
        changes.inline.append((tensor.runs, data))


def _plain(location: str) -> str:
    """One spelling for ``w.bin`` and ``./w.bin``."""
    return os.path.normpath(location)


def _patch(path: Path, patches: list[tuple[tuple[Run, ...], bytes]]) -> None:
    if not patches:
        return
    with path.open("r+b", buffering=0) as file:
        for runs, data in patches:
            at = 0
            for start, size, stride, count in runs:
                piece = data[at : at + size * count]
                at += size * count
                if count > 1 and stride != size:
                    # Elements with a tag before each: the tags between them stay.
                    span = stride * (count - 1) + size
                    region = bytearray(os.pread(file.fileno(), span, start)) + bytes(stride - size)
                    view = np.frombuffer(region, np.uint8).reshape(count, stride)
                    view[:, :size] = np.frombuffer(piece, np.uint8).reshape(count, size)
                    piece = bytes(region[:span])
                file.seek(start)
                rest = memoryview(piece)
                while rest:
                    rest = rest[file.write(rest) :]


def _data_files(model: Model, out: Path) -> dict[str, Path]:
    """Location → file, for every data file the model names; none may be in the way at the destination."""
    found: dict[str, Path] = {}
    for tensor in _external_tensors(model.graph):
        location = _plain(reference(tensor).location)
        if location not in found:
            found[location] = model.payloads.external.path(tensor)
    for location in found:
        target = out.parent / location
        if os.path.lexists(target) or os.path.normpath(target) == os.path.normpath(out):
            raise WriteBackError(f"{str(target)!r} is in the way of the copy's data file; write to an empty directory")
    return found


def _external_tensors(view: GraphView) -> list[Tensor]:
    """Every tensor of the model, wherever it is, whose elements are in another file."""
    decoder = view.decoder
    waiting: list[Graph] = [view.root.body.graph, *(view.body_of(function).graph for function in view.functions)]
    found: list[Tensor] = []
    while waiting:
        graph = waiting.pop()
        found += graph.initializers
        found += [tensor for sparse in graph.sparse_initializers for tensor in (sparse.values, sparse.indices)]
        for node in graph.nodes:
            for attribute in decoder.attributes(node).values():
                found += (attribute.tensor, *attribute.tensors) if attribute.tensor is not None else attribute.tensors
                waiting += [view.body(extents).graph for extents in attribute.graphs]
    return [tensor for tensor in found if tensor.storage is Storage.EXTERNAL]


class _Staged:
    """Files written under temporary names beside their destinations, and renamed together at the end."""

    def __init__(self) -> None:
        self._files: list[tuple[Path, Path]] = []

    def __enter__(self) -> _Staged:
        return self

    def __exit__(self, *_: object) -> None:
        for temporary, _target in self._files:
            temporary.unlink(missing_ok=True)

    def copy(self, origin: Path, target: Path) -> Path:
        """A temporary copy of ``origin`` that will become ``target``."""
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".onnxmark-", suffix=".part", dir=target.parent)
            os.close(handle)
            self._files.append((Path(name), target))
            shutil.copyfile(origin, name)
        except OSError as error:
            raise WriteBackError(
                f"{str(target)!r} cannot be written ({error.strerror or error}); choose another place"
            ) from error
        return Path(name)

    def publish(self) -> None:
        """Give all files their names, the first copied first."""
        mask = os.umask(0)
        os.umask(mask)
        for temporary, target in self._files:
            try:
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
                temporary.chmod(0o666 & ~mask)
                temporary.replace(target)
            except OSError as error:
                raise WriteBackError(f"{str(target)!r} cannot be written ({error.strerror or error})") from error
