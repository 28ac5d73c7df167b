"""Random keys on architectures that carry another mark, or that somebody else pruned: as often right as promised."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks.structural_nulls import CAMPAIGNS, drawn, null_tails

from .keys import SCHEME, carriers, key

NETWORK = carriers(32, 32, 64, 64, 128, 128, 128)
COUNT = 2000


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_small_p_values_are_as_rare_as_promised(campaign):
    tails = null_tails(NETWORK, campaign, COUNT)
    assert tails.shape == (COUNT, 3)
    for level in (0.3, 0.1, 0.03, 0.01):
        hits = (10**tails <= level * (1 + 1e-9)).sum(axis=0)
        # No test exceeds its level by more than chance does, once in 10,000 times.
        assert (hits <= binom.ppf(0.9999, COUNT, level)).all()
    # The leading test has so many values that it reaches its level, too.
    assert (10 ** tails[:, 0] <= 0.1).sum() >= binom.ppf(0.0001, COUNT, 0.09)


def test_a_seed_gives_the_same_audits():
    one, other, third = (null_tails(NETWORK, CAMPAIGNS[0], 5, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, third)


def test_a_cheap_key_differs_from_others_in_its_widths_only():
    made = key(1)
    one, other = drawn(made, "one"), drawn(made, "other")
    assert one.carriers == other.carriers == made.carriers
    assert SCHEME.widths(one) != SCHEME.widths(other)
    assert SCHEME.widths(one) == SCHEME.widths(drawn(made, "one"))
