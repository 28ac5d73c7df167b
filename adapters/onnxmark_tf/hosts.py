"""The weights of a Keras model that can host a mark, each with a path that is the same whenever the model is loaded.

Keras names a variable after its layer, and layers of different nested models may be called alike; so a path here is
that of the layer through the models that hold it (``backbone/stem/kernel``). Works on every backend of Keras.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from onnxmark.arrays import Float32Array
from onnxmark.conversion import SourceWeights
from onnxmark_tf.orders import canonical


@dataclass(frozen=True, slots=True, eq=False)
class HostWeights:
    """Weights of one layer.

    Args:
        name: Path of the layer and name of the weights in it (``backbone/stem/kernel``); unique in the model.
        tensor: The Keras variable; a tensor where the layer computes its weights (LoRA).
        order: How Keras keeps them; one of :data:`onnxmark.conversion.converter.ORDERS`.
        group: Convolution groups.
    """

    name: str
    tensor: Any
    order: str
    group: int = 1

    @property
    def path(self) -> str:
        """What Keras calls them, which other programs take over; layers of nested models may share it."""
        return str(getattr(self.tensor, "path", self.name))

    @property
    def shape(self) -> tuple[int, ...]:
        """As Keras keeps them."""
        return tuple(self.tensor.shape)

    @property
    def is_variable(self) -> bool:
        """Whether other values can be assigned to them."""
        import keras

        return isinstance(self.tensor, keras.Variable)

    def values(self) -> Float32Array:
        """Their values in canonical order."""
        import keras

        return canonical(keras.ops.convert_to_numpy(keras.ops.cast(self.tensor, "float32")), self.order)

    def source(self) -> SourceWeights:
        """What a converter says of them."""
        return SourceWeights(self.name, self.values(), self.order, self.group)


def host_weights(model: Any) -> tuple[HostWeights, ...]:
    """Every weight of a convolution or a fully connected layer, in the model's order; a shared layer counts once.

    Layers without weights yet, and layers that Keras has quantised, are left out (:func:`quantised_layers` names the
    latter).
    """
    found = []
    for path, layer in _layers(model):
        if layer.built and not _is_quantised(layer):
            found += [
                HostWeights(f"{path}/{name}", getattr(layer, name), order, _group(layer, name))
                for name, order in _kernels(layer)
            ]
    return tuple(found)


def quantised_layers(model: Any) -> tuple[str, ...]:
    """Paths of layers whose weights Keras keeps as integers."""
    return tuple(path for path, layer in _layers(model) if _kernels(layer) and _is_quantised(layer))


def sublayers(model: Any) -> tuple[Any, ...]:
    """Every layer in ``model``, at any depth, each once."""
    return tuple(layer for _, layer in _layers(model))


def _layers(model: Any) -> Iterator[tuple[str, Any]]:
    """Every layer below ``model`` with its path, parents first."""
    seen: set[int] = set()
    waiting = _children(model, "")
    while waiting:
        path, layer = waiting.pop(0)
        if id(layer) not in seen:
            seen.add(id(layer))
            yield path, layer
            waiting = _children(layer, f"{path}/") + waiting


def _children(layer: Any, prefix: str) -> list[tuple[str, Any]]:
    """The layers directly inside; of several that are called alike, all but the first get a number."""
    # Keras lists the layers of a model in public, and those of any other layer only here.
    children = layer._flatten_layers(include_self=False, recursive=False)
    named, counts = [], dict[str, int]()
    for child in children:
        counts[child.name] = counts.get(child.name, 0) + 1
        number = "" if counts[child.name] == 1 else f"#{counts[child.name]}"
        named.append((f"{prefix}{child.name}{number}", child))
    return named


def _kernels(layer: Any) -> tuple[tuple[str, str], ...]:
    """Attributes of a layer that hold host weights, with their axis order."""
    from keras import layers

    if isinstance(layer, (layers.SeparableConv1D, layers.SeparableConv2D)):
        return (("depthwise_kernel", "HWCM"), ("pointwise_kernel", "HWIO"))
    if isinstance(layer, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)):
        return (("kernel", "HWCM"),)
    if isinstance(layer, (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)):
        return (("kernel", "HWOI"),)
    if isinstance(layer, (layers.Conv1D, layers.Conv2D, layers.Conv3D)):
        return (("kernel", "HWIO"),)
    return (("kernel", "IO"),) if isinstance(layer, layers.Dense) else ()


def _group(layer: Any, name: str) -> int:
    """As many groups as channels for a depthwise kernel."""
    is_depthwise = dict(_kernels(layer))[name] == "HWCM"
    return int(getattr(layer, name).shape[-2]) if is_depthwise else int(getattr(layer, "groups", 1))


def _is_quantised(layer: Any) -> bool:
    return getattr(layer, "quantization_mode", None) is not None
