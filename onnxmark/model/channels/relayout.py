"""What lies across operators that move channels to another axis, stretch them over several indices, or reduce the rest.

A Flatten between convolutions and a linear layer makes a channel a block of inputs; exporters write it as Reshape,
Squeeze or a mean over the image. Where the channels end up follows from strides: index ``c`` of a channel is
``(flat index // stride) mod size``, however the axes are cut.
"""

from __future__ import annotations

from math import prod
from typing import Final

import numpy as np

from onnxmark.model.channels.groups import Commutes, Slot
from onnxmark.model.channels.visit import Rule, Visit, pass_on

Shape = tuple[int | None, ...]


def relaid(slot: Slot, size: int, source: Shape, target: Shape) -> Slot | None:
    """Where channels are after a reshape; None where they are torn apart, or sizes that matter are not known.

    Args:
        slot: Where they are before it.
        size: Number of channels.
        source: Shape before, None for open sizes.
        target: Shape after.
    """
    behind = source[len(source) + slot.axis + 1 :]
    if None in behind or 0 in behind:
        return None
    stride = slot.inner * prod(behind)  # type: ignore[arg-type]
    trailing = 1
    for axis in range(-1, -len(target) - 1, -1):
        length = target[axis]
        if length is None or stride % trailing:
            return None
        if trailing * length > stride:
            whole = (trailing * length) % (stride * size) == 0
            return Slot(axis, trailing * length // (stride * size), stride // trailing) if whole else None
        trailing *= length
    return None


def reshape(visit: Visit) -> None:
    """Reshape and Flatten."""
    flood, node = visit.flood, visit.node
    if visit.place not in (None, 0):
        return visit.stop("takes its shape from the channels")
    here, there = (node.output[0], node.input[0]) if visit.place is None else (node.input[0], node.output[0])
    source, target = flood.shapes.get(here), flood.shapes.get(there)
    slot = None if source is None or target is None else relaid(visit.slot, flood.size, source, target)
    if slot is None:
        return visit.stop("tears the channels apart, or sizes are not known")
    slots = (visit.slot, slot) if visit.place == 0 else (slot, visit.slot)
    pass_on(visit, Commutes.LINEAR, *slots)
    if node.op_type == "Reshape" and not _follows(visit, slots[1].axis):
        flood.stiffen(f"{visit.words} has their number in its shape")
    return None


def _follows(visit: Visit, axis: int) -> bool:
    """Whether the target shape leaves the size of an axis of the result to the input."""
    wanted = visit.flood.model.constant(visit.node.input[1])
    if wanted is not None:
        return wanted.size >= -axis and int(wanted[axis]) in (-1, 0)
    maker = visit.flood.model.producer(visit.node.input[1])
    last = None if maker is None or maker.op_type != "Concat" else visit.flood.model.constant(maker.input[-1])
    return axis == -1 and last is not None and last.size > 0 and int(last[-1]) == -1


def transpose(visit: Visit) -> None:
    """Transpose."""
    rank = visit.flood.rank(visit.value)
    order = visit.flood.model.attribute(visit.node, "perm")
    if order is None and rank is not None:
        order = list(range(rank))[::-1]
    if order is None:
        return visit.stop("is of unknown rank")
    return _mapped(visit, [int(axis) for axis in order], len(order), Commutes.LINEAR)


def squeeze(visit: Visit) -> None:
    """Squeeze."""
    _without_axes(visit, Commutes.LINEAR, longer=visit.node.input[0])


def unsqueeze(visit: Visit) -> None:
    """Unsqueeze."""
    _without_axes(visit, Commutes.LINEAR, longer=visit.node.output[0])


def reduction(commutes: Commutes) -> Rule:
    """Reductions over axes in which the channels are not."""

    def rule(visit: Visit) -> None:
        if not visit.flood.model.attribute(visit.node, "keepdims", 1):
            return _without_axes(visit, commutes, longer=visit.node.input[0])
        axes, rank = _axes(visit), visit.flood.rank(visit.node.input[0])
        if axes is None or rank is None or rank + visit.slot.axis in {axis % rank for axis in axes}:
            return visit.stop("reduces the channels, or which axes it reduces is not known")
        return pass_on(visit, commutes)

    return rule


def _without_axes(visit: Visit, commutes: Commutes, longer: str) -> None:
    """Channels across a node one side of which has fewer axes, those named by the node."""
    axes, rank = _axes(visit), visit.flood.rank(longer)
    if axes is None or rank is None or visit.place not in (None, 0):
        return visit.stop("removes or adds axes that are not known")
    gone = {axis % rank for axis in axes}
    kept = [axis for axis in range(rank) if axis not in gone]
    return _mapped(visit, kept, rank, commutes, swapped=longer == visit.node.output[0])


def _axes(visit: Visit) -> list[int] | None:
    """The node's axes, an attribute or an input depending on the version; None where they are not known or all."""
    if visit.given(1):
        found = visit.flood.model.constant(visit.node.input[1])
        return None if found is None else [int(axis) for axis in found.reshape(-1)]
    found = visit.flood.model.attribute(visit.node, "axes")
    return None if found is None else [int(axis) for axis in found]


def _mapped(visit: Visit, kept: list[int], rank: int, commutes: Commutes, *, swapped: bool = False) -> None:
    """Axis k of the result is axis ``kept[k]`` of the input, which has ``rank`` axes; or the other way round."""
    from_kept = (visit.place is None) != swapped
    axis, slot = visit.slot.axis, visit.slot
    if from_kept:
        moved = kept[axis] - rank
    elif rank + axis in kept:
        moved = kept.index(rank + axis) - len(kept)
    else:
        return visit.stop("removes or reduces the axis of the channels")
    other = Slot(moved, slot.outer, slot.inner)
    slots = (other, slot) if visit.place is None else (slot, other)
    return pass_on(visit, commutes, *slots)


def resize(visit: Visit) -> None:
    """Resize and Upsample, along other axes."""
    flood, node = visit.flood, visit.node
    if visit.place not in (None, 0) or not _keeps_size(visit):
        return visit.stop("resizes the channels, or sizes are not known")
    if visit.given(3) and flood.model.constant(node.input[3]) is not None:
        flood.stiffen(f"{visit.words} has their number in its sizes")
    crops = flood.model.attribute(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize"
    return pass_on(visit, Commutes.NOTHING if crops else Commutes.LINEAR)


def pad(visit: Visit) -> None:
    """Pad along other axes, with zeros or with what is there."""
    flood, node = visit.flood, visit.node
    if visit.place not in (None, 0) or not _keeps_size(visit):
        return visit.stop("pads the channels, or sizes are not known")
    given = flood.model.constant(node.input[2]) if visit.given(2) else flood.model.attribute(node, "value", 0.0)
    zeros = given is not None and not np.any(given)
    mirrored = flood.model.attribute(node, "mode", "constant") != "constant"
    return pass_on(visit, Commutes.LINEAR if zeros or mirrored else Commutes.NOTHING)


def _keeps_size(visit: Visit) -> bool:
    """Whether the axis of the channels is known to have the same size before and after."""
    shapes = [visit.flood.shapes.get(name) for name in (visit.node.input[0], visit.node.output[0])]
    sizes = {None if shape is None else shape[visit.slot.axis] for shape in shapes}
    return sizes == {visit.flood.width(visit.slot)}


RULES: Final[dict[str, Rule]] = {
    **dict.fromkeys(("Reshape", "Flatten"), reshape),
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    **dict.fromkeys(("ReduceMean", "ReduceSum"), reduction(Commutes.LINEAR)),
    **dict.fromkeys(("ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2"), reduction(Commutes.HOMOGENEOUS)),
    **dict.fromkeys(("Resize", "Upsample"), resize),
    "Pad": pad,
}
