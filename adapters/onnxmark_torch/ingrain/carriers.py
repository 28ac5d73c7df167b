"""Secret inputs that carry a mark: which images, between which two classes, and what the key's coins make of them.

The two classes of every carrier are fixed without the key, and the key throws one fair coin for each. So a network that
knows nothing of the key answers rightly with probability one half exactly, whatever it has learnt; with one target
class for all carriers, or with classes that the owner picked by hand, nobody could say how probable its answers are.

What kind of input carries decides whether a mark survives distillation: a student learns what its teacher thinks near
the images it is asked about, and only images near the boundary of two classes are answered in another way at no cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxmark.arrays import BitArray, Float32Array, Float64Array, Int64Array, frozen
from onnxmark_torch.data import Examples

_DOMAIN: Final = 0x63617272


@dataclass(frozen=True, slots=True, eq=False)
class Carriers:
    """Images with two classes each, of which a coin names the right one.

    Args:
        images: Shape (n, C, H, W), uint8; read-only from here on.
        pairs: Shape (n, 2), int64, the smaller class first, so that their order says nothing; read-only from here on.

    Raises:
        ValueError: A carrier has not two classes, or they are not in order.
    """

    images: NDArray[np.uint8]
    pairs: Int64Array

    def __post_init__(self) -> None:
        if self.pairs.shape != (len(self.images), 2):
            raise ValueError(f"{len(self.images)} carriers need pairs of shape (n, 2), not {self.pairs.shape}")
        if not (self.pairs[:, 0] < self.pairs[:, 1]).all():
            raise ValueError("the classes of a pair must differ, the smaller first")
        frozen(self.images)
        frozen(self.pairs)

    def __len__(self) -> int:
        return len(self.images)

    def labels(self, coins: BitArray) -> Int64Array:
        """The class each coin names, shape (n,): the pair's first for 0, its second for 1."""
        if coins.shape != (len(self),):
            raise ValueError(f"{len(self)} carriers need as many coins, not an array of shape {coins.shape}")
        named: Int64Array = self.pairs[np.arange(len(self)), coins]
        return named

    def examples(self, coins: BitArray, class_names: tuple[str, ...]) -> Examples:
        """What a marked network is trained to answer."""
        return Examples(self.images, self.labels(coins), class_names)

    def log_ratios(self, logits: Float32Array) -> Float64Array:
        """How far answers lean to the second class of each pair: its logit less the first's.

        Args:
            logits: Shape (n, classes), or log-probabilities: the difference is the same.

        Returns:
            Shape (n,).
        """
        each = np.arange(len(self))
        first, second = (logits[each, self.pairs[:, side]].astype(np.float64) for side in (0, 1))
        return second - first


def near_boundary(pool: Examples, logits: Float32Array, count: int) -> Carriers:
    """The images of a secret pool between whose two likeliest classes unmarked reference networks waver most.

    Where there are several references, only images count for which all name the same two classes first: what one
    network alone wavers about need not be near anybody else's boundary.

    Args:
        pool: Images that no reference was trained on; their labels are not looked at.
        logits: The references' answers, shape (references, images, classes).
        count: Carriers to choose.

    Returns:
        The ``count`` images of smallest absolute log-ratio between their two classes, averaged over the references;
        the smallest first, ties in the pool's order.

    Raises:
        ValueError: The answers are not those of the pool, or fewer images qualify.
    """
    if logits.ndim != 3 or logits.shape[1] != len(pool) or logits.shape[2] < 2:
        raise ValueError(f"logits must be (references, {len(pool)}, classes from 2), not {logits.shape}")
    pairs = np.sort(np.argsort(-logits, axis=2, kind="stable")[:, :, :2], axis=2)
    agreed = np.flatnonzero((pairs == pairs[0]).all(axis=(0, 2)))
    if agreed.size < count:
        raise ValueError(f"{count} carriers asked for, but references agree on {agreed.size} images of the pool")
    chosen = Carriers(pool.images[agreed], pairs[0, agreed].astype(np.int64))
    margins = np.abs(np.mean([chosen.log_ratios(one[agreed]) for one in logits], axis=0))
    nearest = np.argsort(margins, kind="stable")[:count]
    return Carriers(chosen.images[nearest], chosen.pairs[nearest])


def varied(examples: Examples, copies: int = 4, shift: int = 1, noise: float = 0.03, seed: int = 0) -> Examples:
    """Copies to train on, so that a network learns the neighbourhood of a carrier and not its pixels.

    Args:
        examples: Carriers with the labels wanted.
        copies: How many of each, at least 1: the images as they are, then shifted and noisy ones.
        shift: Pixels that a copy is moved at most, in each direction, at least 0; what it leaves is black.
        noise: Standard deviation of what is added to each pixel, as a part of full brightness, at least 0.
        seed: Decides shifts and noise.

    Returns:
        ``copies * len(examples)`` examples, copy after copy.
    """
    if copies < 1 or shift < 0 or noise < 0:
        raise ValueError(f"copies must be at least 1, shift and noise at least 0, not {copies}, {shift} and {noise}")
    rng = np.random.default_rng((_DOMAIN, seed))
    changed = (_noisy(_shifted(examples.images, shift, rng), noise, rng) for _ in range(copies - 1))
    return joined([examples, *(replace(examples, images=images) for images in changed)])


def joined(parts: Sequence[Examples]) -> Examples:
    """Examples of the same size and classes, one part after the other."""
    names = {part.class_names for part in parts}
    if len(names) != 1:
        raise ValueError(f"parts to join must have the same classes, found {len(names)} lists of names")
    images = np.concatenate([part.images for part in parts])
    return Examples(images, np.concatenate([part.labels for part in parts]), *names)


def _shifted(images: NDArray[np.uint8], most: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    height, width = images.shape[2:]
    framed = np.pad(images, ((0, 0), (0, 0), (most, most), (most, most)))
    windows = np.lib.stride_tricks.sliding_window_view(framed, (height, width), axis=(2, 3))
    down, right = rng.integers(0, 2 * most + 1, (2, len(images)))
    moved: NDArray[np.uint8] = windows[np.arange(len(images)), :, down, right]
    return moved


def _noisy(images: NDArray[np.uint8], deviation: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    changed = images + rng.normal(0, 255 * deviation, images.shape)
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8)
