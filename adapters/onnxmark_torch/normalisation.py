"""The batch normalisation an exporter will fold into a layer, found beforehand.

In evaluation mode ``y = gamma (Wx - mean) / sqrt(var + eps) + beta`` is one convolution with every filter of W scaled
by ``gamma / sqrt(var + eps)``; exporters store that one. A mean over filters changes under such scales, and filters of
a negative one are turned round. Which normalisation follows which layer is in no table: names and registration order
mislead (pre-activation networks), so the graph is traced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import torch
from torch import Tensor, fx, nn

from onnxmark_torch.layers import HOSTS, HostLayer, plain_name, unwrapped
from onnxmark_torch.problems import Problem, TargetError
from onnxmark_torch.sharding import whole

_Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_GONE_IN_EVALUATION: Final = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


def following_norm(model: nn.Module, layer: HostLayer, names: Mapping[str, str] | None = None) -> nn.Module | None:
    """The batch normalisation that an exporter folds into a layer; None where there is none to fold.

    Args:
        model: The model, wrapped or not.
        layer: One of its layers.
        names: By layer name, the name of the normalisation behind it, for models that cannot be traced.

    Raises:
        TargetError: The model cannot be traced and names says nothing; or what it says is not in the model.
    """
    named = {plain_name(key): name for key, name in (names or {}).items()}.get(plain_name(layer.name))
    if named is not None:
        return _named(model, named)
    if not any(_fits(module, layer) for module in model.modules()):
        return None
    model = unwrapped(model)
    return _behind(model, layer, _traced(model, layer))


def folding_scale(norm: nn.Module) -> Tensor:
    """What folding multiplies the filters with, shape (out,), float32: a constant, through which no gradient flows."""
    batch_norm = cast(_Norm, norm)
    with torch.no_grad():
        scale = torch.rsqrt(whole(cast(Tensor, batch_norm.running_var)).float() + batch_norm.eps)
        return scale * whole(batch_norm.weight).float() if batch_norm.affine else scale


def _has_statistics(module: nn.Module) -> bool:
    # Without running ones evaluation uses the batch's, and nothing can be folded.
    return isinstance(module, _NORMS) and module.running_var is not None


def _fits(module: nn.Module, layer: HostLayer) -> bool:
    return _has_statistics(module) and cast(_Norm, module).num_features == layer.shape[0]


def _named(model: nn.Module, name: str) -> nn.Module:
    for found, module in model.named_modules():
        if plain_name(found) == plain_name(name) and _has_statistics(module):
            return cast(nn.Module, module)
    cure = "norms maps names of layers to names of their BatchNorm modules"
    raise TargetError(Problem(f"the model has no batch normalisation {name!r} with running statistics", cure))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # Named for FSDP2, whose layers are of classes made on the fly that fx would look into.
        return isinstance(m, (*HOSTS, *_NORMS)) or super().is_leaf_module(m, module_qualified_name)


def _traced(model: nn.Module, layer: HostLayer) -> fx.Graph:
    try:
        return _Tracer().trace(model)
    except Exception as error:  # tracing runs the model's own code, which may raise anything
        raise TargetError(
            Problem(
                f"cannot tell which batch normalisation is folded into layer {layer.name!r}: the model does not trace "
                f"({type(error).__name__})",
                f"name it in norms, as in norms={{{layer.name!r}: 'norm'}}",
            )
        ) from error


def _behind(model: nn.Module, layer: HostLayer, graph: fx.Graph) -> nn.Module | None:
    calls = [node for node in graph.nodes if _module(model, node) is layer.module]
    if len(calls) != 1:
        return None
    (node,) = calls
    # An exporter folds only where nothing else reads what the layer computes.
    while len(node.users) == 1:
        (node,) = node.users
        module = _module(model, node)
        if module is not None and _fits(module, layer):
            return module
        if not isinstance(module, _GONE_IN_EVALUATION):
            return None
    return None


def _module(model: nn.Module, node: fx.Node) -> nn.Module | None:
    return model.get_submodule(str(node.target)) if node.op == "call_module" else None
