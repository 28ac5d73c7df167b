"""Pruning against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxmark.attacks import GlobalPruning, LargestFirstPruning, MagnitudePruning, Means, RandomPruning, apply_attack

from .subjects import LAYERS, generator, layer, means

FAMILY = (MagnitudePruning, RandomPruning, LargestFirstPruning)
fractions = st.floats(0, 1)
# Few distinct values, so that ties are the rule.
tied_layers = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=4, max_side=5),
    elements=st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]),
)


def pruned(attack, values):
    return apply_attack(attack, layer(values), means()).values


def pruned_by_loop(values, count, sign):
    """Sort positions by (magnitude, position) and zero the first ``count``; Python's sort is stable."""
    flat = [float(value) for value in values.reshape(-1)]
    for position in sorted(range(len(flat)), key=lambda position: sign * abs(flat[position]))[:count]:
        flat[position] = 0.0
    return np.array(flat, dtype=np.float32).reshape(values.shape)


@given(tied_layers, fractions)
def test_smallest_magnitudes_go_first_and_ties_by_position(values, fraction):
    expected = pruned_by_loop(values, round(fraction * values.size), +1)
    np.testing.assert_array_equal(pruned(MagnitudePruning(fraction), values), expected)


@given(tied_layers, fractions)
def test_largest_magnitudes_go_first_and_ties_by_position(values, fraction):
    expected = pruned_by_loop(values, round(fraction * values.size), -1)
    np.testing.assert_array_equal(pruned(LargestFirstPruning(fraction), values), expected)


@pytest.mark.parametrize("family", FAMILY)
@given(
    shape=hnp.array_shapes(min_dims=2, max_dims=4, max_side=6),
    fraction=fractions,
)
def test_fraction_of_zeros_is_exact_and_the_rest_untouched(family, shape, fraction):
    values = generator(1).uniform(0.5, 1, shape).astype(np.float32)
    result = pruned(family(fraction), values)
    assert np.sum(result == 0) == round(fraction * values.size)
    np.testing.assert_array_equal(result[result != 0], values[result != 0])


@pytest.mark.parametrize("family", FAMILY)
def test_nothing_and_everything(family):
    values = LAYERS["normal kernel"]
    np.testing.assert_array_equal(pruned(family(0), values), values)
    assert not pruned(family(1), values).any()


@pytest.mark.parametrize(("fraction", "zeros"), [(0.25, 2), (0.35, 4), (0.05, 0), (0.15, 2), (0.65, 6)])
def test_half_a_weight_rounds_to_even(fraction, zeros):
    assert np.sum(pruned(MagnitudePruning(fraction), np.ones((2, 5), np.float32)) == 0) == zeros


@given(tied_layers, fractions)
def test_pruning_by_magnitude_twice_changes_nothing(values, fraction):
    once = pruned(MagnitudePruning(fraction), values)
    np.testing.assert_array_equal(pruned(MagnitudePruning(fraction), once), once)


def test_magnitude_pruning_is_nested():
    values = LAYERS["heavy-tailed kernel"]
    light, heavy = (pruned(MagnitudePruning(fraction), values) for fraction in (0.3, 0.6))
    assert np.all(heavy[light == 0] == 0)


def test_zeros_already_there_count():
    values = np.float32([[0, 0, 0, 4], [1, 2, 3, 5]])
    np.testing.assert_array_equal(pruned(MagnitudePruning(0.5), values), np.float32([[0, 0, 0, 4], [0, 2, 3, 5]]))


def test_random_pruning_spares_no_position():
    values = np.ones((4, 5), np.float32)
    hits = sum((apply_attack(RandomPruning(0.5), layer(values), means(seed)).values == 0) for seed in range(400))
    # Binomial(400, 1/2): 5 standard deviations are 50.
    assert hits.min() > 150
    assert hits.max() < 250


def globally_pruned(layers, fraction):
    """Every layer of a model under global pruning, each attacked alone with the magnitudes of all."""
    magnitudes = np.sort(np.abs(np.concatenate([values.reshape(-1) for values in layers])))
    given = Means(generator(), magnitudes=magnitudes)
    return [apply_attack(GlobalPruning(fraction), layer(values), given).values for values in layers]


@given(
    st.lists(hnp.array_shapes(min_dims=2, max_dims=3, max_side=4), min_size=1, max_size=3),
    fractions,
    st.integers(0, 99),
)
def test_global_pruning_is_pruning_the_layers_as_one(shapes, fraction, seed):
    sizes = [int(np.prod(shape)) for shape in shapes]
    # Magnitudes 1 to n, all different.
    joined = generator(seed).permutation(np.arange(1, sum(sizes) + 1)).astype(np.float32)
    joined *= generator(seed + 1).choice([-1, 1], joined.size).astype(np.float32)
    layers = [part.reshape(shape) for part, shape in zip(np.split(joined, np.cumsum(sizes)[:-1]), shapes, strict=True)]
    result = np.concatenate([values.reshape(-1) for values in globally_pruned(layers, fraction)])
    np.testing.assert_array_equal(result, pruned(MagnitudePruning(fraction), joined[np.newaxis])[0])


def test_layers_of_small_weights_lose_more_to_one_threshold():
    small, large = LAYERS["normal kernel"], 100 * LAYERS["normal kernel"]
    sparsity = [np.mean(values == 0) for values in globally_pruned([small, large], 0.5)]
    assert sparsity[0] > 0.95
    assert sum(sparsity) == pytest.approx(1)


@pytest.mark.parametrize(("fraction", "left"), [(0, 8), (0.25, 6), (0.26, 6), (0.375, 2), (0.5, 2), (0.75, 2), (1, 0)])
def test_all_weights_at_the_threshold_go(fraction, left):
    layers = [np.float32([[1, -2], [2, 5]]), np.float32([[-1, 2], [2, 9]])]
    assert sum(np.count_nonzero(values) for values in globally_pruned(layers, fraction)) == left


def test_global_pruning_leaves_a_half_pruned_model_as_it_is_up_to_its_sparsity():
    values = np.float32([[0, 0, 3, 4]])
    np.testing.assert_array_equal(globally_pruned([values], 0.25)[0], values)


@pytest.mark.parametrize("family", [*FAMILY, GlobalPruning])
@pytest.mark.parametrize("fraction", [-0.01, 1.01, 65, float("nan"), float("inf")])
def test_fractions_out_of_range_are_refused(family, fraction):
    with pytest.raises(ValueError, match=r"must be from 0 to 1 \(0\.65 for 65 %\), found (-?[\d.]+|nan|inf)"):
        family(fraction)


def test_label_shows_the_percentage():
    assert MagnitudePruning(0.65).label == "L1 pruning 65 %"
    assert RandomPruning(0.07).label == "random pruning 7 %"
    assert LargestFirstPruning(0.125).label == "largest-first pruning 12.5 %"
    assert GlobalPruning(0.9).label == "global L1 pruning 90 %"
