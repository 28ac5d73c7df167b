"""Channels rescaled on one side and scaled back on the other: free wherever positive factors pass through.

NeuronScale (Yan et al., arXiv 2205.00199). A ReLU, a PReLU, a maximum, a sum all let a positive factor through, so the
layer that makes a channel and those that use it can share its size as they like. Before a batch normalisation the scale
of a layer does not matter at all: with ``mean' = s mean`` and ``gamma' = gamma / s`` the result is the same, exactly,
where scaling the variance would be off by epsilon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from onnxmark.arrays import Float32Array
from onnxmark.attacks.attack import FileMeans, Means
from onnxmark.model.channels.groups import ChannelGroup, Commutes
from onnxmark.model.channels.moving import scale_channels
from onnxmark.model.editing.editable import EditableModel
from onnxmark.symmetries.regions import free_regions
from onnxmark.symmetries.symmetry import Symmetry, log_normal, rescaled


@dataclass(frozen=True, slots=True)
class Rescaling(Symmetry):
    """Multiply every channel by a log-normal factor, and divide by it where the channel is used.

    A lone layer gets factors on both sides, as it does in a file between two others.

    Args:
        strength: Standard deviation of the factors' logarithm, 0 or more.
    """

    name: ClassVar[str] = "rescale"
    summary: ClassVar[str] = "rescale channels, function kept; standard deviation of log factors, 0 or more"
    random: ClassVar[bool] = True
    strengths: ClassVar[tuple[float, ...]] = (0.1, 0.25, 0.5, 1.0, 1.5)
    done: ClassVar[str] = "channels rescaled"
    wanted: ClassVar[str] = "have its channels rescaled"

    strength: float

    def __post_init__(self) -> None:
        if not 0 <= self.strength < math.inf:
            raise ValueError(f"the strength of rescaling must be finite and not negative, found {self.strength!r}")

    @property
    def label(self) -> str:
        """``rescaling of channels 0.5 log-σ``."""
        return f"rescaling of channels {self.strength:.10g} log-σ"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        outputs, inputs = (log_normal(size, self.strength, means.rng) for size in values.shape[:2])
        return rescaled(values, outputs, inputs)

    def move(self, model: EditableModel, group: ChannelGroup, means: FileMeans) -> str | None:
        """See :class:`onnxmark.symmetries.symmetry.GroupAttack`."""
        if self.strength == 0:
            return "all factors are 1"
        free = free_regions(group, Commutes.SCALE, means.layers)
        if isinstance(free, str):
            return free
        scale_channels(model, group, {region: log_normal(group.size, self.strength, means.rng) for region in free})
        return None
