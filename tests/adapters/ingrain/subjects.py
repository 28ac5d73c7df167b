"""A small task, a pool and a small network, shared by the tests of this folder."""

from __future__ import annotations

import functools

import numpy as np
import torch
from onnxmark_torch.data import DataSet, Examples
from onnxmark_torch.tasks import ImageTask
from torch import nn

NAMES = tuple("abcd")
SIZE = 6


def images(count: int, seed: int = 0, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, channels, SIZE, SIZE), dtype=np.uint8)


def examples(count: int, seed: int = 0, channels: int = 1) -> Examples:
    """Noise with labels that say nothing."""
    labels = np.random.default_rng(seed + 1).integers(0, len(NAMES), count)
    return Examples(images(count, seed, channels), labels, NAMES)


@functools.cache
def task(n_training: int = 96) -> ImageTask:
    """Noise to learn by heart."""
    return ImageTask.of("noise", DataSet(examples(n_training, 2), examples(40, 3)))


def net(seed: int = 0) -> nn.Module:
    """One hidden layer, the same weights for the same seed."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 32), nn.ReLU(), nn.Linear(32, len(NAMES)))
