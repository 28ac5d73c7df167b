"""Fine-pruning: channels that clean data leave silent are removed, then the network is fine-tuned.

Liu, Dolan-Gavitt, Garg: Fine-Pruning (RAID 2018, arXiv 1805.12185), made against backdoors. Reconstruction: the paper
prunes the last convolution; here every layer but the first is pruned, since a thief does not know which one holds the
mark. A channel is silenced where it is read, so that normalisation and residual additions before it do not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn

from onnxmark.attacks.pruning import count_of
from onnxmark.errors import AttackError
from onnxmark_torch.attacks.attack import TrainingAttack, TrainingMeans, described
from onnxmark_torch.attacks.copies import copied
from onnxmark_torch.attacks.masks import Masks
from onnxmark_torch.layers import HostLayer, host_layers
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.training import logits_of, train

_WATCHED: Final = 2000
"""Training images that activity is measured on, at most."""


@dataclass(frozen=True, slots=True)
class FinePruning(TrainingAttack):
    """Zero what reads the least active input channels of every layer but the first, then fine-tune the rest.

    Args:
        fraction: Part of each layer's input channels to silence, 0 to 1.
        epochs: Times the thief's images are seen afterwards, at least 1.
        rate: Learning rate at the start, above 0.
        batch_size: Images a step.
    """

    name: ClassVar[str] = "fine-prune"
    summary: ClassVar[str] = "silence the least active channels, then fine-tune; fraction of each layer's, 0 to 1"
    random: ClassVar[bool] = True
    strengths: ClassVar[tuple[float, ...]] = (0.1, 0.3, 0.5, 0.8)

    fraction: float
    epochs: int = 10
    rate: float = 0.01
    batch_size: int = 64

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"the fraction to prune must be from 0 to 1 (0.3 for 30 %), found {self.fraction!r}")
        self._plan(0)

    @property
    def label(self) -> str:
        """``fine-pruning 30 %``, with what differs from the default."""
        return described(self, f"fine-pruning {100 * self.fraction:.10g} %")

    def run(self, model: nn.Module, means: TrainingMeans) -> nn.Module:
        """See :class:`onnxmark_torch.attacks.attack.TrainingAttack`."""
        stolen = copied(model)
        masks = self._masks(stolen, means)
        masks.hold(stolen)
        train(stolen, means.task, self._plan(means.seed), hooks=masks.hooks, show=means.show)
        return stolen

    def _masks(self, model: nn.Module, means: TrainingMeans) -> Masks:
        layers = [layer for layer in host_layers(model) if layer.stores_weight][1:]
        if not layers:
            raise AttackError("the model has a single layer at most, whose channels are the image's")
        activity = measured_activity(model, layers, means)
        loudest = (_loudest(activity[layer.name], self.fraction) for layer in layers)
        return Masks({f"{one.name}.weight": reading_mask(one, kept) for one, kept in zip(layers, loudest, strict=True)})

    def _plan(self, seed: int) -> TrainingPlan:
        return TrainingPlan(self.epochs, self.batch_size, self.rate, seed=seed)


def measured_activity(model: nn.Module, layers: Sequence[HostLayer], means: TrainingMeans) -> dict[str, Tensor]:
    """How much each layer gets from each of its input channels over training images.

    Returns:
        By layer name the sum of absolute values, shape (in,), float64: comparable within a layer only.

    Raises:
        AttackError: A layer is never called.
    """
    examples = means.task.training
    sums: dict[str, Tensor] = {}
    with _watched(layers, sums):
        logits_of(model, means.task, examples.first(min(_WATCHED, len(examples))))
    silent = [layer.name for layer in layers if layer.name not in sums]
    if silent:
        raise AttackError(f"layer {silent[0]!r} is never called, so its channels have no activity")
    return sums


def reading_mask(layer: HostLayer, kept: Tensor) -> Tensor:
    """Which weights of a layer read channels that are kept.

    Args:
        layer: The layer.
        kept: Shape (in,), bool.

    Returns:
        Bool, of the shape and in the order of the layer's weight.
    """
    weight = layer.weight
    if layer.is_transposed:
        rows = kept[:, None]
    else:
        blocks = kept.reshape(layer.group, weight.shape[1])
        rows = blocks.repeat_interleave(weight.shape[0] // layer.group, dim=0)
    return rows.reshape(*rows.shape, *[1] * (weight.ndim - 2)).expand(weight.shape).clone()


def _loudest(activity: Tensor, fraction: float) -> Tensor:
    """True for all channels but the ``fraction`` of least activity, ties by position, the earlier first."""
    kept = torch.ones_like(activity, dtype=torch.bool)
    kept[activity.argsort(stable=True)[: count_of(fraction, len(activity))]] = False
    return kept


@contextmanager
def _watched(layers: Sequence[HostLayer], sums: dict[str, Tensor]) -> Iterator[None]:
    handles = [layer.module.register_forward_pre_hook(_watcher(layer, sums)) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _watcher(layer: HostLayer, sums: dict[str, Tensor]) -> Any:
    channel = -1 if isinstance(layer.module, nn.Linear) else 1

    def watch(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        total = inputs[0].detach().abs().movedim(channel, -1).flatten(0, -2).double().sum(dim=0)
        sums[layer.name] = total + sums.get(layer.name, 0)

    return watch
