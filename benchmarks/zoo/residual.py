"""Plain, residual and densely connected networks.

VGG: Simonyan and Zisserman (arXiv 1409.1556). ResNet: He et al. (arXiv 1512.03385; with activations first: arXiv
1603.05027). DenseNet: Huang et al. (arXiv 1608.06993). ConvNeXt: Liu et al. (arXiv 2201.03545).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import gelu, relu

from benchmarks.zoo.compact import Architecture, Compact, global_mean, max_pool

_EPSILON = 1.001e-5


def vgg(depths: Sequence[int]) -> Architecture:
    """VGG with so many convolutions in each of its five stages."""

    def architecture(net: Compact, x: Tensor) -> Tensor:
        for stage, depth in enumerate(depths, 1):
            for number in range(1, depth + 1):
                x = relu(net.convolve(f"block{stage}_conv{number}", x, min(64 << (stage - 1), 512), 3, bias=True))
            x = max_pool(x, 2, 2)
        # Keras flattens with channels last.
        x = x.permute(0, 2, 3, 1).flatten(1)
        x = relu(net.dense("fc2", relu(net.dense("fc1", x, 4096)), 4096))
        return net.dense("predictions", x)

    return architecture


def resnet(depths: Sequence[int]) -> Architecture:
    """ResNet with bottlenecks, so many in each of its four stages."""

    def architecture(net: Compact, x: Tensor) -> Tensor:
        x = net.convolve("conv1_conv", functional.pad(x, (3, 3, 3, 3)), 64, 7, 2, pad=False, bias=True)
        x = functional.pad(relu(net.norm("conv1_bn", x, _EPSILON)), (1, 1, 1, 1))
        x = max_pool(x, 3, 2)
        for stage, depth in enumerate(depths, 2):
            for number in range(1, depth + 1):
                stride = 2 if number == 1 and stage > 2 else 1
                x = _bottleneck(net, f"conv{stage}_block{number}", x, 16 << stage, stride, number == 1)
        return net.dense("predictions", global_mean(x))

    return architecture


def _bottleneck(net: Compact, name: str, x: Tensor, width: int, stride: int, project: bool) -> Tensor:
    def unit(number: int, y: Tensor, n_filters: int, kernel: int = 1, step: int = 1) -> Tensor:
        y = net.convolve(f"{name}_{number}_conv", y, n_filters, kernel, step, bias=True)
        return net.norm(f"{name}_{number}_bn", y, _EPSILON)

    shortcut = unit(0, x, 4 * width, 1, stride) if project else x
    y = relu(unit(2, relu(unit(1, x, width, 1, stride)), width, 3))
    return relu(shortcut + unit(3, y, 4 * width))


def resnet_v2(depths: Sequence[int]) -> Architecture:
    """ResNet with activations before convolutions; the last bottleneck of a stage has its stride."""

    def architecture(net: Compact, x: Tensor) -> Tensor:
        x = net.convolve("conv1_conv", functional.pad(x, (3, 3, 3, 3)), 64, 7, 2, pad=False, bias=True)
        x = max_pool(functional.pad(x, (1, 1, 1, 1)), 3, 2)
        for stage, depth in enumerate(depths, 2):
            for number in range(1, depth + 1):
                stride = 2 if number == depth and stage < 5 else 1
                x = _preactivated(net, f"conv{stage}_block{number}", x, 16 << stage, stride, number == 1)
        return net.dense("predictions", global_mean(relu(net.norm("post_bn", x, _EPSILON))))

    return architecture


def _preactivated(net: Compact, name: str, x: Tensor, width: int, stride: int, project: bool) -> Tensor:
    before = relu(net.norm(f"{name}_preact_bn", x, _EPSILON))
    shortcut = (
        net.convolve(f"{name}_0_conv", before, 4 * width, 1, stride, bias=True) if project else max_pool(x, 1, stride)
    )
    y = relu(net.norm(f"{name}_1_bn", net.convolve(f"{name}_1_conv", before, width), _EPSILON))
    y = net.convolve(f"{name}_2_conv", functional.pad(y, (1, 1, 1, 1)), width, 3, stride, pad=False)
    y = relu(net.norm(f"{name}_2_bn", y, _EPSILON))
    return shortcut + net.convolve(f"{name}_3_conv", y, 4 * width, bias=True)


def densenet(depths: Sequence[int], growth: int = 32) -> Architecture:
    """DenseNet with so many layers in each of its four dense blocks."""

    def architecture(net: Compact, x: Tensor) -> Tensor:
        x = net.convolve("conv1_conv", functional.pad(x, (3, 3, 3, 3)), 64, 7, 2, pad=False)
        x = functional.pad(relu(net.norm("conv1_bn", x, _EPSILON)), (1, 1, 1, 1))
        x = max_pool(x, 3, 2)
        for stage, depth in enumerate(depths, 2):
            for number in range(1, depth + 1):
                x = torch.cat([x, _growth(net, f"conv{stage}_block{number}", x, growth)], dim=1)
            if stage < 5:
                x = relu(net.norm(f"pool{stage}_bn", x, _EPSILON))
                x = functional.avg_pool2d(net.convolve(f"pool{stage}_conv", x, x.shape[1] // 2), 2)
        return net.dense("predictions", global_mean(relu(net.norm("bn", x, _EPSILON))))

    return architecture


def _growth(net: Compact, name: str, x: Tensor, growth: int) -> Tensor:
    y = net.convolve(f"{name}_1_conv", relu(net.norm(f"{name}_0_bn", x, _EPSILON)), 4 * growth)
    return net.convolve(f"{name}_2_conv", relu(net.norm(f"{name}_1_bn", y, _EPSILON)), growth, 3)


def convnext(depths: Sequence[int], widths: Sequence[int], name: str) -> Architecture:
    """ConvNeXt; its fully connected layers see images with channels last."""

    def architecture(net: Compact, x: Tensor) -> Tensor:
        # The mean and the variance of ImageNet's pixels are part of the published model.
        x = (x - _column(0.485, 0.456, 0.406) * 255) / (_column(0.229, 0.224, 0.225) * 255)
        x = net.convolve(f"{name}_stem_conv", x, widths[0], 4, 4, pad=False, bias=True)
        x = _channels_first(net.layer_norm(f"{name}_stem_layernorm", _channels_last(x)))
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            if stage:
                y = net.layer_norm(f"{name}_downsampling_layernorm_{stage - 1}", _channels_last(x))
                down = f"{name}_downsampling_conv_{stage - 1}"
                x = net.convolve(down, _channels_first(y), width, 2, 2, pad=False, bias=True)
            for number in range(depth):
                x = x + _inverted(net, f"{name}_stage_{stage}_block_{number}", x)
        x = net.layer_norm(f"{name}_head_layernorm", global_mean(x))
        return net.dense(f"{name}_head_dense", x)

    return architecture


def _inverted(net: Compact, name: str, x: Tensor) -> Tensor:
    y = _channels_last(net.depthwise(f"{name}_depthwise_conv", x, 7, bias=True))
    y = net.dense(f"{name}_pointwise_conv_1", net.layer_norm(f"{name}_layernorm", y), 4 * x.shape[1])
    y = net.dense(f"{name}_pointwise_conv_2", gelu(y), x.shape[1])
    return _channels_first(net.layer_scale(f"{name}_layer_scale", y))


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _column(*values: float) -> Tensor:
    return torch.tensor(values).reshape(1, -1, 1, 1)
