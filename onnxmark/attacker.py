"""What an attacker of one model has at hand, looked up once and only when a recipe asks for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeGuard

import numpy as np

from onnxmark.arrays import Float32Array, Float64Array
from onnxmark.attacks import Attack, FileMeans, Means, ModelAttack, Need, Recipe
from onnxmark.attacks.entropy_coding import Sizes
from onnxmark.errors import AttackError, CalibrationError, CarrierError
from onnxmark.model import open_model
from onnxmark.model.running.calibration import Calibration, load_calibration
from onnxmark.model.running.taps import input_second_moment
from onnxmark.model.weights_only import is_weights_only
from onnxmark.weights import WeightTensor


def is_weight_attack(recipe: Recipe) -> TypeGuard[Attack]:
    """Whether a recipe changes the weights of one layer."""
    return hasattr(recipe, "change")


def is_model_attack(recipe: Recipe) -> TypeGuard[ModelAttack]:
    """Whether a recipe turns one file into another."""
    return hasattr(recipe, "rewrite")


class StorageAttack(Attack, Protocol):
    """An attack on weights that also says what the weights it leaves take in storage."""

    def sizes(self, attacked: Float32Array) -> Sizes:
        """What weights that went through the attack take."""
        ...


def is_storage_attack(recipe: Recipe) -> TypeGuard[StorageAttack]:
    """Whether a recipe says what the weights it leaves take in storage."""
    return is_weight_attack(recipe) and hasattr(recipe, "sizes")


@dataclass(slots=True, eq=False)
class Attacker:
    """What an attacker of one model has; each thing is read when it is first asked for and then kept.

    Args:
        path: The model under attack.
        reference: The model before it was marked.
        calibration: Inputs of the model.
        labels: Class indices of the inputs, where they lie in a file of their own.
    """

    path: Path
    reference: Path | None = None
    calibration: Path | None = None
    labels: Path | None = None
    _graph: bool | None = field(default=None, repr=False)
    _kept: dict[tuple[Need, str], Float32Array | Float64Array] = field(default_factory=dict, repr=False)

    def inputs(self) -> Calibration:
        """The inputs of the model, with labels where there are any.

        Raises:
            CalibrationError: There are none, or the file cannot be used.
        """
        if self.calibration is None:
            raise CalibrationError("there are no inputs of the model; give --calibration")
        return load_calibration(self.calibration, self.labels)

    def lacks(self, recipe: Recipe) -> str | None:
        """Why a recipe cannot be tried with what there is, or None.

        Raises:
            ModelError: The model cannot be read.
        """
        if is_model_attack(recipe) and not self._has_graph():
            return "needs the model's graph, and this file holds weights only; convert the model with its graph"
        there = {
            Need.REFERENCE: self.reference,
            Need.SECOND_MOMENT: self.calibration,
            Need.CALIBRATION: self.calibration,
            Need.MAGNITUDES: self.path,
        }
        lacking = next((need for need in recipe.needs if there[need] is None), None)
        return None if lacking is None else f"needs {lacking.words}"

    def means(self, recipe: Recipe, layer: WeightTensor, rng: np.random.Generator) -> Means:
        """What a recipe needs to attack one layer of the model.

        Raises:
            AttackError: The reference has no such layer, or something else that is needed is not there.
            CalibrationError: The inputs do not fit, or the layer cannot be watched.
            ModelError: A model cannot be read.
        """
        lacking = self.lacks(recipe)
        if lacking is not None:
            raise AttackError(f"attack {recipe.name!r} {lacking}")
        found = {need.value: self._get(need, layer) for need in recipe.needs if need is not Need.CALIBRATION}
        return Means(rng, **found)  # type: ignore[arg-type]

    def file_means(self, rng: np.random.Generator, layers: tuple[str, ...] | None = None) -> FileMeans:
        """What an attack on the file has."""
        return FileMeans(rng, layers, self.calibration)

    def _has_graph(self) -> bool:
        if self._graph is None:
            with open_model(self.path) as model:
                self._graph = not is_weights_only(model.metadata)
        return self._graph

    def _get(self, need: Need, layer: WeightTensor) -> Float32Array | Float64Array:
        kept = (need, "" if need is Need.MAGNITUDES else layer.name)
        if kept not in self._kept:
            self._kept[kept] = self._find(need, layer)
        return self._kept[kept]

    def _find(self, need: Need, layer: WeightTensor) -> Float32Array | Float64Array:
        if need is Need.MAGNITUDES:
            return _magnitudes(self.path)
        if need is Need.REFERENCE:
            assert self.reference is not None
            return _same_layer(self.reference, layer)
        return input_second_moment(self.path, layer.name, self.inputs())


def _magnitudes(path: Path) -> Float32Array:
    """Absolute values of all weights that can be read, ascending."""
    with open_model(path) as model:
        parts = [np.abs(tensor.values).reshape(-1) for tensor in model.weights().values()]
    if not parts:
        raise CarrierError(f"{str(path)!r} has no layer whose weights can be read")
    joined: Float32Array = np.concatenate(parts)
    joined.sort()
    return joined


def _same_layer(path: Path, layer: WeightTensor) -> Float32Array:
    """The layer of that name in another model, else the one at the same place, of the same shape."""
    with open_model(path) as model:
        fitting = [site for site in model.sites() if site.shape == layer.shape and site.problem is None]
        for fits in (
            lambda site: site.name == layer.name,
            lambda site: layer.origin.node in site.nodes,
            lambda site: site.position == layer.origin.position,
        ):
            found = next((site for site in fitting if fits(site)), None)
            if found is not None:
                return model.read(found).values
    shape = "x".join(map(str, layer.shape))
    raise AttackError(
        f"the reference {str(path)!r} has no layer {layer.name!r} of shape {shape}; give the model that this one was "
        "made from"
    )
