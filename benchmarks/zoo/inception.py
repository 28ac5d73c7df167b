"""Networks of parallel branches, and of separable convolutions.

Inception-v3: Szegedy et al. (arXiv 1512.00567). Xception: Chollet (arXiv 1610.02357). NASNet: Zoph et al. (arXiv
1707.07012).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import relu

from benchmarks.zoo.compact import Compact, global_mean, max_pool, mean_pool, padded

_Unit = tuple[int, int | tuple[int, int]]
"""Filters and kernel of one convolution."""

_WIDE, _TALL = (1, 7), (7, 1)


class _Units:
    """Convolutions with normalisation, numbered as Keras numbers layers without a name."""

    def __init__(self, net: Compact) -> None:
        self.net = net
        self.count = 0

    def __call__(
        self, x: Tensor, n_filters: int, kernel: int | tuple[int, int], stride: int = 1, *, pad: bool = True
    ) -> Tensor:
        number = f"_{self.count}" if self.count else ""
        self.count += 1
        x = self.net.convolve(f"conv2d{number}", x, n_filters, kernel, stride, pad=pad)
        return relu(self.net.norm(f"batch_normalization{number}", x))

    def chain(self, x: Tensor, *units: _Unit) -> Tensor:
        """One after the other."""
        for n_filters, kernel in units:
            x = self(x, n_filters, kernel)
        return x


def inception_v3(net: Compact, x: Tensor) -> Tensor:
    """Inception-v3 without its auxiliary classifier."""
    unit = _Units(net)
    x = unit(unit(unit(x, 32, 3, 2, pad=False), 32, 3, pad=False), 64, 3)
    x = unit(unit(max_pool(x, 3, 2), 80, 1), 192, 3, pad=False)
    x = max_pool(x, 3, 2)
    for n_pooled in (32, 64, 64):
        x = _branches(unit, x, [(64, 1)], [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)], pooled=n_pooled)
    x = _halved(unit, x, (), 384, [(64, 1), (96, 3)], 96)
    for n in (128, 160, 160, 192):
        once: list[_Unit] = [(n, 1), (n, _WIDE), (192, _TALL)]
        twice: list[_Unit] = [(n, 1), (n, _TALL), (n, _WIDE), (n, _TALL), (192, _WIDE)]
        x = _branches(unit, x, [(192, 1)], once, twice, pooled=192)
    x = _halved(unit, x, [(192, 1)], 320, [(192, 1), (192, _WIDE), (192, _TALL)], 192)
    for _ in range(2):
        one = unit(x, 320, 1)
        two = _forked(unit, unit(x, 384, 1))
        three = _forked(unit, unit.chain(x, (448, 1), (384, 3)))
        x = torch.cat([one, two, three, unit(mean_pool(x), 192, 1)], dim=1)
    return net.dense("predictions", global_mean(x))


def _branches(unit: _Units, x: Tensor, *chains: Sequence[_Unit], pooled: int) -> Tensor:
    found = [unit.chain(x, *chain) for chain in chains]
    return torch.cat([*found, unit(mean_pool(x), pooled, 1)], dim=1)


def _halved(
    unit: _Units, x: Tensor, first: Sequence[_Unit], n_first: int, second: Sequence[_Unit], n_second: int
) -> Tensor:
    one = unit(unit.chain(x, *first), n_first, 3, 2, pad=False)
    two = unit(unit.chain(x, *second), n_second, 3, 2, pad=False)
    return torch.cat([one, two, max_pool(x, 3, 2)], dim=1)


def _forked(unit: _Units, x: Tensor) -> Tensor:
    return torch.cat([unit(x, 384, (1, 3)), unit(x, 384, (3, 1))], dim=1)


def xception(net: Compact, x: Tensor) -> Tensor:
    """Xception."""
    x = relu(net.norm("block1_conv1_bn", net.convolve("block1_conv1", x, 32, 3, 2, pad=False)))
    x = relu(net.norm("block1_conv2_bn", net.convolve("block1_conv2", x, 64, 3, pad=False)))
    for number, width in enumerate((128, 256, 728)):
        x = _entry(net, number, f"block{number + 2}", x, (width, width), activated=number > 0)
    for block in range(5, 13):
        y = x
        for number in (1, 2, 3):
            y = _separable(net, f"block{block}_sepconv{number}", relu(y), 728)
        x = x + y
    x = _entry(net, 3, "block13", x, (728, 1024), activated=True)
    for number, width in ((1, 1536), (2, 2048)):
        x = relu(_separable(net, f"block14_sepconv{number}", x, width))
    return net.dense("predictions", global_mean(x))


def _entry(net: Compact, number: int, name: str, x: Tensor, widths: tuple[int, int], *, activated: bool) -> Tensor:
    suffix = f"_{number}" if number else ""
    shortcut = net.norm(f"batch_normalization{suffix}", net.convolve(f"conv2d{suffix}", x, widths[1], 1, 2))
    y = _separable(net, f"{name}_sepconv1", relu(x) if activated else x, widths[0])
    y = _separable(net, f"{name}_sepconv2", relu(y), widths[1])
    return shortcut + max_pool(y, 3, 2, pad=True)


def _separable(net: Compact, name: str, x: Tensor, n_filters: int) -> Tensor:
    return net.norm(f"{name}_bn", net.separable(name, x, n_filters, 3))


def nasnet_mobile(net: Compact, x: Tensor) -> Tensor:
    """NASNet-A (4 @ 1056); each cell sees the output of the cell before, and of the one before that."""
    stem = net.norm("stem_bn1", net.convolve("stem_conv1", x, 32, 3, 2, pad=False))
    before, now = stem, _reduction(net, "stem_1", stem, stem, 11)
    before, now = now, _reduction(net, "stem_2", now, before, 22)
    for stage, width in enumerate((44, 88, 176)):
        if stage:
            before, now = now, _reduction(net, f"reduce_{4 * stage}", now, before, width)
        for number in range(4):
            # The two reductions take numbers, too.
            block = str(5 * stage + number if stage < 2 else 9 + number)
            before, now = now, _normal(net, block, now, before, width)
    return net.dense("predictions", global_mean(relu(now)))


def _normal(net: Compact, name: str, now: Tensor, before: Tensor, width: int) -> Tensor:
    p = _adjusted(net, name, before, now, width)
    h = net.norm(f"normal_bn_1_{name}", net.convolve(f"normal_conv_1_{name}", relu(now), width))
    parts = [
        _twice(net, f"normal_left1_{name}", h, width, 5) + _twice(net, f"normal_right1_{name}", p, width, 3),
        _twice(net, f"normal_left2_{name}", p, width, 5) + _twice(net, f"normal_right2_{name}", p, width, 3),
        mean_pool(h) + p,
        mean_pool(p) + mean_pool(p),
        _twice(net, f"normal_left5_{name}", h, width, 3) + h,
    ]
    return torch.cat([p, *parts], dim=1)


def _reduction(net: Compact, name: str, now: Tensor, before: Tensor, width: int) -> Tensor:
    p = _adjusted(net, name, before, now, width) if before is not now else now
    h = net.norm(f"reduction_bn_1_{name}", net.convolve(f"reduction_conv_1_{name}", relu(now), width))
    # Padded by zeros even where the largest value is taken.
    wide = padded(h, (3, 3), 2)
    one = _twice(net, f"reduction_left1_{name}", h, width, 5, 2) + _twice(
        net, f"reduction_right1_{name}", p, width, 7, 2
    )
    two = max_pool(wide, 3, 2) + _twice(net, f"reduction_right2_{name}", p, width, 7, 2)
    three = functional.avg_pool2d(wide, 3, 2) + _twice(net, f"reduction_right3_{name}", p, width, 5, 2)
    four = mean_pool(one) + two
    five = _twice(net, f"reduction_left4_{name}", one, width, 3) + max_pool(wide, 3, 2)
    return torch.cat([two, three, four, five], dim=1)


def _twice(net: Compact, name: str, x: Tensor, width: int, kernel: int, stride: int = 1) -> Tensor:
    x = net.separable(f"separable_conv_1_{name}", relu(x), width, kernel, stride)
    x = net.separable(f"separable_conv_2_{name}", relu(net.norm(f"separable_conv_1_bn_{name}", x)), width, kernel)
    return net.norm(f"separable_conv_2_bn_{name}", x)


def _adjusted(net: Compact, name: str, before: Tensor, now: Tensor, width: int) -> Tensor:
    """The older of a cell's two inputs in the size of the newer."""
    x = relu(before)
    if before.shape[2] != now.shape[2]:
        shifted = functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        even = net.convolve(f"adjust_conv_1_{name}", x[:, :, ::2, ::2], width // 2)
        odd = net.convolve(f"adjust_conv_2_{name}", shifted[:, :, ::2, ::2], width // 2)
        return net.norm(f"adjust_bn_{name}", torch.cat([even, odd], dim=1))
    if before.shape[1] != width:
        return net.norm(f"adjust_bn_{name}", net.convolve(f"adjust_conv_projection_{name}", x, width))
    return before
