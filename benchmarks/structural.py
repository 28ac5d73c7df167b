"""What does a structural mark cost, what does it outlive, and what ends it? Zhao et al. (WIFS 2021, arXiv 2107.08688).

Two networks on Fashion-MNIST, one without and one with residual sums, are pruned to the widths of a key and trained on;
their unmarked twins are trained on as long. The marked network is then attacked: by more training, on its file, and by
pruning channels further, which is what a reader of widths cannot survive for ever. Trainings are kept in
``benchmarks/out`` and taken up again; delete that folder to train anew. About eight minutes on one core.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.structural [--images 10000] [--null 10000] [--json PATH]
"""

from __future__ import annotations

import copy
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import torch
import typer
from onnxmark_torch.channels import called_layers
from onnxmark_torch.exporting import export
from onnxmark_torch.networks import Vgg, WideResNet
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.structural import examples_of, narrow_, prune_channels_, structural_key
from onnxmark_torch.tasks import ImageTask, fashion_mnist
from onnxmark_torch.training import evaluate, train
from rich.table import Table
from torch import nn

from benchmarks.calibration import calibrated, rate_table
from benchmarks.display import wide_console, write_json
from benchmarks.structural_nulls import CAMPAIGNS, null_tails
from onnxmark.attacking import attack_file
from onnxmark.attacks.attack import Recipe
from onnxmark.attacks.noise import GaussianNoise
from onnxmark.attacks.pruning import MagnitudePruning
from onnxmark.errors import AttackError
from onnxmark.keys import Key, Secret
from onnxmark.model import open_model
from onnxmark.model.running.runtime import open_session
from onnxmark.schemes.evidence import Evidence
from onnxmark.schemes.structural.matching import alignments
from onnxmark.schemes.structural.scheme import StructuralScheme
from onnxmark.statistics import log10_union
from onnxmark.symmetries.neurons import DummyNeurons
from onnxmark.symmetries.permutation import Permutation
from onnxmark.tools.graphs import RuntimeOptimisation, Simplification, Slimming
from onnxmark.tools.precision import DynamicQuantisation, HalfPrecision, StaticQuantisation

OUT: Final = Path(__file__).resolve().parent / "out"
SCRATCH: Final = TrainingPlan(epochs=6)
RECOVERY: Final = TrainingPlan(epochs=3, rate=0.05)
FINE_TUNING: Final = TrainingPlan(epochs=2, rate=0.02, seed=1)
FURTHER: Final = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Parts of the channels left in each layer that an attacker removes as well."""
RECOVERED: Final = (0.1, 0.2)
"""Those of them after which the attacker trains the network on."""
NETWORKS: Final[dict[str, Callable[[], nn.Module]]] = {
    "VGG-like": lambda: Vgg(((32, 32), (64, 64), (128, 128, 128)), 1, stem_stride=2),
    "WRN-22-1": lambda: WideResNet(3, 1, 1, stem_stride=2),
}
ON_FILES: Final[tuple[Recipe, ...]] = (
    GaussianNoise(0.3), MagnitudePruning(0.8), HalfPrecision(), DynamicQuantisation(), StaticQuantisation(),
    Simplification(), Slimming(), RuntimeOptimisation("basic"), RuntimeOptimisation("extended"),
    RuntimeOptimisation("all"), Permutation(), DummyNeurons(0.05),
)  # fmt: skip
_SCHEME: Final = StructuralScheme()


@dataclass(frozen=True, slots=True)
class Row:
    """One state of a network.

    Args:
        state: What was done to it.
        accuracy: On the test images, 0 to 1.
        evidence: What the key reads in it.
        log10_p: Of the best alignment, corrected for having tried several.
    """

    state: str
    accuracy: float
    evidence: Evidence
    log10_p: float

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        right = self.evidence.n_symbols - self.evidence.n_errors
        ber = "rejected" if self.evidence.message is not None and self.evidence.message.rejected else None
        return (
            *(self.state, f"{self.accuracy:.4f}", f"{right} of {self.evidence.n_symbols}"),
            *(ber or f"{self.evidence.bit_error_rate:.3f}", f"{self.log10_p:.1f}"),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """A network, its task and its key."""

    name: str
    task: ImageTask
    key: Key
    room: Path

    def trained(self, model: nn.Module, plan: TrainingPlan, label: str) -> nn.Module:
        """A copy trained on; taken up where an earlier run left it."""
        OUT.mkdir(exist_ok=True)
        made = copy.deepcopy(model)
        n_images = len(self.task.training)
        train(made, self.task, plan, checkpoint=OUT / f"structural-{self.name}-{n_images}-{label}.checkpoint")
        return made

    def row(self, state: str, model: nn.Module) -> Row:
        """A network in memory, exported and read from its file."""
        path = self.room / "row.onnx"
        self.export(model, path)
        return Row(state, evaluate(model, self.task), *read(path, self.key))

    def export(self, model: nn.Module, path: Path) -> None:
        """Export with an open batch."""
        shapes = ({0: torch.export.Dim("n")},)
        export(model, examples_of(self.task, model), path, external_data=False, dynamic_shapes=shapes)

    def file_row(self, state: str, path: Path) -> Row:
        """A file, run by ONNX Runtime."""
        return Row(state, self.accuracy(path), *read(path, self.key))

    def accuracy(self, path: Path) -> float:
        """Share of the test images that a file classifies rightly."""
        session, right = open_session(path), 0
        images = self.task.inputs(torch.tensor(self.task.test.images)).numpy()
        for start in range(0, len(images), 500):
            (logits,) = session.run({session.inputs[0].name: images[start : start + 500]}).values()
            right += int((logits.argmax(axis=1) == self.task.test.labels[start : start + 500]).sum())
        return right / len(images)


def read(path: Path, key: Key) -> tuple[Evidence, float]:
    """The best evidence of all alignments, and log10 p corrected for their number."""
    with open_model(path) as model:
        sites = model.sites()
    found = alignments(key.carriers, sites)
    readings = [
        _SCHEME.extract(key, tuple(None if index is None else sites[index].shape[0] for index in each))
        for each in found
    ]
    best = min(readings, key=lambda evidence: evidence.log10_p)
    return best, log10_union(best.log10_p, len(found))


def public_key(name: str, model: nn.Module, task: ImageTask) -> Key:
    """A key for a network, grown from a *public* seed: for benchmarks only."""
    seed, salt = (hashlib.sha256(f"onnxmark benchmark structural: {name} {part}".encode()).digest() for part in "ab")
    return replace(structural_key(model, examples_of(task, model)), seed=Secret(seed), salt=salt)


def states(bench: Bench, fresh: nn.Module) -> Iterator[Row]:
    """The network before and after marking, and after what its attackers do."""
    example = examples_of(bench.task, fresh)
    unmarked = bench.trained(fresh, SCRATCH, "unmarked")
    yield bench.row("unmarked", unmarked)
    yield bench.row("unmarked, trained on as long", bench.trained(unmarked, RECOVERY, "twin"))
    pruned = prune_channels_(copy.deepcopy(unmarked), example, bench.key)
    yield bench.row("pruned to the key's widths", pruned)
    marked = bench.trained(pruned, RECOVERY, "marked")
    yield bench.row("marked: pruned, then recovered", marked)
    yield bench.row("fine-tuned", bench.trained(marked, FINE_TUNING, "tuned"))
    yield from attacked(bench, marked)
    yield from pruned_further(bench, marked)


def attacked(bench: Bench, marked: nn.Module) -> Iterator[Row]:
    """The marked file after each attack on files."""
    path, inputs = bench.room / "marked.onnx", bench.room / "inputs.npy"
    bench.export(marked, path)
    np.save(inputs, bench.task.inputs(torch.tensor(bench.task.training.images[:100])).numpy())
    for recipe in ON_FILES:
        output = bench.room / f"{recipe.name}.onnx"
        try:
            attack_file(path, (recipe,), output, calibration=inputs)
        except AttackError as error:
            print(f"{bench.name}, {recipe.label}: {error}")
            continue
        yield bench.file_row(recipe.label, output)


def pruned_further(bench: Bench, marked: nn.Module) -> Iterator[Row]:
    """More channels removed in every layer, and one of them recovered by training."""
    example = examples_of(bench.task, marked)
    layers = [layer for layer in called_layers(marked, example) if layer.obstacle is None]
    for count in (1, len(layers) // 2, len(layers)):
        narrower = {each.name: each.shape[0] - 1 for each in layers[:count]}
        model = narrow_(copy.deepcopy(marked), example, narrower)
        yield bench.row(f"one channel less in {count} of {len(layers)} layers", model)
    for part in FURTHER:
        narrower = {each.name: max(1, each.shape[0] - max(1, round(part * each.shape[0]))) for each in layers}
        model = narrow_(copy.deepcopy(marked), example, narrower)
        yield bench.row(f"{part:.0%} fewer channels in every layer", model)
        if part in RECOVERED:
            yield bench.row("  the same, trained on", bench.trained(model, RECOVERY, f"further-{part}"))


def null_table(bench: Bench, count: int) -> Table:
    """P-values of random keys, against the rates they promise."""
    found = {campaign: null_tails(bench.key.carriers, campaign, count) for campaign in CAMPAIGNS}
    names = ("what pruning leaves", "layers right")
    rows = {
        f"{campaign}, {name}": calibrated(tails[:, place])
        for campaign, tails in found.items()
        for place, name in enumerate(names)
    }
    return rate_table(f"{bench.name}: {count:,} random keys each", rows)


def main(
    images: Annotated[int, typer.Option(help="Training images, 60,000 at most.")] = 10_000,
    null: Annotated[int, typer.Option(help="Null audits of each network and campaign.")] = 10_000,
    test: Annotated[int, typer.Option(help="Test images, 10,000 at most.")] = 10_000,
    json: Annotated[Path | None, typer.Option(help="Write the figures there, too.")] = None,
) -> None:
    """Train, mark and attack both networks; print what is left of accuracy and mark."""
    torch.set_num_threads(1)
    console, figures = wide_console(), dict[str, Any]()
    task = fashion_mnist().smaller(images, test)
    for name, make in NETWORKS.items():
        torch.manual_seed(0)
        fresh = make()
        with tempfile.TemporaryDirectory() as room:
            bench = Bench(name, task, public_key(name, fresh, task), Path(room))
            facts = ", ".join(f"{fact} {value}" for fact, value in _SCHEME.facts(bench.key).items())
            title = f"{name}, {images:,} images; message of {bench.key.n_bits} bits; {facts}"
            table = Table("state", "accuracy", "widths right", "BER", "log10 p", title=title)
            rows = list(states(bench, fresh))
        for row in rows:
            table.add_row(*row.cells)
        console.print(table)
        console.print(null_table(bench, null))
        figures[name] = {"facts": title, "rows": [row.cells for row in rows]}
    write_json(json, figures)


if __name__ == "__main__":
    typer.run(main)
