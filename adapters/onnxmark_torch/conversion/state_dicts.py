"""What a bare ``state_dict`` tells of the layers it belongs to: names, shapes, and nothing else.

PyTorch stores a convolution's weights in canonical order and a linear layer's as (out, in). What cannot be told from a
name and a shape is said in a note: a guess that is kept quiet would turn up later as a mark that is not found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from onnxmark.conversion import SourceWeights
from onnxmark_torch.conversion.module_weights import CONVOLUTION, DENSE, TRANSPOSED, array, is_floating
from onnxmark_torch.conversion.refusals import listed
from onnxmark_torch.layers import outputs_first

_NESTS: Final = ("state_dict", "model_state_dict", "model")
_PREFIXES: Final = ("module.", "_orig_mod.")
_MOST_AXES: Final = 5

State = Mapping[str, Tensor]
"""Tensors by name."""


def content_of(loaded: Any) -> nn.Module | dict[str, Tensor] | None:
    """The module or the state in what a checkpoint holds, below the usual names; None where there is neither.

    Args:
        loaded: What ``torch.load`` returned: a module, a state, or a training's checkpoint that has one of them under
            ``state_dict``, ``model_state_dict`` or ``model``.
    """
    if isinstance(loaded, nn.Module):
        return loaded
    if not isinstance(loaded, Mapping):
        return None
    for nest in _NESTS:
        if nest in loaded and (found := content_of(loaded[nest])) is not None:
            return found
    tensors = {name: value for name, value in loaded.items() if isinstance(name, str) and isinstance(value, Tensor)}
    return without_wrappers(tensors) or None


def without_wrappers(state: State) -> dict[str, Tensor]:
    """The names as the module inside DataParallel's and torch.compile's wrappers has them."""
    for prefix in _PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            return without_wrappers({name.removeprefix(prefix): tensor for name, tensor in state.items()})
    return dict(state)


def merged(state: State) -> dict[str, Tensor]:
    """The state with every weight under weight normalisation in one piece, ``v * g / |v|``.

    Salimans, Kingma (NIPS 2016, arXiv 1602.07868). Both of PyTorch's spellings are known: ``weight_g`` beside
    ``weight_v``, and ``parametrizations.weight.original0`` beside ``original1``.
    """
    whole = dict(state)
    for name in state:
        base, magnitude, direction = _normalised(name)
        if not base or base in state or direction not in state:
            continue
        g, v = state[magnitude], state[direction]
        if is_floating(g) and is_floating(v) and _is_magnitude(g, v):
            del whole[magnitude], whole[direction]
            whole[base] = _product(g.float(), v.float())
    return whole


def bare_weights(
    state: State, transposed: Mapping[str, int] | None = None
) -> tuple[tuple[SourceWeights, ...], tuple[str, ...]]:
    """The host weights in a state, and what cannot be told of them.

    Args:
        state: Tensors by name; weight normalisation is resolved here.
        transposed: Groups of each transposed convolution, by the name of its weights; None where nobody knows.

    Returns:
        The weights: of three to five axes as convolutions ``(out, in / group, *spatial)``, of two as linear layers
        ``(out, in)``; and notes for the user.
    """
    whole = merged(state)
    taken = {name: tensor for name, tensor in whole.items() if _is_host(name, tensor)}
    weights = tuple(_weights(name, tensor, (transposed or {}).get(name)) for name, tensor in taken.items())
    return weights, _notes(whole, taken, are_convolutions_known=transposed is not None)


def _weights(name: str, tensor: Tensor, group: int | None) -> SourceWeights:
    if group is not None:
        return SourceWeights(name, array(outputs_first(tensor, group)), TRANSPOSED, group)
    return SourceWeights(name, array(tensor), DENSE if tensor.ndim == 2 else CONVOLUTION)


def _normalised(name: str) -> tuple[str, str, str]:
    """Of a magnitude's name: those of the weight, the magnitude and the direction; empty ones otherwise."""
    if name.endswith("weight_g"):
        return name.removesuffix("_g"), name, f"{name.removesuffix('_g')}_v"
    stem = name.removesuffix("parametrizations.weight.original0")
    if stem != name:
        return f"{stem}weight", name, f"{stem}parametrizations.weight.original1"
    return "", "", ""


def _is_magnitude(g: Tensor, v: Tensor) -> bool:
    """Whether a shape is that of norms of slices along one axis, or of one norm of everything."""
    if g.ndim != v.ndim:
        return g.ndim == 0
    kept = [axis for axis in range(v.ndim) if g.shape[axis] != 1]
    return len(kept) <= 1 and all(g.shape[axis] == v.shape[axis] for axis in kept)


def _product(g: Tensor, v: Tensor) -> Tensor:
    axes = tuple(axis for axis in range(v.ndim) if g.ndim == 0 or g.shape[axis] == 1)
    norms: Tensor = torch.linalg.vector_norm(v, dim=axes, keepdim=g.ndim > 0)
    return v * (g / norms)


def _is_host(name: str, tensor: Tensor) -> bool:
    return _is_large(tensor) and name.rpartition(".")[2].endswith("weight")


def _is_large(tensor: Tensor) -> bool:
    return is_floating(tensor) and 2 <= tensor.ndim <= _MOST_AXES and tensor.numel() > 0


def _notes(whole: State, taken: State, *, are_convolutions_known: bool) -> tuple[str, ...]:
    convolutions = [name for name, tensor in taken.items() if tensor.ndim > 2 and not are_convolutions_known]
    embeddings = [name for name, tensor in taken.items() if tensor.ndim == 2 and "emb" in name.lower()]
    eighths = [name for name, tensor in taken.items() if tensor.element_size() == 1]
    others = [name for name, tensor in whole.items() if name not in taken and _is_large(tensor)]
    integers = [name for name, tensor in whole.items() if not is_floating(tensor) and tensor.ndim >= 2]
    said = (
        (convolutions, "taken as convolutions; of a transposed convolution the axes are then the other way round: name "
         "the module with --model if there is one"),
        (embeddings, "may be embeddings, which look like linear layers in a checkpoint; they are included"),
        (eighths, "stored as 8-bit floats, and taken without the scales that may belong to them"),
        (others, "left out, because no layer's weights are called so (parametrised weights among them need --model)"),
        (integers, "left out, because they are not floating point"),
    )  # fmt: skip
    return tuple(f"{listed(names)}: {words}" for names, words in said if names)
