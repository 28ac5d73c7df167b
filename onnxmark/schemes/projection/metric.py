"""What a change of the weights costs: its plain norm, or what the layer's outputs notice of it.

A key reads directions at random, and most directions of a layer see little of its inputs. Weighted by the second moment
of those inputs, the smallest change that embeds a message hides in the directions that inputs hardly excite: on the
networks measured, logits move five times less at the same margin. Both metrics offer the same two linear maps, so
that the solver above them knows one problem only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import numpy as np

from onnxmark.arrays import Float64Array, frozen
from onnxmark.errors import EmbeddingError
from onnxmark.schemes.projection.projection import Projection

_BLOCK_ENTRIES: Final = 2**25


class Metric(Protocol):
    """A positive definite ``S`` over the weights of a layer, as the solver needs it; ``A`` is the key over it."""

    def gram(self, projection: Projection) -> Float64Array:
        """``A S^-1 A'``, shape (T, T)."""
        ...

    def lift(self, projection: Projection, coefficients: Float64Array) -> Float64Array:
        """``S^-1 A' c`` for coefficients (T,): a change of the weights, in their shape."""
        ...


@dataclass(frozen=True, slots=True)
class IdentityMetric:
    """The norm of the change itself."""

    def gram(self, projection: Projection) -> Float64Array:
        """See :class:`Metric`. Rows are held two blocks at a time, 2^25 entries each."""
        step = max(1, _BLOCK_ENTRIES // projection.carrier.size)
        blocks = [slice(at, min(at + step, projection.n_bits)) for at in range(0, projection.n_bits, step)]
        gram = np.empty((projection.n_bits, projection.n_bits))
        for index, first in enumerate(blocks):
            rows = projection.rows(first.start, first.stop)
            gram[first, first] = projection.carrier.gram(rows)
            for second in blocks[index + 1 :]:
                both = np.concatenate([rows, projection.rows(second.start, second.stop)])
                cross = projection.carrier.gram(both)[: len(rows), len(rows) :]
                gram[first, second], gram[second, first] = cross, cross.T
        return gram

    def lift(self, projection: Projection, coefficients: Float64Array) -> Float64Array:
        """See :class:`Metric`."""
        return projection.adjoint(coefficients)


@dataclass(frozen=True, eq=False)
class ActivationMetric:
    """The mean square by which a change of the weights moves the layer's outputs, plus ``rho`` of the plain norm.

    ``S = I_filters ⊗ (Sigma_group + rho I)`` with ``Sigma`` scaled to a mean diagonal of 1 over *all* groups, so that a
    group that inputs excite little is cheap to change. A data-owning attacker's null-space noise was measured no
    stronger against it at ``rho = 0.1``; below 0.01 the mark would sit where nothing holds it.

    Args:
        second_moment: Mean of ``patch patch'`` over the im2col'd inputs of the layer, shape (groups, M, M) with
            ``M = in / group * spatial`` in (in, *spatial) order; float64, made read-only.
        rho: Weight of the plain norm, above 0.

    Raises:
        ValueError: The second moment is not a stack of finite symmetric matrices, or ``rho`` is not positive.
    """

    second_moment: Float64Array
    rho: float = 0.1

    def __post_init__(self) -> None:
        moment = self.second_moment
        if moment.ndim != 3 or moment.shape[1] != moment.shape[2]:
            raise ValueError(f"a second moment has shape (groups, M, M), not {moment.shape}")
        if not np.isfinite(moment).all() or not np.allclose(moment, np.swapaxes(moment, 1, 2)):
            raise ValueError("a second moment must be finite and symmetric")
        if not (math.isfinite(self.rho) and self.rho > 0):
            raise ValueError(f"rho must be positive, not {self.rho}")
        frozen(moment)

    @cached_property
    def _whiteners(self) -> Float64Array:
        """Per group, the inverse R of the Cholesky factor of S: ``R' R = S^-1``; shape (groups, M, M)."""
        groups, width, _ = self.second_moment.shape
        energy = float(np.trace(self.second_moment, axis1=1, axis2=2).sum()) / (groups * width)
        if energy <= 0:
            raise EmbeddingError(
                "the calibration inputs never excite this layer: its inputs are all zero; take others, or none"
            )
        metric = self.second_moment / energy + self.rho * np.eye(width)
        try:
            factors = np.linalg.cholesky(metric)
        except np.linalg.LinAlgError as error:
            raise EmbeddingError("the second moment of the layer's inputs is not positive semi-definite") from error
        return frozen(np.linalg.inv(factors))

    def gram(self, projection: Projection) -> Float64Array:
        """See :class:`Metric`. Costs ``2 T N M`` operations for N weights; a mean fold costs ``2 T M^2`` a group."""
        filters = self._n_filters(projection)
        each = filters // len(self._whiteners)
        gram = np.zeros((projection.n_bits, projection.n_bits))
        if projection.carrier.shared_filters:
            for group in range(len(self._whiteners)):
                seen = self._whitened(projection, group * each, group * each + 1)
                gram += each * (seen @ seen.T)
            return gram
        step = max(1, _BLOCK_ENTRIES // (projection.n_bits * self._whiteners.shape[1]))
        for start in range(0, filters, step):
            seen = self._whitened(projection, start, min(start + step, filters))
            gram += seen @ seen.T
        return gram

    def lift(self, projection: Projection, coefficients: Float64Array) -> Float64Array:
        """See :class:`Metric`."""
        groups, width, _ = self._whiteners.shape
        gradient = projection.adjoint(coefficients).reshape(groups, self._n_filters(projection) // groups, width)
        change = gradient @ np.swapaxes(self._whiteners, 1, 2) @ self._whiteners
        return change.reshape(projection.carrier.shape)

    def _whitened(self, projection: Projection, start: int, stop: int) -> Float64Array:
        """What all rows see of some filters, in coordinates in which S is the identity; shape (T, filters * M)."""
        each = self._n_filters(projection) // len(self._whiteners)
        width = self._whiteners.shape[1]
        seen = np.empty((projection.n_bits, stop - start, width))
        for part in projection.row_blocks():
            raw = projection.carrier.filter_rows(projection.rows(part.start, part.stop), start, stop)
            for group in range(start // each, -(-stop // each)):
                inside = slice(max(0, group * each - start), min(stop, (group + 1) * each) - start)
                seen[part, inside] = raw[:, inside] @ self._whiteners[group].T
        return seen.reshape(projection.n_bits, -1)

    def _n_filters(self, projection: Projection) -> int:
        shape = projection.carrier.shape
        groups, width, _ = self.second_moment.shape
        if width != math.prod(shape[1:]) or shape[0] % groups:
            raise EmbeddingError(
                f"the activation metric has {groups} group(s) of {width} inputs and the layer is "
                f"{'x'.join(map(str, shape))}; measure it at the layer that is to be marked"
            )
        return shape[0]
