"""What the channel symmetries share: find the groups of a file, change those that may be, say what stays.

Yan et al. call them invariant neuron transforms (arXiv 2205.00199: LayerShuffle, NeuronScale, SignFlip); what is here
is our reconstruction of them from second-hand definitions. Each is a change of a lone layer, so that a sweep can try it
on the layer that holds a mark, and a change of a file, in which the neighbours take it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from onnxmark.arrays import Float32Array, Float64Array, Int64Array
from onnxmark.attacks.attack import Attack, FileMeans, ModelAttack
from onnxmark.attacks.saturation import saturated
from onnxmark.errors import AttackError
from onnxmark.model.channels.grouping import channel_groups
from onnxmark.model.channels.groups import ChannelGroup, Role, Use
from onnxmark.model.editing.editable import EditableModel
from onnxmark.symmetries.account import Account

HOSTS = (Role.PRODUCER, Role.DEPTHWISE, Role.CONSUMER)
"""What a channel group may be to a layer's weights."""
Layers = tuple[str, ...] | None


class GroupAttack(ModelAttack, Protocol):
    """An attack that goes through a file one channel group after the other."""

    done: ClassVar[str]
    """What is reported of the groups that were changed (``channels permuted``)."""
    wanted: ClassVar[str]
    """The same in the passive, for when there are none (``have its channels permuted``)."""

    def move(self, model: EditableModel, group: ChannelGroup, means: FileMeans) -> str | None:
        """Change one group of ``model``.

        Returns:
            None where that was done; why not, where the group stays as it is.
        """
        ...

    def adjacent(self, group: ChannelGroup, layers: Layers) -> bool:
        """Whether a group touches one of the layers under attack."""
        return any(names(use, layers) for use in group.having(*HOSTS))

    def rewrite(self, source: Path, output: Path, means: FileMeans) -> tuple[str, ...]:
        """See :class:`onnxmark.attacks.attack.ModelAttack`."""
        model = EditableModel.load(source)
        account = Account()
        for group in self._chosen(source, channel_groups(model), means.layers):
            problem = self.move(model, group, means)
            if problem is None:
                account.done.append(group.name)
            else:
                account.leave(group.name, problem)
        account.require(source, self.wanted)
        model.save(output)
        return account.sentences(self.done)

    def _chosen(self, source: Path, groups: tuple[ChannelGroup, ...], layers: Layers) -> Iterator[ChannelGroup]:
        """The groups to attack.

        Raises:
            AttackError: A layer under attack has no channels that can be followed.
        """
        for layer in layers or ():
            if not any(self.adjacent(group, (layer,)) for group in groups):
                raise AttackError(
                    f"{str(source)!r}: no channels lead to or from a layer {layer!r} with floating-point weights in the"
                    " main graph; onnxmark inspect lists the layers"
                )
        return (group for group in groups if self.adjacent(group, layers))


class Symmetry(Attack, GroupAttack, Protocol):
    """A change of the channels of a lone layer, or of a file where it is taken back."""


def names(use: Use, layers: Layers) -> bool:
    """Whether the constant of a use, or its node, is among ``layers``; None stands for all."""
    return layers is None or use.tensor in layers or use.node.name in layers


def cycle(size: int, fraction: float, rng: np.random.Generator) -> Int64Array:
    """An order of ``size`` channels in which ``round(fraction * size)`` drawn at random move, and none of them stays.

    They move along a cycle through all of them in random order; fewer than two cannot move.
    """
    chosen = rng.permutation(size)[: round(fraction * size)]
    order = np.arange(size)
    order[chosen] = np.roll(chosen, 1)
    return order


def log_normal(size: int, strength: float, rng: np.random.Generator) -> Float64Array:
    """Positive factors (size,) whose logarithms are normal with standard deviation ``strength``."""
    return np.exp(strength * rng.standard_normal(size))


def signs(size: int, fraction: float, rng: np.random.Generator) -> Float64Array:
    """Factors (size,): -1 for ``round(fraction * size)`` drawn at random, else 1."""
    factors = np.ones(size)
    factors[rng.permutation(size)[: round(fraction * size)]] = -1
    return factors


def rescaled(values: Float32Array, outputs: Float64Array, inputs: Float64Array) -> Float32Array:
    """A lone layer with its filters multiplied by ``outputs`` and its input channels by ``inputs``, kept finite."""
    rest = (1,) * (values.ndim - 2)
    with np.errstate(over="ignore"):
        changed = values * (outputs.reshape(-1, 1, *rest) * inputs.reshape(1, -1, *rest))
    return saturated(changed)
