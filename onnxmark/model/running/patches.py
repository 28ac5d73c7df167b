"""What a layer multiplies its weights with: rows of im2col, drawn from an activation without building them all.

A convolution of a feature map has tens of thousands of input patches, most of them overlapping copies; their second
moment is estimated from a seeded sample. A row has (input channel, *kernel) order, as canonical weights have, so that
the layer's output is a row times a filter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from onnxmark.arrays import AnyArray, Float64Array, Int64Array
from onnxmark.errors import CalibrationError

_BLOCK_ENTRIES: Final = 2**23

Attributes = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a convolution slides over its input.

    Args:
        kernel: Kernel sizes.
        stride: Step of the output positions.
        dilation: Step inside the kernel.
        padding: Zeros before and after each spatial axis; negative crops.
        upsampling: Zeros are put between the inputs, this many less one (transposed convolutions).
        flipped: The kernel is read backwards (transposed convolutions).
        group: Groups of channels.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    upsampling: tuple[int, ...]
    flipped: bool
    group: int


def convolution(attributes: Attributes, kernel: tuple[int, ...], spatial: tuple[int, ...]) -> Geometry:
    """Geometry of an ONNX ``Conv`` over an input of spatial size ``spatial``."""
    stride, dilation = _per_axis(attributes, "strides", kernel), _per_axis(attributes, "dilations", kernel)
    mode = _text(attributes.get("auto_pad", "NOTSET"))
    padding = _explicit_padding(attributes, kernel) if mode == "NOTSET" else ((0, 0),) * len(kernel)
    if mode.startswith("SAME"):
        totals = [
            max(0, (-(-size // step) - 1) * step + (taps - 1) * spread + 1 - size)
            for size, step, taps, spread in zip(spatial, stride, kernel, dilation, strict=True)
        ]
        padding = tuple(_halves(total, more_after=mode == "SAME_UPPER") for total in totals)
    return Geometry(kernel, stride, dilation, padding, (1,) * len(kernel), False, int(attributes.get("group", 1)))


def transposed_convolution(attributes: Attributes, kernel: tuple[int, ...], spatial: tuple[int, ...]) -> Geometry:
    """Geometry of an ONNX ``ConvTranspose``, as the ordinary convolution of the zero-spaced input that it equals."""
    stride, dilation = _per_axis(attributes, "strides", kernel), _per_axis(attributes, "dilations", kernel)
    extra = tuple(attributes.get("output_padding", (0,) * len(kernel)))
    mode = _text(attributes.get("auto_pad", "NOTSET"))
    reach = [(taps - 1) * spread for taps, spread in zip(kernel, dilation, strict=True)]
    full = [
        step * (size - 1) + more + span + 1
        for step, size, more, span in zip(stride, spatial, extra, reach, strict=True)
    ]
    wanted = attributes.get("output_shape")
    if wanted is None and mode.startswith("SAME"):
        wanted = [size * step for size, step in zip(spatial, stride, strict=True)]
    if wanted is not None:
        totals = [have - want for have, want in zip(full, list(wanted)[-len(kernel) :], strict=True)]
        cropped = tuple(_halves(total, more_after=mode == "SAME_UPPER") for total in totals)
    else:
        cropped = _explicit_padding(attributes, kernel) if mode == "NOTSET" else ((0, 0),) * len(kernel)
    padding = tuple(
        (span - before, span - after + more) for span, (before, after), more in zip(reach, cropped, extra, strict=True)
    )
    ones = (1,) * len(kernel)
    return Geometry(kernel, ones, dilation, padding, stride, True, int(attributes.get("group", 1)))


@dataclass(slots=True)
class MomentSum:
    """A second moment in the making.

    Args:
        rows_per_batch: Rows drawn from each activation, at most.
        random: Where the draw comes from.
    """

    rows_per_batch: int
    random: np.random.Generator
    _sum: Float64Array | None = field(default=None, init=False)
    _count: int = field(default=0, init=False)

    def add_rows(self, rows: AnyArray) -> None:
        """Take in rows, shape (n, M), of a layer without groups."""
        chosen = self._draw(len(rows))
        blocks = (rows[part][:, None] for part in _blocks(chosen, rows.shape[1]))
        self._add(blocks, len(rows), len(chosen))

    def add_patches(self, values: AnyArray, geometry: Geometry) -> None:
        """Take in an activation, shape (n, channels, *spatial)."""
        windows = _windows(values, geometry)
        rank = len(geometry.kernel)
        positions = (len(values), *windows.shape[2 : 2 + rank])
        chosen = self._draw(math.prod(positions))
        width = values.shape[1] * math.prod(geometry.kernel)
        blocks = (
            _gather(windows, np.unravel_index(part, positions)).reshape(len(part), geometry.group, -1)
            for part in _blocks(chosen, width)
        )
        self._add(blocks, math.prod(positions), len(chosen))

    def mean(self) -> Float64Array:
        """The second moment, shape (groups, M, M).

        Raises:
            CalibrationError: Nothing was taken in, or the activations were not finite.
        """
        if self._sum is None or self._count == 0:
            raise CalibrationError("the layer saw no input at all during calibration")
        if not np.isfinite(self._sum).all():
            raise CalibrationError("the layer's inputs are not finite on the calibration data")
        return self._sum / self._count

    def _draw(self, count: int) -> Int64Array:
        if count <= self.rows_per_batch:
            return np.arange(count)
        return np.sort(self.random.choice(count, self.rows_per_batch, replace=False))

    def _add(self, blocks: Iterable[AnyArray], count: int, drawn: int) -> None:
        for block in blocks:
            by_group = np.swapaxes(block, 0, 1).astype(np.float64)
            # A sample stands for all rows of its batch, so that batches keep their weight.
            part = (np.swapaxes(by_group, 1, 2) @ by_group) * (count / drawn)
            if self._sum is not None and self._sum.shape != part.shape:
                raise CalibrationError("the nodes that use these weights differ in geometry; name one of them")
            self._sum = part if self._sum is None else self._sum + part
        self._count += count


def _windows(values: AnyArray, geometry: Geometry) -> AnyArray:
    """A view (n, channels, *positions, *kernel) of an activation."""
    spread = _zero_spaced(values, geometry.upsampling)
    padded = np.pad(spread, ((0, 0), (0, 0), *((max(0, a), max(0, b)) for a, b in geometry.padding)))
    crop = tuple(
        slice(max(0, -a), size - max(0, -b)) for (a, b), size in zip(geometry.padding, padded.shape[2:], strict=True)
    )
    padded = padded[(slice(None), slice(None), *crop)]
    axes = tuple(range(2, values.ndim))
    span = tuple((taps - 1) * step + 1 for taps, step in zip(geometry.kernel, geometry.dilation, strict=True))
    if any(size < need for size, need in zip(padded.shape[2:], span, strict=True)):
        raise CalibrationError(
            f"the layer's input of shape {values.shape} is smaller than its kernel {geometry.kernel}"
        )
    windows = np.lib.stride_tricks.sliding_window_view(padded, span, axis=axes)
    taps = tuple(slice(None, None, step) for step in geometry.dilation)
    steps = tuple(slice(None, None, step) for step in geometry.stride)
    windows = windows[(slice(None), slice(None), *steps, *taps)]
    return np.flip(windows, axis=tuple(range(-len(axes), 0))) if geometry.flipped else windows


def _gather(windows: AnyArray, at: tuple[AnyArray, ...]) -> AnyArray:
    """Copies of the windows at some places: shape (places, channels, *kernel)."""
    # Index arrays on both sides of a slice put their common axis first.
    index: tuple[Any, ...] = (at[0], slice(None), *at[1:])
    return windows[index]  # type: ignore[no-any-return]


def _zero_spaced(values: AnyArray, factors: tuple[int, ...]) -> AnyArray:
    if set(factors) == {1}:
        return values
    sizes = tuple((size - 1) * factor + 1 for size, factor in zip(values.shape[2:], factors, strict=True))
    spread = np.zeros((*values.shape[:2], *sizes), dtype=values.dtype)
    spread[(slice(None), slice(None), *(slice(None, None, factor) for factor in factors))] = values
    return spread


def _blocks(chosen: Int64Array, width: int) -> list[Int64Array]:
    step = max(1, _BLOCK_ENTRIES // width)
    return [chosen[at : at + step] for at in range(0, len(chosen), step)]


def _per_axis(attributes: Attributes, name: str, kernel: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(attributes.get(name) or (1,) * len(kernel))


def _explicit_padding(attributes: Attributes, kernel: Sequence[int]) -> tuple[tuple[int, int], ...]:
    pads = list(attributes.get("pads") or [0] * (2 * len(kernel)))
    return tuple(zip(pads[: len(kernel)], pads[len(kernel) :], strict=True))


def _halves(total: int, *, more_after: bool) -> tuple[int, int]:
    small = total // 2
    return (small, total - small) if more_after else (total - small, small)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
