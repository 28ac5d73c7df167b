"""From a name in a scope to the expression it evaluates to, or to the reason why it is not a constant of the file.

Every (scope, name) is planned once: without that, the constant test is exponential on residual nets. The walk keeps its
own stack, so that a chain of five thousand Identity nodes is just a loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from onnxmark.arrays import AnyArray
from onnxmark.errors import ModelError
from onnxmark.model.dtypes import BY_NAME, dtype_of
from onnxmark.model.expression import Expression, Interner, Leaf
from onnxmark.model.limits import MAX_RANK, MAX_SMALL
from onnxmark.model.operands import Operands, Unfoldable
from onnxmark.model.operators import rule_for
from onnxmark.model.payload import Payloads
from onnxmark.model.records import Attribute, SparseTensor, Tensor
from onnxmark.model.resolve import evaluate
from onnxmark.model.scope import Definition, Scope


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a value is not a constant that can be read.

    Args:
        reason: In words.
        dynamic: It depends on the model's inputs, as activations do.
        name: The name it was found at.
    """

    reason: str
    dynamic: bool
    name: str = ""


Outcome = Expression | Obstacle
_Key = tuple[int, str]


class Planner:
    """Plans of one model.

    Args:
        payloads: To read small constants, such as the target of a Reshape.
    """

    def __init__(self, payloads: Payloads) -> None:
        self.interner = Interner()
        self._payloads = payloads
        self._outcomes: dict[_Key, Outcome] = {}
        self._small: dict[int, AnyArray] = {}
        # Keys hold the identity of scopes, so the scopes must live as long.
        self._scopes: list[Scope] = []

    def plan(self, scope: Scope, name: str) -> Outcome:
        """What ``name`` evaluates to in ``scope``."""
        body = scope.body
        tensor = body.initializers.get(name)
        # Nearly every layer's weights are an initializer of its own graph: nothing to walk.
        if tensor is not None and name:
            key = (id(scope), name)
            outcome = self._outcomes.get(key)
            if outcome is None:
                outcome = self._outcomes[key] = self._initializer(scope, tensor, name)
                self._scopes.append(scope)
            return outcome
        definition = scope.lookup(name)
        if definition is None:
            return Obstacle(f"nothing in the file is named {name!r}" if name else "the input is left out", False, name)
        stack = [definition]
        pending: set[_Key] = set()
        while stack:
            current = stack[-1]
            key = (id(current.scope), current.name)
            if key in self._outcomes:
                stack.pop()
                continue
            pending.add(key)
            step = self._advance(current)
            if not isinstance(step, Definition):
                self._outcomes[key] = step
                self._scopes.append(current.scope)
                pending.discard(key)
            elif (id(step.scope), step.name) in pending:
                self._outcomes[key] = Obstacle(f"{current.name!r} is computed from itself", True, current.name)
                pending.discard(key)
            else:
                stack.append(step)
        return self._outcomes[(id(definition.scope), definition.name)]

    def _advance(self, definition: Definition) -> Outcome | Definition:
        """The outcome for ``definition``, or something that must be planned before."""
        if definition.tensor is not None:
            return self._initializer(definition.scope, definition.tensor, definition.name)
        if definition.sparse is not None:
            return self._sparse(definition.sparse, definition.name, "sparse initializer")
        if definition.kind == "input":
            where = "graph" if definition.scope.parent is None else "subgraph"
            return Obstacle(f"the {where} input {definition.name!r} is not stored in the file", True, definition.name)
        return self._node(definition)

    def _node(self, definition: Definition) -> Outcome | Definition:
        scope, node = definition.scope, definition.scope.nodes[definition.node]
        if scope.bodies.function(node) is not None:
            return self._call(definition)
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            return self._constant(definition)
        arguments: list[Expression | None] = []
        unreadable: Obstacle | None = None
        for name in node.inputs:
            if not name:
                arguments.append(None)
                continue
            found = self._known(scope, name)
            if isinstance(found, Definition):
                return found
            if isinstance(found, Obstacle):
                if found.dynamic:
                    return found
                unreadable = unreadable or found
                arguments.append(None)
            else:
                arguments.append(found)
        if unreadable is not None:
            return unreadable
        return self._apply(definition, tuple(arguments))

    def _known(self, scope: Scope, name: str) -> Outcome | Definition:
        found = scope.lookup(name)
        if found is None:
            return Obstacle(f"nothing in the file is named {name!r}", False, name)
        return self._outcomes.get((id(found.scope), found.name), found)

    def _call(self, definition: Definition) -> Outcome | Definition:
        (inside,) = definition.scope.children(definition.node)
        outputs = inside.body.graph.outputs
        if definition.output >= len(outputs):
            return Obstacle(f"{definition.name!r} is an output its function does not have", False, definition.name)
        return self._known(inside, outputs[definition.output])

    def _apply(self, definition: Definition, arguments: tuple[Expression | None, ...]) -> Outcome:
        scope, node = definition.scope, definition.scope.nodes[definition.node]
        path = scope.node_path(definition.node)
        if node.op_type == "ConstantOfShape" and node.domain in ("", "ai.onnx"):
            return self._fill(definition, arguments)
        rule = rule_for(node)
        if rule is None or definition.output != 0:
            # Without inputs it makes numbers of its own, which differ from run to run; control flow is not followed.
            dynamic = not node.inputs or node.op_type in ("If", "Loop", "Scan")
            return Obstacle(
                f"passes through op {node.op_type[:100]!r} at node {path!r}, which is not folded",
                dynamic,
                definition.name,
            )
        try:
            operands = Operands(node, scope.attributes(node), arguments, self.interner, self.small)
            return rule(operands)
        except (Unfoldable, ModelError) as error:
            return Obstacle(f"passes through op {node.op_type!r} at node {path!r}: {error}", False, definition.name)

    def small(self, expression: Expression) -> AnyArray:
        """The values of a constant of few elements.

        Raises:
            Unfoldable: It has many.
        """
        if prod(expression.shape) > MAX_SMALL:
            raise Unfoldable(f"takes an operand of {prod(expression.shape)} elements")
        if len(self._small) > MAX_SMALL:
            self._small.clear()
        return evaluate(expression, self._payloads, self._small, MAX_SMALL * 4)

    def _constant(self, definition: Definition) -> Outcome:
        name, node = definition.name, definition.scope.nodes[definition.node]
        for attribute in definition.scope.attributes(node).values():
            if attribute.name == "value" and attribute.tensor is not None:
                return self._tensor(attribute.tensor, name, "Constant node")
            if attribute.name == "sparse_value" and attribute.sparse:
                return self._sparse(attribute.sparse[0], name, "sparse Constant node")
            if attribute.name in ("value_float", "value_floats", "value_int", "value_ints"):
                return self._numbers(attribute, name)
        return Obstacle(f"Constant node of {name!r} holds no numbers", False, name)

    def _numbers(self, attribute: Attribute, name: str) -> Outcome:
        if attribute.name == "value_float" or attribute.numbers is not None:
            if attribute.numbers is None:
                return Obstacle(f"Constant node of {name!r} holds no numbers", False, name)
            return self._tensor(attribute.numbers, name, "Constant node")
        numbers = attribute.integers if attribute.name == "value_ints" else (attribute.integer,)
        shape = (len(numbers),) if attribute.name == "value_ints" else ()
        if attribute.name == "value_floats":
            return self.interner.leaf(Leaf(name, "Constant node", (0,), BY_NAME["float32"], fill=True))
        return self.interner.leaf(Leaf(name, "Constant node", shape, BY_NAME["int64"], integers=numbers))

    def _fill(self, definition: Definition, arguments: tuple[Expression | None, ...]) -> Outcome:
        name, node = definition.name, definition.scope.nodes[definition.node]
        if not arguments or arguments[0] is None:
            return Obstacle(f"ConstantOfShape of {name!r} has no shape", False, name)
        try:
            shape = tuple(int(size) for size in self.small(arguments[0]).reshape(-1))
            value = definition.scope.attributes(node).get("value")
            tensor = value.tensor if value is not None else None
            if len(shape) > MAX_RANK:
                raise Unfoldable(f"has {len(shape)} axes, more than {MAX_RANK}")
            if min(shape, default=0) < 0 or (tensor is not None and prod(tensor.dims) != 1):
                raise Unfoldable(f"has the shape {shape[:16]}")
            if tensor is not None:
                self._payloads.check(tensor)
        except (Unfoldable, ModelError, ValueError, OverflowError) as error:
            return Obstacle(f"ConstantOfShape of {name!r}: {error}", False, name)
        dtype = dtype_of(tensor.data_type) if tensor is not None else BY_NAME["float32"]
        return self.interner.leaf(Leaf(name, "ConstantOfShape", shape, dtype, tensor, fill=True))

    def _initializer(self, scope: Scope, tensor: Tensor, name: str) -> Leaf:
        return self._tensor(tensor, name, "initializer", ", also a graph input" if name in scope.body.inputs else "")

    def _tensor(self, tensor: Tensor, name: str, origin: str, note: str = "") -> Leaf:
        return self.interner.leaf(Leaf(name, origin, tensor.dims, dtype_of(tensor.data_type), tensor, note=note))

    def _sparse(self, sparse: SparseTensor, name: str, origin: str) -> Outcome:
        return self.interner.leaf(Leaf(name, origin, sparse.dims, dtype_of(sparse.values.data_type), None, sparse))
