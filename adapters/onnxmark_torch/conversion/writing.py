"""PyTorch's exporters as converters need them: no batch normalisation folded, the opset asked for or a refusal.

Folding keeps the names of weights and changes their values; unfolded, every layer of the file is the module's own. The
exporter tries versions of the operator set it has no rules for, fails in silence, and writes another one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import nn
from torch.export import ExportedProgram

from onnxmark.conversion import Request
from onnxmark.errors import OnnxmarkError
from onnxmark.model import open_model
from onnxmark_torch.conversion.refusals import first_line, refused
from onnxmark_torch.exporting import export, silenced

LOWEST_OPSET: Final = 18
"""First version of the operator set that the exporter of programs writes."""
_MOST_INLINE: Final = 1 << 30
"""Bytes of weights beyond which they lie in a file beside the model: a protobuf message ends at 2 GiB."""
_GIVE_SHAPES: Final = "give them: --input 1x3x224x224, or name=1x3x224x224 for each of several"

_CHECK_SHAPES: Final = "are the shapes of --input right? see --debug"


def write_module(module: nn.Module, request: Request) -> None:
    """Export a module in evaluation mode, called with float inputs of the shapes in the request.

    Raises:
        ConversionError: Shapes are missing or name no input, the module cannot be exported, or not in this opset.
        MissingExtra: onnxscript is not installed.
    """
    _check_opset(request)
    args, kwargs = _examples(request, module)
    with _refusing(request, _CHECK_SHAPES):
        export(module, args, request.target, kwargs=kwargs, **_options(request, module.state_dict()))
    _check_written(request)


def write_program(program: ExportedProgram, request: Request) -> None:
    """Export a program; it has its inputs with it.

    Raises:
        ConversionError: The program cannot be exported, or not in this opset.
    """
    _check_opset(request)
    with _refusing(request, "export a program that PyTorch's ONNX exporter takes; see --debug"), silenced():
        options = _options(request, program.state_dict)
        torch.onnx.export(program, (), request.target, dynamo=True, verbose=False, **options)
    _check_written(request)


def write_script(script: torch.jit.ScriptModule, request: Request) -> None:
    """Export a TorchScript module with the older exporter, the only one that takes them.

    Raises:
        ConversionError: Shapes are missing, the module cannot be exported, or not in this opset.
    """
    args, kwargs = _examples(request, script)
    with _refusing(request, _CHECK_SHAPES), silenced():
        torch.onnx.export(
            script.eval(),
            (*args, kwargs) if kwargs else args,
            str(request.target),
            dynamo=False,
            do_constant_folding=False,
            opset_version=request.opset,
        )
    _check_written(request)


def _options(request: Request, state: Mapping[str, Any]) -> dict[str, Any]:
    size = sum(value.nbytes for value in state.values() if isinstance(value, torch.Tensor))
    return {"optimize": False, "opset_version": request.opset, "external_data": size > _MOST_INLINE}


def _examples(request: Request, module: nn.Module) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    """Arguments to call the module with: zeros of the shapes in the request, in the module's own precision."""
    dtype = next((tensor.dtype for tensor in module.parameters() if tensor.is_floating_point()), torch.float32)
    given = {name: torch.zeros(shape, dtype=dtype) for name, shape in request.shapes}
    if not given:
        raise refused(request.source, "a network in PyTorch does not know the shapes of its inputs", _GIVE_SHAPES)
    if "" in given:
        if len(given) > 1:
            raise refused(request.source, "of several inputs one has no name", _GIVE_SHAPES)
        return (given[""],), {}
    names = _input_names(module.forward)
    unknown = [name for name in given if names and name not in names]
    if unknown:
        raise refused(request.source, f"the network has no input {unknown[0]!r}", f"its inputs: {', '.join(names)}")
    return (), given


def _input_names(forward: Callable[..., Any]) -> tuple[str, ...]:
    """Names of a function's parameters; none where any are taken."""
    try:
        parameters = inspect.signature(forward).parameters
    except (TypeError, ValueError):
        return ()
    named = [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return () if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else tuple(named)


def _check_opset(request: Request) -> None:
    if request.opset is not None and request.opset < LOWEST_OPSET:
        why = f"PyTorch's exporter writes opset {LOWEST_OPSET} and later, not {request.opset}"
        raise refused(request.source, why, f"ask for --opset {LOWEST_OPSET}, or convert the ONNX file down afterwards")


@contextmanager
def _refusing(request: Request, cure: str) -> Iterator[None]:
    """What the exporter raises, as a refusal."""
    try:
        yield
    except (OnnxmarkError, MemoryError):
        raise
    except Exception as error:  # exporting runs the network's own code, which may raise anything
        raise refused(request.source, f"PyTorch cannot export it: {first_line(error)}", cure) from error


def _check_written(request: Request) -> None:
    with open_model(request.target) as model:
        written = model.opset
    if request.opset is not None and written != request.opset:
        why = f"PyTorch's exporter was asked for opset {request.opset} and wrote {written}"
        raise refused(request.source, why, f"ask for --opset {written}")
