"""The two sizes of the experiments after Uchida et al. (ICMR 2017, arXiv 1701.04082): the paper's, and a small one.

Both mark the last convolution of a group of a wide residual network where it has 64x64x3x3 weights, with 256 bits and
lambda 0.01. The small one, for two slow cores, is WRN-10-1 with a first convolution of stride 2 and marks its last
group; the paper's is WRN-10-4 and marks its first group. Fine-tuning is a reconstruction: some more epochs of the same
plan. At a tenth of its rate, three epochs were too short for a *direct* key, whose gradient is the smallest: 27 % of
the bits stayed wrong.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from onnxmark_torch.networks import WideResNet
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.recipes import KeyKind
from onnxmark_torch.tasks import ImageTask, cifar10, fashion_mnist

from onnxmark.keys import Carrier, Key, Secret

SHAPE: Final = (64, 64, 3, 3)
N_BITS: Final = 256
STRENGTH: Final = 0.01


@dataclass(frozen=True, slots=True)
class Setting:
    """One size of the experiments.

    Args:
        name: Distinguishes their results.
        widening: k of the wide residual network; N is 1.
        stem_stride: Stride of its first convolution.
        layer: The layer marked.
        n_training: Training images used; None for all.
        from_scratch: How to train and to distil.
        fine_tuning: How to train on.
    """

    name: str
    widening: int
    stem_stride: int
    layer: str
    n_training: int | None
    from_scratch: TrainingPlan
    fine_tuning: TrainingPlan

    def network(self, task: ImageTask, seed: int) -> WideResNet:
        """The network with the initial weights of a seed."""
        channels = task.training.images.shape[1]
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            return WideResNet(1, self.widening, channels, task.n_classes, self.stem_stride)

    def task(self, cifar: Path | None) -> ImageTask:
        """CIFAR-10 where it is given, else Fashion-MNIST."""
        task = fashion_mnist() if cifar is None else cifar10(cifar)
        return task if self.n_training is None else task.smaller(self.n_training)


SMALL: Final = Setting(
    name="small",
    widening=1,
    stem_stride=2,
    layer="conv4.0.conv2",
    n_training=30_000,
    from_scratch=TrainingPlan(epochs=8),
    fine_tuning=TrainingPlan(epochs=3),
)
FULL: Final = Setting(
    name="full",
    widening=4,
    stem_stride=1,
    layer="conv2.0.conv2",
    n_training=None,
    from_scratch=TrainingPlan(epochs=200),
    fine_tuning=TrainingPlan(epochs=40),
)


def public_key(setting: Setting, kind: KeyKind, seed: int) -> Key:
    """A key for the layer marked, grown from a *public* seed: for benchmarks only."""
    label = f"onnxmark benchmark uchida: {kind.name} {seed}"
    draws = [hashlib.sha256(f"{label} {part}".encode()).digest() for part in ("seed", "salt")]
    payload = np.zeros(N_BITS, dtype=np.uint8)
    carrier = Carrier(SHAPE, f"{setting.layer}.weight")
    return Key("projection", Secret(draws[0]), draws[1], payload, (carrier,), kind.parameters)
