"""A state on its way to ONNX: through the network it belongs to where there is one, else as weights without a graph."""

from __future__ import annotations

import torch
from torch import nn

from onnxmark.conversion import Converted, Request
from onnxmark.model.weights_only import write_weights_only
from onnxmark_torch.conversion.factories import built, fill
from onnxmark_torch.conversion.module_weights import weights_of
from onnxmark_torch.conversion.refusals import refused
from onnxmark_torch.conversion.state_dicts import State, bare_weights
from onnxmark_torch.conversion.writing import write_module
from onnxmark_torch.layers import unwrapped

_NO_GRAPH = (
    "the file holds weights without the network they belong to: it can be marked and audited, and does not run; "
    "--model module:function --input 1x3x224x224 exports the network"
)


def convert_state(request: Request, state: State, reader: str) -> Converted:
    """Convert tensors by name.

    Args:
        request: Where to, and the network if there is one.
        state: The tensors.
        reader: What read them.

    Raises:
        ConversionError: They do not fit the network, it cannot be exported, or no tensor is the weights of a layer.
    """
    if request.factory is not None:
        module = built(request.factory)
        fill(module, state, request.source, request.factory)
        return convert_module(module, request, reader)
    weights, notes = bare_weights(state)
    if not weights:
        why = f"none of its {len(state)} tensors can be the weights of a layer"
        raise refused(request.source, why, "is it the checkpoint of a network?")
    write_weights_only(request.target, weights)
    return Converted(f"{reader}, weights only", weights, has_graph=False, notes=(_NO_GRAPH, *notes))


def convert_module(module: nn.Module, request: Request, reader: str) -> Converted:
    """Export a network, in evaluation mode.

    Args:
        module: The network.
        request: Where to, and the shapes of its inputs.
        reader: What read it.

    Raises:
        ConversionError: It cannot be exported.
    """
    module = unwrapped(module).eval()
    weights = weights_of(module)
    write_module(module, request)
    return Converted(route_of(reader, "torch.export"), weights)


def route_of(reader: str, exporter: str) -> str:
    """In words, what read a container and what wrote the ONNX file."""
    return f"{reader}, {exporter} of torch {torch.__version__}"
