"""Means and their limits in words: read back, they are the numbers they came from."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmark.report.pages.figures import (
    BYTES,
    NOTHING,
    SECONDS,
    change,
    interval,
    measured,
    plain_number,
    rate,
    score,
)

FINITE = st.floats(-1e300, 1e300)


def of(mean, low=None, high=None, n=3):
    return {"mean": mean, "low": low, "high": high, "n": n}


def number(text):
    return float(text.replace("−", "-").replace(",", ""))


def read(text):
    """Mean, limits and unit, as a reader would take them."""
    mean, unit, low, high = re.fullmatch(r"(\S+)(?: (\w+))?(?: \[(\S+), (\S+)\])?", text).groups()
    return number(mean), unit, low and number(low), high and number(high)


@pytest.mark.parametrize(
    ("mean", "text"),
    [
        (None, NOTHING),
        (of(0.125), "0.125"),
        (of(0.125, 0.1, 0.15), "0.125 [0.100, 0.150]"),
        (of(0.004, -0.002, 0.01), "0.004 [−0.002, 0.010]"),
        (of(0.125, 0.1, None), "0.125"),
    ],
)
def test_an_interval(mean, text):
    assert interval(mean, rate) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.0031, "−0.0031"), (0.0004, "+0.0004"), (0.0, "0.0000"), (-0.00001, "0.0000"), (-12345.6, "−1.235e+04")],
)
def test_a_change_has_a_sign_unless_it_is_none(value, text):
    assert change(value) == text


@given(FINITE)
def test_scores_read_back(value):
    found = number(score(value))
    assert math.isclose(found, value, rel_tol=6e-4, abs_tol=5e-5 + 1e-12)
    assert len(score(value)) <= 12


@given(FINITE)
def test_three_digits_read_back(value):
    found = number(plain_number(value))
    assert math.isclose(found, value, rel_tol=0.006, abs_tol=1e-300)
    assert len(plain_number(value)) <= 12


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0123, "12.3 ms"),
        (1.5, "1.5 s"),
        (90.0, "1.5 min"),
        (7200.0, "2 h"),
        (2.5e-6, "2.5 µs"),
        (0.0, "0 µs"),
        (1e-9, "0.001 µs"),
    ],
)
def test_seconds(seconds, text):
    assert measured(of(seconds), SECONDS) == text


def test_limits_are_in_the_unit_of_the_mean():
    assert measured(of(5.2e8, 5.16e8, 1.2e9), BYTES) == "520 MB [516, 1,200]"
    assert measured(of(0.001, -0.0002, 0.0022), SECONDS) == "1 ms [−0.2, 2.2]"
    assert measured(None, BYTES) == NOTHING


@given(st.floats(0, 1e15), st.floats(0, 1e15), st.sampled_from([SECONDS, BYTES]))
def test_quantities_read_back_in_their_unit(mean, half, units):
    text = measured(of(mean, mean - half, mean + half), units)
    found, unit, low, high = read(text)
    size = dict(units)[unit]
    assert math.isclose(found * size, mean, rel_tol=0.006, abs_tol=1e-200)
    assert math.isclose(low * size, mean - half, rel_tol=0.006, abs_tol=1e-200)
    assert math.isclose(high * size, mean + half, rel_tol=0.006, abs_tol=1e-200)
    assert found >= 0.999 or unit == units[-1][0]
