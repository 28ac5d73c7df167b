"""Following channels through a graph: what has been reached, and what was found on the way.

Channels spread from a value to all nodes that make or use it, in both directions, until constants bound them on every
side. The rules for each operator (:mod:`onnxmark.model.channels.visit`) say what lies across a node; this is their
ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from onnxmark.model.channels.groups import ChannelGroup, Commutes, Region, Role, Slot, Use
from onnxmark.model.editing.editable import EditableModel, Node

Shapes = Mapping[str, tuple[int | None, ...]]


@dataclass(frozen=True, slots=True)
class _Found:
    """A use, its regions still known by one of their values."""

    node: Node
    place: int
    slot: Slot
    role: Role
    takes: str | None
    gives: str | None


class Flood:
    """The channels of one group while they spread.

    Args:
        model: The graph.
        shapes: What is known of the shapes of its values.
        size: Number of channels.
    """

    def __init__(self, model: EditableModel, shapes: Shapes, size: int) -> None:
        self.model = model
        self.shapes = shapes
        self.size = size
        self.slots: dict[str, Slot] = {}
        self.pinned: str | None = None
        """Why the channels cannot be reordered, though they could be rescaled."""
        self.rigid: str | None = None
        self._waiting: list[str] = []
        self._parents: dict[str, str] = {}
        self._commutes: dict[str, Commutes] = {}
        self._problems: dict[str, str] = {}
        self._found: dict[tuple[int, int, int], _Found] = {}

    def __iter__(self) -> Iterator[tuple[str, Slot]]:
        """Every value reached, each once, while more are reached."""
        while self._waiting:
            value = self._waiting.pop(0)
            yield value, self.slots[value]

    def width(self, slot: Slot) -> int:
        """Size of an axis that holds the channels as ``slot`` says."""
        return slot.repeats * self.size

    def rank(self, value: str) -> int | None:
        """Number of axes of a value, where it is known."""
        shape = self.shapes.get(value)
        return None if shape is None else len(shape)

    def reach(self, value: str, slot: Slot) -> None:
        """The channels are in ``value``, too."""
        known = self.slots.setdefault(value, slot)
        if value not in self._parents:
            self._parents[value] = value
            self._commutes[value] = Commutes.LINEAR
            self._waiting.append(value)
        if known != slot:
            self.block(value, "its channels would have to lie in two ways")

    def join(self, one: str, other: str) -> None:
        """Two values that were reached belong to one region."""
        self._parents[self._root(other)] = self._root(one)

    def limit(self, value: str, commutes: Commutes) -> None:
        """Only these factors pass through the region of ``value``."""
        self._commutes[value] &= commutes

    def block(self, value: str, reason: str) -> None:
        """The channels go from ``value`` where they cannot be followed."""
        self._problems.setdefault(value, f"value {value!r}: {reason}")

    def pin(self, reason: str) -> None:
        """The channels must stay in order."""
        self.pinned = self.pinned or reason

    def stiffen(self, reason: str) -> None:
        """The number of channels must stay."""
        self.rigid = self.rigid or reason

    def use(
        self, node: Node, place: int, slot: Slot, role: Role, *, takes: str | None = None, gives: str | None = None
    ) -> None:
        """The constant at an input of ``node`` has a slice for each channel."""
        value = takes or gives or next(iter(self.slots))
        values = self.model.constant(node.input[place])
        if values is None:
            self.block(value, f"{node.op_type} node {node.name!r} takes its {role} from no constant of the file")
        elif values.dtype.kind != "f":
            self.block(value, f"the {role} of {node.op_type} node {node.name!r} is {values.dtype}")
        elif slot.axis >= values.ndim or values.shape[slot.axis] != self.width(slot):
            self.block(value, f"{role} {node.input[place]!r} of shape {values.shape} does not fit {self.size} channels")
        else:
            self._found[id(node), place, slot.axis] = _Found(node, place, slot, role, takes, gives)

    def group(self) -> ChannelGroup:
        """What was found, once nothing more is reached."""
        members: dict[str, list[str]] = {}
        for value in self.slots:
            members.setdefault(self._root(value), []).append(value)
        numbers = {root: number for number, root in enumerate(members)}
        regions = tuple(self._region(tuple(values)) for values in members.values())
        order = {id(node): index for index, node in enumerate(self.model.nodes)}
        found = sorted(self._found.values(), key=lambda use: (order[id(use.node)], use.place, use.slot.axis))
        number = {value: numbers[self._root(value)] for value in self.slots}
        uses = tuple(
            Use(
                self.model.stored_name(each.node.input[each.place]), each.node, each.place, each.slot, each.role,
                None if each.takes is None else number[each.takes], None if each.gives is None else number[each.gives],
            )
            for each in found
        )  # fmt: skip
        problem = next((region.problem for region in regions if region.problem), self.pinned)
        return ChannelGroup(self.size, regions, uses, problem, problem or self.rigid)

    def _region(self, values: tuple[str, ...]) -> Region:
        commutes = Commutes.LINEAR
        for value in values:
            commutes &= self._commutes[value]
        return Region(values, commutes, next(filter(None, map(self._problems.get, values)), None))

    def _root(self, value: str) -> str:
        while self._parents[value] != value:
            value = self._parents[value]
        return value
