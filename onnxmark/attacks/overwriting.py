"""Overwriting: the thief marks the stolen model with keys of his own and hopes that the owner's mark goes under.

MPAI-NNW (IEEE Std 3304-2023) lists it among its modifications with two to four marks, and Wang and Kerschbaum (Attacks
on digital watermarks for deep neural networks, ICASSP 2019) showed it on Uchida's scheme. Both train; here each mark is
the smallest change of the weights that writes it, which needs neither data nor time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from onnxmark.arrays import Float32Array
from onnxmark.attacks.attack import Attack, Means
from onnxmark.attacks.saturation import saturated
from onnxmark.errors import KeyFileError
from onnxmark.keys import Carrier, Key, Secret
from onnxmark.schemes.projection.carriers import MEAN_IHW, vector_size
from onnxmark.schemes.projection.closed_form import MAX_EMBEDDED_BITS
from onnxmark.schemes.projection.metric import IdentityMetric, Metric
from onnxmark.schemes.projection.projection import Projection, own_projection
from onnxmark.schemes.projection.quadratic import minimise_nonnegative

BITS: Final = 256


@dataclass(frozen=True, slots=True)
class Overwriting(Attack):
    """Write marks of random Gaussian keys over the layer, one after the other, each by the smallest change.

    A layer has room for half as many bits as its carrier has entries; where ``n_bits`` is more, that many are written,
    and a layer without any spread is left alone.

    Args:
        margin: What every bit of a mark is raised to, in standard deviations of a random key's score on the weights
            *before* that mark, above 0. The mark itself adds to the weights, so its margin on what it leaves is
            smaller: 256 bits of 3 in the mean of a 64x64x3x3 kernel end at 1.
        n_bits: Length of each message, 1 to 8192.
        carrier: What the thief's keys read: ``mean-ihw``, ``mean-hwi``, ``full`` or ``fold:<buckets>``.
        marks: How many marks, 1 or more.
    """

    name: ClassVar[str] = "overwrite"
    summary: ClassVar[str] = "write marks of other keys; their margin before writing in standard deviations, above 0"
    random: ClassVar[bool] = True
    strengths: ClassVar[tuple[float, ...]] = (1.0, 2.0, 3.0, 5.0)

    margin: float = 3.0
    n_bits: int = BITS
    carrier: str = MEAN_IHW
    marks: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.margin < math.inf:
            raise ValueError(f"the margin of overwriting must be finite and positive, found {self.margin!r}")
        if type(self.n_bits) is not int or not 1 <= self.n_bits <= MAX_EMBEDDED_BITS:
            raise ValueError(f"n_bits must be a whole number from 1 to {MAX_EMBEDDED_BITS}, found {self.n_bits!r}")
        if type(self.marks) is not int or self.marks < 1:
            raise ValueError(f"marks must be a whole number from 1, found {self.marks!r}")
        try:
            vector_size(self.carrier, (1, 1))
        except KeyFileError as error:
            raise ValueError(f"overwriting: {error}") from error

    @property
    def label(self) -> str:
        """``overwriting in mean-ihw, margin 3``, with what differs from the default."""
        variant = ("" if self.n_bits == BITS else f", {self.n_bits} bits") + (
            "" if self.marks == 1 else f", {self.marks} marks"
        )
        return f"overwriting in {self.carrier}, margin {self.margin:.10g}{variant}"

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """See :class:`onnxmark.attacks.attack.Attack`."""
        for _ in range(self.marks):
            projection = self._draw(values.shape, means.rng)
            if projection is None or values.min() == values.max():
                return values.copy()
            values = raised(values, projection, self.margin * projection.unit(values))
        return values

    def _draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Projection | None:
        """A key of the thief's over a layer; None where the layer has no room for any bit."""
        n_bits = min(self.n_bits, vector_size(self.carrier, shape) // 2, math.prod(shape) // 2)
        if n_bits == 0:
            return None
        key = Key(
            scheme="projection",
            seed=Secret(rng.bytes(32)),
            salt=rng.bytes(32),
            payload=np.zeros(n_bits, dtype=np.uint8),
            carriers=(Carrier(shape),),
            # Gaussian rows are independent even where a layer is so small that two rows of signs could coincide.
            parameters={"generator": "gaussian", "carrier": self.carrier},
        )
        return own_projection(key, shape)


def raised(values: Float32Array, projection: Projection, target: float, metric: Metric | None = None) -> Float32Array:
    """The weights after the smallest change that raises every bit's signed score to a target.

    The owner's closed form (:mod:`onnxmark.schemes.projection.closed_form`) promises a margin on the weights it returns
    and refuses what cannot be had there. This target is fixed beforehand, as an attacker's is, and as published figures
    count: up to as many bits as the carrier has entries reach any target, at the cost of weights that grow.

    Args:
        values: Canonical weights of the carrier's shape.
        projection: The key over the layer.
        target: Smallest score of every bit in the direction of its message, in the weights' own unit.
        metric: What a change costs; None for its plain norm.

    Raises:
        EmbeddingError: The rows of the key are all but dependent.
    """
    geometry: Metric = IdentityMetric() if metric is None else metric
    signs = np.where(projection.message == 1, 1.0, -1.0)
    gram = geometry.gram(projection) * np.outer(signs, signs)
    shortfall = target - signs * projection.scores(values)
    multipliers = minimise_nonnegative(gram, shortfall).multipliers
    return saturated(values + geometry.lift(projection, signs * multipliers))
