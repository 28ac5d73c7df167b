"""Quantisation-aware training: weights are rounded in every forward pass, and learn to live with it.

Jacob et al.: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference (CVPR 2018,
arXiv 1712.05877), weights only; the gradient passes the rounding as if it were not there (Bengio, Léonard, Courville
2013, arXiv 1308.3432). A thief does this when rounding at once costs him too much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from onnxmark.attacks import Means, UniformQuantisation
from onnxmark.errors import AttackError
from onnxmark_torch.attacks.attack import TrainingAttack, TrainingMeans, described
from onnxmark_torch.attacks.copies import copied
from onnxmark_torch.layers import HostLayer, host_layers
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.training import train


@dataclass(frozen=True, slots=True)
class QuantisationAwareTraining(TrainingAttack):
    """Fine-tune all layers with weights rounded to even levels of both signs, then round them for good.

    Args:
        bits: Bits a weight, 2 to 16: 2^bits - 1 levels, one of them 0.
        per_channel: A range of its own for each output channel, instead of one for the layer.
        epochs: Times the thief's images are seen, at least 1.
        rate: Learning rate at the start, above 0.
        batch_size: Images a step.
    """

    name: ClassVar[str] = "quantize-trained"
    summary: ClassVar[str] = "fine-tune with rounded weights; bits a weight, 2 to 16"
    random: ClassVar[bool] = True
    strengths: ClassVar[tuple[int, ...]] = (8, 4, 3, 2)

    bits: int
    per_channel: bool = True
    epochs: int = 10
    rate: float = 0.01
    batch_size: int = 64

    def __post_init__(self) -> None:
        if type(self.bits) is not int or not 2 <= self.bits <= 16:
            raise ValueError(f"bits must be a whole number from 2 to 16, found {self.bits!r}")
        self._plan(0)

    @property
    def label(self) -> str:
        """``quantisation-aware training 4 bit``, with what differs from the default."""
        return described(self, f"quantisation-aware training {self.bits} bit")

    def run(self, model: nn.Module, means: TrainingMeans) -> nn.Module:
        """See :class:`onnxmark_torch.attacks.attack.TrainingAttack`."""
        stolen = copied(model)
        layers = _layers(stolen)
        for layer in layers:
            rounding = Rounding(self.bits, channel=_channel(layer) if self.per_channel else None)
            parametrize.register_parametrization(layer.module, "weight", rounding, unsafe=True)
        train(stolen, means.task, self._plan(means.seed), show=means.show)
        for layer in layers:
            parametrize.remove_parametrizations(layer.module, "weight", leave_parametrized=False)
            self._round(layer)
        return stolen

    def _round(self, layer: HostLayer) -> None:
        """Round as the attack on a file does, in the order of axes in which it sees the layer."""
        attack = UniformQuantisation(self.bits, self.per_channel, symmetric=True)
        channel = _channel(layer)
        with torch.no_grad():
            values = layer.weight.movedim(channel, 0).cpu().numpy()
            rounded = torch.from_numpy(attack.change(values, Means(np.random.default_rng(0))))
            layer.weight.copy_(rounded.movedim(0, channel))

    def _plan(self, seed: int) -> TrainingPlan:
        return TrainingPlan(self.epochs, self.batch_size, self.rate, seed=seed)


class Rounding(nn.Module):
    """Weights rounded to ``q * {-n..n}`` with ``n = 2^(bits - 1) - 1`` and q so that the largest weight is a level.

    Args:
        bits: Bits a weight, 2 or more.
        channel: Axis with a q for each index; None for one q.
    """

    def __init__(self, bits: int, channel: int | None) -> None:
        super().__init__()
        self.n_levels = 2 ** (bits - 1) - 1
        self.channel = channel

    def forward(self, weight: Tensor) -> Tensor:
        """Rounded weights of the same shape, through which the gradient passes unchanged."""
        return cast(Tensor, _StraightThrough.apply(weight, self._step(weight)))  # type: ignore[no-untyped-call]

    def _step(self, weight: Tensor) -> Tensor:
        magnitudes = weight.detach().abs()
        others = tuple(axis for axis in range(weight.ndim) if axis != self.channel)
        largest = magnitudes.max() if self.channel is None else magnitudes.amax(dim=others, keepdim=True)
        # A channel of zeros has no range; any step leaves it zero.
        return torch.where(largest > 0, largest / self.n_levels, torch.ones_like(largest))


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, weight: Tensor, step: Tensor) -> Tensor:
        return torch.round(weight / step) * step

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _layers(model: nn.Module) -> tuple[HostLayer, ...]:
    layers = tuple(layer for layer in host_layers(model) if layer.stores_weight)
    if not layers:
        raise AttackError("the model has no linear or convolution layer to quantise")
    return layers


def _channel(layer: HostLayer) -> int:
    """Axis of a layer's weight, as the module stores it, that runs over outputs (of a group, where transposed)."""
    return 1 if layer.is_transposed else 0
