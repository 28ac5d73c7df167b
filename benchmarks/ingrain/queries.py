"""What a thief may ask about who has no images of the task: the answers carry the mark there, too, or they do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

import numpy as np
from onnxmark_torch.data import Examples, load_digits
from onnxmark_torch.ingrain import varied
from onnxmark_torch.ingrain.synthetic import mixup

from benchmarks.uchida.robustness_attacks import enlarged

_SEED: Final = 7


def mixed(examples: Examples) -> Examples:
    """Means of two images of different classes; labels are the first image's and are not to be used."""
    return replace(examples, images=mixup(examples, len(examples), _SEED).images)


def inverted(examples: Examples) -> Examples:
    """Black for white: the task's shapes in other colours."""
    return replace(examples, images=255 - examples.images)


def noisy(examples: Examples) -> Examples:
    """Uniform noise: nothing of the task at all."""
    rng = np.random.default_rng(_SEED)
    return replace(examples, images=rng.integers(0, 256, examples.images.shape, dtype=np.uint8))


def digits(examples: Examples) -> Examples:
    """As many images of digits, enlarged, in shifted and noisy copies; labels are not to be used."""
    few = load_digits().training
    shape = examples.images.shape
    large = enlarged(few, *shape[1:])
    copies = varied(large, -(-len(examples) // len(few)), shift=3, seed=_SEED).images[: len(examples)]
    return replace(examples, images=copies)


DOMAINS: Final[Mapping[str, Callable[[Examples], Examples]]] = MappingProxyType(
    {"mixed": mixed, "inverted": inverted, "digits": digits, "noisy": noisy}
)
"""From the thief's images to those he asks about."""
