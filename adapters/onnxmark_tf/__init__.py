"""Keras models, SavedModels and TensorFlow Lite to ONNX, and marked weights back into Keras.

    onnxmark convert model.keras -o model.onnx
    onnxmark embed model.onnx --key key.npy -o marked.onnx

    from onnxmark_tf import load_weights
    load_weights(model, "marked.onnx")       # the Keras model carries the mark now

Importing this imports no framework: :func:`convert`, which ``onnxmark.adapters`` names, works in a process of its own.
"""

from onnxmark_tf.converter import convert
from onnxmark_tf.loading import load_weights

__all__ = ["convert", "load_weights"]
