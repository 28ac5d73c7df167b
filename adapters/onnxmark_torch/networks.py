"""Networks of the literature's experiments, small enough to train here, each with the layer its marks go into.

All but LeNet end in an average over positions, so that any image size fits; all export with torch's default exporter.
"""

from __future__ import annotations

from typing import ClassVar, Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

VGG_16: Final = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Filters of VGG-16's convolutions, stage by stage."""

WIDTHS: Final = (16, 32, 64)
"""Filters of a wide residual network's three groups at k = 1."""


class WideBlock(nn.Module):
    """Two 3x3 convolutions, each after batch normalisation and ReLU, added to what came in.

    Args:
        n_in: Channels in.
        n_out: Channels out; where they differ, a 1x1 convolution brings what came in to them.
        stride: Of the first convolution and of the 1x1.
    """

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(n_in), _conv3(n_in, n_out, stride)
        self.norm2, self.conv2 = nn.BatchNorm2d(n_out), _conv3(n_out, n_out)
        self.shortcut = None if n_in == n_out and stride == 1 else nn.Conv2d(n_in, n_out, 1, stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, n_in, H, W) to (N, n_out, H / stride, W / stride)."""
        active = torch.relu(self.norm1(maps))
        change = self.conv2(torch.relu(self.norm2(self.conv1(active))))
        return cast(Tensor, change + (maps if self.shortcut is None else self.shortcut(active)))


class WideResNet(nn.Module):
    """Wide residual network WRN-(6 N + 4)-k.

    Zagoruyko, Komodakis: Wide Residual Networks (BMVC 2016, arXiv 1605.07146). Uchida et al. (ICMR 2017, arXiv
    1701.04082) mark the last convolution of a group; with their N = 1 and k = 4 that of the first group has 64x64x3x3
    weights. Its groups are called conv2, conv3 and conv4 in both papers and here.

    Args:
        n_blocks: N, blocks a group, at least 1.
        widening: k, the factor on the groups' filters, at least 1.
        n_channels: Channels of the images.
        n_classes: Number of classes.
        stem_stride: Stride of the first convolution; 1 in the papers, 2 for a quarter of the time.
    """

    host: ClassVar[str] = "conv2.0.conv2"
    """The paper's layer: 64x64x3x3 weights at k = 4. At k = 1 ``conv4.0.conv2`` has that shape."""

    def __init__(
        self, n_blocks: int = 1, widening: int = 4, n_channels: int = 3, n_classes: int = 10, stem_stride: int = 1
    ) -> None:
        super().__init__()
        sizes = (n_blocks, widening, n_channels, n_classes, stem_stride)
        if min(sizes) < 1:
            raise ValueError(f"sizes must be at least 1, not {sizes}")
        first, second, third = (widening * width for width in WIDTHS)
        self.conv1 = _conv3(n_channels, WIDTHS[0], stem_stride)
        self.conv2 = _group(WIDTHS[0], first, n_blocks, stride=1)
        self.conv3 = _group(first, second, n_blocks, stride=2)
        self.conv4 = _group(second, third, n_blocks, stride=2)
        self.norm = nn.BatchNorm2d(third)
        self.fc = nn.Linear(third, n_classes)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, n_classes) of images (N, n_channels, H, W) of at least 1x1."""
        maps = self.conv4(self.conv3(self.conv2(self.conv1(images))))
        return cast(Tensor, self.fc(torch.relu(self.norm(maps)).mean(dim=(2, 3))))


class Vgg(nn.Module):
    """Stages of 3x3 convolutions with batch normalisation and ReLU, maximum pooling after each stage.

    After Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition (ICLR 2015, arXiv
    1409.1556); with batch normalisation, and one linear layer behind an average over positions, as is usual for small
    images. No sum ties the channels of one convolution to those of another: the network whose widths hold most.

    Args:
        stages: Filters of the convolutions of each stage, at least 1.
        n_channels: Channels of the images.
        n_classes: Number of classes.
        stem_stride: Stride of the first convolution; 1 in the paper, 2 for a quarter of the time.
    """

    host: ClassVar[str] = "convs.3"
    """128x128x3x3 weights in VGG-16."""

    def __init__(
        self,
        stages: tuple[tuple[int, ...], ...] = VGG_16,
        n_channels: int = 3,
        n_classes: int = 10,
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        widths = [width for stage in stages for width in stage]
        if min(*widths, n_channels, n_classes, stem_stride) < 1:
            raise ValueError(f"sizes must be at least 1, not {stages}, {n_channels}, {n_classes} and {stem_stride}")
        strides = [stem_stride] + [1] * (len(widths) - 1)
        self.ends = {sum(map(len, stages[: stage + 1])) - 1 for stage in range(len(stages))}
        sizes = zip([n_channels, *widths], widths, strides, strict=False)
        self.convs = nn.ModuleList(_conv3(n_in, n_out, stride) for n_in, n_out, stride in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.fc = nn.Linear(widths[-1], n_classes)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, n_classes) of images (N, n_channels, H, W); every stage halves H and W, which end at 1 or more."""
        maps = images
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            maps = torch.relu(norm(conv(maps)))
            if index in self.ends:
                maps = functional.max_pool2d(maps, 2)
        return cast(Tensor, self.fc(maps.mean(dim=(2, 3))))


class LeNet(nn.Module):
    """Two convolutions with pooling, two linear layers, no normalisation: what can be pruned hardest.

    After LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition (Proc. IEEE 1998),
    with the 20, 50 and 500 units and the ReLU that the compression literature calls LeNet-5.

    Args:
        n_channels: Channels of the images.
        n_classes: Number of classes.
        size: Height and width of the images in pixels, at least 16.
    """

    host: ClassVar[str] = "fc1"
    """500x800 weights at 28x28; ``conv2`` (50x20x5x5) hosts as well."""

    def __init__(self, n_channels: int = 1, n_classes: int = 10, size: int = 28) -> None:
        super().__init__()
        if size < 16:
            raise ValueError(f"images must have at least 16x16 pixels, not {size}x{size}")
        edge = ((size - 4) // 2 - 4) // 2
        self.conv1 = nn.Conv2d(n_channels, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(50 * edge * edge, 500)
        self.fc2 = nn.Linear(500, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, n_classes) of images (N, n_channels, size, size)."""
        maps = functional.max_pool2d(torch.relu(self.conv1(images)), 2)
        maps = functional.max_pool2d(torch.relu(self.conv2(maps)), 2)
        return cast(Tensor, self.fc2(torch.relu(self.fc1(maps.flatten(1)))))


class ConvNet(nn.Module):
    """Three 3x3 convolutions with batch normalisation, global average pooling, one linear layer.

    Args:
        n_channels: Channels of the images.
        n_classes: Number of classes.
        width: Filters of the second and third convolution; the first has half as many. Even, at least 2.
    """

    host: ClassVar[str] = "conv3"
    """width x width x 3 x 3 weights, followed by batch normalisation, which exporters fold into them."""

    def __init__(self, n_channels: int = 1, n_classes: int = 10, width: int = 64) -> None:
        super().__init__()
        if width < 2 or width % 2:
            raise ValueError(f"width must be even and at least 2, not {width}")
        self.conv1, self.norm1 = _conv3(n_channels, width // 2, 2), nn.BatchNorm2d(width // 2)
        self.conv2, self.norm2 = _conv3(width // 2, width, 2), nn.BatchNorm2d(width)
        self.conv3, self.norm3 = _conv3(width, width), nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, n_classes) of images (N, n_channels, H, W) of at least 1x1."""
        maps = torch.relu(self.norm1(self.conv1(images)))
        maps = torch.relu(self.norm2(self.conv2(maps)))
        maps = torch.relu(self.norm3(self.conv3(maps)))
        return cast(Tensor, self.fc(maps.mean(dim=(2, 3))))


def _conv3(n_in: int, n_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)


def _group(n_in: int, n_out: int, n_blocks: int, stride: int) -> nn.Sequential:
    later = (WideBlock(n_out, n_out, 1) for _ in range(n_blocks - 1))
    return nn.Sequential(WideBlock(n_in, n_out, stride), *later)


def _initialise(model: nn.Module) -> None:
    """He's initial weights, by fan-out as in residual networks (He, Zhang, Ren, Sun, ICCV 2015, arXiv 1502.01852)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
