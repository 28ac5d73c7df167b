"""A Keras model with a dtype policy of half precision, rebuilt to compute in float32.

The exporters would write float16 or bfloat16 convolutions behind casts, and ONNX Runtime has none on CPUs. The weights
are the same numbers: mixed policies keep them in float32 anyway.
"""

from __future__ import annotations

from typing import Any, Final

from onnxmark.conversion import Request
from onnxmark.errors import ConversionError
from onnxmark_tf.frameworks import first_line
from onnxmark_tf.hosts import sublayers

_HALF: Final = frozenset({"float16", "bfloat16", "mixed_float16", "mixed_bfloat16"})


def half_policies(model: Any) -> tuple[str, ...]:
    """Names of the policies of half precision among the model's layers, sorted."""
    names = {layer.dtype_policy.name for layer in (model, *sublayers(model))}
    return tuple(sorted(names & _HALF))


def in_float32(keras: Any, model: Any, request: Request) -> Any:
    """The model itself, or where it computes in half precision, its twin in float32 with the same weights.

    Raises:
        ConversionError: Its class cannot be built anew from its configuration.
    """
    policies = half_policies(model)
    if not policies:
        return model
    try:
        config = keras.saving.serialize_keras_object(model)
        twin = keras.saving.deserialize_keras_object(_in_float32(config), safe_mode=not request.trust)
        for ours, theirs in zip(twin.weights, model.weights, strict=True):
            ours.assign(keras.ops.cast(theirs, ours.dtype))
    except Exception as error:
        raise ConversionError(
            f"{str(request.source)!r}: the model computes in {', '.join(policies)} and cannot be rebuilt in float32 "
            f"({first_line(error)}); build it with the policy float32 in a function given by --model"
        ) from error
    return twin


def _in_float32(config: Any, key: str = "") -> Any:
    """A serialised object with every policy of half precision replaced."""
    if isinstance(config, dict):
        is_policy = config.get("class_name") in ("DTypePolicy", "FloatDTypePolicy")
        if is_policy and config["config"]["name"] in _HALF:
            return {**config, "config": {**config["config"], "name": "float32"}}
        return {name: _in_float32(value, name) for name, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_in_float32(value) for value in config)
    return "float32" if key == "dtype" and config in _HALF else config
