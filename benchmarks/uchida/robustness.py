"""What do thieves who can train leave of a mark, and of the model? Uchida's carrier and ours under the same attacks.

After the robustness experiments of Uchida, Nagai, Sakazawa, Satoh (ICMR 2017, arXiv 1701.04082), widened to the attacks
published since. One marked network a carrier; every attacked network is exported and its file audited as any suspect
would be. Files are kept in DIR, so the same command goes on after an interruption; the two audits with all trials are
written there as JSON and HTML.

    python -m benchmarks.uchida.robustness [--full] [--device cuda] [--cifar PATH] [--resume DIR] [--json FILE]

Two processes with ``--carrier random`` and ``--carrier full`` may share DIR; the command without it then draws the
table.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from onnxmark_torch import Watermark
from onnxmark_torch.attacks import TrainingMeans, TrialBench, carry_out, is_training_attack
from onnxmark_torch.attacks.trials import export_for
from onnxmark_torch.layers import host_layers
from onnxmark_torch.recipes import KEY_KINDS, KeyKind, train_to_embed
from onnxmark_torch.tasks import ImageTask
from rich.console import Console
from torch import nn

from benchmarks.display import write_json
from benchmarks.uchida.robustness_attacks import FULL_SIZE, PRUNINGS, SMALL_SIZE, Size, means, training_attacks
from benchmarks.uchida.robustness_table import Row, table
from benchmarks.uchida.setting import STRENGTH, public_key
from onnxmark.attacking import attack_file
from onnxmark.attacks import Recipe
from onnxmark.attacks.entropy_coding import coded_sizes
from onnxmark.keys import AnyKey, load_key, save_key
from onnxmark.report.formats import Format
from onnxmark.report.render import render
from onnxmark.robustness import Trial

OUT: Final = Path(__file__).resolve().parents[1] / "out"
CARRIERS: Final = tuple(kind for kind in KEY_KINDS if kind.name in ("random", "full"))
SEED: Final = 0
THIEF: Final = 1
"""Seeds what the thief draws."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What an attack cost the thief and what it saved him.

    Args:
        seconds: Wall time.
        ratio: How many times smaller the host weights are in Deep Compression's storage; None where
            that makes nothing smaller.
    """

    seconds: float
    ratio: float | None


@dataclass(frozen=True, slots=True)
class Experiment:
    """One carrier's part.

    Args:
        size: How large.
        kind: The key.
        task: What the network is for.
        device: Where it is trained.
        folder: Where files are kept.
    """

    size: Size
    kind: KeyKind
    task: ImageTask
    device: torch.device
    folder: Path

    def rows(self, done: Callable[[str], None]) -> tuple[Row, ...]:
        """Every attack, carried out where its file is not there yet, and the report of all."""
        bench = self._bench()
        done(f"marked: BER {bench.audit.findings[0].best.evidence.bit_error_rate:.3f}")  # type: ignore[union-attr]
        rows = []
        for recipe in (*PRUNINGS, *training_attacks(self.size)):
            path = self._path(recipe)
            cost = self._cost(recipe, path)
            trial = bench.trial(recipe, [path])
            rows.append(Row(self.kind.name, recipe.label, recipe.name, recipe.parameter, trial, **asdict(cost)))
            done(rows[-1].summary)
        self._report(bench, [row.trial for row in rows])
        return tuple(rows)

    def _bench(self) -> TrialBench:
        path = self._marked.with_suffix(".onnx")
        if not path.is_file():
            self._write(path, lambda part: export_for(self.task, self._stolen(), part))
        return TrialBench.of(path, self._key, self.task)

    def _cost(self, recipe: Recipe, path: Path) -> Cost:
        """Carry an attack out, or read what that cost when it was."""
        note = path.with_suffix(".json")
        if not note.is_file():
            started = time.perf_counter()
            model = self._attack(recipe, path)
            cost = Cost(time.perf_counter() - started, None if model is None else _ratio(model))
            note.write_text(json.dumps(asdict(cost)) + "\n", encoding="utf-8")
        return Cost(**json.loads(note.read_text(encoding="utf-8")))

    def _attack(self, recipe: Recipe, path: Path) -> nn.Module | None:
        """Write the attacked file; the network in memory where there is one."""
        if not is_training_attack(recipe):
            self._write(path, lambda part: attack_file(self._marked.with_suffix(".onnx"), [recipe], part))
            return None
        model = carry_out(recipe, self._stolen(), self._means())
        self._write(path, lambda part: export_for(self.task, model, part))
        return model

    def _stolen(self) -> nn.Module:
        """The marked network, trained where it is not there yet."""
        network: nn.Module = self.size.setting.network(self.task, SEED).to(self.device)
        if self._marked.is_file():
            network.load_state_dict(torch.load(self._marked, map_location=self.device, weights_only=True))
            return network.eval()
        mark = Watermark(self._key, self.size.setting.layer, STRENGTH)
        plan = replace(self.size.setting.from_scratch, epochs=self.size.owner, seed=SEED)
        network = train_to_embed(network, self.task, mark, plan).model
        self._write(self._marked, lambda part: torch.save(network.state_dict(), part))
        return network

    def _means(self) -> TrainingMeans:
        return means(self.task, self.device, THIEF)

    def _report(self, bench: TrialBench, trials: list[Trial]) -> None:
        document = bench.document(trials, THIEF)
        for form in (Format.JSON, Format.HTML):
            target = self.folder / f"robustness-{self.kind.name}.{form.value}"
            target.write_text(render(document, form), encoding="utf-8")

    def _write(self, path: Path, write: Callable[[Path], object]) -> None:
        """Whole or not at all, so that what is there counts as done."""
        part = path.with_name(f"part-{path.name}")
        part.unlink(missing_ok=True)
        write(part)
        part.replace(path)

    def _path(self, recipe: Recipe) -> Path:
        return self.folder / f"{self.kind.name}-{recipe.name}-{_digest(repr(recipe))}.onnx"

    @property
    def _marked(self) -> Path:
        return self.folder / f"{self.kind.name}-marked.pt"

    @property
    def _key(self) -> AnyKey:
        """From a file beside the others, so that the command line can audit them, too."""
        path = self.folder / f"{self.kind.name}-key.npy"
        if not path.is_file():
            save_key(public_key(self.size.setting, self.kind, SEED), path)
        return load_key(path)


def _ratio(model: nn.Module) -> float | None:
    """From the network and not from its file: there, folded normalisation has rescaled every filter's few values."""
    weights = (layer.weight.detach().cpu().numpy().astype(np.float32) for layer in host_layers(model))
    sizes = coded_sizes(weights)
    return None if sizes is None or sizes.coded_ratio <= 1 else sizes.coded_ratio


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def main() -> None:
    """Read the command line, attack what is left to attack, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the paper's network and 200 epochs; wants a GPU")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--cifar", type=Path, help="CIFAR-10's binary version; without it, Debian's Fashion-MNIST")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; another number, other rounding")
    parser.add_argument("--resume", type=Path, help="folder of files, made or gone on with (under benchmarks/out)")
    parser.add_argument("--carrier", choices=[kind.name for kind in CARRIERS], help="only this one; without it, both")
    parser.add_argument("--json", type=Path, help="write the table's figures there")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size = FULL_SIZE if arguments.full else SMALL_SIZE
    task = size.setting.task(arguments.cifar)
    task = task if size.n_training is None else task.smaller(size.n_training)
    # Everything that shaped the files is in the folder's name or in theirs.
    folder = arguments.resume or OUT / f"uchida-robustness-{size.name}-{_digest(f'{task.name} {size.trained}')}"
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(width=150)
    rows: list[Row] = []
    for kind in (kind for kind in CARRIERS if arguments.carrier in (None, kind.name)):
        experiment = Experiment(size, kind, task, torch.device(arguments.device), folder)
        rows += experiment.rows(lambda line, name=kind.name: console.print(f"{name}: {line}", highlight=False))  # type: ignore[misc]
    console.print(table(rows, f"{size.name}: {task.name}, {len(task.training):,} images"))
    console.print(f"reports: {folder}/robustness-*.html", highlight=False)
    write_json(arguments.json, {"size": repr(size), "rows": [row.figures for row in rows]})


if __name__ == "__main__":
    main()
