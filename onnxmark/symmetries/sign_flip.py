"""Channels with their signs turned: where activations are odd, and before every batch normalisation.

SignFlip (Yan et al., arXiv 2205.00199). Between layers joined by tanh or by nothing, both can turn; a convolution
before a batch normalisation turns with its mean and its gamma, whatever activation follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnxmark.arrays import Float32Array
from onnxmark.attacks.attack import FileMeans, Means
from onnxmark.model.channels.groups import ChannelGroup, Commutes
from onnxmark.model.channels.moving import scale_channels
from onnxmark.model.editing.editable import EditableModel
from onnxmark.symmetries.regions import free_regions
from onnxmark.symmetries.symmetry import Symmetry, rescaled, signs


@dataclass(frozen=True, slots=True)
class SignFlip(Symmetry):
    """Multiply channels by -1, and again where they are used.

    A lone layer is flipped on both sides.

    Args:
        fraction: Part of the channels that are flipped, 0 to 1.
    """

    name: ClassVar[str] = "flip"
    summary: ClassVar[str] = "flip the signs of channels, function kept; fraction of the channels, 0 to 1"
    random: ClassVar[bool] = True
    strengths: ClassVar[tuple[float, ...]] = (0.1, 0.25, 0.5)
    done: ClassVar[str] = "signs of channels flipped"
    wanted: ClassVar[str] = "have the signs of its channels flipped"

    fraction: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"the fraction to flip must be from 0 to 1, found {self.fraction!r}")

    @property
    def label(self) -> str:
        """``sign flip 50 %``."""
        return f"sign flip {100 * self.fraction:.10g} %"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        outputs, inputs = (signs(size, self.fraction, means.rng) for size in values.shape[:2])
        return rescaled(values, outputs, inputs)

    def move(self, model: EditableModel, group: ChannelGroup, means: FileMeans) -> str | None:
        """See :class:`onnxmark.symmetries.symmetry.GroupAttack`."""
        if round(self.fraction * group.size) == 0:
            return "no channel would be flipped"
        free = free_regions(group, Commutes.SIGN, means.layers)
        if isinstance(free, str):
            return free
        scale_channels(model, group, {region: signs(group.size, self.fraction, means.rng) for region in free})
        return None
