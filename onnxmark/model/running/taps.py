"""The second moment of what enters a layer: which changes of its weights its outputs would notice.

An activation inside a graph is made visible by declaring it an output of a copy of the model, which then runs without
graph optimisation, since a fused activation does not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from onnxmark.arrays import AnyArray, Float64Array
from onnxmark.errors import CalibrationError
from onnxmark.model.editing.whole import load_whole
from onnxmark.model.running.calibration import BATCH_SIZE, Calibration, bind
from onnxmark.model.running.patches import MomentSum, convolution, transposed_convolution
from onnxmark.model.running.runtime import open_session

ROWS_PER_BATCH: Final = 2**15
"""Patches looked at per batch: some ten batches give far more rows than a kernel has dimensions, in seconds."""

_Cut = Callable[[AnyArray], AnyArray]

_LAYERS: Final = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True)
class _Tap:
    """One node that uses the weights, the operand that is the activation, and the kernel where the weights show it."""

    node: Any
    activation: str
    side: int
    kernel: tuple[int, ...]


def input_second_moment(
    path: Path | str,
    name: str,
    calibration: Calibration,
    *,
    rows_per_batch: int = ROWS_PER_BATCH,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
) -> Float64Array:
    """Second moment of the im2col'd inputs of a layer over calibration inputs.

    Args:
        path: The model; external data is read from beside it.
        name: A node of the main graph (``Conv``, ``ConvTranspose``, ``Gemm`` or ``MatMul``), or the stored tensor its
            weights come from, perhaps through other nodes; all nodes that share the tensor then count.
        calibration: Inputs of the model.
        rows_per_batch: Patches drawn from each batch, at most; in expectation the moment is that of all patches.
        batch_size: Inputs at a time, where the model leaves it open.
        seed: Of the draw.

    Returns:
        Shape (groups, M, M), float64, with ``M = in / group * prod(kernel)`` in (in, *kernel) order; not normalised.

    Raises:
        CalibrationError: There is no such layer in the main graph, or the inputs do not fit the model.
        MissingExtra: onnxruntime is not installed.
        ModelError: The model cannot be loaded, or has more than 2 GiB, which a tapped copy cannot have.
    """
    model = load_whole(Path(path))
    taps = _find(model.graph, name)
    inputs = {item.name for item in model.graph.input}
    wanted = tuple(dict.fromkeys(tap.activation for tap in taps if tap.activation not in inputs))
    session = open_session(_with_outputs(model, wanted), optimise=False)
    moment = MomentSum(rows_per_batch, np.random.default_rng(seed))
    for batch in bind(calibration, session.inputs).batches(batch_size):
        seen = {**batch.feed, **(session.run(batch.feed, wanted) if wanted else {})}
        for tap in taps:
            _add(moment, tap, seen[tap.activation], batch.cut)
    return moment.mean()


def _with_outputs(model: Any, names: tuple[str, ...]) -> bytes:
    import onnx

    present = {item.name for item in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    content: bytes = model.SerializeToString()
    return content


def _find(graph: Any, name: str) -> tuple[_Tap, ...]:
    """The nodes meant by ``name``: one of that name, or all whose weights come from a tensor of that name."""
    constants = _constants(graph)
    layers = [node for node in graph.node if node.op_type in _LAYERS and node.domain in ("", "ai.onnx")]
    named = [node for node in layers if name and node.name == name]
    if len(named) > 1:
        raise CalibrationError(f"{len(named)} nodes are named {name!r}; name the tensor of the weights instead")
    shapes = {item.name: tuple(item.dims) for item in graph.initializer}
    taps = [_tap(node, constants, shapes) for node in named]
    if not taps:
        taps = [tap for tap in (_tap(node, constants, shapes) for node in layers) if name in _sources(tap, constants)]
    if not taps:
        raise CalibrationError(
            f"no Conv, ConvTranspose, Gemm or MatMul of the main graph is named {name!r} or has its weights there; "
            "layers in subgraphs and functions cannot be calibrated"
        )
    for tap in taps:
        if tap.side < 0:
            raise CalibrationError(f"node {tap.node.name!r} does not multiply an activation with constant weights")
    return tuple(taps)


def _constants(graph: Any) -> dict[str, tuple[str, ...]]:
    """Tensors that do not depend on an input, by name, with the constants each is computed from."""
    found: dict[str, tuple[str, ...]] = {item.name: () for item in graph.initializer}
    found.update((item.values.name, ()) for item in graph.sparse_initializer)
    for node in graph.node:
        parents = tuple(filter(None, node.input))
        nested = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
        if not nested and all(parent in found for parent in parents):
            found.update((output, parents) for output in node.output)
    return found


def _tap(node: Any, constants: dict[str, tuple[str, ...]], shapes: dict[str, tuple[int, ...]]) -> _Tap:
    """Where the activation enters; side -1 where not exactly one of the two operands is one."""
    left, right = node.input[0] not in constants, node.input[1] not in constants
    side = -1 if left == right else int(right)
    if node.op_type.startswith("Conv") and side == 1:
        side = -1
    return _Tap(node, node.input[max(side, 0)], side, shapes.get(node.input[1], ())[2:])


def _sources(tap: _Tap, constants: dict[str, tuple[str, ...]]) -> set[str]:
    """Every constant the weights of a tap come from."""
    if tap.side < 0:
        return set()
    seen: set[str] = set()
    waiting = [tap.node.input[1 - tap.side]]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(constants.get(name, ()))
    return seen


def _add(moment: MomentSum, tap: _Tap, values: AnyArray, cut: _Cut) -> None:
    import onnx

    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in tap.node.attribute}
    if tap.node.op_type.startswith("Conv"):
        _add_patches(moment, tap, values, attributes, cut)
        return
    transposed = attributes.get("transA" if tap.side == 0 else "transB", 0)
    # On the right-hand side of a product the activation's columns are what the weights' rows meet.
    if values.ndim > 1 and bool(transposed) != (tap.side == 1):
        values = np.swapaxes(values, -1, -2)
    moment.add_rows(cut(values.reshape(-1, values.shape[-1])))


def _add_patches(moment: MomentSum, tap: _Tap, values: AnyArray, attributes: dict[str, Any], cut: _Cut) -> None:
    kernel = tuple(attributes.get("kernel_shape") or tap.kernel)
    if len(kernel) != values.ndim - 2:
        raise CalibrationError(f"node {tap.node.name!r} does not say its kernel size")
    build = convolution if tap.node.op_type == "Conv" else transposed_convolution
    moment.add_patches(cut(values), build(attributes, kernel, values.shape[2:]))
