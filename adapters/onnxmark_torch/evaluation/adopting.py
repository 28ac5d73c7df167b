"""Weights that were changed in a file, put back into the network that the file was exported from.

A mark in closed form is written into a file; a thief's fine-tuning starts from a module. Exporters fold batch
normalisation into the filters before it, so that a filter in the file is the module's times a factor: it is read off
the two, not guessed, and what the mark added is divided by it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from onnxmark.arrays import Float32Array
from onnxmark.errors import LaboratoryError
from onnxmark.model import open_model
from onnxmark_torch.layers import HostLayer, host_layers

_TOLERANCE: Final = 1e-5
"""Of a filter against a multiple of the module's, relative to its norm; folding rounds to single precision."""


def adopt(model: nn.Module, before: Path, after: Path) -> None:
    """Change a network in place as its file was changed.

    Args:
        model: The network that ``before`` was exported from.
        before: Its file.
        after: The same with other weights.

    Raises:
        LaboratoryError: A layer that was changed is not found in the network, or was changed beyond its weights.
    """
    layers = {f"{name}.weight": layer for layer in host_layers(model) for name in layer.names}
    old, new = _weights(before), _weights(after)
    if old.keys() != new.keys():
        raise LaboratoryError("the marked file has other layers than the network, which cannot be trained on")
    for name, values in new.items():
        if values.shape != old[name].shape:
            raise LaboratoryError(
                f"layer {name!r} has another shape in the marked file, and the network cannot be trained on; embed by "
                "fine-tuning instead of in closed form"
            )
        if not np.array_equal(values, old[name]):
            _change(_named(layers, name), old[name], values)


def _weights(path: Path) -> dict[str, Float32Array]:
    with open_model(path) as model:
        return {name: tensor.values for name, tensor in model.weights().items()}


def _named(layers: dict[str, HostLayer], name: str) -> HostLayer:
    if name not in layers:
        raise LaboratoryError(
            f"layer {name!r} of the marked file is not found in the network, which cannot be trained on"
        )
    return layers[name]


def _change(layer: HostLayer, old: Float32Array, new: Float32Array) -> None:
    weight = layer.weight
    own = layer.canonical(weight.detach()).double().cpu().numpy()
    rows, filed = own.reshape(len(own), -1), old.reshape(len(old), -1).astype(np.float64)
    squares = np.sum(rows**2, axis=1)
    factors = np.sum(rows * filed, axis=1) / np.where(squares > 0, squares, 1.0)
    strayed = np.linalg.norm(filed - factors[:, None] * rows, axis=1) > _TOLERANCE * np.linalg.norm(filed, axis=1)
    added = new.reshape(filed.shape).astype(np.float64) - filed
    if strayed.any() or (np.any(added != 0, axis=1) & (factors == 0)).any():
        raise LaboratoryError(f"the exporter made of layer {layer.name!r} more than multiples of its filters")
    moved = added / np.where(factors != 0, factors, 1.0)[:, None]
    with torch.no_grad():
        change = torch.from_numpy(moved.reshape(own.shape).astype(np.float32))
        weight.add_(layer.stored(change).to(weight.device, weight.dtype))
