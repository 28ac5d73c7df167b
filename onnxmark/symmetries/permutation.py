"""Channels in another order: the plainest symmetry, and enough to misread every key of the full weights.

LayerShuffle (Yan et al., arXiv 2205.00199). Which side is permuted matters: a mean over filters does not notice their
order, so a mark in it survives a permutation of the outputs and is lost to one of the inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from onnxmark.arrays import Float32Array
from onnxmark.attacks.attack import FileMeans, Means
from onnxmark.model.channels.groups import ChannelGroup, Role
from onnxmark.model.channels.moving import take_channels
from onnxmark.model.editing.editable import EditableModel
from onnxmark.symmetries.symmetry import Layers, Symmetry, cycle, names


@dataclass(frozen=True, slots=True)
class _Permutation(Symmetry, Protocol):
    """What the permutations share.

    Args:
        fraction: Part of the channels that move, 0 to 1; they change places along one random cycle.
    """

    title: ClassVar[str]
    roles: ClassVar[tuple[Role, ...]]
    """What a group must be to a layer under attack."""
    random: ClassVar[bool] = True
    strengths: ClassVar[tuple[float, ...]] = (0.1, 0.25, 0.5, 1.0)
    done: ClassVar[str] = "channels permuted"
    wanted: ClassVar[str] = "have its channels permuted"

    fraction: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"the fraction to permute must be from 0 to 1, found {self.fraction!r}")

    @property
    def label(self) -> str:
        """Which channels move, and what part of them (``permutation of channels 100 %``)."""
        return f"{self.title} {100 * self.fraction:.10g} %"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        for role, axis in ((Role.PRODUCER, 0), (Role.CONSUMER, 1)):
            if role in self.roles:
                values = np.take(values, cycle(values.shape[axis], self.fraction, means.rng), axis)
        return np.ascontiguousarray(values)

    def move(self, model: EditableModel, group: ChannelGroup, means: FileMeans) -> str | None:
        """See :class:`onnxmark.symmetries.symmetry.GroupAttack`."""
        if group.problem is not None:
            return group.problem
        if round(self.fraction * group.size) < 2:
            return "fewer than two channels would move"
        take_channels(model, group, cycle(group.size, self.fraction, means.rng))
        return None

    def adjacent(self, group: ChannelGroup, layers: Layers) -> bool:
        """Whether the channels that move are on the sides of the layers under attack that are to move."""
        return any(names(use, layers) for use in group.having(*self.roles))


@dataclass(frozen=True, slots=True)
class Permutation(_Permutation):
    """Permute the input and the output channels of every layer, in a file together with their neighbours.

    Args:
        fraction: Part of the channels that move, 0 to 1; they change places along one random cycle.
    """

    name: ClassVar[str] = "permute"
    title: ClassVar[str] = "permutation of channels"
    summary: ClassVar[str] = "permute the channels of layers, function kept; fraction of the channels, 0 to 1"
    roles: ClassVar[tuple[Role, ...]] = (Role.PRODUCER, Role.DEPTHWISE, Role.CONSUMER)


@dataclass(frozen=True, slots=True)
class InputPermutation(_Permutation):
    """Permute input channels: in a file, those of the layers under attack, with whatever makes them.

    Where channels are added by residual connections they move everywhere, so the outputs of some layers move too; and
    with no layers chosen the inputs of all layers move, which are the outputs of others.

    Args:
        fraction: Part of the channels that move, 0 to 1; they change places along one random cycle.
    """

    name: ClassVar[str] = "permute-inputs"
    title: ClassVar[str] = "permutation of input channels"
    summary: ClassVar[str] = "permute the input channels of layers, function kept; fraction of the channels, 0 to 1"
    roles: ClassVar[tuple[Role, ...]] = (Role.CONSUMER,)


@dataclass(frozen=True, slots=True)
class OutputPermutation(_Permutation):
    """Permute output channels: in a file, those of the layers under attack, with whatever uses them.

    What :class:`InputPermutation` says of residual connections and of no layers chosen holds here, too.

    Args:
        fraction: Part of the channels that move, 0 to 1; they change places along one random cycle.
    """

    name: ClassVar[str] = "permute-outputs"
    title: ClassVar[str] = "permutation of output channels"
    summary: ClassVar[str] = "permute the output channels of layers, function kept; fraction of the channels, 0 to 1"
    roles: ClassVar[tuple[Role, ...]] = (Role.PRODUCER, Role.DEPTHWISE)
