"""The model as nested graphs: subgraphs and functions, opened on demand, and walked in graph order.

Function bodies are visited at every call, which makes eleven functions of ten calls each a bomb of 10^10 nodes. So
every scope is counted as it is opened, and bodies with nothing of interest in them are not opened at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from onnxmark.errors import ModelLimitError
from onnxmark.model.decode import Decoder
from onnxmark.model.limits import MAX_CALL_DEPTH, MAX_ITEMS, MAX_NESTING
from onnxmark.model.records import Extents, Function, Graph, Header, Node
from onnxmark.model.scope import Body, Scope, Step

_STANDARD = frozenset(["", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"])
_CONTROL_FLOW = frozenset(["If", "Loop", "Scan", "SequenceMap"])


class GraphView:
    """A model's graphs and functions.

    Args:
        decoder: Its records.
        header: The model around the graph.
    """

    def __init__(self, decoder: Decoder, header: Header) -> None:
        self.decoder = decoder
        self.header = header
        self._bodies: dict[Extents, Body] = {}
        self._functions: dict[tuple[str, str, str], Function] = {}
        self._function_bodies: dict[tuple[str, str, str], Body] = {}
        self._subgraphs: dict[tuple[int, int], tuple[tuple[str, int, Extents], ...]] = {}
        self._visited = 0
        for extent in header.functions:
            function = decoder.function(*extent)
            self._functions[(function.domain, function.name, function.overload)] = function
        self.root = Scope(self, self.body(header.graph))

    @property
    def functions(self) -> tuple[Function, ...]:
        """The model's local functions."""
        return tuple(self._functions.values())

    def function(self, node: Node) -> Function | None:
        """The local function ``node`` calls, if it does."""
        if not self._functions or node.domain in ("", "ai.onnx"):
            return None
        return self._functions.get((node.domain, node.op_type, node.overload))

    def body(self, extents: Extents) -> Body:
        """The graph at ``extents``."""
        known = self._bodies.get(extents)
        if known is None:
            known = self._bodies[extents] = Body(self.decoder.graph(extents))
        return known

    def body_of(self, function: Function) -> Body:
        """The body of a function, as a graph without initializers."""
        key = (function.domain, function.name, function.overload)
        known = self._function_bodies.get(key)
        if known is None:
            graph = Graph(function.name, function.nodes, (), (), function.inputs, function.outputs)
            known = self._function_bodies[key] = Body(graph)
        return known

    def subgraphs(self, node: Node, index: int) -> list[tuple[Step, Extents]]:
        """The graphs among the attributes of ``node``, the ``index``-th of its graph."""
        if node.op_type not in _CONTROL_FLOW and node.domain in _STANDARD:
            return []
        known = self._subgraphs.get(node.extent)
        if known is None:
            attributes = self.decoder.attributes(node).values()
            known = tuple((a.name, i, extents) for a in attributes for i, extents in enumerate(a.graphs))
            self._subgraphs[node.extent] = known
        return [(Step(index, name, i), extents) for name, i, extents in known]

    def enter(self, nodes: int, depth: int, calls: int, path: str) -> None:
        """Count a scope about to be opened.

        Raises:
            ModelLimitError: One too many.
        """
        # Opening a scope and finding its layers costs about as much as thirty nodes.
        self._visited += nodes + 30
        where = f"{self.decoder.wire.source}: node {path[:200]!r}"
        if calls > MAX_CALL_DEPTH:
            raise ModelLimitError(
                f"{where} calls functions more than {MAX_CALL_DEPTH} deep, or a function calls itself"
            )
        if depth > MAX_NESTING:
            raise ModelLimitError(f"{where} holds graphs nested more than {MAX_NESTING} deep")
        if self._visited > MAX_ITEMS:
            raise ModelLimitError(f"{where}: expanding functions visits more than {MAX_ITEMS} nodes")

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

    def __init__(self, view: GraphView, wanted: Callable[[Node], bool]) -> None:
        self._view = view
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
                f"{self._view.decoder.wire.source}: graph {body.graph.name[:200]!r} is nested more than {MAX_NESTING}"
                " deep, or is a function that calls itself"
            )
        self._pending.add(key)
        wanted = self._wanted
        found = tuple(
            index
            for index, node in enumerate(body.graph.nodes)
            if wanted(node)
            or ((node.domain not in _STANDARD or node.op_type in _CONTROL_FLOW) and self.leads(node, index, depth))
        )
        self._pending.discard(key)
        self._known[key] = found
        return found

    def opens(self, node: Node, index: int) -> bool:
        """Whether ``node`` has scopes of its own."""
        if node.domain in ("", "ai.onnx") and node.op_type not in _CONTROL_FLOW:
            return False
        return self._view.function(node) is not None or bool(self._view.subgraphs(node, index))

    def leads(self, node: Node, index: int, depth: int) -> bool:
        """Whether there is a wanted node in the scopes ``node`` opens."""
        function = self._view.function(node)
        if function is not None:
            return bool(self.interesting(self._view.body_of(function), depth + 1))
        inner = [self._view.body(extents) for _, extents in self._view.subgraphs(node, index)]
        return any(self.interesting(body, depth + 1) for body in inner)
