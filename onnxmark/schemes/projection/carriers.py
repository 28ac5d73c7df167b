"""From a layer's weights to the vector a projection key reads, and back: the *carrier* of a mark.

Uchida et al. (ICMR 2017, arXiv 1701.04082) average a kernel over its output filters. That fold is public and holds a
known 1/O of the layer's energy, so subtracting the mean erases the mark at no cost in accuracy. Our own carriers
project the whole centred tensor, directly or through a keyed signed fold: half the distortion at equal margin, and
nothing for an attacker to aim at. Every carrier is a linear map; its adjoint takes a change of the vector back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from onnxmark.arrays import AnyArray, Float32Array, Float64Array, Int8Array
from onnxmark.errors import KeyFileError
from onnxmark.keys.derivation import signed_buckets
from onnxmark.keys.secret import Secret

FULL: Final = "full"
MEAN_IHW: Final = "mean-ihw"
MEAN_HWI: Final = "mean-hwi"
FOLD: Final = "fold:"
FULL_LIMIT: Final = 2**17
"""Above this many weights the default is ``fold:65536``: embedding in full costs ten times as much from there on."""
DEFAULT_BUCKETS: Final = 2**16
_FOLD_CHUNK: Final = 2**18
MAX_RINGS: Final = 2
"""How many rings of elements a kernel may have gained or lost around it and still be read."""

Shape = tuple[int, ...]


class CarrierMap(Protocol):
    """A linear map from canonical weights to a vector."""

    @property
    def kind(self) -> str:
        """Its name, as stored in keys and shown in reports."""
        ...

    @property
    def shape(self) -> Shape:
        """Canonical shape it applies to."""
        ...

    @property
    def size(self) -> int:
        """Length of the vector."""
        ...

    @property
    def shared_filters(self) -> bool:
        """True where every output filter enters in the same way (the mean folds)."""
        ...

    def fold(self, values: Float32Array) -> Float64Array:
        """Weights of ``shape`` to the vector, shape (size,), float64."""
        ...

    def spread(self, vector: Float64Array) -> Float64Array:
        """Adjoint of :meth:`fold`: a vector (size,) to weights of ``shape``."""
        ...

    def filter_rows(self, rows: Float64Array, start: int, stop: int) -> Float64Array:
        """What rows (n, size) see of filters ``start`` to ``stop``: shape (n, stop - start, in / group * spatial)."""
        ...

    def gram(self, rows: Float64Array) -> Float64Array:
        """``A A^T`` for ``A = rows o fold``: inner products of the rows as seen from the weights, shape (n, n)."""
        ...


@dataclass(frozen=True, eq=False)
class FullCarrier:
    """Every weight of the layer, minus the layer's mean (which makes a constant shift harmless)."""

    shape: Shape
    kind: str = FULL
    shared_filters: bool = False

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    def fold(self, values: Float32Array) -> Float64Array:
        """Flatten in canonical order and centre."""
        flat: Float64Array = values.reshape(-1).astype(np.float64)
        flat -= flat.mean()
        return flat

    def spread(self, vector: Float64Array) -> Float64Array:
        """Centre (the map is its own adjoint) and restore the shape."""
        centred: Float64Array = vector - vector.mean()
        return centred.reshape(self.shape)

    def filter_rows(self, rows: Float64Array, start: int, stop: int) -> Float64Array:
        """Slices of the centred rows."""
        width = math.prod(self.shape[1:])
        part: Float64Array = rows[:, start * width : stop * width] - rows.mean(axis=1, keepdims=True)
        return part.reshape(len(rows), stop - start, width)

    def gram(self, rows: Float64Array) -> Float64Array:
        """Inner products of the centred rows."""
        sums = rows.sum(axis=1)
        products: Float64Array = rows @ rows.T - np.outer(sums, sums) / self.size
        return products


@dataclass(frozen=True, eq=False)
class MeanCarrier:
    """Uchida's fold: the mean over output filters, flattened.

    ``mean-ihw`` flattens (input, height, width), the order of PyTorch users; ``mean-hwi`` flattens (height, width,
    input), the order of the original Keras code. Read in the other's order a mark is gone, so the order is in the key.
    """

    shape: Shape
    kind: str
    shared_filters: bool = True

    @property
    def size(self) -> int:
        """Weights of one filter."""
        return math.prod(self.shape[1:])

    def fold(self, values: Float32Array) -> Float64Array:
        """Average over filters, then flatten in this carrier's order."""
        mean: Float64Array = values.mean(axis=0, dtype=np.float64)
        return (np.moveaxis(mean, 0, -1) if self.kind == MEAN_HWI else mean).reshape(-1)

    def spread(self, vector: Float64Array) -> Float64Array:
        """The same 1/O of the vector to every filter."""
        kernel = self._input_first(vector[None])[0].reshape(self.shape[1:])
        return np.broadcast_to(kernel / self.shape[0], self.shape)

    def filter_rows(self, rows: Float64Array, start: int, stop: int) -> Float64Array:
        """The same rows for every filter, divided by the number of filters."""
        kernels = self._input_first(rows) / self.shape[0]
        return np.broadcast_to(kernels[:, None], (len(rows), stop - start, self.size))

    def gram(self, rows: Float64Array) -> Float64Array:
        """Inner products of the rows over the number of filters."""
        return rows @ rows.T / self.shape[0]

    def _input_first(self, rows: Float64Array) -> Float64Array:
        """Rows (n, size) from this carrier's flatten order to (input, *spatial)."""
        if self.kind == MEAN_IHW:
            return rows
        kernels = rows.reshape(len(rows), *self.shape[2:], self.shape[1])
        return np.moveaxis(kernels, -1, 1).reshape(len(rows), self.size)


@dataclass(frozen=True, eq=False)
class FoldedCarrier:
    """Every centred weight, added with a keyed sign into one of ``size`` keyed buckets."""

    shape: Shape
    size: int
    buckets: NDArray[np.int32]
    signs: Int8Array
    shared_filters: bool = False

    @property
    def kind(self) -> str:
        """``fold:`` and the number of buckets."""
        return f"{FOLD}{self.size}"

    def fold(self, values: Float32Array) -> Float64Array:
        """Centre, sign, and sum into buckets, a chunk at a time: temporaries of a large layer would outweigh it."""
        flat = values.reshape(-1)
        mean = flat.mean(dtype=np.float64)
        sums = np.zeros(self.size)
        for start in range(0, flat.size, _FOLD_CHUNK):
            part = slice(start, start + _FOLD_CHUNK)
            sums += _bucket_sums(
                self.buckets[part], (flat[part].astype(np.float64) - mean) * self.signs[part], self.size
            )
        return sums

    def spread(self, vector: Float64Array) -> Float64Array:
        """Each weight receives its bucket's value with its sign, then the whole is centred."""
        flat: Float64Array = vector[self.buckets] * self.signs
        flat -= flat.mean()
        return flat.reshape(self.shape)

    def filter_rows(self, rows: Float64Array, start: int, stop: int) -> Float64Array:
        """Each weight sees its bucket's entry with its sign, minus the row's mean over the layer."""
        width = math.prod(self.shape[1:])
        part = slice(start * width, stop * width)
        seen = rows[:, self.buckets[part]] * self.signs[part]
        seen -= (rows @ self._signed_counts)[:, None] / math.prod(self.shape)
        return seen.reshape(len(rows), stop - start, width)

    def gram(self, rows: Float64Array) -> Float64Array:
        """Inner products weighted by how many weights share a bucket, centred."""
        counts = np.bincount(self.buckets, minlength=self.size)
        sums = rows @ self._signed_counts
        return (rows * counts) @ rows.T - np.outer(sums, sums) / math.prod(self.shape)

    @property
    def _signed_counts(self) -> Float64Array:
        return _bucket_sums(self.buckets, self.signs, self.size)


def _bucket_sums(buckets: NDArray[np.int32], values: AnyArray, size: int) -> Float64Array:
    return np.bincount(buckets, weights=values, minlength=size).astype(np.float64, copy=False)


def default_kind(shape: Shape) -> str:
    """``full``, or ``fold:65536`` for a layer of more than 2^17 weights."""
    return FULL if math.prod(shape) <= FULL_LIMIT else f"{FOLD}{DEFAULT_BUCKETS}"


def vector_size(kind: str, shape: Shape) -> int:
    """Length of the vector that a carrier of this kind makes of a layer of this shape.

    Raises:
        KeyFileError: There is no such kind.
    """
    if kind == FULL:
        return math.prod(shape)
    if kind in (MEAN_IHW, MEAN_HWI):
        return math.prod(shape[1:])
    return _n_buckets(kind)


def fitting_shape(kind: str, recorded: Shape, shape: Shape) -> Shape | None:
    """The shape in which a key made for ``recorded`` can read a layer of ``shape``; None where it cannot.

    Mean folds ignore the number of filters. A kernel that was enlarged by rings of zeros, or whose outer rings were
    cut, is read at the size the key knows.
    """
    filters = shape[0] if kind in (MEAN_IHW, MEAN_HWI) else recorded[0]
    if len(shape) != len(recorded) or shape[:2] != (filters, recorded[1]):
        return None
    rings = {now - then for now, then in zip(shape[2:], recorded[2:], strict=True)}
    if rings <= {0} or (len(rings) == 1 and abs(ring := rings.pop()) <= 2 * MAX_RINGS and ring % 2 == 0):
        return (filters, *recorded[1:])
    return None


def fit_kernel(values: Float32Array, shape: Shape) -> Float32Array:
    """A kernel cut, or padded with zeros, around its centre to the spatial sizes of ``shape``."""
    for axis in range(2, values.ndim):
        rings = (values.shape[axis] - shape[axis]) // 2
        if rings > 0:
            values = values.take(range(rings, values.shape[axis] - rings), axis=axis)
        elif rings < 0:
            values = np.pad(values, [(-rings, -rings) if index == axis else (0, 0) for index in range(values.ndim)])
    return values


def carrier_map(kind: str, shape: Shape, master: Callable[[], Secret]) -> CarrierMap:
    """The map of a kind for layers of a shape.

    Args:
        kind: ``full``, ``fold:<buckets>``, ``mean-ihw`` or ``mean-hwi``.
        shape: Canonical shape of the layer.
        master: Gives the key's master secret; asked only by folds.

    Raises:
        KeyFileError: There is no such kind.
    """
    if kind == FULL:
        return FullCarrier(shape)
    if kind in (MEAN_IHW, MEAN_HWI):
        return MeanCarrier(shape, kind)
    n_buckets = _n_buckets(kind)
    buckets, signs = signed_buckets(master(), math.prod(shape), n_buckets)
    return FoldedCarrier(shape, n_buckets, buckets, signs)


def _n_buckets(kind: str) -> int:
    count = kind.removeprefix(FOLD)
    if not kind.startswith(FOLD) or not count.isascii() or not count.isdigit() or len(count) > 8:
        raise KeyFileError(f"unknown carrier {kind!r}; there are full, fold:<buckets>, mean-ihw and mean-hwi")
    n_buckets = int(count)
    if n_buckets & (n_buckets - 1) or not 1 <= n_buckets <= 2**24:
        raise KeyFileError(f"carrier {kind!r}: the number of buckets must be a power of two up to 2^24")
    return n_buckets
