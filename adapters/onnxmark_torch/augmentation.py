"""Random variation of training images, a pure function of batch and generator, so that a seed repeats a training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

Augmentation = Callable[[Tensor, torch.Generator], Tensor]
"""From uint8 images (N, C, H, W) and a generator on the CPU to images of the same shape, type and device."""


@dataclass(frozen=True, slots=True)
class CropAndFlip:
    """Crop at random from the image with a black frame around it, and mirror it left to right half of the time.

    The usual variation of CIFAR-10 (Lee, Xie, Gallagher, Zhang, Tu: Deeply-Supervised Nets, 2014, arXiv 1409.5185).

    Args:
        padding: Width of the frame in pixels, at least 0.
    """

    padding: int = 4

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise ValueError(f"padding must be at least 0 pixels, not {self.padding}")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Vary each image of a batch (N, C, H, W) on its own."""
        count, _, height, width = images.shape
        offsets = torch.randint(2 * self.padding + 1, (2, count), generator=generator)
        flipped = torch.randint(2, (count,), generator=generator).bool()
        rows = offsets[0, :, None] + torch.arange(height)
        columns = offsets[1, :, None] + torch.arange(width)
        columns = torch.where(flipped[:, None], columns.flip(1), columns)
        framed = functional.pad(images, (self.padding,) * 4)
        return _picked(framed, rows.to(images.device), columns.to(images.device))


def _picked(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """From images (N, C, h, w) the rows (N, H) and columns (N, W) of each: shape (N, C, H, W)."""
    each = torch.arange(len(images), device=images.device)[:, None, None]
    picked = images[each, :, rows[:, :, None], columns[:, None, :]]
    return picked.movedim(-1, 1).contiguous()
