"""The two sizes of the ingrain experiments, and who has which images.

Everybody's images are different ones: the owner trains on his, a thief has his own or, at worst, the owner's; carriers
come from a pool that neither trains on. The small size is for one slow core; the full one wants a GPU and CIFAR-10.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

import numpy as np
import torch
from onnxmark_torch.data import Examples
from onnxmark_torch.ingrain.knowledge import TaskWith
from onnxmark_torch.networks import WideResNet
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.tasks import ImageTask, Task, cifar10, fashion_mnist
from torch import Tensor, nn


class PoolNet(nn.Module):
    """Three 3x3 convolutions with pooling and batch normalisation, two linear layers, for 28x28 grey images.

    Args:
        width: Filters of the first convolution; the next two have twice and four times as many.
        hidden: Units of the first linear layer.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        sizes = (1, width, 2 * width, 4 * width)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(n_in, n_out, 3, padding=1, bias=False) for n_in, n_out in itertools.pairwise(sizes)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(n_out) for n_out in sizes[1:])
        self.fc1, self.fc2 = nn.Linear(9 * sizes[3], hidden), nn.Linear(hidden, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 10) of images (N, 1, 28, 28)."""
        maps = images
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            # Pooled first: the same function as after the ReLU, on a quarter of the numbers.
            maps = torch.relu(norm(nn.functional.max_pool2d(convolution(maps), 2)))
        return cast(Tensor, self.fc2(torch.relu(self.fc1(maps.flatten(1)))))


@dataclass(frozen=True, slots=True)
class Setting:
    """One size of the experiments.

    Args:
        name: Distinguishes their results.
        n_part: Training images of the owner, and of a thief who has his own.
        n_pool: Images that carriers are chosen from.
        n_references: Unmarked networks that the owner compares with.
        plan: How every network is trained but for its seed.
        tuning: How a thief trains on.
        colour: CIFAR-10 and wide residual networks, not Fashion-MNIST and :class:`PoolNet`.
    """

    name: str
    n_part: int
    n_pool: int
    n_references: int
    plan: TrainingPlan
    tuning: TrainingPlan
    colour: bool = False

    def task(self, cifar: Path | None) -> ImageTask:
        """CIFAR-10, which must be named, for the full size; else Fashion-MNIST."""
        if not self.colour:
            return fashion_mnist()
        if cifar is None:
            raise SystemExit("the full size needs CIFAR-10; name its binary version with --cifar")
        return cifar10(cifar)

    def network(self, seed: int, *, small: bool = False) -> nn.Module:
        """A network with the initial weights of a seed; 108,000 parameters, 20,000 the small one (or 1.2 M, 78,000)."""
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            if self.colour:
                return WideResNet(1, 1 if small else 4)
            # Channels last: a quarter faster on a CPU.
            net = PoolNet(8, 48) if small else PoolNet(16, 144)
            return cast(nn.Module, net.to(memory_format=torch.channels_last))  # type: ignore[call-overload]


SMALL: Final = Setting("small", 10_000, 20_000, 6, TrainingPlan(epochs=8, rate=0.05), TrainingPlan(epochs=4, rate=0.01))
FULL: Final = Setting(
    "full", 15_000, 20_000, 6, TrainingPlan(epochs=60), TrainingPlan(epochs=20, rate=0.01), colour=True
)


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Who has which training images; all are judged on the same test images.

    Args:
        owner: The owner's.
        thief: A thief's own.
        pool: Where carriers come from; nobody trains on it.
    """

    owner: Task
    thief: Task
    pool: Examples

    @classmethod
    def of(cls, task: Task, setting: Setting) -> Parts:
        """The first images for the owner, then the thief's, then the pool."""
        bounds = np.cumsum([0, setting.n_part, setting.n_part, setting.n_pool])
        owner, thief, pool = (part(task.training, *pair) for pair in itertools.pairwise(bounds))
        return cls(TaskWith(task, owner), TaskWith(task, thief), pool)


def part(examples: Examples, start: int, stop: int) -> Examples:
    """The examples from ``start`` to before ``stop``."""
    if stop > len(examples):
        raise ValueError(f"there are {len(examples)} examples, {stop} are needed")
    return replace(examples, images=examples.images[start:stop], labels=examples.labels[start:stop])
