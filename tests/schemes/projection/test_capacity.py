"""Gardner's figures, the limits of one-hot keys, and the words that go with them."""

import math

import pytest

from onnxmark.errors import KeyFileError
from onnxmark.schemes.projection.capacity import capacity, gardner_energy, gardner_margin

CONV = (64, 64, 3, 3)


@pytest.mark.parametrize(("margin", "energy"), [(0, 0.5), (0.5, 1.04), (1, 1.92), (2, 4.99), (3, 10.0)])
def test_energy_at_known_points(margin, energy):
    assert gardner_energy(margin) == pytest.approx(energy, abs=0.006)


@pytest.mark.parametrize(
    ("load", "margin"),
    [(0.05, 4.36), (0.1, 3.0), (0.25, 1.74), (0.444, 1.14), (0.89, 0.56), (1.5, 0.19), (2, 0.0), (3, 0.0)],
)
def test_largest_margin_at_known_loads(load, margin):
    assert gardner_margin(load) == pytest.approx(margin, abs=0.006)


@pytest.mark.parametrize(
    ("n_bits", "kind", "words"),
    [
        (256, "full", "comfortable"),
        (57, "mean-hwi", "comfortable"),
        (58, "mean-hwi", "tight"),
        (256, "mean-hwi", "tight"),
        (400, "mean-hwi", "poor"),
        (1151, "mean-hwi", "poor"),
        (1152, "mean-hwi", "over capacity"),
    ],
)
def test_suitability(n_bits, kind, words):
    assert capacity(CONV, n_bits, kind).suitability == words


@pytest.mark.parametrize(
    ("generator", "n_bits", "largest"),
    [("direct", 144, 2.0), ("direct", 576, 1.0), ("direct", 577, 0.0), ("diff", 288, math.sqrt(2)), ("diff", 289, 0.0)],
)
def test_one_hot_keys_end_where_their_positions_end(generator, n_bits, largest):
    found = capacity(CONV, n_bits, "mean-ihw", generator)
    assert found.largest_margin == pytest.approx(largest)
    assert found.feasible == (largest > 2)


def test_record_names_its_terms():
    found = capacity(CONV, 256, "full", margin=2.0)
    assert (found.n_bits, found.size, found.n_weights, found.margin) == (256, 36864, 36864, 2.0)
    assert found.load == pytest.approx(256 / 36864)
    assert found.feasible


@pytest.mark.parametrize("generator", ["rademacher", "direct"])
def test_small_loads_follow_the_simple_law(generator):
    found = capacity((512, 512, 3, 3), 256, "full", generator, 2.0)
    simple = math.sqrt(256 * gardner_energy(2.0) / 512**2 / 9)
    assert found.relative_change == pytest.approx(simple, rel=0.01)
    assert simple == pytest.approx(0.023, abs=0.0005)


@pytest.mark.parametrize("kind", ["mean-ihw", "fold:4096"])
def test_change_of_the_weights_spreads_that_of_the_vector(kind):
    found = capacity(CONV, 64, kind, margin=1.0)
    assert found.relative_change == pytest.approx(found.vector_change * math.sqrt(found.size / found.n_weights))


@pytest.mark.parametrize("generator", ["rademacher", "direct"])
def test_change_is_infinite_beyond_the_largest_margin(generator):
    found = capacity(CONV, 400, "mean-ihw", generator, 3.0)
    assert not found.feasible
    assert found.relative_change == math.inf


def test_change_grows_with_margin_and_bits():
    changes = [
        capacity(CONV, bits, "full", margin=m).relative_change for bits, m in ((64, 1), (256, 1), (256, 2), (1024, 2))
    ]
    assert changes == sorted(changes)


def test_unknown_carrier_is_refused():
    with pytest.raises(KeyFileError, match="unknown carrier 'median'"):
        capacity(CONV, 8, "median")


@pytest.mark.parametrize(("n_bits", "margin"), [(0, 1.0), (8, 0.0), (8, float("nan"))])
def test_capacity_needs_bits_and_a_margin(n_bits, margin):
    with pytest.raises(ValueError, match="at least one bit and a positive margin"):
        capacity(CONV, n_bits, "full", margin=margin)
