"""Neighbourhoods: who shares a coin, against brute force and scikit-learn's principal axis."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxmark_torch.ingrain import Carriers, neighbourhoods

from tests.adapters.ingrain.subjects import images


def carriers(count: int, n_pairs: int = 1, seed: int = 0) -> Carriers:
    first = np.random.default_rng(seed).integers(0, n_pairs, count)
    return Carriers(images(count, seed), np.stack([first, first + 1], axis=1))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 3))
def test_neighbourhoods_are_small_of_one_pair_and_numbered_by_their_first(count, size, n_pairs):
    found, given_ones = neighbourhoods(carriers(count, n_pairs), size), carriers(count, n_pairs)
    sizes = np.bincount(found)
    assert found.dtype == np.int64
    assert sizes.min() >= 1
    assert sizes.max() <= size
    for number in range(len(sizes)):
        assert len(np.unique(given_ones.pairs[found == number], axis=0)) == 1
    firsts = [int(np.flatnonzero(found == number)[0]) for number in range(len(sizes))]
    assert firsts == sorted(firsts)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 200), st.integers(1, 9))
def test_most_have_more_than_half_of_what_they_may_have(count, size):
    sizes = np.bincount(neighbourhoods(carriers(count), size))
    # Halving stops once a part fits; what was too large gives two of at least half of what did not fit.
    assert count <= size or sizes.min() >= (size + 1) // 2


def test_one_carrier_each_is_everybody_in_order():
    assert neighbourhoods(carriers(30, 3), 1).tolist() == list(range(30))


def test_a_large_enough_neighbourhood_is_everybody_of_the_pair():
    given_ones = carriers(30, 3)
    found = neighbourhoods(given_ones, 30)
    assert len(np.unique(found)) == 3
    for pair in np.unique(given_ones.pairs, axis=0):
        assert len(np.unique(found[(given_ones.pairs == pair).all(axis=1)])) == 1


def test_the_first_halves_lie_on_either_side_along_the_principal_axis():
    decomposition = pytest.importorskip("sklearn.decomposition")
    given_ones = carriers(40)
    along = decomposition.PCA(1).fit_transform(given_ones.images.reshape(40, -1).astype(float))[:, 0]
    found = neighbourhoods(given_ones, 20)
    assert sorted(np.bincount(found)) == [20, 20]
    sides = sorted((along[found == number].min(), along[found == number].max()) for number in (0, 1))
    assert sides[0][1] < sides[1][0]


def test_what_looks_alike_is_together():
    """Four kinds of images, each of its own brightness with a little noise: four neighbourhoods of one kind each."""
    rng = np.random.default_rng(1)
    kinds = rng.permutation(np.repeat([0, 1, 2, 3], 6))
    grey = (20 + 60 * kinds)[:, None, None, None] + rng.integers(0, 5, (24, 1, 6, 6))
    found = neighbourhoods(Carriers(grey.astype(np.uint8), np.tile([0, 1], (24, 1))), 6)
    assert len(set(zip(kinds.tolist(), found.tolist(), strict=True))) == 4


def test_equal_images_are_divided_all_the_same():
    given_ones = Carriers(np.zeros((10, 1, 6, 6), dtype=np.uint8), np.tile([0, 1], (10, 1)))
    assert sorted(np.bincount(neighbourhoods(given_ones, 3))) == [2, 2, 3, 3]


def test_nobody_cannot_be_divided_into_less_than_one():
    with pytest.raises(ValueError, match="a neighbourhood has at least 1 carrier, not 0"):
        neighbourhoods(carriers(3), 0)
