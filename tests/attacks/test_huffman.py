"""Huffman codes against every prefix code there is, the entropy bound, and a decoder that reads bit by bit."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from onnxmark.attacks.huffman import HuffmanStream, canonical_codes, code_lengths, pack, unpack

symbols = st.lists(st.integers(0, 9), max_size=200)
counts = st.lists(st.integers(0, 1000), min_size=1, max_size=40)


def lengths_of(some):
    return code_lengths(np.array(some, dtype=np.int64))


def words(lengths):
    """Each symbol's code as a string of 0 and 1."""
    codes = canonical_codes(lengths)
    return {
        symbol: format(int(codes[symbol]), f"0{lengths[symbol]}b") for symbol in range(len(lengths)) if lengths[symbol]
    }


def string(stream):
    return "".join(map(str, np.unpackbits(stream.packed).tolist()))[: stream.n_bits]


def read_bit_by_bit(stream):
    """Collect bits until they are the code of a symbol, then start anew."""
    symbol_of = {word: symbol for symbol, word in words(stream.lengths).items()}
    found, word = [], ""
    for bit in string(stream):
        word += bit
        if word in symbol_of:
            found.append(symbol_of[word])
            word = ""
    assert not word
    return found


@given(st.lists(st.integers(1, 50), min_size=2, max_size=5))
def test_no_prefix_code_is_shorter(some):
    n = len(some)
    # Kraft: lengths belong to a prefix code if and only if the sum of 2^-length is at most 1.
    feasible = (lengths for lengths in product(range(1, n), repeat=n) if sum(2.0**-length for length in lengths) <= 1)
    best = min(sum(count * length for count, length in zip(some, lengths, strict=True)) for lengths in feasible)
    assert int(np.array(some) @ lengths_of(some)) == best


@given(counts.filter(lambda some: sum(map(bool, some)) > 1))
def test_mean_length_is_less_than_a_bit_above_the_entropy(some):
    mean = float(np.array(some) @ lengths_of(some)) / sum(some)
    entropy = scipy.stats.entropy(some, base=2)
    assert entropy - 1e-9 <= mean < entropy + 1


@given(counts)
def test_symbols_have_codes_if_and_only_if_they_occur_and_the_code_is_full(some):
    lengths = lengths_of(some)
    np.testing.assert_array_equal(lengths > 0, np.array(some) > 0)
    if np.count_nonzero(lengths) > 1:
        assert sum(2.0 ** -int(length) for length in lengths if length) == 1


@pytest.mark.parametrize(
    ("some", "expected"),
    [
        ([], []),
        ([0, 0], [0, 0]),
        ([0, 7, 0], [0, 1, 0]),
        ([5, 5], [1, 1]),
        ([1, 1, 2, 4], [3, 3, 2, 1]),
        ([3, 3, 3, 3], [2, 2, 2, 2]),
    ],
)
def test_lengths_by_hand(some, expected):
    assert lengths_of(some).tolist() == expected


def test_fibonacci_counts_give_the_deepest_code():
    some = [1, 1]
    while len(some) < 32:
        some.append(some[-1] + some[-2])
    assert lengths_of(some).tolist() == [31, *range(31, 0, -1)]


@given(counts)
def test_no_code_begins_another(some):
    every = sorted(words(lengths_of(some)).values())
    # In alphabetical order a word's extensions come right after it.
    assert not any(later.startswith(word) for word, later in pairwise(every))


def test_canonical_codes_by_hand():
    assert words(np.array([2, 1, 3, 3, 0], dtype=np.uint8)) == {0: "10", 1: "0", 2: "110", 3: "111"}


@given(symbols)
def test_bits_are_the_codes_in_a_row(some):
    stream = pack(np.array(some, dtype=np.int64), 10)
    of = words(stream.lengths)
    assert string(stream) == "".join(of[symbol] for symbol in some)
    assert stream.packed.size == -(-stream.n_bits // 8)


@given(symbols)
def test_unpacking_agrees_with_reading_bit_by_bit_and_gives_the_symbols_back(some):
    stream = pack(np.array(some, dtype=np.int64), 10)
    assert unpack(stream).tolist() == read_bit_by_bit(stream) == some


def test_codes_of_nineteen_lengths_come_back():
    fibonacci = [1, 1]
    while len(fibonacci) < 20:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    some = np.random.default_rng(3).permutation(np.repeat(np.arange(20), fibonacci))
    stream = pack(some, 20)
    assert stream.lengths.max() == 19
    np.testing.assert_array_equal(unpack(stream), some)


@pytest.mark.parametrize("longest", [31, 48])
def test_a_table_of_very_long_codes_is_read(longest):
    # Lengths 1, 2, ..., longest, longest: the word of the last symbol is all ones.
    lengths = np.array([*range(1, longest + 1), longest], dtype=np.uint8)
    bits = [int(bit) for word in (words(lengths)[symbol] for symbol in (longest, 0, longest - 1, 3)) for bit in word]
    stream = HuffmanStream(lengths, np.packbits(np.array(bits, dtype=np.uint8)), len(bits))
    assert unpack(stream).tolist() == [longest, 0, longest - 1, 3]


def test_a_cut_string_is_refused():
    stream = pack(np.array([0, 1, 2, 2, 3]), 4)
    cut = HuffmanStream(stream.lengths, stream.packed, stream.n_bits - 1)
    with pytest.raises(ValueError, match="bits ends within a code; it was cut or changed"):
        unpack(cut)


def test_streams_are_read_only():
    stream = pack(np.array([0, 1, 1]), 2)
    assert not stream.lengths.flags.writeable
    assert not stream.packed.flags.writeable


def test_a_million_symbols_come_back():
    some = np.minimum(np.random.default_rng(4).geometric(0.05, 1_000_000) - 1, 255)
    stream = pack(some, 256)
    np.testing.assert_array_equal(unpack(stream), some)
    assert stream.n_bits / some.size < scipy.stats.entropy(np.bincount(some), base=2) + 0.1
