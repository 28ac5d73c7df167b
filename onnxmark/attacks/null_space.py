"""Noise where the layer's inputs do not look: the strongest removal attack we know that costs next to no accuracy.

An attacker who holds inputs of the model knows which directions of a filter they hardly excite; noise there is nearly
free. A mark that was hidden in the same directions (:mod:`onnxmark.schemes.projection.metric`) has to survive it.
The attack is our own, against our own embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxmark.arrays import Float32Array, Float64Array
from onnxmark.attacks.attack import Attack, Means, Need
from onnxmark.attacks.saturation import saturated
from onnxmark.errors import AttackError


@dataclass(frozen=True, slots=True)
class NullSpaceNoise(Attack):
    """Add to every filter independent normal noise whose covariance is proportional to ``(S + rho I)^-1``.

    S is the second moment of the layer's inputs, scaled to a mean diagonal of 1 over all groups. The noise is scaled so
    that its expected mean square over the layer is ``(strength * std(W))^2``, as Gaussian noise of equal strength has.

    Args:
        strength: Noise in standard deviations of the layer's weights, 0 or more.
        rho: How much of plain Gaussian noise there is in it, above 0: the smaller, the more the noise keeps to
            directions without inputs.
    """

    name: ClassVar[str] = "noise-null-space"
    summary: ClassVar[str] = "add noise that the layer's inputs hardly see; standard deviations of the layer, 0 or more"
    random: ClassVar[bool] = True
    needs: ClassVar[tuple[Need, ...]] = (Need.SECOND_MOMENT,)
    strengths: ClassVar[tuple[float, ...]] = (0.25, 0.5, 1.0, 2.0, 4.0)

    strength: float
    rho: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.strength < math.inf:
            raise ValueError(f"the noise strength must be finite and not negative, found {self.strength!r}")
        if not 0 < self.rho < math.inf:
            raise ValueError(f"rho must be finite and positive, found {self.rho!r}")

    @property
    def label(self) -> str:
        """``null-space noise 2 σ``, with rho where it differs from the default."""
        variant = "" if self.rho == 0.1 else f", rho {self.rho:.10g}"
        return f"null-space noise {self.strength:.10g} σ{variant}"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`.

        Raises:
            AttackError: The second moment does not fit the layer, or is no second moment.
            ValueError: There is none (:func:`onnxmark.attacks.apply_attack` sees to it that there is).
        """
        if means.second_moment is None:
            raise ValueError("null-space noise needs the second moment of the layer's inputs, found none")
        _check_fit(values, means.second_moment)
        colours = _colours(means.second_moment, self.rho)
        groups, width, _ = colours.shape
        white = means.rng.standard_normal((groups, len(values) // groups, width))
        noise = (white @ colours).reshape(values.shape)
        return saturated(values + self.strength * float(values.std(dtype=np.float64)) * noise)


def _check_fit(values: Float32Array, moment: Float64Array) -> None:
    width = math.prod(values.shape[1:])
    if moment.ndim != 3 or moment.shape[1:] != (width, width) or not len(moment) or len(values) % len(moment):
        raise AttackError(
            f"the second moment of shape {moment.shape} does not fit a layer of shape {values.shape}, expected "
            f"(groups, {width}, {width}); measure it at the layer under attack"
        )
    if not np.isfinite(moment).all() or not np.trace(moment, axis1=1, axis2=2).sum() > 0:
        raise AttackError(
            "the calibration inputs do not excite the layer, or not with finite values, so that nothing can be hidden "
            "from them; give other inputs"
        )


def _colours(moment: Float64Array, rho: float) -> Float64Array:
    """Per group a matrix R with ``R' R`` proportional to ``(S + rho I)^-1``; white rows times R have unit mean square.

    Args:
        moment: Shape (groups, M, M).
        rho: Above 0.
    """
    groups, width, _ = moment.shape
    energy = np.trace(moment, axis1=1, axis2=2).sum() / (groups * width)
    try:
        factors = np.linalg.cholesky(moment / energy + rho * np.eye(width))
    except np.linalg.LinAlgError as error:
        raise AttackError(
            "the second moment of the layer's inputs is not positive semi-definite; measure it again"
        ) from error
    inverse: Float64Array = np.linalg.inv(factors)
    inverse /= np.sqrt(np.mean(inverse**2) * width)
    return inverse
