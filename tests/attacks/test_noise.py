"""Gaussian noise: its size, its shape, its edges."""

from __future__ import annotations

import numpy as np
import pytest

from onnxmark.attacks import GaussianNoise, apply_attack

from .subjects import LAYERS, generator, layer, means


def noise_on(values, strength, seed=0):
    result = apply_attack(GaussianNoise(strength), layer(values), means(seed)).values
    return result.astype(np.float64) - values


@pytest.mark.parametrize("strength", [0.1, 0.5, 2.0])
def test_noise_has_the_size_asked_for_and_no_mean(strength):
    values = generator(1).normal(3, 0.05, (100, 100)).astype(np.float32)
    noise, sigma = noise_on(values, strength), strength * values.std(dtype=np.float64)
    # n = 10^4: standard errors are sigma / 100 for the mean and sigma / 141 for the deviation.
    assert abs(noise.mean()) < 4 * sigma / 100
    assert abs(noise.std() - sigma) < 4 * sigma / 141


def test_noise_is_normal():
    noise = noise_on(generator(1).normal(0, 1, (100, 100)).astype(np.float32), 1.0)
    within = [float(np.mean(np.abs(noise) < multiple * noise.std())) for multiple in (1, 2, 3)]
    np.testing.assert_allclose(within, [0.6827, 0.9545, 0.9973], atol=0.02)


def test_the_same_draw_scales_with_the_strength():
    values = LAYERS["linear"]
    np.testing.assert_allclose(noise_on(values, 2.0, seed=3), 4 * noise_on(values, 0.5, seed=3), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["constant kernel", "zero kernel", "one weight"])
def test_layers_without_spread_get_no_noise(name):
    np.testing.assert_array_equal(noise_on(LAYERS[name], 1.0), np.zeros_like(LAYERS[name]))


def test_zero_strength_changes_nothing():
    assert not noise_on(LAYERS["heavy-tailed kernel"], 0).any()


def test_pruned_weights_get_noise_too():
    values = LAYERS["half pruned kernel"]
    assert np.all(noise_on(values, 0.5)[values == 0] != 0)


@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf")])
def test_strengths_out_of_range_are_refused(strength):
    with pytest.raises(ValueError, match=r"must be finite and not negative, found (-0\.1|nan|inf)"):
        GaussianNoise(strength)


def test_label_shows_the_strength():
    assert GaussianNoise(0.5).label == "Gaussian noise 0.5 σ"
