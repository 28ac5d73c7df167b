"""Every bit right at the margin promised, in float32, by the smallest change there is."""

import numpy as np
import pytest
from scipy.optimize import minimize

from onnxmark.errors import EmbeddingError
from onnxmark.schemes.projection.capacity import capacity
from onnxmark.schemes.projection.closed_form import embed_message
from onnxmark.schemes.projection.extraction import read_message
from onnxmark.schemes.projection.metric import ActivationMetric
from onnxmark.weights import Origin, WeightTensor
from tests.schemes.projection.hosts import host, projection, signed_matrix

CARRIERS = ("full", "fold:256", "mean-ihw", "mean-hwi")
GENERATORS = ("rademacher", "gaussian", "direct", "diff")
SHAPE = (16, 24, 3, 3)


def _moment(groups, width, seed=0):
    rows = np.random.default_rng(seed).standard_normal((groups, width * 2, width)) * np.geomspace(1, 0.01, width)
    return np.swapaxes(rows, 1, 2) @ rows / rows.shape[1]


def _margins(rows, values):
    return np.where(rows.message == 1, 1, -1) * rows.scores(values) / rows.unit(values)


@pytest.mark.parametrize("metric", [None, ActivationMetric(_moment(1, 216))], ids=["identity", "activation"])
@pytest.mark.parametrize("margin", [0.25, 1.0])
@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("kind", CARRIERS)
def test_margin_holds_in_float32_for_every_carrier_and_generator(kind, generator, margin, metric):
    rows = projection(SHAPE, 32, kind, generator)
    marked = embed_message(host(SHAPE), rows, margin, metric)
    margins = _margins(rows, marked.weights.values)
    assert marked.weights.values.dtype == np.float32
    assert margins.min() >= margin
    assert margins.min() == marked.margin
    assert marked.margin <= margin * 1.0011
    assert read_message(rows, marked.weights, fair=True).n_errors == 0


@pytest.mark.parametrize("n_bits", [1, 2, 7])
def test_short_messages(n_bits):
    marked = embed_message(host(SHAPE), projection(SHAPE, n_bits), 2.0)
    assert marked.margin >= 2


@pytest.mark.parametrize("shape", [(32, 24), (16, 8, 5), (48, 1, 3, 3), (8, 4, 3, 3, 3)])
def test_layers_of_every_rank(shape):
    assert embed_message(host(shape), projection(shape, 16), 1.5).margin >= 1.5


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1e6])
def test_scale_of_the_weights_does_not_matter(scale):
    rows = projection(SHAPE, 32)
    base, scaled = (embed_message(host(SHAPE, scale=size), rows, 1.0) for size in (1.0, scale))
    assert scaled.relative_change == pytest.approx(base.relative_change, rel=1e-4)


def test_embedding_is_deterministic_and_leaves_the_host_alone():
    layer, rows = host(SHAPE), projection(SHAPE, 32)
    before = layer.values.copy()
    first, second = embed_message(layer, rows, 1.0), embed_message(layer, rows, 1.0)
    np.testing.assert_array_equal(first.weights.values, second.weights.values)
    np.testing.assert_array_equal(layer.values, before)
    assert first.weights.name == layer.name
    assert first.weights.origin == layer.origin


def test_a_mark_that_is_there_already_costs_nothing():
    rows = projection(SHAPE, 32)
    marked = embed_message(host(SHAPE), rows, 2.0)
    again = embed_message(marked.weights, rows, 1.0)
    np.testing.assert_array_equal(again.weights.values, marked.weights.values)
    assert (again.relative_change, again.n_active, again.iterations, again.std_ratio) == (0, 0, 1, 1)


def test_figures_describe_the_weights_returned():
    layer, rows = host(SHAPE), projection(SHAPE, 64)
    marked = embed_message(layer, rows, 2.0)
    old, new = layer.values.astype(float), marked.weights.values.astype(float)
    assert marked.relative_change == pytest.approx(np.linalg.norm(new - old) / np.linalg.norm(old), rel=1e-6)
    assert marked.std_ratio == pytest.approx(new.std() / old.std(), rel=1e-6)
    on_target = np.isclose(_margins(rows, marked.weights.values), marked.margin, rtol=1e-3)
    assert marked.n_active == on_target.sum()


@pytest.mark.parametrize("metric", [None, ActivationMetric(_moment(2, 18))], ids=["identity", "activation"])
@pytest.mark.parametrize("kind", ["full", "fold:64", "mean-hwi"])
def test_optimality_conditions(kind, metric):
    """The change is S^-1 A' of multipliers that are positive only where a margin is met with equality."""
    shape = (6, 2, 3, 3)
    layer, rows = host(shape), projection(shape, 6, kind)
    marked = embed_message(layer, rows, 0.8, metric)
    change = (marked.weights.values.astype(float) - layer.values).reshape(-1)
    weight = _plain_metric(metric, shape)
    signed = signed_matrix(rows)
    multipliers, *_ = np.linalg.lstsq(signed.T, weight @ change, rcond=None)
    np.testing.assert_allclose(signed.T @ multipliers, weight @ change, atol=1e-5 * np.abs(weight @ change).max())
    assert multipliers.min() >= -1e-4 * multipliers.max()
    slack = _margins(rows, marked.weights.values) - marked.margin
    assert np.all((slack < 1e-3) | (np.abs(multipliers) < 1e-4 * multipliers.max()))


@pytest.mark.parametrize("metric", [None, ActivationMetric(_moment(3, 12))], ids=["identity", "activation"])
def test_agrees_with_a_generic_solver(metric):
    shape = (6, 3, 2, 2)
    layer, rows = host(shape, scale=1.0), projection(shape, 5)
    marked = embed_message(layer, rows, 1.0, metric)
    signed, weight = signed_matrix(rows), _plain_metric(metric, shape)
    target = marked.margin * rows.unit(marked.weights.values)
    start = layer.values.reshape(-1).astype(float)
    found = minimize(
        lambda d: 0.5 * d @ weight @ d,
        np.zeros(start.size),
        jac=lambda d: weight @ d,
        constraints={"type": "ineq", "fun": lambda d: signed @ (start + d) - target, "jac": lambda _: signed},
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-14},
    )
    assert found.success
    change = (marked.weights.values.astype(float) - layer.values).reshape(-1)
    np.testing.assert_allclose(change, found.x, atol=2e-4 * np.abs(found.x).max())


@pytest.mark.parametrize(
    ("shape", "n_bits", "kind", "generator", "margin"),
    [
        ((64, 64, 3, 3), 256, "full", "rademacher", 1.0),
        ((64, 64, 3, 3), 256, "full", "rademacher", 2.0),
        ((64, 64, 3, 3), 256, "full", "gaussian", 2.0),
        ((64, 64, 3, 3), 256, "full", "direct", 2.0),
        ((64, 64, 3, 3), 256, "full", "diff", 2.0),
        ((64, 64, 3, 3), 256, "fold:4096", "rademacher", 2.0),
        ((64, 64, 3, 3), 128, "mean-ihw", "rademacher", 1.0),
        ((32, 32, 3, 3), 512, "full", "rademacher", 2.0),
    ],
)
def test_prediction_of_the_change(shape, n_bits, kind, generator, margin):
    predicted = capacity(shape, n_bits, kind, generator, margin).relative_change
    rows = projection(shape, n_bits, kind, generator)
    changes = [embed_message(host(shape, seed), rows, margin).relative_change for seed in range(3)]
    assert np.mean(changes) == pytest.approx(predicted, rel=0.1)


def test_change_under_the_activation_metric_is_smaller_where_inputs_are_large():
    shape, width = (16, 8, 3, 3), 72
    moment = _moment(1, width)
    layer, rows = host(shape), projection(shape, 64)
    plain, weighted = embed_message(layer, rows, 1.0), embed_message(layer, rows, 1.0, ActivationMetric(moment))

    def seen(marked):
        change = (marked.weights.values.astype(float) - layer.values).reshape(-1, width)
        return float(np.sum((change @ moment[0]) * change))

    assert seen(weighted) < 0.5 * seen(plain)
    assert weighted.relative_change > plain.relative_change


@pytest.mark.parametrize(
    ("n_bits", "margin"), [(48, 1.3), (60, 1.0), (72, 1.0), (160, 0.01)], ids=["tight", "nearly full", "full", "over"]
)
def test_a_message_that_does_not_fit_is_refused(n_bits, margin):
    shape = (8, 8, 3, 3)
    with pytest.raises(EmbeddingError, match=rf"{n_bits} bits do not fit in the 72 entries .* take fewer bits"):
        embed_message(host(shape), projection(shape, n_bits, "mean-ihw"), margin)


def test_more_bits_than_entries_fit_while_gardner_allows():
    shape = (8, 40, 3, 3)
    rows = projection(shape, 396, "mean-ihw")
    assert capacity(shape, 396, "mean-ihw").largest_margin > 0.4
    assert embed_message(host(shape), rows, 0.1).margin >= 0.1


def test_a_bit_that_reads_an_empty_bucket_is_refused():
    shape = (4, 4)
    with pytest.raises(EmbeddingError, match=r"carrier fold:64 has an empty bucket there; draw another key"):
        embed_message(host(shape), projection(shape, 60, "fold:64", "direct"), 0.1)


def test_too_many_bits_for_the_dual_are_refused():
    with pytest.raises(EmbeddingError, match="up to 8,192 bits and the key has 9,000"):
        embed_message(host((4, 9, 3, 3)), projection((4, 9, 3, 3), 9000), 1.0)


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_constant_layer_is_refused(value):
    layer = WeightTensor("w", np.full(SHAPE, value, dtype=np.float32), Origin("n", "Conv", 0, "raw"))
    with pytest.raises(EmbeddingError, match="'w' vanish in the carrier"):
        embed_message(layer, projection(SHAPE, 8), 1.0)


def test_layer_that_is_not_finite_is_refused():
    values = np.ones(SHAPE, dtype=np.float32)
    values[0, 0] = np.nan
    with pytest.raises(EmbeddingError, match="not all finite"):
        embed_message(WeightTensor("w", values, Origin("n", "Conv", 0, "raw")), projection(SHAPE, 8), 1.0)


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan"), float("inf")])
def test_margin_must_be_positive(margin):
    with pytest.raises(ValueError, match="margin must be positive"):
        embed_message(host(SHAPE), projection(SHAPE, 8), margin)


def test_projection_of_another_layer_is_a_mistake():
    with pytest.raises(ValueError, match="for a layer of shape"):
        embed_message(host((4, 4)), projection(SHAPE, 8), 1.0)


def _plain_metric(metric, shape):
    size, width = int(np.prod(shape)), int(np.prod(shape[1:]))
    if metric is None:
        return np.eye(size)
    sigma = metric.second_moment / np.trace(metric.second_moment, axis1=1, axis2=2).mean() * width
    each = shape[0] // len(sigma)
    blocks = np.zeros((size, size))
    for index in range(shape[0]):
        part = slice(index * width, (index + 1) * width)
        blocks[part, part] = sigma[index // each] + metric.rho * np.eye(width)
    return blocks
