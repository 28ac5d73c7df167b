"""Deep Compression's storage: every bit comes back, and sizes follow the paper's formula and its example."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxmark.attacks import KMeansClustering, MagnitudePruning, apply_attack
from onnxmark.attacks.entropy_coding import (
    Coded,
    Sizes,
    TooManyValues,
    coded_sizes,
    decode,
    encode,
    sizes,
)
from onnxmark.attacks.huffman import unpack

from .subjects import LAYERS, generator, layer, means

few_valued = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=4, max_side=6),
    elements=st.sampled_from([0.0, 0.0, 0.5, -2.0, 3.0]),
)
gap_bits = st.integers(0, 9)


def bits_of(values):
    return values.tobytes()


def entries_by_loop(values, bits):
    """(index or None, gap) of every entry, walking from weight to weight."""
    flat = values.reshape(-1)
    reach, entries, last = 2**bits - 1, [], -1
    for position in np.flatnonzero(flat).tolist():
        while position - last > reach:
            entries.append((None, 0))
            last += reach
        entries.append((float(flat[position]), position - last))
        last = position
    return entries


@given(few_valued, gap_bits)
def test_decoding_gives_every_bit_back(values, bits):
    result = decode(encode(values, bits))
    assert result.shape == values.shape
    assert result.dtype == np.float32
    assert bits_of(result) == bits_of(values)


@given(hnp.arrays(np.uint32, (3, 4), elements=st.sampled_from([0, 1, 0x7F800000, 0xFF800000, 0x7FC00001, 0x3F800000])))
def test_even_subnormals_infinities_and_nan_come_back(patterns):
    values = patterns.view(np.float32)
    for bits in (0, 2):
        assert bits_of(decode(encode(values, bits))) == bits_of(values)


@pytest.mark.parametrize("bits", [0, 2])
def test_negative_zeros_that_masks_leave_are_zeros(bits):
    weights = np.float32([[-1.5, 2, -3, 4], [-1.5, 4, 2, -3]])
    masked = weights * np.float32([[0, 0, 1, 1], [0, 1, 1, 0]])
    assert np.signbit(masked).sum() == 4
    assert sizes(masked, bits) == sizes(np.abs(masked) * np.sign(masked), bits) == sizes(masked + np.float32(0), bits)
    assert bits_of(decode(encode(masked, bits))) == bits_of(np.where(masked == 0, np.float32(0), weights))


@given(few_valued, st.integers(1, 4))
def test_entries_are_those_of_the_walk(values, bits):
    coded = encode(values, bits)
    entries = entries_by_loop(values, bits)
    assert unpack(coded.gaps).tolist() == [gap for _, gap in entries]
    stored = [value for value, _ in entries if value is not None]
    assert coded.codebook[unpack(coded.indices)].tolist() == stored
    assert sizes(values, bits).n_entries == len(entries)


@pytest.mark.parametrize(
    ("positions", "gaps"),
    [
        ([0], [1]),
        ([2], [3]),
        ([3], [0, 1]),
        ([6], [0, 0, 1]),
        ([0, 3], [1, 3]),
        ([0, 4], [1, 0, 1]),
        ([5, 6, 15], [0, 3, 1, 0, 0, 3]),
    ],
)
def test_gaps_of_two_bits_by_hand(positions, gaps):
    values = np.zeros((4, 4), np.float32)
    values.reshape(-1)[positions] = 1
    assert unpack(encode(values, 2).gaps).tolist() == gaps


def test_the_papers_example_of_sixteen_weights_and_four_centroids():
    values = np.float32([-1, 0, 1.5, 2])[[3, 0, 2, 1, 1, 1, 0, 3, 0, 3, 1, 0, 3, 1, 2, 2]].reshape(4, 4)
    found = sizes(values, gap_bits=0)
    assert found.dense_bits == 16 * 32
    assert found.clustered_bits == 16 * 2 + 4 * 32
    assert found.clustered_ratio == 3.2


@given(few_valued, gap_bits)
def test_sizes_are_the_formula_and_the_streams(values, bits):
    found, coded = sizes(values, bits), encode(values, bits)
    n_stored = np.count_nonzero(values) if bits else values.size
    n_entries = len(entries_by_loop(values, bits)) if bits else values.size
    index_bits = int(np.ceil(np.log2(max(1, coded.codebook.size))))
    assert (found.n_weights, found.n_stored, found.n_entries) == (values.size, n_stored, n_entries)
    assert found.clustered_bits == n_entries * (index_bits + bits) + 32 * 2**index_bits
    tables = 8 * (2**index_bits + (2**bits if bits else 0))
    assert found.coded_bits == coded.indices.n_bits + coded.gaps.n_bits + tables + 32 * 2**index_bits


@pytest.mark.parametrize("bits", [4, 5, 8])
def test_huffman_makes_a_pruned_and_clustered_layer_smaller(bits):
    values = generator(9).normal(0, 0.1, (64, 64, 3, 3)).astype(np.float32)
    for attack in (MagnitudePruning(0.9), KMeansClustering(5)):
        values = apply_attack(attack, layer(values), means()).values
    found = sizes(values, bits)
    assert 1 < 32 / (5 + bits) < found.clustered_ratio < found.coded_ratio
    # No code beats the entropy of which weights are left and of the indices.
    share = found.n_stored / found.n_weights
    floor = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
    assert found.coded_bits > found.n_weights * floor


def test_sizes_add_up():
    one, other = sizes(np.float32([[0, 1, 1, 2]])), sizes(np.float32([[3, 3]]))
    total = one + other
    assert total == Sizes(
        6,
        5,
        one.n_entries + other.n_entries,
        one.clustered_bits + other.clustered_bits,
        one.coded_bits + other.coded_bits,
    )
    assert total.dense_bits == one.dense_bits + other.dense_bits
    assert total.coded_ratio == pytest.approx(192 / (one.coded_bits + other.coded_bits))


def test_layers_together_take_gaps_only_where_that_is_smaller():
    rng = generator(2)
    dense = rng.choice(np.float32([1, 2, 3, 4]), (100, 100))
    sparse = np.where(rng.random((100, 100)) < 0.95, np.float32(0), dense)
    assert sizes(dense, 0).coded_bits < sizes(dense).coded_bits
    assert sizes(sparse).coded_bits < sizes(sparse, 0).coded_bits
    assert coded_sizes([dense, sparse]) == sizes(dense, 0) + sizes(sparse)


def test_layers_that_were_not_clustered_have_no_size():
    dense = generator(3).standard_normal((300, 300)).astype(np.float32)
    assert coded_sizes([LAYERS["two values"], dense]) is None
    assert coded_sizes([]) is None
    with pytest.raises(
        TooManyValues, match=r"\d{5} distinct weights or more, at most 65536 can be; cluster them first"
    ):
        encode(dense)


@pytest.mark.parametrize("zeros", [0, 400_000])
@pytest.mark.parametrize("n_values", [65_537, 90_000])
def test_too_many_values_are_refused_wherever_they_begin(zeros, n_values):
    values = np.append(np.zeros(zeros), np.arange(1, n_values + 1)).astype(np.float32)
    with pytest.raises(TooManyValues, match=f"{n_values} distinct weights or more"):
        encode(values)
    assert encode(values[: zeros + 65_536]).codebook.size == 65_536


def test_as_many_values_as_a_float16_has_still_fit():
    values = np.append(0, np.arange(1, 2**16 + 1)).astype(np.float32)
    assert bits_of(decode(encode(values))) == bits_of(values)


@pytest.mark.parametrize("bits", [-1, 17])
def test_gap_bits_out_of_range_are_refused(bits):
    with pytest.raises(ValueError, match=f"the bits of a gap must be from 0 to 16, found {bits}"):
        encode(LAYERS["two values"], bits)


def test_streams_that_do_not_fit_together_are_refused():
    one, other = encode(np.float32([[1, 0, 2, 0]])), encode(np.float32([[1, 2, 3, 0]]))
    with pytest.raises(ValueError, match=r"2 weights for 3 places in shape \(1, 4\); the code is damaged"):
        decode(Coded(one.shape, one.gap_bits, one.codebook, one.indices, other.gaps))
    with pytest.raises(ValueError, match=r"2 weights for 2 places in shape \(1, 2\); the code is damaged"):
        decode(Coded((1, 2), one.gap_bits, one.codebook, one.indices, one.gaps))


def test_codes_are_read_only():
    assert not encode(LAYERS["two values"]).codebook.flags.writeable


@pytest.mark.parametrize("name", ["normal kernel", "zero kernel", "one weight", "constant kernel", "1-D convolution"])
def test_memory_layout_does_not_matter(name):
    values = LAYERS[name]
    fortran = np.asfortranarray(values)
    assert sizes(fortran) == sizes(values)
    assert bits_of(decode(encode(fortran))) == bits_of(values)
