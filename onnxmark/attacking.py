"""Attack a file: recipes in order, layer by layer or through the graph, into a copy that says what was done to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from onnxmark._version import __version__
from onnxmark.arrays import Float32Array, Float64Array
from onnxmark.attacker import Attacker, is_model_attack, is_weight_attack
from onnxmark.attacks import Attack, Recipe, apply_attack
from onnxmark.attacks.entropy_coding import Sizes, coded_sizes
from onnxmark.audit import named_sites
from onnxmark.errors import AttackError, CarrierError, ModelError, WriteBackError
from onnxmark.model import Model, WeightSite, open_model, write_model
from onnxmark.model.editing.provenance import append_metadata
from onnxmark.model.editing.publishing import publish, room_beside
from onnxmark.model.external import is_same_file
from onnxmark.model.running.calibration import load_calibration
from onnxmark.model.running.runtime import Fidelity, fidelity
from onnxmark.weights import WeightTensor

PROVENANCE: Final = "onnxmark.attack"
"""Key under which an attacked model keeps its recipe."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class AttackedLayer:
    """What a step did to one layer.

    Args:
        name: The layer.
        shape: Canonical shape.
        relative_change: Norm of the change over the norm of the weights before; None where either cannot be told.
        sparsity: Share of weights that are zero after the step, in [0, 1].
        problem: Why the layer was left as it was, or None.
    """

    name: str
    shape: tuple[int, ...]
    relative_change: float | None
    sparsity: float | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One recipe carried out.

    Args:
        recipe: The attack.
        layers: What it did to which layers; empty for attacks through the graph.
        notes: What an attack through the graph says of itself.
    """

    recipe: Recipe
    layers: tuple[AttackedLayer, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attacking:
    """What was done to a file.

    Args:
        source: The model.
        output: The attacked copy.
        steps: In order.
        seed: Seed of all randomness.
        anonymous: Whether the copy keeps silent about it.
        sizes: What its layers take in Deep Compression's storage; None where a layer has too many levels for it.
        fidelity: How far the outputs moved; None without calibration inputs.
    """

    source: Path
    output: Path
    steps: tuple[Step, ...]
    seed: int
    anonymous: bool
    sizes: Sizes | None
    fidelity: Fidelity | None


def attack_file(
    path: Path,
    recipes: Sequence[Recipe],
    output: Path,
    *,
    layer: str | None = None,
    seed: int = 0,
    reference: Path | None = None,
    calibration: Path | None = None,
    labels: Path | None = None,
    anonymous: bool = False,
    progress: Progress | None = None,
) -> Attacking:
    """Carry out recipes, one after the other, on a copy of a model.

    Args:
        path: The model; left as it is.
        recipes: At least one.
        output: Where the attacked copy goes; external data lands beside it.
        layer: Attack this layer only, by the name of its weights or of its node.
        seed: The same seed gives the same file.
        reference: The model before it was marked, for attacks that need one.
        calibration: Inputs of the model, for attacks that need them and to measure what became of the outputs.
        labels: Class indices of the inputs, where they lie in a file of their own.
        anonymous: Do not write the recipe into the copy's metadata.
        progress: Told (steps done, steps to do).

    Raises:
        AttackError: A recipe cannot be applied, or lacks what it needs.
        CarrierError: There is no such layer, or no layer at all.
        CalibrationError: The inputs do not fit the model.
        MissingExtra: A tool or the runtime is not installed.
        ModelError: The model cannot be read or written.
        ValueError: There is no recipe.
    """
    if not recipes:
        raise ValueError("an attack takes at least one recipe")
    if is_same_file(path, output):
        raise WriteBackError(f"{str(output)!r} is the model itself; write the attacked copy elsewhere")
    inputs = None if calibration is None else load_calibration(calibration, labels)
    steps = []
    # What is half done never bears the name asked for: all of it happens in a room beside the output.
    with room_beside(output) as room:
        current = path
        for count, recipe in enumerate(recipes):
            if progress is not None:
                progress(count, len(recipes))
            target = room / str(count) / output.name
            target.parent.mkdir()
            # A layer keeps its name through most steps; where a tool renamed it, the error lists the nearest names.
            steps.append(_step(Attacker(current, reference, calibration, labels), recipe, target, layer, (seed, count)))
            current = target
        if not anonymous:
            append_metadata(current, {PROVENANCE: provenance(recipes, seed, layer)})
        sizes = _sizes(current)
        moved = None if inputs is None else fidelity(path, current, inputs)
        publish(current, output, path)
    if progress is not None:
        progress(len(recipes), len(recipes))
    return Attacking(
        source=path,
        output=output,
        steps=tuple(steps),
        seed=seed,
        anonymous=anonymous,
        sizes=sizes,
        fidelity=moved,
    )


def provenance(recipes: Sequence[Recipe], seed: int, layer: str | None) -> str:
    """What an attacked model says of itself, in one line."""
    where = "" if layer is None else f" on {layer!r}"
    return f"onnxmark {__version__}: {', '.join(map(repr, recipes))}{where}, seed {seed}"


def _step(attacker: Attacker, recipe: Recipe, target: Path, layer: str | None, seed: tuple[int, int]) -> Step:
    lacking = attacker.lacks(recipe)
    if lacking is not None:
        raise AttackError(f"attack {recipe.name!r} {lacking}")
    if is_model_attack(recipe):
        names = None if layer is None else tuple(site.name for site in _chosen(attacker.path, layer))
        means = attacker.file_means(np.random.default_rng(seed), names)
        return Step(recipe, (), recipe.rewrite(attacker.path, target, means))
    if not is_weight_attack(recipe):
        raise AttackError(f"{recipe!r} attacks neither weights nor a file; update the package it comes from")
    changed, layers = _changed(attacker, recipe, layer, seed)
    write_model(attacker.path, changed, target)
    return Step(recipe, layers)


def _chosen(path: Path, layer: str | None) -> tuple[WeightSite, ...]:
    with open_model(path) as model:
        return model.sites() if layer is None else named_sites(model.sites(), layer)


def _changed(
    attacker: Attacker, recipe: Attack, layer: str | None, seed: tuple[int, int]
) -> tuple[dict[str, Float32Array], tuple[AttackedLayer, ...]]:
    """New weights by layer, and what became of every layer."""
    changed: dict[str, Float32Array] = {}
    layers = []
    with open_model(attacker.path) as model:
        sites = model.sites() if layer is None else named_sites(model.sites(), layer)
        for site in sites:
            rng = np.random.default_rng((*seed, site.position))
            outcome = _attacked(attacker, recipe, model, site, rng)
            if isinstance(outcome, str):
                layers.append(AttackedLayer(site.name, site.shape, None, None, outcome))
                continue
            before, after = outcome
            changed[site.name] = after.values
            sparsity = float(np.mean(after.values == 0))
            layers.append(AttackedLayer(site.name, site.shape, relative_change(before, after), sparsity))
    if not changed:
        reason = layers[0].problem if layers else "the model has no layers"
        raise AttackError(f"attack {recipe.name!r} could change no layer of {str(attacker.path)!r}: {reason}")
    return changed, tuple(layers)


def _attacked(
    attacker: Attacker, recipe: Attack, model: Model, site: WeightSite, rng: np.random.Generator
) -> tuple[WeightTensor, WeightTensor] | str:
    """A layer before and after, or why it is left as it is: one odd layer must not stop the attack on the others."""
    try:
        weights = model.read(site)
        return weights, apply_attack(recipe, weights, attacker.means(recipe, weights, rng))
    except (AttackError, CarrierError, ModelError) as error:
        return str(error)


def relative_change(before: WeightTensor, after: WeightTensor) -> float | None:
    """Norm of the change over the norm before; None where the shapes differ or there is no norm."""
    if before.shape != after.shape:
        return None
    norm = _norm(before.values.astype(np.float64))
    if norm == 0:
        return None
    return _norm(np.subtract(after.values, before.values, dtype=np.float64)) / norm


def _norm(values: Float64Array) -> float:
    flat = values.reshape(-1)
    return math.sqrt(float(flat @ flat))


def _sizes(path: Path) -> Sizes | None:
    """What all layers of a file take in Deep Compression's storage."""
    with open_model(path) as model:
        return coded_sizes([tensor.values for tensor in model.weights().values()])
