"""ONNX Runtime's blocked convolutions (``com.microsoft.nchwc``): channels padded to blocks, a block's channels last.

The block is as wide as the vectors of the machine that saved the file, and the file does not say how wide that was. It
was the same for all layers, and each layer rules out the widths its padded sizes cannot have come from; where more than
one is left, all of them are offered.
"""

from __future__ import annotations

from math import prod

from onnxmark.model.expression import Expression
from onnxmark.model.hosts import Host, Unfit
from onnxmark.model.plan import Obstacle, Planner
from onnxmark.model.records import Node
from onnxmark.model.scope import Scope

DOMAIN = "com.microsoft.nchwc"
_SIZES = (16, 8)
"""AVX-512 (and Arm), AVX2; likelier first."""
_KEEP_CHANNELS = frozenset(
    ["Relu", "Add", "Sum", "Sigmoid", "Tanh", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool"]
)
_NODES_AHEAD = 24


def readings(host: Host, weights: Expression) -> list[tuple[str, Expression]]:
    """The canonical weights for each block size the file allows, with a label for those after the first."""
    if len(weights.shape) != 4:
        raise Unfit(f"blocked weights have four axes, not shape {weights.shape}")
    sizes = _sizes(host.scope, host.planner, host.block_sizes)
    if not sizes:
        raise Unfit(f"blocked weights of shape {weights.shape}, which no known block size explains")
    return [("" if size == sizes[0] else f"block{size}", _unblocked(host, weights, size)) for size in sizes]


def _unblocked(host: Host, weights: Expression, size: int) -> Expression:
    outputs, inputs, *kernel = weights.shape
    interner = host.interner
    if _inputs_plain(weights.shape, host.group, size):
        apart: tuple[int, ...] = (outputs // size, inputs, *kernel, size)
        axes: tuple[int, ...] = (0, 4, 1, 2, 3)
        order = "OIHWo"
    else:
        apart = (outputs // size, inputs // size, *kernel, size, size)
        axes = (0, 5, 1, 4, 2, 3)
        order = "OIHWio"
    swapped = tuple(apart[axis] for axis in axes)
    step = interner.apply("reshape", (weights,), (), apart, weights.dtype)
    step = interner.apply("transpose", (step,), (axes,), swapped, weights.dtype)
    words = f"blocked NCHW{size}c ({order})"
    step = interner.apply("reshape", (step,), (), (outputs, inputs, *kernel), weights.dtype, words=words)
    channels = _channels(host.scope, host.node)
    if channels is None or channels == outputs:
        return step
    return interner.apply("crop", (step,), (), (channels, inputs, *kernel), weights.dtype, words="padding cut off")


def _inputs_plain(shape: tuple[int, ...], group: int, size: int) -> bool:
    """Whether only the output channels are blocked: depthwise, or too few inputs for a block."""
    return shape[1] == 1 if group > 1 else shape[1] < size


def _sizes(scope: Scope, planner: Planner, known: dict[int, tuple[int, ...]]) -> tuple[int, ...]:
    found = known.get(id(scope.body))
    if found is None:
        shapes = []
        for node in scope.nodes:
            if node.domain == DOMAIN and node.op_type == "Conv" and len(node.inputs) > 1:
                outcome = planner.plan(scope, node.inputs[1])
                if not isinstance(outcome, Obstacle) and len(outcome.shape) == 4:
                    group = scope.attributes(node).get("group")
                    shapes.append((outcome.shape, 1 if group is None else group.integer, _channels(scope, node)))
        found = tuple(size for size in _SIZES if all(_possible(size, *shape) for shape in shapes))
        known[id(scope.body)] = found
    return found


def _possible(size: int, shape: tuple[int, ...], group: int, channels: int | None) -> bool:
    """Whether blocks of ``size`` can have led to padded weights of ``shape``."""
    outputs, inputs = shape[:2]
    if prod(shape) == 0 or group < 1 or outputs % size:
        return False
    if channels is not None and not 0 <= outputs - channels < size:
        return False
    if _inputs_plain(shape, group, size):
        return group in (1, outputs)
    return inputs % size == 0 and (outputs // group) % size == 0


def _channels(scope: Scope, node: Node) -> int | None:
    """Output channels before padding, where the way back to unpadded ones tells; None where it does not."""
    waiting, seen = list(node.outputs[:1]), set(node.outputs[:1])
    for _ in range(_NODES_AHEAD):
        if not waiting:
            return None
        name = waiting.pop(0)
        for index, place in scope.body.consumers.get(name, []):
            user = scope.nodes[index]
            if user.op_type == "ReorderOutput" and user.domain == DOMAIN:
                count = scope.attributes(user).get("channels")
                return None if count is None or count.integer < 1 else count.integer
            # A blocked convolution's fourth input is added to its output.
            sums = user.op_type == "Conv" and user.domain == DOMAIN and place == 3
            if (sums or user.op_type in _KEEP_CHANNELS) and user.outputs and user.outputs[0] not in seen:
                seen.add(user.outputs[0])
                waiting.append(user.outputs[0])
    return None
