"""The layers of a PyTorch model that can host a mark, seen in onnxmark's canonical order.

The audit reads ``(out, in / group, *spatial)`` whatever the framework stores; a mark trained in any other order would
be gone in the exported file. The rearrangement here is differentiable, so that a gradient finds its own way back.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_TRANSPOSED: Final = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
HOSTS: Final = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)
"""Modules whose weights a mark can go into."""

WRAPPERS: Final = frozenset({"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Path elements that torch.compile, DataParallel, FSDP and activation checkpointing add to a module's name."""


@dataclass(frozen=True, slots=True, eq=False)
class HostLayer:
    """A layer that can host a mark.

    Args:
        names: Every name the module has in the model; the first is how it is called in messages.
        module: The module.
    """

    names: tuple[str, ...]
    module: nn.Module

    @property
    def name(self) -> str:
        """The module's first name in the model."""
        return self.names[0]

    @property
    def parameters(self) -> tuple[str, ...]:
        """Every name its weights have in the model's ``state_dict``."""
        return tuple(f"{name}.weight" if name else "weight" for name in self.names)

    @property
    def weight(self) -> Tensor:
        """Its weights as the module stores them (or computes them, where they are parametrised)."""
        return self.module.weight  # type: ignore[return-value]

    @property
    def stores_weight(self) -> bool:
        """Whether the weights are a parameter of the module, not computed from others (weight norm, LoRA, ...)."""
        return any(name == "weight" for name, _ in self.module.named_parameters(recurse=False))

    @property
    def group(self) -> int:
        """Convolution groups; 1 for fully connected layers."""
        return int(getattr(self.module, "groups", 1))

    @property
    def is_transposed(self) -> bool:
        """Whether it is a transposed convolution."""
        return isinstance(self.module, _TRANSPOSED)

    @property
    def op(self) -> str:
        """ONNX operator the layer becomes."""
        if isinstance(self.module, nn.Linear):
            return "Gemm"
        return "ConvTranspose" if self.is_transposed else "Conv"

    @property
    def shape(self) -> tuple[int, ...]:
        """Canonical shape, (out, in / group, *spatial)."""
        stored = tuple(self.weight.shape)
        if not self.is_transposed:
            return stored
        return (stored[1] * self.group, stored[0] // self.group, *stored[2:])

    def canonical(self, weight: Tensor) -> Tensor:
        """Weights (or a gradient) from the module's order to canonical order; differentiable.

        Args:
            weight: As the module stores it: (out, in / group, *spatial), or (in, out / group, *spatial) for a
                transposed convolution.
        """
        return outputs_first(weight, self.group) if self.is_transposed else weight

    def stored(self, values: Tensor) -> Tensor:
        """The inverse of :meth:`canonical`: canonical weights (or a gradient) in the module's own order."""
        # The change of order is its own inverse.
        return outputs_first(values, self.group) if self.is_transposed else values


def outputs_first(weight: Tensor, group: int) -> Tensor:
    """A transposed convolution's weights (in, out / group, *spatial) as (out, in / group, *spatial), and back."""
    inputs, outputs, *spatial = weight.shape
    blocks = weight.reshape(group, inputs // group, outputs, *spatial)
    return blocks.transpose(1, 2).reshape(group * outputs, inputs // group, *spatial)


def host_layers(model: nn.Module) -> tuple[HostLayer, ...]:
    """Every layer that can host a mark, in the model's order; lazy layers only once they have met a batch."""
    names: dict[nn.Module, list[str]] = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, HOSTS) and not is_uninitialised(module):
            names[module].append(name)
    return tuple(HostLayer(tuple(found), module) for module, found in names.items())


def is_uninitialised(module: nn.Module) -> bool:
    """Whether a lazy module has not met a batch yet and has no weights."""
    return any(is_lazy(parameter) for parameter in module.parameters(recurse=False))


def plain_name(name: str) -> str:
    """A module's name without the path elements that wrappers add, and without a trailing ``.weight``."""
    return ".".join(part for part in name.removesuffix(".weight").split(".") if part not in WRAPPERS)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside torch.compile's and DistributedDataParallel's wrappers."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def parameter_names(model: nn.Module, weight: torch.Tensor) -> tuple[str, ...]:
    """Every name under which the model holds this very parameter."""
    return tuple(name for name, other in model.named_parameters(remove_duplicate=False) if other is weight)
