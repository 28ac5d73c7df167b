"""The network and the data of the Keras benchmarks: alike on every backend, from the first weight to the last batch.

Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747) and three convolutions with batch normalisation; the mark
goes into the third, 64x32x3x3. Initial weights come from NumPy and images are not shuffled, so that two backends differ
in rounding alone.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from onnxmark_tf.regularizer import WatermarkRegularizer

from onnxmark.arrays import Float32Array, Int64Array
from onnxmark.keys import Carrier, Key, Secret

DATA: Final = Path("/usr/share/datasets/fashion-mnist")
SHAPE: Final = (64, 32, 3, 3)
N_BITS: Final = 256
LAYER: Final = "conv3"


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Grey images (N, 28, 28, 1) in [0, 1], float32, and their labels (N,)."""

    pixels: Float32Array
    labels: Int64Array


def load_images(folder: Path, split: str, count: int) -> Images:
    """The first ``count`` of the ``train`` or ``t10k`` images, from the data set's IDX files."""
    pixels = _idx(folder / f"{split}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1)[:count]
    labels = _idx(folder / f"{split}-labels-idx1-ubyte.gz", 8)[:count]
    return Images((pixels / np.float32(255)).astype(np.float32), labels.astype(np.int64))


def public_key(label: str, carrier: str = "full", generator: str = "rademacher", n_bits: int = N_BITS) -> Key:
    """A key for the third convolution, grown from a *public* seed: for benchmarks only."""
    draws = [hashlib.sha256(f"onnxmark benchmark: {label} {part}".encode()).digest() for part in ("seed", "salt")]
    parameters = {"generator": generator, "carrier": carrier}
    payload = np.zeros(n_bits, dtype=np.uint8)
    return Key("projection", Secret(draws[0]), draws[1], payload, (Carrier(SHAPE),), parameters)


def fashion_net(regularizer: WatermarkRegularizer | None = None) -> Any:
    """A compiled ``keras.Model``, whose logits are of shape (N, 10); the same weights every time."""
    layers = keras.layers
    parts: list[Any] = [layers.Input((28, 28, 1), name="images")]
    for number, filters in enumerate((16, 32, 64), start=1):
        mark = regularizer if f"conv{number}" == LAYER else None
        parts += [
            layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_regularizer=mark, name=f"conv{number}"),
            layers.BatchNormalization(momentum=0.9, name=f"norm{number}"),
            layers.ReLU(name=f"relu{number}"),
            layers.MaxPooling2D(name=f"pool{number}") if number < 3 else layers.GlobalAveragePooling2D(name="mean"),
        ]
    model = keras.Sequential([*parts, layers.Dense(10, name="classes")], name="fashion_net")
    model.set_weights(_initial(model.weights))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True), loss, metrics=["accuracy"])
    return model


def train(model: Any, images: Images, epochs: int, callbacks: Sequence[Any] = ()) -> dict[str, list[float]]:
    """Train in batches of 64 in the images' own order; what Keras says of each epoch."""
    found = model.fit(
        images.pixels,
        images.labels,
        epochs=epochs,
        batch_size=64,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    history: dict[str, list[float]] = found.history
    return history


def _initial(weights: Sequence[Any]) -> list[Float32Array]:
    """Kaiming's normal for kernels, and what batch normalisation and biases start from."""
    rng = np.random.default_rng(0)
    values = []
    for weight in weights:
        shape = tuple(weight.shape)
        if len(shape) > 1:
            deviation = np.sqrt(2 / np.prod(shape[:-1]))
            values.append((deviation * rng.standard_normal(shape)).astype(np.float32))
        else:
            is_one = weight.name in ("gamma", "moving_variance")
            values.append(np.full(shape, float(is_one), dtype=np.float32))
    return values


def _idx(path: Path, header: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), dtype=np.uint8, offset=header)
