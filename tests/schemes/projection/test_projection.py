"""Carriers and rows: linear maps held to their definitions and to each other."""

import numpy as np
import pytest

from onnxmark.errors import KeyFileError
from onnxmark.schemes.projection.carriers import carrier_map, default_kind, fit_kernel, fitting_shape, vector_size
from onnxmark.schemes.projection.projection import (
    GENERATORS,
    ProjectionReading,
    foreign_readings,
    own_projection,
    projection_of,
)
from onnxmark.schemes.projection.scheme import ProjectionScheme
from tests.schemes.projection.layers import SHAPE, foreign_key, layer, own_key

CARRIERS = ("full", "fold:256", "mean-ihw", "mean-hwi")
CASES = [(carrier, generator) for carrier in CARRIERS for generator in GENERATORS]


@pytest.fixture(params=CASES, ids="-".join)
def projection(request):
    carrier, generator = request.param
    return own_projection(own_key(carrier, generator), SHAPE)


def matrix_of(projection):
    """The map as a plain matrix, one weight at a time through the public reading."""
    columns = []
    for index in range(int(np.prod(SHAPE))):
        unit = np.zeros(SHAPE, dtype=np.float32)
        unit.reshape(-1)[index] = 1
        columns.append(projection.scores(unit))
    return np.stack(columns, axis=1)


def test_adjoint_gram_and_filter_rows_agree_with_the_reading(projection):
    matrix = matrix_of(projection)
    rows = projection.rows(0, projection.n_bits)
    np.testing.assert_allclose(projection.carrier.gram(rows), matrix @ matrix.T, atol=1e-9)
    coefficients = np.random.default_rng(0).standard_normal(projection.n_bits)
    np.testing.assert_allclose(projection.adjoint(coefficients).reshape(-1), coefficients @ matrix, atol=1e-9)
    part = projection.carrier.filter_rows(rows, 3, 7)
    np.testing.assert_allclose(part, matrix.reshape(projection.n_bits, SHAPE[0], -1)[:, 3:7], atol=1e-12)


def test_scores_are_linear(projection):
    one, two = layer(seed=1).values, layer(seed=2).values
    both = projection.scores(one) + 2 * projection.scores(two)
    np.testing.assert_allclose(projection.scores(one + 2 * two), both, rtol=1e-4, atol=1e-5)


def test_unit_is_the_spread_of_scores_over_keys(cheap_stretching):
    for carrier, generator in CASES:
        weights = layer(seed=4)
        scores, units = [], []
        for seed in range(12):
            projection = own_projection(own_key(carrier, generator, seed=seed), SHAPE)
            scores.append(projection.scores(weights.values))
            units.append(projection.unit(weights.values))
        assert np.sqrt(np.mean(np.square(scores))) == pytest.approx(np.mean(units), rel=0.2), (carrier, generator)


def test_mean_carriers_are_uchidas_fold():
    values = layer().values
    ihw = carrier_map("mean-ihw", SHAPE, lambda: None).fold(values)
    hwi = carrier_map("mean-hwi", SHAPE, lambda: None).fold(values)
    np.testing.assert_allclose(ihw, values.mean(axis=0).ravel(), rtol=1e-5, atol=1e-6)
    # The original code: Keras kernel (kh, kw, I, O), mean over the last axis, flattened.
    keras = values.transpose(2, 3, 1, 0)
    np.testing.assert_allclose(hwi, keras.mean(axis=3).ravel(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("carrier", ["full", "fold:256"])
def test_a_constant_shift_does_not_move_our_carriers(carrier):
    projection = own_projection(own_key(carrier), SHAPE)
    values = layer().values
    np.testing.assert_allclose(projection.scores(values + 1), projection.scores(values), atol=1e-3)


def test_fold_is_a_sign_projection_of_the_whole_tensor():
    projection = own_projection(own_key("fold:256"), SHAPE)
    seen = projection.carrier.filter_rows(projection.rows(0, 4), 0, SHAPE[0]).reshape(4, -1)
    assert set(np.round(seen - seen.mean(axis=1, keepdims=True), 6).ravel().tolist()) <= {
        value for row in seen for value in np.round(np.unique(row - row.mean()), 6).tolist()
    }
    assert np.abs(seen).max() < 1.1


@pytest.mark.parametrize(("generator", "nonzero"), [("direct", [1]), ("diff", [-1, 1])])
def test_sparse_rows(generator, nonzero):
    rows = own_projection(own_key("mean-ihw", generator), SHAPE).rows(0, 32)
    assert all(sorted(row[row != 0].tolist()) == nonzero for row in rows)
    assert (np.abs(rows).sum(axis=0) <= 1).all(), "positions must be distinct"


def test_rows_do_not_depend_on_how_they_are_asked_for():
    projection = own_projection(own_key("full", "gaussian"), SHAPE)
    uncached = own_projection(own_key("full", "gaussian"), SHAPE)
    object.__setattr__(uncached, "_cached", None)
    np.testing.assert_array_equal(projection.rows(5, 9), uncached.rows(0, 32)[5:9])


def test_every_parameter_makes_another_key():
    keys = [own_key(), own_key(n_bits=33), own_key("mean-ihw"), own_key(generator="gaussian"), own_key(seed=1)]
    assert len({key.master.reveal() for key in keys}) == len(keys)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (own_key("half"), "unknown carrier 'half'"),
        (own_key("fold:1000"), "power of two"),
        (own_key("fold:²"), "unknown carrier"),
        (own_key(generator="magic"), "unknown generator 'magic'"),
        (own_key("mean-ihw", "direct", n_bits=73), "needs 73 entries"),
        (own_key("mean-ihw", "diff", n_bits=37), "needs 74 entries"),
    ],
)
def test_keys_that_make_no_sense_are_refused(key, words):
    with pytest.raises(KeyFileError, match=words):
        ProjectionScheme().readings(key, (SHAPE,))


def test_mean_keys_fit_pruned_layers_and_full_keys_do_not():
    assert fitting_shape("mean-ihw", (64, 8, 3, 3), (50, 8, 3, 3)) == (50, 8, 3, 3)
    assert fitting_shape("full", (64, 8, 3, 3), (50, 8, 3, 3)) is None
    assert fitting_shape("mean-ihw", (64, 8, 3, 3), (64, 9, 3, 3)) is None


@pytest.mark.parametrize(
    ("now", "fits"),
    [((5, 5), True), ((7, 7), True), ((1, 1), True), ((4, 4), False), ((5, 3), False), ((9, 9), False), ((3,), False)],
)
def test_kernels_with_rings_more_or_less_fit(now, fits):
    assert (fitting_shape("full", SHAPE, (16, 8, *now)) == SHAPE) is fits


def test_rings_of_zeros_come_off_again():
    values = layer().values
    larger = np.pad(values, [(0, 0), (0, 0), (2, 2), (2, 2)])
    np.testing.assert_array_equal(fit_kernel(larger, SHAPE), values)
    np.testing.assert_array_equal(fit_kernel(values, (16, 8, 1, 1)), values[:, :, 1:2, 1:2])
    np.testing.assert_array_equal(fit_kernel(fit_kernel(values, (16, 8, 1, 1)), SHAPE)[:, :, 1, 1], values[:, :, 1, 1])


def test_default_carrier_by_size():
    assert default_kind((64, 64, 3, 3)) == "full"
    assert default_kind((512, 512, 3, 3)) == "fold:65536"
    assert vector_size("fold:65536", (512, 512, 3, 3)) == 65536


class TestForeignReadings:
    def test_both_orders_where_the_kernel_has_more_than_one_element(self):
        readings = foreign_readings(foreign_key(np.zeros((72, 5))), SHAPE)
        assert readings == (ProjectionReading("mean-hwi", SHAPE, True), ProjectionReading("mean-ihw", SHAPE, True))

    def test_one_order_where_they_coincide(self):
        assert foreign_readings(foreign_key(np.zeros((8, 5))), (16, 8, 1, 1)) == (
            ProjectionReading("mean-ihw", (16, 8, 1, 1), True),
        )

    def test_orientation_is_told_from_the_layer(self):
        assert not foreign_readings(foreign_key(np.zeros((5, 72))), SHAPE)[0].transposed
        assert foreign_readings(foreign_key(np.zeros((5, 71))), SHAPE) == ()

    def test_a_square_matrix_is_read_both_ways_unless_the_message_tells(self):
        assert len(foreign_readings(foreign_key(np.zeros((72, 72))), SHAPE)) == 4
        assert len(foreign_readings(foreign_key(np.zeros((72, 72)), np.ones(5)), SHAPE)) == 0

    def test_rows_are_the_matrix(self):
        matrix = np.random.default_rng(0).standard_normal((72, 5))
        readings = foreign_readings(foreign_key(matrix), SHAPE)
        scores = projection_of(foreign_key(matrix), readings[0]).scores(layer().values)
        np.testing.assert_allclose(scores, layer().values.mean(0).transpose(1, 2, 0).ravel() @ matrix, rtol=1e-5)
