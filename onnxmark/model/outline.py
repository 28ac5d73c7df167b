"""Is a file an ONNX model whatever it begins with? Its outline says so: the fields of the outermost message.

Readers of protobuf skip fields that they do not know. So a model may begin with ``%PDF-``, with the first bytes of an
HDF5 file or of a pickle, or have a producer called ``TFL3``, and ONNX Runtime loads it all the same: nobody shall hide
a model from an audit so cheaply. What a file begins with names a format only where the rest is no model.
"""

from __future__ import annotations

from typing import Final

from onnxmark.errors import ModelError, ModelLimitError
from onnxmark.model.source import Source
from onnxmark.model.wire import BYTES, FIXED32, FIXED64, GROUP, VARINT, Wire, varint

_IR_VERSION: Final = 0x08
_GRAPH: Final = 0x3A
_OPSET_IMPORT: Final = 0x42
_NEEDED: Final = frozenset([_IR_VERSION, _GRAPH, _OPSET_IMPORT])
"""Tags without which no runtime takes a model."""


def has_outline(source: Source) -> bool:
    """Whether a file is one protobuf message from end to end, with everything in it that a runtime asks of a model."""
    found: set[int] = set()
    try:
        for tag, _, _ in Wire(source).stream(0, source.size):
            found.add(tag)
    except ModelLimitError:
        # More fields than anybody needs: for the reader to refuse, and to say why.
        return found >= _NEEDED
    except ModelError:
        return False
    return found >= _NEEDED


def begins_like_a_message(head: bytes, size: int) -> bool:
    """Whether a file may be a protobuf message, for all that its beginning tells.

    Args:
        head: The first bytes of the file.
        size: Bytes it has.
    """
    at = 0
    try:
        while at < len(head):
            tag, at = varint(head, at)
            kind = tag & 7
            if tag >> 3 == 0 or kind not in (VARINT, FIXED64, BYTES, GROUP, FIXED32):
                return False
            if kind == VARINT:
                _, at = varint(head, at)
            elif kind == BYTES:
                length, at = varint(head, at)
                at += length
            elif kind == GROUP:
                return True  # its end may be anywhere
            else:
                at += 8 if kind == FIXED64 else 4
    except IndexError:
        return len(head) < size
    except ValueError:
        return False
    return at <= size
