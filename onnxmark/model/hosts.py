"""A node that has host weights, as the rules for its operator see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnxmark.model.expression import Expression, Interner
from onnxmark.model.plan import Obstacle, Planner
from onnxmark.model.records import Attribute, Node
from onnxmark.model.scope import Scope


class Unfit(Exception):
    """Why a constant cannot be the weights of a layer; never leaves the locator, which turns it into words."""


@dataclass(frozen=True, slots=True)
class Host:
    """A node with host weights.

    Args:
        scope: Where it is.
        index: Which node of the scope.
        place: Which of its inputs holds the weights.
        native: The weights as the node sees them.
        attributes: The node's attributes.
        planner: Plans its other inputs.
        block_sizes: What is known of the block sizes of each graph, by its identity (:mod:`onnxmark.model.blocked`).
    """

    scope: Scope
    index: int
    place: int
    native: Expression
    attributes: Mapping[str, Attribute]
    planner: Planner
    block_sizes: dict[int, tuple[int, ...]] = field(repr=False)

    @property
    def node(self) -> Node:
        """The node."""
        return self.scope.nodes[self.index]

    @property
    def interner(self) -> Interner:
        """Makes expressions."""
        return self.planner.interner

    @property
    def group(self) -> int:
        """Convolution groups; 1 where the operator knows none."""
        return self.integer("group", 1)

    def integer(self, name: str, default: int = 0) -> int:
        """An INT attribute."""
        return self.attributes[name].integer if name in self.attributes else default

    def given(self, place: int) -> bool:
        """Whether the optional input ``place`` is there."""
        return place < len(self.node.inputs) and bool(self.node.inputs[place])

    def constant(self, place: int, what: str) -> Expression:
        """The constant at input ``place``.

        Raises:
            Unfit: There is none; ``what`` says what is missing.
        """
        name = self.node.inputs[place] if place < len(self.node.inputs) else ""
        outcome = self.planner.plan(self.scope, name)
        if isinstance(outcome, Obstacle):
            raise Unfit(f"their {what} is not known: {outcome.reason}")
        return outcome
