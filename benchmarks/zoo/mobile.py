"""Networks for small devices, of depthwise convolutions.

MobileNet: Howard et al. (arXiv 1704.04861), Sandler et al. (arXiv 1801.04381), Howard et al. (arXiv 1905.02244).
EfficientNet: Tan and Le (arXiv 1905.11946; version 2: arXiv 2104.00298).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import hardsigmoid, hardswish, relu, relu6, silu

from benchmarks.zoo.compact import Architecture, Compact, global_mean
from benchmarks.zoo.species import N_CLASSES

_V1: Final = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""Filters and stride of each depthwise separable convolution."""

_V2: Final = ((16, 1, 1, 1), (24, 2, 2, 6), (32, 3, 2, 6), (64, 4, 2, 6), (96, 3, 1, 6), (160, 3, 2, 6), (320, 1, 1, 6))
"""Filters, number of blocks, stride of the first, and expansion."""

_V3: Final = (
    (16, 16, 3, 2, True, False), (72, 24, 3, 2, False, False), (88, 24, 3, 1, False, False),
    (96, 40, 5, 2, True, True), (240, 40, 5, 1, True, True), (240, 40, 5, 1, True, True),
    (120, 48, 5, 1, True, True), (144, 48, 5, 1, True, True), (288, 96, 5, 2, True, True),
    (576, 96, 5, 1, True, True), (576, 96, 5, 1, True, True),
)  # fmt: skip
"""Expanded width, filters, kernel, stride, whether channels are weighted, and whether the activation is hard swish."""

_EFFICIENT: Final = (
    (16, 1, 3, 1, 1), (24, 2, 3, 2, 6), (40, 2, 5, 2, 6), (80, 3, 3, 2, 6), (112, 3, 5, 1, 6), (192, 4, 5, 2, 6),
    (320, 1, 3, 1, 6),
)  # fmt: skip
"""Filters, number of blocks, kernel, stride of the first, and expansion."""

_EFFICIENT_V2: Final = (
    (16, 1, 1, 1, True), (32, 2, 2, 4, True), (48, 2, 2, 4, True), (96, 3, 2, 4, False), (112, 5, 1, 6, False),
    (192, 8, 2, 6, False),
)  # fmt: skip
"""Filters, number of blocks, stride of the first, expansion, and whether expansion and depthwise are one."""


def mobilenet(width: float = 1.0) -> Architecture:
    """MobileNet with each layer so many times as wide."""

    def architecture(net: Compact, x: Tensor) -> Tensor:
        x = relu6(net.norm("conv1_bn", net.convolve("conv1", x, int(32 * width), 3, 2)))
        for number, (n_filters, stride) in enumerate(_V1, 1):
            x = relu6(net.norm(f"conv_dw_{number}_bn", net.depthwise(f"conv_dw_{number}", x, 3, stride)))
            x = relu6(net.norm(f"conv_pw_{number}_bn", net.convolve(f"conv_pw_{number}", x, int(n_filters * width))))
        x = net.convolve("conv_preds", x.mean(dim=(2, 3), keepdim=True), N_CLASSES, bias=True)
        return x.flatten(1)

    return architecture


def mobilenet_v2(width: float = 1.0) -> Architecture:
    """MobileNetV2 with each layer but the last so many times as wide."""

    def architecture(net: Compact, x: Tensor) -> Tensor:
        x = relu6(net.norm("bn_Conv1", net.convolve("Conv1", x, _in_eights(32 * width), 3, 2)))
        number = 0
        for n_filters, depth, stride, expansion in _V2:
            for place in range(depth):
                name, step = f"block_{number}" if number else "expanded_conv", stride if place == 0 else 1
                y = _bottleneck(net, name, x, _in_eights(n_filters * width), step, expansion)
                x = x + y if place else y
                number += 1
        x = relu6(net.norm("Conv_1_bn", net.convolve("Conv_1", x, 1280)))
        return net.dense("predictions", global_mean(x))

    return architecture


def _bottleneck(net: Compact, name: str, x: Tensor, n_filters: int, stride: int, expansion: int) -> Tensor:
    if expansion > 1:
        x = relu6(net.norm(f"{name}_expand_BN", net.convolve(f"{name}_expand", x, expansion * x.shape[1])))
    x = relu6(net.norm(f"{name}_depthwise_BN", net.depthwise(f"{name}_depthwise", x, 3, stride)))
    return net.norm(f"{name}_project_BN", net.convolve(f"{name}_project", x, n_filters))


def _in_eights(width: float) -> int:
    """The multiple of eight nearest to a width, the next one where that would take a tenth of it away."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 * (rounded < 0.9 * width)


def mobilenet_v3_small(net: Compact, x: Tensor) -> Tensor:
    """MobileNetV3-Small."""
    x = hardswish(net.norm("conv_bn", net.convolve("conv", x / 127.5 - 1, 16, 3, 2)))
    for number, (expanded, n_filters, kernel, stride, weighted, is_hard) in enumerate(_V3):
        name = f"expanded_conv_{number}" if number else "expanded_conv"
        activation = hardswish if is_hard else relu
        y = activation(net.norm(f"{name}_expand_bn", net.convolve(f"{name}_expand", x, expanded))) if number else x
        y = activation(net.norm(f"{name}_depthwise_bn", net.depthwise(f"{name}_depthwise", y, kernel, stride)))
        y = _weighted_hard(net, f"{name}_squeeze_excite_conv", y) if weighted else y
        y = net.norm(f"{name}_project_bn", net.convolve(f"{name}_project", y, n_filters))
        x = x + y if stride == 1 and x.shape[1] == n_filters else y
    x = hardswish(net.norm("conv_1_bn", net.convolve("conv_1", x, 576)))
    x = hardswish(net.convolve("conv_2", x.mean(dim=(2, 3), keepdim=True), 1024, bias=True))
    return net.convolve("logits", x, N_CLASSES, bias=True).flatten(1)


def _weighted_hard(net: Compact, name: str, x: Tensor) -> Tensor:
    """Channels weighted by what their means say, about a quarter as wide in between."""
    y = relu(net.convolve(name, x.mean(dim=(2, 3), keepdim=True), _in_eights(x.shape[1] / 4), bias=True))
    return x * hardsigmoid(net.convolve(f"{name}_1", y, x.shape[1], bias=True))


def efficientnet(net: Compact, x: Tensor) -> Tensor:
    """EfficientNet-B0."""
    x = silu(net.norm("stem_bn", net.convolve("stem_conv", x / 255, 32, 3, 2)))
    for stage, (n_filters, depth, kernel, stride, expansion) in enumerate(_EFFICIENT, 1):
        for place in range(depth):
            name, step = f"block{stage}{'abcd'[place]}", stride if place == 0 else 1
            y = _expanded(net, name, x, expansion)
            y = silu(net.norm(f"{name}_bn", net.depthwise(f"{name}_dwconv", y, kernel, step)))
            y = _projected(net, name, _weighted(net, name, y, x.shape[1] // 4), n_filters)
            x = x + y if place else y
    return _headed(net, x)


def efficientnet_v2(net: Compact, x: Tensor) -> Tensor:
    """EfficientNetV2-B0."""
    mean, deviation = (torch.tensor(c).reshape(1, 3, 1, 1) for c in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x = silu(net.norm("stem_bn", net.convolve("stem_conv", (x / 255 - mean) / deviation, 32, 3, 2)))
    for stage, (n_filters, depth, stride, expansion, fused) in enumerate(_EFFICIENT_V2, 1):
        for place in range(depth):
            block = _fused if fused else _unfused
            y = block(net, f"block{stage}{'abcdefgh'[place]}", x, n_filters, stride if place == 0 else 1, expansion)
            x = x + y if place else y
    return _headed(net, x)


def _fused(net: Compact, name: str, x: Tensor, n_filters: int, stride: int, expansion: int) -> Tensor:
    if expansion == 1:
        return silu(_projected(net, name, x, n_filters, 3))
    y = silu(net.norm(f"{name}_expand_bn", net.convolve(f"{name}_expand_conv", x, expansion * x.shape[1], 3, stride)))
    return _projected(net, name, y, n_filters)


def _unfused(net: Compact, name: str, x: Tensor, n_filters: int, stride: int, expansion: int) -> Tensor:
    y = _expanded(net, name, x, expansion)
    y = silu(net.norm(f"{name}_bn", net.depthwise(f"{name}_dwconv2", y, 3, stride)))
    return _projected(net, name, _weighted(net, name, y, x.shape[1] // 4), n_filters)


def _expanded(net: Compact, name: str, x: Tensor, expansion: int) -> Tensor:
    if expansion == 1:
        return x
    return silu(net.norm(f"{name}_expand_bn", net.convolve(f"{name}_expand_conv", x, expansion * x.shape[1])))


def _weighted(net: Compact, name: str, x: Tensor, width: int) -> Tensor:
    y = silu(net.convolve(f"{name}_se_reduce", x.mean(dim=(2, 3), keepdim=True), width, bias=True))
    return x * torch.sigmoid(net.convolve(f"{name}_se_expand", y, x.shape[1], bias=True))


def _projected(net: Compact, name: str, x: Tensor, n_filters: int, kernel: int = 1) -> Tensor:
    return net.norm(f"{name}_project_bn", net.convolve(f"{name}_project_conv", x, n_filters, kernel))


def _headed(net: Compact, x: Tensor) -> Tensor:
    return net.dense("predictions", global_mean(silu(net.norm("top_bn", net.convolve("top_conv", x, 1280)))))
