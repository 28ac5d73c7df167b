"""A whole model in memory, for what cannot be done by patching bytes: the onnx library's message, data brought in.

The library resolves external data by its own rules, which differ from version to version. So the message is parsed
without them, and each external tensor is then filled through the reader that everything else here stands on: contained
in the model's directory, and no larger than its shape says.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, Final

from onnxmark.errors import ModelError, ModelLimitError, WriteBackError
from onnxmark.model.dtypes import dtype_of
from onnxmark.model.external import ExternalFiles
from onnxmark.model.opened import open_model
from onnxmark.model.records import Storage, Tensor

LARGEST: Final = 2**31 - 1
"""Bytes of a message that protobuf can read or write."""


def load_whole(path: Path) -> Any:
    """The ``onnx.ModelProto`` at ``path`` with all of its external data inside.

    Raises:
        ModelError: The file is missing, damaged or no model, or its data cannot serve.
        ModelLimitError: The model and its data have more than 2 GiB together.
    """
    # The reader's errors tell a missing file, a download page and a truncated model apart; the library's do not.
    with open_model(path):
        pass
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    _check_size(path, path.stat().st_size)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"{str(path)!r}: the onnx library cannot read it ({reason}); export it again") from error
    _fill(model, path)
    return model


def save_whole(model: Any, path: Path) -> None:
    """Write ``model`` with its weights inside; the file appears under its name only when complete.

    Raises:
        ModelLimitError: It has more than 2 GiB.
        WriteBackError: The place cannot be written to.
    """
    _check_size(path, model.ByteSize())
    try:
        handle, name = tempfile.mkstemp(prefix=".onnxmark-", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(model.SerializeToString())
            mask = os.umask(0)
            os.umask(mask)
            Path(name).chmod(0o666 & ~mask)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise WriteBackError(
            f"{str(path)!r} cannot be written ({error.strerror or error}); choose another place"
        ) from error


def every_graph(graph: Any) -> Iterator[Any]:
    """``graph`` and all graphs inside its nodes, the outer first."""
    yield graph
    for node in graph.node:
        yield from graphs_of(node)


def graphs_of(node: Any) -> Iterator[Any]:
    """All graphs inside a node (branches, loop bodies), those inside them included."""
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from every_graph(inner)


def _fill(model: Any, path: Path) -> None:
    """Move external data into the message."""
    import onnx

    outside = [item for item in _tensors(model) if item.data_location == onnx.TensorProto.EXTERNAL]
    sizes = [dtype_of(item.data_type).nbytes(prod(item.dims)) for item in outside]
    _check_size(path, model.ByteSize() + sum(sizes))
    files = ExternalFiles(path)
    try:
        for item, size in zip(outside, sizes, strict=True):
            source, offset = files.locate(_record(item), size)
            item.raw_data = source.exactly(offset, size)
            del item.external_data[:]
            item.data_location = onnx.TensorProto.DEFAULT
    finally:
        files.close()


def _record(item: Any) -> Tensor:
    """What our reader wants to know of an external tensor."""
    entries = tuple((entry.key, entry.value) for entry in item.external_data)
    return Tensor(item.name, tuple(item.dims), item.data_type, Storage.EXTERNAL, (), entries, 0)


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor of the model, wherever it is."""
    for graph in every_graph(model.graph):
        yield from _stored(graph)
    for function in model.functions:
        yield from _of_nodes(function.node)
        for node in function.node:
            for graph in graphs_of(node):
                yield from _stored(graph)


def _stored(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)


def _check_size(path: Path, size: int) -> None:
    if size > LARGEST:
        raise ModelLimitError(
            f"{str(path)!r}: {size} bytes with its data, and a graph is only changed or tapped up to 2 GiB; take a "
            "smaller model"
        )
