"""Where the fields of an ONNX message lie, and edits that keep the lengths around them right.

A mutation that leaves the enclosing lengths stale is rejected at the first header and tests nothing further in. So a
seed is indexed once, by a decoder that shares nothing with the one under test, and an edit re-frames its ancestors.
"""

from __future__ import annotations

from typing import Final, NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Ancestor = tuple[int, int, int]
"""Where the length of an enclosing message begins, and the first and past-last byte of its content."""

CHILDREN: Final[dict[str, dict[int, str]]] = {
    "Model": {7: "Graph", 8: "Opset", 14: "Entry", 20: "Training", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 11: "Value", 12: "Value", 13: "Value", 15: "Sparse", 16: "Entry"},
    "Node": {5: "Attribute", 9: "Entry"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Tensor": {13: "Entry"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Function": {7: "Node", 9: "Opset", 11: "Attribute", 14: "Entry"},
}
"""Message type → field number → type of the message in that field. What is not listed is a leaf."""


class Place(NamedTuple):
    """One field of a message, by positions in the whole file."""

    start: int
    value: int
    end: int
    wire: int
    number: int
    owner: str
    child: str
    ancestors: tuple[Ancestor, ...]
    """Innermost first."""


def varint(value: int, padding: int = 0) -> bytes:
    """A varint of 64 bits, with ``padding`` bytes more than it needs."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    for _ in range(padding):
        out[-1] |= 128
        out.append(0)
    return bytes(out)


def field(number: int, wire: int, value: bytes) -> bytes:
    """A field; ``value`` is framed with its length where the wire type asks for it."""
    return varint(number << 3 | wire) + (varint(len(value)) + value if wire == BYTES else value)


def places(data: bytes) -> list[Place]:
    """The fields of a model, outermost first; whatever cannot be followed is left out."""
    found: list[Place] = []
    _walk(data, 0, len(data), "Model", (), found)
    return found


def replaced(data: bytes, start: int, end: int, new: bytes, ancestors: tuple[Ancestor, ...]) -> bytes:
    """``data`` with ``[start, end)`` made ``new`` and the lengths of all enclosing messages put right."""
    for length, first, last in ancestors:
        body = data[first:start] + new + data[end:last]
        new = varint(len(body)) + body
        start, end = length, last
    return data[:start] + new + data[end:]


def _walk(data: bytes, at: int, end: int, owner: str, ancestors: tuple[Ancestor, ...], found: list[Place]) -> None:
    children = CHILDREN.get(owner, {})
    while at < end:
        start = at
        tag, at = _read(data, at, end)
        wire, number = tag & 7, tag >> 3
        if at < 0 or wire not in (VARINT, FIXED64, BYTES, FIXED32):
            return
        length = value = at
        if wire == VARINT:
            _, at = _read(data, at, end)
        elif wire == BYTES:
            size, value = _read(data, at, end)
            at = value + size if value >= 0 else -1
        else:
            at += 4 if wire == FIXED32 else 8
        if not 0 <= at <= end:
            return
        child = children.get(number, "") if wire == BYTES else ""
        found.append(Place(start, value, at, wire, number, owner, child, ancestors))
        if child and len(ancestors) < 24:
            _walk(data, value, at, child, ((length, value, at), *ancestors), found)


def _read(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A varint and the position after it, -1 where there is none."""
    value = shift = 0
    while 0 <= at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    return 0, -1
