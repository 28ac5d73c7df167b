"""ONNX's element types: their codes, names and widths, and their bytes as NumPy arrays and back.

Two of ONNX's habits live here and nowhere else: types narrower than a byte are packed low bits first, and the "typed"
fields hold small types inside larger ones (``int32_data`` holds float16 bit patterns). ``ml_dtypes`` is imported only
for the types NumPy lacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxmark.arrays import AnyArray


@dataclass(frozen=True, slots=True)
class DType:
    """An ONNX element type.

    Args:
        code: Its number in ``TensorProto.DataType``.
        name: NumPy's or ml_dtypes' name, ``int4`` and the like for packed integers.
        bits: Width of an element.
        kind: ``f`` float, ``i`` signed, ``u`` unsigned, ``b`` bool, ``c`` complex, ``s`` string, ``x`` not readable.
        container: Integer type of the ``int32_data`` elements that hold it, or None where the field holds it as it is.
    """

    code: int
    name: str
    bits: int
    kind: str
    container: str | None = None

    @property
    def numpy(self) -> np.dtype[Any]:
        """Type of the arrays that hold it: its own, or int8/uint8 for integers narrower than a byte."""
        if self.name in _ML_DTYPES:
            import ml_dtypes

            special: np.dtype[Any] = np.dtype(getattr(ml_dtypes, _ML_DTYPES[self.name]))
            return special
        if self.bits < 8:
            return np.dtype("int8" if self.kind == "i" else "uint8")
        return np.dtype(self.name)

    @property
    def readable(self) -> bool:
        """Whether elements can become an array of numbers."""
        return self.kind in "fiub"

    @property
    def limits(self) -> tuple[int, int]:
        """Least and greatest value of an integer type."""
        if self.kind == "i":
            return -(1 << self.bits - 1), (1 << self.bits - 1) - 1
        return 0, (1 << self.bits) - 1

    def nbytes(self, count: int) -> int:
        """Bytes of ``count`` elements in ``raw_data``."""
        return (count * self.bits + 7) // 8


_ML_DTYPES = {
    "bfloat16": "bfloat16",
    "float8e4m3fn": "float8_e4m3fn",
    "float8e4m3fnuz": "float8_e4m3fnuz",
    "float8e5m2": "float8_e5m2",
    "float8e5m2fnuz": "float8_e5m2fnuz",
    "float4e2m1": "float4_e2m1fn",
    "float8e8m0": "float8_e8m0fnu",
}

_TOPS = {
    "float8e4m3fn": 448.0,
    "float8e4m3fnuz": 240.0,
    "float8e5m2": 57344.0,
    "float8e5m2fnuz": 57344.0,
    "float8e8m0": 2.0**127,
}
"""Greatest finite values."""

_ALL = (
    DType(1, "float32", 32, "f"),
    DType(2, "uint8", 8, "u", "uint8"),
    DType(3, "int8", 8, "i", "int8"),
    DType(4, "uint16", 16, "u", "uint16"),
    DType(5, "int16", 16, "i", "int16"),
    DType(6, "int32", 32, "i"),
    DType(7, "int64", 64, "i"),
    DType(8, "string", 0, "s"),
    DType(9, "bool", 8, "b", "uint8"),
    DType(10, "float16", 16, "f", "uint16"),
    DType(11, "float64", 64, "f"),
    DType(12, "uint32", 32, "u"),
    DType(13, "uint64", 64, "u"),
    DType(14, "complex64", 64, "c"),
    DType(15, "complex128", 128, "c"),
    DType(16, "bfloat16", 16, "f", "uint16"),
    DType(17, "float8e4m3fn", 8, "f", "uint8"),
    DType(18, "float8e4m3fnuz", 8, "f", "uint8"),
    DType(19, "float8e5m2", 8, "f", "uint8"),
    DType(20, "float8e5m2fnuz", 8, "f", "uint8"),
    DType(21, "uint4", 4, "u", "uint8"),
    DType(22, "int4", 4, "i", "uint8"),
    DType(23, "float4e2m1", 4, "f", "uint8"),
    DType(24, "float8e8m0", 8, "f", "uint8"),
    DType(25, "uint2", 2, "u", "uint8"),
    DType(26, "int2", 2, "i", "uint8"),
    DType(27, "float6e2m3", 6, "x"),
    DType(28, "float6e3m2", 6, "x"),
)
BY_CODE = {dtype.code: dtype for dtype in _ALL}
BY_NAME = {dtype.name: dtype for dtype in _ALL}


def dtype_of(code: int) -> DType:
    """The type with ``code``; one that cannot be read for codes nobody has defined."""
    return BY_CODE.get(code) or DType(code, f"type {code}", 0, "x")


def from_raw(dtype: DType, data: bytes, count: int) -> AnyArray:
    """``count`` elements from their ``raw_data`` bytes; shape ``(count,)``, of ``dtype.numpy``."""
    if dtype.bits < 8:
        codes = _unpack(np.frombuffer(data, np.uint8), dtype.bits, count)
        return _narrow(dtype, codes)
    if dtype.kind == "b":
        truth: AnyArray = np.frombuffer(data, np.uint8) != 0
        return truth
    target = dtype.numpy
    stored = np.frombuffer(data, f"<u{target.itemsize}") if dtype.name in _ML_DTYPES else None
    if stored is not None:
        special: AnyArray = stored.astype(f"u{target.itemsize}", copy=False).view(target)
        return special
    return np.frombuffer(data, target.newbyteorder("<")).astype(target, copy=False)


def to_raw(dtype: DType, values: AnyArray) -> bytes:
    """The inverse of :func:`from_raw`: ``values`` of any shape, already of ``dtype.numpy``, as ``raw_data`` bytes."""
    flat = np.ascontiguousarray(values).reshape(-1)
    if dtype.bits < 8:
        return _pack(flat.view(np.uint8), dtype.bits)
    if dtype.name in _ML_DTYPES:
        flat = flat.view(f"u{flat.dtype.itemsize}")
    little: AnyArray = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    return little.tobytes()


def from_integers(dtype: DType, held: AnyArray, count: int) -> AnyArray:
    """``count`` elements from the integers of ``int32_data``, ``int64_data`` or ``uint64_data`` (given as uint64)."""
    if dtype.container is None:
        return held.astype(dtype.numpy)
    bits = held.astype(dtype.container)
    if dtype.bits < 8:
        return _narrow(dtype, _unpack(bits.view(np.uint8), dtype.bits, count))
    return bits != 0 if dtype.kind == "b" else bits.view(dtype.numpy)


def cast(dtype: DType, values: AnyArray, saturate: bool = True) -> AnyArray:
    """``values`` as ONNX's Cast makes them ``dtype``: floats round to nearest even; float8 saturates if told to."""
    if dtype.bits == 8 and dtype.kind == "f" and saturate:
        top = _TOPS[dtype.name]
        values = np.clip(values.astype(np.float32), -top, top)
    return values if values.dtype == dtype.numpy else values.astype(dtype.numpy)


def _unpack(data: AnyArray, bits: int, count: int) -> AnyArray:
    per_byte = 8 // bits
    shifts = np.arange(per_byte, dtype=np.uint8) * bits
    codes: AnyArray = (data[:, None] >> shifts & np.uint8((1 << bits) - 1)).reshape(-1)[:count]
    return codes


def _narrow(dtype: DType, codes: AnyArray) -> AnyArray:
    if dtype.kind == "f":
        return codes.view(dtype.numpy)
    if dtype.kind == "u":
        return codes
    sign = np.int8(1 << dtype.bits - 1)
    return (codes.view(np.int8) ^ sign) - sign


def _pack(codes: AnyArray, bits: int) -> bytes:
    per_byte = 8 // bits
    padded = np.zeros(-(-len(codes) // per_byte) * per_byte, np.uint8)
    padded[: len(codes)] = codes & np.uint8((1 << bits) - 1)
    shifts = np.arange(per_byte, dtype=np.uint8) * bits
    packed: AnyArray = np.bitwise_or.reduce(padded.reshape(-1, per_byte) << shifts, axis=1)
    return packed.astype(np.uint8).tobytes()
