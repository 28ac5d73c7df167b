"""The code against the published words, against every word there is, and against itself at length."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmark.schemes.constant_weight.code import ConstantWeightCode


def word(text):
    return np.array([int(symbol) for symbol in text], dtype=np.uint8)


def published_encoding(number, length, weight):
    """Algorithm 1 of Kuribayashi et al. (arXiv 2107.02961), line by line and with whole binomials."""
    symbols, left = [0] * length, weight
    for t in range(length):
        n = length - t - 1
        if number >= math.comb(n, left):
            symbols[n] = 1
            number -= math.comb(n, left)
            left -= 1
    return symbols


@pytest.mark.parametrize(("number", "expected"), list(enumerate(["1100", "1010", "0110", "1001", "0101", "0011"])))
def test_the_words_of_length_four(number, expected):
    code = ConstantWeightCode(4, 2)
    assert code.encode(number).tolist() == word(expected).tolist()
    assert code.decode(word(expected)) == number


def test_a_word_of_length_six():
    assert ConstantWeightCode(6, 3).encode(5).tolist() == [1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    ("length", "weight"), [(length, weight) for length in range(1, 11) for weight in range(length + 1)]
)
def test_every_number_has_a_word_of_its_own_and_every_word_its_number(length, weight):
    code = ConstantWeightCode(length, weight)
    words = [tuple(code.encode(number).tolist()) for number in range(code.size)]
    assert [code.decode(np.array(one, dtype=np.uint8)) for one in words] == list(range(code.size))
    ones = set(itertools.combinations(range(length), weight))
    assert {tuple(np.flatnonzero(one).tolist()) for one in words} == ones


@given(st.integers(2, 40).flatmap(lambda length: st.tuples(st.just(length), st.integers(0, length))), st.data())
def test_the_published_algorithm(sizes, data):
    code = ConstantWeightCode(*sizes)
    number = data.draw(st.integers(0, code.size - 1))
    assert code.encode(number).tolist() == published_encoding(number, *sizes)


@pytest.mark.parametrize(("length", "weight"), [(269, 107), (560, 56), (920, 46), (3290, 32), (1850, 37)])
def test_the_ends_of_long_codes(length, weight):
    code = ConstantWeightCode(length, weight)
    # The first word has its ones at the lowest places, the last at the highest.
    assert np.flatnonzero(code.encode(0)).tolist() == list(range(weight))
    assert np.flatnonzero(code.encode(code.size - 1)).tolist() == list(range(length - weight, length))
    assert code.decode(code.encode(code.size - 1)) == code.size - 1


def test_thousands_of_bits_take_a_fraction_of_a_second():
    code = ConstantWeightCode(17_484, 1_748)
    message = np.random.default_rng(0).integers(0, 2, 8192, dtype=np.uint8)
    started = time.process_time()
    assert np.array_equal(code.decode_bits(code.encode_bits(message), 8192), message)
    # A binomial from scratch in every step takes minutes.
    assert time.process_time() - started < 2


@pytest.mark.parametrize("length", [1, 2, 7, 64, 300])
def test_capacity_is_the_whole_part_of_a_logarithm(length):
    for weight in {0, 1, length // 3, length // 2, length}:
        words = math.comb(length, weight)
        assert (
            2 ** ConstantWeightCode(length, weight).capacity
            <= words
            < 2 ** (ConstantWeightCode(length, weight).capacity + 1)
        )


def test_the_first_bit_of_a_message_counts_least():
    code = ConstantWeightCode(20, 6)
    assert code.encode_bits(word("1010")).tolist() == code.encode(5).tolist()
    assert code.decode_bits(code.encode(5), 6).tolist() == [1, 0, 1, 0, 0, 0]


@given(st.lists(st.integers(0, 1), min_size=1, max_size=40))
def test_messages_come_back(bits):
    message = np.array(bits, dtype=np.uint8)
    code = ConstantWeightCode(90, 15)
    assert code.decode_bits(code.encode_bits(message), len(bits)).tolist() == bits


def test_a_word_of_another_weight_stands_for_nothing():
    code = ConstantWeightCode(20, 6)
    one_less = code.encode(5).copy()
    one_less[np.flatnonzero(one_less)[0]] = 0
    assert code.decode(one_less) is None
    assert code.decode_bits(one_less, 4) is None


def test_a_number_beyond_the_message_is_no_message():
    code = ConstantWeightCode(20, 6)
    assert code.decode_bits(code.encode(15), 4).tolist() == [1, 1, 1, 1]
    assert code.decode_bits(code.encode(16), 4) is None
    assert code.decode_bits(code.encode(16), 5).tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(("length", "weight"), [(0, 0), (3, 4), (3, -1)])
def test_no_such_words(length, weight):
    with pytest.raises(ValueError, match=f"no word of length {length} has weight {weight}"):
        ConstantWeightCode(length, weight)


@pytest.mark.parametrize("number", [-1, 6])
def test_no_such_number(number):
    with pytest.raises(ValueError, match=f"end before number {number}"):
        ConstantWeightCode(4, 2).encode(number)


def test_a_message_that_is_too_long():
    with pytest.raises(ValueError, match="carry 2 bits"):
        ConstantWeightCode(4, 2).encode_bits(np.zeros(3, dtype=np.uint8))


def test_a_word_of_another_length():
    with pytest.raises(ValueError, match="has 4 symbols"):
        ConstantWeightCode(4, 2).decode(np.zeros(5, dtype=np.uint8))


def test_words_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        ConstantWeightCode(4, 2).encode(0)[0] = 0
