"""Networks with marks in them, and what attacks leave; trainings never change and are kept in ``benchmarks/out``."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from onnxmark_torch.constant_weight import ConstantWeightMark
from onnxmark_torch.networks import ConvNet
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.tasks import ImageTask
from onnxmark_torch.training import Hooks, evaluate, train

from benchmarks.constant_weight.marks import FROM_SCRATCH, MARKS, STOLEN, TUNED, Mark, Word
from benchmarks.display import progress
from onnxmark.arrays import Float32Array
from onnxmark.attacks import Attack, GaussianNoise, MagnitudePruning, Means, RandomPruning, UniformQuantisation
from onnxmark.keys import Key
from onnxmark.schemes.constant_weight.parameters import parameters_of
from onnxmark.schemes.constant_weight.selection import selection_of
from onnxmark.schemes.constant_weight.thresholds import survival_rate
from onnxmark.weights import Origin, WeightTensor

OUT: Final = Path(__file__).resolve().parents[1] / "out"
N_TRAINED_ON: Final = 30_000
TRAINING: Final = TrainingPlan(epochs=4)
TUNING: Final = TrainingPlan(epochs=1, rate=0.02)
PRUNED: Final = (0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995)
OTHERS: Final[tuple[Attack, ...]] = (
    GaussianNoise(0.1),
    GaussianNoise(0.3),
    GaussianNoise(1.0),
    UniformQuantisation(8),
    UniformQuantisation(4),
    RandomPruning(0.1),
    RandomPruning(0.5),
)


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a mark after an attack.

    Args:
        bit_error_rate: Wrong bits of the message over 256; all are wrong where a word is rejected.
        symbol_error_rate: Wrong symbols of the code; for projections the same as bits.
        log10_p: Before correction.
    """

    bit_error_rate: float
    symbol_error_rate: float
    log10_p: float


@dataclass(frozen=True, slots=True)
class Sharp:
    """The prediction put to the test.

    Args:
        rate: Share of the layer's weights below the smallest one of the word: the highest rate it should survive.
        whole_at: Whether every bit is read right after pruning exactly so many weights.
        broken_beyond: Whether it is no longer after pruning one more.
    """

    rate: float
    whole_at: bool
    broken_beyond: bool


@dataclass(frozen=True, slots=True)
class Run:
    """One mark in one network.

    Args:
        unmarked: Accuracy of the network without the mark, trained alike.
        accuracy: With it.
        change: Norm of the change over the norm of the layer; 0 where training moved everything.
        left: After each attack.
        sharp: For words.
    """

    unmarked: float
    accuracy: float
    change: float
    left: tuple[Left, ...]
    sharp: Sharp | None


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything measured, by seed.

    Args:
        runs: By how the mark came into the network, and by its name.
        stolen: What a thief's fine-tuning leaves of marks in closed form, by name.
        pruned: Accuracy of unmarked networks after pruning.
    """

    runs: dict[tuple[str, str], list[Run]]
    stolen: dict[str, list[Left]]
    pruned: list[tuple[float, ...]]


def host(net: ConvNet) -> WeightTensor:
    """A copy of the host layer's weights."""
    values = net.conv3.weight.detach().numpy().copy()
    return WeightTensor(f"{ConvNet.host}.weight", values, Origin(ConvNet.host, "Conv", 2, "PyTorch module"))


def with_host(net: ConvNet, values: Float32Array) -> ConvNet:
    """A copy of the network with other host weights."""
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.conv3.weight.copy_(torch.from_numpy(values.copy()))
    return other


class Bench:
    """The networks of one seed and what is measured on them."""

    def __init__(self, task: ImageTask, seed: int) -> None:
        self._task = task
        self._seed = seed
        self.unmarked = self._trained("unmarked", None, TRAINING, None)
        self.accuracy = evaluate(self.unmarked, task)

    def after_pruning(self) -> tuple[float, ...]:
        """Accuracy of the unmarked network with its host layer pruned: what is left to steal."""
        return tuple(evaluate(self._pruned(rate), self._task) for rate in PRUNED)

    def in_closed_form(self, mark: Mark) -> Run:
        """The mark put into the finished network."""
        key, before = mark.key(self._seed), host(self.unmarked)
        marked = mark.embed(key, before)
        change = float(np.linalg.norm(marked.values - before.values) / np.linalg.norm(before.values))
        return self._run(mark, with_host(self.unmarked, marked.values), self.accuracy, change)

    def held_in_tuning(self, word: Word) -> Run:
        """The word held in the finished network while it is fine-tuned."""
        twin = self._trained("tuned", self.unmarked, TUNING, None)
        net = self._trained(f"tuned {word.name}", self.unmarked, TUNING, word)
        return self._run(word, net, evaluate(twin, self._task), 0.0)

    def held_from_scratch(self, word: Word) -> Run:
        """The word held from the first step of training on."""
        return self._run(word, self._trained(word.name, None, TRAINING, word), self.accuracy, 0.0)

    def tuned_by_a_thief(self, mark: Mark) -> Left:
        """Fine-tuning, without the key, of the network marked in closed form."""
        key = mark.key(self._seed)
        marked = with_host(self.unmarked, mark.embed(key, host(self.unmarked)).values)
        return _left(mark, key, host(self._trained(f"stolen {mark.name}", marked, TUNING, None)))

    def _run(self, mark: Mark, net: ConvNet, unmarked: float, change: float) -> Run:
        key, weights = mark.key(self._seed), host(net)
        left = []
        for attack in (*(MagnitudePruning(rate) for rate in PRUNED), *OTHERS):
            struck = attack.change(weights.values, Means(np.random.default_rng(self._seed)))
            left.append(_left(mark, key, weights.with_values(struck)))
        sharp = _sharp(mark, key, weights) if isinstance(mark, Word) else None
        return Run(unmarked, evaluate(net, self._task), change, tuple(left), sharp)

    def _pruned(self, rate: float) -> ConvNet:
        values = MagnitudePruning(rate).change(host(self.unmarked).values, Means(np.random.default_rng(0)))
        return with_host(self.unmarked, values)

    def _trained(self, name: str, start: ConvNet | None, plan: TrainingPlan, word: Word | None) -> ConvNet:
        """A network from the folder of those kept, or trained now: from ``start`` or from the seed's weights."""
        known = hashlib.sha256(f"{name} {plan} {N_TRAINED_ON}".encode()).hexdigest()[:12]
        path = OUT / f"constant-weight-{known}-{self._seed}.pt"
        torch.manual_seed(self._seed)
        net = ConvNet() if start is None else copy.deepcopy(start)
        if path.is_file():
            net.load_state_dict(torch.load(path, weights_only=True))
            return net.eval()
        hooks = Hooks() if word is None else ConstantWeightMark(word.key(self._seed)).hooks
        train(net, self._task, plan, hooks=hooks, show=False)
        path.parent.mkdir(exist_ok=True)
        torch.save(net.state_dict(), path)
        return net


def _left(mark: Mark, key: Key, weights: WeightTensor) -> Left:
    found = mark.read(key, weights)
    return Left(found.bit_error_rate, found.symbol_error_rate, found.log10_p)


def _sharp(word: Word, key: Key, weights: WeightTensor) -> Sharp:
    """Prune as many weights as should do no harm, and one more."""
    ones = parameters_of(key).code.encode_bits(key.message) == 1
    smallest = float(np.abs(selection_of(key).take([weights.values]))[ones].min())
    rate = survival_rate(np.abs(weights.values), smallest)
    n = round(rate * weights.values.size)

    def whole(count: int) -> bool:
        pruned = MagnitudePruning(count / weights.values.size).change(weights.values, Means(np.random.default_rng(0)))
        return word.read(key, weights.with_values(pruned)).bit_error_rate == 0

    return Sharp(rate, whole(n), not whole(n + 1))


def measure(task: ImageTask, n_seeds: int) -> Figures:
    """Everything, with as many networks."""
    figures = Figures({}, {}, [])
    ways: tuple[tuple[str, Sequence[Mark]], ...] = (
        ("closed form", MARKS),
        ("held in fine-tuning", TUNED),
        ("held from scratch", FROM_SCRATCH),
    )
    n_runs = sum(len(marks) for _, marks in ways) + len(STOLEN) + 1
    with progress("networks", n_seeds * n_runs) as done:
        for seed in range(n_seeds):
            bench = Bench(task, seed)
            figures.pruned.append(bench.after_pruning())
            done(1)
            for way, marks in ways:
                for mark in marks:
                    figures.runs.setdefault((way, mark.name), []).append(_run(bench, way, mark))
                    done(1)
            for mark in STOLEN:
                figures.stolen.setdefault(mark.name, []).append(bench.tuned_by_a_thief(mark))
                done(1)
    return figures


def _run(bench: Bench, way: str, mark: Mark) -> Run:
    if way == "closed form" or not isinstance(mark, Word):
        return bench.in_closed_form(mark)
    return bench.held_in_tuning(mark) if way == "held in fine-tuning" else bench.held_from_scratch(mark)
