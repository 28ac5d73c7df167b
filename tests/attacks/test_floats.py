"""Rounding to small floats against ONNX's own Cast, and against a list of all numbers of the format."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from onnxmark.attacks import FloatRounding, apply_attack

from .subjects import LAYERS, layer, means

FORMATS = ("float16", "bfloat16", "float8_e4m3", "float8_e5m2")
ONNX_TYPES = {
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "float8_e4m3": TensorProto.FLOAT8E4M3FN,
    "float8_e5m2": TensorProto.FLOAT8E5M2,
}
LARGEST = {"float8_e4m3": 448.0, "float8_e5m2": 57344.0}
EIGHT_BITS = tuple(LARGEST)
any_layer = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), elements=st.floats(-100, 100, width=32)
)


def attacked(name, values):
    return apply_attack(FloatRounding(name), layer(values), means()).values


def through_onnx(name, values, scale=1.0):
    """Divide, Cast there and back, multiply: as ONNX's reference evaluator does it."""
    nodes = [
        helper.make_node("Div", ["w", "scale"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["small"], to=ONNX_TYPES[name]),
        helper.make_node("Cast", ["small"], ["large"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["large", "scale"], ["result"]),
    ]
    graph = helper.make_graph(
        nodes,
        "cast",
        [
            helper.make_tensor_value_info("w", TensorProto.FLOAT, values.shape),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, []),
        ],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, values.shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    onnx.checker.check_model(model)
    return ReferenceEvaluator(model).run(None, {"w": values, "scale": np.float32(scale)})[0]


def numbers(name):
    """All finite numbers of an 8-bit format, ascending, from what its 256 codes mean."""
    dtype = {"float8_e4m3": ml_dtypes.float8_e4m3fn, "float8_e5m2": ml_dtypes.float8_e5m2}[name]
    every = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float64)
    return np.unique(every[np.isfinite(every)])


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("situation", ["normal kernel", "heavy-tailed kernel", "linear", "subnormal"])
def test_sixteen_bits_are_onnx_cast(name, situation):
    np.testing.assert_array_equal(attacked(name, LAYERS[situation]), through_onnx(name, LAYERS[situation]))


@pytest.mark.parametrize("name", EIGHT_BITS)
@pytest.mark.parametrize("situation", ["normal kernel", "heavy-tailed kernel", "linear"])
def test_eight_bits_are_onnx_cast_with_a_scale(name, situation):
    values = LAYERS[situation]
    scale = np.abs(values).max() / np.float32(LARGEST[name])
    np.testing.assert_allclose(attacked(name, values), through_onnx(name, values, scale), rtol=3e-7)


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_eight_bits_take_the_nearest_of_all_numbers_of_the_format(name):
    values = LAYERS["normal kernel"]
    scale = float(np.abs(values).max()) / LARGEST[name]
    levels = numbers(name) * scale
    nearest = levels[np.abs(values.reshape(-1, 1).astype(np.float64) - levels).argmin(axis=1)]
    np.testing.assert_allclose(attacked(name, values).reshape(-1), nearest, rtol=1e-7)


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_a_code_of_eight_bits_is_enough(name):
    values = np.random.default_rng(4).standard_cauchy((64, 400)).astype(np.float32)
    assert 100 < len(np.unique(attacked(name, values))) <= 256


@pytest.mark.parametrize("name", EIGHT_BITS)
@given(values=any_layer)
def test_the_scale_keeps_the_largest_weight_and_follows_the_layer(name, values):
    result = attacked(name, values)
    assert np.abs(result).max() == np.abs(values).max()
    np.testing.assert_array_equal(attacked(name, values * np.float32(0.25)), result * np.float32(0.25))


@pytest.mark.parametrize(("name", "digits"), [("float16", 11), ("bfloat16", 8)])
@given(values=hnp.arrays(np.float32, (3, 4), elements=st.floats(2.0**-13, 100, width=32)))
def test_relative_error_is_half_a_unit_in_the_last_place(name, digits, values):
    error = np.abs(attacked(name, values).astype(np.float64) - values)
    assert np.all(error <= values * 2.0**-digits)


@pytest.mark.parametrize("name", FORMATS)
@given(values=any_layer)
def test_rounding_twice_changes_nothing(name, values):
    once = attacked(name, values)
    np.testing.assert_array_equal(attacked(name, once), once)


@pytest.mark.parametrize("name", FORMATS)
@given(values=any_layer)
def test_sign_and_zero_stay(name, values):
    result = attacked(name, values)
    np.testing.assert_array_equal(result, -attacked(name, -values))
    assert not result[values == 0].any()


@pytest.mark.parametrize(("name", "largest"), [("float16", 65504.0), ("bfloat16", float(np.float32(2**128 - 2**120)))])
def test_weights_beyond_the_range_saturate(name, largest):
    limit = np.finfo(np.float32).max
    np.testing.assert_array_equal(
        attacked(name, np.float32([[limit, -limit, 1]])), np.float32([[largest, -largest, 1]])
    )


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_ties_go_to_the_even_mantissa(name):
    ulp = {"float16": 2.0**-10, "bfloat16": 2.0**-7}[name]
    values = np.float32([[1 + ulp / 2, 1 + 3 * ulp / 2]])
    np.testing.assert_array_equal(attacked(name, values), np.float32([[1, 1 + 2 * ulp]]))


def test_each_format_is_coarser_than_the_one_before():
    values = LAYERS["normal kernel"]
    errors = [float(np.linalg.norm(attacked(name, values) - values)) for name in FORMATS]
    assert errors == sorted(errors)
    assert errors[0] > 0


@pytest.mark.parametrize("name", ["float32", "fp16", "FLOAT16", "", "float8_e4m3fn"])
def test_unknown_formats_are_refused(name):
    with pytest.raises(ValueError, match=rf"one of float16, bfloat16, float8_e4m3, float8_e5m2, found '{name}'"):
        FloatRounding(name)


def test_parameter_is_the_bits_and_label_the_format():
    assert [FloatRounding(name).parameter for name in FORMATS] == [16, 16, 8, 8]
    assert FloatRounding("bfloat16").label == "rounding to bfloat16"
