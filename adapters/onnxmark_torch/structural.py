"""Structural marks in PyTorch: prune channels to the widths of a key, and train the loss away.

Zhao, Yao, Wu, Zhang: Structural Watermarking to Deep Neural Networks via Network Channel Pruning (WIFS 2021, arXiv
2107.08688); the details are a reconstruction, see :mod:`onnxmark.schemes.structural`.

    key = structural_key(model, (example,))
    prune_channels_(model, (example,), key)      # in place; make the optimizer afterwards
    ...                                          # fine-tune as usual, nothing to attach

The mark is in the shapes: no training, quantisation or sparse pruning afterwards can change it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Unpack, cast

import numpy as np
import torch
from torch import Tensor, nn

from onnxmark.arrays import BitArray, Float32Array, Int64Array
from onnxmark.keys import Carrier, Key
from onnxmark.model.channels.narrowing import kept_channels
from onnxmark.schemes.evidence import Evidence
from onnxmark.schemes.scheme import Layer
from onnxmark.schemes.structural.matching import match_layers
from onnxmark.schemes.structural.parameters import Options
from onnxmark.schemes.structural.scheme import StructuralScheme
from onnxmark_torch.channels import CalledLayer, Part, Slice, called_layers
from onnxmark_torch.history import History
from onnxmark_torch.layers import unwrapped
from onnxmark_torch.plan import FINE_TUNING, TrainingPlan
from onnxmark_torch.problems import Problem, TargetError
from onnxmark_torch.recipes import Watching
from onnxmark_torch.tasks import Task
from onnxmark_torch.training import train

_SCHEME: Final = StructuralScheme()
_DEFAULTS: Final = Options()
_SIZES: Final = {
    Part.MAKES: ("out_channels",),
    Part.SCALES: ("num_features", "num_parameters"),
    Part.FILTERS: ("in_channels", "out_channels", "groups"),
    Part.TAKES: ("in_channels", "in_features"),
}
"""What modules call the number that changes."""


@dataclass(frozen=True, slots=True, eq=False)
class Pruned:
    """What :func:`prune_to_embed` gives.

    Args:
        model: A new, narrower model, in evaluation mode.
        history: How it was trained after pruning, with its score.
    """

    model: nn.Module
    history: History


def structural_key(
    model: nn.Module, example_inputs: tuple[Any, ...], payload: BitArray | None = None, options: Options = _DEFAULTS
) -> Key:
    """A fresh key for all convolutions of a model whose channels can be removed.

    Args:
        model: The model; left as it is.
        example_inputs: Arguments of one call of the model.
        payload: The owner's bits, shape (T,); None takes as many zeros as fit, 64 at most.
        options: Which widths layers may be given.

    Raises:
        TargetError: The model cannot be traced.
        KeyFileError: The layers hold too little.
    """
    layers = [layer for layer in called_layers(model, example_inputs) if layer.obstacle is None]
    carriers = [Layer(Carrier(layer.shape, layer.name, op=layer.op, position=layer.position)) for layer in layers]
    return _SCHEME.make_key(carriers, payload, options)


def prune_channels_(model: nn.Module, example_inputs: tuple[Any, ...], key: Key) -> nn.Module:
    """Bring a model to the widths of a key, in place; see :func:`narrow_`.

    Args:
        model: The model the key was made for.
        example_inputs: Arguments of one call of the model.
        key: A structural key.

    Returns:
        ``model`` itself.

    Raises:
        TargetError: The model is not the one the key was made for, or cannot be traced; it is left as it was.
        KeyFileError: The key's parameters make no sense.
    """
    layers = _carriers(called_layers(model, example_inputs), key)
    names = (layer.name for layer in layers)
    return narrow_(model, example_inputs, dict(zip(names, _SCHEME.widths(key), strict=True)))


def narrow_(model: nn.Module, example_inputs: tuple[Any, ...], widths: Mapping[str, int]) -> nn.Module:
    """Bring convolutions of a model to given widths, in place.

    In each layer the channels of smallest L1 norm go, as :func:`onnxmark.model.channels.narrowing.narrow` removes them
    from an ONNX file. Parameters that change are new ones: make optimizers afterwards.

    Args:
        model: The model.
        example_inputs: Arguments of one call of the model.
        widths: By name of a convolution's weights (``conv1.weight``), the number of output channels it is to have.

    Returns:
        ``model`` itself.

    Raises:
        TargetError: Channels of a layer cannot be removed, or the model cannot be traced; it is left as it was.
        ValueError: A layer has fewer channels already.
    """
    layers = {layer.name: layer for layer in called_layers(model, example_inputs)}
    modules = dict(unwrapped(model).named_modules(remove_duplicate=False))
    plan = [
        (layer.slices, kept_channels(_values(modules[layer.module]), width))
        for layer, width in ((_prunable(layers, name), width) for name, width in widths.items())
    ]
    for slices, kept in plan:
        for each in slices:
            _take(modules[each.module], each, kept)
    return model


def structural_evidence(model: nn.Module, example_inputs: tuple[Any, ...], key: Key) -> Evidence:
    """What a key reads in a model.

    Raises:
        TargetError: The model cannot be traced.
        KeyFileError: The key's parameters make no sense.
    """
    layers = called_layers(model, example_inputs)
    found = match_layers(key.carriers, layers)
    return _SCHEME.extract(key, tuple(None if index is None else layers[index].shape[0] for index in found))


def prune_to_embed(
    model: nn.Module, task: Task, key: Key, plan: TrainingPlan = FINE_TUNING, **watching: Unpack[Watching]
) -> Pruned:
    """Prune a finished network to the widths of a key and train it on, so that it recovers.

    Args:
        model: The network, on the device to train on; left as it is.
        task: What it is for.
        key: A structural key for it.
        plan: How to train; the default is a reconstruction.
        **watching: See :class:`onnxmark_torch.recipes.Watching`.

    Raises:
        TargetError: The model is not the one the key was made for, or cannot be traced.
    """
    narrow = prune_channels_(copy.deepcopy(model), examples_of(task, model), key)
    return Pruned(narrow, train(narrow, task, plan, **watching))


def examples_of(task: Task, model: nn.Module) -> tuple[Tensor]:
    """Two of a task's images as its networks are given them, on the model's device."""
    images = torch.tensor(task.test.images[:2], device=next(model.parameters()).device)
    return (task.inputs(images),)


def _carriers(layers: Sequence[CalledLayer], key: Key) -> list[CalledLayer]:
    """The key's layers, as they were when it was made."""
    found = []
    for carrier, index in zip(key.carriers, match_layers(key.carriers, layers), strict=True):
        if index is None or layers[index].shape != carrier.shape:
            known = "none of that kind" if index is None else f"{layers[index].name!r} of shape {layers[index].shape}"
            what = f"the key was made for a layer {carrier.name!r} of shape {carrier.shape}, and the model has {known}"
            raise TargetError(Problem(what, "take the model it was made for"))
        found.append(layers[index])
    return found


def _prunable(layers: Mapping[str, CalledLayer], name: str) -> CalledLayer:
    if name not in layers or layers[name].obstacle is not None:
        why = layers[name].obstacle if name in layers else "the model calls no such layer"
        others = ", ".join(other.name for other in layers.values() if other.obstacle is None) or "none"
        raise TargetError(Problem(f"channels of {name!r} cannot be removed: {why}", f"those that can: {others}"))
    return layers[name]


def _values(module: nn.Module) -> Float32Array:
    weight = cast(Tensor, module.weight)
    return np.asarray(weight.detach().cpu().float().numpy(), dtype=np.float32)


def _take(module: nn.Module, each: Slice, kept: Int64Array) -> None:
    """Leave a module only its slices for the channels ``kept``."""
    axis = 1 if each.part is Part.TAKES else 0
    index = torch.from_numpy((kept[:, np.newaxis] * each.inner + np.arange(each.inner)).reshape(-1))
    for name, values in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        # A bias of what takes the channels, and a count of batches, have nothing to do with them.
        if values.ndim > axis:
            _replace(module, name, values.detach().index_select(axis, index.to(values.device)))
    for size in _SIZES[each.part]:
        if hasattr(module, size):
            setattr(module, size, len(index))


def _replace(module: nn.Module, name: str, values: Tensor) -> None:
    old = getattr(module, name)
    setattr(module, name, nn.Parameter(values, old.requires_grad) if isinstance(old, nn.Parameter) else values)
