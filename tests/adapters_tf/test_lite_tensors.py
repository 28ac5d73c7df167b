from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from onnxmark_tf.lite_tensors import _dequantised, _unique


def quantisation(scale, zero=None, axis=0):
    """What a flatbuffer says of a quantised tensor; today's converter writes zero points of 0 only."""
    return SimpleNamespace(
        ScaleIsNone=lambda: scale is None,
        ScaleAsNumpy=lambda: scale,
        ZeroPointIsNone=lambda: zero is None,
        ZeroPointAsNumpy=lambda: zero,
        QuantizedDimension=lambda: axis,
    )


CODES = np.random.default_rng(0).integers(0, 256, (4, 3, 2, 5)).astype(np.uint8)


@pytest.mark.parametrize("axis", [0, 3])
@pytest.mark.parametrize("zeros", ["none", "one", "each"])
def test_each_code_by_hand(axis, zeros):
    length = CODES.shape[axis]
    scale = np.linspace(0.1, 0.9, length)
    zero = {"none": None, "one": np.array([128]), "each": np.arange(length)}[zeros]
    values = _dequantised(CODES, quantisation(scale, zero, axis))
    for index in product(*map(range, CODES.shape)):
        channel = index[axis]
        shift = 0 if zero is None else zero[channel if zeros == "each" else 0]
        assert values[index] == pytest.approx((int(CODES[index]) - int(shift)) * scale[channel])


def test_one_scale_for_all():
    values = _dequantised(CODES, quantisation(np.array([0.5]), np.array([3]), 1))
    np.testing.assert_array_equal(values, (CODES.astype(float) - 3) * 0.5)


def test_codes_without_a_scale_are_no_weights():
    assert _dequantised(CODES, None) is None
    assert _dequantised(CODES, quantisation(None)) is None


def test_a_name_that_is_taken_gets_a_number():
    assert _unique("conv", {}) == "conv"
    assert _unique("conv", {"conv": 0, "conv#2": 0}) == "conv#3"
