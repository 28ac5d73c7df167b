"""Which layers a mark goes into: the ones named, else the one the key remembers, else the only one that fits.

Guessing between several layers would put the mark where its owner does not look for it, so doubt is an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from torch import Tensor, nn

from onnxmark.keys import AnyKey, Key
from onnxmark.schemes.projection.projection import ProjectionReading
from onnxmark.schemes.projection.scheme import ProjectionScheme
from onnxmark_torch.layers import HostLayer, host_layers, is_uninitialised, plain_name
from onnxmark_torch.normalisation import folding_scale, following_norm
from onnxmark_torch.problems import Problem, TargetError
from onnxmark_torch.sharding import whole

ViewName = Literal["raw", "folded"]
_SHOWN: Final = 6


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A layer, and how the key is read from it.

    Args:
        layer: The layer.
        reading: How the key is read.
        norm: The batch normalisation that is looked at as folded in; None to look at the weights as they are.
    """

    layer: HostLayer
    reading: ProjectionReading
    norm: nn.Module | None = None

    def values(self) -> Tensor:
        """The weights a mark sees: whole, canonical, float32, folded where ``norm`` says; differentiable."""
        values = self.layer.canonical(whole(self.layer.weight)).float()
        return values if self.norm is None else values * self._scale(self.norm)

    def gradient_by_weight(self, gradient: Tensor) -> Tensor:
        """From a gradient by :meth:`values` to one by the whole weight in the module's order."""
        return self.layer.stored(gradient if self.norm is None else gradient * self._scale(self.norm))

    def _scale(self, norm: nn.Module) -> Tensor:
        return folding_scale(norm).reshape(-1, *(1 for _ in self.layer.shape[1:]))


@dataclass(frozen=True, slots=True)
class Selection:
    """Which layers a mark goes into, and how it looks at them.

    Args:
        names: Modules by name; None for the module the key names, else the only one that fits.
        view: ``raw`` for the weights as they are, ``folded`` as an exporter folds batch normalisation into them.
        norms: By layer name, the name of the normalisation behind it, for models that cannot be traced.
    """

    names: tuple[str, ...] | None = None
    view: ViewName = "raw"
    norms: Mapping[str, str] | None = None

    def targets(self, model: nn.Module, key: AnyKey) -> tuple[Target, ...]:
        """The selected layers of a model; raises as :func:`find_targets` and :func:`following_norm` do."""
        targets = find_targets(model, key, self.names)
        if self.view == "raw":
            return targets
        return tuple(Target(t.layer, t.reading, following_norm(model, t.layer, self.norms)) for t in targets)


def find_targets(model: nn.Module, key: AnyKey, names: Sequence[str] | None) -> tuple[Target, ...]:
    """The layers a mark goes into.

    Args:
        model: The model, wrapped or not.
        key: The key.
        names: Modules by name; None for the module the key names, else the only one that fits.

    Returns:
        One target a name, or one target.

    Raises:
        TargetError: A name is unknown or ambiguous, a layer does not fit the key, none does, or several do.
        KeyFileError: The key's parameters make no sense.
    """
    layers = host_layers(model)
    if names is not None:
        return tuple(_target(_named(model, layers, name), key) for name in names)
    remembered = _remembered(layers, key)
    if remembered is not None:
        return (remembered,)
    fitting = [layer for layer in layers if reading_of(key, layer.shape) is not None]
    if len(fitting) == 1:
        return (_target(fitting[0], key),)
    raise TargetError(_several(fitting) if fitting else _none(layers, key))


def reading_of(key: AnyKey, shape: tuple[int, ...]) -> ProjectionReading | None:
    """How the key is read from a layer of a canonical shape, or None.

    A foreign matrix may be meant in several ways; the first is taken, in the order in which an audit tries them all.
    An audit also reads kernels that were enlarged or cut since; a mark is not trained into those.
    """
    readings = [reading for reading in ProjectionScheme().readings(key, (shape,)) if not reading.resized]
    return readings[0] if readings else None


def wanted_shape(key: AnyKey) -> str:
    """In words, the layer a key was made for."""
    if isinstance(key, Key):
        return f"a layer of shape {'x'.join(map(str, key.carrier.shape))}, carrier {key.parameters.get('carrier')}"
    return f"a matrix of {' by '.join(map(str, key.matrix.shape))}"


def _target(layer: HostLayer, key: AnyKey) -> Target:
    reading = reading_of(key, layer.shape)
    if reading is None:
        shape = "x".join(map(str, layer.shape))
        raise TargetError(
            Problem(
                f"layer {layer.name!r} has shape {shape} and the key is made for {wanted_shape(key)}",
                "name another layer in target_modules or make a key for this one with 'onnxmark keygen'",
            )
        )
    return Target(layer, reading)


def _named(model: nn.Module, layers: Sequence[HostLayer], name: str) -> HostLayer:
    exact = [layer for layer in layers if name in layer.names or name.removesuffix(".weight") in layer.names]
    found = exact or [layer for layer in layers if plain_name(name) in map(plain_name, layer.names)]
    if len(found) == 1:
        return found[0]
    if found:
        raise TargetError(_several(found))
    for other, module in model.named_modules():
        if plain_name(other) == plain_name(name) and (reason := _unmarkable(other, module)):
            raise TargetError(reason)
    near = difflib.get_close_matches(name, [layer.name for layer in layers], n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "target_modules takes names of named_modules()"
    raise TargetError(Problem(f"the model has no linear or convolution layer {name!r}", hint))


def _unmarkable(name: str, module: nn.Module) -> Problem | None:
    if is_uninitialised(module):
        return Problem(f"layer {name!r} is lazy and has no weights yet", "send one batch through the model first")
    if callable(getattr(module, "weight", None)):
        return Problem(
            f"layer {name!r} is quantised: its weights are packed integers, which do not train",
            "train the mark into the float model and quantise that",
        )
    return None


def _remembered(layers: Sequence[HostLayer], key: AnyKey) -> Target | None:
    if not isinstance(key, Key) or not key.carrier.name:
        return None
    wanted = plain_name(key.carrier.name)
    found = [layer for layer in layers if wanted in map(plain_name, layer.names) and reading_of(key, layer.shape)]
    if len(found) > 1:
        raise TargetError(_several(found))
    return _target(found[0], key) if found else None


def _several(layers: Sequence[HostLayer]) -> Problem:
    listed = ", ".join(repr(layer.name) for layer in layers[:_SHOWN])
    more = f" and {len(layers) - _SHOWN} more" if len(layers) > _SHOWN else ""
    return Problem(f"{len(layers)} layers fit the key: {listed}{more}", "name the one you mean in target_modules")


def _none(layers: Sequence[HostLayer], key: AnyKey) -> Problem:
    shapes = sorted({"x".join(map(str, layer.shape)) for layer in layers})
    listed = ", ".join(shapes[:_SHOWN]) + (", ..." if len(shapes) > _SHOWN else "")
    return Problem(
        f"no layer fits the key, made for {wanted_shape(key)}; the model's layers are {listed or 'none'}",
        "make a key for one of them with 'onnxmark keygen'",
    )
