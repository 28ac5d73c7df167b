"""A key's projection as tensors: the same linear map that an audit reads, with its gradient in closed form.

The gradient of the embedding loss is two products with the same T x M rows, and the second needs of the first only its
own row's score. So one pass over the rows, a cache-sized block at a time, does both, and the rows, mostly signs, are
kept as bytes. Sums are in float32 whatever the model trains in: in bfloat16 a score of a few hundred summands has no
correct digits left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from onnxmark.keys import AnyKey, Key
from onnxmark.schemes.projection.carriers import MEAN_HWI, FoldedCarrier, MeanCarrier
from onnxmark.schemes.projection.projection import Projection, ProjectionReading, projection_of

_CACHE_ENTRIES: Final = 2**20
"""Row entries a pass holds in float32 on a CPU: the 4 MiB that stay in cache between the two products."""
_DEVICE_ENTRIES: Final = 2**26
"""The same on an accelerator, where the number of launches counts and not the cache."""


@dataclass(frozen=True, slots=True, eq=False)
class CarrierTensors:
    """A projection on one device.

    Args:
        projection: The key over the layer.
        rows: Its rows, shape (T, M): int8 where they hold only -1, 0 and 1, else float32.
        wanted: The sign each score should have, shape (T,), float32, -1 or 1.
        slots: For a fold into S buckets, the bucket of each weight, shape (N,), int32, plus S where its sign is minus.
    """

    projection: Projection
    rows: Tensor
    wanted: Tensor
    slots: Tensor | None = None

    @classmethod
    def on(cls, device: torch.device, projection: Projection) -> CarrierTensors:
        """The tensors of a projection on ``device``."""
        carrier = projection.carrier
        dtype = torch.int8 if _has_integer_rows(projection) else torch.float32
        rows = torch.empty(projection.n_bits, carrier.size, dtype=dtype, device=device)
        for part in projection.row_blocks():
            rows[part] = torch.from_numpy(projection.rows(part.start, part.stop)).to(dtype).to(device)
        wanted = torch.from_numpy(2 * projection.message.astype(np.float32) - 1).to(device)
        if not isinstance(carrier, FoldedCarrier):
            return cls(projection, rows, wanted)
        slots = torch.from_numpy(carrier.buckets + carrier.size * (carrier.signs < 0).astype(np.int32))
        return cls(projection, rows, wanted, slots.to(device))

    def fold(self, values: Tensor) -> Tensor:
        """Canonical weights to the vector the rows read, shape (M,), as the key's carrier does it in NumPy."""
        carrier = self.projection.carrier
        if isinstance(carrier, MeanCarrier):
            mean = values.mean(dim=0)
            return (mean.movedim(0, -1) if carrier.kind == MEAN_HWI else mean).reshape(-1)
        flat = values.reshape(-1)
        centred = flat - flat.mean()
        if self.slots is None:
            return centred
        sums = _slot_sums(self.slots, centred, 2 * carrier.size)
        return sums[: carrier.size] - sums[carrier.size :]

    def spread(self, vector: Tensor) -> Tensor:
        """Adjoint of :meth:`fold`: a vector (M,) to canonical weights."""
        carrier = self.projection.carrier
        if isinstance(carrier, MeanCarrier):
            inputs, *spatial = carrier.shape[1:]
            hwi = carrier.kind == MEAN_HWI
            kernel = vector.reshape(*spatial, inputs).movedim(-1, 0) if hwi else vector.reshape(inputs, *spatial)
            return (kernel / carrier.shape[0]).expand(carrier.shape)
        flat = vector if self.slots is None else torch.cat([vector, -vector]).index_select(0, self.slots)
        return (flat - flat.mean()).reshape(carrier.shape)

    def loss_and_gradient(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Uchida's embedding loss, a scalar, and its gradient by the weights, of the carrier's shape.

        Uchida, Nagai, Sakazawa, Satoh (ICMR 2017, arXiv 1701.04082): the *sum* over the T bits of the binary
        cross-entropy of the scores; the papers report the mean and train the sum.

        Args:
            values: Canonical weights of the carrier's shape, float32.
        """
        vector = self.fold(values)
        loss, gradient = vector.new_zeros(()), torch.zeros_like(vector)
        for part, rows in self._row_blocks():
            wanted = self.wanted[part]
            signed = wanted * (rows @ vector)
            loss -= functional.logsigmoid(signed).sum()
            # The derivative as -wanted * sigmoid(-signed): sigmoid(score) - bit cancels where a bit is well embedded.
            gradient.addmv_(rows.T, wanted * torch.sigmoid(-signed), alpha=-1)
        return loss, self.spread(gradient)

    def loss(self, values: Tensor) -> Tensor:
        """The loss of :meth:`loss_and_gradient` as a node that autograd can differentiate, once."""
        return cast(Tensor, _EmbeddingLoss.apply(values, self))  # type: ignore[no-untyped-call]

    def min_margin(self, values: Tensor) -> float:
        """Smallest margin, in units of a random key's standard deviation; negative where a bit is wrong.

        Waits for the device. Weights that the carrier folds to nothing have margin 0.
        """
        vector = self.fold(values)
        lowest = min(float((self.wanted[part] * (rows @ vector)).min()) for part, rows in self._row_blocks())
        unit = self.projection.unit_of(vector.double().cpu().numpy())
        return lowest / unit if unit else 0.0

    def _row_blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Slices over the rows and the rows themselves as float32, valid until the next are asked for."""
        n_bits, size = self.rows.shape
        step = max(1, (_CACHE_ENTRIES if self.rows.device.type == "cpu" else _DEVICE_ENTRIES) // size)
        # One buffer for all blocks: fresh ones would be mapped and cleared by the system every time.
        scratch = self.wanted.new_empty(min(step, n_bits), size)
        for start in range(0, n_bits, step):
            part = slice(start, min(start + step, n_bits))
            yield part, scratch[: part.stop - start].copy_(self.rows[part])


def _slot_sums(slots: Tensor, values: Tensor, n_slots: int) -> Tensor:
    sums = values.new_zeros(n_slots)
    if values.device.type == "cpu":
        return sums.index_add_(0, slots, values)
    # Sorts, then sums: atomic additions come in another order on every rank, and replicas would drift apart.
    return sums.index_put_((slots,), values, accumulate=True)


class KeyTensors:
    """One key over every layer and device that asks, made once each.

    Args:
        key: The key.
    """

    def __init__(self, key: AnyKey) -> None:
        self._key = key
        self._projections: dict[ProjectionReading, Projection] = {}
        self._tensors: dict[tuple[ProjectionReading, torch.device], CarrierTensors] = {}

    def projection(self, reading: ProjectionReading) -> Projection:
        """The key in one reading."""
        if reading not in self._projections:
            self._projections[reading] = projection_of(self._key, reading)
        return self._projections[reading]

    def on(self, device: torch.device, reading: ProjectionReading) -> CarrierTensors:
        """The same as tensors on a device."""
        if (reading, device) not in self._tensors:
            self._tensors[reading, device] = CarrierTensors.on(device, self.projection(reading))
        return self._tensors[reading, device]


class _EmbeddingLoss(torch.autograd.Function):
    """The loss, with the gradient that was computed along with it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, tensors: CarrierTensors) -> Tensor:
        loss, gradient = tensors.loss_and_gradient(values)
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None


def _has_integer_rows(projection: Projection) -> bool:
    return isinstance(projection.source, Key) and projection.source.parameters["generator"] != "gaussian"
