"""ONNX's messages on top of the wire format: ModelProto, GraphProto, NodeProto, TensorProto and their kin as records.

Nodes and tensors are read eagerly, for a listing needs them all; attributes, and with them subgraphs, on demand. Fields
are told apart by their whole tag, so one with an unexpected wire type is skipped, as protobuf itself does.
"""

from __future__ import annotations

from onnxmark.errors import NotAModel
from onnxmark.model import foreign
from onnxmark.model.limits import MAX_ITEMS, MAX_LIST_BYTES, MAX_METADATA, MAX_RANK
from onnxmark.model.records import Attribute, Extents, Function, Graph, Header, Node, Run, SparseTensor, Storage, Tensor
from onnxmark.model.wire import BYTES, FIXED32, FIXED64, VARINT, Field, Wire, varint

_TYPED = {
    number << 3 | kind: storage
    for storage, kind in (
        (Storage.FLOAT, FIXED32),
        (Storage.INT32, VARINT),
        (Storage.INT64, VARINT),
        (Storage.DOUBLE, FIXED64),
        (Storage.UINT64, VARINT),
        (Storage.STRING, BYTES),
    )
    for number in (int(storage),)
}
_PACKED = {int(storage) << 3 | BYTES: storage for storage in _TYPED.values()}
_FLOAT, _INT64_SIGN, _WRAP = 1, 1 << 63, 1 << 64


class Decoder:
    """Records of one model file.

    Args:
        wire: The file's fields.
    """

    __slots__ = ("_items", "wire")

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._items = 0

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
                scalars[tag] = _signed(a)
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
        wire, node, tensor = self.wire, self.node, self.tensor
        for start, end in extents:
            for tag, a, b in wire.stream(start, end):
                if tag == 0x0A:
                    nodes.append(node(a, b))
                elif tag == 0x2A:
                    initializers.append(tensor(((a, b),)))
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
        inputs: list[str] = []
        outputs: list[str] = []
        name = op_type = domain = overload = ""
        wire = self.wire
        text = wire.text
        for tag, a, b in wire.fields(start, end):
            if tag == 0x0A:
                inputs.append(text(a, b))
            elif tag == 0x12:
                outputs.append(text(a, b))
            elif tag == 0x22:
                op_type = text(a, b)
            elif tag == 0x1A:
                name = text(a, b)
            elif tag == 0x3A:
                domain = text(a, b)
            elif tag == 0x42:
                overload = text(a, b)
        self._count(end)
        return Node(op_type, domain, name, tuple(inputs), tuple(outputs), overload, (start, end))

    def attributes(self, node: Node) -> dict[str, Attribute]:
        """The attributes of ``node`` by name."""
        found = (self.attribute(a, b) for tag, a, b in self.wire.fields(*node.extent) if tag == 0x2A)
        return {attribute.name: attribute for attribute in found}

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
                integer = _signed(a)
            elif tag == 0x22:
                text = wire.data(a, min(b, a + 4096))
            elif tag == 0x15:
                number = [(Storage.FLOAT << 3 | FIXED32, a, b)]
            elif tag in (0x3A, 0x3D):
                numbers.append((Storage.FLOAT << 3 | tag & 7, a, b))
            elif tag == 0x40:
                integers.append(_signed(a))
            elif tag == 0x42:
                integers.extend(self._varints(a, b))
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
            runs = _runs(numbers or number)
            count = sum(size * pieces for _, size, _, pieces in runs) // 4
            floats = Tensor(name, (count,) if numbers else (), _FLOAT, Storage.FLOAT, runs, (), start)
        return Attribute(
            name, ref, kind, integer, text, tuple(integers), floats,
            self.tensor(tuple(single)) if single else None,
            tuple(tensors), tuple(sparse), tuple([tuple(graph)] if graph else graphs),
        )  # fmt: skip

    def tensor(self, extents: Extents) -> Tensor:
        """The tensor whose (merged) messages lie at ``extents``: all but its elements."""
        wire = self.wire
        dims: list[int] = []
        name = ""
        data_type = location = 0
        raw: Field | None = None
        typed: dict[Storage, list[Field]] = {}
        external: list[tuple[str, str]] = []
        for start, end in extents:
            after = start
            for field in wire.fields(start, end):
                tag, a, b = field
                before, after = after, b
                if tag == 0x08:
                    dims.append(_signed(a))
                elif tag == 0x0A:
                    dims.extend(self._varints(a, b, 10 * (MAX_RANK + 1)))
                elif tag == 0x10:
                    data_type = a & 0x7FFFFFFF
                elif tag == 0x42:
                    name = wire.text(a, b)
                elif tag == 0x4A:
                    raw = field
                elif tag in _PACKED:
                    typed.setdefault(_PACKED[tag], []).append(field)
                elif tag in _TYPED:
                    # A varint is given by its value and its end, but its first byte is needed: it follows the tag.
                    typed.setdefault(_TYPED[tag], []).append((tag, before + 1 if tag & 7 == VARINT else a, b))
                elif tag == 0x6A:
                    external.append(self._entry(a, b))
                elif tag == 0x70:
                    location = a
        start, end = extents[0]
        self._count(end)
        if len(dims) > MAX_RANK:
            raise wire.limit(f"tensor {name!r} at byte {start} has {len(dims)} axes, more than {MAX_RANK}")
        for size in dims:
            if size < 0:
                raise wire.malformed(f"tensor {name!r} with the negative dimension {size}", start)
        storage = Storage.NOTHING
        runs: tuple[Run, ...] = ()
        if location == 1:
            storage = Storage.EXTERNAL
        elif raw is not None:
            storage, runs = Storage.RAW, _runs([raw])
        elif typed:
            storage = max(typed, key=lambda kind: len(typed[kind]))
            runs = _runs(typed[storage])
        return Tensor(name, tuple(dims), data_type, storage, runs, tuple(external), start)

    def sparse(self, extents: Extents) -> SparseTensor:
        """The sparse tensor whose (merged) messages lie at ``extents``."""
        dims: list[int] = []
        values: list[tuple[int, int]] = []
        indices: list[tuple[int, int]] = []
        for start, end in extents:
            for tag, a, b in self.wire.fields(start, end):
                if tag == 0x0A:
                    values.append((a, b))
                elif tag == 0x12:
                    indices.append((a, b))
                elif tag == 0x18:
                    dims.append(_signed(a))
                elif tag == 0x1A:
                    dims.extend(self._varints(a, b, 10 * (MAX_RANK + 1)))
        start = extents[0][0]
        if not values or not indices:
            raise self.wire.malformed("a sparse tensor without values or without indices", start)
        if len(dims) > MAX_RANK or min(dims, default=0) < 0:
            raise self.wire.malformed(f"a sparse tensor with {len(dims)} dimensions, or with negative ones", start)
        return SparseTensor(self.tensor(tuple(values)), self.tensor(tuple(indices)), tuple(dims))

    def metadata(self, extents: Extents) -> dict[str, str]:
        """``metadata_props`` entries as a dictionary."""
        return dict(self._entry(a, b, MAX_METADATA) for a, b in extents)

    def node_metadata(self, node: Node) -> dict[str, str]:
        """``metadata_props`` of ``node``."""
        return self.metadata(tuple((a, b) for tag, a, b in self.wire.fields(*node.extent) if tag == 0x4A))

    def _entry(self, start: int, end: int, most: int = 1 << 16) -> tuple[str, str]:
        key = value = ""
        for tag, a, b in self.wire.fields(start, end):
            if tag == 0x0A:
                key = self.wire.text(a, b)
            elif tag == 0x12:
                value = self.wire.data(a, b, most).decode("utf-8", "backslashreplace")
        return key, value

    def _value_name(self, start: int, end: int) -> str:
        names = [self.wire.text(a, b) for tag, a, b in self.wire.fields(start, end) if tag == 0x0A]
        return names[-1] if names else ""

    def _opset(self, start: int, end: int) -> tuple[str, int]:
        domain, version = "", 0
        for tag, a, b in self.wire.fields(start, end):
            if tag == 0x0A:
                domain = self.wire.text(a, b)
            elif tag == 0x10:
                version = _signed(a)
        return domain, version

    def _varints(self, start: int, end: int, most: int = MAX_LIST_BYTES) -> list[int]:
        data = self.wire.data(start, end, most)
        values: list[int] = []
        at = 0
        try:
            while at < len(data):
                value, at = varint(data, at)
                values.append(_signed(value))
        except (IndexError, ValueError):
            raise self.wire.malformed("a broken list of integers", start + at) from None
        return values

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


def _signed(value: int) -> int:
    return value - _WRAP if value >= _INT64_SIGN else value


def _runs(fields: list[Field]) -> tuple[Run, ...]:
    """Extents of payload pieces, pieces of one length at one distance taken together."""
    runs: list[Run] = []
    for _, a, b in fields:
        if runs:
            start, size, stride, count = runs[-1]
            step = a - start if count == 1 else stride
            if b - a == size and a == start + step * count:
                runs[-1] = (start, size, step, count + 1)
                continue
        runs.append((a, b - a, b - a, 1))
    return tuple(runs)
