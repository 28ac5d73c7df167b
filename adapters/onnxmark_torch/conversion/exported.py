"""``.pt2``: programs that ``torch.export.save`` wrote, a graph of operators with its weights.

Loading one is as good as running it (see :mod:`onnxmark_torch.conversion.program_rules`), so a plain copy is made first
of what cannot run anything; a program that has no such copy waits for the user's trust.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from onnxmark.conversion import Converted, Request, SourceWeights
from onnxmark.errors import TrustRequired
from onnxmark_torch.conversion.converting import route_of
from onnxmark_torch.conversion.module_weights import CONVOLUTION, DENSE, TRANSPOSED, array, is_floating
from onnxmark_torch.conversion.program_archives import write_plain_copy
from onnxmark_torch.conversion.program_rules import UnsafeProgram
from onnxmark_torch.conversion.refusals import first_line, refused
from onnxmark_torch.conversion.writing import write_program
from onnxmark_torch.exporting import silenced
from onnxmark_torch.layers import outputs_first

_AGAIN: Final = "export it again with torch.export.save of the PyTorch that is installed here"
_GROUPS: Final = {"conv1d": 6, "conv2d": 6, "conv3d": 6, "conv_transpose1d": 6, "conv_transpose2d": 6,
                  "conv_transpose3d": 6, "convolution": 8}  # fmt: skip
"""Where an operator of ATen has the number of groups among its arguments."""


def convert(request: Request) -> Converted:
    """Convert an exported program.

    Args:
        request: What to convert.

    Raises:
        TrustRequired: Loading it could run code of the file, and ``request.trust`` is not set.
        ConversionError: The file is damaged, of another version, or cannot be exported.
    """
    program, notes = _loaded(request)
    weights = tuple(program_weights(program))
    write_program(program, request)
    return Converted(route_of("torch.export.load", "torch.onnx"), weights, notes=notes)


def program_weights(program: ExportedProgram) -> Iterator[SourceWeights]:
    """The weights of every convolution and linear layer of a program, as its operators use them.

    Args:
        program: As exported, before decompositions.

    Returns:
        In the order of the graph, each once; weights that the program computes are left out.
    """
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    done: set[str] = set()
    for node in program.graph.nodes:
        name = names.get(_weight_input(node), "")
        tensor = program.state_dict.get(name)
        if name not in done and is_floating(tensor):
            done.add(name)
            yield _weights(name, tensor, node)


def _weight_input(node: fx.Node) -> str:
    """Name of the graph's input that a layer takes its weights from; empty where the node is no layer."""
    if _operator(node) not in {*_GROUPS, "linear"} or len(node.args) < 2:
        return ""
    return node.args[1].name if isinstance(node.args[1], fx.Node) else ""


def _operator(node: fx.Node) -> str:
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten":
        return ""
    return str(target.overloadpacket.__name__)


def _weights(name: str, tensor: Tensor, node: fx.Node) -> SourceWeights:
    operator = _operator(node)
    if operator == "linear":
        return SourceWeights(name, array(tensor), DENSE)
    group = _argument(node, _GROUPS[operator], "groups", 1)
    transposed = "transpose" in operator or bool(_argument(node, 6, "transposed", 0) and operator == "convolution")
    values = array(outputs_first(tensor, group) if transposed else tensor)
    return SourceWeights(name, values, TRANSPOSED if transposed else CONVOLUTION, group)


def _argument(node: fx.Node, place: int, name: str, default: int) -> int:
    value: Any = node.args[place] if place < len(node.args) else node.kwargs.get(name, default)
    return int(value)


def _loaded(request: Request) -> tuple[ExportedProgram, tuple[str, ...]]:
    """The program, from a plain copy where one can be made, and what to say about it."""
    source = request.source
    with tempfile.TemporaryDirectory(prefix="plain-", dir=request.target.parent) as room:
        copy = Path(room) / "program.pt2"
        try:
            write_plain_copy(source, copy)
        except UnsafeProgram as unsafe:
            if not request.trust:
                raise TrustRequired(
                    f"{str(source)!r}: loading the program could run code of the file, because {unsafe}; export it "
                    "anew with the PyTorch that is installed here, or pass --trust if you trust whoever made it"
                ) from unsafe
            return _program(source, source), (f"loaded as it is, on your word, because {unsafe}",)
        except (zipfile.BadZipFile, ValueError, OSError, RecursionError, NotImplementedError) as error:
            raise refused(source, f"it is no sound archive: {first_line(error)}", "get the file again") from error
        return _program(copy, source), ()


def _program(path: Path, source: Path) -> ExportedProgram:
    try:
        with silenced(), path.open("rb") as file:
            return torch.export.load(file)
    except Exception as error:  # loading runs much of torch, which may raise anything
        raise refused(source, f"torch {torch.__version__} cannot load it: {first_line(error)}", _AGAIN) from error
