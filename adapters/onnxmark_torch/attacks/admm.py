"""Compression by the alternating direction method of multipliers: weights led to a sparse or coarse copy of themselves.

Zhang et al.: A Systematic DNN Weight Pruning Framework using ADMM (ECCV 2018, arXiv 1804.03294); with clustering and
quantisation Ye et al. (2019, arXiv 1903.09769). In turns ``W: train the loss + rho/2 |W - Z + U|²``,
``Z = projection(W + U)``, ``U += W - Z``; then the projection for good, and what is still free trains on.

Reconstruction: rho is constant, codebooks and steps between levels are fitted anew in every round, and every layer
loses the same fraction (the papers choose one for each layer by hand).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from onnxmark.attacks import AdmmClustering, AdmmQuantisation, Attack, MagnitudePruning, Means
from onnxmark.errors import AttackError
from onnxmark_torch.attacks.attack import TrainingAttack, TrainingMeans, described
from onnxmark_torch.attacks.copies import copied
from onnxmark_torch.attacks.masks import Masks
from onnxmark_torch.layers import host_layers
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.training import Hooks, train


@dataclass(slots=True, eq=False)
class Splitting:
    """Weights W, their compressed copies Z and what the two still differ by, U: one round of the method at a time.

    Args:
        weights: W, parameters of a model.
        projection: From weights to the nearest compressed ones.
        rho: How hard W is pulled, above 0.
        copies: Z, one for each weight tensor.
        differences: U, likewise.
    """

    weights: Sequence[nn.Parameter]
    projection: Attack
    rho: float
    copies: list[Tensor]
    differences: list[Tensor]

    @classmethod
    def start(cls, weights: Sequence[nn.Parameter], projection: Attack, rho: float) -> Splitting:
        """Z the projection of W, U zero."""
        copies = [projected(projection, weight) for weight in weights]
        return cls(weights, projection, rho, copies, [torch.zeros_like(weight) for weight in weights])

    def pull(self, model: nn.Module) -> None:
        """Add the gradient of ``rho/2 |W - Z + U|²`` to the weights' own."""
        with torch.no_grad():
            for weight, copy, difference in self._all():
                pull = self.rho * (weight - copy + difference)
                weight.grad = pull if weight.grad is None else weight.grad.add_(pull)

    def update(self) -> None:
        """``Z = projection(W + U)``, then ``U += W - Z``."""
        with torch.no_grad():
            self.copies = [projected(self.projection, weight + off) for weight, _, off in self._all()]
            for weight, copy, difference in self._all():
                difference.add_(weight - copy)

    def settle(self) -> None:
        """Put the projection of W in its place."""
        with torch.no_grad():
            for weight in self.weights:
                weight.copy_(projected(self.projection, weight))

    def _all(self) -> Iterator[tuple[nn.Parameter, Tensor, Tensor]]:
        return zip(self.weights, self.copies, self.differences, strict=True)


def projected(projection: Attack, weight: Tensor) -> Tensor:
    """The projection of a tensor, of its shape, type and device.

    The projections look at every weight alone, so that the order of the axes, which differs between frameworks, does
    not matter; among equal magnitudes it may.
    """
    values = weight.detach().cpu().numpy().astype(np.float32)
    return torch.from_numpy(projection.change(values, Means(np.random.default_rng(0)))).to(weight)


@dataclass(frozen=True, slots=True)
class _Admm(TrainingAttack, Protocol):
    """What the three share; see :class:`AdmmPruningTraining`."""

    title: ClassVar[str]
    random: ClassVar[bool] = True
    strengths: ClassVar[tuple[float, ...]] = (0.5, 0.8, 0.9, 0.95)

    fraction: float
    rho: float = 0.01
    rounds: int = 8
    epochs: int = 2
    retraining: int = 8
    rate: float = 0.01
    batch_size: int = 64

    def __post_init__(self) -> None:
        self._check()

    @property
    def projection(self) -> Attack:
        """What the weights of each layer are compressed to, as the attack on one layer that does only that."""
        ...

    @property
    def label(self) -> str:
        """``ADMM pruning 90 %``, with what differs from the default."""
        return described(self, f"{self.title} {100 * self.fraction:.10g} %")

    def run(self, model: nn.Module, means: TrainingMeans) -> nn.Module:
        """See :class:`onnxmark_torch.attacks.attack.TrainingAttack`."""
        stolen = copied(model)
        weights = _weights(stolen)
        splitting = Splitting.start(list(weights.values()), self.projection, self.rho)
        for round_ in range(self.rounds):
            plan = TrainingPlan(self.epochs, self.batch_size, self.rate, milestones=(), seed=means.seed + round_)
            train(stolen, means.task, plan, hooks=Hooks(before_step=splitting.pull), show=means.show)
            splitting.update()
        splitting.settle()
        self.retrain(stolen, weights, means)
        return stolen.requires_grad_()

    def retrain(self, stolen: nn.Module, weights: dict[str, nn.Parameter], means: TrainingMeans) -> None:
        """Train what the constraint leaves free: everything but the compressed weights."""
        for weight in weights.values():
            weight.requires_grad = False
        if any(parameter.requires_grad for parameter in stolen.parameters()):
            self._train_on(stolen, means, Hooks())

    def _train_on(self, stolen: nn.Module, means: TrainingMeans, hooks: Hooks) -> None:
        plan = TrainingPlan(self.retraining, self.batch_size, self.rate, seed=means.seed + self.rounds)
        train(stolen, means.task, plan, hooks=hooks, show=means.show)

    def _check(self) -> None:
        if not 0 < self.rho < float("inf"):
            raise ValueError(f"rho must be finite and above 0, found {self.rho!r}")
        if type(self.rounds) is not int or self.rounds < 1:
            raise ValueError(f"rounds must be a whole number from 1, found {self.rounds!r}")
        for epochs in (self.epochs, self.retraining):
            TrainingPlan(epochs, self.batch_size, self.rate)
        # The projection knows its own limits.
        _ = self.projection


@dataclass(frozen=True, slots=True)
class AdmmPruningTraining(_Admm):
    """Prune every layer by ADMM, then retrain what is left with the zeros held (Zhang et al. 2018).

    Args:
        fraction: Part of each layer's weights that end as zeros, 0 to 1.
        rho: How hard the weights are pulled to their sparse copy, above 0.
        rounds: How often the copy moves, 1 or more.
        epochs: Times the thief's images are seen in a round, at least 1.
        retraining: Times they are seen after the last round, at least 1.
        rate: Learning rate, above 0; constant in the rounds.
        batch_size: Images a step.
    """

    name: ClassVar[str] = "admm-prune-trained"
    title: ClassVar[str] = "ADMM pruning"
    summary: ClassVar[str] = "prune by ADMM and retrain; fraction of each layer, 0 to 1"

    @property
    def projection(self) -> Attack:
        """Pruning by magnitude."""
        return MagnitudePruning(self.fraction)

    def retrain(self, stolen: nn.Module, weights: dict[str, nn.Parameter], means: TrainingMeans) -> None:
        """Train everything but the zeros."""
        masks = Masks({name: weight.detach() != 0 for name, weight in weights.items()})
        self._train_on(stolen, means, masks.hooks)


@dataclass(frozen=True, slots=True)
class AdmmClusteringTraining(_Admm):
    """Prune every layer and cluster what is left by ADMM, then retrain all that is no weight (Ye et al. 2019).

    Args:
        fraction: Part of each layer's weights that end as zeros, 0 to 1.
        rho: How hard the weights are pulled, above 0.
        rounds: How often the compressed copy moves, 1 or more.
        epochs: Times the thief's images are seen in a round, at least 1.
        retraining: Times they are seen after the last round, at least 1.
        rate: Learning rate, above 0.
        batch_size: Images a step.
        bits: Bits an index into a layer's codebook, 1 to 16.
    """

    name: ClassVar[str] = "admm-cluster-trained"
    title: ClassVar[str] = "ADMM pruning and clustering"
    summary: ClassVar[str] = "prune and cluster by ADMM; fraction of each layer pruned, 0 to 1"

    bits: int = 5

    @property
    def projection(self) -> Attack:
        """Pruning, then k-means clustering."""
        return AdmmClustering(self.fraction, self.bits)


@dataclass(frozen=True, slots=True)
class AdmmQuantisationTraining(_Admm):
    """Prune every layer and round what is left to even levels by ADMM, then retrain all that is no weight (Ye 2019).

    Args:
        fraction: Part of each layer's weights that end as zeros, 0 to 1.
        rho: How hard the weights are pulled, above 0.
        rounds: How often the compressed copy moves, 1 or more.
        epochs: Times the thief's images are seen in a round, at least 1.
        retraining: Times they are seen after the last round, at least 1.
        rate: Learning rate, above 0.
        batch_size: Images a step.
        bits: Bits a level, 1 to 16.
    """

    name: ClassVar[str] = "admm-quantize-trained"
    title: ClassVar[str] = "ADMM pruning and quantisation"
    summary: ClassVar[str] = "prune and quantise by ADMM; fraction of each layer pruned, 0 to 1"

    bits: int = 5

    @property
    def projection(self) -> Attack:
        """Pruning, then rounding to levels without 0."""
        return AdmmQuantisation(self.fraction, self.bits)


def _weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of all host layers by parameter name."""
    layers = [layer for layer in host_layers(model) if layer.stores_weight]
    if not layers:
        raise AttackError("the model has no linear or convolution layer to compress")
    names = (f"{layer.name}.weight" for layer in layers)
    return {name: model.get_parameter(name) for name in names}
