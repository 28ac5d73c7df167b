"""Axes: positions are monotone and stay on the paper, ticks are round and not too many."""

import math
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from onnxmark.report.scales import Linear, SquareRoot, spread

FINITE = st.floats(allow_nan=False, allow_infinity=False)


def is_round(value):
    mantissa = abs(value) / 10 ** math.floor(math.log10(abs(value)))
    return any(math.isclose(mantissa, unit, rel_tol=1e-9) for unit in (1, 2, 5, 10))


class TestLinear:
    @given(FINITE, FINITE, FINITE)
    def test_stays_on_the_paper(self, low, high, value):
        assert 10 <= Linear(low, high, 10, 90)(value) <= 90

    def test_positions(self):
        scale = Linear(0, 4, 100, 20)
        assert [scale(value) for value in (0, 1, 4, 9, -1)] == [100, 80, 20, 20, 100]

    @given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(3, 12))
    def test_ticks_are_few_within_and_evenly_apart(self, low, span, most):
        # Of a range that is a billionth of its place no tick can be written with the digits a double has.
        assume(span >= 1e-9 * abs(low))
        high = low + span
        ticks = Linear(low, high, 0, 1).ticks(most)
        assert len(ticks) <= most
        assert all(low - span * 1e-6 <= tick <= high + span * 1e-6 for tick in ticks)
        if len(ticks) > 2:
            assert is_round(ticks[1] - ticks[0]) or abs(low) > 1e3 * span

    def test_no_range_has_one_tick(self):
        assert Linear(3, 3, 0, 1).ticks() == (3,)
        assert Linear(-1.7e308, 1.7e308, 0, 1).ticks() == (-1.7e308,)


class TestSquareRoot:
    @given(st.floats(1e-6, 1e6), FINITE)
    def test_stays_on_the_paper(self, high, value):
        assert 10 <= SquareRoot(high, 90, 10)(value) <= 90

    def test_a_quarter_of_the_evidence_stands_at_half_the_height(self):
        assert SquareRoot(80, 100, 0)(20) == pytest.approx(50)

    @given(st.floats(1e-6, 1e6), st.floats(5, 40))
    def test_ticks_are_round_and_apart(self, high, apart):
        scale = SquareRoot(high, 200, 0)
        ticks = scale.ticks(apart)
        assert ticks[0] == 0
        assert all(is_round(tick) and tick <= high for tick in ticks[1:])
        places = [scale(tick) for tick in ticks]
        assert all(before - after >= apart for before, after in pairwise(places))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_spread_holds_every_value_and_zero(values):
    low, high = spread(values, 0.01)
    assert low <= min(0, *values)
    assert high >= max(0, *values)
    assert high - low >= 0.01 * (1 - 1e-9)
