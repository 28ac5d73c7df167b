"""What an attack does to the answers of a model, so that "the mark is gone" stands next to "so is the model".

Weights change and the rest of the model does not: so the layers under attack become inputs of the graph once, and every
point of a sweep is one more run of the same session, without a file. Only what goes through the graph is compared file
against file.
"""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path

import numpy as np

from onnxmark.arrays import Float32Array
from onnxmark.attacker import Attacker, is_model_attack, is_weight_attack
from onnxmark.attacks import Attack, Recipe, apply_attack
from onnxmark.errors import AttackError, CarrierError, ModelError
from onnxmark.model import open_model
from onnxmark.model.running.calibration import Calibration
from onnxmark.model.running.probe import WeightProbe
from onnxmark.model.running.runtime import Fidelity, fidelity
from onnxmark.weights import WeightTensor


class FidelityMeter:
    """Measures the answers of one model under attack.

    Args:
        attacker: The model and what its attacker has.
        calibration: Inputs, with labels where accuracy is wanted.
        carriers: Names of the layers that hold the mark.
        spread: Attack every layer alike, as does somebody who does not know where the mark is; else the carriers
            alone, which is the least a removal can cost.
        seed: Seed of the random attacks.
    """

    def __init__(
        self,
        attacker: Attacker,
        calibration: Calibration,
        carriers: tuple[str, ...],
        *,
        spread: bool = False,
        seed: int = 0,
    ) -> None:
        self._attacker = attacker
        self._calibration = calibration
        self._carriers = carriers
        self._spread = spread
        self._seed = seed

    @cached_property
    def _layers(self) -> tuple[WeightTensor, ...]:
        """The other layers that can be attacked and measured; none unless the attack is spread."""
        if not self._spread:
            return ()
        with open_model(self._attacker.path) as model:
            return tuple(
                tensor for tensor in model.weights().values() if tensor.name not in self._carriers and _sound(tensor)
            )

    @cached_property
    def _probe(self) -> WeightProbe:
        names = (*self._carriers, *(layer.name for layer in self._layers))
        return WeightProbe(self._attacker.path, names, self._calibration)

    def of_weights(self, recipe: Recipe, attacked: tuple[WeightTensor, ...]) -> Fidelity:
        """The answers after an attack on weights.

        Args:
            recipe: The attack; one that is a symmetry of the network is carried out through its graph.
            attacked: The carriers after it.

        Raises:
            AttackError: The attack cannot be carried out.
            CalibrationError: The inputs do not fit, or the layer cannot be fed from outside.
            MissingExtra: onnxruntime is not installed.
            ModelError: The model cannot be read, written or loaded.
        """
        if is_model_attack(recipe):
            with tempfile.TemporaryDirectory(prefix="onnxmark-") as room:
                target = Path(room) / self._attacker.path.name
                means = self._attacker.file_means(np.random.default_rng((self._seed, 0)))
                recipe.rewrite(self._attacker.path, target, means)
                return self.of_file(target)
        if not is_weight_attack(recipe):
            raise AttackError(f"{recipe!r} attacks neither weights nor a file; update the package it comes from")
        carriers = {layer.name: layer.values for layer in attacked}
        return self._probe.fidelity({**carriers, **self._others(recipe)})

    def of_file(self, path: Path) -> Fidelity:
        """The answers of an attacked file.

        Raises:
            CalibrationError: The inputs do not fit.
            MissingExtra: onnxruntime is not installed.
            ModelError: A model cannot be loaded.
        """
        return fidelity(self._attacker.path, path, self._calibration)

    def _others(self, recipe: Attack) -> dict[str, Float32Array]:
        attacked = {}
        for layer in self._layers:
            rng = np.random.default_rng((self._seed, 0, layer.origin.position))
            try:
                attacked[layer.name] = apply_attack(recipe, layer, self._attacker.means(recipe, layer, rng)).values
            except (AttackError, CarrierError, ModelError):
                continue  # a layer that the attack does not fit stays as it is, as in the attack on a file
        return attacked


def _sound(layer: WeightTensor) -> bool:
    return layer.values.size > 0 and bool(np.isfinite(layer.values).all())
