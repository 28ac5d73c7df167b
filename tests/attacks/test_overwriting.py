"""Overwriting: the smallest change that writes the thief's bits, and which marks of the owner survive it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg, optimize

from onnxmark.attacks import Means, Overwriting, apply_attack
from onnxmark.attacks.overwriting import raised
from onnxmark.keys import Carrier, Key, Secret
from onnxmark.schemes.projection.extraction import read_message
from onnxmark.schemes.projection.metric import ActivationMetric
from onnxmark.schemes.projection.projection import own_projection

from .subjects import LAYERS, generator, layer, means

KINDS = ["mean-ihw", "mean-hwi", "full", "fold:64"]
HOST = generator(8).normal(0, 0.05, (64, 32, 3, 3)).astype(np.float32)


def projection_of(kind, shape, n_bits, seed=b"s", rows="rademacher"):
    parameters = {"generator": rows, "carrier": kind}
    payload = np.zeros(n_bits, np.uint8)
    key = Key("projection", Secret(seed * 32), bytes(32), payload, (Carrier(shape),), parameters)
    return own_projection(key, shape)


def signed_scores(projection, values):
    return np.where(projection.message == 1, 1, -1) * projection.scores(values)


def read(projection, values):
    return read_message(projection, layer(values), fair=True)


def smallest_change(projection, values, target, cost):
    """The same programme as a least-distance problem (Lawson and Hanson 1974, chapter 23), solved by SciPy's nnls.

    ``cost`` (n, n) is what a change of the n weights costs; coordinates in which it is the identity make it a distance.
    """
    units = np.eye(values.size, dtype=np.float32).reshape(-1, *values.shape)
    lower = linalg.cholesky(cost, lower=True)
    columns = np.array([signed_scores(projection, unit) for unit in units])
    seen = linalg.solve_triangular(lower, columns, lower=True)
    shortfall = target - signed_scores(projection, values)
    system = np.vstack([seen, shortfall])
    goal = np.append(np.zeros(values.size), 1.0)
    residual = system @ optimize.nnls(system, goal)[0] - goal
    return linalg.solve_triangular(lower.T, -residual[:-1] / residual[-1]).reshape(values.shape)


@pytest.mark.parametrize("kind", KINDS)
def test_raised_weights_are_the_nearest_that_reach_the_target(kind):
    values = generator(2).normal(0, 1, (4, 3, 2, 2)).astype(np.float32)
    projection = projection_of(kind, values.shape, 4)
    target = 2 * projection.unit(values)
    found = raised(values, projection, target) - values
    np.testing.assert_allclose(found, smallest_change(projection, values, target, np.eye(48)), atol=1e-5)
    assert np.linalg.norm(found) > 0.1


@pytest.mark.parametrize("kind", ["mean-ihw", "full"])
def test_raised_weights_are_the_nearest_in_a_metric_of_activations(kind):
    rng = generator(3)
    values = rng.normal(0, 1, (3, 2, 2, 2)).astype(np.float32)
    patches = rng.standard_normal((40, 8)) * np.linspace(0.2, 3, 8)
    metric = ActivationMetric((patches.T @ patches / 40)[None])
    projection = projection_of(kind, values.shape, 3)
    target = 2 * projection.unit(values)
    cost = metric.second_moment[0] / np.trace(metric.second_moment[0]) * 8 + 0.1 * np.eye(8)
    expected = smallest_change(projection, values, target, np.kron(np.eye(3), cost))
    np.testing.assert_allclose(raised(values, projection, target, metric) - values, expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_bit_reaches_the_target_and_some_just_so(kind):
    values = LAYERS["normal kernel"]
    projection = projection_of(kind, values.shape, 16, rows="gaussian")
    target = 3 * projection.unit(values)
    reached = signed_scores(projection, raised(values, projection, target))
    assert reached.min() == pytest.approx(target, rel=1e-4)


def test_a_message_that_reads_well_enough_already_costs_nothing():
    projection = projection_of("full", HOST.shape, 64)
    marked = raised(HOST, projection, 3 * projection.unit(HOST))
    np.testing.assert_array_equal(raised(marked, projection, 2 * projection.unit(HOST)), marked)


def test_a_mark_in_the_mean_goes_under_and_one_in_the_full_tensor_stays():
    in_mean, in_full = (projection_of(kind, HOST.shape, 128) for kind in ("mean-ihw", "full"))
    in_mean_marked = raised(HOST, in_mean, in_mean.unit(HOST))
    in_full_marked = raised(HOST, in_full, 2 * in_full.unit(HOST))
    assert read(in_mean, in_mean_marked).n_errors == read(in_full, in_full_marked).n_errors == 0
    attack = Overwriting(3.0, n_bits=128)
    overwritten = apply_attack(attack, layer(in_mean_marked), means()).values
    assert read(in_mean, overwritten).bit_error_rate > 0.25
    assert read(in_full, apply_attack(attack, layer(in_full_marked), means()).values).n_errors == 0


def test_the_more_margin_the_more_of_the_layer_changes():
    changes = [
        np.linalg.norm(apply_attack(Overwriting(margin), layer(HOST), means()).values - HOST)
        for margin in (0.5, 1.0, 2.0, 3.0)
    ]
    assert changes == sorted(changes)
    assert changes[0] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_thief_can_read_what_was_written(kind):
    overwritten = apply_attack(Overwriting(2.0, n_bits=32, carrier=kind), layer(HOST), means(5)).values
    rng = generator(5)
    parameters = {"generator": "gaussian", "carrier": kind}
    payload = np.zeros(32, np.uint8)
    key = Key("projection", Secret(rng.bytes(32)), rng.bytes(32), payload, (Carrier(HOST.shape),), parameters)
    projection = own_projection(key, HOST.shape)
    assert signed_scores(projection, overwritten).min() == pytest.approx(2 * projection.unit(HOST), rel=1e-3)
    assert read(projection, HOST).n_errors > 0


def test_mean_carriers_change_all_filters_alike():
    change = apply_attack(Overwriting(1.0), layer(HOST), means()).values - HOST
    assert np.ptp(change, axis=0).max() < 1e-6 < np.abs(change).max()


def test_several_marks_are_written_one_after_the_other():
    rng, values = generator(4), layer(HOST)
    for _ in range(3):
        values = apply_attack(Overwriting(1.0, n_bits=16), values, Means(rng))
    together = apply_attack(Overwriting(1.0, n_bits=16, marks=3), layer(HOST), means(4))
    np.testing.assert_array_equal(together.values, values.values)


def test_a_small_layer_takes_half_as_many_bits_as_its_carrier_has_entries():
    values = LAYERS["linear"]
    most, half, fewer = (
        apply_attack(Overwriting(2.0, n_bits=n_bits), layer(values), means()).values for n_bits in (256, 8, 7)
    )
    np.testing.assert_array_equal(most, half)
    assert not np.array_equal(half, fewer)


@pytest.mark.parametrize("name", ["constant kernel", "zero kernel", "one weight"])
@pytest.mark.parametrize("kind", ["mean-ihw", "full", "fold:2"])
def test_layers_that_can_bear_no_mark_are_left_alone(name, kind):
    values = LAYERS[name]
    np.testing.assert_array_equal(
        apply_attack(Overwriting(3.0, carrier=kind, marks=2), layer(values), means()).values, values
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"margin": 0}, "margin of overwriting must be finite and positive, found 0"),
        ({"margin": float("inf")}, "margin of overwriting must be finite and positive, found inf"),
        ({"margin": float("nan")}, "margin of overwriting must be finite and positive, found nan"),
        ({"n_bits": 0}, "n_bits must be a whole number from 1 to 8192, found 0"),
        ({"n_bits": 8193}, "n_bits must be a whole number from 1 to 8192, found 8193"),
        ({"n_bits": 2.0}, r"n_bits must be a whole number from 1 to 8192, found 2\.0"),
        ({"marks": 0}, "marks must be a whole number from 1, found 0"),
        ({"marks": True}, "marks must be a whole number from 1, found True"),
        ({"carrier": "median"}, "overwriting: unknown carrier 'median'; there are full"),
        ({"carrier": "fold:3"}, "overwriting: carrier 'fold:3': the number of buckets must be a power of two"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        Overwriting(**parameters)


def test_label_shows_what_differs_from_the_default():
    assert Overwriting().label == "overwriting in mean-ihw, margin 3"
    assert (
        Overwriting(1.5, n_bits=64, carrier="full", marks=4).label
        == "overwriting in full, margin 1.5, 64 bits, 4 marks"
    )
