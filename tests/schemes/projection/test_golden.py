"""A key made today must read the same bits in ten years: exact integer scores of fixed keys over fixed weights."""

import hashlib

import numpy as np
import pytest

from onnxmark.keys import load_key
from onnxmark.schemes.projection.projection import own_projection
from onnxmark.schemes.projection.scheme import ProjectionScheme
from tests.keys.test_container import GOLDEN
from tests.schemes.projection.layers import own_key, weights

SHAPE = (16, 8, 3, 3)
GOLDEN_SCORES = {
    "full rademacher": "6169756eaf4a15930989403a2e090537",
    "full gaussian": "59f31bc2589ece6881b4d4e3f3d30ed4",
    "full direct": "9904f67aded026e835c6addaf08a4bab",
    "full diff": "c93a266261428ab697b5d3f9cd57e4f3",
    "fold:256 rademacher": "e6a6cf6c73f6c5f9e9f9f3d9d518b4cf",
    "fold:256 gaussian": "851271180bc5f2ff1adfd3ccf569b0f9",
    "fold:256 direct": "439ec3426b63b22ec3a0e102ee7461e3",
    "fold:256 diff": "5c634da6f6f7ab40309fa96810b23f46",
    "mean-ihw rademacher": "656d2066b15b8bc7adac4e80f501376f",
    "mean-ihw gaussian": "8a488003ae271eb39d82171c3a226cd1",
    "mean-ihw direct": "bc33f3ed4733f9a26036cdbb2b853714",
    "mean-ihw diff": "01d7e36b5f82c4f54eabcb7caa4f7852",
    "mean-hwi rademacher": "9062886c0b126b674e09ca2ad8a79844",
    "mean-hwi gaussian": "3c0240b33f2c4b32fa9390180a9de470",
    "mean-hwi direct": "7ad677395537e028ef1b764173c7096c",
    "mean-hwi diff": "07b6aaf01c41c65b1dcbf5e98092077a",
}


def integer_weights(shape):
    """Small integers that sum to zero, so that centring is exact and every score is an integer times 1/scale."""
    size = int(np.prod(shape))
    half = (np.arange(size // 2) * 7919 % 23 - 11).astype(np.float32)
    return weights(np.concatenate([half, -half[::-1]]).reshape(shape))


def digest(key, shape, scale):
    scores = own_projection(key, shape).scores(integer_weights(shape).values) * scale
    integers = np.rint(scores).astype("<i8")
    np.testing.assert_allclose(scores, integers, atol=1e-6)
    return hashlib.sha256(integers.tobytes()).hexdigest()[:32]


def scale_of(carrier, generator):
    return (16 if carrier.startswith("mean") else 1) * (4096 if generator == "gaussian" else 1)


CASES = [
    (c, g) for c in ("full", "fold:256", "mean-ihw", "mean-hwi") for g in ("rademacher", "gaussian", "direct", "diff")
]


@pytest.mark.parametrize(("carrier", "generator"), CASES)
def test_golden_scores(carrier, generator):
    key = own_key(carrier, generator)
    assert digest(key, SHAPE, scale_of(carrier, generator)) == GOLDEN_SCORES[f"{carrier} {generator}"]


def test_the_golden_key_file_reads_the_same_bits():
    key = load_key(GOLDEN)
    layer = integer_weights(key.carrier.shape)
    scores = own_projection(key, layer.shape).scores(layer.values)
    assert np.packbits(scores > 0).tobytes().hex() == "0b3a1f5b46c27713"
    evidence = ProjectionScheme().extract(key, (layer,), ProjectionScheme().readings(key, (layer.shape,))[0])
    assert evidence.n_errors == int(np.sum((scores > 0) != (key.message == 1)))
