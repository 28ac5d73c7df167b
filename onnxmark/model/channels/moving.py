"""Channels of a group reordered, repeated, removed or rescaled, in every constant that has a slice for them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxmark.arrays import AnyArray, Float64Array, Int64Array
from onnxmark.model.channels.groups import ChannelGroup, Role, Use, from_rows, rows_of
from onnxmark.model.editing.editable import EditableModel


def take_channels(model: EditableModel, group: ChannelGroup, order: Int64Array) -> None:
    """Give a group the channels ``order`` of those it has: a permutation, some of them, or some twice.

    A permutation leaves the function of the model as it is. With channels left out or repeated, what the consumers add
    up is the caller's affair; the group must not be ``rigid``.

    Args:
        model: The graph the group was found in.
        group: A group without a ``problem``.
        order: Indices of channels, at least one.
    """
    for use in group.uses:
        values = constant(model, use)
        moved = from_rows(rows_of(values, use.slot)[order], values.shape, use.slot)
        model.replace_constant(use.node, use.place, moved)
        if use.role is Role.DEPTHWISE and len(order) != group.size:
            model.set_attribute(use.node, "group", use.slot.repeats * len(order))
    if len(order) != group.size:
        model.forget_shapes()


def scale_channels(model: EditableModel, group: ChannelGroup, factors: Mapping[int, Float64Array]) -> None:
    """Multiply the channels of some regions of a group; the function of the model stays where the regions allow it.

    Args:
        model: The graph the group was found in.
        group: A group.
        factors: By index of a region without a ``problem``, shape (group.size,), not zero and such as the region's
            ``commutes`` lets pass.
    """
    ones = np.ones(group.size)
    for use in group.uses:
        if use.gives in factors or use.takes in factors:
            gives = ones if use.gives is None else factors.get(use.gives, ones)
            takes = ones if use.takes is None else factors.get(use.takes, ones)
            values = constant(model, use)
            rows = rows_of(values, use.slot) * (gives / takes)[:, np.newaxis]
            model.replace_constant(use.node, use.place, from_rows(_kept(rows, values), values.shape, use.slot))


def constant(model: EditableModel, use: Use) -> AnyArray:
    """The constant a use is about.

    Raises:
        ValueError: The graph has been changed since, and there is none.
    """
    values = model.constant(use.node.input[use.place])
    if values is None:
        raise ValueError(f"{use.node.op_type} node {use.node.name!r} no longer has a constant at input {use.place}")
    return values


def _kept(rows: AnyArray, values: AnyArray) -> AnyArray:
    """``rows`` in the type of ``values``, finite where they were."""
    limits = np.finfo(values.dtype)
    return np.clip(rows, limits.min, limits.max).astype(values.dtype)
