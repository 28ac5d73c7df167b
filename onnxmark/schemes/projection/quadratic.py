"""A strictly convex quadratic programme with non-negative unknowns, solved exactly in finitely many pivots.

Coordinate ascent takes thousands of sweeps where the matrix is ill-conditioned, which an activation metric always makes
it. Block principal pivoting exchanges whole sets of unknowns between *free* and *zero*, and is done after a handful of
linear solves; where it would cycle, Murty's rule exchanges one unknown at a time until it makes progress again.

Portugal, Júdice, Vicente: A comparison of block pivoting and interior-point algorithms for linear least squares
problems with nonnegative variables (Mathematics of Computation 63, 1994).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxmark.arrays import Float64Array, frozen
from onnxmark.errors import EmbeddingError

_BLOCK_TRIALS: Final = 10
_MAX_PIVOTS: Final = 3000
_TOLERANCE: Final = 1e-11


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """Minimiser of a non-negative quadratic programme.

    Args:
        multipliers: Shape (n,), at least 0.
        pivots: Linear systems solved.
    """

    multipliers: Float64Array
    pivots: int

    def __post_init__(self) -> None:
        frozen(self.multipliers)

    @property
    def active(self) -> NDArray[np.bool_]:
        """Where the multiplier is positive, shape (n,)."""
        return self.multipliers > 0


def minimise_nonnegative(
    matrix: Float64Array, linear: Float64Array, start: NDArray[np.bool_] | None = None
) -> Solution:
    """Minimise ``1/2 x' matrix x - linear' x`` over ``x >= 0``.

    Args:
        matrix: Symmetric and positive definite, shape (n, n).
        linear: Shape (n,).
        start: A guess of which unknowns are positive, shape (n,): the active set of a nearby problem.

    Raises:
        EmbeddingError: The matrix is singular, or rounding keeps the pivots from ending.
    """
    diagonal = np.diagonal(matrix)
    if not np.all(diagonal > 0):
        raise EmbeddingError(
            "the matrix of the quadratic programme has a row of zeros: some bit reads no weight at all"
        )
    scale = 1 / np.sqrt(diagonal)
    solution = _pivot(matrix * np.outer(scale, scale), linear * scale, start)
    return Solution(solution.multipliers * scale, solution.pivots)


def _pivot(matrix: Float64Array, linear: Float64Array, start: NDArray[np.bool_] | None) -> Solution:
    free = np.zeros(linear.size, dtype=np.bool_) if start is None else start.copy()
    fewest, trials = linear.size + 1, _BLOCK_TRIALS
    for pivots in range(1, _MAX_PIVOTS + 1):
        values, wrong = _basic_solution(matrix, linear, free)
        count = int(wrong.sum())
        if count == 0:
            return Solution(np.maximum(values, 0.0), pivots)
        if count < fewest:
            fewest, trials = count, _BLOCK_TRIALS
        elif trials > 0:
            trials -= 1
        else:
            # Murty: the last offender alone. Exchanging blocks could go round in circles from here.
            wrong[: np.flatnonzero(wrong)[-1]] = False
        free ^= wrong
    raise EmbeddingError(
        f"the quadratic programme of {linear.size:,} bits did not settle: the rows of the key are all but dependent; "
        "take fewer bits or a larger layer"
    )


def _basic_solution(
    matrix: Float64Array, linear: Float64Array, free: NDArray[np.bool_]
) -> tuple[Float64Array, NDArray[np.bool_]]:
    """Solve for the free unknowns with the others at zero; also say which unknowns break the optimality conditions."""
    values = np.zeros(linear.size)
    try:
        values[free] = np.linalg.solve(matrix[np.ix_(free, free)], linear[free])
    except np.linalg.LinAlgError as error:
        raise EmbeddingError("the rows of the key are linearly dependent on this carrier; take fewer bits") from error
    gradient = matrix[:, free] @ values[free] - linear
    largest = float(np.max(np.abs(values), initial=0.0))
    slack = _TOLERANCE * (largest + float(np.max(np.abs(linear), initial=0.0)))
    wrong = np.where(free, values < -_TOLERANCE * largest, gradient < -slack)
    return values, wrong
