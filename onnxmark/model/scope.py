"""What a name stands for where it is used: scopes, the inside of a graph at one place of the model.

A subgraph sees the names of the graphs around it; a function body sees only its formal inputs, which stand for other
names at every call. So a function is a scope of its own at each call site, sharing the tables of its body.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from onnxmark.model.bodies import Bodies, Body, Step
from onnxmark.model.records import Attribute, Node, SparseTensor, Tensor


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
        bodies: What is behind the model's nodes.
        body: The graph.
        path: Prefix of its nodes' paths, empty for the main graph, otherwise ending in a slash.
        parent: The scope around a subgraph; None for the main graph and for function bodies.
        trail: Steps from the main graph here, or None inside a function.
        call: For a function body, the calling scope, and the call's actual inputs by formal name.
        given: For a function body, the attributes the call passes.
        depth: Scopes above this one.
        calls: Function calls among them.
    """

    __slots__ = ("_children", "bodies", "body", "call", "calls", "depth", "given", "parent", "path", "trail")

    def __init__(
        self,
        bodies: Bodies,
        body: Body,
        *,
        path: str = "",
        parent: Scope | None = None,
        trail: tuple[Step, ...] | None = (),
        call: tuple[Scope, dict[str, str]] | None = None,
        given: Mapping[str, Attribute] | None = None,
        depth: int = 0,
        calls: int = 0,
    ) -> None:
        self.bodies, self.body, self.path, self.parent, self.trail = bodies, body, path, parent, trail
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
            tensor = body.initializers.get(name)
            if tensor is not None:
                # Before a Constant node of the same name, as in ONNX Runtime.
                return Definition("initializer", scope, name, tensor)
            producer = body.producers.get(name)
            if producer is not None:
                outputs = body.graph.nodes[producer].outputs
                return Definition("node", scope, name, None, None, producer, outputs.index(name))
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

    def attributes(self, node: Node) -> Mapping[str, Attribute]:
        """The attributes of ``node``, those that refer to the enclosing function's replaced by what its call passes."""
        return self._resolved(self.bodies.decoder.attributes(node))

    def _resolved(self, attributes: Mapping[str, Attribute]) -> Mapping[str, Attribute]:
        for attribute in attributes.values():
            if attribute.ref:
                break
        else:
            return attributes
        given = self._given()
        found = {}
        for name, attribute in attributes.items():
            actual = given.get(attribute.ref) if attribute.ref else attribute
            if actual is not None:
                found[name] = actual
        return found

    def _given(self) -> Mapping[str, Attribute]:
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
        node, bodies, path = self.nodes[index], self.bodies, self.node_path(index)
        function = bodies.function(node)
        if function is not None:
            bodies.enter(len(function.nodes), self.depth + 1, self.calls + 1, path)
            given = {attribute.name: attribute for attribute in function.defaults} | dict(self.attributes(node))
            actual = dict(zip(function.inputs, node.inputs, strict=False))
            body = bodies.body_of(function)
            return (
                Scope(
                    bodies,
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
        for step, extents in bodies.subgraphs(node, index):
            body = bodies.body(extents)
            bodies.enter(len(body.graph.nodes), self.depth + 1, self.calls, path)
            trail = None if self.trail is None else (*self.trail, step)
            label = step.attribute if step.graph == 0 else f"{step.attribute}_{step.graph}"
            scopes.append(
                Scope(
                    bodies,
                    body,
                    path=f"{path}/{label}/",
                    parent=self,
                    trail=trail,
                    depth=self.depth + 1,
                    calls=self.calls,
                )
            )
        return tuple(scopes)
