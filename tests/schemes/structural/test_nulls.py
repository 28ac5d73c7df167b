"""Tails against enumerations of every key there is."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from onnxmark.schemes.structural.nulls import (
    Sight,
    log10_code_word,
    log10_matches_tail,
    log10_remains_tail,
    sight,
)

CHOICES = st.builds(
    lambda low, count, step: range(low, low + count * step, step),
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(1, 3),
)
SUSPECTS = st.lists(st.tuples(CHOICES, st.one_of(st.none(), st.integers(1, 30))), min_size=1, max_size=4)


@given(CHOICES, st.integers(1, 30), st.data())
def test_a_sight_counts_the_widths_between(choices, width, data):
    expected = data.draw(st.sampled_from(choices))
    found = sight(width, expected, choices)
    above = [choice for choice in choices if choice >= width]
    assert found == (len(choices), len(above), len([choice for choice in above if choice <= expected]))


def test_a_layer_that_is_not_there_shows_nothing():
    assert sight(None, 5, range(4, 9)) == Sight(5, 0, 0)


def scored(suspects, expected) -> int:
    """The statistic, from its definition: 32nds of a bit of n over the place from the width found upwards."""
    total = 0
    for (choices, width), wanted in zip(suspects, expected, strict=True):
        if width is not None and wanted >= width:
            place = [choice for choice in choices if choice >= width].index(wanted) + 1
            total += round(32 * math.log2(len(choices) / place))
    return total


@settings(max_examples=60)
@given(SUSPECTS, st.data())
def test_the_tail_is_the_share_of_keys_that_fit_as_well(suspects, data):
    expected = [data.draw(st.sampled_from(choices)) for choices, _ in suspects]
    observed = scored(suspects, expected)
    every = list(itertools.product(*(choices for choices, _ in suspects)))
    share = sum(scored(suspects, other) >= observed for other in every) / len(every)
    sights = [sight(width, wanted, choices) for (choices, width), wanted in zip(suspects, expected, strict=True)]
    assert 10 ** log10_remains_tail(sights) == pytest.approx(share, rel=1e-9)


def test_all_right_is_the_product_of_chances():
    radices = (26, 26, 52, 103, 205)
    sights = [Sight(radix, radix // 2, 1) for radix in radices]
    assert log10_remains_tail(sights) == pytest.approx(-sum(map(math.log10, radices)), rel=1e-12)
    assert log10_matches_tail(radices, 5) == pytest.approx(-sum(map(math.log10, radices)), rel=1e-12)


def test_nothing_seen_proves_nothing():
    assert log10_remains_tail([Sight(26, 0, 0)] * 5) == 0
    assert log10_matches_tail((), 0) == 0
    assert log10_matches_tail((5, 6), 0) == 0


def test_the_fewer_channels_are_lost_the_rarer_it_is():
    tails = [log10_remains_tail([Sight(26, 20, lost)] * 10) for lost in range(1, 21)]
    assert tails == sorted(tails)
    assert tails[0] < -14 < -9 < tails[2]


def test_hundreds_of_layers_end_at_the_smallest_number_told():
    assert log10_remains_tail([Sight(200, 200, 1)] * 300) == -290


@given(st.integers(1, 30), st.integers(2, 60), st.data())
def test_equal_radices_are_binomial(count, radix, data):
    matches = data.draw(st.integers(0, count))
    expected = binom.sf(matches - 1, count, 1 / radix)
    assert 10 ** log10_matches_tail((radix,) * count, matches) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_matches_are_counted_over_all_keys(radices, data):
    matches = data.draw(st.integers(0, len(radices)))
    every = list(itertools.product(*map(range, radices)))
    share = sum(digits.count(0) >= matches for digits in every) / len(every)
    assert 10 ** log10_matches_tail(radices, matches) == pytest.approx(share, rel=1e-9)


def test_code_words_are_two_to_the_message_of_all_widths():
    radices = (4, 5, 6, 300)
    assert 10 ** log10_code_word(radices, 5) == pytest.approx(32 / math.prod(radices))


def test_scores_do_not_depend_on_the_order_of_layers():
    sights = [Sight(26, 20, 3), Sight(52, 40, 1), Sight(13, 5, 0), Sight(205, 200, 90)]
    tails = [log10_remains_tail(order) for order in itertools.permutations(sights)]
    np.testing.assert_allclose(tails, tails[0], rtol=1e-12)
