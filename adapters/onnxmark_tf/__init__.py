"""Keras models, SavedModels and TensorFlow Lite to ONNX, and marked weights back into Keras.

    onnxmark convert model.keras -o model.onnx
    onnxmark embed model.onnx --key key.npy -o marked.onnx

    from onnxmark_tf import WatermarkRegularizer, load_weights
    load_weights(model, "marked.onnx")       # the Keras model carries the mark now
    keras.layers.Conv2D(64, 3, kernel_regularizer=WatermarkRegularizer(key))     # or is trained to

Importing this imports no framework: :func:`convert`, which ``onnxmark.adapters`` names, works in a process of its own,
and what needs Keras imports it when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from onnxmark_tf.converter import convert
from onnxmark_tf.loading import load_weights

if TYPE_CHECKING:
    from onnxmark_tf.marks import remove_regularizers, report
    from onnxmark_tf.monitor import WatermarkMonitor
    from onnxmark_tf.regularizer import WatermarkRegularizer, keys_at_hand

__all__ = [
    "WatermarkMonitor",
    "WatermarkRegularizer",
    "convert",
    "keys_at_hand",
    "load_weights",
    "remove_regularizers",
    "report",
]

_WITH_KERAS: Final = {
    "WatermarkMonitor": "monitor",
    "WatermarkRegularizer": "regularizer",
    "keys_at_hand": "regularizer",
    "remove_regularizers": "marks",
    "report": "marks",
}
"""Names whose modules import Keras, and those modules."""


def __getattr__(name: str) -> Any:
    if name not in _WITH_KERAS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WITH_KERAS[name]}"), name)
