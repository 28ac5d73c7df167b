"""What does a mark cost in accuracy? Three ways to embed, four kinds of key, each against its unmarked twin.

After the fidelity experiment of Uchida, Nagai, Sakazawa, Satoh (ICMR 2017, arXiv 1701.04082). By default small enough
for two slow cores; with ``--full`` the paper's network and plan, for a GPU. Every finished training is a line of JSON
in DIR, every epoch a checkpoint, so that the same command goes on after an interruption.

    python -m benchmarks.uchida.fidelity [--full] [--device cuda] [--cifar PATH] [--seeds 3] [--resume DIR] [--show]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
from onnxmark_torch import Watermark
from onnxmark_torch.networks import WideResNet
from onnxmark_torch.recipes import (
    KEY_KINDS,
    Embedded,
    KeyKind,
    distill_to_embed,
    fine_tune_to_embed,
    train_to_embed,
)
from onnxmark_torch.tasks import ImageTask
from onnxmark_torch.training import train
from rich.console import Console

from benchmarks.uchida.fidelity_table import EMBEDDINGS, table
from benchmarks.uchida.journal import Journal, Result
from benchmarks.uchida.setting import FULL, SMALL, STRENGTH, Setting, public_key

OUT: Final = Path(__file__).resolve().parents[1] / "out"
STUDENT: Final = 1000
"""Added to a seed for the initial weights of students, who must not start as their teachers did."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One training to do.

    Args:
        embedding: How.
        kind: The key; None for the control.
        seed: Of initial weights, order of images and key.
    """

    embedding: str
    kind: KeyKind | None
    seed: int

    @property
    def name(self) -> tuple[str, str, int]:
        """As its result calls it."""
        return (self.embedding, "none" if self.kind is None else self.kind.name, self.seed)


def trials(n_seeds: int) -> Iterator[Trial]:
    """All trainings, seed by seed; a seed's first one makes what its others start from."""
    for seed in range(n_seeds):
        for embedding in EMBEDDINGS:
            for kind in (None, *KEY_KINDS):
                yield Trial(embedding, kind, seed)


@dataclass(frozen=True, slots=True)
class Experiment:
    """What all trainings share.

    Args:
        setting: Its size.
        task: What the networks are for.
        device: Where they are trained.
        folder: Where results, checkpoints and finished networks are kept.
    """

    setting: Setting
    task: ImageTask
    device: torch.device
    folder: Path

    @property
    def journal(self) -> Journal:
        """Its results."""
        size = f"{len(self.task.training)} and {len(self.task.test)} images of {self.task.name}"
        return Journal(self.folder / "fidelity.jsonl", f"{size}, strength {STRENGTH}, {self.setting}")

    def run(self, trial: Trial) -> Result:
        """Do one training, or its rest."""
        checkpoint = self.folder / f"{'-'.join(map(str, trial.name))}.checkpoint"
        done = self._embed(trial, checkpoint)
        if trial.kind is None and trial.embedding == "train":
            torch.save(done.model.state_dict(), self._finished_path(trial.seed))
        checkpoint.unlink(missing_ok=True)
        report = done.report
        return Result(
            *trial.name,
            error=1 - done.history.score,
            bit_error_rate=None if report is None else report.bit_error_rate,
            embedding_loss=None if report is None else report.embedding_loss,
            min_margin=None if report is None else report.min_margin,
            seconds=done.history.seconds,
        )

    def _embed(self, trial: Trial, checkpoint: Path) -> Embedded:
        setting, seed, kind = self.setting, trial.seed, trial.kind
        mark = None if kind is None else Watermark(public_key(setting, kind, seed), setting.layer, STRENGTH)
        plan = replace(setting.from_scratch, seed=seed)
        if trial.embedding == "train":
            return train_to_embed(self._fresh(seed), self.task, mark, plan, checkpoint=checkpoint)
        if trial.embedding == "distill":
            student, teacher = self._fresh(STUDENT + seed), self._finished(seed)
            return distill_to_embed(student, teacher, self.task, mark, plan, checkpoint=checkpoint)
        plan = replace(setting.fine_tuning, seed=seed)
        return fine_tune_to_embed(self._finished(seed), self.task, mark, plan, checkpoint=checkpoint)

    def _fresh(self, seed: int) -> WideResNet:
        return self.setting.network(self.task, seed).to(self.device)

    def _finished(self, seed: int) -> WideResNet:
        """The unmarked network of a seed, which its control of ``train`` left behind."""
        network = self._fresh(seed)
        network.load_state_dict(torch.load(self._finished_path(seed), map_location=self.device, weights_only=True))
        return network.eval()

    def _finished_path(self, seed: int) -> Path:
        return self.folder / f"finished-{seed}.pt"

    def seconds_an_epoch(self, n_steps: int = 40) -> float:
        """Wall time of an unmarked epoch from scratch, from ``n_steps`` steps or fewer after as many to warm up."""
        plan, n_images = replace(self.setting.from_scratch, epochs=1), len(self.task.training)
        some = self.task.smaller(min(n_steps * plan.batch_size, n_images), n_test=1)
        network = self._fresh(0)
        for _ in range(2):
            seconds = train(network, some, plan, show=False).seconds
        return seconds / plan.steps(len(some.training)) * plan.steps(n_images)

    def estimate(self, left: int, n_seeds: int) -> str:
        """How long the trainings left will take on this machine, in words."""
        setting, each = self.setting, self.seconds_an_epoch()
        # A teacher's forward pass is a third of a step.
        epochs = setting.from_scratch.epochs * (1 + 4 / 3) + setting.fine_tuning.epochs
        hours = each * epochs * (1 + len(KEY_KINDS)) * n_seeds / 3600
        share = left / (len(EMBEDDINGS) * (1 + len(KEY_KINDS)) * n_seeds)
        return (
            f"an unmarked epoch takes {each:.1f} s here: about {hours:.1f} h for {n_seeds} seeds, "
            f"{hours * share:.1f} h for the {left} trainings left (estimated; marks cost extra)"
        )


def run(experiment: Experiment, n_seeds: int, console: Console) -> None:
    """Do what is left of the experiment, and say after each training what it gave."""
    done = {result.trial for result in experiment.journal.results()}
    left = [trial for trial in trials(n_seeds) if trial.name not in done]
    if left:
        console.print(experiment.estimate(len(left), n_seeds))
    for count, trial in enumerate(left, start=1):
        started = time.perf_counter()
        result = experiment.run(trial)
        experiment.journal.add(result)
        console.print(f"{count}/{len(left)} in {time.perf_counter() - started:.0f} s: {result}", highlight=False)


def main() -> None:
    """Read the command line, train what is left, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the paper's network and 200 epochs; wants a GPU")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--cifar", type=Path, help="CIFAR-10's binary version; without it, Debian's Fashion-MNIST")
    parser.add_argument("--seeds", type=int, default=3, help="how many; intervals need at least 2")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; another number, other rounding")
    parser.add_argument("--resume", type=Path, help="folder of results, made or gone on with (under benchmarks/out)")
    parser.add_argument("--estimate", action="store_true", help="only say how long it will take")
    parser.add_argument("--show", action="store_true", help="only print the table of what is there")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    setting = FULL if arguments.full else SMALL
    folder = arguments.resume or OUT / f"uchida-fidelity-{setting.name}"
    task = setting.task(arguments.cifar)
    experiment = Experiment(setting, task, torch.device(arguments.device), folder)
    console = Console(width=150)
    if arguments.estimate:
        console.print(experiment.estimate(len(list(trials(arguments.seeds))), arguments.seeds))
        return
    if not arguments.show:
        run(experiment, arguments.seeds, console)
    console.print(table(experiment.journal.results(), f"{setting.name}: {task.name}, {len(task.training):,} images"))


if __name__ == "__main__":
    main()
