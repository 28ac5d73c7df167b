"""A tensor's elements, read only when asked and only after their number has been found to be what the shape says.

Whatever a shape claims, nothing is allocated before the stored bytes are there to match it: the check, not the claim,
bounds memory.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from onnxmark.arrays import AnyArray, frozen
from onnxmark.errors import MalformedModel, ModelLimitError, WeightsUnresolved
from onnxmark.model.dtypes import DType, dtype_of, from_integers, from_raw
from onnxmark.model.external import ExternalFiles
from onnxmark.model.limits import MAX_TENSOR_BYTES
from onnxmark.model.records import Run, SparseTensor, Storage, Tensor
from onnxmark.model.source import Source

_INTEGERS = {Storage.INT32, Storage.INT64, Storage.UINT64}
_HOLDS = {
    Storage.FLOAT: frozenset(["float32"]),
    Storage.DOUBLE: frozenset(["float64"]),
    Storage.INT64: frozenset(["int64"]),
    Storage.UINT64: frozenset(["uint32", "uint64"]),
}


class Payloads:
    """Elements of the tensors of one model.

    Args:
        source: The model file.
        path: Its path as the user gave it, to find external data.
        most: Bytes a single tensor may have as float32.
    """

    __slots__ = ("external", "most", "source")

    def __init__(self, source: Source, path: Path, most: int = MAX_TENSOR_BYTES) -> None:
        self.source = source
        self.external = ExternalFiles(path)
        self.most = most

    def check(self, tensor: Tensor) -> None:
        """Find the stored elements of ``tensor`` to be as many as its shape says, without reading them.

        Raises:
            MalformedModel: They are not, or the field does not hold the type.
            ExternalDataError: Its data file cannot serve.
            WeightsUnresolved: The type is not one of numbers we can read.
        """
        dtype = dtype_of(tensor.data_type)
        if not dtype.readable:
            raise WeightsUnresolved(f"tensor {tensor.name!r} has elements of {dtype.name}, which are not weights")
        count = prod(tensor.dims)
        if tensor.storage is Storage.EXTERNAL:
            self.external.locate(tensor, dtype.nbytes(count))
            return
        stored = sum([size * pieces for _, size, _, pieces in tensor.runs])
        if tensor.storage in _INTEGERS:
            self._check_holds(tensor, dtype)
            held = _held(dtype, count)
            # A varint has one to ten bytes: the exact number is known when they are read.
            fits = held <= stored <= 10 * held
        elif tensor.storage is Storage.RAW:
            fits = stored == dtype.nbytes(count)
        elif tensor.storage is Storage.NOTHING:
            fits = count == 0
        else:
            self._check_holds(tensor, dtype)
            fits = stored == dtype.nbytes(count)
        if not fits:
            raise self._misfit(
                tensor, f"needs {_brief(dtype.nbytes(count))} bytes, has {stored} of {tensor.storage.words}"
            )

    def array(self, tensor: Tensor) -> AnyArray:
        """The elements of ``tensor``: shape its dims, read-only, in the NumPy type of its data type.

        Raises:
            ModelLimitError: There are more than this reader was told to accept.
            ModelError: See :meth:`check`.
        """
        self.check(tensor)
        dtype, count = dtype_of(tensor.data_type), prod(tensor.dims)
        self.check_size(tensor.name, tensor.dims)
        if tensor.storage is Storage.EXTERNAL:
            source, offset = self.external.locate(tensor, dtype.nbytes(count))
            flat = from_raw(dtype, source.exactly(offset, dtype.nbytes(count)), count)
        else:
            data = b"".join(self._piece(run) for run in tensor.runs)
            if tensor.storage in _INTEGERS:
                flat = from_integers(dtype, self._varints(tensor, data, _held(dtype, count)), count)
            else:
                flat = from_raw(dtype, data, count)
        return frozen(flat.reshape(tensor.dims))

    def dense(self, sparse: SparseTensor) -> AnyArray:
        """The elements of a sparse tensor, zeros included.

        Raises:
            MalformedModel: Indices that are not int64, of another shape than the values call for, or out of range.
        """
        self.check_size(sparse.values.name, sparse.dims)
        values = self.array(sparse.values).reshape(-1)
        indices = self.array(sparse.indices)
        rank = len(sparse.dims)
        if indices.dtype != np.int64 or indices.shape not in ((len(values),), (len(values), rank)):
            raise self._misfit(sparse.values, f"has {len(values)} values but indices of shape {indices.shape}")
        if indices.ndim == 2:
            bounds = np.array(sparse.dims, np.int64)
            inside = bool(((indices >= 0) & (indices < bounds)).all())
            # NumPy's own ravel_multi_index refuses no axes, and more than it has hands for.
            indices = indices @ np.array([prod(sparse.dims[axis + 1 :]) for axis in range(rank)], np.int64)
        else:
            inside = bool(((indices >= 0) & (indices < prod(sparse.dims))).all())
        if not inside:
            raise self._misfit(sparse.values, f"has indices outside of {sparse.dims}")
        out = np.zeros(prod(sparse.dims), values.dtype)
        out[indices] = values
        return frozen(out.reshape(sparse.dims))

    def check_size(self, name: str, dims: tuple[int, ...], most: int | None = None) -> None:
        """Refuse more elements than this reader was told to accept.

        Raises:
            ModelLimitError: There are.
        """
        most = self.most if most is None else most
        # An empty axis makes no others harmless: NumPy refuses (0, 2^62) as it does (1, 2^62).
        if prod(dims) * 4 > most or (0 in dims and prod(max(size, 1) for size in dims) * 4 > most):
            raise ModelLimitError(
                f"tensor {name!r} of shape {dims} needs more than {most} bytes; raise the limit if meant"
            )

    def _piece(self, run: Run) -> bytes:
        start, size, stride, count = run
        data = self.source.exactly(start, stride * (count - 1) + size)
        if count == 1 or stride == size:
            return data
        padded = np.frombuffer(data + bytes(stride - size), np.uint8).reshape(count, stride)
        return padded[:, :size].tobytes()

    def _varints(self, tensor: Tensor, data: bytes, count: int) -> AnyArray:
        raw = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(raw < 0x80) + 1
        starts = np.concatenate([[0], ends[:-1]]).astype(np.int64) if len(ends) else ends
        widths = ends - starts
        if len(ends) != count or (len(data) and (ends[-1] != len(data) or widths.max() > 10)):
            raise self._misfit(tensor, f"needs {count} integers, has {len(ends)} in {tensor.storage.words}")
        values = np.zeros(count, np.uint64)
        for place in range(int(widths.max(initial=0))):
            reach = widths > place
            values[reach] |= (raw[starts[reach] + place] & 0x7F).astype(np.uint64) << np.uint64(7 * place)
        return values

    def _check_holds(self, tensor: Tensor, dtype: DType) -> None:
        holds = dtype.container is not None or dtype.name == "int32"
        if not (holds if tensor.storage is Storage.INT32 else dtype.name in _HOLDS.get(tensor.storage, ())):
            raise self._misfit(tensor, f"keeps {dtype.name} in {tensor.storage.words}")

    def _misfit(self, tensor: Tensor, what: str) -> MalformedModel:
        dims = tuple(tensor.dims)
        return MalformedModel(
            f"{self.source}: malformed model: tensor {tensor.name!r} of shape {dims} at byte {tensor.start} {what};"
            " the file is damaged, get it again"
        )


def _held(dtype: DType, count: int) -> int:
    """Integers in a typed field that hold ``count`` elements."""
    return dtype.nbytes(count) if dtype.bits < 8 else count


def _brief(count: int) -> str:
    return str(count) if count < 1 << 64 else "more than 2^64"
