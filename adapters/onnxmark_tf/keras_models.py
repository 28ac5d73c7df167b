"""Keras models to ONNX: whole ones in a ``.keras`` or ``.h5`` file, and weights whose model the user's code builds.

Keras itself exports, on each of its backends by another program. What is ours is to open the file without running
anything of it, to step around what the exporters are known to get wrong, and to say which weights there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Final

from onnxmark.conversion import Converted, Request, SourceWeights
from onnxmark_tf.backends import BACKENDS, versions
from onnxmark_tf.exporting import export, require_groups
from onnxmark_tf.frameworks import keras_on
from onnxmark_tf.hosts import host_weights, quantised_layers
from onnxmark_tf.opening import open_keras
from onnxmark_tf.precision import half_policies, in_float32

_PURPOSE: Final = "converting a Keras model"
_EXPORTERS: Final = MappingProxyType({"tensorflow": "tf2onnx", "torch": "onnx", "jax": "jax2onnx"})


def convert_keras(request: Request) -> Converted:
    """Write the ONNX file of a Keras model.

    Raises:
        ConversionError: The model cannot be opened, or (``ExportRefused``) not be exported on this backend.
        TrustRequired: The file holds code.
        MissingExtra: Keras, its backend or the exporter is not installed.
    """
    keras = keras_on(request.backend, _PURPOSE)
    backend = str(keras.backend.backend())
    model = open_keras(keras, request)
    weights = tuple(host.source() for host in host_weights(model))
    if backend == "tensorflow":
        require_groups(request, weights)
    notes = _notes(model, weights, backend)
    export(keras, in_float32(keras, model, request), request)
    route = f"{versions(('keras',))} on {versions((BACKENDS[backend][0],))}, {versions((_EXPORTERS[backend],))}"
    return Converted(route, weights, notes=notes)


def _notes(model: Any, weights: Sequence[SourceWeights], backend: str) -> tuple[str, ...]:
    notes = []
    policies = half_policies(model)
    if policies:
        notes.append(
            f"layers compute in {', '.join(policies)}; the ONNX file computes in float32, "
            "because ONNX Runtime lacks such convolutions on CPUs"
        )
    quantised = quantised_layers(model)
    if quantised:
        notes.append(f"weights that Keras keeps as integers are not followed: {', '.join(quantised[:8])}")
    if backend == "jax" and any(one.order == "HWOI" for one in weights):
        notes.append("jax2onnx writes kernels of transposed convolutions back to front; those are not followed")
    return tuple(notes)
