"""A small network whose carrier is a whole convolution, for benchmarks that damage a mark and then ask for accuracy.

Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747); the host layer has 64x64x3x3 weights, the shape of the
literature's 256-bit examples. Training takes most of a benchmark's time and never changes, so networks are kept in
``benchmarks/out``; delete that folder to train anew.
"""

from __future__ import annotations

import copy
import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np
import torch
from onnxmark_torch import Watermark
from torch import Tensor, nn

from fixtures.make import Images, load_images, train
from onnxmark.arrays import Float32Array, Float64Array
from onnxmark.keys import Carrier, Key, Secret
from onnxmark.weights import Origin, WeightTensor

LAYER: Final = "conv3"
SHAPE: Final = (64, 64, 3, 3)
N_BITS: Final = 256
N_TRAINED_ON: Final = 30_000
N_UNLABELLED: Final = 400
EPOCHS: Final = 4
STRENGTH: Final = 0.01
OUT: Final = Path(__file__).resolve().parent / "out"


class FashionNet(nn.Module):
    """Three convolutions with batch normalisation, global average pooling, ten classes: 56,000 parameters.

    The first two have stride 2, so that most of the time goes into the host layer, at 7x7.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32)
        self.conv2, self.bn2 = nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(64)
        self.conv3, self.bn3 = nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
        self.fc = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 10) of images (N, 1, 28, 28) in [0, 1]."""
        return self.classify(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """What the host layer receives, (N, 64, 7, 7)."""
        maps = torch.relu(self.bn1(self.conv1(images)))
        return torch.relu(self.bn2(self.conv2(maps)))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (N, 10) from what the host layer receives."""
        maps = torch.relu(self.bn3(self.conv3(features)))
        return cast(Tensor, self.fc(maps.mean(dim=(2, 3))))

    @property
    def host(self) -> Float32Array:
        """A copy of the host weights."""
        return self.conv3.weight.detach().numpy().copy()

    def with_host(self, values: Float32Array) -> FashionNet:
        """A copy of the network with other host weights."""
        net = copy.deepcopy(self)
        with torch.no_grad():
            net.conv3.weight.copy_(torch.from_numpy(values.copy()))
        return net


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """What networks are trained on, and the 10,000 images they are tested on."""

    training: Images
    test: Images

    @classmethod
    def load(cls, folder: Path) -> Data:
        """The first 30,000 training images and all test images of Fashion-MNIST."""
        images = load_images(folder, "train")
        return cls(Images(images.pixels[:N_TRAINED_ON], images.labels[:N_TRAINED_ON]), load_images(folder, "t10k"))


def public_key(label: str, kind: str) -> Key:
    """A key for the host layer, grown from a *public* seed: for benchmarks only."""
    draws = [hashlib.sha256(f"onnxmark benchmark: {label} {part}".encode()).digest() for part in ("seed", "salt")]
    parameters = {"generator": "rademacher", "carrier": kind}
    carrier = Carrier(SHAPE, f"{LAYER}.weight")
    return Key("projection", Secret(draws[0]), draws[1], np.zeros(N_BITS, dtype=np.uint8), (carrier,), parameters)


def host_layer(values: Float32Array) -> WeightTensor:
    """Host weights as onnxmark passes them round."""
    return WeightTensor(f"{LAYER}.weight", values, Origin(LAYER, "Conv", 2, "PyTorch module"))


def trained_net(data: Data, seed: int, key: Key | None = None) -> FashionNet:
    """The network of a seed, trained with or without a mark (Uchida's regulariser); from the folder of those kept.

    Args:
        data: Images.
        seed: Of the initial weights.
        key: The mark.
    """
    mark = "unmarked" if key is None else f"{key.parameters['carrier']}-{hashlib.sha256(key.salt).hexdigest()[:8]}"
    path = OUT / f"fashion-net-{N_TRAINED_ON}x{EPOCHS}-{STRENGTH}-{mark}-{seed}.pt"
    torch.manual_seed(seed)
    net = FashionNet()
    if path.is_file():
        net.load_state_dict(torch.load(path, weights_only=True))
        return net.eval()
    train(net, data.training, None if key is None else Watermark(key, LAYER, STRENGTH), epochs=EPOCHS)
    path.parent.mkdir(exist_ok=True)
    torch.save(net.state_dict(), path)
    return net


def fine_tuned(net: FashionNet, data: Data) -> FashionNet:
    """A copy after one more epoch, at a learning rate of .02 at most."""
    tuned = copy.deepcopy(net)
    train(tuned, data.training, None, epochs=1, rate=0.02)
    return tuned


def accuracy(net: FashionNet, images: Images) -> float:
    """Share of images classified rightly."""
    with torch.inference_mode():
        said = torch.cat([net(part).argmax(dim=1) for part in torch.split(torch.from_numpy(images.pixels), 500)])
    return float(np.mean(said.numpy() == images.labels))


def input_moment(net: FashionNet, pixels: Float32Array) -> Float64Array:
    """Mean of ``patch patch'`` over what the host layer receives, shape (1, 576, 576)."""
    with torch.inference_mode():
        features = net.features(torch.from_numpy(pixels))
    patches = nn.functional.unfold(features, kernel_size=3, padding=1).transpose(1, 2)
    patches = patches.reshape(-1, math.prod(SHAPE[1:])).double()
    return np.asarray((patches.T @ patches / len(patches)).numpy()[None], dtype=np.float64)
