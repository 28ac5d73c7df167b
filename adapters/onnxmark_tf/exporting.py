"""Keras's own export to ONNX, with what its exporters trip over put out of their way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from onnxmark.conversion import Request, SourceWeights
from onnxmark_tf.exchange import ExportRefused
from onnxmark_tf.frameworks import first_line
from onnxmark_tf.hosts import sublayers
from onnxmark_tf.mending import mended
from onnxmark_tf.signatures import input_signature
from onnxmark_tf.written import check_written


def export(keras: Any, model: Any, request: Request) -> None:
    """Write ``request.target``.

    Raises:
        ConversionError: The inputs have no shape.
        ExportRefused: The exporter of this backend cannot write the model.
    """
    signature = input_signature(keras, model, request)
    backend = str(keras.backend.backend())
    try:
        predicting = _predicting(keras, model, signature[0])
        with _fit_for_tensorflow(predicting) if backend == "tensorflow" else nullcontext():
            predicting.export(
                str(request.target), "onnx", verbose=False, input_signature=signature, opset_version=request.opset
            )
    except Exception as error:
        raise ExportRefused(
            f"{str(request.source)!r}: Keras cannot export it to ONNX on {backend}: {first_line(error)}"
        ) from error
    check_written(request, f"{str(request.source)!r} on {backend}")


def require_groups(request: Request, weights: Iterable[SourceWeights]) -> None:
    """Refuse what tf2onnx would write without its groups, which no checker sees and every runtime trips over.

    Raises:
        ExportRefused: There is a grouped convolution along three axes.
    """
    for one in weights:
        if one.group > 1 and one.values.ndim == 5 and one.order == "HWIO":
            raise ExportRefused(
                f"{str(request.source)!r}: tf2onnx loses the groups of three-dimensional convolutions ({one.name!r}); "
                "of a Keras file, another backend may keep them: --backend torch --input with the shape of the input"
            )


def _predicting(keras: Any, model: Any, inputs: Any) -> Any:
    """The model as it predicts: exporters leave it to each layer whether it trains, and layers that augment say yes."""
    # PyTorch's tracer takes no parameter that wants a gradient for a constant.
    model.trainable = False
    tensors = keras.tree.map_structure(
        lambda spec: keras.Input(batch_shape=spec.shape, dtype=spec.dtype, name=spec.name), inputs
    )
    return keras.Model(tensors, model(tensors, training=False), name=model.name)


@contextmanager
def _fit_for_tensorflow(model: Any) -> Iterator[None]:
    """Names that TensorFlow takes for scopes, nothing compiled by XLA, and tf2onnx mended, while a model is traced.

    Keras runs grouped convolutions in such a function, because TensorFlow has none on CPUs; the call would end up in
    the ONNX file, and the plain operator inside it is what ONNX has.
    """
    import tensorflow as tf

    names = [(layer, layer.name) for layer in (model, *sublayers(model))]
    before = tf.config.functions_run_eagerly()
    try:
        tf.config.run_functions_eagerly(True)
        for layer, name in names:
            layer.name = _scope(name)
        with mended():
            yield
    finally:
        tf.config.run_functions_eagerly(before)
        for layer, name in names:
            layer.name = name


def _scope(name: str) -> str:
    """A layer's name in the letters of TensorFlow's scopes."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    return plain if re.match(r"[A-Za-z0-9.]", plain) else f"layer{plain}"
