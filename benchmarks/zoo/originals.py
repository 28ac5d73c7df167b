"""Keras's models with every variable drawn at random, batch normalisations too, so that nothing folds into itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.zoo.reference import Reference, in_canonical_order
from benchmarks.zoo.species import N_CLASSES, Route, Species
from onnxmark.arrays import Float32Array

N_INPUTS: Final = 8
_NEGATIVE: Final = 0.05
"""Share of channels that a batch normalisation turns round."""


def keep(species: Species, folder: Path) -> None:
    """Build a species and save it for each of its routes, with its reference; files are called :attr:`Route.file`."""
    model = original(species)
    reference_of(model, species).save(folder / "reference.npz")
    model.save(folder / Route.KERAS.file)
    if {Route.SAVED_MODEL, Route.TFLITE} & set(species.routes):
        model.export(folder / Route.SAVED_MODEL.file, verbose=False)
    if Route.TFLITE in species.routes:
        (folder / Route.TFLITE.file).write_bytes(_lite(folder / Route.SAVED_MODEL.file))


def original(species: Species) -> Any:
    """A model of Keras that gives logits; the same for the same species."""
    import keras

    # Names of layers are counted anew, and dropout, which is on while statistics are taken, drops the same.
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    build = getattr(keras.applications, species.function or species.name)
    shape = (species.size, species.size, 3)
    model = build(weights=None, input_shape=shape, classes=N_CLASSES, classifier_activation=None, **species.options)
    randomise(model, np.random.default_rng(len(model.weights)))
    return model


def randomise(model: Any, rng: np.random.Generator) -> None:
    """Draw every variable that training would change.

    Statistics of batch normalisations are those of noise, each off by a random factor: without the former, deep
    networks would answer all images alike, and without the latter, normalising would change next to nothing.
    """
    for _, kind, variable in _variables(model):
        if kind in _DRAWN:
            variable.assign(_DRAWN[kind](rng, tuple(variable.shape)).astype(np.float32))
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(_pixels(model, rng, (2 * N_INPUTS, *model.input_shape[1:])), training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
        variance = layer.moving_variance.numpy()
        layer.moving_mean.assign_add(rng.normal(0, 0.1, variance.shape) * np.sqrt(variance))
        layer.moving_variance.assign(variance * rng.uniform(0.5, 2, variance.shape))


def reference_of(model: Any, species: Species) -> Reference:
    """A model in numbers."""
    variables: dict[str, Float32Array] = {}
    for layer, kind, variable in _variables(model):
        name = f"{layer.name}/{kind}"
        if name in variables:
            raise ValueError(f"two variables are called {name!r}; a model of the zoo names its layers apart")
        if kind in _KEPT:
            variables[name] = in_canonical_order(variable.numpy(), kind, type(layer).__name__)
    pixels = _pixels(model, np.random.default_rng(0), (N_INPUTS, species.size, species.size, 3))
    return Reference(variables, pixels, np.asarray(model(pixels, training=False), dtype=np.float32))


def _variables(model: Any) -> Iterator[tuple[Any, str, Any]]:
    """Every variable with the layer it belongs to and its name there."""
    seen: set[int] = set()
    for layer in reversed(model._flatten_layers(include_self=False)):
        # Layers come after the models that hold them, whose variables they are, too.
        for variable in layer.weights:
            if id(variable) not in seen:
                seen.add(id(variable))
                # The only variables without a name of their own.
                yield layer, "gamma" if type(layer).__name__ == "LayerScale" else variable.name, variable


def _pixels(model: Any, rng: np.random.Generator, shape: tuple[int, ...]) -> Float32Array:
    """Images as the model takes them: bytes where it scales them itself."""
    scales = any(type(layer).__name__ in ("Rescaling", "Normalization") for layer in model.layers)
    values = rng.uniform(0, 255, shape) if scales else rng.standard_normal(shape)
    return values.astype(np.float32)


def _lite(saved: Path) -> bytes:
    import tensorflow as tf

    content: bytes = tf.lite.TFLiteConverter.from_saved_model(str(saved)).convert()
    return content


def _kernel(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)


def _depthwise(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return rng.normal(0, np.sqrt(2 / np.prod(shape[:-2])), shape)


def _gamma(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return rng.uniform(0.5, 1.5, shape) * np.where(rng.random(shape) < _NEGATIVE, -1, 1)


_Draw = Callable[[np.random.Generator, tuple[int, ...]], Any]
_DRAWN: Final[dict[str, _Draw]] = {
    "kernel": _kernel,
    "depthwise_kernel": _depthwise,
    "pointwise_kernel": _kernel,
    "bias": lambda rng, shape: rng.normal(0, 0.1, shape),
    "beta": lambda rng, shape: rng.normal(0, 0.1, shape),
    "gamma": _gamma,
}
"""How variables are drawn, by their names in their layers."""
_KEPT: Final = frozenset({*_DRAWN, "moving_mean", "moving_variance"})
"""Variables that make up a model; others are constants of the architecture."""
