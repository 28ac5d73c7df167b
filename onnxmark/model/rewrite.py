"""Replacing weights that have no bytes to patch: a new initializer takes their place, through the onnx library.

For weights computed in the file (``Mul`` of a raw weight and a scale), repeated (``ConstantOfShape``) or stored in a
variable-length field. The one module that imports onnx to change a model. What computed the old weights is removed, for
leaving them behind would hand the unmarked weights to whoever wants to undo a mark.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onnxmark.arrays import AnyArray
from onnxmark.errors import WriteBackError
from onnxmark.model.bodies import Step
from onnxmark.model.locate import WeightSite

_LARGEST = 2**31 - 1
"""Bytes of a message that protobuf can write."""


def replace_weights(path: Path, replacements: list[tuple[WeightSite, AnyArray]]) -> None:
    """Give the nodes of each site a new initializer, in the model file at ``path``, which is overwritten.

    Args:
        path: The model; its external data are left alone.
        replacements: Sites and their values, in the order and type the nodes want.

    Raises:
        WriteBackError: A site lies in a function body, or the file would be too large for the library.
    """
    for site, _ in replacements:
        if any(use.scope.trail is None for use in site.uses):
            raise WriteBackError(
                f"weights {site.name!r} are used inside a function ({site.nodes[0]!r}) and cannot be changed"
                " in place; inline the model's functions first (onnx.inliner)"
            )
    names = ", ".join(repr(site.name) for site, _ in replacements[:3])
    if path.stat().st_size + sum(values.nbytes for _, values in replacements) > _LARGEST:
        raise WriteBackError(f"weights {names} must be replaced, and a file over 2 GiB cannot be; mark another layer")
    from google.protobuf.message import Error as ProtobufError  # type: ignore[import-untyped]

    try:
        path.write_bytes(_replaced(path, replacements))
    except (ProtobufError, ValueError, LookupError, StopIteration) as error:
        reason = " ".join(str(error).split())
        raise WriteBackError(f"weights {names} must be replaced, and onnx cannot read the model: {reason}") from error


def _replaced(path: Path, replacements: list[tuple[WeightSite, AnyArray]]) -> bytes:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(path), load_external_data=False)
    graph = model.graph
    taken = set(_names(graph))
    # All nodes are found before any is removed, for they are known by their place.
    nodes = [[_graph(graph, use.scope.trail or ()).node[use.node] for use in site.uses] for site, _ in replacements]
    old: list[str] = []
    new: list[tuple[str, str]] = []
    for (site, values), users in zip(replacements, nodes, strict=True):
        name = _free(f"{site.name}.marked", taken)
        tensor = numpy_helper.from_array(values, name)
        graph.initializer.append(tensor)
        if model.ir_version < 4:
            # Before version 4 every initializer had to be an input, too.
            graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
        for use, node in zip(site.uses, users, strict=True):
            old.append(node.input[use.input])
            node.input[use.input] = name
        new.append((name, site.name))
    _remove_unused(graph, old)
    left = set(_names(graph))
    for name, before in new:
        if before not in left:
            # The old tensor is gone: keeping its name lets a key that remembers it find the layer again.
            _rename(graph, name, before)
            left.add(before)
    return bytes(model.SerializeToString())


def _graph(graph: Any, trail: tuple[Step, ...]) -> Any:
    for step in trail:
        attribute = next(a for a in graph.node[step.node].attribute if a.name == step.attribute)
        graph = attribute.g if attribute.HasField("g") else attribute.graphs[step.graph]
    return graph


def _inner(graph: Any) -> Iterator[Any]:
    """``graph`` and all graphs inside it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _inner(inner)


def _names(graph: Any) -> Iterator[str]:
    for inner in _inner(graph):
        for value in (*inner.initializer, *inner.input):
            yield value.name
        for sparse in inner.sparse_initializer:
            yield sparse.values.name
        for node in inner.node:
            yield from node.input
            yield from node.output


def _rename(graph: Any, old: str, new: str) -> None:
    for inner in _inner(graph):
        for value in (*inner.initializer, *inner.input):
            value.name = new if value.name == old else value.name
        for node in inner.node:
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new


def _free(name: str, taken: set[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    taken.add(candidate)
    return candidate


def _remove_unused(graph: Any, names: list[str]) -> None:
    """Remove what defines ``names``, and then what only that used, as far as nothing else uses it."""
    used: dict[str, int] = {}
    for inner in _inner(graph):
        for name in (*(name for node in inner.node for name in node.input), *(value.name for value in inner.output)):
            used[name] = used.get(name, 0) + 1
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if not name or used.get(name, 0) > 0:
            continue
        for inner in _inner(graph):
            for stored in [stored for stored in inner.initializer if stored.name == name]:
                inner.initializer.remove(stored)
                for value in [value for value in inner.input if value.name == name]:
                    inner.input.remove(value)
            for sparse in [sparse for sparse in inner.sparse_initializer if sparse.values.name == name]:
                inner.sparse_initializer.remove(sparse)
            for node in [node for node in inner.node if name in node.output]:
                if all(used.get(output, 0) <= 0 for output in node.output):
                    for source in node.input:
                        used[source] -= 1
                        waiting.append(source)
                    inner.node.remove(node)
