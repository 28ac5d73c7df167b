"""The nearest weights that hold a word."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmark.errors import EmbeddingError
from onnxmark.schemes.constant_weight.embedding import embed_word, embedded, populations
from onnxmark.schemes.constant_weight.parameters import parameters_of
from onnxmark.schemes.constant_weight.selection import selection_of
from onnxmark.schemes.constant_weight.thresholds import Thresholds
from tests.schemes.constant_weight.words import key, layer, weights

LIMITS = Thresholds(np.float32(1), np.float32(2))
PLUS = np.ones(1, dtype=np.int8)


def embed(value, symbol, zero_sign=1):
    word, signs = np.array([symbol], dtype=np.uint8), np.array([zero_sign], dtype=np.int8)
    return float(embed_word(np.array([value], dtype=np.float32), word, LIMITS, signs)[0])


@pytest.mark.parametrize(
    ("value", "as_one", "as_zero"),
    [(0.5, 2, 0.5), (-0.5, -2, -0.5), (1.5, 2, 1), (-1.5, -2, -1), (3, 3, 1), (-3, -3, -1), (1, 2, 1), (2, 2, 1)],
)
def test_ones_rise_and_zeros_fall_as_far_as_they_must(value, as_one, as_zero):
    assert embed(value, 1) == as_one
    assert embed(value, 0) == as_zero


@pytest.mark.parametrize("sign", [1, -1])
def test_a_weight_of_zero_takes_the_keys_sign(sign):
    assert embed(0.0, 1, sign) == 2 * sign
    assert embed(0.0, 0, sign) == 0


@given(st.lists(st.tuples(st.floats(-9, 9, width=32), st.integers(0, 1)), min_size=1, max_size=20))
def test_nothing_nearer_holds_the_word(pairs):
    values, word = (np.array(part) for part in zip(*pairs, strict=True))
    values, word = values.astype(np.float32), word.astype(np.uint8)
    found = embed_word(values, word, LIMITS, np.ones(word.size, dtype=np.int8))
    # Every weight against a fine grid of what it may become.
    grid = np.concatenate([np.linspace(-10, 10, 4001), values, [1, -1, 2, -2]])
    for value, symbol, result in zip(values.tolist(), word.tolist(), found.tolist(), strict=True):
        allowed = grid[np.abs(grid) >= 2] if symbol else grid[np.abs(grid) <= 1]
        assert abs(result - value) <= np.min(np.abs(allowed - value)) + 1e-6
        assert abs(result) >= 2 if symbol else abs(result) <= 1


def test_only_chosen_weights_move():
    own, host = key(), layer(seed=1)
    (marked,) = embedded(own, [host])
    moved = np.flatnonzero(marked.values != host.values)
    assert 0 < moved.size < 150
    assert np.isin(moved, selection_of(own).positions).all()
    assert np.array_equal(np.sign(marked.values), np.sign(host.values))
    assert marked.values.dtype == np.float32


def test_embedding_again_changes_nothing_much():
    own, host = key(), layer(seed=1)
    once = embedded(own, [host])
    twice = embedded(own, once)
    # Thresholds are read off the layer anew; those of a marked layer lie a hair higher or the same.
    assert np.max(np.abs(np.abs(twice[0].values) - np.abs(once[0].values))) <= 0.02 * np.abs(host.values).max()


def test_a_larger_margin_moves_more():
    host = layer(seed=1)
    small, large = (embedded(key(), [host], margin)[0].values for margin in (0.1, 0.8))
    assert np.linalg.norm(small - host.values) < np.linalg.norm(large - host.values)


def test_raised_zeros_are_of_both_signs():
    values = layer(seed=2).values.copy()
    values[np.abs(values) < np.median(np.abs(values))] = 0
    host, signs = weights(values), []
    for seed in (0, 1):
        own = key(seed=seed, length=600, weight=200)
        (marked,) = embedded(own, [host])
        raised = (host.values == 0) & (marked.values != 0)
        signs.append(np.sign(marked.values[raised]))
    assert all(one.size > 50 and 0.25 < np.mean(one > 0) < 0.75 for one in signs)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite(bad):
    values = layer().values.copy()
    values[0, 0, 0, 0] = bad
    with pytest.raises(EmbeddingError, match=r"'conv\.weight' are not all finite; mark another layer"):
        embedded(key(), [weights(values)])


def test_populations_count_what_each_layer_holds():
    shapes = ((8, 4, 3, 3), (10, 30))
    own, hosts = key(shapes=shapes, rate=0.5), [layer(shape).values for shape in ((8, 4, 3, 3), (10, 30))]
    word = parameters_of(own).code.encode_bits(own.message)
    found = populations(hosts, selection_of(own), word)
    assert sum(one.n_ones for one in found) == 15
    assert sum(one.n_zeros for one in found) == 135
    for one, host in zip(found, hosts, strict=True):
        assert one.magnitudes.size == host.size == one.untouched.size + one.n_ones + one.n_zeros


def test_a_layer_without_symbols_sets_no_threshold():
    shapes = ((30, 100), (1, 1))
    own, hosts = key(shapes=shapes), [layer(shapes[0]), weights([[1e9]])]
    assert selection_of(own).layers.max() == 0
    (first, _) = embedded(own, hosts)
    assert np.abs(first.values).max() < 1e3
