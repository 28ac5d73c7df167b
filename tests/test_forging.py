"""Somebody with a stranger's model in view makes a key for it: whatever he chooses, the key reads as any other would.

Payload and past would be enough, as the tests show first, if the key's secret did not depend on them.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import nnls

from onnxmark.audit import audit_file
from onnxmark.keymaking import carrier_of, make_key
from onnxmark.keys import Secret, load_key, save_key
from onnxmark.model import open_model
from onnxmark.schemes.projection.scheme import ProjectionScheme
from onnxmark.schemes.scheme import Layer
from onnxmark.verdict import Verdict
from onnxmark.views import with_norms
from tests.onnx_models import conv_chain, kernel

SHAPE = (64, 24, 3, 3)


@pytest.fixture
def stranger(tmp_path):
    """A model that nobody marked, and its layer."""
    path = conv_chain(tmp_path / "stranger.onnx", [kernel(SHAPE)])
    with open_model(path) as model:
        site = model.sites()[0]
        return path, Layer(carrier_of(site), model.read(site))


def key_for(layer, n_bits, premark=None):
    """A key from a public seed, so that a test has the same outcome every time."""
    made = make_key(layer.carrier, np.zeros(n_bits, np.uint8), premark=premark)
    return replace(made, seed=Secret(bytes(range(32))), salt=bytes(32))


def audited(path, key, folder):
    """The finding for a key that went through a file."""
    save_key(key, folder / "forged.npy")
    return audit_file(path, [load_key(folder / "forged.npy")]).findings[0]


def assert_a_stranger(finding):
    assert finding.verdict is Verdict.NO_MATCH
    assert finding.judgement.log10_p_value > -3
    assert not finding.judgement.clears_seed_search


def signs_read(key, layer):
    """The signs of the margins."""
    scheme = ProjectionScheme()
    evidence = scheme.extract(key, (layer.weights,), scheme.readings(key, (SHAPE,))[0])
    return evidence.margins > 0


def test_a_payload_chosen_for_the_model(stranger, tmp_path):
    path, layer = stranger
    key = key_for(layer, 256)
    right = signs_read(key, layer)
    fitted = replace(key, payload=(key.payload ^ ~right).astype(np.uint8))
    # With the secret as it was, every bit would be right.
    fitted.__dict__["master"] = key.master
    assert signs_read(fitted, layer).all()
    assert_a_stranger(audited(path, replace(fitted), tmp_path))


def test_a_past_chosen_for_the_model(stranger, tmp_path):
    """Norms of 64 filters that turn the signs of 24 bits as he likes."""
    path, layer = stranger
    values, n_bits = layer.weights.values, 24
    key = key_for(layer, n_bits, layer.weights)
    scheme, unit = ProjectionScheme(), with_norms(values, np.ones(len(values), np.float32))
    reading = scheme.readings(key, (SHAPE,))[0]

    def margins(weights):
        return scheme.extract(key, (layer.weights.with_values(weights),), reading).margins

    # The margins of a sum of filters are, up to a positive factor, the sums of what each filter gives alone.
    alone = [np.where(np.arange(len(unit)).reshape(-1, 1, 1, 1) == one, unit, 0) for one in range(len(unit))]
    parts = np.stack([margins(one) * np.std(one) for one in alone], axis=1)
    norms, _ = nnls(parts, np.ones(n_bits))
    chosen = with_norms(values, norms.astype(np.float32))
    evidence = scheme.extract(key, (layer.weights.with_values(chosen),), reading)
    assert evidence.n_errors == 0
    past = replace(key.premark, output_norm=norms.astype(np.float32), output_scale=norms.astype(np.float32))
    assert_a_stranger(audited(path, replace(key, premark=past), tmp_path))


@pytest.mark.parametrize("changed", [{"name": "another"}, {"node": "another"}, {"position": 7}])
def test_a_layer_named_for_the_model(stranger, tmp_path, changed):
    path, layer = stranger
    key = key_for(layer, 64)
    other = replace(key, carriers=(replace(key.carrier, **changed),))
    assert other.master != key.master
    assert_a_stranger(audited(path, other, tmp_path))
