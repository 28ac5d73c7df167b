"""Keras models saved in every container there is for them."""

from __future__ import annotations

import numpy as np

from tests.adapters_tf.nets import inputs, tf


def saved(folder, every_kind, plain):
    """Paths of the containers, by name."""
    every_kind.save(folder / "kinds.keras")
    every_kind.save(folder / "kinds.h5")
    every_kind.save_weights(folder / "kinds.weights.h5")
    every_kind.export(folder / "kinds", verbose=False)
    plain.export(folder / "plain", verbose=False)
    lite(folder, "plain", plain)
    return {path.name: path for path in folder.iterdir()}


def lite(folder, name, model):
    """TensorFlow Lite: floats, half floats, quantised weights, and integers throughout."""
    (folder / f"{name}_float.tflite").write_bytes(_converter(folder / name).convert())
    dynamic = _converter(folder / name)
    dynamic.optimizations = [tf.lite.Optimize.DEFAULT]
    (folder / f"{name}_dynamic.tflite").write_bytes(dynamic.convert())
    half = _converter(folder / name)
    half.optimizations = [tf.lite.Optimize.DEFAULT]
    half.target_spec.supported_types = [tf.float16]
    (folder / f"{name}_half.tflite").write_bytes(half.convert())
    integer = _converter(folder / name)
    integer.optimizations = [tf.lite.Optimize.DEFAULT]
    integer.representative_dataset = lambda: (
        {key: value[:1] for key, value in inputs(model, seed).items()} for seed in range(8)
    )
    integer.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    integer.inference_input_type = integer.inference_output_type = tf.int8
    (folder / f"{name}_int8.tflite").write_bytes(integer.convert())


def _converter(directory):
    return tf.lite.TFLiteConverter.from_saved_model(str(directory))


def run_lite(path, array):
    """What TensorFlow Lite's interpreter makes of one example; integers where the model is of integers.

    Returns:
        Its input as it took it, the input's name, and its output.
    """
    interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    if given["dtype"] == np.int8:
        scale, zero = given["quantization"]
        array = np.clip(np.round(array / scale + zero), -128, 127).astype(np.int8)
    interpreter.set_tensor(given["index"], array)
    interpreter.invoke()
    return array, given["name"], interpreter.get_tensor(made["index"])
