"""A key's projection in Keras's own operations: the linear map that an audit reads, on whatever Keras runs on.

Only ``keras.ops`` is used, so TensorFlow, PyTorch and JAX trace, compile and differentiate the same few lines. Sums are
in float32 whatever the model trains in: in bfloat16 a score of a few hundred summands has no correct digits left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from keras import ops

from onnxmark.arrays import AnyArray
from onnxmark.keys import Key
from onnxmark.schemes.projection.carriers import MEAN_HWI, FoldedCarrier, MeanCarrier
from onnxmark.schemes.projection.projection import Projection

Tensor = Any
"""A tensor of the backend, or one that stands for it while a function is traced."""

Layout = Literal["plain", "depthwise", "transposed"]
LAYOUTS: Final[tuple[Layout, ...]] = get_args(Layout)


@dataclass(frozen=True, slots=True, eq=False)
class CarrierTensors:
    """A projection as tensors of the backend.

    They are made outside of any traced function, which then only refers to them: a constant would be written out with
    the graph, by the TensorBoard callback for one, and with it the key. TensorFlow copies small tensors into graphs all
    the same, and a message is small; so the rows hold it.

    Args:
        projection: The key over the layer it was made for.
        rows: Its rows, each turned so that its score is positive where the bit is right, shape (T, M): int8 where they
            hold only -1, 0 and 1, else float32.
        unit: Standard deviation of a random key's score for a vector of norm 1.
        buckets: For a fold, the bucket of each weight, shape (N,), int32.
        signs: For a fold, the sign with which each weight enters, shape (N,), int8.
    """

    projection: Projection
    rows: Tensor
    unit: float
    buckets: Tensor = None
    signs: Tensor = None

    @classmethod
    def of(cls, projection: Projection) -> CarrierTensors:
        """The tensors of a projection, on the device Keras puts new tensors on."""
        carrier = projection.carrier
        tensors = {
            "rows": ops.convert_to_tensor(_signed_rows(projection)),
            "unit": projection.unit_of(np.eye(1, carrier.size)[0]),
        }
        if isinstance(carrier, FoldedCarrier):
            tensors["buckets"] = ops.convert_to_tensor(carrier.buckets)
            tensors["signs"] = ops.convert_to_tensor(carrier.signs)
        return cls(projection, **tensors)

    def loss(self, values: Tensor) -> Tensor:
        """Uchida's embedding loss, a float32 scalar.

        Uchida, Nagai, Sakazawa, Satoh (ICMR 2017, arXiv 1701.04082): the *sum* over the T bits of the binary
        cross-entropy of the scores; the papers report the mean and train the sum. It is taken from the signed scores,
        because ``sigmoid(score) - bit`` cancels where a bit is well embedded.

        Args:
            values: Canonical weights of a shape the key fits, float32.
        """
        return ops.sum(ops.softplus(-self._signed_scores(self.fold(values))))

    def has_margin(self, values: Tensor, margin: float) -> Tensor:
        """Whether every bit is right by at least ``margin`` standard deviations of a random key's score; a boolean."""
        vector = self.fold(values)
        return ops.min(self._signed_scores(vector)) >= margin * self.unit * ops.norm(vector)

    def fold(self, values: Tensor) -> Tensor:
        """Canonical weights to the vector the rows read, shape (M,), as the key's carrier does it in NumPy."""
        carrier = self.projection.carrier
        if isinstance(carrier, MeanCarrier):
            mean = ops.mean(values, axis=0)
            return ops.reshape(ops.moveaxis(mean, 0, -1) if carrier.kind == MEAN_HWI else mean, (-1,))
        flat = ops.reshape(values, (-1,))
        centred = flat - ops.mean(flat)
        if self.buckets is None:
            return centred
        return ops.segment_sum(centred * ops.cast(self.signs, "float32"), self.buckets, num_segments=carrier.size)

    def _signed_scores(self, vector: Tensor) -> Tensor:
        return ops.matmul(ops.cast(self.rows, "float32"), vector)


def canonical(kernel: Tensor, layout: Layout) -> Tensor:
    """A kernel as Keras keeps it in onnxmark's order, (out, in / group, *spatial), float32; differentiable.

    Args:
        kernel: (*spatial, in / group, out) of a convolution or a dense layer, (*spatial, in, multiplier) of a depthwise
            one, (*spatial, out, in) of a transposed one.
        layout: Which of these it is.
    """
    *spatial, last_but_one, last = range(len(kernel.shape))
    values = ops.cast(kernel, "float32")
    if layout == "plain":
        return ops.transpose(values, (last, last_but_one, *spatial))
    return ops.reshape(ops.transpose(values, (last_but_one, last, *spatial)), canonical_shape(kernel.shape, layout))


def canonical_shape(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """The shape that :func:`canonical` gives a kernel of ``shape``."""
    *spatial, last_but_one, last = shape
    if layout == "plain":
        return (last, last_but_one, *spatial)
    return (last_but_one, last, *spatial) if layout == "transposed" else (last_but_one * last, 1, *spatial)


def _signed_rows(projection: Projection) -> AnyArray:
    source = projection.source
    whole = isinstance(source, Key) and source.parameters["generator"] != "gaussian"
    rows = np.empty((projection.n_bits, projection.carrier.size), dtype=np.int8 if whole else np.float32)
    wanted = 2 * projection.message.astype(np.int8)[:, None] - 1
    for part in projection.row_blocks():
        rows[part] = wanted[part] * projection.rows(part.start, part.stop)
    return rows
