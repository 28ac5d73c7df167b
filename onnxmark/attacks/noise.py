"""Gaussian noise on the weights: the disturbance every robustness table starts with.

MPAI-NNW (IEEE Std 3304-2023) lists it first among its modifications and scales it, as here, by the spread of the layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxmark.arrays import Float32Array
from onnxmark.attacks.attack import Attack, Means
from onnxmark.attacks.saturation import saturated


@dataclass(frozen=True, slots=True)
class GaussianNoise(Attack):
    """Add independent normal noise of standard deviation ``strength * std(W)`` to every weight, zeros included.

    Args:
        strength: Noise in standard deviations of the layer's weights, 0 or more (the standard's range is 0.1 to 0.3).
    """

    name: ClassVar[str] = "noise"
    summary: ClassVar[str] = "add Gaussian noise; standard deviations of the layer, 0 or more"
    random: ClassVar[bool] = True
    strengths: ClassVar[tuple[float, ...]] = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0)

    strength: float

    def __post_init__(self) -> None:
        if not 0 <= self.strength < math.inf:
            raise ValueError(f"the noise strength must be finite and not negative, found {self.strength!r}")

    @property
    def label(self) -> str:
        """``Gaussian noise 0.5 σ``."""
        return f"Gaussian noise {self.strength:.10g} σ"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        sigma = self.strength * float(values.std(dtype=np.float64))
        return saturated(values + sigma * means.rng.standard_normal(values.shape))
