"""Clustering against scikit-learn, and against Lloyd's algorithm written as loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.cluster import KMeans

from onnxmark.attacks import KMeansClustering, RandomPruning, apply_attack

from .subjects import LAYERS, generator, layer, means

whole_number_layers = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=3, max_side=5),
    elements=st.integers(-30, 30).map(float),
)


def clustered(attack, values):
    return apply_attack(attack, layer(values), means()).values


def clustered_by_loop(values, bits, rounds=300):
    """Lloyd's algorithm in its textbook form: assign each value to the nearest centroid, then average."""
    alive = [float(value) for value in values.reshape(-1) if value != 0]
    if not alive:
        return values
    low, high, last = min(alive), max(alive), 2**bits - 1
    centroids = [low + index * (high - low) / last for index in range(last + 1)]
    for _ in range(rounds):
        members = [[] for _ in centroids]
        for value in alive:
            members[nearest(value, centroids)].append(value)
        centroids = [sum(some) / len(some) if some else old for some, old in zip(members, centroids, strict=True)]
    flat = [0.0 if value == 0 else centroids[nearest(float(value), centroids)] for value in values.reshape(-1)]
    return np.array(flat).reshape(values.shape)


def nearest(value, centroids):
    return min(range(len(centroids)), key=lambda index: abs(centroids[index] - value))


def clustered_by_sklearn(values, bits):
    alive = values[values != 0].astype(np.float64)
    start = np.linspace(alive.min(), alive.max(), 2**bits).reshape(-1, 1)
    model = KMeans(2**bits, init=start, n_init=1, max_iter=300, tol=0, algorithm="lloyd").fit(alive.reshape(-1, 1))
    result = values.astype(np.float64)
    result[values != 0] = model.cluster_centers_[model.labels_, 0]
    return result


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("sparsity", [0, 0.5])
def test_agrees_with_scikit_learn_where_no_cluster_is_empty(bits, sparsity):
    # Uniform weights, zeroed at random: an empty cluster (such as a gap around zero) scikit-learn moves; we leave it.
    values = generator(3).uniform(-1, 1, (40, 10, 3, 3)).astype(np.float32)
    values = apply_attack(RandomPruning(sparsity), layer(values), means()).values
    ours = clustered(KMeansClustering(bits), values)
    np.testing.assert_allclose(ours, clustered_by_sklearn(values, bits), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("bits", [1, 2, 3, 5])
@pytest.mark.parametrize("name", ["normal kernel", "half pruned kernel", "heavy-tailed kernel", "linear", "two values"])
def test_agrees_with_the_textbook(name, bits):
    values = LAYERS[name]
    np.testing.assert_allclose(clustered(KMeansClustering(bits), values), clustered_by_loop(values, bits), rtol=1e-6)


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_stops_after_the_rounds_asked_for(rounds):
    values = LAYERS["heavy-tailed kernel"]
    expected = clustered_by_loop(values, 3, rounds)
    np.testing.assert_allclose(clustered(KMeansClustering(3, rounds=rounds), values), expected, rtol=1e-6)


@given(whole_number_layers, st.integers(1, 6))
def test_zeros_stay_zero_and_the_codebook_is_small(values, bits):
    result = clustered(KMeansClustering(bits), values)
    assert not result[values == 0].any()
    assert len(np.unique(result[values != 0])) <= 2**bits


@given(whole_number_layers, st.integers(1, 6))
def test_order_and_range_are_kept(values, bits):
    alive = values[values != 0]
    result = clustered(KMeansClustering(bits), values)[values != 0]
    assert np.all(np.diff(result[np.argsort(alive)]) >= 0)
    assert np.all((alive.min(initial=np.inf) <= result) & (result <= alive.max(initial=-np.inf)))


@given(whole_number_layers, st.integers(1, 6))
def test_sum_of_weights_is_kept_because_centroids_are_means(values, bits):
    result = clustered(KMeansClustering(bits), values)
    assert np.isclose(result.sum(dtype=np.float64), values.sum(dtype=np.float64), rtol=1e-5, atol=1e-3)


@given(hnp.arrays(np.float32, (3, 4), elements=st.integers(-7, 8).map(float)))
def test_enough_centroids_leave_a_grid_as_it_is(values):
    low, high = np.float32(-7), np.float32(8)
    values = np.append(values, [low, high, *[1.0] * 10]).reshape(4, 6).astype(np.float32)
    np.testing.assert_array_equal(clustered(KMeansClustering(4), values), values)


@pytest.mark.parametrize("name", ["constant kernel", "zero kernel", "one weight", "two values"])
def test_fewer_distinct_values_than_centroids(name):
    np.testing.assert_array_equal(clustered(KMeansClustering(8), LAYERS[name]), LAYERS[name])


def test_outliers_do_not_drown_small_clusters():
    values = np.float32([[-1e30, 1e-3, 2e-3, 1e30]])
    result = clustered(KMeansClustering(4), values)
    np.testing.assert_allclose(result, np.float32([[-1e30, 1.5e-3, 1.5e-3, 1e30]]))


def test_a_large_layer_takes_seconds_not_minutes():
    values = generator(5).normal(0, 1, (256, 128, 3, 3)).astype(np.float32)
    assert len(np.unique(clustered(KMeansClustering(8), values))) <= 256


@pytest.mark.parametrize("bits", [0, -1, 17, 4.0, True, float("nan")])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(ValueError, match="bits must be a whole number from 1 to 16, found"):
        KMeansClustering(bits)


@pytest.mark.parametrize("rounds", [0, -1, 2.0, True])
def test_rounds_out_of_range_are_refused(rounds):
    with pytest.raises(ValueError, match="rounds must be a whole number from 1, found"):
        KMeansClustering(4, rounds=rounds)


def test_label_names_what_differs_from_the_default():
    assert KMeansClustering(5).label == "k-means clustering 5 bit"
    assert KMeansClustering(5, rounds=20).label == "k-means clustering 5 bit, 20 rounds"
