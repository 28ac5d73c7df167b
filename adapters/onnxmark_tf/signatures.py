"""Shapes and types of a Keras model's inputs, from the model where it knows them and from the user where it does not.

Keras can tell them only of a model that has been called, which one fresh from a file or a factory has not; but the
exporters take them from outside as well.
"""

from __future__ import annotations

from typing import Any

from onnxmark.conversion import Request
from onnxmark.errors import ConversionError


def input_signature(keras: Any, model: Any, request: Request) -> list[Any]:
    """The model's argument as a structure of ``keras.InputSpec``, in a list of one.

    The batch stays open, other axes too where the model leaves them open and the backend allows it.

    Raises:
        ConversionError: A shape is missing, or one was given for an input there is not.
    """
    structure = _inputs(keras, model, request)
    given = _given(request, [tensor.name for tensor in keras.tree.flatten(structure)])
    return [keras.tree.map_structure(lambda tensor: _spec(keras, tensor, given.get(tensor.name), request), structure)]


def zeros(keras: Any, request: Request) -> Any:
    """An input of the shapes that the request gives, to build a model with; a list where it gives several.

    Raises:
        ConversionError: It gives none.
    """
    if not request.shapes:
        raise ConversionError(
            f"{str(request.source)!r}: the model of {request.factory!r} has no weights before it meets an input; "
            "give its shape, batch first: --input 1x224x224x3"
        )
    arrays = [keras.ops.zeros(shape) for _, shape in request.shapes]
    return arrays[0] if len(arrays) == 1 else arrays


def _inputs(keras: Any, model: Any, request: Request) -> Any:
    """The structure of the model's inputs, of ``keras.KerasTensor``."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0]
    if hasattr(model, "_inputs_struct"):
        # Keras's own exporters read it, too: `inputs` has lost which of a dictionary's entries is which.
        return model._inputs_struct
    config = model.get_build_config() or {}
    shapes = config.get("input_shape") or list(config.get("shapes_dict", {}).values())
    if not shapes:
        shapes = [shape for _, shape in request.shapes]
    return _tensors(keras, shapes, model.input_dtype)


def _tensors(keras: Any, shapes: Any, dtype: str, name: str = "input") -> Any:
    """A structure of shapes as one of tensors, each named after its place."""
    if isinstance(shapes, dict):
        return {key: _tensors(keras, shape, dtype, str(key)) for key, shape in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        return keras.KerasTensor(tuple(shapes), dtype, name=name)
    parts = [_tensors(keras, shape, dtype, f"{name}_{index}") for index, shape in enumerate(shapes)]
    return parts[0] if len(parts) == 1 else parts


def _given(request: Request, names: list[str]) -> dict[str, tuple[int, ...]]:
    """The shapes of the request by the model's names of its inputs."""
    given = {name or names[0]: shape for name, shape in request.shapes}
    unknown = sorted(set(given) - set(names))
    if unknown or ("" in dict(request.shapes) and len(names) > 1):
        raise ConversionError(
            f"{str(request.source)!r}: has the inputs {', '.join(names)}, and not "
            f"{', '.join(unknown) or 'only one'}; give shapes by name: --input {names[0]}=1x224x224x3"
        )
    return given


def _spec(keras: Any, tensor: Any, given: tuple[int, ...] | None, request: Request) -> Any:
    shape: tuple[int | None, ...] = given or (None, *tensor.shape[1:])
    if len(shape) != len(tensor.shape):
        raise ConversionError(
            f"{str(request.source)!r}: input {tensor.name!r} has {len(tensor.shape)} axes with the batch, "
            f"not {len(shape)}; give it as --input {tensor.name}=1x224x224x3"
        )
    if None in shape[1:] and keras.backend.backend() == "torch":
        raise ConversionError(
            f"{str(request.source)!r}: input {tensor.name!r} has the open shape {shape}, which PyTorch cannot trace; "
            f"give it one: --input {tensor.name}=1x224x224x3"
        )
    return keras.InputSpec(shape=shape, dtype=tensor.dtype, name=tensor.name)
