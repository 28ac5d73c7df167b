"""Rows of a key, weights of a layer: evidence."""

from __future__ import annotations

import numpy as np

from onnxmark.arrays import BitArray, Float64Array
from onnxmark.schemes.evidence import Evidence, Test, no_evidence
from onnxmark.schemes.projection.nulls import foreign_null
from onnxmark.schemes.projection.projection import Projection
from onnxmark.statistics import log10_binomial_tail, sign_flip_test
from onnxmark.weights import WeightTensor


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
