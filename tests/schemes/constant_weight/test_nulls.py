"""Tails against scipy, whole enumerations, and keys that know nothing of the layer."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from onnxmark.schemes.constant_weight.code import ConstantWeightCode
from onnxmark.schemes.constant_weight.nulls import log10_hypergeometric_tail, log10_sum_bound
from onnxmark.schemes.constant_weight.scheme import ConstantWeightScheme
from onnxmark.schemes.scheme import PlainReading
from tests.schemes.constant_weight.words import SHAPE, key, layer, weights


@pytest.mark.parametrize(("size", "marked", "drawn"), [(560, 56, 56), (1850, 37, 37), (560, 56, 30), (150, 15, 90)])
def test_tails_agree_with_scipy(size, marked, drawn):
    for successes in range(min(marked, drawn) + 1):
        expected = stats.hypergeom.logsf(successes - 1, size, marked, drawn) / math.log(10)
        if expected > -250:
            assert log10_hypergeometric_tail(successes, size, marked, drawn) == pytest.approx(expected, abs=1e-7)


def test_a_tail_by_drawing_every_set():
    drawn = list(itertools.combinations(range(9), 4))
    for successes in range(6):
        hits = sum(sum(symbol < 5 for symbol in one) >= successes for one in drawn)
        expected = math.log10(hits / len(drawn)) if hits else -math.inf
        assert log10_hypergeometric_tail(successes, 9, 5, 4) == pytest.approx(expected)


def test_all_ones_found_is_one_word_of_all():
    expected = -math.log10(math.comb(560, 56))
    assert log10_hypergeometric_tail(56, 560, 56, 56) == pytest.approx(expected)
    assert expected < -77


def test_nothing_drawn_or_nothing_new_is_certain():
    assert log10_hypergeometric_tail(0, 560, 56, 56) == 0
    assert log10_hypergeometric_tail(0, 560, 56, 0) == 0
    # Who draws everything finds everything.
    assert log10_hypergeometric_tail(56, 560, 56, 560) == 0
    assert log10_hypergeometric_tail(57, 560, 56, 560) == -math.inf


@pytest.mark.parametrize(("marked", "drawn"), [(11, 1), (1, 11), (-1, 1), (1, -1)])
def test_impossible_draws(marked, drawn):
    with pytest.raises(ValueError, match="out of 10 are impossible"):
        log10_hypergeometric_tail(1, 10, marked, drawn)


@given(st.lists(st.integers(0, 12), min_size=2, max_size=9), st.data())
def test_the_bound_is_one(sizes, data):
    """Against every set there is."""
    count = data.draw(st.integers(1, len(sizes)))
    sets = [list(one) for one in itertools.combinations(range(len(sizes)), count)]
    mine = data.draw(st.sampled_from(sets))
    values, drawn = np.array(sizes, dtype=float), np.isin(np.arange(len(sizes)), mine)
    exact = np.mean([values[one].sum() >= values[mine].sum() for one in sets])
    assert log10_sum_bound(values, drawn) >= math.log10(exact) - 1e-9


def test_the_bound_is_near_where_it_should_be():
    """Two sizes only, all large ones drawn: the probability is that of one set among all."""
    drawn = np.arange(200) < 20
    bound = log10_sum_bound(np.where(drawn, 2.0, 1.0), drawn)
    assert -math.log10(math.comb(200, 20)) - 1e-9 <= bound < -0.99 * math.log10(math.comb(200, 20))


def test_the_bound_at_a_tilt_is_the_mean_over_sets():
    """At a large tilt the bound tends to the share of sets that are as large."""
    sizes, drawn = np.array([0.0, 0.0, 0.0, 1.0, 1.0]), np.array([False, False, False, True, True])
    assert 10 ** log10_sum_bound(sizes, drawn) == pytest.approx(1 / 10, rel=1e-6)
    drawn = np.array([True, False, False, True, False])
    assert log10_sum_bound(sizes, drawn) >= math.log10(7 / 10)


@pytest.mark.parametrize("sizes", [np.zeros(8), np.full(8, 3.0)])
def test_no_bound_from_equal_sizes(sizes):
    assert log10_sum_bound(sizes, np.arange(8) < 3) == 0


def test_random_draws_keep_the_bound():
    rng = np.random.default_rng(0)
    sizes = np.abs(rng.standard_t(4, 60))
    found = np.array([log10_sum_bound(sizes, rng.permutation(60) < 6) for _ in range(600)])
    for level in (0.2, 0.05, 0.01):
        assert np.mean(found <= math.log10(level)) <= level
    # And it is no empty promise.
    assert np.mean(found <= math.log10(0.2)) > 0.02


def layers_without_a_mark():
    normal = np.random.default_rng(7).standard_normal(SHAPE)
    return {
        "trained": layer(seed=7),
        "few levels": weights(np.round(2 * normal)),
        "ternary": weights(np.sign(normal) * (np.abs(normal) > 1.9)),
        "pruned to 3 %": weights(normal * (np.abs(normal) > 2.17)),
        "one huge channel": weights(np.where(np.arange(32)[:, None, None, None] == 3, 1e6, normal)),
        "sorted by size": weights(np.sort(np.abs(normal), axis=None).reshape(SHAPE)),
    }


@pytest.mark.parametrize(("name", "host"), layers_without_a_mark().items(), ids=layers_without_a_mark())
def test_random_keys_find_what_the_law_says(name, host, cheap_stretching):
    n, found, expected, variance, p_values = 800, 0.0, 0.0, 0.0, []
    for seed in range(n):
        own = key(seed=seed)
        evidence = ConstantWeightScheme().extract(own, (host,), PlainReading(""))
        p_values.append(10**evidence.log10_p)
        if evidence.degenerate is not None:
            # All of the chosen weights are pruned: nothing is read.
            assert evidence.log10_p == 0
            continue
        ones = ConstantWeightCode(150, 15).encode_bits(own.message) == 1
        right = evidence.margins > 0
        n_read = int(np.sum(right & ones) + np.sum(~right & ~ones))
        law = stats.hypergeom(150, 15, n_read)
        found, expected, variance = found + np.sum(right & ones), expected + law.mean(), variance + law.var()
    assert abs(found - expected) < 4 * math.sqrt(variance)
    for level in (0.2, 0.05, 0.01):
        hits = np.sum(np.array(p_values) <= level)
        # At most what was promised, up to four standard deviations of the count.
        assert hits <= n * level + 4 * math.sqrt(n * level)
    assert min(p_values) > 1e-6


def test_a_payload_that_says_large_everywhere_gains_nothing(cheap_stretching):
    """The word is whitened: an owner cannot choose one that suits the layer."""
    host = layer(seed=3)
    for payload in (np.zeros(64, np.uint8), np.ones(64, np.uint8)):
        p = [
            ConstantWeightScheme().extract(key(seed=seed, payload=payload), (host,), PlainReading("")).log10_p
            for seed in range(400)
        ]
        assert np.mean(np.array(p) <= -1) < 0.1 + 4 * math.sqrt(0.09 / 400)
