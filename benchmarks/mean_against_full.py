"""Why marks go into the whole tensor: attacks on the mean over filters, on marks in the mean and in the full tensor.

The mean that Uchida et al. read (ICMR 2017, arXiv 1701.04082) is public, so an attacker can subtract it, and one epoch
of fine-tuning restores the accuracy. Six ways to put 256 bits into the same layer meet the same attacks here; reference
figures of an independent run on the same data, one seed, stand beside ours. A bit error rate near 1 is no failure to
read: the mark was turned round, and an audit reports it as inverted.

    python -m benchmarks.mean_against_full [--data DIR] [--seeds 3]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from rich.table import Table

from benchmarks.display import progress, wide_console, write_json
from benchmarks.fashion_net import (
    N_UNLABELLED,
    SHAPE,
    Data,
    FashionNet,
    accuracy,
    fine_tuned,
    host_layer,
    input_moment,
    public_key,
    trained_net,
)
from fixtures.make import DATA
from onnxmark.attacks import Attack, Means, MeanScramble, Overwriting, WeightShifting, apply_attack
from onnxmark.attacks.overwriting import raised
from onnxmark.schemes.projection.carriers import FULL, MEAN_IHW
from onnxmark.schemes.projection.extraction import read_message
from onnxmark.schemes.projection.metric import ActivationMetric
from onnxmark.schemes.projection.projection import Projection, own_projection


@dataclass(frozen=True, slots=True)
class Way:
    """One way to put a mark into the network.

    Args:
        name: In words.
        kind: Kind of carrier.
        margin: What the closed form raises every bit to, in standard deviations of a random key's score on the unmarked
            weights; 0 where the mark is trained.
        activation: Whether a change costs what the layer's outputs notice of it.
        accuracy: Reference change of accuracy.
        growth: Reference norm of the change over the norm of the weights; for trained marks, growth of the weights.
    """

    name: str
    kind: str
    margin: float = 0.0
    activation: bool = False
    accuracy: str = ""
    growth: str = ""


WAYS: Final = (
    Way("closed form, mean, 1, identity", MEAN_IHW, 1.0, accuracy="-.0007", growth=".194"),
    Way("closed form, mean, 1, activation", MEAN_IHW, 1.0, activation=True, accuracy="+.0002", growth=".226"),
    Way("closed form, full, 2, identity", FULL, 2.0, accuracy="-.0036", growth=".183"),
    Way("closed form, full, 2, activation", FULL, 2.0, activation=True, accuracy=".0000", growth=".210"),
    Way("trained, mean (Uchida)", MEAN_IHW, accuracy="-.0072", growth="x2.91"),
    Way("trained, full", FULL, accuracy="-.0008", growth="x1.09"),
)


@dataclass(frozen=True, slots=True)
class Strike:
    """An attack, whether an epoch of fine-tuning follows, and reference bit error rates by way; empty where none."""

    attack: Attack | None
    tuned: bool = False
    references: tuple[str, ...] = ("",) * len(WAYS)

    @property
    def label(self) -> str:
        """The attack in words."""
        return "none" if self.attack is None else self.attack.label


STRIKES: Final = (
    Strike(None),
    Strike(WeightShifting(1.0), tuned=True, references=(".496", ".492", ".000", ".000", ".320", ".000")),
    Strike(WeightShifting(1.5), tuned=True, references=(".988", ".984", ".000", ".000", "1.000", ".000")),
    Strike(WeightShifting(1.5, noise=1.0), tuned=True, references=(".661*", "", ".066*", "", "", "")),
    Strike(Overwriting(3.0), references=(".378-.417*", "", ".000*", "", "", "")),
    Strike(Overwriting(3.0, carrier=FULL), references=(".000*", "", ".000*", "", "", "")),
    Strike(MeanScramble(3.0), references=(".371*", "", ".000*", "", "", "")),
)
"""References with a star are of another network (digits, five seeds); the others of one seed on this data."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left of a mark after a strike.

    Args:
        bit_error_rate: Wrong bits over T.
        log10_p: Of the better of the two signs, uncorrected.
        at_once: Accuracy right after the attack, minus the unmarked network's.
        at_last: The same after fine-tuning; equal to ``at_once`` where there is none.
    """

    bit_error_rate: float
    log10_p: float
    at_once: float
    at_last: float


@dataclass(frozen=True, slots=True)
class Run:
    """One way with one seed.

    Args:
        accuracy: Of the unmarked network.
        growth: See :class:`Way`.
        outcomes: One for each of the strikes.
    """

    accuracy: float
    growth: float
    outcomes: tuple[Outcome, ...]


class Bench:
    """The unmarked network of one seed and everything that is measured against it."""

    def __init__(self, data: Data, seed: int) -> None:
        self._data = data
        self._seed = seed
        self._unmarked = trained_net(data, seed)
        self._accuracy = accuracy(self._unmarked, data.test)
        self._metric = ActivationMetric(input_moment(self._unmarked, data.training.pixels[:N_UNLABELLED]))

    def run(self, way: Way, done: Callable[[int], None]) -> Run:
        """Mark the network in one way and strike it in all."""
        key = public_key(f"owner {self._seed}", way.kind)
        projection = own_projection(key, SHAPE)
        before = self._unmarked.host
        if way.margin:
            metric = self._metric if way.activation else None
            net = self._unmarked.with_host(raised(before, projection, way.margin * projection.unit(before), metric))
            growth = np.linalg.norm(net.host - before) / np.linalg.norm(before)
        else:
            net = trained_net(self._data, self._seed, key)
            growth = np.linalg.norm(net.host) / np.linalg.norm(before)
        outcomes = []
        for strike in STRIKES:
            outcomes.append(self._struck(net, projection, strike))
            done(1)
        return Run(self._accuracy, float(growth), tuple(outcomes))

    def _struck(self, net: FashionNet, projection: Projection, strike: Strike) -> Outcome:
        if strike.attack is not None:
            means = Means(np.random.default_rng(self._seed))
            net = net.with_host(apply_attack(strike.attack, host_layer(net.host), means).values)
        at_once = at_last = accuracy(net, self._data.test) - self._accuracy
        if strike.tuned:
            net = fine_tuned(net, self._data)
            at_last = accuracy(net, self._data.test) - self._accuracy
        evidence = read_message(projection, host_layer(net.host), fair=True)
        return Outcome(evidence.bit_error_rate, evidence.log10_p, at_once, at_last)


def measure(data: Data, seeds: int) -> dict[str, list[Run]]:
    """Runs by the name of the way, one a seed."""
    benches = [Bench(data, seed) for seed in range(seeds)]
    with progress("attacks", seeds * len(WAYS) * len(STRIKES)) as done:
        return {way.name: [bench.run(way, done) for bench in benches] for way in WAYS}


def embeddings(runs: dict[str, list[Run]]) -> Table:
    """What each way costs, as means over seeds."""
    unmarked = [run.accuracy for run in runs[WAYS[0].name]]
    title = f"256 bits in 64x64x3x3; unmarked accuracy {', '.join(f'{accuracy:.4f}' for accuracy in unmarked)} by seed"
    table = Table("embedding", "accuracy", "reference", "rel. change or x growth", "reference", title=title)
    for way in WAYS:
        growth = f"{'' if way.margin else 'x'}{_mean(run.growth for run in runs[way.name]):.3f}"
        cost = _mean(run.outcomes[0].at_once for run in runs[way.name])
        table.add_row(way.name, f"{cost:+.4f}", way.accuracy, growth, way.growth)
    return table


def strikes(runs: dict[str, list[Run]]) -> Table:
    """What is left, strike by strike: means over seeds, and the range of the bit error rate."""
    headings = ("embedding", "BER", "range", "reference", "log10 p", "accuracy at once", "after an epoch")
    table = Table(*headings, title="The same networks under attack; accuracies less the unmarked network's")
    for position, strike in enumerate(STRIKES):
        table.add_section()
        table.add_row(f"[bold]{strike.label}{', then an epoch of fine-tuning' if strike.tuned else ''}")
        for way, reference in zip(WAYS, strike.references, strict=True):
            outcomes = [run.outcomes[position] for run in runs[way.name]]
            rates = [outcome.bit_error_rate for outcome in outcomes]
            table.add_row(
                f"  {way.name}",
                f"{_mean(rates):.3f}",
                f"{min(rates):.3f}–{max(rates):.3f}",
                reference,
                f"{_mean(outcome.log10_p for outcome in outcomes):.1f}",
                f"{_mean(outcome.at_once for outcome in outcomes):+.4f}",
                f"{_mean(outcome.at_last for outcome in outcomes):+.4f}" if strike.tuned else "",
            )
    return table


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def main() -> None:
    """Read the command line and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of Fashion-MNIST's four IDX .gz files")
    parser.add_argument("--seeds", type=int, default=3, help="networks to train, mark and attack")
    parser.add_argument("--threads", type=int, default=2, help="of torch; 1 where the machine has other work")
    parser.add_argument("--json", type=Path, default=None, help="write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    runs = measure(Data.load(arguments.data), arguments.seeds)
    console = wide_console()
    console.print(embeddings(runs))
    console.print(strikes(runs))
    figures = {name: [asdict(run) for run in by_seed] for name, by_seed in runs.items()}
    write_json(arguments.json, {"strikes": [repr(strike) for strike in STRIKES], "runs": figures})


if __name__ == "__main__":
    main()
