"""Huffman codes for streams of small whole numbers, fast enough for the weights of a network.

Canonical: lengths alone say which code belongs to which symbol (shorter first, then by symbol), so a table costs one
length a symbol. Packing and unpacking go over whole arrays; only the walk from one code to the next is a loop.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Final

import numpy as np

from onnxmark.arrays import BitArray, Int64Array, frozen

LENGTH_BITS: Final = 8
"""What one code length takes in a table."""


@dataclass(frozen=True, slots=True, eq=False)
class HuffmanStream:
    """Symbols as a bit string.

    Args:
        lengths: Bits of each symbol's code (n_symbols,), 0 for symbols that do not occur; the whole table.
        packed: The codes one after the other, most significant bit first, filled up to whole bytes.
        n_bits: Length of the bit string.
    """

    lengths: BitArray
    packed: BitArray
    n_bits: int

    def __post_init__(self) -> None:
        frozen(self.lengths)
        frozen(self.packed)


def code_lengths(counts: Int64Array) -> BitArray:
    """Lengths of an optimal prefix code.

    Args:
        counts: How often each symbol occurs (n_symbols,).

    Returns:
        Bits a code (n_symbols,): 0 where the count is 0, and 1 for a symbol that is alone.
    """
    lengths = np.zeros(counts.size, dtype=np.uint8)
    used = np.flatnonzero(counts).tolist()
    parents = _tree([int(counts[symbol]) for symbol in used])
    depths = [0] * (len(parents) + 1)
    # A parent always has a higher number than its children, so one pass from the root down is enough.
    for node in reversed(range(len(parents))):
        depths[node] = depths[parents[node]] + 1
    lengths[used] = [max(1, depth) for depth in depths[: len(used)]]
    return lengths


def _tree(weights: list[int]) -> list[int]:
    """Parent of each node but the root, the leaves first in the order of ``weights``."""
    heap = [(weight, leaf) for leaf, weight in enumerate(weights)]
    heapq.heapify(heap)
    parents = [0] * max(0, 2 * len(weights) - 2)
    for node in range(len(weights), 2 * len(weights) - 1):
        (weight, one), (more, other) = heapq.heappop(heap), heapq.heappop(heap)
        parents[one] = parents[other] = node
        heapq.heappush(heap, (weight + more, node))
    return parents


def canonical_codes(lengths: BitArray) -> Int64Array:
    """The code of each symbol (n_symbols,), as a whole number of ``lengths`` bits."""
    codes = np.zeros(lengths.size, dtype=np.int64)
    code = previous = 0
    for symbol in _in_code_order(lengths).tolist():
        length = int(lengths[symbol])
        code <<= length - previous
        codes[symbol] = code
        code, previous = code + 1, length
    return codes


def _in_code_order(lengths: BitArray) -> Int64Array:
    used = np.flatnonzero(lengths)
    return used[np.argsort(lengths[used], kind="stable")]


def pack(symbols: Int64Array, n_symbols: int) -> HuffmanStream:
    """Code a stream.

    Args:
        symbols: Whole numbers from 0 to ``n_symbols - 1``, shape (n,).
        n_symbols: Size of the alphabet.
    """
    lengths = code_lengths(np.bincount(symbols, minlength=n_symbols))
    widths = lengths[symbols].astype(np.int64)
    ends = np.cumsum(widths)
    n_bits = int(ends[-1]) if ends.size else 0
    # Bit i of the string is bit (end of its code - 1 - i) of the code, counted from the least significant.
    places = np.repeat(ends, widths) - 1 - np.arange(n_bits)
    bits = np.repeat(canonical_codes(lengths)[symbols], widths) >> places & 1
    return HuffmanStream(lengths, np.packbits(bits.astype(np.uint8)), n_bits)


def unpack(stream: HuffmanStream) -> Int64Array:
    """The symbols of a stream (n,).

    Raises:
        ValueError: The bit string does not end where a code ends.
    """
    order = _in_code_order(stream.lengths)
    if not order.size:
        return np.empty(0, dtype=np.int64)
    ordered = stream.lengths[order].astype(np.int64)
    longest = int(ordered[-1])
    # Every code, filled up with zeros to the longest: a window of the string belongs to the last that is not above it.
    firsts = canonical_codes(stream.lengths)[order] << longest - ordered
    starts = _windows(stream, longest)
    places = np.searchsorted(firsts, starts, side="right") - 1
    chosen = _walk(ordered[places].astype(np.uint8).tobytes())
    return order[places[chosen]]


def _windows(stream: HuffmanStream, width: int) -> Int64Array:
    """For each bit of the string the whole number that it and the next ``width - 1`` bits make, zeros after the end."""
    padded = np.append(stream.packed, np.zeros(8, dtype=np.uint8)).astype(np.int64)
    n_bytes = stream.packed.size
    # Seven bytes from each byte on: 56 bits, of which at most 7 lie before the window. That is room for codes of 49
    # bits, and the first longer one takes a stream of 2e10 symbols (a Fibonacci number).
    words = np.zeros(n_bytes, dtype=np.int64)
    for byte in range(7):
        words = words << 8 | padded[byte : byte + n_bytes]
    positions = np.arange(stream.n_bits)
    windows: Int64Array = words[positions >> 3] >> 56 - width - (positions & 7) & (1 << width) - 1
    return windows


def _walk(widths: bytes) -> list[int]:
    """Where codes begin, given how wide a code would be at each bit of the string."""
    chosen = []
    position = 0
    while position < len(widths):
        chosen.append(position)
        position += widths[position]
    if position != len(widths):
        raise ValueError(f"the bit string of {len(widths)} bits ends within a code; it was cut or changed")
    return chosen
