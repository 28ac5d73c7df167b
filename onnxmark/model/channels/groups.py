"""Channels that must move together: which slices of which constants belong to one neuron of a network.

The outputs of a layer pass through normalisations, activations, pooling and residual sums into the inputs of others.
Whoever reorders, rescales, removes or adds such a channel has to do it in all of these places at once: that is one
channel group. A group falls into *regions*, divided where an operator has a factor of its own for each channel
(normalisation, depthwise convolution); within a region all values must be rescaled alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Flag, StrEnum, auto

import numpy as np

from onnxmark.arrays import AnyArray
from onnxmark.model.editing.editable import Node


class Commutes(Flag):
    """Which factors of a channel pass through an operator unchanged: f(s x) = s f(x)."""

    NOTHING = 0
    ZERO = auto()
    """0: what a channel of zeros becomes is zeros."""
    SCALE = auto()
    """Positive factors."""
    SIGN = auto()
    """-1."""
    HOMOGENEOUS = ZERO | SCALE
    """ReLU, maximum pooling."""
    ODD = ZERO | SIGN
    """tanh."""
    LINEAR = ZERO | SCALE | SIGN
    """Sums, averages."""


class Role(StrEnum):
    """What a constant is to the channels."""

    PRODUCER = "producer"
    """Weights whose outputs are the channels."""
    BIAS = "bias"
    """Bias of a producer or depthwise convolution."""
    SHIFT = "shift"
    """Constant added to the channels, or compared with them."""
    FACTOR = "factor"
    """Constant the channels are multiplied with or divided by."""
    SLOPE = "slope"
    """Slope of a PRelu."""
    GAMMA = "gamma"
    BETA = "beta"
    MEAN = "mean"
    VARIANCE = "variance"
    DEPTHWISE = "depthwise"
    """Weights of a convolution of each channel by itself."""
    CONSUMER = "consumer"
    """Weights whose inputs are the channels."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where the channels lie in a tensor: channel c at the indices ``(o * size + c) * inner + i`` of ``axis``.

    Args:
        axis: From the end for activations (-1 is the last), from the start for constants.
        outer: Number of times the sequence of channels repeats.
        inner: Indices a channel takes at a stretch, as after a Flatten.
    """

    axis: int
    outer: int = 1
    inner: int = 1

    @property
    def repeats(self) -> int:
        """Indices that belong to one channel."""
        return self.outer * self.inner


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """A constant that has a slice for each channel.

    With a factor s_r for each channel in each region r, the slices have to be multiplied by ``s_gives / s_takes`` for
    the network to stay the same, where an absent region counts as 1.

    Args:
        tensor: Name of the stored tensor.
        node: The node that uses it.
        place: At which input.
        slot: Where in the constant the channels are.
        role: What it is to them.
        takes: Region of the channels it is applied to.
        gives: Region of the channels it makes or is added to.
    """

    tensor: str
    node: Node
    place: int
    slot: Slot
    role: Role
    takes: int | None = None
    gives: int | None = None


@dataclass(frozen=True, slots=True)
class Region:
    """Values that must be rescaled alike.

    Args:
        values: Their names, in the order they were found.
        commutes: The factors they may have.
        problem: Why nothing of the kind can be done; None where it can.
    """

    values: tuple[str, ...]
    commutes: Commutes
    problem: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ChannelGroup:
    """Channels that must be moved, added and removed together.

    Args:
        size: Number of channels.
        regions: Where they pass, divided at normalisations and depthwise convolutions.
        uses: The constants that have a slice for each channel, in graph order.
        problem: Why the channels cannot be reordered; None where they can.
        rigid: Why their number cannot change; None where it can.
    """

    size: int
    regions: tuple[Region, ...]
    uses: tuple[Use, ...]
    problem: str | None = None
    rigid: str | None = None

    @property
    def name(self) -> str:
        """The tensor the channels come from, or else the value."""
        return next((use.tensor for use in self.uses if use.role is Role.PRODUCER), self.regions[0].values[0])

    def having(self, *roles: Role) -> tuple[Use, ...]:
        """The uses in one of ``roles``."""
        return tuple(use for use in self.uses if use.role in roles)


def rows_of(values: AnyArray, slot: Slot) -> AnyArray:
    """A constant as one row a channel, shape (size, everything else)."""
    before, after = values.shape[: slot.axis], values.shape[slot.axis + 1 :]
    size = values.shape[slot.axis] // slot.repeats
    apart = values.reshape(*before, slot.outer, size, slot.inner, *after)
    return np.moveaxis(apart, slot.axis + 1, 0).reshape(size, -1)


def from_rows(rows: AnyArray, shape: tuple[int, ...], slot: Slot) -> AnyArray:
    """Inverse of :func:`rows_of`; ``shape`` is that of the constant the rows were taken from, of whatever size."""
    before, after = shape[: slot.axis], shape[slot.axis + 1 :]
    apart = np.moveaxis(rows.reshape(len(rows), *before, slot.outer, slot.inner, *after), 0, slot.axis + 1)
    return np.ascontiguousarray(apart.reshape(*before, slot.repeats * len(rows), *after))
