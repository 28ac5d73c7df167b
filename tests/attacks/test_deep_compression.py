"""Deep Compression in one attack: its three steps, one after the other, and the published order of its ratios."""

from __future__ import annotations

import numpy as np
import pytest

from onnxmark.attacks import DeepCompression, KMeansClustering, MagnitudePruning, apply_attack
from onnxmark.attacks.entropy_coding import decode, encode, sizes

from .subjects import LAYERS, generator, layer, means


def attacked(attack, values):
    return apply_attack(attack, layer(values), means()).values


@pytest.mark.parametrize("fraction", [0, 0.5, 0.9, 1])
@pytest.mark.parametrize("bits", [1, 5, 8])
@pytest.mark.parametrize("name", ["normal kernel", "heavy-tailed kernel", "linear", "two values"])
def test_it_is_pruning_and_then_clustering(name, bits, fraction):
    values = LAYERS[name]
    expected = attacked(KMeansClustering(bits), attacked(MagnitudePruning(fraction), values))
    np.testing.assert_array_equal(attacked(DeepCompression(fraction, bits), values), expected)


@pytest.mark.parametrize("fraction", [0, 0.5, 0.9, 1])
@pytest.mark.parametrize("name", ["normal kernel", "heavy-tailed kernel", "linear", "non-contiguous kernel"])
def test_coding_loses_no_bit(name, fraction):
    attack = DeepCompression(fraction)
    result = attacked(attack, LAYERS[name])
    assert decode(encode(result, attack.gap_bits)).tobytes() == result.tobytes()


def test_sizes_are_those_of_its_gap_bits():
    result = attacked(DeepCompression(0.9), LAYERS["normal kernel"])
    for bits in (2, 5, 8):
        assert DeepCompression(0.9, gap_bits=bits).sizes(result) == sizes(result, bits)
    assert DeepCompression(0.9, gap_bits=2).sizes(result) != DeepCompression(0.9, gap_bits=8).sizes(result)


def test_a_dense_layer_at_the_papers_settings_shrinks_as_the_paper_says():
    # LeNet-5's largest layer: 8 % left, 5 bits. The paper's whole network comes to 39 times, most of it this layer.
    values = generator(4).normal(0, 0.05, (500, 800)).astype(np.float32)
    found = DeepCompression(0.92).sizes(attacked(DeepCompression(0.92), values))
    assert found.n_stored == 32_000
    assert 35 < found.clustered_ratio < found.coded_ratio < 55


def test_stronger_recipes_are_smaller():
    values = generator(6).normal(0, 0.05, (200, 300)).astype(np.float32)
    recipes = [DeepCompression(0.5, 8), DeepCompression(0.5, 4), DeepCompression(0.8, 4), DeepCompression(0.95, 2)]
    ratios = [recipe.sizes(attacked(recipe, values)).coded_ratio for recipe in recipes]
    assert ratios == sorted(ratios)


@pytest.mark.parametrize("bits", [0, 17, 5.0, True])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(ValueError, match="bits must be a whole number from 1 to 16, found"):
        DeepCompression(0.9, bits=bits)


@pytest.mark.parametrize("bits", [0, 17, 5.0, True])
def test_gap_bits_out_of_range_are_refused(bits):
    with pytest.raises(ValueError, match="the bits of a gap must be a whole number from 1 to 16, found"):
        DeepCompression(0.9, gap_bits=bits)


@pytest.mark.parametrize("fraction", [-0.01, 1.01, float("nan")])
def test_fractions_out_of_range_are_refused(fraction):
    with pytest.raises(ValueError, match=r"must be from 0 to 1 \(0\.65 for 65 %\), found (-?[\d.]+|nan)"):
        DeepCompression(fraction)


def test_label_names_what_differs_from_the_default():
    assert DeepCompression(0.9).label == "Deep Compression 90 %, 5 bit"
    assert DeepCompression(0.92, 8, gap_bits=8).label == "Deep Compression 92 %, 8 bit, gaps 8 bit"
