"""Deep Compression's storage: pruned and clustered weights as gaps and centroid indices, Huffman coded without loss.

Han, Mao, Dally: Deep Compression (ICLR 2016, arXiv 1510.00149), sections 3 to 5. Coding changes no weight and so no
mark; what it changes is the size, and the ratio is what makes pruning and clustering worth a thief's while.

A weight that is left is stored with its distance to the one before. A distance that does not fit its bits takes
*fillers*, entries without a weight, each ``2^gap_bits - 1`` positions on; distance 0 marks them, which no weight has,
so that the codebook needs no zero. (The paper's fillers are weights of value zero and reach one position further.)

Every bit of every weight comes back but the sign of zeros: a mask makes -0.0 of negative weights, and to store these
apart would undo the pruning.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxmark.arrays import Float32Array, Int64Array, frozen
from onnxmark.attacks.huffman import LENGTH_BITS, HuffmanStream, code_lengths, pack, unpack

FLOAT_BITS: Final = 32
GAP_BITS: Final = 5
MAX_GAP_BITS: Final = 16
MAX_CENTROIDS: Final = 2**16


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """Weights of one layer, coded.

    Args:
        shape: Their shape.
        gap_bits: Bits a distance in the fixed-length form; 0 where every weight is stored, zeros too.
        codebook: The distinct values stored (k,), in the order of their bit patterns.
        indices: One index into the codebook for each weight that is stored.
        gaps: One distance for each weight that is stored and each filler; no symbols where ``gap_bits`` is 0.
    """

    shape: tuple[int, ...]
    gap_bits: int
    codebook: Float32Array
    indices: HuffmanStream
    gaps: HuffmanStream

    def __post_init__(self) -> None:
        frozen(self.codebook)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What weights take in storage, in bits; sizes of several layers add up.

    Args:
        n_weights: Weights, zeros included.
        n_stored: Weights that are stored.
        n_entries: These and fillers.
        clustered_bits: An index and a gap of fixed length for each entry, and the codebook.
        coded_bits: The same with Huffman codes and their tables.
    """

    n_weights: int = 0
    n_stored: int = 0
    n_entries: int = 0
    clustered_bits: int = 0
    coded_bits: int = 0

    @property
    def dense_bits(self) -> int:
        """The weights as float32."""
        return FLOAT_BITS * self.n_weights

    @property
    def clustered_ratio(self) -> float:
        """How many times smaller without Huffman codes."""
        return self.dense_bits / self.clustered_bits

    @property
    def coded_ratio(self) -> float:
        """How many times smaller with Huffman codes."""
        return self.dense_bits / self.coded_bits

    def __add__(self, other: Sizes) -> Sizes:
        return Sizes(
            self.n_weights + other.n_weights,
            self.n_stored + other.n_stored,
            self.n_entries + other.n_entries,
            self.clustered_bits + other.clustered_bits,
            self.coded_bits + other.coded_bits,
        )


def encode(values: Float32Array, gap_bits: int = GAP_BITS) -> Coded:
    """Code the weights of a layer; :func:`decode` gives back every bit of them, -0.0 as 0.0.

    Args:
        values: Any shape, with few distinct values.
        gap_bits: Bits a distance, 1 to 16; 0 stores zeros like other weights.

    Raises:
        ValueError: There are more than 65,536 distinct values: cluster the weights first.
    """
    symbols = _symbols(values, gap_bits)
    return Coded(
        shape=values.shape,
        gap_bits=gap_bits,
        codebook=symbols.codebook,
        indices=pack(symbols.indices, symbols.codebook.size),
        gaps=pack(symbols.gaps, 2**gap_bits),
    )


def decode(coded: Coded) -> Float32Array:
    """The weights that were coded, bit by bit; every zero positive.

    Raises:
        ValueError: The streams do not fit together.
    """
    flat = np.zeros(int(np.prod(coded.shape)), dtype=np.float32)
    stored = coded.codebook[unpack(coded.indices)]
    positions = _positions(unpack(coded.gaps), coded.gap_bits) if coded.gap_bits else np.arange(flat.size)
    if positions.size != stored.size or positions.max(initial=-1) >= flat.size:
        raise ValueError(
            f"{stored.size} weights for {positions.size} places in shape {coded.shape}; the code is damaged"
        )
    flat[positions] = stored
    return flat.reshape(coded.shape)


def sizes(values: Float32Array, gap_bits: int = GAP_BITS) -> Sizes:
    """What a layer takes in storage: as :func:`encode` would store it, counted without storing it.

    Fixed length: ``n' (b + g) + 32 * 2^b`` bits with n' entries, b bits that tell the centroids apart and g bits a gap.

    Args:
        values: Any shape, with few distinct values.
        gap_bits: As in :func:`encode`.

    Raises:
        ValueError: There are more than 65,536 distinct values.
    """
    symbols = _symbols(values, gap_bits)
    n_entries = symbols.gaps.size if gap_bits else symbols.indices.size
    index_bits = max(0, symbols.codebook.size - 1).bit_length()
    codebook_bits = FLOAT_BITS * 2**index_bits
    tables = LENGTH_BITS * (2**index_bits + (2**gap_bits if gap_bits else 0))
    streams = _coded_bits(symbols.indices) + _coded_bits(symbols.gaps)
    return Sizes(
        n_weights=values.size,
        n_stored=symbols.indices.size,
        n_entries=n_entries,
        clustered_bits=n_entries * (index_bits + gap_bits) + codebook_bits,
        coded_bits=streams + tables + codebook_bits,
    )


def coded_sizes(layers: Iterable[Float32Array], gap_bits: int = GAP_BITS) -> Sizes | None:
    """What several layers take together, each without gaps where that is smaller.

    Returns:
        The sum; None where a layer has too many distinct values to be coded, or there is no layer.
    """
    total = Sizes()
    for values in layers:
        try:
            total += min((sizes(values, bits) for bits in (gap_bits, 0)), key=lambda found: found.coded_bits)
        except TooManyValues:
            return None
    return total if total.n_weights else None


class TooManyValues(ValueError):
    """Weights that were not clustered have nothing to index."""


@dataclass(frozen=True, slots=True, eq=False)
class _Symbols:
    codebook: Float32Array
    indices: Int64Array
    gaps: Int64Array


def _symbols(values: Float32Array, gap_bits: int) -> _Symbols:
    if not 0 <= gap_bits <= MAX_GAP_BITS:
        raise ValueError(f"the bits of a gap must be from 0 to {MAX_GAP_BITS}, found {gap_bits}")
    # As bit patterns, which tell NaN from NaN.
    patterns: NDArray[np.uint32] = np.where(values == 0, np.float32(0), values).reshape(-1).view(np.uint32)
    stored = np.flatnonzero(patterns) if gap_bits else np.arange(patterns.size)
    # Weights that were not clustered show early, before hundreds of megabytes of them are sorted.
    _check_count(int(np.count_nonzero(np.unique(patterns[: 4 * MAX_CENTROIDS]))))
    codebook, indices = np.unique(patterns[stored], return_inverse=True)
    _check_count(codebook.size)
    gaps = _gaps(stored, 2**gap_bits - 1) if gap_bits else np.empty(0, dtype=np.int64)
    return _Symbols(codebook.view(np.float32), indices.astype(np.int64), gaps)


def _check_count(n_values: int) -> None:
    if n_values > MAX_CENTROIDS:
        raise TooManyValues(f"{n_values} distinct weights or more, at most {MAX_CENTROIDS} can be; cluster them first")


def _gaps(stored: Int64Array, reach: int) -> Int64Array:
    """Distances between ascending positions, from -1 on: a zero (filler) for each full ``reach``, then the rest."""
    n_fillers, rests = np.divmod(np.diff(stored, prepend=-1) - 1, reach)
    gaps = np.zeros(int(n_fillers.sum()) + stored.size, dtype=np.int64)
    gaps[np.cumsum(n_fillers + 1) - 1] = rests + 1
    return gaps


def _positions(gaps: Int64Array, gap_bits: int) -> Int64Array:
    """Where the weights go; the inverse of :func:`_gaps`."""
    reached = np.cumsum(np.where(gaps == 0, 2**gap_bits - 1, gaps)) - 1
    return reached[gaps > 0]


def _coded_bits(symbols: Int64Array) -> int:
    """Bits of a stream in its Huffman code."""
    counts = np.bincount(symbols)
    return int(counts @ code_lengths(counts).astype(np.int64))
