"""Linear projection: bit t is the sign of <row t of the key, carrier of the layer>.

Uchida, Nagai, Sakazawa, Satoh: Embedding Watermarks into Deep Neural Networks (ICMR 2017, arXiv 1701.04082) with the
mean carriers and dense, *direct* or *diff* keys; with the full or folded carrier the same reading without its public
fold. This module turns a key into rows; :mod:`~onnxmark.schemes.projection.extraction` turns them into evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, NoReturn, get_args

import numpy as np

from onnxmark.arrays import AnyArray, BitArray, Float32Array, Float64Array, frozen
from onnxmark.errors import KeyFileError, MessageError
from onnxmark.keys import AnyKey, ForeignKey, Key
from onnxmark.keys.derivation import GAUSSIAN_SCALE, distinct_positions, gaussian, signs
from onnxmark.schemes.projection.carriers import MEAN_HWI, MEAN_IHW, CarrierMap, carrier_map, vector_size

Generator = Literal["rademacher", "gaussian", "direct", "diff"]
GENERATORS: Final[tuple[Generator, ...]] = get_args(Generator)

_CACHED_ENTRIES: Final = 2**27
_BLOCK_ENTRIES: Final = 2**20


@dataclass(frozen=True, eq=False)
class Projection:
    """The rows of a key over one layer: a linear map from weights to T scores.

    Args:
        carrier: From weights to the vector the rows read.
        n_bits: Number of rows, T.
        message: Bits the rows should read, shape (T,).
        source: The key whose rows these are, or the rows themselves, shape (T, size).
    """

    carrier: CarrierMap
    n_bits: int
    message: BitArray
    source: Key | Float64Array

    def rows(self, start: int, stop: int) -> Float64Array:
        """Rows ``start`` to ``stop``, shape (stop - start, size), float64."""
        entries = self._cached[start:stop] if self._cached is not None else self._generate(start, stop)
        rows: Float64Array = entries.astype(np.float64)
        if self._scale != 1:
            rows /= self._scale
        return rows

    def row_blocks(self) -> list[slice]:
        """Slices over the rows, each of a few megabytes as float64."""
        step = max(1, _BLOCK_ENTRIES // self.carrier.size)
        return [slice(start, min(start + step, self.n_bits)) for start in range(0, self.n_bits, step)]

    def scores(self, values: Float32Array) -> Float64Array:
        """Scores of a layer, shape (T,): positive decodes to one, negative to zero, exactly zero is an erasure.

        Args:
            values: Canonical weights of the carrier's shape.
        """
        return self.project(self.carrier.fold(values))

    def project(self, vector: Float64Array) -> Float64Array:
        """Scores of a carrier's vector, shape (size,) to (T,)."""
        return np.concatenate([self.rows(part.start, part.stop) @ vector for part in self.row_blocks()])

    def adjoint(self, coefficients: Float64Array) -> Float64Array:
        """The weights' change ``A^T c`` for coefficients of shape (T,): the carrier's shape, float64."""
        vector = np.zeros(self.carrier.size)
        for part in self.row_blocks():
            vector += coefficients[part] @ self.rows(part.start, part.stop)
        return self.carrier.spread(vector)

    def unit(self, values: Float32Array) -> float:
        """Standard deviation of a score over random keys of this kind: the unit margins are measured in."""
        return self.unit_of(self.carrier.fold(values))

    def unit_of(self, vector: Float64Array) -> float:
        """The same from the carrier's vector, shape (size,)."""
        return float(self._row_rms * np.linalg.norm(vector))

    @cached_property
    def _row_rms(self) -> float:
        if isinstance(self.source, Key) and self.source.parameters["generator"] == "rademacher":
            return 1.0
        squares = sum(float(np.sum(self.rows(part.start, part.stop) ** 2)) for part in self.row_blocks())
        return float(np.sqrt(squares / (self.n_bits * self.carrier.size)))

    @cached_property
    def _cached(self) -> AnyArray | None:
        if self.n_bits * self.carrier.size > _CACHED_ENTRIES:
            return None
        return frozen(self._generate(0, self.n_bits))

    @property
    def _scale(self) -> int:
        is_gaussian = isinstance(self.source, Key) and self.source.parameters["generator"] == "gaussian"
        return GAUSSIAN_SCALE if is_gaussian else 1

    def _generate(self, start: int, stop: int) -> AnyArray:
        if not isinstance(self.source, Key):
            return self.source[start:stop]
        generator, master, size = self.source.parameters["generator"], self.source.master, self.carrier.size
        rows: AnyArray = np.zeros((stop - start, size), dtype=np.int16 if generator == "gaussian" else np.int8)
        if generator in ("rademacher", "gaussian"):
            draw = signs if generator == "rademacher" else gaussian
            for index in range(start, stop):
                rows[index - start] = draw(master, "row", index, size)
            return rows
        each = np.arange(stop - start)
        if generator == "direct":
            rows[each, distinct_positions(master, self.n_bits, size)[start:stop]] = 1
        else:
            positions = distinct_positions(master, 2 * self.n_bits, size).reshape(2, -1)[:, start:stop]
            rows[each, positions[0]] = 1
            rows[each, positions[1]] = -1
        return rows


@dataclass(frozen=True, slots=True)
class ProjectionReading:
    """One way in which a key can be read from a layer of a given shape.

    Args:
        kind: Kind of carrier.
        shape: Canonical shape the rows read; a kernel of another size is cut or padded to it.
        transposed: For a foreign matrix, whether its file holds one row a *weight* (M x T, the original code's order).
        resized: Whether the kernel in the file has another size.
    """

    kind: str
    shape: tuple[int, ...]
    transposed: bool = False
    resized: bool = False

    @property
    def label(self) -> str:
        """The reading in words."""
        words = [self.kind]
        if self.transposed:
            words.append("key stored M x T")
        if self.resized:
            words.append(f"kernel brought to {'x'.join(map(str, self.shape[2:]))}")
        return ", ".join(words)


def required_entries(generator: str, n_bits: int) -> int:
    """Vector entries a key needs at the least: T for dense keys to embed any message, T for direct, 2T for diff."""
    return 2 * n_bits if generator == "diff" else n_bits


def check_parameters(key: Key) -> None:
    """Refuse a key whose generator or carrier does not exist or does not fit its own layer.

    Raises:
        KeyFileError: Says which.
    """
    generator, kind = key.parameters.get("generator"), key.parameters.get("carrier")
    if generator not in GENERATORS:
        raise KeyFileError(f"unknown generator {generator!r}; there are {', '.join(GENERATORS)}")
    if not isinstance(kind, str):
        raise KeyFileError("the key names no carrier")
    size, needed = vector_size(kind, key.carrier.shape), required_entries(str(generator), key.n_bits)
    if generator in ("direct", "diff") and needed > size:
        raise KeyFileError(
            f"a {generator} key of {key.n_bits} bits needs {needed:,} entries and carrier {kind} of "
            f"{'x'.join(map(str, key.carrier.shape))} has {size:,}; take fewer bits or a larger layer"
        )


def own_projection(key: Key, shape: tuple[int, ...]) -> Projection:
    """The projection of a key of ours over a layer of a shape that fits it."""
    carrier = carrier_map(str(key.parameters["carrier"]), shape, lambda: key.master)
    return Projection(carrier, key.n_bits, key.message, key)


def foreign_projection(key: ForeignKey, reading: ProjectionReading) -> Projection:
    """The projection of a foreign matrix in one reading.

    Raises:
        MessageError: The message has another number of bits than the matrix has rows.
    """
    rows = key.matrix.T if reading.transposed else key.matrix
    carrier = carrier_map(reading.kind, reading.shape, _no_secret)
    return Projection(carrier, len(rows), key.message(len(rows)), rows)


def foreign_readings(key: ForeignKey, shape: tuple[int, ...]) -> tuple[ProjectionReading, ...]:
    """Every way a foreign matrix can be meant for a layer of ``shape``: both flatten orders, both orientations.

    The orders coincide where a kernel has one element, and then count once.
    """
    orders = (MEAN_HWI, MEAN_IHW) if int(np.prod(shape[2:])) > 1 and shape[1] > 1 else (MEAN_IHW,)
    readings = []
    for kind in orders:
        for transposed in (True, False):
            n_bits, size = key.matrix.T.shape if transposed else key.matrix.shape
            if size == vector_size(kind, shape) and _message_fits(key, n_bits):
                readings.append(ProjectionReading(kind, shape, transposed))
    return tuple(readings)


def projection_of(key: AnyKey, reading: ProjectionReading) -> Projection:
    """The projection of any key in one reading."""
    return own_projection(key, reading.shape) if isinstance(key, Key) else foreign_projection(key, reading)


def _message_fits(key: ForeignKey, n_bits: int) -> bool:
    try:
        key.message(n_bits)
    except MessageError:
        return False
    return True


def _no_secret() -> NoReturn:
    raise KeyFileError("a foreign matrix has no seed to fold with")
