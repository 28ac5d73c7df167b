"""Shifts: what they do to the mean filter, what they leave alone, and which marks fall."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from onnxmark.attacks import ConstantShift, MeanScramble, WeightShifting, apply_attack
from onnxmark.keys import Carrier, Key, Secret
from onnxmark.schemes.projection.projection import own_projection

from .subjects import LAYERS, generator, layer, means

SHAPES = ["normal kernel", "linear", "1-D convolution", "1x1 kernel"]
some_layers = pytest.mark.parametrize("values", [LAYERS[name] for name in SHAPES], ids=SHAPES)


def attacked(attack, values, seed=0):
    return apply_attack(attack, layer(values), means(seed)).values.astype(np.float64)


def scores(kind, values):
    """Scores of a key of 20 bits, shape (20,)."""
    parameters = {"generator": "rademacher", "carrier": kind}
    key = Key("projection", Secret(bytes(32)), bytes(32), np.zeros(20, np.uint8), (Carrier(values.shape),), parameters)
    return own_projection(key, values.shape).scores(values.astype(np.float32))


def mean_filter(values):
    """Added up filter by filter."""
    total = np.zeros(values.shape[1:])
    for each in values:
        total += each.astype(np.float64)
    return total / len(values)


@some_layers
@pytest.mark.parametrize("strength", [0, 0.5, 1.0, 1.5, 2.0])
def test_weight_shifting_takes_the_mean_from_every_filter(values, strength):
    result = attacked(WeightShifting(strength), values)
    for before, after in zip(values, result, strict=True):
        np.testing.assert_allclose(after, before - strength * mean_filter(values), atol=1e-7)


@some_layers
def test_weight_shifting_by_one_leaves_no_mean_and_by_two_turns_it_round(values):
    np.testing.assert_allclose(mean_filter(attacked(WeightShifting(1.0), values)), 0, atol=1e-8)
    np.testing.assert_allclose(mean_filter(attacked(WeightShifting(2.0), values)), -mean_filter(values), atol=1e-7)


def test_weight_shifting_turns_every_bit_in_the_mean_and_leaves_the_full_tensor_readable():
    values = generator(5).normal(0.02, 0.05, (64, 16, 3, 3)).astype(np.float32)
    shifted = attacked(WeightShifting(1.5), values)
    np.testing.assert_allclose(scores("mean-ihw", shifted), -0.5 * scores("mean-ihw", values), rtol=1e-3, atol=1e-6)
    assert np.corrcoef(scores("full", shifted), scores("full", values))[0, 1] > 0.9


def test_noise_of_weight_shifting_is_normal_and_of_the_size_asked_for():
    values = generator(1).normal(3, 0.05, (100, 100)).astype(np.float32)
    noise = attacked(WeightShifting(1.5, noise=0.5), values) - attacked(WeightShifting(1.5), values)
    # 10^4 values near 1.5 stored as float32 add 1e-7 to noise of 0.025.
    assert stats.kstest(noise.ravel() / (0.5 * values.std(dtype=np.float64)), "norm").pvalue > 1e-3


def test_without_noise_weight_shifting_is_the_same_for_every_seed():
    one, other = (attacked(WeightShifting(1.0), LAYERS["linear"], seed) for seed in (1, 2))
    np.testing.assert_array_equal(one, other)


@some_layers
@pytest.mark.parametrize("strength", [-1.0, 0, 0.3, 1.0])
def test_constant_shift_adds_a_multiple_of_the_standard_deviation(values, strength):
    shift = attacked(ConstantShift(strength), values) - values
    np.testing.assert_allclose(shift, strength * values.astype(np.float64).std(), atol=1e-6)


def test_constant_shift_passes_by_centred_keys_and_hurts_the_mean():
    values = LAYERS["normal kernel"]
    shifted = attacked(ConstantShift(3.0), values)
    np.testing.assert_allclose(scores("full", shifted), scores("full", values), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(scores("fold:64", shifted), scores("fold:64", values), rtol=1e-3, atol=1e-5)
    change = scores("mean-ihw", shifted) - scores("mean-ihw", values)
    assert np.abs(change).max() > np.abs(scores("mean-ihw", values)).max()


@pytest.mark.parametrize("name", ["constant kernel", "zero kernel", "one weight"])
def test_constant_shift_has_no_unit_where_weights_do_not_spread(name):
    np.testing.assert_array_equal(attacked(ConstantShift(3.0), LAYERS[name]), LAYERS[name])


@some_layers
@pytest.mark.parametrize("strength", [0, 1.0, 3.0])
def test_mean_scramble_adds_one_vector_of_the_norm_asked_for_to_all_filters(values, strength):
    added = attacked(MeanScramble(strength), values) - values
    assert np.ptp(added, axis=0).max() <= 1e-6
    np.testing.assert_allclose(
        np.linalg.norm(added.mean(axis=0)), strength * np.linalg.norm(mean_filter(values)), rtol=1e-5, atol=1e-9
    )


def test_mean_scramble_prefers_no_direction():
    values = LAYERS["linear"]
    vectors = np.array([(attacked(MeanScramble(3.0), values, seed) - values).mean(axis=0) for seed in range(500)])
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    # The square of one coordinate of a uniform direction in n dimensions is Beta(1/2, (n - 1) / 2).
    for coordinate in (0, 7, 15):
        assert stats.kstest(directions[:, coordinate] ** 2, stats.beta(0.5, 7.5).cdf).pvalue > 1e-3
        assert stats.binomtest(int(np.sum(directions[:, coordinate] > 0)), 500).pvalue > 1e-3


def test_mean_scramble_leaves_a_layer_without_a_mean_alone():
    values = np.concatenate([LAYERS["linear"], -LAYERS["linear"]])
    np.testing.assert_allclose(attacked(MeanScramble(3.0), values), values, atol=1e-8)


@pytest.mark.parametrize("amount", [-0.1, float("nan"), float("inf")])
def test_amounts_out_of_range_are_refused(amount):
    with pytest.raises(ValueError, match=r"strength of weight shifting must be finite and not negative, found"):
        WeightShifting(amount)
    with pytest.raises(ValueError, match=r"noise of weight shifting must be finite and not negative, found"):
        WeightShifting(1.0, noise=amount)
    with pytest.raises(ValueError, match=r"strength of mean scrambling must be finite and not negative, found"):
        MeanScramble(amount)


@pytest.mark.parametrize("amount", [float("nan"), float("-inf")])
def test_a_constant_that_is_not_finite_is_refused(amount):
    with pytest.raises(ValueError, match=r"the constant shift must be finite, found (nan|-inf)"):
        ConstantShift(amount)


def test_labels_show_what_was_done():
    assert WeightShifting(1.0).label == "weight shifting 1 means"
    assert WeightShifting(1.5, noise=1.0).label == "weight shifting 1.5 means, noise 1 σ"
    assert ConstantShift(-0.3).label == "constant shift -0.3 σ"
    assert MeanScramble(3.0).label == "mean scramble 3 norms"
