"""Crossbars against loops over tiles, a quantiser of its own, and the law of the device variation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxmark.attacks import CrossbarDevices, CrossbarPruning, apply_attack

from .subjects import LAYERS, layer, means

UNITS = ("block", "row", "column")
# Whole values: norms are exact and ties are the rule.
tied_layers = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=4), elements=st.sampled_from([-2.0, -1.0, 0.0, 1.0])
)


def attacked(attack, values, seed=0):
    return apply_attack(attack, layer(values), means(seed)).values


def tiles(shape, rows, columns, unit):
    """Slices of the units of a matrix, block by block for blocks, else row by row."""
    height = 1 if unit == "row" else rows
    width = 1 if unit == "column" else columns
    return [
        (slice(top, top + height), slice(left, left + width))
        for top in range(0, shape[0], height)
        for left in range(0, shape[1], width)
    ]


def pruned_by_loop(values, fraction, rows, columns, unit):
    """Cut the transposed matrix into tiles, sort them by (sum of squares, position), zero the first."""
    matrix = values.reshape(len(values), -1).T.copy()
    places = tiles(matrix.shape, rows, columns, unit)
    order = sorted(places, key=lambda place: sum(float(value) ** 2 for value in matrix[place].reshape(-1)))
    for place in order[: round(fraction * len(places))]:
        matrix[place] = 0
    return matrix.T.reshape(values.shape)


@pytest.mark.parametrize("unit", UNITS)
@given(values=tied_layers, fraction=st.floats(0, 1), rows=st.integers(1, 9), columns=st.integers(1, 5))
def test_weakest_units_go_first_and_ties_by_position(unit, values, fraction, rows, columns):
    ours = attacked(CrossbarPruning(fraction, rows, columns, unit), values)
    np.testing.assert_array_equal(ours, pruned_by_loop(values, fraction, rows, columns, unit))


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("name", ["normal kernel", "heavy-tailed kernel", "linear", "1-D convolution"])
def test_agrees_with_the_loop_on_real_valued_layers(name, unit):
    values = LAYERS[name]
    ours = attacked(CrossbarPruning(0.4, 5, 3, unit), values)
    np.testing.assert_array_equal(ours, pruned_by_loop(values, 0.4, 5, 3, unit))


def test_a_filter_is_a_column_and_an_input_a_row_of_the_crossbar():
    values = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    by_row = attacked(CrossbarPruning(0.25, rows=4, columns=3, unit="row"), values)
    by_column = attacked(CrossbarPruning(1 / 3, rows=4, columns=3, unit="column"), values)
    np.testing.assert_array_equal(by_row == 0, np.arange(12).reshape(3, 4) % 4 == 0)
    np.testing.assert_array_equal(by_column == 0, np.arange(12).reshape(3, 4) < 4)


def test_one_crossbar_for_the_whole_layer_goes_or_stays():
    values = LAYERS["normal kernel"]
    np.testing.assert_array_equal(attacked(CrossbarPruning(0.5), values), values)
    assert not attacked(CrossbarPruning(0.51), values).any()


def test_crossbars_of_one_device_prune_single_weights():
    values = LAYERS["normal kernel"]
    result = attacked(CrossbarPruning(0.3, rows=1, columns=1), values)
    n_pruned = round(0.3 * values.size)
    assert np.sum(result == 0) == n_pruned
    assert np.abs(values[result == 0]).max() < np.abs(values[result != 0]).min()


@pytest.mark.parametrize("size", [0, -1, 128.0, True])
@pytest.mark.parametrize("field", ["rows", "columns"])
def test_sizes_out_of_range_are_refused(field, size):
    with pytest.raises(ValueError, match="a whole number of rows and columns from 1, found"):
        CrossbarPruning(0.5, **{field: size})


@pytest.mark.parametrize("unit", ["tile", "", "Block"])
def test_unknown_units_are_refused(unit):
    with pytest.raises(ValueError, match=f"the unit must be one of block, row, column, found '{unit}'"):
        CrossbarPruning(0.5, unit=unit)


@pytest.mark.parametrize("fraction", [-0.01, 1.01, float("nan")])
def test_fractions_out_of_range_are_refused(fraction):
    with pytest.raises(ValueError, match=r"must be from 0 to 1 \(0\.65 for 65 %\), found (-?[\d.]+|nan)"):
        CrossbarPruning(fraction)


def conductance_levels(values, bits, ratio):
    highest = float(np.abs(values).max())
    n_levels = 2**bits - 1
    return [highest / ratio + index * (highest - highest / ratio) / (n_levels - 1) for index in range(n_levels)]


@pytest.mark.parametrize("ratio", [2.0, 10.0, 100.0])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("name", ["normal kernel", "half pruned kernel", "heavy-tailed kernel"])
def test_without_variation_magnitudes_are_on_the_nearest_level(name, bits, ratio):
    values = LAYERS[name]
    levels = conductance_levels(values, bits, ratio)
    expected = [
        0.0 if value == 0 else np.sign(value) * min(levels, key=lambda level: abs(level - abs(float(value))))
        for value in values.reshape(-1)
    ]
    result = attacked(CrossbarDevices(0, bits, ratio), values)
    np.testing.assert_allclose(result.reshape(-1), expected, rtol=1e-6)


@pytest.mark.parametrize("variation", [0.05, 0.3])
def test_each_device_is_off_by_a_normal_factor_of_its_own(variation):
    values = np.random.default_rng(2).normal(0, 1, (100, 200)).astype(np.float32)
    exact = attacked(CrossbarDevices(0, bits=8), values)
    factors = attacked(CrossbarDevices(variation, bits=8), values, seed=11) / exact.astype(np.float64)
    assert scipy.stats.kstest((factors.reshape(-1) - 1) / variation, "norm").pvalue > 0.01
    # Neighbours are independent: 5 standard errors of a correlation of 20,000 pairs are 0.035.
    assert abs(np.corrcoef(factors.reshape(-1)[:-1], factors.reshape(-1)[1:])[0, 1]) < 0.035


@pytest.mark.parametrize("variation", [0.0, 0.1, 5.0])
def test_zeros_have_no_device(variation):
    values = LAYERS["half pruned kernel"]
    result = attacked(CrossbarDevices(variation), values)
    np.testing.assert_array_equal(result == 0, values == 0)


def test_small_weights_are_clipped_up_to_the_lowest_conductance():
    result = attacked(CrossbarDevices(0, ratio=4.0), np.float32([[1e-6, -0.1, 1.0]]))
    np.testing.assert_allclose(result, np.float32([[0.25, -0.25, 1.0]]))


@pytest.mark.parametrize("variation", [-0.1, float("nan"), float("inf")])
def test_variations_out_of_range_are_refused(variation):
    with pytest.raises(ValueError, match=r"must be finite and not negative, found (-0\.1|nan|inf)"):
        CrossbarDevices(variation)


@pytest.mark.parametrize("bits", [0, 1, 17, 4.0, True])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(ValueError, match="bits must be a whole number from 2 to 16, found"):
        CrossbarDevices(0.1, bits=bits)


@pytest.mark.parametrize("ratio", [1, 0.5, -3, float("nan"), float("inf")])
def test_ratios_out_of_range_are_refused(ratio):
    with pytest.raises(ValueError, match="the ratio of conductances must be finite and more than 1, found"):
        CrossbarDevices(0.1, ratio=ratio)


def test_labels_name_every_parameter():
    assert CrossbarPruning(0.5).label == "crossbar pruning 50 %, blocks of 128 x 128"
    assert CrossbarPruning(0.5, 64, 32, "row").label == "crossbar pruning 50 %, rows of blocks of 64 x 32"
    assert CrossbarDevices(0.1).label == "crossbar devices 10 % variation, 4 bit, range 100"
