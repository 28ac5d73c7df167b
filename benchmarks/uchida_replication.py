"""Does onnxmark reproduce the robustness of a mark somebody else trained? Ours beside the reference figures.

The mark: 256 bits, random key, in the 3x3x64x64 kernel of a wide residual network trained on CIFAR-10 for 200 epochs
with the original code of Uchida et al. (ICMR 2017, arXiv 1701.04082). Run as::

    python benchmarks/uchida_replication.py DATA_DIR

where DATA_DIR holds ``random_kernel_hwio.npy`` (kernel, Keras order), ``random_layer7_w.npy`` (key, 576 x 256) and
``random_layer7_b.npy`` (bits). The reference figures were measured on the same kernel by other code; rows drawn at
random are means over 50 seeded draws here. The last two reference figures are what a single draw may give (standard
deviation over draws .03), not means.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from onnxmark.arrays import Float32Array, Float64Array
from onnxmark.attacks import (
    Attack,
    GaussianNoise,
    KMeansClustering,
    LargestFirstPruning,
    MagnitudePruning,
    Means,
    RandomPruning,
    UniformQuantisation,
    apply_attack,
)
from onnxmark.keys import AnyKey, load_key
from onnxmark.schemes.projection.carriers import MEAN_HWI
from onnxmark.schemes.projection.scheme import ProjectionScheme
from onnxmark.weights import Origin, WeightTensor

DRAWS: Final = 50

Change = Callable[[WeightTensor, np.random.Generator], WeightTensor]


@dataclass(frozen=True, slots=True)
class Row:
    """One attack and its reference figures.

    Args:
        label: The attack.
        change: What it does to the layer.
        draws: How many draws to average.
        bit_error_rate: Reference bit error rate, as printed.
        loss: Reference mean embedding loss, as printed; empty where there is none.
    """

    label: str
    change: Change
    draws: int
    bit_error_rate: str
    loss: str = ""


def of(attack: Attack, bit_error_rate: str, loss: str = "") -> Row:
    """The row of one of our attacks."""
    return Row(
        attack.label,
        lambda weights, rng: apply_attack(attack, weights, Means(rng)),
        DRAWS if attack.random else 1,
        bit_error_rate,
        loss,
    )


def permuted_filters(weights: WeightTensor, rng: np.random.Generator) -> WeightTensor:
    """Output filters in another order."""
    return weights.with_values(weights.values[rng.permutation(weights.shape[0])])


def permuted_inputs(weights: WeightTensor, rng: np.random.Generator) -> WeightTensor:
    """Input channels in another order: the previous layer's neurons were permuted."""
    return weights.with_values(weights.values[:, rng.permutation(weights.shape[1])])


def rescaled_filters(weights: WeightTensor, rng: np.random.Generator) -> WeightTensor:
    """Each filter times a log-normal factor with sigma 1."""
    return weights.with_values(weights.values * _per_filter(weights, np.exp(rng.standard_normal(weights.shape[0]))))


def flipped_filters(weights: WeightTensor, rng: np.random.Generator) -> WeightTensor:
    """Half of the filters with their sign reversed."""
    signs = np.ones(weights.shape[0])
    signs[rng.permutation(signs.size)[: signs.size // 2]] = -1
    return weights.with_values(weights.values * _per_filter(weights, signs))


def without_filters(fraction: float) -> Change:
    """Removal of the floor of a fraction of the filters, those of smallest L1 norm first."""

    def change(weights: WeightTensor, rng: np.random.Generator) -> WeightTensor:
        norms = np.abs(weights.values).sum(axis=tuple(range(1, weights.values.ndim)))
        kept = np.sort(np.argsort(norms, kind="stable")[math.floor(fraction * norms.size) :])
        return weights.with_values(weights.values[kept])

    return change


def _per_filter(weights: WeightTensor, factors: Float64Array) -> Float32Array:
    return factors.astype(np.float32).reshape(-1, *(1,) * (weights.values.ndim - 1))


TABLE: Final[tuple[Row, ...]] = (
    Row("none", lambda weights, _: weights, 1, "0", "4.834e-4"),
    of(MagnitudePruning(0.10), "0", "4.9e-4"),
    of(MagnitudePruning(0.30), "0", "5.6e-4"),
    of(MagnitudePruning(0.50), "0", "1.2e-3"),
    of(MagnitudePruning(0.60), "0", "2.8e-3"),
    of(MagnitudePruning(0.65), "0", "5.1e-3"),
    of(MagnitudePruning(0.70), "0", "1.0e-2"),
    of(MagnitudePruning(0.75), ".008"),
    of(MagnitudePruning(0.80), ".016"),
    of(MagnitudePruning(0.90), ".039"),
    of(MagnitudePruning(0.95), ".105"),
    of(LargestFirstPruning(0.10), ".008"),
    of(LargestFirstPruning(0.50), ".203"),
    of(LargestFirstPruning(0.90), ".461"),
    of(RandomPruning(0.70), "0"),
    of(RandomPruning(0.80), ".0005"),
    of(RandomPruning(0.90), ".010"),
    of(RandomPruning(0.95), ".055"),
    *(of(UniformQuantisation(bits), "0") for bits in (8, 6, 5, 4)),
    of(UniformQuantisation(3), "0", "4.2e-3"),
    of(UniformQuantisation(2), ".383"),
    *(of(KMeansClustering(bits), "0") for bits in (8, 7, 6, 5, 4, 3)),
    of(KMeansClustering(2), "0", "1.5e-3"),
    of(KMeansClustering(2, rounds=20), "0", "1.5e-3"),
    *(of(GaussianNoise(strength), "0") for strength in (0.1, 0.5, 1.0)),
    of(GaussianNoise(2.0), ".0006"),
    of(GaussianNoise(3.0), ".012"),
    of(GaussianNoise(5.0), ".085"),
    Row("permuting output filters", permuted_filters, DRAWS, "0"),
    *(
        Row(f"removing {10 * tenths} % of the filters by L1", without_filters(tenths / 10), 1, "0")
        for tenths in range(1, 10)
    ),
    Row("rescaling filters, log-normal sigma 1", rescaled_filters, DRAWS, "0"),
    Row("permuting input channels", permuted_inputs, DRAWS, ".547"),
    Row("sign flip of half the filters", flipped_filters, DRAWS, ".54"),
)


def read(key: AnyKey, weights: WeightTensor) -> tuple[float, float]:
    """Bit error rate (an erasure is an error) and mean embedding loss, read in the original code's flatten order."""
    scheme = ProjectionScheme()
    reading = next(some for some in scheme.readings(key, (weights.shape,)) if some.kind == MEAN_HWI)
    evidence = scheme.extract(key, (weights,), reading)
    return evidence.bit_error_rate, evidence.embedding_loss or 0.0


def measured(key: AnyKey, host: WeightTensor, row: Row) -> Float64Array:
    """Bit error rate and mean embedding loss of each draw, shape (draws, 2)."""
    return np.array([read(key, row.change(host, np.random.default_rng(seed))) for seed in range(row.draws)])


def cells(key: AnyKey, host: WeightTensor) -> Iterator[tuple[str, ...]]:
    """The cells of the table, row by row."""
    for row in TABLE:
        draws = measured(key, host, row)
        rate, loss = draws.mean(axis=0)
        error = f" ± {draws[:, 0].std(ddof=1) / np.sqrt(row.draws):.4f}" if row.draws > 1 else ""
        yield row.label, f"{rate:.4f}{error}", row.bit_error_rate, f"{loss:.3e}", row.loss


def load(folder: Path) -> tuple[AnyKey, WeightTensor]:
    """The key and the kernel in canonical order."""
    kernel = np.load(folder / "random_kernel_hwio.npy").transpose(3, 2, 0, 1)
    origin = Origin("conv2", "Conv", 0, "Keras kernel, HWIO")
    key = load_key(folder / "random_layer7_w.npy", folder / "random_layer7_b.npy")
    return key, WeightTensor("kernel", np.ascontiguousarray(kernel), origin)


def table(folder: Path) -> Table:
    """The whole table, measured on the data in a folder."""
    shown = Table(title="Uchida et al., random key, 256 bits in a 3x3x64x64 kernel (± standard error of the mean)")
    for heading in ("attack", "BER", "reference", "mean loss", "reference"):
        shown.add_column(heading, justify="left" if heading == "attack" else "right")
    for row in cells(*load(folder)):
        shown.add_row(*row)
    return shown


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description="Robustness of a replicated Uchida mark: ours beside the reference figures."
    )
    parser.add_argument("data", type=Path, metavar="DATA_DIR", help="folder with the kernel, the key and its bits")
    Console().print(table(parser.parse_args().data))


if __name__ == "__main__":
    main()
