"""What would spoil a mark, found before hours of training: every check answers with a cure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import nn
from torch.optim import Optimizer

from onnxmark.errors import KeyFileError
from onnxmark.keys import AnyKey, Key
from onnxmark.schemes.projection.carriers import vector_size
from onnxmark.schemes.projection.projection import projection_of, required_entries
from onnxmark_torch.layers import HostLayer, parameter_names
from onnxmark_torch.normalisation import folding_scale, following_norm
from onnxmark_torch.problems import Problem, TargetError
from onnxmark_torch.targets import Selection, Target

_TRAINABLE: Final = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def find_problems(model: nn.Module, key: AnyKey, selection: Selection, optimizer: Optimizer | None) -> list[Problem]:
    """Everything that stands in the way of training this key into this model; empty where nothing does."""
    try:
        targets = selection.targets(model, key)
    except TargetError as error:
        return [error.problem]
    except KeyFileError as error:
        return [Problem(str(error), "make another key with 'onnxmark keygen'")]
    problems = [problem for target in targets for problem in _problems(model, key, target, selection)]
    if optimizer is not None:
        problems += [problem for target in targets if (problem := not_trained(optimizer, target.layer)) is not None]
    return problems


def _problems(model: nn.Module, key: AnyKey, target: Target, selection: Selection) -> Iterator[Problem]:
    layer = target.layer
    yield from _too_many_bits(key, target)
    if layer.weight.is_meta:
        yield Problem(
            f"layer {layer.name!r} is on the meta device and has no weights",
            "materialise the model first, with to_empty() and its initialisation or a checkpoint",
        )
        return
    yield from _untrainable(model, layer)
    yield from _shared(model, layer)
    if layer.group > 1 and layer.shape[1] == 1:
        yield Problem(
            f"layer {layer.name!r} is a depthwise convolution: few weights a filter, each rescaled and quantised hard",
            "mark an ordinary convolution or a linear layer",
        )
    yield from _scales(model, target, selection)


def parametrised(layer: HostLayer) -> Problem:
    """The weights are computed: there is no parameter whose gradient the mark could be added to."""
    return Problem(
        f"the weights of layer {layer.name!r} are parametrised (weight norm, LoRA, ...), not a parameter of the layer",
        "mark a plain layer, or use loss() in the training loss, which differentiates through them",
    )


def frozen_layer(layer: HostLayer) -> Problem:
    """The weights do not train."""
    return Problem(
        f"layer {layer.name!r} is frozen (requires_grad is False), so no gradient can mark it",
        "unfreeze it or name a layer that trains in target_modules",
    )


def unsuitable_dtype(layer: HostLayer) -> Problem | None:
    """The weights are integers or floats of 8 bits, which no optimizer trains as they are; None where they are not."""
    if layer.weight.dtype in _TRAINABLE:
        return None
    return Problem(
        f"the weights of layer {layer.name!r} are stored as {str(layer.weight.dtype).removeprefix('torch.')}",
        "train the mark into the float model and quantise that",
    )


def not_trained(optimizer: Optimizer, layer: HostLayer) -> Problem | None:
    """The optimizer holds another parameter than the layer's, or none of it; None where it holds it."""
    weight = layer.weight
    if any(parameter is weight for group in optimizer.param_groups for parameter in group["params"]):
        return None
    return Problem(
        f"the optimizer does not train layer {layer.name!r}",
        "give it the layer's parameters, after the model is moved, sharded or wrapped",
    )


def _untrainable(model: nn.Module, layer: HostLayer) -> Iterator[Problem]:
    # By class name, because importing FSDP to ask takes a second.
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()):
        yield Problem(
            f"the weights of layer {layer.name!r} may be flattened by FullyShardedDataParallel, their shape lost",
            "shard with torch.distributed.fsdp.fully_shard",
        )
    elif not layer.stores_weight:
        yield parametrised(layer)
    elif (problem := unsuitable_dtype(layer)) is not None:
        yield problem
    elif not layer.weight.requires_grad:
        yield frozen_layer(layer)


def _too_many_bits(key: AnyKey, target: Target) -> Iterator[Problem]:
    size = vector_size(target.reading.kind, target.layer.shape)
    n_bits = _n_bits(key, target)
    generator = str(key.parameters["generator"]) if isinstance(key, Key) else ""
    needed = required_entries(generator, n_bits)
    if needed > size:
        yield Problem(
            f"{n_bits} bits need {needed:,} entries and carrier {target.reading.kind} of layer {target.layer.name!r} "
            f"has {size:,} (T/M = {n_bits / size:.2f}); not every message can be embedded",
            "take a key of fewer bits, a larger layer, or the full carrier",
        )


def _n_bits(key: AnyKey, target: Target) -> int:
    if isinstance(key, Key):
        return key.n_bits
    return projection_of(key, target.reading).n_bits


def _shared(model: nn.Module, layer: HostLayer) -> Iterator[Problem]:
    owners = parameter_names(model, layer.weight)
    names = owners if len(owners) > 1 else layer.names
    if len(names) > 1:
        yield Problem(
            f"the weights of layer {layer.name!r} are shared: {', '.join(map(repr, names))}",
            "mark a layer with weights of its own; exporters fold, transpose or duplicate shared ones",
        )


def _scales(model: nn.Module, target: Target, selection: Selection) -> Iterator[Problem]:
    layer = target.layer
    try:
        norm = target.norm or following_norm(model, layer, selection.norms)
    except TargetError:
        return  # a raw view needs no normalisation, and where it cannot be found nothing is known against it
    if norm is None:
        return
    scale = folding_scale(norm)
    n_negative, n_zero = int((scale < 0).sum()), int((scale == 0).sum())
    if n_negative and target.norm is None:
        yield Problem(
            f"the batch normalisation behind layer {layer.name!r} turns {n_negative} of {len(scale)} filters round "
            "(negative scale) when it is folded in",
            "take view='folded', which trains the mark as it will be exported",
        )
    if n_zero:
        yield Problem(
            f"the batch normalisation behind layer {layer.name!r} has scale 0 for {n_zero} of {len(scale)} filters, "
            "which hold nothing once it is folded in",
            "mark another layer, or validate again when the scales have trained",
        )
