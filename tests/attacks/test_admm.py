"""The projections of ADMM compression: no feasible point is nearer, found by trying all of them on tiny arrays."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxmark.attacks import AdmmClustering, AdmmQuantisation, KMeansClustering, MagnitudePruning, apply_attack
from onnxmark.attacks.admm import (
    STEP_SEARCH,
    fit_codebook,
    fit_step,
    project_codebook,
    project_levels,
    project_sparse,
)

from .subjects import LAYERS, generator, layer, means

FAMILY = (AdmmClustering, AdmmQuantisation)
tiny = hnp.arrays(np.float32, (2, 3), elements=st.floats(-4, 4, width=16))
alive = hnp.arrays(np.float32, (2, 3), elements=st.floats(0.25, 4, width=16) | st.floats(-4, -0.25, width=16))
kept = st.integers(0, 6)


def distance(one, other):
    return float(np.sum((one.astype(np.float64) - other.astype(np.float64)) ** 2))


def supports(size, n_kept):
    return combinations(range(size), n_kept)


def nearest_on(values, places, choices):
    """The nearest array that is one of ``choices`` at each of ``places`` and zero elsewhere, choice by choice."""
    flat = values.reshape(-1).astype(np.float64)
    best = np.zeros(flat.size)
    for place in places:
        best[place] = min(choices, key=lambda choice: (choice - flat[place]) ** 2)
    return best.reshape(values.shape)


@given(tiny, kept)
def test_no_array_with_as_few_non_zeros_is_nearer(values, n_kept):
    result = project_sparse(values, n_kept)
    assert np.count_nonzero(result) <= n_kept
    flat = values.reshape(-1)
    for places in supports(flat.size, n_kept):
        other = np.zeros_like(flat)
        # With its places given, the nearest array takes over the values there.
        other[list(places)] = flat[list(places)]
        assert distance(result, values) <= distance(other.reshape(values.shape), values)


@given(alive, st.integers(0, 6), st.integers(1, 3), st.sampled_from([0.5, 0.75, 1.0]))
def test_no_array_of_as_many_levels_is_nearer(values, n_kept, n_levels, step):
    choices = [sign * step * level for sign in (-1, 1) for level in range(1, n_levels + 1)]
    result = project_levels(values, n_kept, step, n_levels)
    assert set(result[result != 0].tolist()) <= set(choices)
    assert np.count_nonzero(result) == n_kept
    others = (nearest_on(values, places, choices) for places in supports(values.size, n_kept))
    assert distance(result, values) <= min(distance(other, values) for other in others) + 1e-6


@given(alive, kept, st.lists(st.integers(-6, 6).filter(bool), min_size=1, max_size=4, unique=True).map(sorted))
def test_no_array_on_the_same_places_with_that_codebook_is_nearer(values, n_kept, codebook):
    result = project_codebook(values, n_kept, np.array(codebook, dtype=np.float64))
    places = np.flatnonzero(project_sparse(values, n_kept))
    assert distance(result, values) <= distance(nearest_on(values, places, codebook), values) + 1e-6
    np.testing.assert_array_equal(np.flatnonzero(result), places)


@given(tiny, kept)
def test_projecting_on_sparse_arrays_twice_changes_nothing(values, n_kept):
    once = project_sparse(values, n_kept)
    np.testing.assert_array_equal(project_sparse(once, n_kept), once)


@given(tiny, kept, st.integers(1, 4), st.floats(0.01, 2))
def test_projecting_on_levels_twice_changes_nothing(values, n_kept, n_levels, step):
    once = project_levels(values, n_kept, step, n_levels)
    np.testing.assert_array_equal(project_levels(once, n_kept, step, n_levels), once)


@given(tiny, kept, st.integers(1, 4))
def test_projecting_on_a_codebook_twice_changes_nothing(values, n_kept, n_centroids):
    codebook = fit_codebook(values, n_centroids)
    once = project_codebook(values, n_kept, codebook)
    np.testing.assert_array_equal(project_codebook(once, n_kept, codebook), once)


@pytest.mark.parametrize("name", ["normal kernel", "half pruned kernel", "heavy-tailed kernel", "linear"])
@pytest.mark.parametrize("n_levels", [1, 2, 4, 8])
def test_the_step_is_the_best_of_the_search(name, n_levels):
    values = LAYERS[name]
    base = float(np.abs(values).max()) / n_levels
    n_kept = np.count_nonzero(values)
    errors = {
        step * base: distance(project_levels(values, n_kept, step * base, n_levels), values) for step in STEP_SEARCH
    }
    assert fit_step(values, n_levels) == pytest.approx(min(errors, key=errors.__getitem__), rel=1e-12)


def test_the_search_reaches_ten_percent_to_both_sides_and_its_middle():
    assert (STEP_SEARCH.min(), STEP_SEARCH.max()) == (0.9, 1.1)
    assert np.any(np.isclose(STEP_SEARCH, 1))
    assert np.all(np.diff(STEP_SEARCH) > 0)


@pytest.mark.parametrize("n_levels", [1, 2, 5])
def test_weights_on_levels_give_their_step_back(n_levels):
    levels = np.float32([sign * 0.125 * level for sign, level in product((-1, 1), range(1, n_levels + 1))])
    assert fit_step(levels, n_levels) == pytest.approx(0.125, rel=1e-12)


def test_levels_without_zero_lift_small_weights_that_are_left():
    result = project_levels(np.float32([[0.01, -0.02, 0.9, 0]]), 3, 0.5, 2)
    np.testing.assert_array_equal(result, np.float32([[0.5, -0.5, 1.0, 0]]))


@pytest.mark.parametrize("fraction", [0, 0.5, 0.9])
@pytest.mark.parametrize("bits", [1, 3, 5])
@pytest.mark.parametrize("name", ["normal kernel", "heavy-tailed kernel", "linear"])
def test_clustering_is_pruning_and_then_k_means(name, bits, fraction):
    ours = apply_attack(AdmmClustering(fraction, bits), layer(LAYERS[name]), means())
    pruned = apply_attack(MagnitudePruning(fraction), layer(LAYERS[name]), means())
    np.testing.assert_array_equal(ours.values, apply_attack(KMeansClustering(bits), pruned, means()).values)


@pytest.mark.parametrize("bits", [1, 2, 5])
@pytest.mark.parametrize("fraction", [0, 0.5, 0.9])
def test_quantised_weights_are_evenly_spaced_and_as_sparse_as_asked(bits, fraction):
    values = LAYERS["normal kernel"]
    result = apply_attack(AdmmQuantisation(fraction, bits), layer(values), means()).values
    assert np.sum(result == 0) == round(fraction * values.size)
    step = fit_step(project_sparse(values, values.size - round(fraction * values.size)), 2 ** (bits - 1))
    levels = result[result != 0].astype(np.float64) / step
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-6)
    assert np.abs(levels).max() <= 2 ** (bits - 1) + 1e-6
    np.testing.assert_array_equal(np.sign(result[result != 0]), np.sign(values[result != 0]))


def test_codebook_and_step_of_nothing():
    nothing = np.zeros((2, 3), np.float32)
    assert fit_codebook(nothing, 4).size == 0
    assert fit_step(nothing, 4) == 0
    np.testing.assert_array_equal(project_codebook(nothing, 6, fit_codebook(nothing, 4)), nothing)
    np.testing.assert_array_equal(project_levels(nothing, 6, fit_step(nothing, 4), 4), nothing)


@pytest.mark.parametrize("n_kept", [-1, 7])
def test_counts_out_of_range_are_refused(n_kept):
    with pytest.raises(ValueError, match=f"non-zeros to keep must be from 0 to 6, found {n_kept}"):
        project_sparse(np.ones((2, 3), np.float32), n_kept)


def test_programmers_mistakes_are_refused():
    ones = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="the codebook is empty, expected centroids for 4 weights"):
        project_codebook(ones, 4, np.empty(0))
    with pytest.raises(ValueError, match="the step between levels must be more than 0, found 0"):
        project_levels(ones, 4, 0.0, 2)
    with pytest.raises(ValueError, match="at least one centroid, found 0"):
        fit_codebook(ones, 0)
    with pytest.raises(ValueError, match="at least one level a sign, found 0"):
        fit_step(ones, 0)


@pytest.mark.parametrize("family", FAMILY)
@pytest.mark.parametrize("bits", [0, 17, 4.0, True])
def test_bits_out_of_range_are_refused(family, bits):
    with pytest.raises(ValueError, match="bits must be a whole number from 1 to 16, found"):
        family(0.9, bits)


@pytest.mark.parametrize("family", FAMILY)
@pytest.mark.parametrize("fraction", [-0.01, 1.01, float("nan")])
def test_fractions_out_of_range_are_refused(family, fraction):
    with pytest.raises(ValueError, match=r"must be from 0 to 1 \(0\.65 for 65 %\), found (-?[\d.]+|nan)"):
        family(fraction)


def test_labels_name_both_steps():
    assert AdmmClustering(0.9).label == "ADMM projection, pruning 90 %, clustering 5 bit"
    assert AdmmQuantisation(0.9, 3).label == "ADMM projection, pruning 90 %, quantisation 3 bit"


def test_a_large_layer_takes_seconds_not_minutes():
    values = generator(5).normal(0, 1, (256, 128, 3, 3)).astype(np.float32)
    assert len(np.unique(apply_attack(AdmmQuantisation(0.5, 5), layer(values), means()).values)) <= 33
