"""A key's projection as tensors: the same linear map that an audit reads, differentiable and on the model's device.

Kept in float32 whatever the model trains in: in bfloat16 a score of a few hundred summands has no correct digits left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from onnxmark.schemes.carriers import MEAN_HWI, FoldedCarrier, MeanCarrier
from onnxmark.schemes.projection import Projection


@dataclass(frozen=True, slots=True, eq=False)
class CarrierTensors:
    """A projection on one device.

    Args:
        projection: The key over the layer.
        rows: Its rows, shape (T, M), float32.
        message: Its bits, shape (T,), float32, 0 or 1.
        buckets: For a fold, the bucket of each weight, shape (N,), int64.
        signs: For a fold, the sign of each weight, shape (N,), float32.
    """

    projection: Projection
    rows: Tensor
    message: Tensor
    buckets: Tensor | None = None
    signs: Tensor | None = None

    @classmethod
    def on(cls, device: torch.device, projection: Projection) -> CarrierTensors:
        """The tensors of a projection on ``device``."""
        carrier = projection.carrier
        rows = torch.empty(projection.n_bits, carrier.size, dtype=torch.float32, device=device)
        for part in projection.row_blocks():
            block = projection.rows(part.start, part.stop).astype(np.float32)
            rows[part] = torch.from_numpy(block).to(device)
        message = torch.from_numpy(projection.message.astype(np.float32)).to(device)
        if not isinstance(carrier, FoldedCarrier):
            return cls(projection, rows, message)
        buckets = torch.from_numpy(carrier.buckets.astype(np.int64)).to(device)
        signs = torch.from_numpy(carrier.signs.astype(np.float32)).to(device)
        return cls(projection, rows, message, buckets, signs)

    def fold(self, values: Tensor) -> Tensor:
        """Canonical weights to the vector the rows read, shape (M,); see :mod:`onnxmark.schemes.carriers`."""
        carrier = self.projection.carrier
        if isinstance(carrier, MeanCarrier):
            mean = values.mean(dim=0)
            return (mean.movedim(0, -1) if carrier.kind == MEAN_HWI else mean).reshape(-1)
        flat = values.reshape(-1)
        centred = flat - flat.mean()
        if self.buckets is None or self.signs is None:
            return centred
        return centred.new_zeros(carrier.size).index_add(0, self.buckets, centred * self.signs)

    def loss(self, values: Tensor) -> Tensor:
        """Uchida's embedding loss: the *sum* over the T bits of the binary cross-entropy of the scores, a scalar.

        Uchida, Nagai, Sakazawa, Satoh (ICMR 2017, arXiv 1701.04082), whose papers report the mean and train the sum.

        Args:
            values: Canonical weights of the carrier's shape, float32.
        """
        scores = self.rows @ self.fold(values)
        return functional.binary_cross_entropy_with_logits(scores, self.message, reduction="sum")
