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
    "full rademacher": "913c9a24a5a0298a594f261eebb43377",
    "full gaussian": "453e81ae9f0785f5496cab422d25891a",
    "full direct": "b8fa8c3cd7c9532acdbf59e053d7ea08",
    "full diff": "7b1d64cf70b1e768aef663a119128b2e",
    "fold:256 rademacher": "fed762f23026f774fb5ad72a583657c4",
    "fold:256 gaussian": "a989507bacb9d44a2c3e1a0212f3f500",
    "fold:256 direct": "87f659a387f154b0279ad2da88a39e17",
    "fold:256 diff": "3d2d13bc2cecf9148b6b2366a815eadc",
    "mean-ihw rademacher": "cd252a645518c9a1d9ee84dcf6d616a3",
    "mean-ihw gaussian": "8ba6646b55e307224b394a8a6c6e07cd",
    "mean-ihw direct": "7baf4c204a12e2f79962ca5c824f4524",
    "mean-ihw diff": "36393568de93caa3d1c99c0e1514e936",
    "mean-hwi rademacher": "2bc3090422117df2fa876e450ac166c7",
    "mean-hwi gaussian": "83c3c56b80b3aa7fd70e537e12d14c81",
    "mean-hwi direct": "956afddba246acd030d50318f066845e",
    "mean-hwi diff": "5eb70e5579f375533d2a5df39fb3fea2",
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
    assert np.packbits(scores > 0).tobytes().hex() == "f4e182f187c9e61e"
    evidence = ProjectionScheme().extract(key, (layer,), ProjectionScheme().readings(key, (layer.shape,))[0])
    assert evidence.n_errors == int(np.sum((scores > 0) != (key.message == 1)))
