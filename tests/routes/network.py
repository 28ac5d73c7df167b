"""The one network every route starts from: convolutions with batch normalisation, trained, marked in its middle."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from onnxmark_torch import Watermark
from torch import nn

from onnxmark.keys import Carrier, Key, Secret

N_BITS = 96
WIDTH = 32
CARRIER = "middle.weight"


class Net(nn.Module):
    """Stem; two convolutions with a residual connection; a wider one; a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, WIDTH, 3, padding=1, bias=False)
        self.norm0 = nn.BatchNorm2d(WIDTH)
        self.first = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(WIDTH)
        self.middle = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(WIDTH)
        self.wide = nn.Conv2d(WIDTH, 2 * WIDTH, 3, stride=2, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(2 * WIDTH)
        self.head = nn.Linear(2 * WIDTH, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images (N, 1, 8, 8)."""
        maps = torch.relu(self.norm0(self.stem(images)))
        inner = torch.relu(self.norm1(self.first(maps)))
        maps = torch.relu(maps + self.norm2(self.middle(inner)))
        maps = torch.relu(self.norm3(self.wide(maps)))
        return self.head(maps.mean(dim=(2, 3)))


def make_key(label: str = "routes") -> Key:
    """A full-carrier key for the middle convolution, from a public seed."""
    digest = hashlib.sha256(label.encode()).digest()
    return Key(
        scheme="projection",
        seed=Secret(digest),
        salt=digest,
        payload=np.unpackbits(np.frombuffer(digest, np.uint8))[:N_BITS],
        carriers=(Carrier((WIDTH, WIDTH, 3, 3), name=CARRIER),),
        parameters={"generator": "rademacher", "carrier": "full"},
    )


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Images (1797, 1, 8, 8) between 0 and 1, and their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return torch.from_numpy(data.images.astype(np.float32)[:, None] / 16), torch.from_numpy(
        data.target.astype(np.int64)
    )


def trained(key: Key | None, steps: int = 200) -> Net:
    """The network after some steps on scikit-learn's digits, in evaluation mode, marked if there is a key.

    One thread: on shared cores, several wait for each other a hundred times longer than they compute.
    The normalisations start with scales spread over [0.5, 1.5], so that folding them in is no mere scaling.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _trained(key, steps)
    finally:
        torch.set_num_threads(threads)


def _trained(key: Key | None, steps: int) -> Net:
    torch.manual_seed(0)
    model = Net()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    images, labels = digits()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    if key is not None:
        Watermark(key, strength=0.01).attach(optimizer, model)
    for step in range(steps):
        chosen = torch.from_numpy(np.random.default_rng(step).integers(0, 1500, 32))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    return model.eval()
