"""Figures of a real third-party mark: 256 bits of Uchida et al. in a 3x3x64x64 kernel, trained with the original code.

The kernel, its key and its bits are not part of the repository; where they lie beside it the whole table is checked, to
the digits it prints. Figures that are means over draws are held to four standard errors of the mean.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxmark.attacks import (
    Attack,
    GaussianNoise,
    KMeansClustering,
    LargestFirstPruning,
    MagnitudePruning,
    RandomPruning,
    UniformQuantisation,
    apply_attack,
)
from onnxmark.keys import load_key
from onnxmark.schemes.projection.scheme import ProjectionScheme

from .subjects import layer, means

DATA = Path(__file__).parents[2].parent / "shared/data/uchida-replication"
DRAWS = 50

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="the replication's kernel and key are not beside the repository"
)


@pytest.fixture(scope="module")
def host():
    return layer(np.load(DATA / "random_kernel_hwio.npy").transpose(3, 2, 0, 1))


@pytest.fixture(scope="module")
def read():
    key = load_key(DATA / "random_layer7_w.npy", DATA / "random_layer7_b.npy")
    scheme = ProjectionScheme()

    def evidence(weights):
        reading = next(some for some in scheme.readings(key, (weights.shape,)) if some.kind == "mean-hwi")
        return scheme.extract(key, (weights,), reading)

    return evidence


def attacked(attack: Attack, host, seed: int = 0):
    return apply_attack(attack, host, means(seed))


def test_unattacked_mark_is_read_without_error(host, read):
    evidence = read(host)
    assert evidence.n_errors == 0
    assert f"{evidence.embedding_loss:.3e}" == "4.834e-04"


@pytest.mark.parametrize(
    ("attack", "bit_error_rate"),
    [
        *((MagnitudePruning(fraction), "0.000") for fraction in (0.10, 0.30, 0.50, 0.60, 0.65, 0.70)),
        (MagnitudePruning(0.75), "0.008"),
        (MagnitudePruning(0.80), "0.016"),
        (MagnitudePruning(0.90), "0.039"),
        (MagnitudePruning(0.95), "0.105"),
        (LargestFirstPruning(0.10), "0.008"),
        (LargestFirstPruning(0.50), "0.203"),
        (LargestFirstPruning(0.90), "0.461"),
        *((UniformQuantisation(bits), "0.000") for bits in (8, 6, 5, 4, 3)),
        (UniformQuantisation(2), "0.383"),
        *((KMeansClustering(bits), "0.000") for bits in (8, 7, 6, 5, 4, 3, 2)),
    ],
    ids=lambda value: getattr(value, "label", value),
)
def test_bit_error_rate_of_attacks_without_chance(host, read, attack, bit_error_rate):
    assert f"{read(attacked(attack, host)).bit_error_rate:.3f}" == bit_error_rate


@pytest.mark.parametrize(
    ("attack", "loss"),
    [
        (MagnitudePruning(0.10), "4.9e-04"),
        (MagnitudePruning(0.30), "5.6e-04"),
        (MagnitudePruning(0.50), "1.2e-03"),
        (MagnitudePruning(0.65), "5.1e-03"),
        (MagnitudePruning(0.70), "1.0e-02"),
        (UniformQuantisation(3), "4.2e-03"),
        # The reference figure, 1.5e-3, takes k-means stopped early; run until it settles it comes to 1.4e-3.
        (KMeansClustering(2, rounds=20), "1.5e-03"),
        (KMeansClustering(2), "1.4e-03"),
    ],
    ids=lambda value: getattr(value, "label", value),
)
def test_embedding_loss_of_attacks_without_chance(host, read, attack, loss):
    assert f"{read(attacked(attack, host)).embedding_loss:.1e}" == loss


def test_embedding_loss_at_60_percent(host, read):
    # The reference prints 2.8e-3: 2.75e-3 rounded once more. Floor, round and ceiling of the count all give 2.75e-3.
    assert f"{read(attacked(MagnitudePruning(0.60), host)).embedding_loss:.2e}" == "2.75e-03"


@pytest.mark.parametrize(
    ("attack", "bit_error_rate"),
    [
        (RandomPruning(0.70), 0),
        (RandomPruning(0.80), 0.0005),
        (RandomPruning(0.90), 0.010),
        (RandomPruning(0.95), 0.055),
        *((GaussianNoise(strength), 0) for strength in (0.1, 0.5, 1.0)),
        (GaussianNoise(2.0), 0.0006),
        (GaussianNoise(3.0), 0.012),
        (GaussianNoise(5.0), 0.085),
    ],
    ids=lambda value: getattr(value, "label", str(value)),
)
def test_mean_bit_error_rate_of_attacks_by_chance(host, read, attack, bit_error_rate):
    rates = [read(attacked(attack, host, seed)).bit_error_rate for seed in range(DRAWS)]
    standard_error = np.std(rates, ddof=1) / np.sqrt(DRAWS)
    assert abs(np.mean(rates) - bit_error_rate) <= 4 * standard_error
