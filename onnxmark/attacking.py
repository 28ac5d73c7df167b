"""Attack a file: recipes in order, layer by layer or through the graph, into a copy that says what was done to it.

Also what an attacker of one model has at hand, looked up once and only when a recipe asks for it.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypeGuard

import numpy as np

from onnxmark._version import __version__
from onnxmark.arrays import Float32Array, Float64Array
from onnxmark.attacks import Attack, FileMeans, Means, ModelAttack, Need, Recipe, apply_attack
from onnxmark.attacks.entropy_coding import Sizes, coded_sizes
from onnxmark.audit import named_sites
from onnxmark.errors import AttackError, CalibrationError, CarrierError, ModelError, WriteBackError
from onnxmark.model import Model, WeightSite, open_model, write_model
from onnxmark.model.editing.provenance import append_metadata
from onnxmark.model.external import is_same_file
from onnxmark.model.running.calibration import Calibration, load_calibration
from onnxmark.model.running.runtime import Fidelity, fidelity
from onnxmark.model.running.taps import input_second_moment
from onnxmark.weights import WeightTensor

PROVENANCE: Final = "onnxmark.attack"
"""Key under which an attacked model keeps its recipe."""

Progress = Callable[[int, int], None]


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
        """Why a recipe cannot be tried with what there is, or None."""
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
    with _room_beside(output) as room:
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
        _publish(current, output, path)
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


@contextmanager
def _room_beside(output: Path) -> Iterator[Path]:
    try:
        room = tempfile.TemporaryDirectory(prefix=".onnxmark-", dir=output.parent)
    except OSError as error:
        raise WriteBackError(
            f"{str(output)!r} cannot be written: {error.strerror}; choose another directory"
        ) from error
    with room as name:
        yield Path(name)


def _publish(made: Path, output: Path, source: Path) -> None:
    """Move a model and its data files to where they belong, the model last.

    Raises:
        WriteBackError: A data file would overwrite one that stands beside the source.
    """
    data = sorted(file for file in made.parent.rglob("*") if file.is_file() and file != made)
    homes = [output.parent / file.relative_to(made.parent) for file in data]
    if is_same_file(source.parent, output.parent):
        for home in homes:
            if home.exists():
                raise WriteBackError(
                    f"{str(output)!r}: its weights lie in {home.name!r}, which the original has beside it, too; write "
                    "the copy to another directory"
                )
    for file, home in zip(data, homes, strict=True):
        home.parent.mkdir(parents=True, exist_ok=True)
        file.replace(home)
    made.replace(output)


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
