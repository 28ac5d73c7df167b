"""Which weights of a framework lie in which layer: what exporters do to them, and what must not be taken for it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxmark.conversion import SourceWeights
from onnxmark.conversion.origins import FARTHEST, ORIGINS, from_record, match, to_record
from onnxmark.errors import ConversionError
from onnxmark.model import open_model
from tests.conversion.adapters import source_weights
from tests.onnx_models import conv_chain, kernel

SHAPES = [(8, 3, 3, 3), (16, 8, 3, 3), (16, 16, 3, 3), (4, 16, 1, 1)]


def matched(path, kernels, weights):
    with open_model(conv_chain(path / "m.onnx", kernels)) as model:
        return match(model, weights)


def test_equal_weights_are_found_whatever_they_are_called(tmp_path):
    kernels = [kernel(shape, seed) for seed, shape in enumerate(SHAPES)]
    origins = matched(tmp_path, kernels, source_weights(kernels)[::-1])
    assert [(o.site, o.weights) for o in origins] == [(f"conv{i}.weight", f"net.{i}.kernel") for i in range(4)]
    assert all(o.error == 0 and o.factors is None and o.order == "OIHW" for o in origins)
    assert [o.shape for o in origins] == SHAPES


def test_a_folded_normalisation_shows_as_its_factors(tmp_path):
    rng = np.random.default_rng(0)
    kernels = [kernel(shape, seed) for seed, shape in enumerate(SHAPES)]
    scales = [rng.normal(1, 0.5, len(k)).astype(np.float32) for k in kernels]
    scales[1][3] = 0.0
    folded = [k * s.reshape(-1, 1, 1, 1) for k, s in zip(kernels, scales, strict=True)]
    for origin, scale in zip(matched(tmp_path, folded, source_weights(kernels)), scales, strict=True):
        np.testing.assert_allclose(origin.factors, scale, rtol=1e-5, atol=1e-7)
        assert origin.error < 1e-6


def test_one_factor_for_all_filters_is_folding_too(tmp_path):
    weights = kernel((8, 3, 3, 3))
    (origin,) = matched(tmp_path, [weights * 1.01], source_weights([weights]))
    np.testing.assert_allclose(origin.factors, np.full(8, 1.01), rtol=1e-5)


def test_a_dead_filter_stays_dead_without_a_factor_of_zero(tmp_path):
    weights = kernel((8, 3, 3, 3))
    weights[2] = 0
    (origin,) = matched(tmp_path, [weights * 3], source_weights([weights]))
    assert origin.factors[2] == 1


@pytest.mark.parametrize("bits", [8, 6])
def test_rounded_weights_are_close_and_bear_no_factors(tmp_path, bits):
    weights = kernel((16, 8, 3, 3))
    step = np.abs(weights).max() / 2 ** (bits - 1)
    rounded = (np.round(weights / step) * step).astype(np.float32)
    (origin,) = matched(tmp_path, [rounded], source_weights([weights]))
    expected = np.linalg.norm(rounded - weights) / np.linalg.norm(rounded)
    assert origin.factors is None
    assert origin.error == pytest.approx(expected, rel=1e-5)
    assert 0 < origin.error < FARTHEST


def test_strangers_are_not_matched(tmp_path):
    kernels = [kernel(shape, seed) for seed, shape in enumerate(SHAPES)]
    others = [kernel(shape, 100 + seed) for seed, shape in enumerate(SHAPES)]
    assert matched(tmp_path, kernels, source_weights(others)) == ()


def test_a_filter_of_one_weight_is_proportional_to_anything_and_so_to_nothing(tmp_path):
    depthwise_like = kernel((8, 1, 1, 1), 1)
    assert matched(tmp_path, [depthwise_like], source_weights([kernel((8, 1, 1, 1), 2)])) == ()
    assert len(matched(tmp_path, [depthwise_like], source_weights([depthwise_like]))) == 1


def test_the_same_shape_with_axes_swapped_is_another_layer(tmp_path):
    weights = kernel((16, 16, 3, 3))
    swapped = np.ascontiguousarray(weights.transpose(1, 0, 2, 3))
    assert matched(tmp_path, [swapped], source_weights([weights])) == ()
    mirrored = np.ascontiguousarray(weights[:, :, ::-1])
    assert matched(tmp_path, [mirrored], source_weights([weights])) == ()


def test_equal_weights_go_to_layers_in_order(tmp_path):
    twin = kernel((16, 16, 3, 3))
    first = kernel((16, 3, 3, 3))
    origins = matched(tmp_path, [first, twin, twin], source_weights([first, twin, twin], ["a", "b", "c"]))
    assert [origin.weights for origin in origins] == ["a", "b", "c"]


def test_weights_that_an_exporter_wrote_twice_are_found_twice(tmp_path):
    twin, first = kernel((16, 16, 3, 3)), kernel((16, 3, 3, 3))
    origins = matched(tmp_path, [first, twin * 2, twin * 3], source_weights([first, twin], ["a", "b"]))
    assert [origin.weights for origin in origins] == ["a", "b", "b"]


def test_a_spatial_axis_of_length_one_is_the_exporters(tmp_path):
    flat = kernel((8, 3, 5))
    (origin,) = matched(tmp_path, [flat[:, :, np.newaxis]], [SourceWeights("conv1d", flat.copy(), "HWIO")])
    assert origin.shape == (8, 3, 5)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_weights_that_are_no_numbers_match_themselves_at_most(tmp_path, value):
    weights = np.full((8, 3, 3, 3), value, np.float32)
    other = kernel((8, 3, 3, 3))
    assert matched(tmp_path, [weights], source_weights([other])) == ()
    assert matched(tmp_path, [other], source_weights([weights])) == ()


@settings(max_examples=40, deadline=None)
@given(scales=st.lists(st.floats(-8, 8, width=32), min_size=8, max_size=8), seed=st.integers(0, 2**16))
def test_the_record_keeps_what_was_matched(tmp_path_factory, scales, seed):
    weights = kernel((8, 3, 3, 3), seed)
    written = weights * np.array(scales, np.float32).reshape(-1, 1, 1, 1)
    origins = matched(tmp_path_factory.mktemp("m"), [written], source_weights([weights], ["läyer/ü"]))
    read = from_record({ORIGINS: to_record(origins)}, "m.onnx")
    assert len(read) == len(origins)
    for one, other in zip(origins, read, strict=True):
        assert (one.site, one.weights, one.shape, one.order, one.error) == (
            other.site, other.weights, other.shape, other.order, other.error,
        )  # fmt: skip
        assert (one.factors is None) == (other.factors is None)
        if one.factors is not None:
            np.testing.assert_array_equal(one.factors, other.factors)


def entry(**changes):
    known = {"site": "w", "weights": "k", "shape": [2, 3], "order": "OI", "error": 0.0, "factors": None}
    return json.dumps([{**known, **changes}])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}}",
        "7",
        "[7]",
        '[{"site": "w"}]',
        "[" * 100_000,
        entry(shape=[2]),
        entry(shape=[2, -3]),
        entry(shape=[True, 3]),
        entry(shape=[2.0, 3]),
        entry(order="XY"),
        entry(order=["OI"]),
        entry(error="much"),
        entry(factors="AAAA"),
        entry(factors="not base64"),
        entry(factors="AACAfwAAgD8="),
    ],
)
def test_a_damaged_record_is_one_line(text):
    with pytest.raises(ConversionError, match=r"^m\.onnx: its record .* is damaged \(.*\); convert the original anew$"):
        from_record({ORIGINS: text}, "m.onnx")


def test_a_file_without_a_record_says_what_to_do():
    with pytest.raises(ConversionError, match="does not say where its weights came from; convert the original"):
        from_record({}, "m.onnx")
