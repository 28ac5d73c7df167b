"""What a thief makes of a network before he trains: a copy that trains throughout, an untrained twin, another head."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import torch
from torch import nn

from onnxmark.errors import AttackError
from onnxmark_torch.layers import host_layers, unwrapped

_DOMAIN: Final = 0x74686966


def copied(model: nn.Module) -> nn.Module:
    """A copy without gradients in which every parameter trains, whatever the owner froze."""
    # Copies of parameters come without gradients.
    return copy.deepcopy(unwrapped(model)).requires_grad_()


def untrained(model: nn.Module, seed: int) -> nn.Module:
    """A network of the same architecture with weights that torch's own ``reset_parameters`` drew.

    Raises:
        AttackError: A module has parameters and cannot draw them anew, so that something learned would stay.
    """
    twin = copied(model)
    with seeded(seed):
        for name, module in twin.named_modules():
            if _resets(module):
                module.reset_parameters()
            elif next(module.parameters(recurse=False), None) is not None:
                raise AttackError(
                    f"module {name or type(module).__name__!r} has parameters and no reset_parameters(); "
                    "give TrainingMeans a student that builds an untrained network"
                )
    return twin


def head_name(model: nn.Module, n_classes: int) -> str:
    """Name of the linear layer that gives the logits: the last one registered with an output for each class.

    Raises:
        AttackError: There is none.
    """
    layers = [layer for layer in host_layers(model) if isinstance(layer.module, nn.Linear)]
    fitting = [layer.name for layer in layers if layer.shape[0] == n_classes]
    if not fitting:
        raise AttackError(f"the model has no linear layer with {n_classes} outputs, so its head is not known")
    return fitting[-1]


def new_head(head: nn.Module, n_classes: int, seed: int) -> nn.Linear:
    """An untrained linear layer in the place of ``head`` (a linear layer), for other classes."""
    if not isinstance(head, nn.Linear):
        raise ValueError(f"a head is a linear layer, not {type(head).__name__}")
    weight = head.weight
    with seeded(seed):
        fresh = nn.Linear(head.in_features, n_classes, bias=head.bias is not None)
    return fresh.to(weight.device, weight.dtype)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global generators seeded inside, the caller's restored afterwards.

    Not with the seed itself: a thief who used the owner's would draw the very weights that the owner started from, and
    a student that starts there is no fresh one.
    """
    state = np.random.SeedSequence([_DOMAIN, seed]).generate_state(1, np.uint64)
    with torch.random.fork_rng():
        torch.manual_seed(int(state[0]) >> 1)
        yield


def _resets(module: nn.Module) -> bool:
    return callable(getattr(module, "reset_parameters", None))
