"""Quantisation against plain loops over the levels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxmark.attacks import UniformQuantisation, apply_attack

from .subjects import LAYERS, layer, means

any_layer = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=4, max_side=5),
    elements=st.floats(-100, 100, width=32),
)
few_bits = st.integers(1, 8)


def quantised(attack, values):
    return apply_attack(attack, layer(values), means()).values


def nearest(value, levels):
    return min(levels, key=lambda level: abs(level - value))


def affine_levels(values, bits):
    low, high = float(values.min()), float(values.max())
    return [low + index * (high - low) / (2**bits - 1) for index in range(2**bits)]


def symmetric_levels(values, bits):
    largest = 2 ** (bits - 1) - 1
    return [index * float(np.abs(values).max()) / largest for index in range(-largest, largest + 1)]


def rounded_by_loop(values, levels):
    return np.array([nearest(float(value), levels) for value in values.reshape(-1)]).reshape(values.shape)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("name", ["normal kernel", "heavy-tailed kernel", "linear", "half pruned kernel"])
def test_affine_rounds_to_the_nearest_level(name, bits):
    values = LAYERS[name]
    expected = rounded_by_loop(values, affine_levels(values, bits))
    np.testing.assert_allclose(quantised(UniformQuantisation(bits), values), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("bits", range(2, 9))
def test_symmetric_rounds_to_whole_multiples(bits):
    values = LAYERS["normal kernel"]
    expected = rounded_by_loop(values, symmetric_levels(values, bits))
    result = quantised(UniformQuantisation(bits, symmetric=True), values)
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("symmetric", [False, True])
def test_per_channel_is_per_tensor_on_each_output_channel(symmetric):
    values = LAYERS["normal kernel"] * np.float32([1, 2, 5, 10, 20, 50, 100, 1000]).reshape(8, 1, 1, 1)
    whole = quantised(UniformQuantisation(3, per_channel=True, symmetric=symmetric), values)
    for channel in range(len(values)):
        alone = quantised(UniformQuantisation(3, symmetric=symmetric), values[channel : channel + 1])
        np.testing.assert_array_equal(whole[channel : channel + 1], alone)


@given(any_layer, few_bits)
def test_levels_are_few_and_the_extremes_stay(values, bits):
    result = quantised(UniformQuantisation(bits), values)
    assert len(np.unique(result)) <= 2**bits
    assert result.min() == values.min()
    assert result.max() == values.max()


@given(any_layer, few_bits)
def test_error_is_at_most_half_a_step(values, bits):
    span = float(values.max()) - float(values.min())
    error = np.abs(quantised(UniformQuantisation(bits), values).astype(np.float64) - values)
    assert error.max() <= 0.5 * span / (2**bits - 1) + np.spacing(np.abs(values).max())


@given(any_layer, st.integers(2, 8), st.booleans(), st.booleans())
def test_quantising_twice_changes_nothing(values, bits, per_channel, symmetric):
    attack = UniformQuantisation(bits, per_channel=per_channel, symmetric=symmetric)
    once = quantised(attack, values)
    np.testing.assert_array_equal(quantised(attack, once), once)


@given(any_layer, st.integers(2, 8))
def test_symmetric_levels_keep_zero_and_sign(values, bits):
    result = quantised(UniformQuantisation(bits, symmetric=True), values)
    assert len(np.unique(result)) <= 2**bits - 1
    assert not result[values == 0].any()
    assert np.all(result * np.sign(values) >= 0)
    np.testing.assert_array_equal(quantised(UniformQuantisation(bits, symmetric=True), -values), -result)


def test_32_bits_change_float32_by_less_than_a_hundred_millionth_of_its_range():
    values = LAYERS["linear"]
    result = quantised(UniformQuantisation(32), values)
    np.testing.assert_allclose(result, values, rtol=0, atol=1e-8 * float(np.ptp(values)))


@pytest.mark.parametrize("name", ["constant kernel", "zero kernel", "one weight"])
def test_layers_without_spread_stay_as_they_are(name):
    np.testing.assert_array_equal(quantised(UniformQuantisation(4), LAYERS[name]), LAYERS[name])


@pytest.mark.parametrize("bits", [0, -1, 33, 4.0, 4.5, True, float("nan")])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(ValueError, match="bits must be a whole number from 1 to 32, found"):
        UniformQuantisation(bits)


def test_symmetric_needs_two_bits():
    with pytest.raises(ValueError, match="bits must be a whole number from 2 to 32, found 1"):
        UniformQuantisation(1, symmetric=True)


def test_label_names_what_differs_from_the_default():
    assert UniformQuantisation(4).label == "quantisation 4 bit"
    assert UniformQuantisation(4, True, True).label == "quantisation 4 bit, per channel, symmetric"
