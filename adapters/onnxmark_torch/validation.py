"""What would spoil a mark, found before hours of training: every check answers with a cure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from onnxmark.errors import KeyFileError
from onnxmark.keys import AnyKey, Key
from onnxmark.schemes.carriers import vector_size
from onnxmark.schemes.projection import projection_of, required_entries
from onnxmark_torch.layers import HostLayer, parameter_names
from onnxmark_torch.problems import Problem, TargetError
from onnxmark_torch.targets import Target, find_targets


def find_problems(model: nn.Module, key: AnyKey, names: Sequence[str] | None) -> list[Problem]:
    """Everything that stands in the way of training this key into this model; empty where nothing does."""
    try:
        targets = find_targets(model, key, names)
    except TargetError as error:
        return [error.problem]
    except KeyFileError as error:
        return [Problem(str(error), "make another key with 'onnxmark keygen'")]
    return [problem for target in targets for problem in _problems(model, key, target)]


def _problems(model: nn.Module, key: AnyKey, target: Target) -> Iterator[Problem]:
    layer = target.layer
    yield from _too_many_bits(key, target)
    if not layer.stores_weight:
        yield parametrised(layer)
    elif not layer.weight.requires_grad:
        yield frozen_layer(layer)
    yield from _shared(model, layer)
    if layer.group > 1 and layer.shape[1] == 1:
        yield Problem(
            f"layer {layer.name!r} is a depthwise convolution: few weights a filter, each rescaled and quantised hard",
            "mark an ordinary convolution or a linear layer",
        )


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
