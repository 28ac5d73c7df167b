"""The channel groups of a graph: from each layer that makes channels, along all ways they go.

What a group needs is that *nothing* was overlooked, so whatever is not understood makes it immovable, with the reason
kept for the report: outputs of the model, graphs inside nodes, operators without a rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from onnxmark.model.channels import elementwise_rules, layer_rules, relayout
from onnxmark.model.channels.flood import Flood, Shapes
from onnxmark.model.channels.groups import ChannelGroup, Slot
from onnxmark.model.channels.visit import Rule, Visit
from onnxmark.model.editing.editable import INSIDE, EditableModel, Node

_RULES: Final[dict[str, Rule]] = {**layer_rules.RULES, **elementwise_rules.RULES, **relayout.RULES}
_KEEP_SHAPE: Final = frozenset(
    ["BatchNormalization", "InstanceNormalization", "Relu", "LeakyRelu", "PRelu", "Clip", "Tanh", "Sigmoid",
     "HardSigmoid", "HardSwish", "Identity", "Dropout"]
)  # fmt: skip
_Start = tuple[int, str, int, int]


def channel_groups(model: EditableModel) -> tuple[ChannelGroup, ...]:
    """All channel groups of the main graph that start at floating-point weights, in graph order.

    Every convolution and matrix product with constant weights makes the channels of one group; those that a residual
    connection adds are one and the same. Groups that cannot be reordered are among them, with their ``problem``.
    """
    starts = list(_starts(model))
    shapes = _shapes(model, starts)
    groups: list[ChannelGroup] = []
    reached: set[str] = set()
    for size, value, axis, _ in starts:
        if value not in reached:
            flood = _flooded(model, shapes, size, value, Slot(axis))
            reached |= flood.slots.keys()
            groups.append(flood.group())
    return tuple(groups)


def _shapes(model: EditableModel, starts: list[_Start]) -> Shapes:
    """What inference knows, and what it gave up on: a convolution's rank follows from its kernel, and its channels."""
    layers: dict[str, tuple[int | None, ...]] = {}
    for size, value, axis, rank in starts:
        if rank:
            layers[value] = tuple(size if place == rank + axis else None for place in range(rank))
    shapes = layers | model.shapes()
    for node in model.nodes:
        if node.op_type in _KEEP_SHAPE and node.input[0] in shapes:
            shapes.setdefault(node.output[0], shapes[node.input[0]])
    return shapes


def _starts(model: EditableModel) -> Iterator[_Start]:
    """Layers with constant weights: number of channels, the value they are in, its axis, its rank (0: not known)."""
    for node in model.nodes:
        if not _is_standard(node) or node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            continue
        weights = model.constant(node.input[1])
        if weights is None or weights.dtype.kind != "f" or weights.ndim < 2 or not weights.size:
            continue
        if node.op_type == "Conv":
            yield weights.shape[0], node.output[0], 1 - weights.ndim, weights.ndim
        elif node.op_type == "ConvTranspose":
            group = int(model.attribute(node, "group", 1))
            yield weights.shape[1] * group, node.output[0], 1 - weights.ndim, weights.ndim
        elif weights.ndim == 2:
            transposed = bool(model.attribute(node, "transB", 0))
            rank = 2 if node.op_type == "Gemm" else 0
            yield weights.shape[0 if transposed else 1], node.output[0], -1, rank


def _flooded(model: EditableModel, shapes: Shapes, size: int, value: str, slot: Slot) -> Flood:
    flood = Flood(model, shapes, size)
    flood.reach(value, slot)
    for reached, at in flood:
        if reached in model.outputs:
            flood.block(reached, "is an output of the model")
        maker = model.producer(reached)
        if maker is None:
            flood.block(reached, "is an input of the model")
        else:
            _cross(Visit(flood, maker, reached, at, None))
        for node, place in model.consumers(reached):
            _cross(Visit(flood, node, reached, at, place))
    return flood


def _cross(visit: Visit) -> None:
    if visit.place == INSIDE:
        return visit.stop("uses it in a graph of its own")
    if visit.place is None and visit.node.output[0] != visit.value:
        return visit.stop("makes it beside its first output")
    rule = _RULES.get(visit.node.op_type) if _is_standard(visit.node) else None
    if rule is None:
        return visit.stop("mixes channels or is not known")
    return rule(visit)


def _is_standard(node: Node) -> bool:
    return node.domain in ("", "ai.onnx")
