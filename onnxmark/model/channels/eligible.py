"""Layers whose number of channels can be changed without anybody else's: the room a structural mark has in a model.

After Zhao, Yao, Wu, Zhang (WIFS 2021, arXiv 2107.08688); which layers they prune is a reconstruction. A convolution is
eligible where its channels reach nothing but layers that can do with fewer: none that a residual sum or a gate ties to
other layers' channels, none whose weights are shared, none whose number is written down or shown to the outside. Linear
layers are left alone: they are what an adapted model replaces first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from onnxmark.model.channels.grouping import channel_groups
from onnxmark.model.channels.groups import ChannelGroup, Role
from onnxmark.model.channels.loosening import loosen_reshapes
from onnxmark.model.channels.moving import constant
from onnxmark.model.editing.editable import EditableModel

_LAYERS = (Role.PRODUCER, Role.DEPTHWISE, Role.CONSUMER)


@dataclass(frozen=True, slots=True, eq=False)
class Eligible:
    """A convolution whose output channels can be removed.

    Args:
        name: Name of the stored tensor, as weight sites are called.
        node: Name of its node.
        shape: Canonical shape of its weights, (out, in, *spatial).
        group: Everything that has a slice for each of its channels.
    """

    name: str
    node: str
    shape: tuple[int, ...]
    group: ChannelGroup


def eligible_layers(model: EditableModel) -> tuple[Eligible, ...]:
    """The convolutions of the main graph whose output channels can be removed, in graph order.

    Reshapes that state a number of channels are rewritten first (see :mod:`onnxmark.model.channels.loosening`); else
    the model is left as it is.
    """
    loosen_reshapes(model)
    groups = channel_groups(model)
    shared = _shared(groups)
    return tuple(_eligible(model, group) for group in groups if obstacle(group, shared) is None)


def obstacle(group: ChannelGroup, shared: frozenset[str] = frozenset()) -> str | None:
    """Why channels of a group cannot be removed for themselves, in words; None where they can.

    Args:
        group: The channels.
        shared: Names of weights that several layers use.
    """
    makers = group.having(Role.PRODUCER)
    if group.rigid is not None:
        return group.rigid
    if len(makers) != 1:
        return f"{len(makers)} layers make its channels, which are added or multiplied"
    if makers[0].node.op_type != "Conv":
        return f"it is made by {makers[0].node.op_type}, not by a convolution"
    if not group.having(Role.CONSUMER):
        return "no layer uses it"
    tied = next((use.tensor for use in group.having(*_LAYERS) if use.tensor in shared), None)
    return None if tied is None else f"several layers share the weights {tied!r}"


def _shared(groups: Sequence[ChannelGroup]) -> frozenset[str]:
    users = defaultdict(set)
    for group in groups:
        for use in group.having(*_LAYERS):
            users[use.tensor].add(id(use.node))
    return frozenset(name for name, nodes in users.items() if len(nodes) > 1)


def _eligible(model: EditableModel, group: ChannelGroup) -> Eligible:
    (maker,) = group.having(Role.PRODUCER)
    return Eligible(maker.tensor, maker.node.name, constant(model, maker).shape, group)
