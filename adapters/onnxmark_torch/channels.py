"""Which output channels of a PyTorch model's convolutions can be removed, and what has to go with them.

Found by following values through the traced graph (torch.fx), independently of what onnxmark finds in an exported file:
the two must agree, and tests hold them to it. Whatever is not understood keeps a layer as it is, with the reason.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import Any, Final, NamedTuple

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from onnxmark_torch.layers import parameter_names, unwrapped
from onnxmark_torch.problems import Problem, TargetError

_EACH: Final = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardtanh,
    nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.Identity, nn.Dropout, nn.Dropout2d,
)  # fmt: skip
_POOLING: Final = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_FUNCTIONS: Final[frozenset[Any]] = frozenset([
    torch.relu, torch.tanh, torch.sigmoid, functional.relu, functional.relu6, functional.leaky_relu, functional.elu,
    functional.selu, functional.gelu, functional.silu, functional.mish, functional.hardswish, functional.hardtanh,
    functional.softplus, functional.dropout, functional.dropout2d, functional.max_pool2d, functional.avg_pool2d,
    functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d,
])  # fmt: skip
_METHODS: Final = frozenset(["relu", "relu_", "tanh", "sigmoid", "contiguous", "clone"])


class Part(StrEnum):
    """What a module is to channels."""

    MAKES = "makes"
    """Convolution whose outputs they are."""
    SCALES = "scales"
    """Batch normalisation, PReLU: parameters for each channel."""
    FILTERS = "filters"
    """Convolution of each channel by itself."""
    TAKES = "takes"
    """Convolution or linear layer whose inputs they are."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A module that has a slice for each channel.

    Args:
        module: Its name in the model.
        part: What it is to the channels.
        inner: Inputs a channel takes at a stretch: its positions, behind a flattening.
    """

    module: str
    part: Part
    inner: int = 1


@dataclass(frozen=True, slots=True)
class CalledLayer:
    """A convolution or linear layer where the model calls it.

    Args:
        name: ``<module>.weight``, as exporters call its tensor.
        module: Name of the module.
        op: ONNX operator it becomes.
        position: Index among all such calls.
        shape: Canonical shape of its weights, (out, in / group, *spatial).
        slices: What has to go with one of its output channels, the layer itself first; empty where none can go.
        obstacle: Why none can go, or None.
    """

    name: str
    module: str
    op: str
    position: int
    shape: tuple[int, ...]
    slices: tuple[Slice, ...]
    obstacle: str | None

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of ONNX nodes: none."""
        return ()


def called_layers(model: nn.Module, example_inputs: tuple[Any, ...]) -> tuple[CalledLayer, ...]:
    """Every convolution and linear layer in the order of the calls, and what its output channels are tied to.

    Args:
        model: The model; left as it is.
        example_inputs: Arguments of one call of the model, on its device.

    Raises:
        TargetError: The model cannot be traced.
    """
    graph = _traced(model, example_inputs)
    calls = [node for node in graph.nodes if isinstance(graph.module(node), (nn.Conv2d, nn.Linear))]
    return tuple(_called(graph, node, position) for position, node in enumerate(calls))


class _Tied(Exception):
    """Channels reach something they cannot be removed from."""


@dataclass(frozen=True, slots=True, eq=False)
class _Graph:
    """A traced copy of a model in evaluation mode, the shape of every value noted."""

    traced: fx.GraphModule
    modules: dict[str, nn.Module]
    calls: Counter[int]

    @property
    def nodes(self) -> list[fx.Node]:
        return list(self.traced.graph.nodes)

    def module(self, node: fx.Node) -> nn.Module | None:
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        return tuple(node.meta["tensor_meta"].shape)


def _traced(model: nn.Module, example_inputs: tuple[Any, ...]) -> _Graph:
    inner = copy.deepcopy(unwrapped(model)).eval()
    try:
        traced = fx.symbolic_trace(inner)
        with torch.no_grad():
            ShapeProp(traced).propagate(*example_inputs)
    except Exception as error:
        # Tracing runs the model's own code, which may fail in any way.
        raise TargetError(
            Problem(
                f"torch.fx cannot trace the model ({error})", "export it and prune the ONNX file with 'onnxmark embed'"
            )
        ) from error
    modules = dict(traced.named_modules(remove_duplicate=False))
    calls = Counter(id(modules[str(node.target)]) for node in traced.graph.nodes if node.op == "call_module")
    return _Graph(traced, modules, calls)


def _called(graph: _Graph, node: fx.Node, position: int) -> CalledLayer:
    module, name = graph.modules[str(node.target)], str(node.target)
    try:
        slices, obstacle = tuple(_slices(graph, node)), None
    except _Tied as tied:
        slices, obstacle = (), str(tied)
    op = "Conv" if isinstance(module, nn.Conv2d) else "Gemm"
    shape = tuple(module.weight.shape)  # type: ignore[arg-type]
    return CalledLayer(f"{name}.weight", name, op, position, shape, slices, obstacle)


class _Step(NamedTuple):
    """What a use of channels comes to.

    Args:
        slice: What has a slice for each of them, if anything.
        inner: Inputs a channel takes at a stretch in the result; None where the channels end.
    """

    slice: Slice | None
    inner: int | None


def _slices(graph: _Graph, maker: fx.Node) -> Iterator[Slice]:
    """What has a slice for each output channel of a convolution.

    Raises:
        _Tied: Something else has, too.
    """
    module = graph.module(maker)
    if not isinstance(module, nn.Conv2d) or module.groups != 1:
        raise _Tied("it is not a convolution of one group")
    _check_alone(graph, maker)
    yield Slice(str(maker.target), Part.MAKES)
    waiting, consumed = [(maker, 1)], False
    while waiting:
        value, inner = waiting.pop(0)
        for user in value.users:
            step = _step(graph, user, value, inner)
            if step.slice is not None:
                _check_alone(graph, user)
                yield step.slice
                consumed |= step.slice.part is Part.TAKES
            if step.inner is not None:
                waiting.append((user, step.inner))
    if not consumed:
        raise _Tied("no layer uses its output")


def _check_alone(graph: _Graph, node: fx.Node) -> None:
    module = graph.module(node)
    weight = getattr(module, "weight", None)
    if graph.calls[id(module)] > 1 or (weight is not None and len(parameter_names(graph.traced, weight)) > 1):
        raise _Tied(f"module {str(node.target)!r}, or its weights, are used more than once")


def _step(graph: _Graph, user: fx.Node, value: fx.Node, inner: int) -> _Step:
    if user.args[:1] != (value,):
        raise _Tied(f"{user.op} {user.name!r} takes it together with other values")
    module = graph.module(user)
    if module is not None:
        return _through_module(graph, user, module, inner)
    if user.target in _FUNCTIONS or (user.op == "call_method" and user.target in _METHODS):
        return _Step(None, inner)
    if user.op == "call_method" and user.target == "size" and user.args[1:] == (0,):
        return _Step(None, None)
    if user.op in ("call_function", "call_method") and inner == 1:
        return _Step(None, _relaid(graph, user, value))
    raise _Tied(f"{user.op} {user.name!r} is not followed")


def _through_module(graph: _Graph, user: fx.Node, module: nn.Module, inner: int) -> _Step:
    name = str(user.target)
    if isinstance(module, nn.Linear) and len(graph.shape(user)) == 2:
        return _Step(Slice(name, Part.TAKES, inner), None)
    if isinstance(module, nn.Conv2d) and module.groups == 1:
        return _Step(Slice(name, Part.TAKES), None)
    if isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels:
        return _Step(Slice(name, Part.FILTERS), 1)
    if isinstance(module, nn.BatchNorm2d) or (isinstance(module, nn.PReLU) and module.num_parameters > 1):
        return _Step(Slice(name, Part.SCALES), inner)
    if isinstance(module, (*_EACH, *_POOLING, nn.PReLU)):
        return _Step(None, inner)
    if isinstance(module, nn.Flatten) and inner == 1:
        return _Step(None, _relaid(graph, user, user.all_input_nodes[0]))
    raise _Tied(f"{type(module).__name__} module {name!r} is not followed")


def _relaid(graph: _Graph, user: fx.Node, value: fx.Node) -> int:
    """Inputs a channel takes at a stretch behind a flattening, or an average over positions."""
    before, after = graph.shape(value), graph.shape(user)
    name = getattr(user.target, "__name__", str(user.target))
    if name == "mean" and len(before) == 4:
        axes = user.args[1] if len(user.args) > 1 else user.kwargs.get("dim")
        if isinstance(axes, (tuple, list)) and sorted(int(str(axis)) % 4 for axis in axes) == [2, 3]:
            return 1
    # A size that is written down would be wrong once channels are gone.
    follows = user.op == "call_module" or name == "flatten" or (name in ("view", "reshape") and user.args[-1] == -1)
    if follows and after == (before[0], prod(before[1:])):
        return prod(before[2:])
    raise _Tied(f"{user.op} {user.name!r} is not followed")
