"""Block-wise quantisation against ONNX Runtime's quantiser, ONNX's blocked DequantizeLinear, and loops over blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi import _pybind_state as runtime

from onnxmark.attacks import BlockQuantisation, UniformQuantisation, apply_attack

from .subjects import LAYERS, layer, means

any_layer = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), elements=st.floats(-100, 100, width=32)
)
blocks = st.integers(1, 40)
bits = st.integers(2, 8)


def attacked(attack, values):
    return apply_attack(attack, layer(values), means()).values


def by_onnx_runtime(values, size, symmetric):
    """What MatMulNBits would compute with: int4 codes (out, blocks, size), scales and zero points (out, blocks)."""
    rows = values.reshape(len(values), -1)
    n_blocks = -(-rows.shape[1] // size)
    packed = np.zeros((len(rows), n_blocks, size // 2), np.uint8)
    scales = np.zeros(len(rows) * n_blocks, np.float32)
    packed_zeros = np.zeros(len(rows) * ((n_blocks + 1) // 2), np.uint8)
    runtime.quantize_matmul_4bits(
        packed, np.ascontiguousarray(rows.T), scales, packed_zeros, size, len(rows), rows.shape[1], symmetric
    )
    zeros = np.full((len(rows), n_blocks), 8) if symmetric else nibbles(packed_zeros, len(rows))[:, :n_blocks]
    return nibbles(packed, len(rows)).reshape(len(rows), n_blocks, size), scales.reshape(len(rows), n_blocks), zeros


def nibbles(packed, n_rows):
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(n_rows, -1).astype(np.int64)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("size", [16, 32, 64, 128])
@pytest.mark.parametrize("name", ["normal kernel", "heavy-tailed kernel", "linear", "half pruned kernel"])
def test_four_bits_are_what_onnx_runtime_stores(name, size, symmetric):
    values = LAYERS[name]
    codes, scales, zeros = by_onnx_runtime(values, size, symmetric)
    levels = (codes - zeros[..., np.newaxis]) * scales[..., np.newaxis].astype(np.float64)
    expected = levels.reshape(len(values), -1)[:, : values[0].size].reshape(values.shape)
    ours = attacked(BlockQuantisation(4, size, symmetric), values)
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6 * float(np.abs(values).max()))


@pytest.mark.parametrize("symmetric", [True, False])
def test_codes_of_onnx_runtime_through_blocked_dequantize_linear(symmetric):
    values = np.random.default_rng(8).normal(0, 0.1, (6, 96)).astype(np.float32)
    codes, scales, zeros = by_onnx_runtime(values, 32, symmetric)
    graph = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["codes", "scales", "zeros"], ["w"], axis=1, block_size=32)],
        "blocked",
        [
            helper.make_tensor_value_info("codes", TensorProto.UINT8, [6, 96]),
            helper.make_tensor_value_info("scales", TensorProto.FLOAT, [6, 3]),
            helper.make_tensor_value_info("zeros", TensorProto.UINT8, [6, 3]),
        ],
        [helper.make_tensor_value_info("w", TensorProto.FLOAT, [6, 96])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    given_ = {"codes": codes.reshape(6, 96).astype(np.uint8), "scales": scales, "zeros": zeros.astype(np.uint8)}
    expected = ReferenceEvaluator(model).run(None, given_)[0]
    ours = attacked(BlockQuantisation(4, 32, symmetric), values)
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-8)


def nearest_levels(block, levels):
    return np.array([min(levels, key=lambda level: abs(level - float(value))) for value in block])


def symmetric_levels(block, bits_):
    half = 2 ** (bits_ - 1)
    extreme = max(block, key=abs)
    return [-float(extreme) / half * code for code in range(-half, half)]


def affine_levels(block, bits_):
    low, high = min(0.0, *map(float, block)), max(0.0, *map(float, block))
    step = (high - low) / (2**bits_ - 1)
    zero = round(-low / step)
    return [(code - zero) * step for code in range(2**bits_)]


@pytest.mark.parametrize(("symmetric", "levels"), [(True, symmetric_levels), (False, affine_levels)])
@pytest.mark.parametrize("size", [5, 32])
@pytest.mark.parametrize("n_bits", [2, 3, 4, 8])
def test_every_block_rounds_to_the_nearest_of_its_levels(symmetric, levels, size, n_bits):
    values = LAYERS["normal kernel"]
    ours = attacked(BlockQuantisation(n_bits, size, symmetric), values).reshape(8, -1)
    for row, result in zip(values.reshape(8, -1), ours, strict=True):
        for start in range(0, row.size, size):
            block = row[start : start + size]
            np.testing.assert_allclose(
                result[start : start + size], nearest_levels(block, levels(block, n_bits)), rtol=1e-6, atol=1e-9
            )


@given(any_layer, bits, blocks)
def test_symmetric_quantisation_twice_changes_nothing_but_the_last_digit(values, n_bits, size):
    attack = BlockQuantisation(n_bits, size)
    once = attacked(attack, values)
    np.testing.assert_allclose(attacked(attack, once), once, rtol=1e-6)


@given(any_layer, bits, blocks, st.booleans())
def test_zero_is_a_level(values, n_bits, size, symmetric):
    assert not attacked(BlockQuantisation(n_bits, size, symmetric), values)[values == 0].any()


@given(any_layer, bits, blocks)
def test_symmetric_keeps_the_largest_magnitude_of_every_block(values, n_bits, size):
    rows = values.reshape(len(values), -1)
    result = attacked(BlockQuantisation(n_bits, size), values).reshape(rows.shape)
    for start in range(0, rows.shape[1], size):
        expected = np.abs(rows[:, start : start + size]).max(axis=1)
        found = np.abs(result[:, start : start + size]).max(axis=1)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@given(any_layer, bits, blocks, st.booleans())
def test_error_is_at_most_half_a_step_but_at_the_end_with_one_level_less(values, n_bits, size, symmetric):
    rows = values.reshape(len(values), -1).astype(np.float64)
    error = np.abs(attacked(BlockQuantisation(n_bits, size, symmetric), values).reshape(rows.shape) - rows)
    for start in range(0, rows.shape[1], size):
        block = rows[:, start : start + size]
        low, high = np.minimum(block.min(axis=1), 0), np.maximum(block.max(axis=1), 0)
        worst = np.maximum(high, -low) / 2 ** (n_bits - 1) if symmetric else (high - low) / (2**n_bits - 1) / 2
        # Subnormal results round to the nearest 1.4e-45.
        assert np.all(error[:, start : start + size].max(axis=1) <= worst * (1 + 1e-6) + 1.5e-45)


def test_blocks_do_not_reach_over_the_end_of_a_filter():
    values = np.float32([[1, 1, 1, 100, 1], [1, 100, 1, 1, 1]])
    result = attacked(BlockQuantisation(2, block=3), values)
    np.testing.assert_array_equal(result[0], [1, 1, 1, 100, 0])
    np.testing.assert_array_equal(result[1], [0, 100, 0, 1, 1])


def test_small_blocks_are_gentler_than_one_scale_a_channel():
    values = LAYERS["heavy-tailed kernel"]

    def moved(attack):
        return float(np.linalg.norm(attacked(attack, values) - values))

    assert moved(BlockQuantisation(4, 4)) < moved(BlockQuantisation(4, 16)) < moved(BlockQuantisation(4, 36))
    assert moved(BlockQuantisation(4, 16)) < moved(UniformQuantisation(4, per_channel=True, symmetric=True))


@pytest.mark.parametrize("n_bits", [1, 0, 9, 4.0, True, float("nan")])
def test_bits_out_of_range_are_refused(n_bits):
    with pytest.raises(ValueError, match="bits must be a whole number from 2 to 8, found"):
        BlockQuantisation(n_bits)


@pytest.mark.parametrize("size", [0, -32, 32.0, True])
def test_blocks_out_of_range_are_refused(size):
    with pytest.raises(ValueError, match="the block must be a whole number of weights from 1, found"):
        BlockQuantisation(4, block=size)


def test_label_names_block_and_zero_point():
    assert BlockQuantisation(4).label == "quantisation 4 bit, blocks of 32"
    assert BlockQuantisation(4, 128, symmetric=False).label == "quantisation 4 bit, blocks of 128, zero point"
