"""Carriers that are made instead of chosen: the kinds of the literature on backdoors, to compare with.

Each takes a labelled pool and gives images with two classes, fixed before any coin is thrown. We made them to see which
survive distillation; on Fashion-MNIST none does as images near a boundary do
(:func:`onnxmark_torch.ingrain.carriers.near_boundary`), so that these serve as controls and not as a choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxmark.arrays import Int64Array
from onnxmark_torch.data import Examples
from onnxmark_torch.ingrain.carriers import Carriers

Kind = Callable[[Examples, int, int], Carriers]
"""From a labelled pool, the number of carriers and a public seed to carriers; a pure function of the three."""

_PATCH: Final = 5
"""Pixels of a patch's side."""
_BLENDED: Final = 0.1
"""Part of a blend that is the pattern."""
_DOMAIN: Final = 0x6B696E64


def noise(pool: Examples, count: int, seed: int) -> Carriers:
    """Uniform noise and two classes at random (abstract images: Adi et al., USENIX Security 2018, arXiv 1802.04633)."""
    rng = _source(seed)
    images = rng.integers(0, 256, (count, *pool.images.shape[1:]), dtype=np.uint8)
    first = rng.integers(0, len(pool.class_names), count)
    return _carriers(images, first, _other(first, pool, rng))


def patch(pool: Examples, count: int, seed: int) -> Carriers:
    """An image with a noise patch of its own in a corner; its class and another (Gu et al., arXiv 1708.06733)."""
    rng = _source(seed)
    images, own = _drawn(pool, count, rng)
    images[:, :, -_PATCH:, -_PATCH:] = rng.integers(0, 256, images[:, :, -_PATCH:, -_PATCH:].shape)
    return _carriers(images, own, _other(own, pool, rng))


def blend(pool: Examples, count: int, seed: int) -> Carriers:
    """An image with a little of one noise pattern, the same for all; its class and another (arXiv 1712.05526)."""
    rng = _source(seed)
    images, own = _drawn(pool, count, rng)
    pattern = rng.integers(0, 256, images.shape[1:])
    return _carriers(_mixed(images, pattern, _BLENDED), own, _other(own, pool, rng))


def mixup(pool: Examples, count: int, seed: int) -> Carriers:
    """The mean of two images of different classes; both classes (Zhang et al., arXiv 1710.09412)."""
    (one, first), (other, second) = _couples(pool, count, _source(seed))
    return _carriers(_mixed(one, other, 0.5), first, second)


def halves(pool: Examples, count: int, seed: int) -> Carriers:
    """The left half of one image and the right half of one of another class; both classes."""
    (images, first), (other, second) = _couples(pool, count, _source(seed))
    middle = images.shape[3] // 2
    images[..., middle:] = other[..., middle:]
    return _carriers(images, first, second)


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {"noise": noise, "patch": patch, "blend": blend, "mixup": mixup, "halves": halves}
)
"""By name, in the order of tables."""

_Drawn = tuple[NDArray[np.uint8], Int64Array]


def _source(seed: int) -> np.random.Generator:
    return np.random.default_rng((_DOMAIN, seed))


def _drawn(pool: Examples, count: int, rng: np.random.Generator) -> _Drawn:
    """Distinct images of the pool, to be changed, and their labels."""
    chosen = rng.choice(len(pool), count, replace=False)
    return pool.images[chosen], pool.labels[chosen]


def _couples(pool: Examples, count: int, rng: np.random.Generator) -> tuple[_Drawn, _Drawn]:
    """Images and others, each of another class than its partner."""
    images, labels = _drawn(pool, count, rng)
    others = np.array([rng.choice(np.flatnonzero(pool.labels != label)) for label in labels])
    return (images, labels), (pool.images[others], pool.labels[others])


def _other(classes: Int64Array, pool: Examples, rng: np.random.Generator) -> Int64Array:
    """A class at random that is not the one given."""
    n_classes = len(pool.class_names)
    return (classes + rng.integers(1, n_classes, classes.shape)) % n_classes


def _mixed(images: NDArray[np.uint8], others: NDArray[np.integer], share: float) -> NDArray[np.uint8]:
    mixed = (1 - share) * images + share * others
    return np.rint(mixed).astype(np.uint8)


def _carriers(images: NDArray[np.uint8], first: Int64Array, second: Int64Array) -> Carriers:
    return Carriers(images, np.sort(np.stack([first, second], axis=1), axis=1).astype(np.int64))
