"""Uchida's regulariser with our keys, as one gradient a step.

Uchida, Nagai, Sakazawa, Satoh: Embedding Watermarks into Deep Neural Networks (ICMR 2017, arXiv 1701.04082). What goes
wrong in practice is never the formula but the moment: with gradient accumulation, loss scaling, closures and several
devices, a regulariser in the loss is counted too often, scaled, or lost. So the core is :meth:`Watermark.add_grad_`,
once an optimizer step, on every rank, in float32, after unscaling; everything else only chooses the moment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from onnxmark.keys import AnyKey, Key
from onnxmark.schemes.projection import Projection, Reading, projection_of
from onnxmark_torch.carrier_tensors import CarrierTensors
from onnxmark_torch.exporting import export
from onnxmark_torch.layers import HostLayer
from onnxmark_torch.problems import Problem, TargetError
from onnxmark_torch.report import Report, read_layer
from onnxmark_torch.targets import Target, find_targets
from onnxmark_torch.validation import find_problems, frozen_layer, parametrised

if TYPE_CHECKING:
    from onnxmark.audit import Audit


class Watermark:
    """A mark to be trained into a model.

    Args:
        key: The key; a foreign matrix goes into the mean over output filters.
        target_modules: Names of the layers to mark, as in ``named_modules()`` (wrappers' ``module.`` and ``_orig_mod.``
            do not matter). None takes the layer the key remembers, else the only layer that fits.
        strength: Lambda, the weight of the embedding loss; 0.01 in the paper. At least 0.
    """

    def __init__(self, key: AnyKey, target_modules: str | Sequence[str] | None = None, strength: float = 0.01) -> None:
        if not strength >= 0:
            raise ValueError(f"strength must be at least 0, not {strength}")
        if target_modules is not None and not target_modules:
            raise ValueError("target_modules names no layer; leave it out to let the key choose")
        self.key = key
        self.strength = strength
        self.target_modules = (target_modules,) if isinstance(target_modules, str) else _as_tuple(target_modules)
        self._targets: WeakKeyDictionary[nn.Module, tuple[Target, ...]] = WeakKeyDictionary()
        self._projections: dict[Reading, Projection] = {}
        self._tensors: dict[tuple[Reading, torch.device], CarrierTensors] = {}

    def __repr__(self) -> str:
        return f"Watermark(target_modules={self.target_modules}, strength={self.strength})"

    def loss(self, model: nn.Module) -> Tensor:
        """The embedding loss times the strength, a float32 scalar to add to the task's loss *once* an optimizer step.

        With gradient accumulation over K micro-batches add ``loss(model) / K`` to each, or use :meth:`add_grad_`.

        Raises:
            TargetError: No layer, or no single layer, fits the key.
        """
        losses = [self._loss_of(target, target.layer.weight) for target in self._resolve(model)]
        return sum((loss.to(losses[0].device) for loss in losses[1:]), losses[0])

    def add_grad_(self, model: nn.Module) -> None:
        """Add the mark's gradient to ``.grad`` of the target layers: once an optimizer step, on every rank.

        Call it after the last ``backward()`` and, with a GradScaler, after ``scaler.unscale_(optimizer)``. No
        communication is needed: every rank adds the same gradient to gradients that are averaged already.

        Raises:
            TargetError: No layer, or no single layer, fits the key; or the layer is frozen or parametrised.
        """
        for target in self._resolve(model):
            weight = _trainable(target.layer)
            leaf = weight.detach().requires_grad_()
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(self._loss_of(target, leaf), leaf)
            if weight.grad is None:
                weight.grad = gradient
                continue
            with torch.no_grad():
                # In place: DistributedDataParallel's gradients are views of its buckets and must stay so.
                weight.grad.add_(gradient)

    def attach(self, optimizer: Optimizer, model: nn.Module) -> RemovableHandle:
        """Add the mark's gradient before every ``optimizer.step()``; ``.remove()`` on the handle ends that.

        The hook runs before a closure does, and before a fused optimizer takes a GradScaler's scale out of the
        gradients. Both would erase or distort the mark, so both are refused: call :meth:`add_grad_` by hand there, at
        the end of the closure or after ``scaler.unscale_(optimizer)``.

        Raises:
            TargetError: As for :meth:`add_grad_`; or the optimizer does not train the layer.
        """
        trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for target in self._resolve(model):
            if id(_trainable(target.layer)) not in trained:
                what = f"the optimizer does not train layer {target.layer.name!r}"
                raise TargetError(Problem(what, "give it the layer's parameters, or the model they belong to"))

        def before_step(stepping: Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            _check_moment(stepping, args, kwargs)
            self.add_grad_(model)

        return optimizer.register_step_pre_hook(before_step)

    def validate(self, model: nn.Module) -> list[Problem]:
        """What would spoil the mark in this model, each with its cure; empty where nothing would."""
        return find_problems(model, self.key, self.target_modules)

    def report(self, model: nn.Module) -> Report:
        """How the mark stands: what an audit would read from the weights as they are now.

        Batch normalisation is folded into the weights on export, which rescales each filter; margins in the file
        differ from these, by little in general.

        Raises:
            TargetError: No layer, or no single layer, fits the key.
        """
        fair = isinstance(self.key, Key)
        readings = (read_layer(t.layer, self._projection(t.reading), fair=fair) for t in self._resolve(model))
        return Report(tuple(readings))

    def export(
        self, model: nn.Module, example_inputs: tuple[Any, ...], path: str | os.PathLike[str], **options: Any
    ) -> Audit | None:
        """Export the model and audit the file for this mark; see :func:`onnxmark_torch.exporting.export`."""
        return export(model, example_inputs, path, audit_with=[self.key], **options)

    def _loss_of(self, target: Target, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            values = target.layer.canonical(weight).float()
            return self.strength * self._on(target.reading, weight.device).loss(values)

    def _resolve(self, model: nn.Module) -> tuple[Target, ...]:
        targets = self._targets.get(model)
        # Finding layers walks the whole model, too slow for every step; a module replaced since is noticed here.
        if targets is None or not all(_is_current(model, t.layer) for t in targets):
            targets = find_targets(model, self.key, self.target_modules)
            self._targets[model] = targets
        return targets

    def _projection(self, reading: Reading) -> Projection:
        if reading not in self._projections:
            self._projections[reading] = projection_of(self.key, reading)
        return self._projections[reading]

    def _on(self, reading: Reading, device: torch.device) -> CarrierTensors:
        if (reading, device) not in self._tensors:
            self._tensors[reading, device] = CarrierTensors.on(device, self._projection(reading))
        return self._tensors[reading, device]


def _as_tuple(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def _is_current(model: nn.Module, layer: HostLayer) -> bool:
    try:
        return model.get_submodule(layer.name) is layer.module
    except AttributeError:
        return False


def _trainable(layer: HostLayer) -> Tensor:
    if not layer.stores_weight:
        raise TargetError(parametrised(layer))
    if not layer.weight.requires_grad:
        raise TargetError(frozen_layer(layer))
    return layer.weight


def _check_moment(optimizer: Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuse the two moments at which a gradient added before the step is wrong."""
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
