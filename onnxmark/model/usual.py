"""Nodes and tensors in the layout that every exporter writes, taken in at a glance.

Tens of thousands of short messages make a listing, and looking at each field of each is what takes its time. Nearly all
of them have their fields in numerical order, short names, and attributes or shapes that were seen just before. These
functions know that one layout; they say None for anything else, sound or not, and the general walk decides. So they
may be deleted without changing any result, which is also how they are tested.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from onnxmark.model.limits import MAX_RANK
from onnxmark.model.records import Node, Storage, Tensor
from onnxmark.model.wire import Wire, varint

_INPUT, _OUTPUT, _NAME, _OPERATOR = 0x0A, 0x12, 0x1A, 0x22
_DOMAIN, _OVERLOAD = 0x3A, 0x42
_SKIPPED: Final = frozenset([0x2A, 0x32, 0x4A])
"""Attributes, documentation and metadata of a node."""
_RAW: Final = 0x4A
_REMEMBERED: Final = 512
"""Bytes: longer ends of nodes do not repeat, and would make the memory large."""

# The dimensions, each a varint of at most five bytes; the data type; tag and length of the name. Possessive, so that a
# file cannot make it try twice.
_HEAD: Final = re.compile(rb"((?:\x08[\x80-\xff]{0,4}+[\x00-\x7f]){0,%d}+\x10[\x00-\x7f])\x42([\x00-\x7f])" % MAX_RANK)


def node(wire: Wire, start: int, end: int) -> Node | None:
    """The node at ``[start, end)`` if it is of the usual layout."""
    data, at = wire.view(start, end)
    stop = at + end - start
    inputs: list[str] = []
    outputs: list[str] = []
    name = operator = domain = overload = ""
    fields = 0
    begin = at - start
    details = stop
    try:
        while at < stop:
            tag = data[at]
            if tag > _OPERATOR:
                tail = data[at:stop]
                found = _tail(tail) if len(tail) <= _REMEMBERED else _tail.__wrapped__(tail)
                if found is None:
                    return None
                details = at
                domain, overload, more = found
                fields += more
                at = stop
                break
            size = data[at + 1]
            if size > 127:
                return None
            fields += 1
            first = at + 2
            at = first + size
            if tag == _INPUT:
                inputs.append(data[first:at].decode("utf-8", "backslashreplace"))
            elif tag == _OUTPUT:
                outputs.append(data[first:at].decode("utf-8", "backslashreplace"))
            elif tag == _NAME:
                name = data[first:at].decode("utf-8", "backslashreplace")
            elif tag == _OPERATOR:
                operator = _word(data[first:at])
            else:
                return None
    except IndexError:
        return None
    if at != stop or stop > len(data):
        return None
    wire.spend(fields)
    return Node(operator, domain, name, tuple(inputs), tuple(outputs), overload, (start, end), details - begin)


@lru_cache(maxsize=1024)
def _word(data: bytes) -> str:
    """The name of an operator: one string for all nodes of a kind."""
    return data.decode("utf-8", "backslashreplace")


@lru_cache(maxsize=4096)
def _tail(data: bytes) -> tuple[str, str, int] | None:
    """Domain, overload and number of fields of the rest of a node from its attributes on."""
    domain = overload = ""
    fields = at = 0
    try:
        while at < len(data):
            tag, size = data[at], data[at + 1]
            at += 2
            if size > 127:
                size, at = varint(data, at - 1)
            if tag == _DOMAIN:
                domain = data[at : at + size].decode("utf-8", "backslashreplace")
            elif tag == _OVERLOAD:
                overload = data[at : at + size].decode("utf-8", "backslashreplace")
            elif tag not in _SKIPPED:
                return None
            at += size
            fields += 1
    except (IndexError, ValueError):
        return None
    return (domain, overload, fields) if at == len(data) else None


def tensor(wire: Wire, start: int, end: int) -> Tensor | None:
    """The tensor at ``[start, end)`` if it is of the usual layout: dimensions, type, name, raw data, no more."""
    data, at = wire.view(start, end)
    head = _HEAD.match(data, at)
    if head is None:
        return None
    first = head.end()
    try:
        last = first + data[first - 1]
        if data[last] != _RAW:
            return None
        size = data[last + 1]
        raw = last + 2
        if size > 127:
            size, raw = varint(data, raw - 1)
    except (IndexError, ValueError):
        return None
    begin = start - at
    if begin + raw + size != end:
        return None
    dims, data_type = _shape(head[1])
    wire.spend(len(dims) + 3)
    name = data[first:last].decode("utf-8", "backslashreplace")
    return Tensor(name, dims, data_type, Storage.RAW, ((begin + raw, size, size, 1),), (), start)


@lru_cache(maxsize=4096)
def _shape(head: bytes) -> tuple[tuple[int, ...], int]:
    """Dimensions and data type of a tensor from the fields that hold them."""
    dims: list[int] = []
    at = 1
    while at < len(head) - 2:
        size, at = varint(head, at)
        dims.append(size)
        at += 1
    return tuple(dims), head[-1]
