"""Structured pruning against loops over the units, and against PyTorch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn
from torch.nn.utils import prune

from onnxmark.attacks import ChannelPruning, ColumnPruning, FilterPruning, apply_attack

from .subjects import LAYERS, layer, means

FAMILY = (FilterPruning, ChannelPruning, ColumnPruning)
fractions = st.floats(0, 1)
# Few distinct whole values: norms are exact and ties are the rule.
tied_layers = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=4), elements=st.sampled_from([-2.0, -1.0, 0.0, 1.0])
)


def pruned(attack, values):
    return apply_attack(attack, layer(values), means()).values


def units(family, values):
    """Index expressions of the units, in order."""
    if family is FilterPruning:
        return [(index,) for index in range(values.shape[0])]
    if family is ChannelPruning:
        return [(slice(None), index) for index in range(values.shape[1])]
    return [(slice(None), *place) for place in np.ndindex(values.shape[1:])]


def pruned_by_loop(family, values, fraction):
    """Sort units by (sum of squares, position) and zero the first; Python's sort is stable."""
    places = units(family, values)
    result = values.copy()
    order = sorted(places, key=lambda place: sum(float(value) ** 2 for value in values[place].reshape(-1)))
    for place in order[: round(fraction * len(places))]:
        result[place] = 0
    return result


@pytest.mark.parametrize("family", FAMILY)
@given(values=tied_layers, fraction=fractions)
def test_weakest_units_go_first_and_ties_by_position(family, values, fraction):
    np.testing.assert_array_equal(pruned(family(fraction), values), pruned_by_loop(family, values, fraction))


@pytest.mark.parametrize("family", FAMILY)
@pytest.mark.parametrize("name", ["normal kernel", "heavy-tailed kernel", "linear", "1-D convolution"])
def test_agrees_with_the_loop_on_real_valued_layers(family, name):
    values = LAYERS[name]
    np.testing.assert_array_equal(pruned(family(0.4), values), pruned_by_loop(family, values, 0.4))


@pytest.mark.parametrize(("family", "axis"), [(FilterPruning, 0), (ChannelPruning, 1)])
@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.75])
def test_filters_and_channels_are_those_pytorch_prunes(family, axis, fraction):
    values = LAYERS["normal kernel"]
    conv = nn.Conv2d(4, 8, 3, bias=False)
    conv.weight = nn.Parameter(torch.from_numpy(values.copy()))
    prune.ln_structured(conv, "weight", amount=fraction, n=2, dim=axis)
    np.testing.assert_array_equal(pruned(family(fraction), values), conv.weight.detach().numpy())


@pytest.mark.parametrize("family", FAMILY)
@given(shape=hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), fraction=fractions, seed=st.integers(0, 99))
def test_number_of_units_is_exact_and_the_rest_untouched(family, shape, fraction, seed):
    values = np.random.default_rng(seed).uniform(0.5, 1, shape).astype(np.float32)
    result = pruned(family(fraction), values)
    places = units(family, values)
    assert sum(not result[place].any() for place in places) == round(fraction * len(places))
    np.testing.assert_array_equal(result[result != 0], values[result != 0])


@pytest.mark.parametrize("family", FAMILY)
def test_nothing_and_everything(family):
    values = LAYERS["normal kernel"]
    np.testing.assert_array_equal(pruned(family(0), values), values)
    assert not pruned(family(1), values).any()


@pytest.mark.parametrize("family", FAMILY)
@given(values=tied_layers, fraction=fractions)
def test_pruning_twice_changes_nothing(family, values, fraction):
    once = pruned(family(fraction), values)
    np.testing.assert_array_equal(pruned(family(fraction), once), once)


def test_columns_are_finer_than_channels():
    values = np.float32([[[3, 0, 1], [2, 2, 0]], [[4, 0, 1], [2, 2, 9]]])
    np.testing.assert_array_equal(
        pruned(ColumnPruning(0.5), values), np.float32([[[3, 0, 0], [0, 2, 0]], [[4, 0, 0], [0, 2, 9]]])
    )
    np.testing.assert_array_equal(
        pruned(ChannelPruning(0.5), values), np.float32([[[0, 0, 0], [2, 2, 0]], [[0, 0, 0], [2, 2, 9]]])
    )


@pytest.mark.parametrize("family", FAMILY)
def test_it_is_the_norm_that_counts_not_the_sum_of_magnitudes(family):
    # Both ways round, unit 0 has the smaller norm and the larger sum of magnitudes.
    values = (
        np.float32([[2, 2, 2, 2], [0, 0, 0, 5]]) if family is FilterPruning else np.float32([[2, 0], [2, 0], [2, 5]])
    )
    assert not pruned(family(0.5), values)[units(family, values)[0]].any()


@pytest.mark.parametrize("family", FAMILY)
@pytest.mark.parametrize("fraction", [-0.01, 1.01, 65, float("nan"), float("inf")])
def test_fractions_out_of_range_are_refused(family, fraction):
    with pytest.raises(ValueError, match=r"must be from 0 to 1 \(0\.65 for 65 %\), found (-?[\d.]+|nan|inf)"):
        family(fraction)


def test_label_shows_the_percentage():
    assert FilterPruning(0.5).label == "filter pruning 50 %"
    assert ChannelPruning(0.25).label == "channel pruning 25 %"
    assert ColumnPruning(0.9).label == "column pruning 90 %"
