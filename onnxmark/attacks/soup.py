"""Model soup: a marked model averaged with one that never had the mark.

Whoever holds the model it was made from, or another copy of it, can average the two without losing accuracy, since
models from one training lie in one basin (Wortsman et al.: Model soups, ICML 2022, arXiv 2203.05482).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxmark.arrays import Float32Array
from onnxmark.attacks.attack import Attack, Means, Need
from onnxmark.attacks.saturation import saturated
from onnxmark.errors import AttackError


@dataclass(frozen=True, slots=True)
class Soup(Attack):
    """Replace the weights by ``(1 - share) * W + share * reference``.

    Args:
        share: Part of the unmarked reference in the mixture, 0 to 1.
    """

    name: ClassVar[str] = "soup"
    summary: ClassVar[str] = "average with the unmarked model; share of the unmarked one, 0 to 1"
    needs: ClassVar[tuple[Need, ...]] = (Need.REFERENCE,)
    strengths: ClassVar[tuple[float, ...]] = (0.25, 0.5, 0.75, 0.9)

    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"the share of the reference must be from 0 to 1 (0.5 for half), found {self.share!r}")

    @property
    def label(self) -> str:
        """``soup with the reference 50 %``."""
        return f"soup with the reference {100 * self.share:.10g} %"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`.

        Raises:
            AttackError: The reference is not finite.
            ValueError: There is no reference (:func:`onnxmark.attacks.apply_attack` sees to it that there is).
        """
        if means.reference is None:
            raise ValueError("a soup needs a reference, found none")
        if not np.isfinite(means.reference).all():
            raise AttackError("the reference layer of the soup is not all finite; give another --reference MODEL")
        # The sum of the two products, and not a difference: both ends then come out exactly.
        return saturated((1 - self.share) * values.astype(np.float64) + self.share * means.reference.astype(np.float64))
