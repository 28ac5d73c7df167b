"""Uchida's regulariser with our keys, as one gradient a step.

Uchida, Nagai, Sakazawa, Satoh: Embedding Watermarks into Deep Neural Networks (ICMR 2017, arXiv 1701.04082). What goes
wrong in practice is never the formula but the moment: with gradient accumulation, loss scaling, clipping, closures and
several devices, a regulariser in the loss is counted too often, scaled, clipped or lost. So the core is
:meth:`Watermark.add_grad_`, once an optimizer step, on every rank, in float32, after unscaling and clipping; everything
else only chooses the moment.
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
from onnxmark_torch.carrier_tensors import CarrierTensors, KeyTensors
from onnxmark_torch.exporting import export
from onnxmark_torch.layers import plain_name
from onnxmark_torch.problems import Problem
from onnxmark_torch.pulling import add_gradient_, check_moment, check_trained, min_margin, trainable
from onnxmark_torch.report import Report, read_target
from onnxmark_torch.schedules import MarginStop, Schedule, strength_at
from onnxmark_torch.targets import Selection, Target, ViewName
from onnxmark_torch.validation import find_problems

if TYPE_CHECKING:
    from onnxmark.audit import Audit


class Watermark:
    """A mark to be trained into a model. For several keys take several marks; their gradients add up.

    Args:
        key: The key; a foreign matrix goes into the mean over output filters.
        target_modules: Names of the layers to mark, as in ``named_modules()`` (wrappers' ``module.`` and ``_orig_mod.``
            do not matter). None takes the layer the key remembers, else the only layer that fits.
        strength: Lambda, the weight of the embedding loss; 0.01 in the paper. At least 0, or a function of the step.
        view: ``raw`` marks the weights as they are; ``folded`` marks them as an exporter will store them, with the
            batch normalisation behind the layer folded in. Its scales are constants: the gradient goes to the weight
            alone, never to the normalisation.
        norms: For ``folded`` in a model that :mod:`torch.fx` cannot trace: by name of the layer, the name of its
            normalisation.
        cap: The mark's gradient is at most this multiple of the gradient that the layer has when it is added, both as
            Euclidean norms; None for no limit. Above 0.
        stop: When to leave a layer alone; None pulls to the end.
    """

    def __init__(
        self,
        key: AnyKey,
        target_modules: str | Sequence[str] | None = None,
        strength: float | Schedule = 0.01,
        *,
        view: ViewName = "raw",
        norms: Mapping[str, str] | None = None,
        cap: float | None = None,
        stop: MarginStop | None = None,
    ) -> None:
        strength_at(strength, 0)
        if target_modules is not None and not target_modules:
            raise ValueError("target_modules names no layer; leave it out to let the key choose")
        if view not in ("raw", "folded"):
            raise ValueError(f"view must be 'raw' or 'folded', not {view!r}")
        if cap is not None and not cap > 0:
            raise ValueError(f"cap must be above 0, not {cap}")
        self.key = key
        self.strength = strength
        self.cap = cap
        self.stop = stop
        self.target_modules = (target_modules,) if isinstance(target_modules, str) else _as_tuple(target_modules)
        self.step = 0
        """Optimizer steps so far; :meth:`add_grad_` counts them, a loop that uses :meth:`loss` may set them itself."""
        self._selection = Selection(self.target_modules, view, norms)
        self._stopped: set[str] = set()
        self._targets: WeakKeyDictionary[nn.Module, tuple[Target, ...]] = WeakKeyDictionary()
        self._tensors = KeyTensors(key)

    def __repr__(self) -> str:
        return f"Watermark(target_modules={self.target_modules}, strength={self.strength})"

    def loss(self, model: nn.Module) -> Tensor:
        """The embedding loss times the strength, a float32 scalar to add to the task's loss *once* an optimizer step.

        With gradient accumulation over K micro-batches add ``loss(model) / K`` to each, or use :meth:`add_grad_`, which
        alone knows ``cap`` and ``stop`` and comes after clipping. Differentiable once.

        Raises:
            TargetError: No layer, or no single layer, fits the key.
        """
        strength = strength_at(self.strength, self.step)
        losses = [strength * self._loss_of(target) for target in self._resolve(model)]
        return sum((loss.to(losses[0].device) for loss in losses[1:]), losses[0])

    def add_grad_(self, model: nn.Module) -> None:
        """Add the mark's gradient to ``.grad`` of the target layers: once an optimizer step, on every rank.

        Call it after the last ``backward()``; with a GradScaler, after ``scaler.unscale_(optimizer)``; with clipping,
        after that, because a clipped mark comes and goes with the task's gradient, and a mark that counts in the norm
        shrinks every other layer's. Ranks need not average: each adds the same to gradients that are averaged already.
        Sharded weights (FSDP2) are gathered, so that every rank has to call.

        Raises:
            TargetError: No layer, or no single layer, fits the key; or the layer is frozen or parametrised.
        """
        targets = self._resolve(model)
        if self.stop is not None and self.step % self.stop.every == 0:
            self._review(targets, self.stop)
        strength = strength_at(self.strength, self.step)
        for target in targets:
            trainable(target.layer)
            if strength > 0 and plain_name(target.layer.name) not in self._stopped:
                add_gradient_(target, self._on(target), strength, self.cap)
        self.step += 1

    def attach(self, optimizer: Optimizer, model: nn.Module) -> RemovableHandle:
        """Add the mark's gradient before every ``optimizer.step()``; ``.remove()`` on the handle ends that.

        The hook runs before a closure does, and before a fused optimizer takes a GradScaler's scale out of the
        gradients. Both would erase or distort the mark, so both are refused: call :meth:`add_grad_` by hand there, at
        the end of the closure or after ``scaler.unscale_(optimizer)``.

        Raises:
            TargetError: As for :meth:`add_grad_`; or the optimizer does not train the layer (also at a later step, if
                the layer's parameter was replaced since).
        """

        def check() -> None:
            targets = self._resolve(model)
            for target in targets:
                trainable(target.layer)
            check_trained(optimizer, targets)

        def before_step(stepping: Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            check_moment(stepping, args, kwargs)
            check()
            self.add_grad_(model)

        check()
        return optimizer.register_step_pre_hook(before_step)

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs beside the model: the step and the layers left alone, nothing of the key."""
        return {"step": self.step, "stopped": sorted(self._stopped)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`.

        Raises:
            ValueError: It is not one.
        """
        step, stopped = state.get("step"), state.get("stopped")
        if not isinstance(step, int) or step < 0 or not isinstance(stopped, list):
            raise ValueError(f"a watermark's state has a step and a list of stopped layers, not {sorted(state)}")
        self.step, self._stopped = step, set(stopped)

    def validate(self, model: nn.Module, optimizer: Optimizer | None = None) -> list[Problem]:
        """What would spoil the mark in this model, each with its cure; empty where nothing would.

        With an optimizer, also whether it trains the layers.
        """
        return find_problems(model, self.key, self._selection, optimizer)

    def report(self, model: nn.Module) -> Report:
        """How the mark stands: what an audit would read from the weights as they are now, in the mark's view.

        In the view ``raw``, batch normalisation folded in on export rescales each filter; margins in the file differ
        from these, by little in general. Sharded weights are gathered, so that every rank has to call.

        Raises:
            TargetError: No layer, or no single layer, fits the key.
        """
        fair = isinstance(self.key, Key)
        readings = (read_target(t, self._tensors.projection(t.reading), fair=fair) for t in self._resolve(model))
        return Report(tuple(readings))

    def export(
        self, model: nn.Module, example_inputs: tuple[Any, ...], path: str | os.PathLike[str], **options: Any
    ) -> Audit | None:
        """Export the model and audit the file for this mark; see :func:`onnxmark_torch.exporting.export`."""
        return export(model, example_inputs, path, audit_with=[self.key], **options)

    def _loss_of(self, target: Target) -> Tensor:
        with torch.autocast(target.layer.weight.device.type, enabled=False):
            return self._on(target).loss(target.values())

    def _review(self, targets: Sequence[Target], stop: MarginStop) -> None:
        margins = {plain_name(target.layer.name): min_margin(target, self._on(target)) for target in targets}
        self._stopped = {n for n, margin in margins.items() if stop.is_enough(margin, stopped=n in self._stopped)}

    def _resolve(self, model: nn.Module) -> tuple[Target, ...]:
        targets = self._targets.get(model)
        # Finding layers walks the whole model, too slow for every step; a module replaced since is noticed here.
        if targets is None or not all(_is_current(model, t) for t in targets):
            targets = self._selection.targets(model, self.key)
            self._targets[model] = targets
        return targets

    def _on(self, target: Target) -> CarrierTensors:
        return self._tensors.on(target.layer.weight.device, target.reading)


def _as_tuple(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def _is_current(model: nn.Module, target: Target) -> bool:
    try:
        layer = model.get_submodule(target.layer.name)
    except AttributeError:
        return False
    norm = target.norm
    return layer is target.layer.module and (norm is None or any(module is norm for module in model.modules()))
