"""A model whose graph is changed: who makes and who uses each value, and constants that can be replaced.

Attacks on a whole network change several tensors that must fit together, insert nodes and remove them. They think in
nodes, constants and uses; that a constant may be an initializer, a ``Constant`` node or reshaped from either, may be
shared with a layer that must not change, or may be declared as an input as well, is kept from them here.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from onnxmark.arrays import AnyArray, frozen
from onnxmark.model.editing.constants import FOLDED, constant_tensor, folded
from onnxmark.model.editing.inference import ValueType, inferred_types
from onnxmark.model.editing.whole import every_graph, graphs_of, load_whole, save_whole

INSIDE = -1
"""Place of a use by a graph inside the node (a branch, a loop body)."""


class Node(Protocol):
    """The part of ``onnx.NodeProto`` that is read and written directly; nodes are told apart by identity."""

    op_type: str
    domain: str
    name: str
    input: MutableSequence[str]
    output: MutableSequence[str]


class Consumer(NamedTuple):
    """A use of a value: the ``place``-th input of ``node``, or :data:`INSIDE` a graph of the node."""

    node: Node
    place: int


class EditableModel:
    """The main graph of a model, open for changes.

    Args:
        proto: An ``onnx.ModelProto`` without external data. It is owned from now on.
    """

    def __init__(self, proto: Any) -> None:
        self._proto = proto
        self._nodes: list[Node] = list(proto.graph.node)
        self._initializers = {item.name: item for item in proto.graph.initializer}
        self._index: tuple[dict[str, Node], dict[str, list[Consumer]]] | None = None
        self._types: Mapping[str, ValueType] | None = None
        self._computed: dict[str, AnyArray | None] = {}
        self.outputs = frozenset(item.name for item in proto.graph.output)
        """Names of the model's outputs."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Open the model at ``path``.

        Raises:
            ModelError: It cannot be read, or has more than 2 GiB with its data.
        """
        return cls(load_whole(path))

    def save(self, path: Path) -> None:
        """Write the model with its weights inside.

        Raises:
            ModelError: It has more than 2 GiB, or the place cannot be written to.
        """
        del self._proto.graph.node[:]
        self._proto.graph.node.extend(self._nodes)
        # Copies were made of the nodes; what is edited from now on must be these.
        self._nodes, self._types = list(self._proto.graph.node), None
        self._changed()
        save_whole(self._proto, path)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes of the main graph, each after what it uses."""
        return tuple(self._nodes)

    @property
    def opset(self) -> int:
        """Version of the standard operator set."""
        return max((item.version for item in self._proto.opset_import if item.domain in ("", "ai.onnx")), default=0)

    def producer(self, name: str) -> Node | None:
        """The node that makes a value; None for inputs and initializers."""
        return self._indexed()[0].get(name)

    def consumers(self, name: str) -> tuple[Consumer, ...]:
        """All uses of a value, in graph order; being an output of the model is not one."""
        return tuple(self._indexed()[1].get(name, ()))

    def constant(self, name: str) -> AnyArray | None:
        """The value of a constant, read-only: an initializer, a ``Constant``'s tensor, what is reshaped from these.

        None for what depends on inputs, is computed in other ways than :mod:`onnxmark.model.editing.constants` follows,
        or is of no type NumPy has.
        """
        tensor = self._tensor(name)
        if tensor is None:
            return self._expression(name)
        from onnx import numpy_helper

        values = np.asarray(numpy_helper.to_array(tensor))
        return frozen(values) if values.dtype.isbuiltin == 1 else None

    def stored_name(self, name: str) -> str:
        """The tensor a constant is read or computed from: what a layer's weights are called elsewhere."""
        for _ in self._nodes:
            node = self.producer(name)
            if node is None or node.op_type not in FOLDED or not node.input:
                break
            name = node.input[0]
        return name

    def replace_constant(self, node: Node, place: int, values: AnyArray) -> str:
        """Let ``node`` use other values at an input that is a constant.

        The tensor keeps its name where nothing else uses it. Where something does, that keeps the old values, and the
        node gets a tensor of its own. Values nothing uses any more are removed.

        Args:
            node: A node of this graph.
            place: Index of the input.
            values: New values of any shape, in the type they are to have.

        Returns:
            The name of the tensor the node now uses.
        """
        old = node.input[place]
        alone = len(self.consumers(old)) == 1 and old not in self.outputs
        if alone and old in self._initializers:
            self._store(old, values)
            return old
        name = self.add_constant(old, values)
        node.input[place] = name
        self._changed()
        if alone:
            self._drop(old)
        return name

    def add_constant(self, name: str, values: AnyArray) -> str:
        """A new initializer called ``name``, or like it if the name is taken; returns its name."""
        name = self.fresh(name)
        self._initializers[name] = self._proto.graph.initializer.add()
        self._store(name, values)
        if self._proto.ir_version < 4:
            # Before version 4 every initializer had to be an input, too.
            item = self._proto.graph.input.add(name=name)
            item.type.tensor_type.elem_type = self._initializers[name].data_type
            self._declare(item, values.shape)
        return name

    def attribute(self, node: Node, name: str, default: Any = None) -> Any:
        """An attribute as a Python value (int, float, str, list, array); ``default`` where the node has none."""
        import onnx

        for item in _attributes(node):
            if item.name == name:
                value = onnx.helper.get_attribute_value(item)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def set_attribute(self, node: Node, name: str, value: Any) -> None:
        """Set an attribute; None removes it."""
        import onnx

        attributes = _attributes(node)
        for item in [item for item in attributes if item.name == name]:
            attributes.remove(item)
        if value is not None:
            attributes.append(onnx.helper.make_attribute(name, value))

    def make_node(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str], name: str = "", **attributes: Any
    ) -> Node:
        """A node of the standard operator set, not yet part of the graph."""
        import onnx

        made: Node = onnx.helper.make_node(operator, inputs, outputs, name=name, **attributes)
        return made

    def insert(self, node: Node, *, before: Node | None = None, after: Node | None = None) -> None:
        """Put a node into the graph; exactly one of ``before`` and ``after`` is given."""
        if (before is None) == (after is None):
            raise ValueError("give either the node to insert before or the node to insert after")
        at = self._position(before) if before is not None else self._position(after) + 1
        self._nodes.insert(at, node)
        self._changed()

    def remove(self, node: Node) -> None:
        """Take a node out, and the constants that only it used; its outputs are then nobody's."""
        del self._nodes[self._position(node)]
        self._changed()
        for name in node.input:
            self._drop(name)

    def connect(self, node: Node, place: int, name: str) -> None:
        """Let ``node`` read ``name`` at an input, which may lie beyond those it has so far."""
        node.input.extend([""] * (place + 1 - len(node.input)))
        node.input[place] = name
        self._changed()

    def set_output(self, node: Node, place: int, name: str) -> None:
        """Let ``node`` write its output under another name."""
        node.output[place] = name
        self._changed()

    def fresh(self, name: str) -> str:
        """``name``, or the first of ``name_2``, ``name_3``, … that nothing is called."""
        taken = self._names()
        candidate, count = name, 1
        while candidate in taken:
            count += 1
            candidate = f"{name}_{count}"
        return candidate

    def forget_shapes(self) -> None:
        """Remove what the file says of the shapes of inner values: needed once one of them has changed."""
        del self._proto.graph.value_info[:]

    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """What ONNX's shape inference knows of the values of the graph as it was read or last saved.

        Sizes that are open are None; values of unknown rank are missing.
        """
        return {name: known.shape for name, known in self._inferred().items() if known.shape is not None}

    def _inferred(self) -> Mapping[str, ValueType]:
        if self._types is None:
            self._types = inferred_types(self._proto)
        return self._types

    def _changed(self) -> None:
        """Forget what was derived from the connections of nodes."""
        self._index = None
        self._computed.clear()

    def _indexed(self) -> tuple[dict[str, Node], dict[str, list[Consumer]]]:
        if self._index is None:
            producers: dict[str, Node] = {}
            consumers: dict[str, list[Consumer]] = {}
            for node in self._nodes:
                producers |= dict.fromkeys(filter(None, node.output), node)
                for place, name in enumerate(node.input):
                    consumers.setdefault(name, []).append(Consumer(node, place))
                for name in sorted({name for graph in graphs_of(node) for name in _used(graph)}):
                    consumers.setdefault(name, []).append(Consumer(node, INSIDE))
            self._index = producers, consumers
        return self._index

    def _tensor(self, name: str) -> Any:
        """The TensorProto of an initializer or ``Constant``; None for everything else."""
        if name in self._initializers:
            return self._initializers[name]
        node = self.producer(name)
        if node is None or node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
            return None
        return next((constant_tensor(item) for item in _attributes(node)), None)

    def _expression(self, name: str) -> AnyArray | None:
        """The value of an expression of constants, its operands first: it may be deeper than Python recurses."""
        waiting, seen = [name], set[str]()
        while waiting:
            current = waiting.pop()
            unknown = [source for source in self._operands(current) if source not in self._computed]
            if unknown and current not in seen:
                seen.add(current)
                waiting += [current, *unknown]
            elif current not in self._computed:
                # Operands that are still unknown here depend on the result: that is no constant.
                self._computed[current] = self._fold(current)
        return self._computed[name]

    def _operands(self, name: str) -> list[str]:
        """Inputs of the node that makes ``name``, where it is one of those that are followed."""
        node = self.producer(name)
        if node is None or node.op_type not in FOLDED or node.domain not in ("", "ai.onnx") or name != node.output[0]:
            return []
        return list(node.input)

    def _fold(self, name: str) -> AnyArray | None:
        """The value of a constant whose operands are known."""
        if self._tensor(name) is not None:
            return self.constant(name)
        node, operands = self.producer(name), [self._computed.get(source) for source in self._operands(name)]
        if node is None or not operands:
            return None
        if node.op_type == "CastLike" and operands[0] is not None and operands[1] is None:
            # Only the type of the second operand counts, and that the inference knows.
            operands[1] = self._empty(node.input[1])
        known = [values for values in operands if values is not None]
        values = folded(node, known, self._proto.opset_import) if len(known) == len(operands) else None
        return None if values is None else frozen(values)

    def _empty(self, name: str) -> AnyArray | None:
        """An array of no elements of the type of a value; None where it is not known."""
        known = self._inferred().get(name)
        return None if known is None or known.dtype is None else np.zeros(0, known.dtype)

    def _store(self, name: str, values: AnyArray) -> None:
        from onnx import numpy_helper

        self._computed.clear()
        self._initializers[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))
        for item in self._proto.graph.input:
            if item.name == name:
                self._declare(item, values.shape)

    @staticmethod
    def _declare(item: Any, shape: tuple[int, ...]) -> None:
        del item.type.tensor_type.shape.dim[:]
        for size in shape:
            item.type.tensor_type.shape.dim.add(dim_value=size)

    def _drop(self, name: str) -> None:
        """Remove a constant that nothing uses: leaving it would leave the old weights in the file."""
        if not name or self.consumers(name) or name in self.outputs or self.constant(name) is None:
            return
        if name in self._initializers:
            self._proto.graph.initializer.remove(self._initializers.pop(name))
            for item in [item for item in self._proto.graph.input if item.name == name]:
                self._proto.graph.input.remove(item)
            return
        node = self.producer(name)
        if node is not None:
            self.remove(node)

    def _position(self, node: Node | None) -> int:
        for index, other in enumerate(self._nodes):
            if other is node:
                return index
        raise ValueError(f"node {getattr(node, 'name', node)!r} is not in this graph")

    def _names(self) -> set[str]:
        graph = self._proto.graph
        inner = [inner for node in self._nodes for inner in graphs_of(node)]
        values = {item.name for each in (graph, *inner) for item in (*each.initializer, *each.input, *each.output)}
        nodes = (*self._nodes, *(node for each in inner for node in each.node))
        return values | {name for node in nodes for name in (*node.input, *node.output)}


def _attributes(node: Any) -> Any:
    return node.attribute


def _used(graph: Any) -> set[str]:
    """Names a graph takes from around it, or might: names it defines itself are not among them."""
    inner = list(every_graph(graph))
    used = {name for each in inner for node in each.node for name in node.input}
    used |= {item.name for each in inner for item in each.output}
    defined = {item.name for each in inner for item in (*each.initializer, *each.input)}
    return used - defined - {name for each in inner for node in each.node for name in node.output} - {""}
