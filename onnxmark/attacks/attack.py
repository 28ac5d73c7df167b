"""What an attack is, what it promises, and the one place where the promise is checked.

A new family is then ten lines of arithmetic: it receives finite weights, returns what the attacker would leave behind,
and cannot hand on a wrong shape, a NaN or a changed input unnoticed. A robustness figure rests on that.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np

from onnxmark.arrays import Float32Array
from onnxmark.errors import CarrierError, PluginError
from onnxmark.weights import WeightTensor


class Attack(Protocol):
    """A recipe for changing the weights of one layer, found by its entry point in ``onnxmark.attacks``.

    An attack is a frozen dataclass whose *first* field is its main parameter, the one a sweep varies; any other field
    has a default. Its ``repr`` therefore reproduces it. Parameters out of range are refused with ``ValueError``.
    """

    name: ClassVar[str]
    """Its name in options and entry points (``prune-random``)."""

    summary: ClassVar[str]
    """One line for a user: what it does, then the main parameter's unit and range."""

    random: ClassVar[bool]
    """Whether the result depends on the generator; False promises that the generator is not drawn from."""

    keeps_shape: ClassVar[bool]
    """Whether the result has the shape of the input; False for attacks that remove filters or channels."""

    @property
    def parameter(self) -> float:
        """Value of the main parameter."""
        ...

    @property
    def label(self) -> str:
        """The recipe in a few words, for tables (``L1 pruning 65 %``)."""
        ...

    def change(self, values: Float32Array, rng: np.random.Generator) -> Float32Array:
        """The attacked weights; called by :func:`apply_attack`, which checks them.

        Args:
            values: Canonical host weights (out, in / group, *spatial): finite, not empty, read-only.
            rng: Source of all randomness.

        Returns:
            Finite float32 weights.
        """
        ...


def apply_attack(attack: Attack, weights: WeightTensor, rng: np.random.Generator) -> WeightTensor:
    """Attack one layer and hold the attack to its promise.

    Args:
        attack: The recipe.
        weights: Host weights of one layer; left as they are.
        rng: Source of all randomness; the same state gives the same result.

    Returns:
        The same layer with the attacked values, read-only.

    Raises:
        CarrierError: The layer is empty or holds values that are not finite: there is nothing to attack.
        PluginError: The attack broke its promise.
    """
    _check_host(weights)
    before = weights.values.copy()
    values = attack.change(weights.values, rng)
    broken = _broken_promise(attack, before, weights.values, values)
    if broken:
        raise PluginError(f"attack {attack!r} on {weights.name!r} {broken}; this is a fault of the attack")
    return weights.with_values(values)


def _check_host(weights: WeightTensor) -> None:
    if weights.values.size == 0:
        raise CarrierError(f"host weights {weights.name!r} of shape {weights.shape} are empty; choose another layer")
    if not np.isfinite(weights.values).all():
        raise CarrierError(f"host weights {weights.name!r} are not all finite and cannot be attacked; repair the model")


def _broken_promise(attack: Attack, before: Float32Array, after: Float32Array, result: Float32Array) -> str:
    """What the attack did wrong, or an empty string."""
    if not np.array_equal(before, after):
        return "changed its input, expected it to return new values"
    if not isinstance(result, np.ndarray) or result.dtype != np.float32:
        return f"returned {getattr(result, 'dtype', type(result).__name__)}, expected a float32 array"
    if attack.keeps_shape and result.shape != before.shape:
        return f"returned shape {result.shape}, expected {before.shape}"
    if result.ndim != before.ndim:
        return f"returned {result.ndim} axes, expected {before.ndim}"
    if not np.isfinite(result).all():
        return "returned values that are not finite, expected finite ones"
    return ""
