"""Numbers in mixed radix against NumPy's own index arithmetic, and capacities against exact powers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmark.schemes.structural.mixed_radix import to_digits, to_number, whole_bits

RADICES = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@given(RADICES, st.data())
def test_digits_are_numpys_indices_in_fortran_order(radices, data):
    number = data.draw(st.integers(0, math.prod(radices) - 1))
    assert to_digits(number, radices) == tuple(np.unravel_index(number, radices, order="F"))


@given(RADICES, st.data())
def test_numbers_are_numpys_flat_indices(radices, data):
    digits = tuple(data.draw(st.integers(0, radix - 1)) for radix in radices)
    assert to_number(digits, radices) == np.ravel_multi_index(digits, radices, order="F")


def test_every_number_has_digits_of_its_own():
    radices = (3, 1, 4, 2)
    written = {to_digits(number, radices) for number in range(24)}
    assert len(written) == 24
    assert all(digit < radix for digits in written for digit, radix in zip(digits, radices, strict=True))


@given(st.lists(st.integers(2, 300), min_size=30, max_size=60), st.data())
def test_numbers_of_hundreds_of_bits_come_back(radices, data):
    number = data.draw(st.integers(0, math.prod(radices) - 1))
    assert to_number(to_digits(number, radices), radices) == number


def test_decimal_digits():
    assert to_digits(1984, (10, 10, 10, 10)) == (4, 8, 9, 1)
    assert to_digits(3661, (60, 60, 24)) == (1, 1, 1)


def test_no_digits_hold_nothing_but_zero():
    assert to_digits(0, ()) == ()
    assert to_number((), ()) == 0
    assert whole_bits(()) == 0


@pytest.mark.parametrize("number", [6, 7, 10**30, -1])
def test_a_number_that_does_not_fit(number):
    with pytest.raises(ValueError, match=f"hold 0 to 5, not {number}"):
        to_digits(number, (2, 3))


def test_a_radix_without_values():
    with pytest.raises(ValueError, match="at least one value, not 0"):
        to_digits(0, (2, 0))


@pytest.mark.parametrize("digits", [(2, 0), (0, 3), (-1, 0)])
def test_a_digit_that_is_none(digits):
    with pytest.raises(ValueError, match=r"a digit of radix \d is 0 to \d, not"):
        to_number(digits, (2, 3))


def test_as_many_digits_as_radices():
    with pytest.raises(ValueError, match="zip"):
        to_number((0, 0), (2, 2, 2))


@given(st.lists(st.integers(1, 10**6), max_size=40))
def test_whole_bits_are_the_largest_power_of_two_that_fits(radices):
    product, bits = math.prod(radices), whole_bits(radices)
    assert 2**bits <= product < 2 ** (bits + 1)
