"""Shifts: the same vector, or the same number, added to every filter of a layer.

The mean over filters that Uchida et al. read (ICMR 2017, arXiv 1701.04082) is public and holds a small part of the
layer's energy, about 1/O of it for O filters. Whoever replaces that part replaces the mark, and batch normalisation or
a short fine-tuning makes up for the rest. A mark in the whole tensor is what these attacks fail against.

Weight shifting and its parameters follow the description of the attack in the Watermark-Robustness-Toolbox of Lukas,
Jiang, Li, Kerschbaum (SoK: How Robust is Image Classification Deep Neural Network Watermarking?, IEEE S&P 2022, arXiv
2108.04974); a reconstruction, without the fine-tuning that follows there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxmark.arrays import Float32Array, Float64Array
from onnxmark.attacks.attack import Attack, Means
from onnxmark.attacks.saturation import saturated


@dataclass(frozen=True, slots=True)
class WeightShifting(Attack):
    """Subtract ``strength`` times the mean filter from every filter, then add noise.

    At 1 nothing is left of the mean; from there to 2 every bit of a mark in the mean is turned round.

    Args:
        strength: How often the mean over filters is subtracted, 0 or more.
        noise: Standard deviation of the noise, in standard deviations of the layer's weights, 0 or more.
    """

    name: ClassVar[str] = "shift"
    summary: ClassVar[str] = "subtract the mean over filters from every filter; how often, 0 or more"
    random: ClassVar[bool] = True
    strengths: ClassVar[tuple[float, ...]] = (0.5, 1.0, 1.5, 2.0)

    strength: float
    noise: float = 0.0

    def __post_init__(self) -> None:
        _check("strength of weight shifting", self.strength)
        _check("noise of weight shifting", self.noise)

    @property
    def label(self) -> str:
        """``weight shifting 1.5 means, noise 1 σ``."""
        return f"weight shifting {self.strength:.10g} means" + (f", noise {self.noise:.10g} σ" if self.noise else "")

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        noise = self.noise * float(values.std(dtype=np.float64)) * means.rng.standard_normal(values.shape)
        return saturated(values - self.strength * _mean_filter(values) + noise)


@dataclass(frozen=True, slots=True)
class ConstantShift(Attack):
    """Add ``strength * std(W)`` to every weight: harmless to keys that read the centred layer, and to no others.

    Args:
        strength: The shift in standard deviations of the layer's weights, of either sign.
    """

    name: ClassVar[str] = "shift-constant"
    summary: ClassVar[str] = "add a constant to every weight; standard deviations of the layer, of either sign"
    strengths: ClassVar[tuple[float, ...]] = (0.1, 0.3, 1.0, 3.0)

    strength: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.strength):
            raise ValueError(f"the constant shift must be finite, found {self.strength!r}")

    @property
    def label(self) -> str:
        """``constant shift 0.3 σ``."""
        return f"constant shift {self.strength:.10g} σ"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        return saturated(values + self.strength * values.std(dtype=np.float64))


@dataclass(frozen=True, slots=True)
class MeanScramble(Attack):
    """Add one and the same random vector to every filter, so that the mean over filters drowns.

    The vector is isotropic, of shape (in / group, *spatial), and its Euclidean norm is ``strength`` times that of the
    mean filter. For O independent filters of M weights it therefore weighs ``strength / sqrt(O)`` of the layer.

    Args:
        strength: Norm of the vector over the norm of the mean filter, 0 or more.
    """

    name: ClassVar[str] = "scramble-mean"
    summary: ClassVar[str] = "add one random vector to all filters; its norm over that of the mean filter, 0 or more"
    random: ClassVar[bool] = True
    strengths: ClassVar[tuple[float, ...]] = (1.0, 3.0, 10.0)

    strength: float

    def __post_init__(self) -> None:
        _check("strength of mean scrambling", self.strength)

    @property
    def label(self) -> str:
        """``mean scramble 3 norms``."""
        return f"mean scramble {self.strength:.10g} norms"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        direction = means.rng.standard_normal(values.shape[1:])
        norm = self.strength * float(np.linalg.norm(_mean_filter(values)))
        return saturated(values + norm / float(np.linalg.norm(direction)) * direction)


def _check(what: str, amount: float) -> None:
    if not 0 <= amount < math.inf:
        raise ValueError(f"the {what} must be finite and not negative, found {amount!r}")


def _mean_filter(values: Float32Array) -> Float64Array:
    """Mean over filters, shape (in / group, *spatial)."""
    mean: Float64Array = values.mean(axis=0, dtype=np.float64)
    return mean
