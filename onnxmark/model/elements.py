"""Where a tensor's elements are: TensorProto and SparseTensorProto off the wire, everything but the elements.

ONNX can keep elements in raw bytes, in one of six typed fields, each packed or one by one, or in another file; the
record says which, and at which bytes, so that reading and writing back need no second look at the message.
"""

from __future__ import annotations

from onnxmark.model.limits import MAX_LIST_BYTES, MAX_RANK
from onnxmark.model.records import Extents, Run, SparseTensor, Storage, Tensor
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
_INT64_SIGN, _WRAP = 1 << 63, 1 << 64


def tensor(wire: Wire, extents: Extents) -> Tensor:
    """The tensor whose (merged) messages lie at ``extents``: all but its elements."""
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
                dims.append(signed(a))
            elif tag == 0x0A:
                dims.extend(integers(wire, a, b, 10 * (MAX_RANK + 1)))
            elif tag == 0x10:
                data_type = a & 0x7FFFFFFF
            elif tag == 0x42:
                name = wire.text(a, b)
            elif tag == 0x4A:
                raw = field
            elif tag in _PACKED:
                typed.setdefault(_PACKED[tag], []).append(field)
            elif tag in _TYPED:
                # A varint is given by its value and its end, but its first byte is needed.
                first = _first(wire, before, a, b) if tag & 7 == VARINT else a
                typed.setdefault(_TYPED[tag], []).append((tag, first, b))
            elif tag == 0x6A:
                external.append(entry(wire, a, b))
            elif tag == 0x70:
                location = a
    start = extents[0][0]
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
        storage, runs = Storage.RAW, runs_of([raw])
    elif typed:
        storage = max(typed, key=lambda kind: len(typed[kind]))
        runs = runs_of(typed[storage])
    return Tensor(name, tuple(dims), data_type, storage, runs, tuple(external), start)


def sparse(wire: Wire, extents: Extents) -> SparseTensor:
    """The sparse tensor whose (merged) messages lie at ``extents``."""
    dims: list[int] = []
    values: list[tuple[int, int]] = []
    indices: list[tuple[int, int]] = []
    for start, end in extents:
        for tag, a, b in wire.fields(start, end):
            if tag == 0x0A:
                values.append((a, b))
            elif tag == 0x12:
                indices.append((a, b))
            elif tag == 0x18:
                dims.append(signed(a))
            elif tag == 0x1A:
                dims.extend(integers(wire, a, b, 10 * (MAX_RANK + 1)))
    start = extents[0][0]
    if not values or not indices:
        raise wire.malformed("a sparse tensor without values or without indices", start)
    if len(dims) > MAX_RANK or min(dims, default=0) < 0:
        raise wire.malformed(f"a sparse tensor with {len(dims)} dimensions, or with negative ones", start)
    return SparseTensor(tensor(wire, tuple(values)), tensor(wire, tuple(indices)), tuple(dims))


def entry(wire: Wire, start: int, end: int, most: int = 1 << 16) -> tuple[str, str]:
    """Key and value of a StringStringEntryProto."""
    key = value = ""
    for tag, a, b in wire.fields(start, end):
        if tag == 0x0A:
            key = wire.text(a, b)
        elif tag == 0x12:
            value = wire.data(a, b, most).decode("utf-8", "backslashreplace")
    return key, value


def integers(wire: Wire, start: int, end: int, most: int = MAX_LIST_BYTES) -> list[int]:
    """A packed list of integers."""
    data = wire.data(start, end, most)
    values: list[int] = []
    at = 0
    try:
        while at < len(data):
            value, at = varint(data, at)
            values.append(signed(value))
    except (IndexError, ValueError):
        raise wire.malformed("a broken list of integers", start + at) from None
    return values


def _first(wire: Wire, before: int, value: int, end: int) -> int:
    """First byte of the varint that ends at ``end``, in a field that begins at ``before`` or, past a group, later."""
    if end - before - 1 == max(1, -(-value.bit_length() // 7)):
        return before + 1
    # A tag or a value longer than it need be, or a group skipped on the way: all bytes of a varint but the last have
    # the high bit set, and the tag's last byte has not.
    start = max(before, end - 11)
    data = wire.data(start, end)
    at = len(data) - 1
    while at > 0 and data[at - 1] > 127:
        at -= 1
    return start + at


def signed(value: int) -> int:
    """A varint's value as the int64 it stands for."""
    return value - _WRAP if value >= _INT64_SIGN else value


def runs_of(fields: list[Field]) -> tuple[Run, ...]:
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
