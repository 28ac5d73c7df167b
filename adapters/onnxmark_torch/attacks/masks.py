"""Weights that were pruned stay pruned while the rest trains on: a mask after every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onnxmark_torch.training import Hooks


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """Which weights are alive.

    Momentum and weight decay move masked weights only until the mask is applied, and no other weight's step depends on
    them, so masking after the step is the same as never moving them.

    Args:
        alive: By parameter name, a tensor of the parameter's shape: True where it trains, False where it stays 0.
    """

    alive: Mapping[str, Tensor]

    def hold(self, model: nn.Module) -> None:
        """Put the masked weights back to 0."""
        with torch.no_grad():
            for name, mask in self.alive.items():
                model.get_parameter(name).mul_(mask)

    @property
    def hooks(self) -> Hooks:
        """What a training needs to keep to the masks."""
        return Hooks(after_step=self.hold)
