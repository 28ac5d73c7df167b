"""What the robustness experiment tries, in two sizes, and what a thief brings to it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Final

import numpy as np
import torch
from onnxmark_torch.attacks import (
    AdmmClusteringTraining,
    AdmmPruningTraining,
    AdmmQuantisationTraining,
    CrossDomain,
    Distillation,
    FinePruning,
    FineTuneAll,
    FineTuneLast,
    HardDistillation,
    QuantisationAwareTraining,
    RetrainAll,
    RetrainLast,
    TrainedOverwriting,
    TrainingAttack,
    TrainingMeans,
)
from onnxmark_torch.data import DataSet, Examples, load_digits
from onnxmark_torch.networks import ConvNet
from onnxmark_torch.tasks import ImageTask
from torch import nn

from benchmarks.uchida.setting import FULL, SMALL, Setting
from onnxmark.attacks import MagnitudePruning


@dataclass(frozen=True, slots=True)
class Size:
    """How large the experiment is.

    Args:
        setting: Network and layer, as for the fidelity experiment.
        n_training: Training images, of the owner and of the thief; None for all.
        owner: Epochs of the owner's training.
        student: Epochs of a distillation.
        tuning: Epochs of what goes on from the stolen weights.
        rounds: Rounds of ADMM.
        round_epochs: Epochs of each.
        rho: Its pull, larger where a round has few steps.
    """

    setting: Setting
    n_training: int | None
    owner: int
    student: int
    tuning: int
    rounds: int
    round_epochs: int
    rho: float

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.setting.name

    @property
    def trained(self) -> str:
        """What decides the marked networks, in words: the recipes of attacks are in the names of their files."""
        setting = self.setting
        network = (setting.widening, setting.stem_stride, setting.layer)
        return f"{network}, {self.n_training} images, {replace(setting.from_scratch, epochs=self.owner)}"


SMALL_SIZE: Final = Size(SMALL, n_training=10_000, owner=12, student=6, tuning=2, rounds=5, round_epochs=1, rho=0.1)
FULL_SIZE: Final = Size(FULL, n_training=None, owner=200, student=60, tuning=20, rounds=20, round_epochs=2, rho=0.01)
PRUNINGS: Final = (MagnitudePruning(0.65), MagnitudePruning(0.9))
"""Attacks on the file, without training, for comparison; 65 % is the figure of Uchida et al. (2017)."""


def training_attacks(size: Size) -> tuple[TrainingAttack, ...]:
    """Every training-time attack of the experiment, in the order of its table."""
    tuning, student, rounds, layer = size.tuning, size.student, size.rounds, size.setting.layer
    admm = AdmmPruningTraining(0.8, size.rho, rounds, size.round_epochs, tuning)
    return (
        FineTuneLast(tuning),
        RetrainLast(tuning),
        FineTuneAll(tuning),
        FineTuneAll(2 * tuning, rate=0.1),
        RetrainAll(tuning),
        CrossDomain(tuning),
        FinePruning(0.3, epochs=tuning),
        FinePruning(0.8, epochs=tuning),
        QuantisationAwareTraining(4, epochs=tuning),
        QuantisationAwareTraining(2, epochs=tuning),
        admm,
        AdmmClusteringTraining(**asdict(admm), bits=4),
        AdmmQuantisationTraining(**asdict(admm), bits=4),
        *(TrainedOverwriting(marks, layer, epochs=tuning, rate=0.1) for marks in (1, 2, 4)),
        Distillation(3.0, epochs=student),
        Distillation(20.0, epochs=student),
        Distillation(3.0, epochs=student, other_architecture=True),
        HardDistillation(student),
    )


def means(task: ImageTask, device: torch.device, seed: int) -> TrainingMeans:
    """What the thief has: the owner's images, digits to go elsewhere with, and another architecture."""
    channels = task.training.images.shape[1]

    def student() -> nn.Module:
        return ConvNet(channels, task.n_classes).to(device)

    return TrainingMeans(task, elsewhere=digits_like(task), student=student, seed=seed, show=True)


def digits_like(task: ImageTask) -> ImageTask:
    """Scikit-learn's digits in the size and channels of a task's images: enlarged by whole pixels, framed in black."""
    _, channels, height, width = task.training.images.shape
    data = load_digits()
    parts = (enlarged(part, channels, height, width) for part in (data.training, data.test))
    return ImageTask.of(f"digits at {height}x{width}", DataSet(*parts))


def enlarged(examples: Examples, channels: int, height: int, width: int) -> Examples:
    """Grey images with each pixel a square, as many times as fit, in the middle of a black image of the size."""
    count, _, rows, columns = examples.images.shape
    factor = min(height // rows, width // columns)
    images = np.zeros((count, channels, height, width), dtype=np.uint8)
    top, left = (height - factor * rows) // 2, (width - factor * columns) // 2
    squares = examples.images.repeat(factor, axis=2).repeat(factor, axis=3)
    images[:, :, top : top + factor * rows, left : left + factor * columns] = squares
    return replace(examples, images=images)
