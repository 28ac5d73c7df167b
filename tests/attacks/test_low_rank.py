"""Low-rank compression against scipy's singular values and the theorem of Eckart and Young."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxmark.attacks import LowRank, apply_attack

from .subjects import LAYERS, generator, layer, means

any_layer = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=4), elements=st.floats(-100, 100, width=32)
)


def attacked(fraction, values):
    return apply_attack(LowRank(fraction), layer(values), means()).values


def matrix(values):
    return values.reshape(len(values), -1).astype(np.float64)


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("name", ["normal kernel", "heavy-tailed kernel", "linear", "1-D convolution"])
def test_agrees_with_the_sum_of_the_largest_singular_triples(name, fraction):
    values = LAYERS[name]
    left, singular, right = scipy.linalg.svd(matrix(values), full_matrices=False, lapack_driver="gesvd")
    kept = max(1, singular.size - round(fraction * singular.size))
    expected = sum(singular[index] * np.outer(left[:, index], right[index]) for index in range(kept))
    np.testing.assert_allclose(matrix(attacked(fraction, values)), expected, rtol=1e-5, atol=1e-7 * singular[0])


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.75, 0.9])
def test_what_is_lost_is_the_norm_of_the_dropped_singular_values(fraction):
    values = LAYERS["normal kernel"]
    singular = scipy.linalg.svdvals(matrix(values))
    n_dropped = round(fraction * singular.size)
    lost = np.linalg.norm(matrix(attacked(fraction, values)) - matrix(values))
    assert lost == pytest.approx(np.linalg.norm(singular[singular.size - n_dropped :]), rel=1e-5)


@given(st.integers(0, 999), st.integers(1, 5))
def test_no_other_matrix_of_that_rank_is_nearer(seed, rank):
    rng = generator(seed)
    values = rng.standard_normal((6, 10)).astype(np.float32)
    ours = np.linalg.norm(matrix(attacked(1 - rank / 6, values)) - matrix(values))
    # Alternating least squares from anywhere: each round gives the best right factor for the left one, and back.
    left = rng.standard_normal((6, rank))
    for _ in range(20):
        right = np.linalg.lstsq(left, matrix(values), rcond=None)[0]
        left = np.linalg.lstsq(right.T, matrix(values).T, rcond=None)[0].T
    assert ours <= np.linalg.norm(left @ right - matrix(values)) * (1 + 1e-6)


@pytest.mark.parametrize(("fraction", "rank"), [(0, 8), (0.05, 8), (0.1, 7), (0.5, 4), (0.9, 1), (0.95, 1), (1, 1)])
def test_rank_is_what_is_left_and_never_zero(fraction, rank):
    assert np.linalg.matrix_rank(matrix(attacked(fraction, LAYERS["normal kernel"])), tol=1e-5) == rank


def test_half_a_singular_value_rounds_to_even():
    values = generator(1).standard_normal((5, 9)).astype(np.float32)
    ranks = [np.linalg.matrix_rank(matrix(attacked(fraction, values)), tol=1e-4) for fraction in (0.1, 0.3, 0.5)]
    assert ranks == [5, 3, 3]


@given(any_layer)
def test_dropping_nothing_changes_no_bit(values):
    np.testing.assert_array_equal(attacked(0, values), values)


@given(any_layer, st.floats(0, 1))
def test_the_norm_does_not_grow(values, fraction):
    norm = np.linalg.norm(matrix(values))
    assert np.linalg.norm(matrix(attacked(fraction, values))) <= norm * (1 + 1e-6)


@pytest.mark.parametrize("fraction", [0.25, 0.5])
def test_compressing_twice_changes_nothing_but_the_last_digits(fraction):
    once = attacked(fraction, LAYERS["normal kernel"])
    np.testing.assert_allclose(attacked(fraction, once), once, atol=1e-7)


@pytest.mark.parametrize("fraction", [0.5, 1])
def test_a_matrix_of_rank_one_survives(fraction):
    values = np.outer([1, -2, 3, 4], [0.5, 1, 0, 2, -1]).astype(np.float32)
    np.testing.assert_allclose(attacked(fraction, values), values, atol=1e-6)


@pytest.mark.parametrize("fraction", [-0.01, 1.01, 65, float("nan"), float("inf")])
def test_fractions_out_of_range_are_refused(fraction):
    with pytest.raises(ValueError, match=r"singular values to drop must be from 0 to 1, found (-?[\d.]+|nan|inf)"):
        LowRank(fraction)


def test_label_shows_the_percentage():
    assert LowRank(0.5).label == "low rank, singular values dropped 50 %"
