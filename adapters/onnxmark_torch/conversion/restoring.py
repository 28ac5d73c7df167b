"""Marked weights from an ONNX file back into the module they came from, so that PyTorch users can go on with them.

All or nothing: what is to go where is settled, and refused, before the first parameter changes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from onnxmark.conversion import RestoredWeights, restored_weights
from onnxmark.conversion.origins import ORIGINS
from onnxmark.errors import ConversionError
from onnxmark.model import open_model
from onnxmark_torch.conversion.module_weights import TRANSPOSED, is_floating
from onnxmark_torch.conversion.refusals import listed
from onnxmark_torch.conversion.resemblance import resembling_weights
from onnxmark_torch.layers import WRAPPERS, HostLayer, host_layers, outputs_first
from onnxmark_torch.sharding import is_sharded

_SAME_NETWORK: Final = "give the network that the file was made from"
_OR_PARTLY: Final = ", or pass strict=False"


def load_weights(module: nn.Module, path: str | os.PathLike[str], *, strict: bool = True) -> tuple[str, ...]:
    """Put the weights of a marked ONNX file into the module it was made from, in place.

    A file that ``onnxmark convert`` made says which weights it holds. In any other, each layer is recognised by its
    shape and by values close to the module's own, as a mark leaves them; batch normalisation that the exporter folded
    in is divided out again with the module's own statistics. Only weights of convolutions and linear layers are
    touched; dtype and device stay, and a parameter that several modules share changes for all of them.

    Args:
        module: The network, with the weights it had when it was exported or, for a file with a record, any.
        path: The ONNX file.
        strict: Every convolution and linear layer must be in the file, and the other way round; False puts in what
            both have.

    Returns:
        Names of the parameters that were set.

    Raises:
        ConversionError: The file does not fit the module, or not beyond doubt; the module is as it was.
        ModelError: The file cannot be read.
    """
    file = Path(os.fspath(path))
    with open_model(file) as model:
        is_recorded = ORIGINS in model.metadata
    restored = restored_weights(file) if is_recorded else resembling_weights(module, file)
    changes = _changes(module, restored, file, strict=strict)
    with torch.no_grad():
        for change in changes:
            change.parameter.copy_(change.values)
    return tuple(change.name for change in changes)


@dataclass(frozen=True, slots=True, eq=False)
class _Change:
    """A parameter and what it is to be.

    Args:
        name: Its path in the module.
        parameter: It.
        values: Of its shape, dtype and device.
    """

    name: str
    parameter: Tensor
    values: Tensor


def _changes(
    module: nn.Module, restored: Sequence[RestoredWeights], file: Path, *, strict: bool
) -> tuple[_Change, ...]:
    if strict:
        _check_complete(module, restored, file)
    parameters = {_plain(name): name for name, _ in module.named_parameters(remove_duplicate=False)}
    known = [(parameters[_plain(weights.name)], weights) for weights in restored if _plain(weights.name) in parameters]
    if not known:
        raise ConversionError(f"{str(file)!r} holds none of the module's weights; {_SAME_NETWORK}")
    return tuple(_distinct([_change(module, name, weights, file) for name, weights in known], file))


def _plain(name: str) -> str:
    """A parameter's path without the elements that wrappers add."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _check_complete(module: nn.Module, restored: Sequence[RestoredWeights], file: Path) -> None:
    """Every layer in the file, and every weight of the file in the module."""
    layers = host_layers(module)
    held = {_plain(weights.name) for weights in restored}
    missing = [layer.name for layer in layers if not held & set(map(_plain, layer.parameters))]
    if missing:
        raise ConversionError(f"{str(file)!r} lacks weights of layer {listed(missing)}; {_SAME_NETWORK}{_OR_PARTLY}")
    own = {_plain(name) for name, _ in module.named_parameters(remove_duplicate=False)}
    own |= {_plain(name) for layer in layers for name in layer.parameters}
    unknown = [weights.name for weights in restored if _plain(weights.name) not in own]
    if unknown:
        words = f"holds {listed(unknown)}, which the module does not have"
        raise ConversionError(f"{str(file)!r} {words}; {_SAME_NETWORK}{_OR_PARTLY}")
    computed = [layer.name for layer in layers if not layer.stores_weight]
    if computed:
        raise ConversionError(
            f"the weights of {listed(computed)} are computed from other parameters (weight norm, LoRA); make them "
            "parameters first: torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"
        )


def _change(module: nn.Module, name: str, weights: RestoredWeights, file: Path) -> _Change:
    parameter = module.get_parameter(name)
    if is_sharded(parameter) or not is_floating(parameter):
        kind = "spread over several processes" if is_sharded(parameter) else f"{parameter.dtype} on {parameter.device}"
        raise ConversionError(f"parameter {name!r} is {kind}; load weights into the float module, before it is sharded")
    layer = HostLayer((name,), module.get_submodule(name.rpartition(".")[0]))
    is_transposed = weights.order == TRANSPOSED
    if is_transposed and not layer.is_transposed:
        kind = type(layer.module).__name__
        raise ConversionError(f"parameter {name!r} belongs to {kind}, no transposed convolution; {_SAME_NETWORK}")
    # A bare checkpoint does not tell a transposed convolution from another; its axes are then as they are stored.
    own = outputs_first(parameter.detach(), layer.group) if is_transposed else parameter.detach()
    if tuple(own.shape) != weights.values.shape:
        raise ConversionError(
            f"parameter {name!r} is {tuple(own.shape)}, and {weights.values.shape} in {str(file)!r}; {_SAME_NETWORK}"
        )
    if not np.isfinite(weights.values).all():
        raise ConversionError(f"{str(file)!r}: the weights {weights.name!r} are not finite; mark the original anew")
    values = torch.from_numpy(weights.values.copy()).to(parameter.device, parameter.dtype)
    lost = list(weights.lost)
    values[lost] = own[lost]
    return _Change(name, parameter, outputs_first(values, layer.group) if is_transposed else values)


def _distinct(changes: Sequence[_Change], file: Path) -> Iterator[_Change]:
    """Each parameter once; names that share one must agree on what it is to be."""
    seen: dict[int, _Change] = {}
    for change in changes:
        first = seen.setdefault(id(change.parameter), change)
        if first is change:
            yield change
        elif not torch.allclose(first.values.float(), change.values.float(), rtol=1e-4, atol=1e-6):
            raise ConversionError(
                f"{first.name!r} and {change.name!r} are one parameter in the module and differ in {str(file)!r}; mark "
                "both alike, or untie them"
            )
