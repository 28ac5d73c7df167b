"""Soup: a mixture between two exact ends."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onnxmark.attacks import Means, Soup, apply_attack
from onnxmark.errors import AttackError

from .subjects import LAYERS, generator, layer, means

LARGEST = float(np.finfo(np.float32).max)
pairs = arrays(np.float32, (2, 3, 2), elements=st.floats(-LARGEST, LARGEST, width=32))
shares = st.floats(0, 1)


def mixed(share, values, reference):
    given_means = Means(generator(), reference=reference.copy())
    return apply_attack(Soup(share), layer(values), given_means).values


@given(pairs, shares)
def test_mixture_is_what_exact_arithmetic_gives(pair, share):
    result = mixed(share, *pair)
    for weight, other, found in zip(pair[0].flat, pair[1].flat, result.flat, strict=True):
        exact = (1 - Fraction(share)) * Fraction(float(weight)) + Fraction(share) * Fraction(float(other))
        size = max(abs(float(weight)), abs(float(other)))
        assert abs(Fraction(float(found)) - exact) <= Fraction(size) / 2**23 + Fraction(1e-45)


@given(pairs)
def test_both_ends_are_exact(pair):
    np.testing.assert_array_equal(mixed(0, *pair), pair[0])
    np.testing.assert_array_equal(mixed(1, *pair), pair[1])


@given(pairs, shares)
def test_mixture_stays_between_its_parts(pair, share):
    result = mixed(share, *pair)
    assert np.all(result >= pair.min(axis=0))
    assert np.all(result <= pair.max(axis=0))


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_trading_places_trades_shares(share):
    one, other = LAYERS["linear"], generator(3).normal(size=(10, 16)).astype(np.float32)
    np.testing.assert_array_equal(mixed(share, one, other), mixed(1 - share, other, one))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_reference_that_is_not_finite_is_refused(value):
    values = LAYERS["linear"]
    spoilt = values.copy()
    spoilt[0, 0] = value
    with pytest.raises(AttackError, match="reference layer of the soup is not all finite; give another --reference"):
        apply_attack(Soup(0.5), layer(values), replace(means(), reference=spoilt))


def test_changing_without_a_reference_is_a_mistake():
    with pytest.raises(ValueError, match="a soup needs a reference, found none"):
        Soup(0.5).change(LAYERS["linear"], means())


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_shares_out_of_range_are_refused(share):
    with pytest.raises(ValueError, match=r"must be from 0 to 1 \(0.5 for half\), found (-0\.1|1\.1|nan)"):
        Soup(share)


def test_label_shows_the_share():
    assert Soup(0.125).label == "soup with the reference 12.5 %"
