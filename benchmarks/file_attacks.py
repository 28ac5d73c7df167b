"""Attacks on a file, without training: what each does to a mark and to accuracy, reference figures beside ours.

Two tables. The first is the robustness of somebody else's trained mark (:mod:`benchmarks.uchida_replication`), whose
data are not shipped. The second puts 256 bits into one 64x64x3x3 layer of a network of ours in three ways, and attacks
that layer alone. Its reference figures are of another network (scikit-learn's digits), so directions count there, not
decimals. Margins are in standard deviations of a random key's score on the *unmarked* weights, as theirs are; the
activation statistics behind null-space noise are those of 400 training images.

    python -m benchmarks.file_attacks [DATA_DIR]
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import uchida_replication
from benchmarks.display import progress, write_json
from benchmarks.fashion_net import N_UNLABELLED, SHAPE, Data, host_layer, input_moment, public_key, trained_net
from benchmarks.kernel_changes import (
    Change,
    expanded,
    flipped,
    in_turn,
    permuted,
    rescaled,
    with_dummies,
    with_stored_norms,
)
from fixtures.make import DATA
from onnxmark.arrays import Float32Array, Float64Array
from onnxmark.attacks import (
    Attack,
    ConstantShift,
    GaussianNoise,
    MagnitudePruning,
    Means,
    MeanScramble,
    NullSpaceNoise,
    Overwriting,
    Soup,
    UniformQuantisation,
    WeightShifting,
    apply_attack,
)
from onnxmark.attacks.overwriting import raised
from onnxmark.schemes.projection.carriers import FULL, MEAN_IHW
from onnxmark.schemes.projection.extraction import read_message
from onnxmark.schemes.projection.projection import Projection, own_projection

DRAWS: Final = 10
MARKS: Final = ((MEAN_IHW, 1.0), (FULL, 1.0), (FULL, 2.0))
"""Kind of carrier, and what every bit is raised to."""
KEPT: Final = "kept"
"""A symmetry of the network: its accuracy does not change, once the neighbouring layers follow."""


@dataclass(frozen=True, slots=True)
class Row:
    """One attack and its reference figures.

    Args:
        label: The attack.
        change: What it does to the layer.
        rates: Reference bit error rates by mark, as printed; empty where there is none.
        accuracy: Reference change of accuracy, as printed; empty where there is none.
        draws: How many draws to average.
    """

    label: str
    change: Change
    rates: tuple[str, str, str]
    accuracy: str = KEPT
    draws: int = DRAWS


def of(attack: Attack, rates: tuple[str, str, str], accuracy: str = "") -> Row:
    """The row of one of our attacks."""
    return Row(attack.label, _by(attack), rates, accuracy, DRAWS if attack.random else 1)


def _by(attack: Attack) -> Change:
    return lambda values, means: apply_attack(attack, host_layer(values), means).values


def _rounded(bits: int) -> Change:
    return _by(UniformQuantisation(bits, per_channel=True, symmetric=True))


def integers(bits: int, rates: tuple[str, str, str], accuracy: str) -> Row:
    """The row of symmetric integers with a scale for each filter."""
    return Row(f"int{bits} per channel", _rounded(bits), rates, accuracy, 1)


EVERYTHING: Final = in_turn(
    with_dummies(4, 2, 5, shuffled=True), rescaled(0.5, 0, 1), _by(GaussianNoise(0.1)), _rounded(8)
)

TABLE: Final[tuple[Row, ...]] = (
    Row("none", lambda values, _: values, (".000", ".000", ".000"), "", draws=1),
    Row("permuting input channels", permuted(1), (".506", "", "")),
    Row("permuting filters", permuted(0), (".000", "", "destroyed")),
    Row("rescaling both sides, log-sd .5", rescaled(0.5, 0, 1), (".095", "", "")),
    Row("rescaling both sides, log-sd 1.5", rescaled(1.5, 0, 1), (".391", "", "")),
    Row("sign flip of input channels", flipped(1), (".441-.457", "", "")),
    Row("sign flip of filters", flipped(0), (".52", "", "")),
    Row("13 zero channels appended", with_dummies(zeros=13), ("", "", "")),
    Row("6 cliques appended", with_dummies(pairs=6), ("", "", "")),
    Row("13 channels split", with_dummies(splits=13), ("", "", "")),
    Row("20 % dummies of all kinds appended", with_dummies(4, 2, 5), (".03", "", "")),
    Row("20 % dummies of all kinds, shuffled", with_dummies(4, 2, 5, shuffled=True), (".48", "", "")),
    Row("kernels to 5x5, cut again", expanded, (".000", "", ""), draws=1),
    Row("all: dummies, .5, noise .1 σ, int8", EVERYTHING, (".483-.512", "", "")),
    Row("BN folded, log-sd .25", rescaled(0.25, 0), (".001", "", ".000")),
    Row("BN folded, log-sd .5", rescaled(0.5, 0), (".026", "", ".000")),
    Row("BN folded, log-sd 1", rescaled(1.0, 0), (".191", "", ".065")),
    Row("BN folded, log-sd 1, stored norms", in_turn(rescaled(1.0, 0), with_stored_norms), (".0000", "", ".0000")),
    of(WeightShifting(1.0), (".487 FT", "", ".000 FT"), "-.008–-.038"),
    of(WeightShifting(1.5), (".971 FT", "", ".000 FT"), "-.008–-.038"),
    of(WeightShifting(1.5, noise=1.0), (".661 FT", "", ".066 FT"), "-.02 FT"),
    of(ConstantShift(0.3), (".328", "", ".000")),
    of(ConstantShift(1.0), (".426", "", ".000")),
    of(Overwriting(3.0), (".378-.417", ".029", ".000"), "0–-.008"),
    of(Overwriting(3.0, carrier=FULL), (".000", "", ".000"), ""),
    of(MeanScramble(3.0), (".371", "", ".000"), "-.006"),
    of(NullSpaceNoise(1.0), (".040", ".152", ".021"), "0"),
    of(NullSpaceNoise(2.0), (".171", ".306", ".167"), "-.003"),
    of(MagnitudePruning(0.5), ("0", "", "0"), "0"),
    of(MagnitudePruning(0.8), (".048-.062", "", ".012"), "-.03"),
    of(MagnitudePruning(0.9), (".19", "", ".125"), "-.13"),
    of(MagnitudePruning(0.95), (".29", "", ".234"), "-.40"),
    integers(8, ("0", "", "0"), "0"),
    integers(4, ("0", "", "0"), "0"),
    integers(3, ("0", "", "0"), "-.005"),
    integers(2, (".20", "", ".108"), "-.40"),
    of(GaussianNoise(0.5), (".001", "", "0"), "-.01"),
    of(GaussianNoise(1.0), (".04-.05", "", ".016"), "-.12"),
    of(GaussianNoise(2.0), (".18", "", ".147"), "-.65"),
    of(Soup(0.5), (".145-.18", "", ".026"), "0"),
    of(Soup(0.75), (".344", "", ".257"), "0"),
)
"""FT: their figure is after fine-tuning, which ``benchmarks.mean_against_full`` repeats."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attack left of a mark, and of the network, as means over draws.

    Args:
        bit_error_rate: Wrong bits over T.
        error: Standard error of that mean; 0 where there is one draw.
        log10_p: Of the better of the two signs, uncorrected.
        accuracy: Change against the unmarked network; NaN where the attack keeps the function.
    """

    bit_error_rate: float
    error: float
    log10_p: float
    accuracy: float


class Bench:
    """The unmarked network and its marked copies."""

    def __init__(self, data: Data) -> None:
        self._net = trained_net(data, 0)
        self._labels = torch.from_numpy(data.test.labels)
        # Only the host layer changes from here on: what it receives is computed once.
        with torch.inference_mode():
            self._features = self._net.features(torch.from_numpy(data.test.pixels))
        self._unmarked = self._net.host
        self._moment = input_moment(self._net, data.training.pixels[:N_UNLABELLED])
        self.accuracy = self._accuracy(self._unmarked)
        self._marked = [self._mark(kind, margin) for kind, margin in MARKS]

    def relative_changes(self) -> list[float]:
        """Norm of each mark over the norm of the layer."""
        size = np.linalg.norm(self._unmarked)
        return [float(np.linalg.norm(marked - self._unmarked) / size) for _, marked in self._marked]

    def outcomes(self, row: Row) -> list[Outcome]:
        """What an attack leaves of each mark."""
        return [self._outcome(row, projection, marked) for projection, marked in self._marked]

    def _mark(self, kind: str, margin: float) -> tuple[Projection, Float32Array]:
        projection = own_projection(public_key("owner 0", kind), SHAPE)
        return projection, raised(self._unmarked, projection, margin * projection.unit(self._unmarked))

    def _outcome(self, row: Row, projection: Projection, marked: Float32Array) -> Outcome:
        draws = np.array([self._draw(row, projection, marked, seed) for seed in range(row.draws)])
        rate, log10_p, accuracy = draws.mean(axis=0)
        error = draws[:, 0].std(ddof=1) / np.sqrt(row.draws) if row.draws > 1 else 0.0
        return Outcome(float(rate), float(error), float(log10_p), float(accuracy))

    def _draw(self, row: Row, projection: Projection, marked: Float32Array, seed: int) -> Float64Array:
        """Bit error rate, log10 p and change of accuracy."""
        means = Means(np.random.default_rng(seed), reference=self._unmarked, second_moment=self._moment)
        values = row.change(marked, means)
        evidence = read_message(projection, host_layer(values), fair=True)
        change = np.nan if row.accuracy == KEPT else self._accuracy(values) - self.accuracy
        return np.array([evidence.bit_error_rate, evidence.log10_p, change])

    def _accuracy(self, values: Float32Array) -> float:
        net = self._net.with_host(values)
        with torch.inference_mode():
            said = torch.cat([net.classify(part).argmax(dim=1) for part in torch.split(self._features, 500)])
        return float((said == self._labels).float().mean())


def measure(data: Data) -> tuple[Bench, list[list[Outcome]]]:
    """Outcomes by row and mark."""
    bench = Bench(data)
    outcomes = []
    with progress("attacks", len(TABLE)) as done:
        for row in TABLE:
            outcomes.append(bench.outcomes(row))
            done(1)
    return bench, outcomes


def table(bench: Bench, outcomes: list[list[Outcome]]) -> Table:
    """Ours beside theirs."""
    changes = ", ".join(f"{change:.3f}" for change in bench.relative_changes())
    title = (
        "256 bits in 64x64x3x3 (mean raised to 1, full to 1, full to 2), each BER with the reference behind it; "
        f"unmarked accuracy {bench.accuracy:.4f}, relative changes {changes}"
    )
    shown = Table(title=title)
    shown.add_column("attack", no_wrap=True)
    for heading in ("mean 1", "", "full 1", "", "full 2", "", "log10 p", "accuracy: mean 1", "full 2", "theirs"):
        shown.add_column(heading, justify="right")
    for row, by_mark in zip(TABLE, outcomes, strict=True):
        rates = [cell for mark, rate in zip(by_mark, row.rates, strict=True) for cell in (_rate(mark), rate)]
        costs = [_cost(by_mark[0].accuracy), _cost(by_mark[-1].accuracy)]
        shown.add_row(row.label, *rates, f"{by_mark[-1].log10_p:.1f}", *costs, row.accuracy)
    return shown


def _rate(outcome: Outcome) -> str:
    return f"{outcome.bit_error_rate:.3f}" + (f" ± {outcome.error:.3f}" if outcome.error else "")


def _cost(change: float) -> str:
    return "" if np.isnan(change) else f"{change:+.4f}"


def _plain(outcome: Outcome) -> dict[str, float | None]:
    """An outcome for JSON, which has no NaN."""
    return {name: None if np.isnan(value) else value for name, value in asdict(outcome).items()}


def main() -> None:
    """Read the command line and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "replication",
        type=Path,
        nargs="?",
        metavar="DATA_DIR",
        help="folder of the replicated mark",
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder of Fashion-MNIST's four IDX .gz files")
    parser.add_argument("--threads", type=int, default=2, help="of torch; 1 where the machine has other work")
    parser.add_argument("--json", type=Path, default=None, help="write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    console = Console(width=170)
    if arguments.replication is not None:
        console.print(uchida_replication.table(arguments.replication))
    bench, outcomes = measure(Data.load(arguments.data))
    console.print(table(bench, outcomes))
    figures = {row.label: [_plain(mark) for mark in by_mark] for row, by_mark in zip(TABLE, outcomes, strict=True)}
    write_json(arguments.json, {"unmarked": bench.accuracy, "outcomes": figures})


if __name__ == "__main__":
    main()
