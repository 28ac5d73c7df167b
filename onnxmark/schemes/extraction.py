"""The projection scheme: rows of a key, weights of a layer, evidence."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar, Final

import numpy as np

from onnxmark.arrays import BitArray, Float64Array
from onnxmark.keys import AnyKey, Key
from onnxmark.schemes.carriers import fit_kernel, fitting_shape
from onnxmark.schemes.evidence import Evidence, Test, no_evidence
from onnxmark.schemes.nulls import foreign_null
from onnxmark.schemes.projection import (
    Projection,
    Reading,
    check_parameters,
    foreign_readings,
    projection_of,
)
from onnxmark.statistics import log10_binomial_tail, sign_flip_test
from onnxmark.weights import WeightTensor

_KEPT_PROJECTIONS: Final = 4


class ProjectionScheme:
    """Uchida's reading with every carrier and generator of ours, and with foreign matrices."""

    name: ClassVar[str] = "projection"
    signs_tested: ClassVar[int] = 2

    def readings(self, key: AnyKey, shape: tuple[int, ...]) -> tuple[Reading, ...]:
        """See :class:`onnxmark.schemes.evidence.Scheme`."""
        if not isinstance(key, Key):
            return foreign_readings(key, shape)
        check_parameters(key)
        kind = str(key.parameters["carrier"])
        fitting = fitting_shape(kind, key.carrier.shape, shape)
        return () if fitting is None else (Reading(kind, fitting, resized=fitting != shape),)

    def extract(self, key: AnyKey, weights: WeightTensor, reading: Reading) -> Evidence:
        """See :class:`onnxmark.schemes.evidence.Scheme`."""
        fitted = weights.with_values(fit_kernel(weights.values, reading.shape)) if reading.resized else weights
        return read_message(_projection(key, reading), fitted, fair=isinstance(key, Key))


@lru_cache(maxsize=_KEPT_PROJECTIONS)
def _projection(key: AnyKey, reading: Reading) -> Projection:
    # A robustness sweep reads the same rows dozens of times.
    return projection_of(key, reading)


def read_message(projection: Projection, weights: WeightTensor, *, fair: bool) -> Evidence:
    """Read a message and weigh it.

    Args:
        projection: The key over the layer.
        weights: The layer.
        fair: Whether the message is whitened, so that the sign-flip test is exact; foreign keys get their own null.
    """
    values = weights.values
    if not np.isfinite(values).all():
        return no_evidence(projection.n_bits, "the weights are not all finite")
    if values.min() == values.max():
        return no_evidence(projection.n_bits, "all weights are equal")
    vector = projection.carrier.fold(values)
    scores, unit = projection.project(vector), projection.unit_of(vector)
    if unit == 0 or not np.any(scores):
        return no_evidence(projection.n_bits, "the weights cancel in the carrier: every score is zero")
    signed = np.where(projection.message == 1, scores, -scores)
    n_right, n_erasures = int(np.sum(signed > 0)), int(np.sum(signed == 0))
    straight, complement = (
        _tests(projection, vector, margins, message, fair=fair)
        for margins, message in ((signed, projection.message), (-signed, 1 - projection.message))
    )
    inverted = complement[0].log10_p < straight[0].log10_p
    tests = complement if inverted else straight
    return Evidence(
        margins=signed / unit,
        n_errors=projection.n_bits - n_right,
        n_erasures=n_erasures,
        embedding_loss=float(np.mean(np.logaddexp(0.0, -signed))),
        inverted=inverted,
        log10_p=tests[0].log10_p,
        tests=tests,
    )


def _tests(
    projection: Projection,
    vector: Float64Array,
    margins: Float64Array,
    message: BitArray,
    *,
    fair: bool,
) -> tuple[Test, ...]:
    n_right = int(np.sum(margins > 0))
    count = Test("bit-count (fair coins)", log10_binomial_tail(n_right, margins.size), "exact")
    if fair:
        flip = sign_flip_test(margins)
        exact = "exact" if flip.log10_bound == flip.log10_estimate else "bound"
        return (
            Test("sign-flip", flip.log10_bound, exact),
            Test("sign-flip (saddle point)", flip.log10_estimate, "estimate"),
            count,
        )
    rows = projection.rows(0, projection.n_bits)
    return (foreign_null(rows, vector, message, n_right), count)
