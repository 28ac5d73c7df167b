"""Reading: right words, wrong ones, ties, and layers that can bear no evidence."""

import math

import numpy as np
import pytest
from scipy import stats

from onnxmark.schemes.constant_weight.code import ConstantWeightCode
from onnxmark.schemes.constant_weight.extraction import largest, read_word

CODE = ConstantWeightCode(40, 8)
MESSAGE = np.array([1, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1], dtype=np.uint8)
ONES = CODE.encode_bits(MESSAGE) == 1


def marked(one=2.0, zero=0.5, seed=0):
    """Distinct magnitudes around ``one`` and ``zero``, signs at random."""
    rng = np.random.default_rng(seed)
    sizes = np.where(ONES, one, zero) * (1 + 0.1 * rng.random(40))
    return (sizes * rng.choice([-1, 1], 40)).astype(np.float32)


def log10_p(found, read):
    return stats.hypergeom.logsf(found - 1, 40, 8, read) / math.log(10)


def test_a_word_that_is_there():
    found = read_word(marked(), CODE, MESSAGE)
    assert (found.n_errors, found.n_erasures, found.n_symbols, found.n_bits) == (0, 0, 40, 16)
    assert (found.bit_error_rate, found.message.rejected, found.degenerate) == (0, False, None)
    assert (found.margins > 0).all()
    assert found.log10_p == pytest.approx(-math.log10(math.comb(40, 8)))
    assert found.symbol == "code symbol"
    assert not found.inverted
    exact, bound = found.tests
    assert (exact.kind, exact.log10_p) == ("exact", found.log10_p)
    assert bound.kind == "bound"
    assert exact.log10_p - 1e-9 <= bound.log10_p < 0.95 * exact.log10_p
    assert "8 of the word's 8 large weights are among the 8 largest of 40; 1.6 would be by chance" in found.notes[0]
    assert "32 % of the symbols wrong" in found.notes[0]


def test_margins_are_shares_of_the_boundary():
    values = np.where(ONES, 3.0, -1.0).astype(np.float32)
    values[np.flatnonzero(ONES)[0]] = -5
    values[np.flatnonzero(~ONES)[0]] = 0
    margins = read_word(values, CODE, MESSAGE).margins
    assert margins[np.flatnonzero(ONES)].tolist() == [1.5, *[0.5] * 7]
    assert margins[np.flatnonzero(~ONES)].tolist() == [1.0, *[0.5] * 31]
    assert read_word(values, CODE, MESSAGE).unit == "times the magnitude midway between ones and zeros"


@pytest.mark.parametrize("factor", [1e-6, 7.5, 1e6])
def test_scale_and_signs_say_nothing(factor):
    values = marked()
    one, other = read_word(values, CODE, MESSAGE), read_word(-np.float32(factor) * values, CODE, MESSAGE)
    assert other.margins == pytest.approx(one.margins, rel=1e-5)
    assert other.log10_p == one.log10_p


def test_two_symbols_exchanged_ruin_the_message_and_little_of_the_evidence():
    values = marked()
    values[np.flatnonzero(ONES)[0]], values[np.flatnonzero(~ONES)[0]] = 0.1, 9
    found = read_word(values, CODE, MESSAGE)
    assert (found.n_errors, found.n_erasures) == (2, 0)
    assert (found.margins < 0).sum() == 2
    assert found.n_bit_errors > 0
    assert found.log10_p == pytest.approx(log10_p(7, 8))


def test_a_word_beyond_the_messages_is_rejected():
    # The last word of the code stands for 76904684, far more than 16 bits hold.
    values = np.arange(1, 41, dtype=np.float32)
    found = read_word(values, CODE, MESSAGE)
    assert found.message.rejected
    assert found.bit_error_rate == 1


def test_a_wrong_word_that_is_a_message_is_decoded():
    other = 1 - MESSAGE
    values = np.where(CODE.encode_bits(other) == 1, 2.0, 0.5).astype(np.float32)
    values *= 1 + 0.1 * np.random.default_rng(0).random(40).astype(np.float32)
    found = read_word(values, CODE, MESSAGE)
    assert not found.message.rejected
    assert found.n_bit_errors == 16
    assert not found.inverted


def test_too_few_weights_left_are_weighed_as_what_they_are():
    values = marked()
    values[np.flatnonzero(ONES)[:3]] = 0
    values[~ONES] = 0
    found = read_word(values, CODE, MESSAGE)
    assert found.message.rejected
    assert found.n_errors == 3
    # Five weights stand out and all five belong to the word.
    assert found.log10_p == pytest.approx(log10_p(5, 5))
    assert found.notes[-1] == "Magnitudes tie or are zero, so that 5 and not 8 stand out."


def test_zeros_never_count_as_large_wherever_they_stand():
    """Ties at zero broken by position would give a word at the start of the layer to whoever claims it."""
    values = np.zeros(40, dtype=np.float32)
    values[30] = 1
    first = ConstantWeightCode(40, 8).encode(0)
    assert first[:8].all()
    assert not first[30]
    found = read_word(values, CODE, np.zeros(16, dtype=np.uint8))
    assert found.log10_p == 0
    assert found.n_errors == 9


@pytest.mark.parametrize("n_tied", [1, 5, 24])
def test_zeros_of_the_word_that_tie_with_its_ones_are_read_as_ones(n_tied):
    values = np.where(ONES, 2.0, 0.5).astype(np.float32)
    values[np.flatnonzero(~ONES)[:n_tied]] = -2
    found = read_word(values, CODE, MESSAGE)
    assert found.n_errors == n_tied
    assert found.message.rejected
    assert found.log10_p == pytest.approx(log10_p(8, 8 + n_tied))
    assert np.sum(found.margins <= 0) == n_tied


def test_ties_away_from_the_boundary_change_nothing():
    values = np.where(ONES, 2.0, 0.5).astype(np.float32)
    assert read_word(values, CODE, MESSAGE).n_errors == 0


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros(40), "all of one magnitude"),
        (np.full(40, -3.0), "all of one magnitude"),
        (np.random.default_rng(0).choice([-1.0, 1.0], 40), "all of one magnitude"),
        (np.where(np.arange(40) == 7, np.nan, 1.0), "not all finite"),
        (np.where(np.arange(40) == 7, -np.inf, np.arange(40)), "not all finite"),
    ],
)
def test_layers_that_bear_no_evidence(values, reason):
    found = read_word(values.astype(np.float32), CODE, MESSAGE)
    assert reason in found.degenerate
    assert (found.log10_p, found.tests) == (0, ())
    assert (found.n_errors, found.n_erasures) == (40, 40)
    assert (found.bit_error_rate, found.n_bits) == (1, 16)
    assert found.symbol == "code symbol"


def test_magnitudes_say_more_than_their_order_under_noise():
    code = ConstantWeightCode(300, 30)
    word = code.encode_bits(MESSAGE) == 1
    rng, gains = np.random.default_rng(0), []
    for _ in range(5):
        values = np.where(word, 2.0, 0.5) + 0.8 * rng.standard_normal(300)
        exact, bound = read_word(values.astype(np.float32), code, MESSAGE).tests
        gains.append(exact.log10_p - bound.log10_p)
    assert np.mean(gains) > 2


def test_one_huge_weight_elsewhere_does_not_drown_the_word():
    values = marked()
    calm = read_word(values, CODE, MESSAGE).tests[1].log10_p
    values[np.flatnonzero(~ONES)[0]] = 1e9
    exact, bound = read_word(values, CODE, MESSAGE).tests
    assert exact.log10_p == pytest.approx(log10_p(7, 8))
    assert bound.log10_p < calm / 3


def test_magnitudes_are_weighed_only_where_the_count_is_remarkable():
    rng = np.random.default_rng(0)
    for _ in range(50):
        found = read_word(rng.standard_normal(40).astype(np.float32), CODE, MESSAGE)
        assert len(found.tests) == (2 if found.log10_p <= -1 else 1)
        assert found.tests[0].log10_p == found.log10_p


@pytest.mark.parametrize("count", [1, 3, 9, 10])
def test_the_largest_by_sorting(count):
    magnitudes = np.random.default_rng(1).permutation(np.arange(1, 11)).astype(np.float32)
    assert set(magnitudes[largest(magnitudes, count)]) == set(range(11 - count, 11))


def test_all_that_equal_the_smallest_of_the_largest():
    magnitudes = np.array([3, 1, 3, 2, 3, 0], dtype=np.float32)
    assert largest(magnitudes, 2).tolist() == [True, False, True, False, True, False]
    assert largest(magnitudes, 4).tolist() == [True, False, True, True, True, False]
    assert largest(magnitudes, 6).tolist() == [True, True, True, True, True, False]


@pytest.mark.parametrize(("count", "expected"), [(2, 2), (3, 2), (4, 6), (5, 6), (6, 6)])
def test_a_tie_is_taken_whole_or_not_at_all(count, expected):
    magnitudes = np.array([9, 8, 1, 1, 1, 1, 0.5], dtype=np.float32)
    assert largest(magnitudes, count).sum() == expected


def test_neighbours_in_single_precision_are_told_apart():
    above = np.nextafter(np.float32(1), np.float32(2))
    found = read_word(np.where(ONES, above, np.float32(1)), CODE, MESSAGE)
    assert found.n_errors == 0
    assert (found.margins > 0).all()


def test_a_tie_that_makes_far_too_many_is_left_out():
    values = np.ones(40, dtype=np.float32)
    values[np.flatnonzero(ONES)[:6]] = 2
    found = read_word(values, CODE, MESSAGE)
    # Six stand out; the other 34 equal each other.
    assert found.n_errors == 2
    assert found.log10_p == pytest.approx(log10_p(6, 6))


def test_zeros_lowered_to_one_threshold_do_not_hide_ones_lost():
    """Random pruning takes two ones; the largest of what is left are zeros of the word, all at T0."""
    values = np.where(ONES, 2.0, 1.0).astype(np.float32)
    values[np.flatnonzero(ONES)[:2]] = 0
    values[np.flatnonzero(~ONES)[:12]] = 0.3
    found = read_word(values, CODE, MESSAGE)
    assert found.n_errors == 2
    assert found.log10_p == pytest.approx(log10_p(6, 6))


def test_a_layer_whose_every_weight_is_read_as_large():
    """Nothing lies below the boundary then: no minimum of an empty set, no evidence."""
    code = ConstantWeightCode(8, 6)
    found = read_word(np.array([3, 1, 1, 1, 1, 1, 1, 1], dtype=np.float32), code, np.zeros(2, dtype=np.uint8))
    assert found.log10_p == 0
    assert found.n_errors == 2
