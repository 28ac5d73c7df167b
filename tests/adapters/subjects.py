"""Keys and small models the adapter's tests share; everything is drawn from fixed seeds."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import nn

from onnxmark.keys import Carrier, ForeignKey, Key, Secret

GENERATORS = ("rademacher", "gaussian", "direct", "diff")
CARRIERS = ("full", "fold:256", "mean-ihw", "mean-hwi")
CONV_SHAPE = (16, 8, 3, 3)


def make_key(
    shape: tuple[int, ...] = CONV_SHAPE,
    *,
    n_bits: int = 16,
    generator: str = "rademacher",
    carrier: str = "full",
    name: str = "",
    label: str = "key",
) -> Key:
    """A key from a public seed."""
    digest = hashlib.sha256(label.encode()).digest()
    return Key(
        scheme="projection",
        seed=Secret(digest),
        salt=digest,
        payload=np.zeros(n_bits, dtype=np.uint8),
        carriers=(Carrier(shape, name=name),),
        parameters={"generator": generator, "carrier": carrier},
    )


def foreign_key(n_bits: int, size: int) -> ForeignKey:
    """A Gaussian matrix with random bits, as the original code makes it (one row a weight)."""
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 2, n_bits).astype(np.uint8)
    return ForeignKey(rng.standard_normal((size, n_bits)), bits, "foreign.npy", "")


class TinyNet(nn.Module):
    """Convolution, batch normalisation, ReLU, twice; then a linear layer."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(8)
        self.body = nn.Conv2d(8, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images (N, 1, H, W)."""
        maps = torch.relu(self.norm1(self.stem(images)))
        maps = torch.relu(self.norm2(self.body(maps)))
        return self.head(maps.mean(dim=(2, 3)))


def tiny_net(width: int = 16, seed: int = 0) -> TinyNet:
    """A fresh network, the same for the same seed."""
    torch.manual_seed(seed)
    return TinyNet(width)
