"""What core and adapters agree on: a request to convert one container, and what an adapter says of what it did.

A converter is a function of a :class:`Request`, found by the entry point in ``onnxmark.adapters`` that is called like
the container (``keras``, ``tflite``, ``pt2``). It writes ``request.target`` and returns the framework's own weights in
canonical order. Which initializer holds which of them is not its business: that is found by value, for any exporter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from onnxmark.arrays import Float32Array, frozen
from onnxmark.conversion.containers import Container

ORDERS: Final = ("OIHW", "IOHW", "HWIO", "HWOI", "HWCM", "OHWI", "MHWC", "OI", "IO")
"""Axis orders in which frameworks keep weights, spelt for two spatial axes; one or three spatial axes go by the same
names. C and M are the channels and the multiplier of a depthwise kernel; O and I of a transposed convolution are its
output and its input channels."""


@dataclass(frozen=True, slots=True)
class Request:
    """A container to convert.

    Args:
        source: A file, or the directory of a SavedModel.
        container: What it is.
        target: ONNX file to write, in a folder of its own; external data may land beside it.
        opset: Version of the standard operator set to ask for; None takes the converter's default.
        trust: The user has said that code in the container may run.
        factory: ``module:function`` that builds the model whose weights the container holds; None where there is none.
        shapes: Shapes of the inputs by name, or under "" for the only input, where the container does not give them.
        backend: Framework that Keras is to run on (``tensorflow``, ``torch``, ``jax``); None takes what is installed.
    """

    source: Path
    container: Container
    target: Path
    opset: int | None = None
    trust: bool = False
    factory: str | None = None
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    backend: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SourceWeights:
    """Host weights of one layer as the framework has them.

    Args:
        name: Path of the weights in the framework, by which it can find them again (``layer1.0.conv1.weight``).
        values: Canonical order ``(out, in / group, *spatial)``, float32; made read-only.
        order: Axis order the framework keeps them in; one of :data:`ORDERS`.
        group: Convolution groups.
    """

    name: str
    values: Float32Array
    order: str
    group: int = 1

    def __post_init__(self) -> None:
        if self.values.dtype != np.float32 or self.values.ndim < 2:
            raise ValueError(f"weights {self.name!r} must be float32 with at least two axes, not {self.values.dtype}")
        if self.order not in ORDERS:
            raise ValueError(f"weights {self.name!r} have the unknown axis order {self.order!r}; known: {ORDERS}")
        frozen(self.values)


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """What an adapter says of what it wrote.

    Args:
        route: Programs it went through, with versions (``keras 3.15.1 on tensorflow 2.21.0, tf2onnx 1.17.0``).
        weights: Host weights of the framework's model, in its order.
        has_graph: False where the file holds the weights only, because no graph could be had.
        notes: Sentences the user should read, each with its reason.
    """

    route: str
    weights: tuple[SourceWeights, ...]
    has_graph: bool = True
    notes: tuple[str, ...] = ()


Converter = Callable[[Request], Converted]
"""Writes ``request.target``.

Raises:
    ConversionError: The container cannot be converted; the line says why and what to do.
    TrustRequired: It could run code of the container, and ``request.trust`` is not set.
    MissingExtra: A framework is not installed.
"""
