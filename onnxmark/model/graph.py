"""The graph as nested scopes: what a name means where it is used, through subgraphs and function calls.

A subgraph sees the names of the graphs around it; a function body sees only its formal inputs, which stand for other
names at every call. So a function is a scope of its own at each call site, sharing the tables of its body. Scopes are
made on demand and bounded in number and depth, for eleven functions of ten calls each are a bomb of 10^10 nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Literal, NamedTuple

from onnxmark.errors import ModelLimitError
from onnxmark.model.decode import Decoder
from onnxmark.model.limits import MAX_CALL_DEPTH, MAX_ITEMS, MAX_NESTING
from onnxmark.model.records import Attribute, Extents, Function, Graph, Header, Node, SparseTensor, Tensor

_STANDARD = frozenset(["", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"])
_CONTROL_FLOW = frozenset(["If", "Loop", "Scan", "SequenceMap"])


class Body:
    """A graph with its lookup tables, shared by all scopes it appears in."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @cached_property
    def producers(self) -> dict[str, tuple[int, int]]:
        """Value name → index of the node that makes it, index among its outputs."""
        return {name: (i, j) for i, node in enumerate(self.graph.nodes) for j, name in enumerate(node.outputs) if name}

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
        return {tensor.name: tensor for tensor in self.graph.initializers}

    @cached_property
    def sparse_initializers(self) -> dict[str, SparseTensor]:
        """Sparse initializers by name."""
        return {tensor.values.name: tensor for tensor in self.graph.sparse_initializers}

    @cached_property
    def inputs(self) -> frozenset[str]:
        """Names of the graph's inputs."""
        return frozenset(self.graph.inputs)


class Step(NamedTuple):
    """From a graph to one inside it: node index, attribute name, index among the graphs of the attribute."""

    node: int
    attribute: str
    graph: int


class Definition(NamedTuple):
    """What a name stands for."""

    kind: Literal["initializer", "sparse", "node", "input"]
    scope: Scope
    name: str
    tensor: Tensor | None = None
    sparse: SparseTensor | None = None
    node: int = -1
    output: int = -1


class Scope:
    """A graph at one place of the model.

    Args:
        view: The model.
        body: The graph.
        path: Prefix of its nodes' paths, empty for the main graph, otherwise ending in a slash.
        parent: The scope around a subgraph; None for the main graph and for function bodies.
        trail: Steps from the main graph here, or None inside a function.
        call: For a function body, the calling scope, and the call's actual inputs by formal name.
        given: For a function body, the attributes the call passes.
        depth: Scopes above this one.
        calls: Function calls among them.
    """

    __slots__ = ("_children", "body", "call", "calls", "depth", "given", "parent", "path", "trail", "view")

    def __init__(
        self,
        view: GraphView,
        body: Body,
        *,
        path: str = "",
        parent: Scope | None = None,
        trail: tuple[Step, ...] | None = (),
        call: tuple[Scope, dict[str, str]] | None = None,
        given: dict[str, Attribute] | None = None,
        depth: int = 0,
        calls: int = 0,
    ) -> None:
        self.view, self.body, self.path, self.parent, self.trail = view, body, path, parent, trail
        self.call, self.given, self.depth, self.calls = call, given, depth, calls
        self._children: dict[int, tuple[Scope, ...]] = {}

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The graph's nodes in file order."""
        return self.body.graph.nodes

    def node_path(self, index: int) -> str:
        """Name of a node with its scope; ``<OpType>_<index>`` for one without a name."""
        node = self.nodes[index]
        return f"{self.path}{node.name or f'{node.op_type}_{index}'}"

    def lookup(self, name: str) -> Definition | None:
        """What ``name`` means in this scope; None for the empty name and for names nothing defines."""
        scope: Scope | None = self
        while scope is not None and name:
            body = scope.body
            place = body.producers.get(name)
            if place is not None:
                return Definition("node", scope, name, node=place[0], output=place[1])
            tensor = body.initializers.get(name)
            if tensor is not None:
                return Definition("initializer", scope, name, tensor=tensor)
            sparse = body.sparse_initializers.get(name)
            if sparse is not None:
                return Definition("sparse", scope, name, sparse=sparse)
            if name in body.inputs:
                if scope.call is None:
                    return Definition("input", scope, name)
                scope, actual = scope.call
                name = actual.get(name, "")
            else:
                scope = scope.parent
        return None

    def attributes(self, node: Node) -> dict[str, Attribute]:
        """The attributes of ``node``, those that refer to the enclosing function's replaced by what its call passes."""
        return self._resolved(self.view.decoder.attributes(node))

    def _resolved(self, attributes: dict[str, Attribute]) -> dict[str, Attribute]:
        found = {}
        for name, attribute in attributes.items():
            actual = (self._given().get(attribute.ref)) if attribute.ref else attribute
            if actual is not None:
                found[name] = actual
        return found

    def _given(self) -> dict[str, Attribute]:
        # A subgraph inside a function body refers to the function's attributes, too.
        scope: Scope | None = self
        while scope is not None and scope.given is None:
            scope = scope.parent
        return scope.given or {} if scope is not None else {}

    def children(self, index: int) -> tuple[Scope, ...]:
        """The scopes a node opens: its subgraphs, or the body of the function it calls.

        Raises:
            ModelLimitError: Too many, or too deep.
        """
        known = self._children.get(index)
        if known is None:
            known = self._children[index] = self._open(index)
        return known

    def _open(self, index: int) -> tuple[Scope, ...]:
        node, view, path = self.nodes[index], self.view, self.node_path(index)
        function = view.function(node)
        if function is not None:
            view.enter(len(function.nodes), self.depth + 1, self.calls + 1, path)
            given = {attribute.name: attribute for attribute in function.defaults} | self.attributes(node)
            actual = dict(zip(function.inputs, node.inputs, strict=False))
            body = view.body_of(function)
            return (
                Scope(
                    view,
                    body,
                    path=f"{path}/",
                    trail=None,
                    call=(self, actual),
                    given=given,
                    depth=self.depth + 1,
                    calls=self.calls + 1,
                ),
            )
        scopes = []
        for step, extents in view.subgraphs(node, index):
            body = view.body(extents)
            view.enter(len(body.graph.nodes), self.depth + 1, self.calls, path)
            trail = None if self.trail is None else (*self.trail, step)
            label = step.attribute if step.graph == 0 else f"{step.attribute}_{step.graph}"
            scopes.append(
                Scope(
                    view,
                    body,
                    path=f"{path}/{label}/",
                    parent=self,
                    trail=trail,
                    depth=self.depth + 1,
                    calls=self.calls,
                )
            )
        return tuple(scopes)


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
        self._visited += nodes + 1
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
        return self._view.function(node) is not None or bool(self._view.subgraphs(node, index))

    def leads(self, node: Node, index: int, depth: int) -> bool:
        """Whether there is a wanted node in the scopes ``node`` opens."""
        function = self._view.function(node)
        if function is not None:
            return bool(self.interesting(self._view.body_of(function), depth + 1))
        inner = [self._view.body(extents) for _, extents in self._view.subgraphs(node, index)]
        return any(self.interesting(body, depth + 1) for body in inner)
