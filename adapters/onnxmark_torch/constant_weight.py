"""Kuribayashi's constant weight code held in a model while it trains: the weights are put back after every step.

Kuribayashi, Yasui, Malik: White Box Watermarking for Convolution Layers in Fine-Tuning Model Using the Constant Weight
Code (J. Imaging 2023, 9(6):117). No term joins the loss: a step moves the weights wherever the task wants them, and the
nearest weights that hold the word take their place. Our reconstruction: thresholds follow the weights as these grow or
shrink, so that the pruning rate the key was made for holds for the model as it is at the end.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from onnxmark.keys import Key
from onnxmark.schemes.constant_weight.embedding import embedded
from onnxmark.schemes.constant_weight.extraction import read_word
from onnxmark.schemes.constant_weight.parameters import parameters_of
from onnxmark.schemes.constant_weight.selection import selection_of
from onnxmark.schemes.constant_weight.thresholds import DEFAULT_MARGIN
from onnxmark.schemes.evidence import Evidence
from onnxmark.weights import Origin, WeightTensor
from onnxmark_torch.exporting import export
from onnxmark_torch.layers import HostLayer, host_layers, plain_name
from onnxmark_torch.normalisation import folding_scale, following_norm
from onnxmark_torch.problems import Problem, TargetError
from onnxmark_torch.pulling import trainable
from onnxmark_torch.sharding import beside, whole
from onnxmark_torch.targets import ViewName
from onnxmark_torch.training import Hooks

if TYPE_CHECKING:
    from onnxmark.audit import Audit


class ConstantWeightMark:
    """A word to be kept in a model through its training.

    Args:
        key: A key of the scheme ``constant-weight``.
        target_modules: Names of the layers that hold the word, in the order of the key's carriers, as in
            ``named_modules()`` (wrappers' ``module.`` and ``_orig_mod.`` do not matter). None takes those that the key
            remembers.
        margin: Distance of either threshold from the boundary midway between them, in units of that boundary, 0 to 1.
        every: Optimizer steps from one application to the next, at least 1.
        view: ``raw`` marks the weights as they are; ``folded`` marks them as an exporter will store them, with the
            batch normalisation behind the layer folded in.
        norms: For ``folded`` in a model that :mod:`torch.fx` cannot trace: by name of the layer, the name of its
            normalisation.
    """

    def __init__(
        self,
        key: Key,
        target_modules: str | Sequence[str] | None = None,
        *,
        margin: float = DEFAULT_MARGIN,
        every: int = 1,
        view: ViewName = "raw",
        norms: Mapping[str, str] | None = None,
    ) -> None:
        if not (0 < margin < 1 and every >= 1):
            raise ValueError(f"margin must be in (0, 1) and every at least 1, not {margin} and {every}")
        if view not in ("raw", "folded"):
            raise ValueError(f"view must be 'raw' or 'folded', not {view!r}")
        names = [carrier.name for carrier in key.carriers] if target_modules is None else target_modules
        self.key = key
        self.margin = margin
        self.every = every
        self.target_modules = (names,) if isinstance(names, str) else tuple(names)
        self.step = 0
        """Optimizer steps so far, counted by :meth:`after_step_`."""
        self._view = view
        self._norms = norms
        self._parameters = parameters_of(key)
        self._places: WeakKeyDictionary[nn.Module, tuple[_Place, ...]] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"ConstantWeightMark(target_modules={self.target_modules}, margin={self.margin:.3g})"

    @torch.no_grad()
    def apply_(self, model: nn.Module) -> None:
        """Move the weights to the nearest that hold the word. On every rank; sharded weights are gathered.

        Takes a few milliseconds for a layer of some hundred thousand weights, and on an accelerator waits for it.

        Raises:
            EmbeddingError: The weights are not finite, or pruning at the key's rate leaves none of them.
            TargetError: A layer is not there, does not fit the key, is frozen or parametrised.
        """
        places = self._resolve(model)
        before = tuple(place.weights() for place in places)
        after = embedded(self.key, before, self.margin)
        for place, old, new in zip(places, before, after, strict=True):
            place.add_(new.values - old.values)

    def after_step_(self, model: nn.Module) -> None:
        """Count an optimizer step, and apply the mark where it is due: the hook for a loop of one's own."""
        self.step += 1
        if self.step % self.every == 0:
            self.apply_(model)

    @property
    def hooks(self) -> Hooks:
        """For :func:`onnxmark_torch.training.train`; the mark stands at the end of every epoch, whatever ``every``."""
        return Hooks(after_step=self.after_step_, after_epoch=self.apply_)

    def attach(self, optimizer: Optimizer, model: nn.Module) -> RemovableHandle:
        """Apply the mark now, and after every ``optimizer.step()``; ``.remove()`` on the handle ends that.

        With ``every`` above 1 the last steps of a training may pass unmarked: call :meth:`apply_` at the end.

        Raises:
            EmbeddingError: As for :meth:`apply_`.
            TargetError: As for :meth:`apply_`.
        """

        def after_step(_stepping: Optimizer, _args: tuple[Any, ...], _kwargs: Mapping[str, Any]) -> None:
            self.after_step_(model)

        self.apply_(model)
        return optimizer.register_step_post_hook(after_step)

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs beside the model: the step, nothing of the key."""
        return {"step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`.

        Raises:
            ValueError: It is not one.
        """
        step = state.get("step")
        if not isinstance(step, int) or step < 0:
            raise ValueError(f"the state of a constant weight mark has a step, not {sorted(state)}")
        self.step = step

    @torch.no_grad()
    def report(self, model: nn.Module) -> Evidence:
        """What an audit would read from the weights as they are now, in the mark's view.

        Raises:
            TargetError: A layer is not there or does not fit the key.
        """
        values = selection_of(self.key).take([place.weights().values for place in self._resolve(model)])
        return read_word(values, self._parameters.code, self.key.message)

    def export(
        self, model: nn.Module, example_inputs: tuple[Any, ...], path: str | os.PathLike[str], **options: Any
    ) -> Audit | None:
        """Export the model and audit the file for this mark; see :func:`onnxmark_torch.exporting.export`."""
        return export(model, example_inputs, path, audit_with=[self.key], **options)

    def _resolve(self, model: nn.Module) -> tuple[_Place, ...]:
        places = self._places.get(model)
        if places is None or not all(place.is_current(model) for place in places):
            places = self._places[model] = self._found(model)
        return places

    def _found(self, model: nn.Module) -> tuple[_Place, ...]:
        layers = [_named(model, name) for name in self.target_modules]
        found, wanted = [layer.shape for layer in layers], [carrier.shape for carrier in self.key.carriers]
        if found != wanted:
            cure = (
                "name the layers in target_modules in the key's order, or make a key for these with 'onnxmark keygen'"
            )
            raise TargetError(Problem(f"the layers have shapes {found} and the key is made for {wanted}", cure))
        folded = self._view == "folded"
        return tuple(_Place(layer, following_norm(model, layer, self._norms) if folded else None) for layer in layers)


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """A layer, and the batch normalisation that it is looked at through, if any."""

    layer: HostLayer
    norm: nn.Module | None

    def weights(self) -> WeightTensor:
        """The weights as the mark sees them, a copy."""
        layer = self.layer
        seen = layer.canonical(whole(layer.weight)).float() * self._scale()
        # A copy: WeightTensor makes its array read-only, and .numpy() shares memory with the parameter.
        values = np.array(seen.detach().cpu().numpy(), dtype=np.float32, order="C")
        return WeightTensor(f"{layer.name}.weight", values, Origin(layer.name, layer.op, -1, "PyTorch module"))

    def add_(self, change: np.ndarray[Any, np.dtype[np.float32]]) -> None:
        """Add to the module's weights what changes them, as the mark sees them, by ``change``."""
        weight = trainable(self.layer)
        moved = self.layer.stored(torch.from_numpy(change).to(weight.device) / self._scale())
        weight.add_(beside(weight, moved.to(weight.dtype)))

    def is_current(self, model: nn.Module) -> bool:
        """Whether the model still has these modules."""
        modules = set(model.modules())
        return self.layer.module in modules and (self.norm is None or self.norm in modules)

    def _scale(self) -> Tensor:
        if self.norm is None:
            return torch.ones((), device=self.layer.weight.device)
        scale = folding_scale(self.norm).reshape(-1, *(1 for _ in self.layer.shape[1:]))
        if not bool((scale != 0).all()):
            what = f"the batch normalisation behind layer {self.layer.name!r} multiplies some filters by zero"
            raise TargetError(Problem(what, "mark the weights as they are with view='raw', or another layer"))
        return scale


def _named(model: nn.Module, name: str) -> HostLayer:
    found = [layer for layer in host_layers(model) if plain_name(name) in map(plain_name, layer.names)]
    if len(found) == 1:
        return found[0]
    count = "no linear or convolution layer" if not found else f"{len(found)} layers"
    raise TargetError(Problem(f"the model has {count} named {name!r}", "target_modules takes names of named_modules()"))
