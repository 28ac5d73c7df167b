"""Block principal pivoting against scipy's non-negative least squares, and against the optimality conditions."""

import numpy as np
import pytest
from scipy.optimize import nnls

from onnxmark.errors import EmbeddingError
from onnxmark.schemes.projection import quadratic
from onnxmark.schemes.projection.quadratic import minimise_nonnegative


def _matrix(size, condition, seed):
    random = np.random.default_rng(seed)
    basis = np.linalg.qr(random.standard_normal((size, size)))[0]
    values = np.geomspace(1, 1 / condition, size)
    matrix = (basis * values) @ basis.T
    return (matrix + matrix.T) / 2


def _reference(matrix, linear):
    factor = np.linalg.cholesky(matrix)
    return nnls(factor.T, np.linalg.solve(factor, linear), maxiter=100 * linear.size)[0]


@pytest.mark.parametrize("condition", [1, 1e3, 1e6, 1e8])
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_nonnegative_least_squares(condition, seed):
    matrix = _matrix(40, condition, seed)
    linear = np.random.default_rng(seed + 100).standard_normal(40)
    found, expected = minimise_nonnegative(matrix, linear).multipliers, _reference(matrix, linear)
    np.testing.assert_allclose(found, expected, atol=1e-7 * max(1, expected.max()))


@pytest.mark.parametrize("seed", range(20))
def test_optimality_conditions_hold(seed):
    random = np.random.default_rng(seed)
    rows = random.standard_normal((60, 70)) * random.lognormal(0, 2, (60, 1))
    matrix, linear = rows @ rows.T, random.standard_normal(60)
    x = minimise_nonnegative(matrix, linear).multipliers
    gradient = matrix @ x - linear
    scale = np.abs(linear).max()
    assert np.all(x >= 0)
    assert np.all(gradient >= -1e-8 * scale)
    assert np.abs(gradient * (x > 0)).max() <= 1e-8 * scale


def test_murty_fallback_reaches_the_same_point(monkeypatch):
    matrix, linear = _matrix(25, 1e4, 3), np.random.default_rng(3).standard_normal(25)
    blocks = minimise_nonnegative(matrix, linear)
    monkeypatch.setattr(quadratic, "_BLOCK_TRIALS", 0)
    single = minimise_nonnegative(matrix, linear)
    np.testing.assert_allclose(single.multipliers, blocks.multipliers, rtol=1e-7, atol=1e-12)


def test_nothing_to_gain_gives_zeros_at_once():
    solution = minimise_nonnegative(np.eye(4), -np.ones(4))
    assert not solution.active.any()
    assert solution.pivots == 1


def test_warm_start_at_the_solution_takes_one_solve():
    matrix, linear = _matrix(30, 1e3, 0), np.random.default_rng(0).standard_normal(30)
    cold = minimise_nonnegative(matrix, linear)
    warm = minimise_nonnegative(matrix, linear, cold.active)
    assert warm.pivots == 1
    np.testing.assert_allclose(warm.multipliers, cold.multipliers, rtol=1e-9, atol=1e-15)


def test_solution_is_read_only():
    with pytest.raises(ValueError, match="read-only"):
        minimise_nonnegative(np.eye(2), np.ones(2)).multipliers[0] = 5


def test_row_of_zeros_is_refused():
    with pytest.raises(EmbeddingError, match="row of zeros"):
        minimise_nonnegative(np.diag([1.0, 0.0]), np.ones(2))


def test_dependent_rows_are_refused():
    with pytest.raises(EmbeddingError, match="linearly dependent"):
        minimise_nonnegative(np.ones((2, 2)), np.ones(2))


def test_pivots_that_do_not_end_are_reported(monkeypatch):
    monkeypatch.setattr(quadratic, "_MAX_PIVOTS", 1)
    with pytest.raises(EmbeddingError, match="did not settle"):
        minimise_nonnegative(np.eye(2), np.ones(2))
