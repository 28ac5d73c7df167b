"""The smallest change of finished weights that makes every bit of a message read right, with a margin to spare.

Uchida's regulariser reaches a mark by training and leaves its margin to chance. The same linear reading makes embedding
a quadratic programme: minimise ``1/2 D' S D`` subject to ``b_t <row_t, carrier(W + D)> >= c`` for every bit. Its dual
has one unknown a bit, whatever the size of the layer: with ``G = diag(b) A S^-1 A' diag(b)``, minimise
``1/2 l' G l - (c - b A W)' l`` over ``l >= 0``; then ``D = S^-1 A' diag(b) l``.

The margin is promised in the float32 weights that are returned and in units of *their* random-key standard deviation,
which the embedding itself changes: the target c is moved, by the secant method, until the margin stands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from onnxmark.arrays import Float32Array, Float64Array
from onnxmark.errors import EmbeddingError
from onnxmark.schemes.projection.capacity import gardner_margin
from onnxmark.schemes.projection.metric import ActivationMetric, IdentityMetric, Metric
from onnxmark.schemes.projection.projection import Projection
from onnxmark.schemes.projection.quadratic import Solution, minimise_nonnegative
from onnxmark.weights import WeightTensor

MAX_EMBEDDED_BITS: Final = 8192
"""The dual's matrix has T^2 entries: half a GiB here."""

_OVERSHOOT: Final = 5e-4
"""Aim this much higher than asked, relatively: more than float32 takes away, less than anybody notices."""
_RIDGE: Final = 1e-10
"""Added to the matrix's diagonal, relatively: T > M then has a unique dual, and margins are checked on the weights."""
_MAX_TARGETS: Final = 40
_LEAST_SLOPE: Final = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """A layer that carries its message.

    Args:
        weights: The marked layer.
        margin: Smallest margin of any bit, in units of a random key's standard deviation on the marked weights.
        relative_change: Norm of the change over the norm of the weights.
        std_ratio: Standard deviation of the weights, after over before: what Wang and Kerschbaum's detector looks at.
        n_active: Bits whose constraint holds with equality; the others were right already or came for free.
        iterations: Targets tried until the margin stood.
    """

    weights: WeightTensor
    margin: float
    relative_change: float
    std_ratio: float
    n_active: int
    iterations: int


def embed_message(
    weights: WeightTensor, projection: Projection, margin: float = 2.0, metric: ActivationMetric | None = None
) -> Embedding:
    """Embed the projection's message with the smallest change.

    Args:
        weights: The layer, of the carrier's shape.
        projection: The key over the layer.
        margin: Smallest margin of every bit, in units of a random key's standard deviation on the marked weights;
            above 0. The margin reached exceeds it by about 0.1 % at most where any bit needed help.
        metric: What a change costs; None for its plain norm.

    Raises:
        EmbeddingError: The layer cannot hold the message at this margin, or cannot hold any.
        ValueError: The margin is not positive, or the shapes of layer and carrier differ.
    """
    _check(weights, projection, margin)
    geometry: Metric = IdentityMetric() if metric is None else metric
    problem = _Problem(weights.values, projection, geometry)
    return _result(weights, *_find_target(problem, margin))


def _check(weights: WeightTensor, projection: Projection, margin: float) -> None:
    if not (math.isfinite(margin) and margin > 0):
        raise ValueError(f"a margin must be positive, not {margin}")
    if weights.shape != projection.carrier.shape:
        raise ValueError(f"the projection is for a layer of shape {projection.carrier.shape}, not {weights.shape}")
    if projection.n_bits > MAX_EMBEDDED_BITS:
        raise EmbeddingError(
            f"closed-form embedding takes up to {MAX_EMBEDDED_BITS:,} bits and the key has {projection.n_bits:,}; "
            "split the message over several layers"
        )
    if projection.n_bits > 2 * projection.carrier.size:
        # Beyond Gardner's limit the programme is not merely infeasible: pivoting finds out one bit at a time.
        raise _out_of_reach(projection, margin)
    if not np.isfinite(weights.values).all():
        raise EmbeddingError(f"the weights {weights.name!r} are not all finite; mark another layer")
    if weights.values.min() == weights.values.max() or projection.unit(weights.values) == 0:
        raise EmbeddingError(f"the weights {weights.name!r} vanish in the carrier (a constant); mark another layer")


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """The weights a target led to; ``lowest``, their smallest signed score, falls short where it is infeasible."""

    target: float
    solution: Solution
    values: Float32Array
    unit: float
    lowest: float

    @property
    def margin(self) -> float:
        return self.lowest / self.unit


class _Problem:
    """The dual for one layer: its matrix is built once, its targets vary."""

    def __init__(self, values: Float32Array, projection: Projection, metric: Metric) -> None:
        self.values = values
        self.projection = projection
        self._metric = metric
        self._signs = np.where(projection.message == 1, 1.0, -1.0)
        self._scores = self._signs * projection.scores(values)
        gram = metric.gram(projection) * np.outer(self._signs, self._signs)
        if not np.all(np.diagonal(gram) > 0):
            raise EmbeddingError(
                f"a bit of the key reads no weight of the layer: carrier {projection.carrier.kind} has an empty bucket "
                "there; draw another key or take fewer buckets"
            )
        gram[np.diag_indices_from(gram)] *= 1 + _RIDGE
        self._gram: Float64Array = gram

    def solve(self, target: float, last: _State | None) -> _State:
        """The smallest change that lifts every signed score to ``target``."""
        start = None if last is None else last.solution.active
        solution = minimise_nonnegative(self._gram, target - self._scores, start)
        change = self._metric.lift(self.projection, self._signs * solution.multipliers)
        values = (self.values + change).astype(np.float32)
        lowest = float(np.min(self._signs * self.projection.scores(values)))
        return _State(target, solution, values, self.projection.unit(values), lowest)


def _find_target(problem: _Problem, margin: float) -> tuple[_State, int]:
    """Find a target that is ``margin`` units of the weights it leads to; also say how many were tried.

    The unit grows convexly with the target, so the secant through two targets below the root ends below it again: the
    approach is monotone, and a secant that no longer climbs means that the margin is out of reach. Small margins may
    approach from above: the change then takes more from the host than it adds.
    """
    aim = margin * (1 + _OVERSHOOT)
    target = aim * problem.projection.unit(problem.values)
    before: _State | None = None
    for count in range(1, _MAX_TARGETS + 1):
        state = problem.solve(target, before)
        excess = state.margin / margin - 1
        if excess >= 0 and (excess <= 2 * _OVERSHOOT or not state.solution.active.any()):
            return state, count
        if state.lowest < state.target * (1 - 0.5 * _OVERSHOOT):
            break
        target = aim * state.unit
        if before is not None and state.target != before.target:
            slope = 1 - aim * (state.unit - before.unit) / (state.target - before.target)
            if slope <= _LEAST_SLOPE:
                break
            target = state.target + (target - state.target) / slope
        before = state
    raise _out_of_reach(problem.projection, margin)


def _out_of_reach(projection: Projection, margin: float) -> EmbeddingError:
    size = projection.carrier.size
    best = gardner_margin(projection.n_bits / size)
    return EmbeddingError(
        f"{projection.n_bits:,} bits do not fit in the {size:,} entries of carrier {projection.carrier.kind} at margin "
        f"{margin:g} (dense keys reach {best:.2f} there, less under an activation metric); take fewer bits, a smaller "
        "margin or a larger layer"
    )


def _result(weights: WeightTensor, state: _State, count: int) -> Embedding:
    before = weights.values.astype(np.float64)
    return Embedding(
        weights=weights.with_values(state.values),
        margin=state.margin,
        relative_change=float(np.linalg.norm(state.values - before) / np.linalg.norm(before)),
        std_ratio=float(state.values.std(dtype=np.float64) / before.std()),
        n_active=int(state.solution.active.sum()),
        iterations=count,
    )
