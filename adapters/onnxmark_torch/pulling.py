"""The one moment that counts: a mark's gradient joins the task's, once, before the optimizer steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from onnxmark_torch.carrier_tensors import CarrierTensors
from onnxmark_torch.layers import HostLayer
from onnxmark_torch.problems import TargetError
from onnxmark_torch.sharding import beside, whole
from onnxmark_torch.targets import Target
from onnxmark_torch.validation import frozen_layer, not_trained, parametrised, unsuitable_dtype


@torch.no_grad()
def add_gradient_(target: Target, tensors: CarrierTensors, strength: float, cap: float | None) -> None:
    """Add the strength times the gradient of the embedding loss to ``.grad`` of a layer's weight.

    Args:
        target: The layer.
        tensors: The key over it, on its device.
        strength: Lambda.
        cap: What the norm of the addition may be at most, as a multiple of that of the gradient already there (a
            gradient of None counts as 0); None for no limit.

    Raises:
        TargetError: The layer is frozen or parametrised, or its weights are no ordinary floats.
    """
    weight = trainable(target.layer)
    with torch.autocast(weight.device.type, enabled=False):
        _, gradient = tensors.loss_and_gradient(target.values())
    pull = strength * target.gradient_by_weight(gradient)
    if cap is not None:
        pull *= _at_most(pull, weight.grad, cap)
    pull = beside(weight, pull)
    if weight.grad is None:
        # Like the weight in type and strides, which fused optimizers count on.
        weight.grad = torch.empty_like(weight).copy_(pull)
    else:
        # In place: DistributedDataParallel's gradients are views of its buckets and must stay so.
        weight.grad.add_(pull)


@torch.no_grad()
def min_margin(target: Target, tensors: CarrierTensors) -> float:
    """Smallest margin of a layer as the mark sees it; see :meth:`CarrierTensors.min_margin`."""
    with torch.autocast(target.layer.weight.device.type, enabled=False):
        return tensors.min_margin(target.values())


def trainable(layer: HostLayer) -> Tensor:
    """The weight of a layer, if a gradient can be added to it.

    Raises:
        TargetError: The layer is frozen or parametrised, or its weights are no ordinary floats.
    """
    if not layer.stores_weight:
        raise TargetError(parametrised(layer))
    problem = unsuitable_dtype(layer)
    if problem is not None:
        raise TargetError(problem)
    if not layer.weight.requires_grad:
        raise TargetError(frozen_layer(layer))
    return layer.weight


def check_moment(optimizer: Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuse the two moments at which a gradient added before ``optimizer.step(...)`` is wrong.

    Raises:
        ValueError: The step computes its gradients itself, or they are still scaled.
    """
    if any(callable(argument) for argument in (*args[1:], *kwargs.values())):
        raise ValueError(
            "optimizer.step(closure) computes its gradients after this hook; "
            "remove the handle and call add_grad_(model) at the end of the closure"
        )
    if getattr(optimizer, "grad_scale", None) is not None:
        raise ValueError(
            "the gradients are still scaled (a fused optimizer under GradScaler); "
            "call scaler.unscale_(optimizer) before scaler.step(optimizer)"
        )


def check_trained(optimizer: Optimizer, targets: tuple[Target, ...]) -> None:
    """Refuse an optimizer that holds other parameters than the layers', as after sharding or replacing them.

    Raises:
        TargetError: Names the first layer that it does not train.
    """
    for target in targets:
        problem = not_trained(optimizer, target.layer)
        if problem is not None:
            raise TargetError(problem)


def _at_most(pull: Tensor, task: Tensor | None, cap: float) -> Tensor:
    size = torch.linalg.vector_norm(pull)
    limit = torch.zeros_like(size) if task is None else cap * whole(torch.linalg.vector_norm(task.float()))
    # Kept on the device: comparing here would wait for it in every step.
    share: Tensor = (limit / size.clamp(min=torch.finfo(size.dtype).tiny)).clamp(max=1)
    return share
