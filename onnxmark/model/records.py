"""What a model file holds, as plain frozen records: names, dims and byte extents, never a payload.

The records mirror ONNX's messages closely enough to be compared with them one to one. Wherever ONNX nests a message
that nobody may ask for (attributes, subgraphs), the record keeps only the extents of its bytes. Extents come in tuples
because protobuf merges a message that occurs several times. Nodes and tensors are named tuples because a listing makes
tens of thousands of them, and a frozen dataclass takes three times as long to make.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

Extent = tuple[int, int]
"""First byte and one past the last, in the model file."""
Extents = tuple[Extent, ...]
Run = tuple[int, int, int, int]
"""Equal pieces of payload at equal distances: first byte, bytes of a piece, distance between pieces, their number."""


class Storage(IntEnum):
    """The field of TensorProto that holds the elements (by its number), or where else they are."""

    NOTHING = 0
    FLOAT = 4
    INT32 = 5
    STRING = 6
    INT64 = 7
    RAW = 9
    DOUBLE = 10
    UINT64 = 11
    EXTERNAL = 14

    __hash__ = int.__hash__  # Enum's own is Python code, and members are looked up for every tensor.

    @property
    def words(self) -> str:
        """For people: ``raw data``, ``float_data``."""
        return _STORAGE_WORDS[self]


_STORAGE_WORDS = {
    Storage.NOTHING: "no data",
    Storage.FLOAT: "float_data",
    Storage.INT32: "int32_data",
    Storage.STRING: "string_data",
    Storage.INT64: "int64_data",
    Storage.RAW: "raw data",
    Storage.DOUBLE: "double_data",
    Storage.UINT64: "uint64_data",
    Storage.EXTERNAL: "external data",
}


class Tensor(NamedTuple):
    """A TensorProto: where its elements are, not what they are."""

    name: str
    dims: tuple[int, ...]
    data_type: int
    storage: Storage
    runs: tuple[Run, ...]
    external: tuple[tuple[str, str], ...]
    """The ``external_data`` entries, in file order."""
    start: int
    """First byte of the message: tells tensors of one file apart whatever they are called."""


@dataclass(frozen=True, slots=True)
class SparseTensor:
    """A SparseTensorProto: its name is that of the values."""

    values: Tensor
    indices: Tensor
    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Attribute:
    """An AttributeProto. Only the members its type calls for are set."""

    name: str
    ref: str
    """Name of the attribute of the enclosing function this one stands for, or empty."""
    kind: int
    integer: int = 0
    text: bytes = b""
    integers: tuple[int, ...] = ()
    numbers: Tensor | None = None
    """Attributes of type FLOAT and FLOATS, as a float32 tensor with no axis or one."""
    tensor: Tensor | None = None
    tensors: tuple[Tensor, ...] = ()
    sparse: tuple[SparseTensor, ...] = ()
    graphs: tuple[Extents, ...] = ()

    @property
    def placed(self) -> bool:
        """Whether it says where something is, not only what."""
        return bool(self.numbers or self.tensor or self.tensors or self.sparse or self.graphs)


class Node(NamedTuple):
    """A NodeProto without its attributes, which :meth:`Decoder.attributes` reads on demand."""

    op_type: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    overload: str
    extent: Extent
    details: int
    """Where what follows inputs, outputs, name and operator begins: no attribute comes before."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A GraphProto."""

    name: str
    nodes: tuple[Node, ...]
    initializers: tuple[Tensor, ...]
    sparse_initializers: tuple[SparseTensor, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    metadata: Extents = ()


@dataclass(frozen=True, slots=True)
class Function:
    """A FunctionProto."""

    name: str
    domain: str
    overload: str
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[str, ...]
    """Names of attributes a call must give."""
    defaults: tuple[Attribute, ...]
    """Attributes a call may give, with the values they have otherwise."""
    opset: dict[str, int]


@dataclass(frozen=True, slots=True)
class Header:
    """A ModelProto without its graph."""

    ir_version: int
    producer: str
    """``producer_name producer_version``."""
    domain: str
    model_version: int
    opset: dict[str, int]
    graph: Extents
    functions: Extents
    metadata: Extents = field(default=())
