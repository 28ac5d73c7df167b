"""Folding batch normalisation into the layer before it, as every deployment does: each filter gets a factor of its own.

At inference a normalisation is an affine map of each channel, ``s y + t`` with ``s = gamma / sqrt(var + eps)``. Merged
into the layer before, weights become ``s W``: a mark that is a common shift of all filters survives where the factors
are alike and positive, and is lost where they are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

import numpy as np

from onnxmark.arrays import AnyArray, Float64Array
from onnxmark.attacks.attack import FileMeans, ModelAttack
from onnxmark.model.editing.editable import EditableModel, Node
from onnxmark.symmetries.account import Account
from onnxmark.symmetries.kernels import means_layer

EPSILON: Final = 1e-5
"""Of a BatchNormalization that does not say."""
_LAYERS: Final = ("Conv", "ConvTranspose", "Gemm")


class Affine(NamedTuple):
    """A normalisation at inference: ``scale * y + shift`` of each channel, both of shape (channels,)."""

    scale: Float64Array
    shift: Float64Array


class Unfolded(Exception):
    """Why a normalisation stays; never leaves this module."""


@dataclass(frozen=True, slots=True)
class BatchNormFolding(ModelAttack):
    """Fold every BatchNormalization into the ``Conv``, ``ConvTranspose`` or ``Gemm`` before it, in the main graph.

    Where something else uses the layer's output too, or anything needed is not stored in the file, it stays.
    """

    name: ClassVar[str] = "fold-bn"
    summary: ClassVar[str] = "fold batch normalisation into the weights before it; no parameter"

    @property
    def label(self) -> str:
        """``batch normalisation folded in``."""
        return "batch normalisation folded in"

    def rewrite(self, source: Path, output: Path, means: FileMeans) -> tuple[str, ...]:
        """See :class:`onnxmark.attacks.attack.ModelAttack`."""
        model = EditableModel.load(source)
        account = Account()
        for norm in model.nodes:
            if norm.op_type != "BatchNormalization":
                continue
            layer = model.producer(norm.input[0])
            if layer is None or layer.op_type not in _LAYERS:
                account.leave(norm.output[0], "which follows no layer that could take it in")
            elif means_layer(layer, means):
                _fold_or_leave(model, layer, norm, account)
        account.require(source, "have batch normalisation folded in")
        model.forget_shapes()
        model.save(output)
        return account.sentences("batch normalisation folded in")


def _fold_or_leave(model: EditableModel, layer: Node, norm: Node, account: Account) -> None:
    name = layer.input[1]
    try:
        _fold(model, layer, norm)
    except Unfolded as why:
        account.leave(name, str(why))
    else:
        account.done.append(name)


def _fold(model: EditableModel, layer: Node, norm: Node) -> None:
    """Fold ``norm`` into ``layer``, which then writes what ``norm`` wrote.

    Raises:
        Unfolded: It cannot be; nothing has changed then.
    """
    if len(model.consumers(layer.output[0])) > 1 or layer.output[0] in model.outputs:
        raise Unfolded("whose output is used without the normalisation, too")
    affine = _affine(model, norm)
    weights = _stored(model, layer, 1, "weights are")
    folded = _as_stored(weights * _factors(model, layer, weights.shape, affine.scale), weights.dtype)
    bias = _as_stored(_bias(model, layer) * affine.scale + affine.shift, weights.dtype)
    model.replace_constant(layer, 1, folded)
    if _reads(layer, 2):
        model.replace_constant(layer, 2, bias)
    else:
        model.connect(layer, 2, model.add_constant(f"{layer.input[1]}.bias", bias))
    # What a Gemm multiplied its bias with is part of the new one.
    model.set_attribute(layer, "beta", None)
    model.remove(norm)
    model.set_output(layer, 0, norm.output[0])


def _affine(model: EditableModel, norm: Node) -> Affine:
    """What ``norm`` does at inference.

    Raises:
        Unfolded: It normalises by the batch, or not by channel, or one of its parameters is not stored.
    """
    if model.attribute(norm, "training_mode", 0) or len([name for name in norm.output if name]) > 1:
        raise Unfolded("whose normalisation is in training mode")
    if not model.attribute(norm, "spatial", 1):
        raise Unfolded("whose normalisation is not one factor a channel")
    stored = (_stored(model, norm, place, "normalisation is") for place in (1, 2, 3, 4))
    gamma, beta, mean, variance = (values.astype(np.float64) for values in stored)
    scale = gamma / np.sqrt(variance + model.attribute(norm, "epsilon", EPSILON))
    return Affine(scale, beta - mean * scale)


def _stored(model: EditableModel, node: Node, place: int, what: str) -> AnyArray:
    """A constant of the file.

    Raises:
        Unfolded: It is computed, or no float.
    """
    values = model.constant(node.input[place])
    if values is None or values.dtype.kind != "f":
        raise Unfolded(f"whose {what} not stored as floats")
    return values


def _factors(model: EditableModel, layer: Node, shape: tuple[int, ...], scale: Float64Array) -> Float64Array:
    """``scale`` (channels,) so that it multiplies the weights of each output channel.

    Raises:
        Unfolded: The layer has other channels than the normalisation.
    """
    ones = (1,) * (len(shape) - 2)
    if layer.op_type == "ConvTranspose":
        # Stored (in, out / group, *kernel): the rows of a group meet that group's output channels.
        groups = model.attribute(layer, "group", 1)
        rows = shape[0] // groups
        if scale.size == groups * shape[1]:
            return np.repeat(scale.reshape(groups, shape[1]), rows, axis=0).reshape(*shape[:2], *ones)
    elif layer.op_type == "Gemm" and not model.attribute(layer, "transB", 0):
        if scale.size == shape[1]:
            return scale
    elif scale.size == shape[0]:
        return scale.reshape(-1, 1, *ones)
    raise Unfolded("whose channels are not those of its normalisation")


def _reads(node: Node, place: int) -> bool:
    return len(node.input) > place and bool(node.input[place])


def _bias(model: EditableModel, layer: Node) -> Float64Array:
    """What ``layer`` adds to its channels, zero if nothing; a Gemm's may have an axis before them.

    Raises:
        Unfolded: It is not stored.
    """
    if not _reads(layer, 2):
        return np.zeros(1)
    bias: Float64Array = _stored(model, layer, 2, "bias is").astype(np.float64) * model.attribute(layer, "beta", 1.0)
    return bias


def _as_stored(values: Float64Array, dtype: np.dtype) -> AnyArray:
    """In the type of the file.

    Raises:
        Unfolded: They do not fit.
    """
    with np.errstate(over="ignore"):
        cast = values.astype(dtype)
    if not np.isfinite(cast).all():
        raise Unfolded(f"whose folded values do not fit into {dtype}")
    return cast
