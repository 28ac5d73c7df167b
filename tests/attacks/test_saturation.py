"""Float64 to weights: the nearest float32, never an infinity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmark.attacks.saturation import saturated

LARGEST = float(np.finfo(np.float32).max)


@given(st.floats(-LARGEST, LARGEST))
def test_what_fits_is_rounded_as_numpy_rounds(value):
    result = saturated(np.array([value]))
    assert result.dtype == np.float32
    assert result[0] == np.float32(value)


@pytest.mark.parametrize("value", [1.1 * LARGEST, 1e300, np.inf])
def test_what_does_not_fit_becomes_the_largest_weight_of_its_sign(value):
    np.testing.assert_array_equal(saturated(np.array([value, -value])), np.float32([LARGEST, -LARGEST]))
