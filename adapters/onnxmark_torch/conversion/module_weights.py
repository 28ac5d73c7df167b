"""The host weights of a PyTorch module in canonical order, by the paths under which its checkpoints have them."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from onnxmark.arrays import Float32Array
from onnxmark.conversion import SourceWeights
from onnxmark_torch.layers import HostLayer, host_layers
from onnxmark_torch.sharding import whole

CONVOLUTION: Final = "OIHW"
TRANSPOSED: Final = "IOHW"
DENSE: Final = "OI"


def weights_of(module: nn.Module) -> tuple[SourceWeights, ...]:
    """The weights of every convolution, transposed convolution and linear layer of a module.

    A parametrised weight (weight norm, LoRA) is taken as it is computed. A module that has several names comes once,
    under the first. Arrays may share the memory of the module's parameters.

    Args:
        module: The module.

    Returns:
        In the module's order: ``name`` is that of the parameter (``layer1.0.conv1.weight``), ``values`` have shape
        ``(out, in / group, *spatial)``.
    """
    return tuple(_weights(layer) for layer in host_layers(module) if is_floating(layer.weight))


def order_of(layer: HostLayer) -> str:
    """The axis order a layer keeps its weights in, of :data:`onnxmark.conversion.converter.ORDERS`."""
    if isinstance(layer.module, nn.Linear):
        return DENSE
    return TRANSPOSED if layer.is_transposed else CONVOLUTION


def is_floating(tensor: object) -> bool:
    """Whether it is a tensor whose values can be had as floats: of floating point, dense, and not without storage."""
    return (
        isinstance(tensor, Tensor)
        and tensor.is_floating_point()
        and tensor.layout is torch.strided
        and not tensor.is_meta
        and tensor.dtype not in _PACKED
    )


def array(tensor: Tensor) -> Float32Array:
    """A floating-point tensor as float32, on the CPU, in C order."""
    values: Float32Array = whole(tensor.detach()).to("cpu", torch.float32).contiguous().numpy()
    return values


def _weights(layer: HostLayer) -> SourceWeights:
    values = array(layer.canonical(layer.weight))
    return SourceWeights(layer.parameters[0], values, order_of(layer), layer.group)


# Two values a byte: torch has no conversion from it. Older versions have no such type.
_PACKED: Final = frozenset({dtype for dtype in [getattr(torch, "float4_e2m1fn_x2", None)] if dtype is not None})
