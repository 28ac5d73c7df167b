"""Both metrics against the plain matrices they stand for, in one block and in many."""

import numpy as np
import pytest

from onnxmark.errors import EmbeddingError
from onnxmark.schemes.projection import metric
from onnxmark.schemes.projection.closed_form import embed_message
from onnxmark.schemes.projection.metric import ActivationMetric, IdentityMetric
from tests.schemes.projection.hosts import host, projection, signed_matrix

SHAPE = (6, 4, 3)
CARRIERS = ("full", "fold:32", "mean-ihw", "mean-hwi")


def _activation(groups=1, rho=0.1):
    rows = np.random.default_rng(5).standard_normal((groups, 40, 12)) * np.linspace(1, 3, groups)[:, None, None]
    return ActivationMetric(np.swapaxes(rows, 1, 2) @ rows / 40, rho)


def _plain_inverse(activation):
    sigma = activation.second_moment
    sigma = sigma / np.mean([np.trace(part) / 12 for part in sigma]) + activation.rho * np.eye(12)
    each = SHAPE[0] // len(sigma)
    full = np.zeros((72, 72))
    for index in range(SHAPE[0]):
        part = slice(12 * index, 12 * index + 12)
        full[part, part] = np.linalg.inv(sigma[index // each])
    return full


@pytest.mark.parametrize("block", [2**25, 12, 200])
@pytest.mark.parametrize("generator", ["gaussian", "diff"])
@pytest.mark.parametrize("kind", CARRIERS)
def test_identity_metric_is_the_plain_product(kind, generator, block, monkeypatch):
    monkeypatch.setattr(metric, "_BLOCK_ENTRIES", block)
    rows = projection(SHAPE, 5, kind, generator)
    signs = np.where(rows.message == 1, 1.0, -1.0)
    plain = signed_matrix(rows) * signs[:, None]
    np.testing.assert_allclose(IdentityMetric().gram(rows), plain @ plain.T, atol=1e-4)
    lifted = IdentityMetric().lift(rows, np.arange(5.0)).reshape(-1)
    np.testing.assert_allclose(lifted, plain.T @ np.arange(5.0), atol=1e-5)


@pytest.mark.parametrize("block", [2**25, 12, 200])
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("kind", CARRIERS)
def test_activation_metric_is_the_plain_product(kind, groups, block, monkeypatch):
    monkeypatch.setattr(metric, "_BLOCK_ENTRIES", block)
    rows, activation = projection(SHAPE, 5, kind), _activation(groups)
    plain = signed_matrix(rows) * np.where(rows.message == 1, 1.0, -1.0)[:, None]
    inverse = _plain_inverse(activation)
    np.testing.assert_allclose(activation.gram(rows), plain @ inverse @ plain.T, rtol=1e-4, atol=1e-4)
    lifted = activation.lift(rows, np.arange(5.0)).reshape(-1)
    np.testing.assert_allclose(lifted, inverse @ plain.T @ np.arange(5.0), rtol=1e-4, atol=1e-4)


def test_isotropic_inputs_give_the_plain_norm():
    rows, layer = projection(SHAPE, 8), host(SHAPE)
    plain = embed_message(layer, rows, 0.8)
    weighted = embed_message(layer, rows, 0.8, ActivationMetric(7.0 * np.eye(12)[None]))
    np.testing.assert_allclose(weighted.weights.values, plain.weights.values, atol=1e-6)


def test_scale_of_the_inputs_does_not_matter():
    rows, moment = projection(SHAPE, 8), _activation().second_moment
    np.testing.assert_allclose(ActivationMetric(1e-6 * moment).gram(rows), ActivationMetric(moment.copy()).gram(rows))


def test_second_moment_is_read_only():
    with pytest.raises(ValueError, match="read-only"):
        _activation().second_moment[0, 0, 0] = 1


@pytest.mark.parametrize("shape", [(12, 12), (1, 12, 11)])
def test_second_moment_must_be_a_stack_of_squares(shape):
    with pytest.raises(ValueError, match=r"shape \(groups, M, M\)"):
        ActivationMetric(np.zeros(shape))


@pytest.mark.parametrize("entry", [np.nan, 5.0])
def test_second_moment_must_be_finite_and_symmetric(entry):
    moment = np.eye(3)[None].copy()
    moment[0, 0, 1] = entry
    with pytest.raises(ValueError, match="finite and symmetric"):
        ActivationMetric(moment)


@pytest.mark.parametrize("rho", [0.0, -0.1, float("nan")])
def test_rho_must_be_positive(rho):
    with pytest.raises(ValueError, match="rho must be positive"):
        ActivationMetric(np.eye(3)[None], rho)


def test_inputs_that_are_all_zero_are_refused():
    with pytest.raises(EmbeddingError, match="never excite this layer"):
        embed_message(host(SHAPE), projection(SHAPE, 4), 1.0, ActivationMetric(np.zeros((1, 12, 12))))


def test_indefinite_second_moment_is_refused():
    moment = np.diag([1.0] * 11 + [-5.0])[None]
    with pytest.raises(EmbeddingError, match="not positive semi-definite"):
        embed_message(host(SHAPE), projection(SHAPE, 4), 1.0, ActivationMetric(moment))


@pytest.mark.parametrize("moment", [np.eye(9)[None], np.stack([np.eye(12)] * 4)])
def test_metric_of_another_layer_is_refused(moment):
    with pytest.raises(EmbeddingError, match="measure it at the layer"):
        embed_message(host(SHAPE), projection(SHAPE, 4), 1.0, ActivationMetric(moment))
