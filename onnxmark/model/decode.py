"""ONNX's messages on top of the wire format: ModelProto, GraphProto, NodeProto, TensorProto and their kin as records.

Nodes and tensors are read eagerly, for a listing needs them all; attributes, and with them subgraphs, on demand. Fields
are told apart by their whole tag, so one with an unexpected wire type is skipped, as protobuf itself does.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnxmark.errors import NotAModel
from onnxmark.model import elements, foreign, usual
from onnxmark.model.elements import runs_of, signed
from onnxmark.model.limits import MAX_ITEMS, MAX_METADATA
from onnxmark.model.records import Attribute, Extents, Function, Graph, Header, Node, SparseTensor, Storage, Tensor
from onnxmark.model.wire import BYTES, FIXED32, Field, Wire, varint

_FLOAT = 1
_REPEATED, _REPEATS = 256, 1024
"""Bytes of attributes worth remembering, and of how many nodes: a bound on memory of a few megabytes."""


class Decoder:
    """Records of one model file.

    Args:
        wire: The file's fields.
    """

    __slots__ = ("_items", "_repeated", "wire")

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._items = 0
        self._repeated: dict[bytes, dict[str, Attribute]] = {}

    def header(self) -> Header:
        """The model around its graph.

        Raises:
            NotAModel: The fields are not those of a model, or there is no graph.
        """
        wire, size = self.wire, self.wire.source.size
        graph: list[tuple[int, int]] = []
        functions: list[tuple[int, int]] = []
        metadata: list[tuple[int, int]] = []
        opset: dict[str, int] = {}
        scalars: dict[int, int] = {}
        texts: dict[int, str] = {}
        for tag, a, b in wire.stream(0, size):
            if tag == 0x3A:
                graph.append((a, b))
            elif tag == 0xCA:
                functions.append((a, b))
                self._count(b)
            elif tag == 0x72:
                metadata.append((a, b))
            elif tag == 0x42:
                domain, version = self._opset(a, b)
                opset[domain] = version
            elif tag in (0x08, 0x28):
                scalars[tag] = signed(a)
            elif tag in (0x12, 0x1A, 0x22):
                texts[tag] = wire.text(a, min(b, a + 256))
        if not graph:
            raise NotAModel(f"{wire.source}: holds no graph, so it is not an ONNX model; name the .onnx file")
        producer = f"{texts.get(0x12, '')} {texts.get(0x1A, '')}".strip()
        return Header(
            scalars.get(0x08, 0), producer, texts.get(0x22, ""), scalars.get(0x28, 0), opset,
            tuple(graph), tuple(functions), tuple(metadata),
        )  # fmt: skip

    def graph(self, extents: Extents) -> Graph:
        """The graph whose (merged) messages lie at ``extents``."""
        nodes: list[Node] = []
        initializers: list[Tensor] = []
        sparse: list[SparseTensor] = []
        inputs: list[str] = []
        outputs: list[str] = []
        metadata: list[tuple[int, int]] = []
        name = ""
        wire = self.wire
        for start, end in extents:
            for tag, a, b in wire.stream(start, end):
                if tag == 0x0A:
                    nodes.append(usual.node(wire, a, b) or self._any_node(a, b))
                    self._count(b)
                elif tag == 0x2A:
                    initializers.append(usual.tensor(wire, a, b) or elements.tensor(wire, ((a, b),)))
                    self._count(b)
                elif tag == 0x7A:
                    sparse.append(self.sparse(((a, b),)))
                elif tag == 0x5A:
                    inputs.append(self._value_name(a, b))
                elif tag == 0x62:
                    outputs.append(self._value_name(a, b))
                elif tag == 0x12:
                    name = wire.text(a, b)
                elif tag == 0x82:
                    metadata.append((a, b))
        return Graph(
            name, tuple(nodes), tuple(initializers), tuple(sparse), tuple(inputs), tuple(outputs), tuple(metadata)
        )

    def function(self, start: int, end: int) -> Function:
        """The local function at ``[start, end)``."""
        lists: dict[int, list[str]] = {0x22: [], 0x2A: [], 0x32: []}
        texts: dict[int, str] = {}
        nodes: list[Node] = []
        defaults: list[Attribute] = []
        opset: dict[str, int] = {}
        for tag, a, b in self.wire.stream(start, end):
            if tag == 0x3A:
                nodes.append(self.node(a, b))
            elif tag in lists:
                lists[tag].append(self.wire.text(a, b))
            elif tag in (0x0A, 0x52, 0x6A):
                texts[tag] = self.wire.text(a, b)
            elif tag == 0x5A:
                defaults.append(self.attribute(a, b))
            elif tag == 0x4A:
                domain, version = self._opset(a, b)
                opset[domain] = version
        return Function(
            texts.get(0x0A, ""), texts.get(0x52, ""), texts.get(0x6A, ""), tuple(nodes),
            tuple(lists[0x22]), tuple(lists[0x2A]), tuple(lists[0x32]), tuple(defaults), opset,
        )  # fmt: skip

    def node(self, start: int, end: int) -> Node:
        """The node at ``[start, end)``, attributes left alone."""
        self._count(end)
        return usual.node(self.wire, start, end) or self._any_node(start, end)

    def _any_node(self, start: int, end: int) -> Node:
        inputs: list[str] = []
        outputs: list[str] = []
        name = op_type = domain = overload = ""
        text = self.wire.text
        details, after = end, start
        for tag, a, b in self.wire.fields(start, end):
            before, after = after, b
            if tag == 0x0A:
                inputs.append(text(a, b))
            elif tag == 0x12:
                outputs.append(text(a, b))
            elif tag == 0x22:
                op_type = text(a, b)
            elif tag == 0x1A:
                name = text(a, b)
            else:
                details = min(details, before)
                if tag == 0x3A:
                    domain = text(a, b)
                elif tag == 0x42:
                    overload = text(a, b)
        return Node(op_type, domain, name, tuple(inputs), tuple(outputs), overload, (start, end), details)

    def attributes(self, node: Node) -> Mapping[str, Attribute]:
        """The attributes of ``node`` by name."""
        start, end = node.details, node.extent[1]
        if end - start > _REPEATED:
            return self._attributes(start, end)
        # All layers of a block say the same, and what they say is the same wherever it says no place in the file.
        window, at = self.wire.view(start, end)
        data = window[at : at + end - start]
        known = self._repeated.get(data)
        if known is None:
            known = self._attributes(start, end)
            if len(self._repeated) < _REPEATS and not any(attribute.placed for attribute in known.values()):
                self._repeated[data] = known
        return known

    def _attributes(self, start: int, end: int) -> dict[str, Attribute]:
        found: dict[str, Attribute] = {}
        for tag, a, b in self.wire.fields(start, end):
            if tag == 0x2A:
                attribute = self.attribute(a, b)
                # Of a Constant's two values ONNX Runtime takes the first; other nodes may not have any attribute twice.
                found.setdefault(attribute.name, attribute)
        return found

    def attribute(self, start: int, end: int) -> Attribute:
        """The attribute at ``[start, end)``; graphs inside stay extents."""
        wire = self.wire
        name = ref = ""
        kind = integer = 0
        text = b""
        integers: list[int] = []
        number: list[Field] = []
        numbers: list[Field] = []
        single: list[tuple[int, int]] = []
        tensors: list[Tensor] = []
        sparse: list[SparseTensor] = []
        graph: list[tuple[int, int]] = []
        graphs: list[Extents] = []
        for tag, a, b in wire.fields(start, end):
            if tag == 0x0A:
                name = wire.text(a, b)
            elif tag == 0xAA:
                ref = wire.text(a, b)
            elif tag == 0xA0:
                kind = a
            elif tag == 0x18:
                integer = signed(a)
            elif tag == 0x22:
                text = wire.data(a, min(b, a + 4096))
            elif tag == 0x15:
                number = [(Storage.FLOAT << 3 | FIXED32, a, b)]
            elif tag in (0x3A, 0x3D):
                numbers.append((Storage.FLOAT << 3 | tag & 7, a, b))
            elif tag == 0x40:
                integers.append(signed(a))
            elif tag == 0x42:
                integers.extend(elements.integers(wire, a, b))
            elif tag == 0x2A:
                single.append((a, b))
            elif tag == 0x52:
                tensors.append(self.tensor(((a, b),)))
            elif tag in (0xB2, 0xBA):
                sparse.append(self.sparse(((a, b),)))
            elif tag == 0x32:
                graph.append((a, b))
            elif tag == 0x5A:
                graphs.append(((a, b),))
        floats = None
        if number or numbers:
            runs = runs_of(numbers or number)
            count = sum(size * pieces for _, size, _, pieces in runs) // 4
            floats = Tensor(name, (count,) if numbers else (), _FLOAT, Storage.FLOAT, runs, (), start)
        return Attribute(
            name, ref, kind, integer, text, tuple(integers), floats,
            self.tensor(tuple(single)) if single else None,
            tuple(tensors), tuple(sparse), tuple([tuple(graph)] if graph else graphs),
        )  # fmt: skip

    def tensor(self, extents: Extents) -> Tensor:
        """The tensor whose (merged) messages lie at ``extents``: all but its elements."""
        self._count(extents[0][1])
        return elements.tensor(self.wire, extents)

    def sparse(self, extents: Extents) -> SparseTensor:
        """The sparse tensor whose (merged) messages lie at ``extents``."""
        self._count(extents[0][1])
        return elements.sparse(self.wire, extents)

    def metadata(self, extents: Extents) -> dict[str, str]:
        """``metadata_props`` entries as a dictionary."""
        return dict(elements.entry(self.wire, a, b, MAX_METADATA) for a, b in extents)

    def node_metadata(self, node: Node) -> dict[str, str]:
        """``metadata_props`` of ``node``."""
        return self.metadata(
            tuple((a, b) for tag, a, b in self.wire.fields(node.details, node.extent[1]) if tag == 0x4A)
        )

    def _value_name(self, start: int, end: int) -> str:
        names = [self.wire.text(a, b) for tag, a, b in self.wire.fields(start, end) if tag == 0x0A]
        return names[-1] if names else ""

    def _opset(self, start: int, end: int) -> tuple[str, int]:
        domain, version = "", 0
        for tag, a, b in self.wire.fields(start, end):
            if tag == 0x0A:
                domain = self.wire.text(a, b)
            elif tag == 0x10:
                version = signed(a)
        return domain, version

    def _count(self, end: int) -> None:
        self._items += 1
        if self._items > MAX_ITEMS:
            raise self.wire.limit(f"more than {MAX_ITEMS} nodes and tensors before byte {end}")


def explain(head: bytes) -> tuple[str, str] | None:
    """What a file that did not parse is, if it does not even begin like a model, and what to do; None if it does."""
    guess = foreign.guessed(head)
    if guess is not None:
        return guess
    try:
        tag, _ = varint(head, 0)
    except (IndexError, ValueError):
        tag = 0
    return None if tag in _MODEL_TAGS else ("in an unknown binary format", "name the .onnx file")


_MODEL_TAGS = frozenset([0x08, 0x28, *(number << 3 | BYTES for number in (2, 3, 4, 6, 7, 8, 14)), *(0xA2, 0xCA, 0xD2)])
