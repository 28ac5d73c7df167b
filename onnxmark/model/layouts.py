"""From the order in which an operator wants its weights to canonical order, ``(out, in / group, *spatial)``."""

from __future__ import annotations

from math import prod

from onnxmark.model.expression import Expression
from onnxmark.model.hosts import Host, Unfit


def convolution(host: Host, weights: Expression) -> Expression:
    """OIHW, and so for any number of spatial axes, is canonical."""
    _convolutional(weights)
    group = host.group
    if group < 1 or weights.shape[0] % group:
        raise Unfit(f"{group} groups do not divide {weights.shape[0]} output channels")
    return weights


def channels_last(host: Host, weights: Expression) -> Expression:
    """(out, *k, in / g) → (out, in / g, *k)."""
    _convolutional(weights)
    rank = len(weights.shape)
    axes = (0, rank - 1, *range(1, rank - 1))
    shape = tuple(weights.shape[axis] for axis in axes)
    step = host.interner.apply("transpose", (weights,), (axes,), shape, weights.dtype, words="OHWI")
    return convolution(host, step)


def transposed_convolution(host: Host, weights: Expression) -> Expression:
    """(in, out / g, *k) → (out, in / g, *k)."""
    _convolutional(weights)
    interner, group = host.interner, host.group
    inputs, outputs, *kernel = weights.shape
    if group < 1 or inputs % group:
        raise Unfit(f"{group} groups do not divide {inputs} input channels")
    apart = (group, inputs // group, outputs, *kernel)
    swapped = (group, outputs, inputs // group, *kernel)
    axes = (0, 2, 1, *range(3, len(apart)))
    step = interner.apply("reshape", (weights,), (), apart, weights.dtype)
    step = interner.apply("transpose", (step,), (axes,), swapped, weights.dtype)
    return interner.apply("reshape", (step,), (), (group * outputs, inputs // group, *kernel), weights.dtype)


def dense(host: Host, weights: Expression) -> Expression:
    """(…1, in, out) → (out, in): the right factor of a product, unless its operator is told to transpose it.

    As the left factor, weights have their outputs first already.
    """
    interner, shape = host.interner, weights.shape
    if prod(shape[:-2]) != 1:
        raise Unfit(f"a batch of matrices, shape {shape}")
    if len(shape) > 2:
        shape = shape[-2:]
        weights = interner.apply("reshape", (weights,), (), shape, weights.dtype)
    left = is_left_factor(host)
    if left != bool(host.integer("transA" if left else "transB")):
        return weights
    return interner.apply("transpose", (weights,), ((1, 0),), (shape[1], shape[0]), weights.dtype)


def outputs_first(_: Host, weights: Expression) -> Expression:
    """(out, in), as it is."""
    return weights


def is_left_factor(host: Host) -> bool:
    """Whether the weights are the first of the operator's inputs, which activations usually are."""
    return host.place == 0


def _convolutional(weights: Expression) -> None:
    if len(weights.shape) < 3:
        raise Unfit(f"a convolution's weights have at least three axes, not shape {weights.shape}")
