"""Channels arriving at a node: what every rule is told, and the few things most of them do.

A rule is told the node, the value through which the channels came, and at which input (None: they came from the
output). It says which other values of the node hold the same channels, which of its constants have slices for them, and
which factors pass. An operator without a rule is where the channels cannot be followed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onnxmark.model.channels.flood import Flood
from onnxmark.model.channels.groups import Commutes, Role, Slot
from onnxmark.model.editing.editable import Node


@dataclass(frozen=True, slots=True, eq=False)
class Visit:
    """Channels arriving at a node.

    Args:
        flood: Where findings go.
        node: The node.
        value: Name of the value through which they came.
        slot: Where in it they are.
        place: Index of the input they came by; None where they came by the output.
    """

    flood: Flood
    node: Node
    value: str
    slot: Slot
    place: int | None

    @property
    def words(self) -> str:
        """The node, for messages."""
        return f"{self.node.op_type} node {self.node.name!r}" if self.node.name else f"a {self.node.op_type} node"

    def stop(self, reason: str) -> None:
        """The channels cannot be followed through the node."""
        self.flood.block(self.value, f"{self.words} {reason}")

    def given(self, place: int) -> bool:
        """Whether the node has an input there."""
        return place < len(self.node.input) and bool(self.node.input[place])

    def is_channel_axis(self, rank: int | None) -> bool:
        """Whether the channels lie in the second axis of ``rank``, as convolutions and normalisations count."""
        return rank is not None and self.slot.axis == 1 - rank


Rule = Callable[[Visit], None]


def pass_on(visit: Visit, commutes: Commutes, source_slot: Slot | None = None, result_slot: Slot | None = None) -> None:
    """The channels of the first input are those of the first output, in one region."""
    flood, node = visit.flood, visit.node
    flood.reach(node.input[0], source_slot or visit.slot)
    flood.reach(node.output[0], result_slot or visit.slot)
    flood.join(node.input[0], node.output[0])
    flood.limit(node.output[0], commutes)


def operand(visit: Visit, place: int, role: Role, *, moves: bool) -> bool:
    """Whether an operand is an activation that holds the channels; if it is a constant, note what it is to them."""
    flood, name, axis = visit.flood, visit.node.input[place], visit.slot.axis
    result = visit.node.output[0]
    values = flood.model.constant(name)
    shape = flood.shapes.get(name) if values is None else values.shape
    if name in flood.slots:
        return True
    if shape is None:
        visit.stop(f"combines them with {name!r}, whose shape is not known")
        return False
    size = shape[axis] if len(shape) >= -axis else 1
    if size == 1:
        # The same for all channels: added to them, it would have to change from channel to channel.
        if moves and (values is None or np.any(values)):
            flood.limit(result, Commutes.NOTHING)
        return flood.width(visit.slot) == 1 and values is None
    if size != flood.width(visit.slot):
        visit.stop(f"combines them with {name!r} of another size")
        return False
    if values is not None:
        flood.use(visit.node, place, slot_at(visit.slot, len(shape) + axis), role, gives=result if moves else None)
    return values is None


def slot_at(slot: Slot, axis: int) -> Slot:
    """The same channels on an axis of a constant."""
    return Slot(axis, slot.outer, slot.inner)
