"""A model's graphs, subgraphs and functions as tables, decoded on demand and counted as they are opened.

Function bodies are visited at every call, which makes eleven functions of ten calls each a bomb of 10^10 nodes. So
every scope is counted as it is opened.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final, NamedTuple

from onnxmark.errors import ModelLimitError
from onnxmark.model.decode import Decoder
from onnxmark.model.limits import MAX_CALL_DEPTH, MAX_ITEMS, MAX_NESTING
from onnxmark.model.records import Extents, Function, Graph, Header, Node, SparseTensor, Tensor

STANDARD: Final = frozenset(["", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"])
"""Domains whose operators hold graphs only where they are control flow."""
CONTROL_FLOW: Final = frozenset(["If", "Loop", "Scan", "SequenceMap"])


class Body:
    """A graph with its lookup tables, shared by all scopes it appears in.

    A name that is defined twice stands for what ONNX Runtime computes with, which is the first definition: a second one
    is no place to hide the weights that a model runs on.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @cached_property
    def producers(self) -> dict[str, int]:
        """Value name → index of the node that makes it."""
        made: dict[str, int] = {}
        for index, node in enumerate(self.graph.nodes):
            for name in node.outputs:
                made.setdefault(name, index)
        made.pop("", None)
        return made

    @cached_property
    def consumers(self) -> dict[str, list[tuple[int, int]]]:
        """Value name → the nodes of this graph that use it, and as which of their inputs."""
        uses: dict[str, list[tuple[int, int]]] = {}
        for i, node in enumerate(self.graph.nodes):
            for j, name in enumerate(node.inputs):
                uses.setdefault(name, []).append((i, j))
        return uses

    @cached_property
    def initializers(self) -> dict[str, Tensor]:
        """Initializers by name."""
        return {tensor.name: tensor for tensor in reversed(self.graph.initializers)}

    @cached_property
    def sparse_initializers(self) -> dict[str, SparseTensor]:
        """Sparse initializers by name."""
        return {tensor.values.name: tensor for tensor in reversed(self.graph.sparse_initializers)}

    @cached_property
    def inputs(self) -> frozenset[str]:
        """Names of the graph's inputs."""
        return frozenset(self.graph.inputs)


class Step(NamedTuple):
    """From a graph to one inside it: node index, attribute name, index among the graphs of the attribute."""

    node: int
    attribute: str
    graph: int


class Bodies:
    """What is behind a model's nodes.

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
        if node.op_type not in CONTROL_FLOW and node.domain in STANDARD:
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
