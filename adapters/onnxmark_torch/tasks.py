"""What a model is for: data, how the model sees it, and how well it does, in one value that experiments pass round.

An evaluation of marks runs several networks over several tasks. A user's own task needs no base class and no
registration: an object with the members of :class:`Task` will do, and :class:`ImageTask` makes one of labelled images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onnxmark_torch.augmentation import Augmentation, CropAndFlip
from onnxmark_torch.data import FASHION_MNIST, DataSet, Examples, load_cifar10, load_digits, load_fashion_mnist

Metric = Callable[[Tensor, Tensor], float]
"""From logits (N, classes) and labels (N,) to a figure of merit, larger being better."""


class Task(Protocol):
    """What a user brings."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    @property
    def training(self) -> Examples:
        """To learn from."""
        ...

    @property
    def test(self) -> Examples:
        """To judge by; never trained on."""
        ...

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        ...

    def inputs(self, images: Tensor) -> Tensor:
        """What the network is given for images as stored: uint8 (N, C, H, W) to float32, on the same device."""
        ...

    def augmented(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Training images varied at random: uint8 (N, C, H, W) to the same; a pure function of both arguments."""
        ...

    def score(self, logits: Tensor, labels: Tensor) -> float:
        """Figure of merit of logits (N, classes) for labels (N,), larger being better."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class DerivedTask:
    """What a task on other images keeps of the whole task: how it sees images and judges answers.

    Args:
        whole: The task.
    """

    whole: Task

    @property
    def n_classes(self) -> int:
        """The task's."""
        return self.whole.n_classes

    def inputs(self, images: Tensor) -> Tensor:
        """As the task."""
        return self.whole.inputs(images)

    def augmented(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """As the task."""
        return self.whole.augmented(images, generator)

    def score(self, logits: Tensor, labels: Tensor) -> float:
        """As the task."""
        return self.whole.score(logits, labels)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of examples whose largest logit is the right one, 0 to 1."""
    return float((logits.argmax(dim=1) == labels).double().mean())


@dataclass(frozen=True, slots=True, eq=False)
class ImageTask:
    """Classification of images, each channel standardised.

    Args:
        name: What tables call it.
        data: The images.
        mean: Mean of each channel over the training images, 0 to 255.
        deviation: Standard deviation of each channel, in the same unit, above 0.
        augmentation: How training images are varied; None leaves them as they are.
        metric: Figure of merit.
    """

    name: str
    data: DataSet
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    augmentation: Augmentation | None = None
    metric: Metric = accuracy

    @classmethod
    def of(cls, name: str, data: DataSet, augmentation: Augmentation | None = None) -> ImageTask:
        """A task whose channels are standardised by what its training images are."""
        mean, deviation = channel_moments(data.training.images)
        return cls(name, data, mean, deviation, augmentation)

    @property
    def training(self) -> Examples:
        """To learn from."""
        return self.data.training

    @property
    def test(self) -> Examples:
        """To judge by."""
        return self.data.test

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.data.training.class_names)

    def inputs(self, images: Tensor) -> Tensor:
        """Standardised images, float32: mean 0 and variance 1 in each channel of the training images."""
        mean, deviation = (_per_channel(each, images.device) for each in (self.mean, self.deviation))
        return (images.float() - mean) / deviation

    def augmented(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images varied as ``augmentation`` says."""
        return images if self.augmentation is None else self.augmentation(images, generator)

    def score(self, logits: Tensor, labels: Tensor) -> float:
        """The metric."""
        return self.metric(logits, labels)

    def smaller(self, n_training: int, n_test: int | None = None) -> ImageTask:
        """The task on its first images only, seen as the whole task sees them.

        Args:
            n_training: Training images to keep.
            n_test: Test images to keep; None keeps all.

        Raises:
            ValueError: There are not so many.
        """
        test = self.test if n_test is None else self.test.first(n_test)
        return replace(self, data=DataSet(self.training.first(n_training), test))


def channel_moments(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of images (N, C, H, W); 1 for the deviation of a constant channel."""
    levels: Final = np.arange(256)
    means, deviations = [], []
    for channel in range(images.shape[1]):
        # From the histogram: exact, and without a float copy of the whole set.
        counts = np.bincount(images[:, channel].reshape(-1), minlength=256)
        mean = float(counts @ levels / counts.sum())
        deviation = float(np.sqrt(counts @ (levels - mean) ** 2 / counts.sum()))
        means.append(mean)
        deviations.append(deviation or 1.0)
    return tuple(means), tuple(deviations)


def fashion_mnist(directory: Path | str = FASHION_MNIST) -> ImageTask:
    """Fashion-MNIST, 28x28 grey, without augmentation; see :func:`onnxmark_torch.data.load_fashion_mnist`."""
    return ImageTask.of("Fashion-MNIST", load_fashion_mnist(directory))


def cifar10(path: Path | str) -> ImageTask:
    """CIFAR-10, 32x32 colour, with the usual crops and flips; see :func:`onnxmark_torch.data.load_cifar10`."""
    return ImageTask.of("CIFAR-10", load_cifar10(path), CropAndFlip())


def digits() -> ImageTask:
    """Scikit-learn's digits, 8x8 grey, without augmentation; see :func:`onnxmark_torch.data.load_digits`."""
    return ImageTask.of("digits", load_digits())


def _per_channel(figures: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(figures, dtype=torch.float32, device=device).reshape(-1, 1, 1)
