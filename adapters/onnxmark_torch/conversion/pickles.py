"""``.pt``, ``.pth``, ``.bin``, ``.ckpt``: pickles, opened only for a user who says that whoever made them may run code.

PyTorch's restricted unpickler is tried first even then, but it is no reason to open a stranger's file: it has been
bypassed before (CVE-2025-32434, CVE-2026-24747), and TorchScript is code by intention.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from onnxmark.conversion import Converted, Request
from onnxmark.errors import TrustRequired
from onnxmark_torch.conversion.converting import convert_module, convert_state, route_of
from onnxmark_torch.conversion.refusals import first_line, refused
from onnxmark_torch.conversion.state_dicts import bare_weights, content_of
from onnxmark_torch.conversion.writing import write_script
from onnxmark_torch.exporting import silenced


def convert(request: Request) -> Converted:
    """Convert what ``torch.save`` or ``torch.jit.save`` wrote.

    A state goes the way of a safetensors file. A whole module and a TorchScript archive are exported and need
    ``request.shapes``.

    Args:
        request: What to convert.

    Raises:
        TrustRequired: ``request.trust`` is not set.
        ConversionError: The file is damaged, holds no network, or the network cannot be exported.
    """
    if not request.trust:
        raise TrustRequired(
            f"{str(request.source)!r}: opening a pickle runs the code that it names, and PyTorch's restricted mode has "
            "been bypassed before (CVE-2025-32434, CVE-2026-24747); save the weights as safetensors and convert those, "
            "or pass --trust if you trust whoever made the file"
        )
    if _is_script(request.source):
        return _convert_script(request)
    loaded, way = _loaded(request.source)
    content = content_of(loaded)
    if content is None:
        why = f"it holds {type(loaded).__name__}, neither tensors by name nor a module"
        raise refused(request.source, why, "save model.state_dict() and convert that")
    if isinstance(content, nn.Module):
        return convert_module(content, request, way)
    return convert_state(request, content, way)


def _is_script(path: Path) -> bool:
    """Whether a zip archive is TorchScript's, as ``torch.load`` tells it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.partition("/")[2] == "constants.pkl" for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError):
        return False


def _convert_script(request: Request) -> Converted:
    try:
        with silenced():
            script = torch.jit.load(str(request.source), map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:  # the archive's own code is compiled, and may be anything
        why = f"TorchScript cannot load it: {first_line(error)}"
        raise refused(request.source, why, "get the file again") from error
    weights, notes = bare_weights(script.state_dict(), _transposed(script))
    write_script(script, request)
    return Converted(route_of("TorchScript", "TorchScript exporter"), weights, notes=notes)


def _transposed(script: nn.Module) -> dict[str, int]:
    """Groups of each transposed convolution, by the name of its weights."""
    state = script.state_dict()
    found = {}
    for name, module in script.named_modules():
        path = f"{name}." if name else ""
        weight, bias = state.get(f"{path}weight"), state.get(f"{path}bias")
        if weight is not None and str(getattr(module, "original_name", "")).startswith("ConvTranspose"):
            # Tracing forgets the groups; a bias still has one element for each output.
            traced = 1 if bias is None else len(bias) // weight.shape[1]
            found[f"{path}weight"] = int(getattr(module, "groups", traced))
    return found


def _loaded(path: Path) -> tuple[Any, str]:
    """The content of a pickle that the user trusts, and how it was opened."""
    try:
        with warnings.catch_warnings():
            # Torch warns of foreign pickles and of old ones.
            warnings.simplefilter("ignore")
            try:
                return torch.load(path, map_location="cpu", weights_only=True), "restricted unpickler"
            except pickle.UnpicklingError:
                return torch.load(path, map_location="cpu", weights_only=False), "unpickler"
    except Exception as error:  # unpickling runs code, which may raise anything
        why = f"PyTorch cannot load it: {first_line(error)}"
        cure = "get the file again; a whole module needs its classes importable, so save model.state_dict() instead"
        raise refused(path, why, cure) from error
