"""What an attack is, what it promises, and the one place where the promise is checked.

A new family is then ten lines of arithmetic: it receives finite weights, returns what the attacker would leave behind,
and cannot hand on a wrong shape, a NaN or a changed input unnoticed. A robustness figure rests on that.

Two kinds share one list of names. An :class:`Attack` is a function of one layer's weights, so a sweep can try hundreds
of them without writing a file. A :class:`ModelAttack` goes through the graph or through somebody else's tool: it turns
one file into another. A symmetry of the network is both, since what it does to a lone layer is known.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from onnxmark.arrays import Float32Array, Float64Array, frozen
from onnxmark.errors import AttackError, CarrierError, PluginError
from onnxmark.weights import WeightTensor


class Need(StrEnum):
    """What some attacks take besides the weights; the value names the field of :class:`Means` that holds it."""

    REFERENCE = "reference"
    """The same layer of a model without the mark (``--reference``)."""
    SECOND_MOMENT = "second_moment"
    """Statistics of the layer's inputs (``--calibration``)."""
    MAGNITUDES = "magnitudes"
    """The magnitudes of all host weights of the model."""
    CALIBRATION = "calibration"
    """Inputs of the model (``--calibration``); of file attacks only."""

    @property
    def words(self) -> str:
        """What is needed and how to give it, for a sentence that begins with "needs"."""
        return _WORDS[self]


_WORDS = {
    Need.REFERENCE: "the model before it was marked; give --reference MODEL",
    Need.SECOND_MOMENT: "inputs of the model; give --calibration INPUTS.npz",
    Need.MAGNITUDES: "all layers of the model",
    Need.CALIBRATION: "inputs of the model; give --calibration INPUTS.npz",
}


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """What an attacker has at hand besides the weights of the layer under attack.

    Args:
        rng: Source of all randomness.
        reference: The same layer of a model without the mark, canonical order.
        second_moment: Mean of ``patch patch'`` over the im2col'd inputs of the layer, shape (groups, M, M) with
            ``M = in / group * spatial`` in (in, *spatial) order; not normalised.
        magnitudes: Absolute values of all host weights of the model, ascending, shape (n,).
    """

    rng: np.random.Generator
    reference: Float32Array | None = None
    second_moment: Float64Array | None = None
    magnitudes: Float32Array | None = None

    def __post_init__(self) -> None:
        for array in (self.reference, self.second_moment, self.magnitudes):
            if array is not None:
                frozen(array)


@dataclass(frozen=True, slots=True, eq=False)
class FileMeans:
    """What an attacker of a whole file has at hand.

    Args:
        rng: Source of all randomness.
        layers: Names of the weight sites to attack; None for all.
        calibration: Inputs of the model, ``.npz`` by input name.
    """

    rng: np.random.Generator
    layers: tuple[str, ...] | None = None
    calibration: Path | None = None


class Recipe(Protocol):
    """What every attack says of itself, found by its entry point in ``onnxmark.attacks``.

    An attack is a frozen dataclass whose *first* field, if it has any, is its main parameter, the one a sweep varies;
    any other field has a default. Its ``repr`` therefore reproduces it. Parameters out of range are refused with
    ``ValueError``.
    """

    name: ClassVar[str]
    """Its name in options and entry points (``prune-random``)."""

    summary: ClassVar[str]
    """One line for a user: what it does, then the main parameter's unit and range."""

    random: ClassVar[bool] = False
    """Whether the result depends on the generator; False promises that the generator is not drawn from."""

    needs: ClassVar[tuple[Need, ...]] = ()
    """What it takes besides the weights."""

    strengths: ClassVar[tuple[Any, ...]] = ()
    """Values of the main parameter that a full sweep tries, weakest attack first."""

    @property
    def parameter(self) -> float:
        """Value of the main parameter; 1 where there is none."""
        return main_parameter(self)

    @property
    def label(self) -> str:
        """The recipe in a few words, for tables (``L1 pruning 65 %``); different recipes have different labels."""
        ...


class Attack(Recipe, Protocol):
    """A recipe for changing the weights of one layer."""

    keeps_shape: ClassVar[bool] = True
    """Whether the result has the shape of the input; False for attacks that remove or add filters or channels."""

    def change(self, values: Float32Array, means: Means) -> Float32Array:
        """The attacked weights; called by :func:`apply_attack`, which checks them.

        Args:
            values: Canonical host weights (out, in / group, *spatial): finite, not empty, read-only.
            means: What else the attacker has; every field named in ``needs`` is there.

        Returns:
            Finite float32 weights.
        """
        ...


class ModelAttack(Recipe, Protocol):
    """A recipe for turning a model file into another."""

    def rewrite(self, source: Path, output: Path, means: FileMeans) -> tuple[str, ...]:
        """Attack a file.

        Args:
            source: The model; left as it is.
            output: Where the attacked model goes, in another directory, which exists.
            means: What else the attacker has.

        Returns:
            What was done and what was left alone, in sentences for the report.

        Raises:
            AttackError: The attack cannot be applied to this model, or would change nothing.
            MissingExtra: A tool is not installed.
            ModelError: The model cannot be read or written.
        """
        ...


def main_parameter(recipe: Any) -> float:
    """Value of a recipe's first field; 1 where it has none."""
    found = fields(recipe)
    return float(getattr(recipe, found[0].name)) if found else 1.0


def missing(needs: tuple[Need, ...], means: Means | FileMeans) -> str:
    """What an attack needs and does not have, in words that name the option; empty where it has all."""
    return " and ".join(need.words for need in needs if getattr(means, need.value, None) is None)


def apply_attack(attack: Attack, weights: WeightTensor, means: Means) -> WeightTensor:
    """Attack one layer and hold the attack to its promise.

    Args:
        attack: The recipe.
        weights: Host weights of one layer; left as they are.
        means: What else the attacker has; a generator in the same state gives the same result.

    Returns:
        The same layer with the attacked values, read-only.

    Raises:
        AttackError: The attack needs what is not there, or the reference is of another shape.
        CarrierError: The layer is empty or holds values that are not finite: there is nothing to attack.
        PluginError: The attack broke its promise.
    """
    _check_host(weights)
    _check_means(attack, weights, means)
    before = weights.values.copy()
    values = attack.change(weights.values, means)
    broken = _broken_promise(attack, before, weights.values, values)
    if broken:
        raise PluginError(f"attack {attack!r} on {weights.name!r} {broken}; this is a fault of the attack")
    return weights.with_values(values)


def _check_host(weights: WeightTensor) -> None:
    if weights.values.size == 0:
        raise CarrierError(f"host weights {weights.name!r} of shape {weights.shape} are empty; choose another layer")
    if not np.isfinite(weights.values).all():
        raise CarrierError(f"host weights {weights.name!r} are not all finite and cannot be attacked; repair the model")


def _check_means(attack: Attack, weights: WeightTensor, means: Means) -> None:
    lacking = missing(attack.needs, means)
    if lacking:
        raise AttackError(f"attack {attack.name!r} on {weights.name!r} needs {lacking}")
    if means.reference is not None and means.reference.shape != weights.shape:
        raise AttackError(
            f"the reference of {weights.name!r} has shape {means.reference.shape}, expected {weights.shape}; "
            "give the model that this one was made from"
        )


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
