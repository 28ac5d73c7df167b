"""Shortest words: the published examples, and a search that knows nothing of bisection."""

import math

import pytest

from onnxmark.schemes.constant_weight.code import ConstantWeightCode
from onnxmark.schemes.constant_weight.lengths import (
    SHARES,
    fewest_ones,
    roomiest,
    shortest_code,
    shortest_codes,
    shortest_length,
)


@pytest.mark.parametrize(
    ("share", "length", "weight"), [(0.4, 269, 107), (0.1, 560, 56), (0.05, 920, 46), (0.01, 3290, 32)]
)
def test_the_published_lengths_for_256_bits(share, length, weight):
    code = shortest_code(256, share)
    assert (code.length, code.weight) == (length, weight)
    assert shortest_codes(256)[share] == code
    assert code.capacity >= 256


def test_fewer_ones_take_longer_words():
    lengths = [shortest_codes(64)[share].length for share in SHARES]
    assert lengths == sorted(lengths)
    assert len(set(lengths)) == len(SHARES)


@pytest.mark.parametrize("n_bits", [1, 8, 33, 64])
@pytest.mark.parametrize("percent", [50, 40, 10, 3])
def test_no_shorter_code_carries_as_much(n_bits, percent):
    code = shortest_code(n_bits, percent / 100)
    fitting = [length for length in range(1, 2000) if math.comb(length, percent * length // 100) >= 2**n_bits]
    assert (code.length, code.weight) == (fitting[0], percent * fitting[0] // 100)


@pytest.mark.parametrize("weight", [1, 2, 5, 20])
def test_the_shortest_length_at_a_weight(weight):
    length = shortest_length(12, weight)
    assert math.comb(length, weight) >= 2**12 > math.comb(length - 1, weight)


@pytest.mark.parametrize("length", [150, 560, 1850])
def test_the_fewest_ones_at_a_length(length):
    weight = fewest_ones(64, length)
    assert math.comb(length, weight) >= 2**64 > math.comb(length, weight - 1)


@pytest.mark.parametrize("length", [2, 3, 10])
def test_half_the_length_where_nothing_is_enough(length):
    assert fewest_ones(64, length) == max(1, length // 2)


@pytest.mark.parametrize(("n_bits", "share"), [(0, 0.1), (8, 0.0), (8, 0.51), (8, -0.1)])
def test_shares_out_of_range(n_bits, share):
    with pytest.raises(ValueError, match="at least one bit and a share"):
        shortest_code(n_bits, share)


@pytest.mark.parametrize(("n_bits", "weight"), [(0, 1), (1, 0)])
def test_lengths_out_of_range(n_bits, weight):
    with pytest.raises(ValueError, match="at least one bit"):
        shortest_length(n_bits, weight)


@pytest.mark.parametrize(("n_weights", "rate"), [(2, 0.0), (40, 0.5), (600, 0.9), (18432, 0.95), (36864, 0.99)])
def test_the_roomiest_code_is_the_one_of_all_weights(n_weights, rate):
    ones = min(n_weights // 2, n_weights - round(rate * n_weights))
    assert abs(roomiest(n_weights, rate) - ConstantWeightCode(n_weights, ones).capacity) <= 1


def test_nothing_is_left_after_pruning_all_but_nothing():
    assert roomiest(100, 0.999) == 0
