"""The model as nested graphs: subgraphs and functions, opened on demand, and walked in graph order.

Bodies with nothing of interest in them are not opened at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from onnxmark.errors import ModelLimitError
from onnxmark.model.bodies import CONTROL_FLOW, STANDARD, Bodies, Body
from onnxmark.model.decode import Decoder
from onnxmark.model.limits import MAX_NESTING
from onnxmark.model.records import Header, Node
from onnxmark.model.scope import Scope


class GraphView(Bodies):
    """A model's graphs and functions, from the main graph on.

    Args:
        decoder: Its records.
        header: The model around the graph.
    """

    def __init__(self, decoder: Decoder, header: Header) -> None:
        super().__init__(decoder, header)
        self.root = Scope(self, self.body(header.graph))

    def walk(self, wanted: Callable[[Node], bool]) -> Iterator[tuple[Scope, int]]:
        """Every wanted node at every place it appears, in graph order, scopes right after the node that opens them."""
        survey = _Survey(self, wanted)
        stack = [(self.root, iter(survey.interesting(self.root.body, 0)))]
        while stack:
            scope, indices = stack[-1]
            index = next(indices, None)
            if index is None:
                stack.pop()
                continue
            if wanted(scope.nodes[index]):
                yield scope, index
            if survey.opens(scope.nodes[index], index):
                children = scope.children(index)
                stack.extend((child, iter(survey.interesting(child.body, child.depth))) for child in reversed(children))


class _Survey:
    """Which nodes of each body are wanted or lead to wanted ones, found once per body and not per call."""

    def __init__(self, bodies: Bodies, wanted: Callable[[Node], bool]) -> None:
        self._bodies = bodies
        self._wanted = wanted
        self._known: dict[int, tuple[int, ...]] = {}
        self._pending: set[int] = set()

    def interesting(self, body: Body, depth: int) -> tuple[int, ...]:
        """Indices of the nodes of ``body`` worth stopping at."""
        key = id(body)
        known = self._known.get(key)
        if known is not None:
            return known
        if depth > MAX_NESTING or key in self._pending:
            raise ModelLimitError(
                f"{self._bodies.decoder.wire.source}: graph {body.graph.name[:200]!r} is nested more than {MAX_NESTING}"
                " deep, or is a function that calls itself"
            )
        self._pending.add(key)
        wanted = self._wanted
        found = tuple(
            index
            for index, node in enumerate(body.graph.nodes)
            if wanted(node)
            or ((node.domain not in STANDARD or node.op_type in CONTROL_FLOW) and self.leads(node, index, depth))
        )
        self._pending.discard(key)
        self._known[key] = found
        return found

    def opens(self, node: Node, index: int) -> bool:
        """Whether ``node`` has scopes of its own."""
        if node.domain in ("", "ai.onnx") and node.op_type not in CONTROL_FLOW:
            return False
        return self._bodies.function(node) is not None or bool(self._bodies.subgraphs(node, index))

    def leads(self, node: Node, index: int, depth: int) -> bool:
        """Whether there is a wanted node in the scopes ``node`` opens."""
        function = self._bodies.function(node)
        if function is not None:
            return bool(self.interesting(self._bodies.body_of(function), depth + 1))
        inner = [self._bodies.body(extents) for _, extents in self._bodies.subgraphs(node, index)]
        return any(self.interesting(body, depth + 1) for body in inner)
