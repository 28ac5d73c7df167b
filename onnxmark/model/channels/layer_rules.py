"""Where channels begin and end: layers with weights, and the normalisations between them."""

from __future__ import annotations

from typing import Final

from onnxmark.model.channels.groups import Commutes, Role
from onnxmark.model.channels.visit import Rule, Visit, operand, slot_at


def convolution(visit: Visit) -> None:
    """Conv and ConvTranspose: the channels end at the weights, or pass where each is convolved by itself."""
    flood, node = visit.flood, visit.node
    weights = flood.model.constant(node.input[1])
    if weights is None or weights.dtype.kind != "f":
        return visit.stop("has weights that are quantised or computed in the file")
    if visit.place not in (None, 0) or not visit.is_channel_axis(weights.ndim):
        return visit.stop("uses the channels as something else")
    group = int(flood.model.attribute(node, "group", 1))
    if group == weights.shape[0] == flood.width(visit.slot) and weights.shape[1] == 1 and group > 1:
        return _depthwise(visit)
    transposed = node.op_type == "ConvTranspose"
    if visit.place == 0:
        if group > 1:
            return visit.stop(f"convolves its inputs in {group} groups")
        return flood.use(node, 1, slot_at(visit.slot, 0 if transposed else 1), Role.CONSUMER, takes=visit.value)
    if group > 1:
        if transposed:
            return visit.stop(f"makes its outputs in {group} groups")
        flood.pin(f"value {visit.value!r}: {visit.words} makes its outputs in {group} groups")
    flood.use(node, 1, slot_at(visit.slot, 1 if transposed else 0), Role.PRODUCER, gives=visit.value)
    return _bias(visit, visit.value)


def _depthwise(visit: Visit) -> None:
    flood, node = visit.flood, visit.node
    source, result = node.input[0], node.output[0]
    flood.reach(source, visit.slot)
    flood.reach(result, visit.slot)
    flood.use(node, 1, slot_at(visit.slot, 0), Role.DEPTHWISE, takes=source, gives=result)
    _bias(visit, result)


def _bias(visit: Visit, result: str) -> None:
    if visit.given(2):
        visit.flood.use(visit.node, 2, slot_at(visit.slot, 0), Role.BIAS, gives=result)


def product(visit: Visit) -> None:
    """MatMul and Gemm with constant weights on the right: the channels end there, in the last axis."""
    flood, node = visit.flood, visit.node
    weights = flood.model.constant(node.input[1])
    if weights is None or weights.ndim != 2 or weights.dtype.kind != "f":
        return visit.stop("has no matrix of floating-point constants on its right")
    if visit.place not in (None, 0) or visit.slot.axis != -1 or flood.model.attribute(node, "transA", 0):
        return visit.stop("uses the channels as something else")
    transposed = bool(flood.model.attribute(node, "transB", 0))
    if visit.place == 0:
        return flood.use(node, 1, slot_at(visit.slot, int(transposed)), Role.CONSUMER, takes=visit.value)
    flood.use(node, 1, slot_at(visit.slot, 1 - int(transposed)), Role.PRODUCER, gives=visit.value)
    if visit.given(2) and operand(visit, 2, Role.BIAS, moves=True):
        visit.stop("adds another activation")
    return None


def normalisation(visit: Visit) -> None:
    """BatchNormalization and InstanceNormalization: their factor divides two regions."""
    flood, node = visit.flood, visit.node
    source, result = node.input[0], node.output[0]
    if visit.place not in (None, 0) or not visit.is_channel_axis(flood.rank(visit.value)):
        return visit.stop("normalises along another axis")
    if (
        flood.model.opset < 7
        or flood.model.attribute(node, "training_mode", 0)
        or len([name for name in node.output if name]) > 1
    ):
        return visit.stop("is in training mode")
    flood.reach(source, visit.slot)
    flood.reach(result, visit.slot)
    slot = slot_at(visit.slot, 0)
    flood.use(node, 1, slot, Role.GAMMA, takes=source, gives=result)
    flood.use(node, 2, slot, Role.BETA, gives=result)
    if node.op_type == "InstanceNormalization":
        # Divided by its own deviation *plus epsilon*, a rescaled input gives nearly, not quite, the same.
        return flood.limit(source, Commutes.ODD)
    flood.use(node, 3, slot, Role.MEAN, gives=source)
    return flood.use(node, 4, slot, Role.VARIANCE)


def shape_of(visit: Visit) -> None:
    """Shape: depends on the number of channels at most, and not even on that where only other sizes are used."""
    flood, rank = visit.flood, visit.flood.rank(visit.value)
    for node, place in flood.model.consumers(visit.node.output[0]):
        picked = flood.model.constant(node.input[1]) if node.op_type == "Gather" and place == 0 else None
        channels = None if rank is None else rank + visit.slot.axis
        if picked is None or channels is None or channels in (picked % rank):
            flood.stiffen(f"{visit.words} tells their number")


def cast_like(visit: Visit) -> None:
    """CastLike: of its second operand only the type counts."""
    if visit.place != 1:
        visit.stop("may round the channels")


RULES: Final[dict[str, Rule]] = {
    **dict.fromkeys(("Conv", "ConvTranspose"), convolution),
    **dict.fromkeys(("MatMul", "Gemm"), product),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), normalisation),
    "Shape": shape_of,
}
