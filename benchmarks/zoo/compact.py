"""Networks in PyTorch written as plain functions, so that an architecture fits on a screen beside its paper.

Such a function is handed a :class:`Compact` network and an image, and calls layers by name; a layer comes into being
when it is first called, with as many input channels as it is given. Names are those that Keras gives the same layers,
which is how weights of the one find their way into the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.zoo.species import N_CLASSES

Architecture = Callable[["Compact", Tensor], Tensor]
"""From a network and images (N, 3, H, W) to logits (N, 10)."""


class LayerScale(nn.Module):
    """A learned factor for each channel, channels last."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(n_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Channels times their factors."""
        return x * self.gamma


class Compact(nn.Module):
    """A network given by a function; in evaluation mode, as zoos are for looking.

    Args:
        architecture: The function.
        shape: Shape of one image, ``(3, H, W)``; the layers are made by showing it one.
    """

    def __init__(self, architecture: Architecture, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.architecture = architecture
        self.eval()
        with torch.no_grad():
            self(torch.zeros(1, *shape))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images, shape (N, 3, H, W)."""
        return self.architecture(self, x)

    def convolve(
        self,
        name: str,
        x: Tensor,
        n_filters: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        *,
        pad: bool = True,
        group: int = 1,
        bias: bool = False,
    ) -> Tensor:
        """A convolution; padded by zeros so that only the stride shrinks the image, unless ``pad`` is False."""
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        # With a stride, TensorFlow pads less before than after, which a layer of PyTorch cannot.
        own = (height // 2, width // 2) if pad and stride == 1 else (0, 0)
        layer = self._layer(
            name, lambda: nn.Conv2d(x.shape[1], n_filters, (height, width), stride, own, groups=group, bias=bias)
        )
        return layer(padded(x, (height, width), stride) if pad and stride > 1 else x)

    def depthwise(self, name: str, x: Tensor, kernel: int, stride: int = 1, *, bias: bool = False) -> Tensor:
        """A convolution of each channel by itself."""
        return self.convolve(name, x, x.shape[1], kernel, stride, group=x.shape[1], bias=bias)

    def separable(self, name: str, x: Tensor, n_filters: int, kernel: int, stride: int = 1) -> Tensor:
        """A convolution of each channel, then one across channels: a single layer in Keras, with two kernels."""
        return self.convolve(f"{name}__pointwise", self.depthwise(f"{name}__depthwise", x, kernel, stride), n_filters)

    def norm(self, name: str, x: Tensor, epsilon: float = 1e-3) -> Tensor:
        """A batch normalisation."""
        return self._layer(name, lambda: nn.BatchNorm2d(x.shape[1], eps=epsilon))(x)

    def dense(self, name: str, x: Tensor, n_outputs: int = N_CLASSES) -> Tensor:
        """A fully connected layer on the last axis."""
        return self._layer(name, lambda: nn.Linear(x.shape[-1], n_outputs))(x)

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        """A layer normalisation of the last axis."""
        return self._layer(name, lambda: nn.LayerNorm(x.shape[-1], eps=1e-6))(x)

    def layer_scale(self, name: str, x: Tensor) -> Tensor:
        """A factor for each channel, channels last."""
        return self._layer(name, lambda: LayerScale(x.shape[-1]))(x)

    def _layer(self, name: str, make: Callable[[], nn.Module]) -> Callable[[Tensor], Tensor]:
        if name not in self._modules:
            self.add_module(name, make().eval())
        return cast("Callable[[Tensor], Tensor]", self._modules[name])


def padded(x: Tensor, kernel: tuple[int, int], stride: int, value: float = 0.0) -> Tensor:
    """An image padded so that a window of this size and stride starts at every ``stride``-th pixel, TensorFlow's way.

    Of an odd number of lines, the one more goes below and to the right.
    """
    height, width = (
        max((-(-size // stride) - 1) * stride + length - size, 0)
        for size, length in zip(x.shape[2:], kernel, strict=True)
    )
    return functional.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2), value=value)


def max_pool(x: Tensor, kernel: int, stride: int, *, pad: bool = False) -> Tensor:
    """The largest value in each window; padding, where asked for, never wins."""
    x = padded(x, (kernel, kernel), stride, -torch.inf) if pad else x
    return functional.max_pool2d(x, kernel, stride)


def mean_pool(x: Tensor) -> Tensor:
    """The mean over 3x3 pixels around each, of those that are in the image."""
    return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def global_mean(x: Tensor) -> Tensor:
    """The mean of each channel, shape (N, C)."""
    return x.mean(dim=(2, 3))
