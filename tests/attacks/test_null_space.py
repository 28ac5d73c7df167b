"""Null-space noise: its covariance, its size, and what the layer's outputs notice of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from onnxmark.attacks import GaussianNoise, Means, NullSpaceNoise, apply_attack
from onnxmark.errors import AttackError

from .subjects import LAYERS, generator, layer, means

FILTERS, WIDTH = 20_000, 4


def random_moment(width, seed=0, samples=200):
    """Second moment of correlated inputs of unequal size, shape (width, width)."""
    rng = generator(seed)
    patches = rng.standard_normal((samples, width)) @ rng.standard_normal((width, width))
    return patches.T @ patches / samples


def many_filters(groups=1):
    return generator(1).normal(0, 0.05, (groups * FILTERS, WIDTH)).astype(np.float32)


def noise_on(values, moment, strength=1.0, rho=0.1, seed=0):
    given = Means(generator(seed), second_moment=np.array(moment))
    result = apply_attack(NullSpaceNoise(strength, rho=rho), layer(values), given).values
    return result.astype(np.float64) - values


def expected_covariances(moment, rho, sigma):
    """``(S + rho I)^-1`` of each group, scaled so that the mean variance over all groups is ``sigma^2``."""
    scaled = moment / np.mean([np.diag(part).mean() for part in moment])
    inverses = [linalg.inv(part + rho * np.eye(len(part))) for part in scaled]
    return sigma**2 * np.array(inverses) / np.mean([np.diag(part).mean() for part in inverses])


def assert_covariance(noise, expected):
    """Every entry within 4.5 standard errors of what normal samples of that covariance give."""
    found = noise.T @ noise / len(noise)
    variances = np.diag(expected)
    errors = np.sqrt((expected**2 + np.outer(variances, variances)) / len(noise))
    assert np.all(np.abs(found - expected) < 4.5 * errors)


@pytest.mark.parametrize("rho", [0.01, 0.1, 10.0])
def test_covariance_is_the_inverse_of_the_second_moment(rho):
    moment, values = random_moment(WIDTH)[None], many_filters()
    sigma = 0.5 * values.std(dtype=np.float64)
    assert_covariance(noise_on(values, moment, 0.5, rho), expected_covariances(moment, rho, sigma)[0])


def test_groups_have_their_own_covariance_and_share_one_scale():
    moment, values = np.array([random_moment(WIDTH, 1), 30 * random_moment(WIDTH, 2)]), many_filters(groups=2)
    noise = noise_on(values, moment).reshape(2, FILTERS, WIDTH)
    for part, expected in zip(noise, expected_covariances(moment, 0.1, values.std(dtype=np.float64)), strict=True):
        assert_covariance(part, expected)


def test_a_large_rho_makes_it_plain_gaussian_noise():
    values = many_filters()
    assert_covariance(
        noise_on(values, random_moment(WIDTH)[None], rho=1e6), values.var(dtype=np.float64) * np.eye(WIDTH)
    )


def test_the_scale_of_the_inputs_does_not_matter():
    values, moment = LAYERS["linear"], random_moment(16)[None]
    np.testing.assert_allclose(noise_on(values, 1e6 * moment), noise_on(values, moment), atol=1e-6)


def test_outputs_notice_little_of_it():
    rng = generator(4)
    patches = rng.standard_normal((300, 8)) @ rng.standard_normal((8, 36))
    values = rng.normal(0, 0.05, (64, 4, 3, 3)).astype(np.float32)
    hidden = noise_on(values, (patches.T @ patches / 300)[None]).reshape(64, -1)
    plain = apply_attack(GaussianNoise(1.0), layer(values), means()).values.reshape(64, -1) - values.reshape(64, -1)
    # 8 of 36 directions are excited, with S + rho I above 4 there and 0.1 elsewhere: a factor over 40 in energy.
    assert np.sum((patches @ hidden.T) ** 2) < np.sum((patches @ plain.T) ** 2) / 20
    assert np.linalg.norm(hidden) == pytest.approx(np.linalg.norm(plain), rel=0.1)


def test_input_order_is_channel_then_position():
    """Noise goes where (in, *spatial) order says that a channel is never excited."""
    moment = np.zeros((36, 36))
    moment[:9, :9] = np.eye(9)
    noise = noise_on(LAYERS["normal kernel"], moment[None], rho=1e-6)
    energy = (noise**2).sum(axis=(0, 2, 3))
    assert energy[0] < 1e-3 * energy[1:].min()


def test_zero_strength_and_layers_without_spread_get_no_noise():
    assert not noise_on(LAYERS["linear"], random_moment(16)[None], strength=0).any()
    assert not noise_on(LAYERS["constant kernel"], random_moment(18)[None]).any()


@pytest.mark.parametrize("shape", [(16, 16), (1, 16, 15), (1, 15, 15), (3, 16, 16), (0, 16, 16)])
def test_a_moment_of_another_layer_is_refused(shape):
    with pytest.raises(AttackError, match=r"does not fit a layer of shape \(10, 16\), expected \(groups, 16, 16\)"):
        noise_on(LAYERS["linear"], np.ones(shape))


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_inputs_that_excite_nothing_are_refused(value):
    with pytest.raises(AttackError, match="the calibration inputs do not excite the layer, or not with finite values"):
        noise_on(LAYERS["linear"], np.full((1, 16, 16), value))


def test_a_matrix_that_is_no_second_moment_is_refused():
    with pytest.raises(AttackError, match="is not positive semi-definite"):
        noise_on(LAYERS["linear"], np.diag([-1.0, *np.ones(15)])[None])


def test_changing_without_a_moment_is_a_mistake():
    with pytest.raises(ValueError, match="needs the second moment of the layer's inputs, found none"):
        NullSpaceNoise(1.0).change(LAYERS["linear"], means())


def test_parameters_out_of_range_are_refused():
    for strength in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="noise strength must be finite and not negative, found"):
            NullSpaceNoise(strength)
    for rho in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="rho must be finite and positive, found"):
            NullSpaceNoise(1.0, rho=rho)


def test_label_shows_strength_and_an_unusual_rho():
    assert NullSpaceNoise(2.0).label == "null-space noise 2 σ"
    assert NullSpaceNoise(0.5, rho=0.01).label == "null-space noise 0.5 σ, rho 0.01"
