"""The second moment of a layer's inputs: against torch's unfold, and against ONNX Runtime's own layers.

Where torch has no unfold (1-D, 3-D, transposed), the truth is the layer itself: over all inputs, the mean square of its
output is ``sum_o w_o' Sigma w_o``, whatever the weights are.
"""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from onnxmark.errors import CalibrationError, ModelError, ModelUnavailable
from onnxmark.model.editing import whole
from onnxmark.model.running.calibration import Calibration
from onnxmark.model.running.runtime import run
from onnxmark.model.running.taps import input_second_moment
from tests.model_runtime.graphs import layer, model, normal, save


def _given(x):
    return Calibration({"x": x}, "inputs.npz")


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [((3, 3), 1, 1, 1), ((3, 3), 2, 1, 1), ((3, 2), 1, 0, 2), ((1, 1), 1, 0, 1), ((5, 3), (2, 3), (2, 0), (1, 2))],
)
def test_agrees_with_unfold(tmp_path, kernel, stride, padding, dilation, group):
    x, weights = normal(5, 4, 11, 9), normal(8, 4 // group, *kernel, seed=1)
    stride, padding, dilation = (v if isinstance(v, tuple) else (v, v) for v in (stride, padding, dilation))
    built = layer("Conv", weights, 2, 4, strides=stride, pads=padding * 2, dilations=dilation, group=group)
    found = input_second_moment(save(built, tmp_path / "m.onnx"), "layer", _given(x), batch_size=2)
    columns = torch.nn.functional.unfold(torch.relu(torch.tensor(x)).double(), kernel, dilation, padding, stride)
    rows = columns.transpose(1, 2).reshape(-1, group, weights[0].size).transpose(0, 1).numpy()
    np.testing.assert_allclose(found, np.swapaxes(rows, 1, 2) @ rows / rows.shape[1], rtol=1e-6, atol=1e-9)


CONVOLUTIONS = {
    "one axis": ("Conv", (6, 3, 4), {"strides": [2], "pads": [1, 2]}),
    "three axes": ("Conv", (6, 3, 2, 3, 2), {"pads": [1, 0, 1, 0, 2, 1], "dilations": [1, 2, 1]}),
    "uneven pads": ("Conv", (6, 3, 3, 3), {"pads": [0, 2, 1, 0], "strides": [2, 2]}),
    "same upper": ("Conv", (6, 3, 3, 2), {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    "same lower": ("Conv", (6, 3, 4, 2), {"auto_pad": "SAME_LOWER", "strides": [3, 1]}),
    "valid": ("Conv", (6, 3, 3, 3), {"auto_pad": "VALID", "strides": [2, 2]}),
    "kernel named": ("Conv", (6, 3, 3, 3), {"kernel_shape": [3, 3]}),
    "depthwise": ("Conv", (6, 1, 3, 3), {"group": 3, "pads": [1, 1, 1, 1]}),
    "transposed": ("ConvTranspose", (3, 5, 3, 3), {}),
    "transposed, strided": ("ConvTranspose", (3, 5, 3, 2), {"strides": [2, 3], "pads": [1, 0, 0, 1]}),
    "transposed, output padding": (
        "ConvTranspose",
        (3, 5, 3, 3),
        {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1]},
    ),
    "transposed, dilated": (
        "ConvTranspose",
        (3, 5, 3, 3),
        {"strides": [2, 1], "dilations": [2, 3], "pads": [3, 1, 4, 0]},
    ),
    "transposed, cropped": ("ConvTranspose", (3, 5, 1, 1), {"pads": [1, 1, 0, 2]}),
    "transposed, groups": ("ConvTranspose", (3, 2, 3, 3), {"strides": [2, 2], "group": 3}),
    "transposed, output shape": ("ConvTranspose", (3, 5, 3, 3), {"strides": [2, 2], "output_shape": [14, 16]}),
    "transposed, same": ("ConvTranspose", (3, 5, 4, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "transposed, same lower": ("ConvTranspose", (3, 5, 4, 3), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    "transposed, one axis": ("ConvTranspose", (3, 5, 4), {"strides": [3], "pads": [2, 1]}),
}


def _canonical(op, weights, group):
    """(out, in / group, *kernel) whatever the operator stores."""
    if op == "Conv":
        return weights
    parts = weights.reshape(group, -1, *weights.shape[1:])
    return np.swapaxes(parts, 1, 2).reshape(group * weights.shape[1], -1, *weights.shape[2:])


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_predicts_the_energy_of_the_output(tmp_path, case):
    op, shape, attributes = CONVOLUTIONS[case]
    x, weights = normal(4, 3, 7, 8, 6)[(..., *[0] * (5 - len(shape)))], normal(*shape, seed=2)
    path = save(layer(op, weights, len(shape) - 2, 3, **attributes), tmp_path / "m.onnx")
    moment = input_second_moment(path, "layer", _given(x))
    outputs = run(path, _given(x)).values["y"].astype(float)
    filters = _canonical(op, weights, attributes.get("group", 1)).astype(float)
    filters = filters.reshape(len(moment), -1, moment.shape[1])
    predicted = np.einsum("gom,gmn,gon->go", filters, moment, filters).reshape(-1)
    np.testing.assert_allclose(predicted, (outputs**2).mean(axis=(0, *range(2, outputs.ndim))), rtol=1e-4)


def _products(op, operands, shape, weights, **attributes):
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node(op, operands, ["y"], name="layer", **attributes)]
    return model(nodes, [("x", shape)], [("y", ["d"] * len(shape))], {"w": weights})


@pytest.mark.parametrize(
    ("built", "x", "rows"),
    [
        (_products("Gemm", ["a", "w"], ["N", 5], normal(5, 4)), normal(9, 5), lambda a: a),
        (_products("Gemm", ["a", "w"], ["N", 5], normal(4, 5), transB=1, alpha=0.5), normal(9, 5), lambda a: a),
        (_products("Gemm", ["a", "w"], ["N", 5], normal(9, 4), transA=1), normal(9, 5), lambda a: a.T),
        (_products("Gemm", ["w", "a"], ["N", 5], normal(4, 9)), normal(9, 5), lambda a: a.T),
        (_products("Gemm", ["w", "a"], ["N", 5], normal(4, 5), transB=1), normal(9, 5), lambda a: a),
        (_products("MatMul", ["a", "w"], ["N", 5], normal(5, 4)), normal(9, 5), lambda a: a),
        (_products("MatMul", ["a", "w"], ["N", 3, 5], normal(5, 4)), normal(9, 3, 5), lambda a: a.reshape(-1, 5)),
        (
            _products("MatMul", ["w", "a"], ["N", 3, 5], normal(4, 3)),
            normal(9, 3, 5),
            lambda a: np.swapaxes(a, 1, 2).reshape(-1, 3),
        ),
    ],
    ids=[
        "gemm",
        "gemm transB",
        "gemm transA",
        "gemm right",
        "gemm right transB",
        "matmul",
        "matmul 3-D",
        "matmul right",
    ],
)
def test_products(tmp_path, built, x, rows):
    found = input_second_moment(save(built, tmp_path / "m.onnx"), "layer", _given(x))
    expected = rows(np.maximum(x, 0).astype(float))
    np.testing.assert_allclose(found, (expected.T @ expected / len(expected))[None], rtol=1e-6)


def test_sample_of_patches_is_seeded_and_close(tmp_path):
    path = save(layer("Conv", normal(4, 3, 3, 3), 2, 3), tmp_path / "m.onnx")
    x = normal(16, 3, 20, 20)
    whole, sample, again, other = (
        input_second_moment(path, "layer", _given(x), rows_per_batch=rows, batch_size=8, seed=seed)
        for rows, seed in ((2**15, 0), (1000, 0), (1000, 0), (1000, 1))
    )
    np.testing.assert_array_equal(sample, again)
    assert not np.array_equal(sample, other)
    assert np.linalg.norm(sample - whole) < 0.15 * np.linalg.norm(whole)


def test_blocks_do_not_change_the_moment(tmp_path, monkeypatch):
    path, x = save(layer("Conv", normal(4, 3, 3, 3), 2, 3), tmp_path / "m.onnx"), normal(4, 3, 9, 9)
    whole = input_second_moment(path, "layer", _given(x))
    monkeypatch.setattr("onnxmark.model.running.patches._BLOCK_ENTRIES", 100)
    np.testing.assert_allclose(input_second_moment(path, "layer", _given(x)), whole, rtol=1e-12)


def _chained():
    """relu -> conv and again conv with the same weights, which pass through an Identity and a Transpose."""
    nodes = [
        helper.make_node("Transpose", ["stored"], ["t"], perm=[1, 0, 2, 3]),
        helper.make_node("Identity", ["t"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["h"], name="first", kernel_shape=[3, 3]),
        helper.make_node("Conv", ["h", "w"], ["y"], name="second", kernel_shape=[3, 3]),
    ]
    sides = ["N", 3, "h", "w"]
    return model(nodes, [("x", sides)], [("y", ["N", 3, "a", "b"])], {"stored": normal(3, 3, 3, 3)})


def test_a_tensor_stands_for_all_nodes_that_use_it(tmp_path):
    path, given = save(_chained(), tmp_path / "m.onnx"), _given(normal(4, 3, 9, 8))
    first, second, both = (input_second_moment(path, name, given) for name in ("first", "second", "stored"))
    positions = np.array([7 * 6, 5 * 4])
    np.testing.assert_allclose(both, (first * positions[0] + second * positions[1]) / positions.sum(), rtol=1e-9)


def test_an_activation_that_is_an_output_already(tmp_path):
    built = layer("Conv", normal(4, 3, 3, 3), 2, 3)
    whole = input_second_moment(save(built, tmp_path / "a.onnx"), "layer", _given(normal(4, 3, 9, 9)))
    built.graph.output.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, None))
    again = input_second_moment(save(built, tmp_path / "b.onnx"), "layer", _given(normal(4, 3, 9, 9)))
    np.testing.assert_array_equal(again, whole)


def test_a_fixed_batch_is_cut(tmp_path):
    open_model, fixed = (layer("Conv", normal(4, 3, 3, 3), 2, 3) for _ in range(2))
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    found = [
        input_second_moment(save(built, tmp_path / f"{name}.onnx"), "layer", _given(normal(5, 3, 6, 6)))
        for name, built in (("open", open_model), ("fixed", fixed))
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_external_data(tmp_path):
    built, x = layer("Conv", normal(4, 3, 3, 3), 2, 3), normal(4, 3, 9, 9)
    inline = input_second_moment(save(built, tmp_path / "inline.onnx"), "layer", _given(x))
    onnx.save(built, tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    np.testing.assert_array_equal(input_second_moment(tmp_path / "m.onnx", "layer", _given(x)), inline)
    (tmp_path / "m.bin").unlink()
    with pytest.raises(ModelError, match=r"^[^\n]*m\.bin[^\n]*$"):
        input_second_moment(tmp_path / "m.onnx", "layer", _given(x))


@pytest.mark.parametrize("name", ["", "relu", "nowhere"])
def test_names_that_are_no_layer(tmp_path, name):
    with pytest.raises(CalibrationError, match=f"of the main graph is named '{name}'"):
        input_second_moment(
            save(layer("Conv", normal(4, 3, 3, 3), 2, 3), tmp_path / "m.onnx"), name, _given(normal(1, 3, 4, 4))
        )


def test_layers_in_subgraphs_cannot_be_calibrated(tmp_path):
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["b"], name="inner")],
        "branch",
        [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)],
    )
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
    built = model(nodes, [("x", ["N", 3])], [("y", ["N", 2])], {"c": np.array(True), "w": normal(3, 2)})
    with pytest.raises(CalibrationError, match="subgraphs and functions cannot be calibrated"):
        input_second_moment(save(built, tmp_path / "m.onnx"), "w", _given(normal(2, 3)))


def test_two_nodes_of_one_name(tmp_path):
    built = _chained()
    built.graph.node[3].name = "first"
    with pytest.raises(CalibrationError, match="2 nodes are named 'first'; name the tensor"):
        input_second_moment(save(built, tmp_path / "m.onnx"), "first", _given(normal(1, 3, 9, 9)))


@pytest.mark.parametrize("operands", [["a", "a"], ["w", "w"]])
def test_products_without_one_activation(tmp_path, operands):
    built = _products("MatMul", operands, [3, 3], normal(3, 3))
    with pytest.raises(CalibrationError, match="does not multiply an activation with constant weights"):
        input_second_moment(save(built, tmp_path / "m.onnx"), "layer", _given(normal(3, 3)))


def test_inputs_smaller_than_the_kernel(tmp_path):
    built = layer("ConvTranspose", normal(3, 4, 3, 3), 2, 3, pads=[1, 1, 1, 1])
    path = save(built, tmp_path / "m.onnx")
    assert input_second_moment(path, "layer", _given(normal(2, 3, 2, 2))).shape == (1, 27, 27)
    path = save(layer("Conv", normal(4, 3, 3, 3), 2, 3), tmp_path / "conv.onnx")
    with pytest.raises(CalibrationError, match="fails on the calibration inputs"):
        input_second_moment(path, "layer", _given(normal(2, 3, 2, 2)))


def test_activations_that_are_not_finite(tmp_path):
    nodes = [helper.make_node("Log", ["x"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"], name="layer")]
    built = model(nodes, [("x", ["N", 3])], [("y", ["N", 2])], {"w": normal(3, 2)})
    with pytest.raises(CalibrationError, match="not finite on the calibration data"):
        input_second_moment(save(built, tmp_path / "m.onnx"), "layer", _given(np.zeros((2, 3))))


@pytest.mark.parametrize("content", [b"not a model", b"\xff\xff"])
def test_files_that_are_no_model(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"^[^\n]*m\.onnx[^\n]*$"):
        input_second_moment(tmp_path / "m.onnx", "layer", _given(np.zeros((2, 3))))


def test_missing_model(tmp_path):
    with pytest.raises(ModelUnavailable, match="No such file"):
        input_second_moment(tmp_path / "m.onnx", "layer", _given(np.zeros((2, 3))))


def test_models_beyond_the_protobuf_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(whole, "LARGEST", 100)
    with pytest.raises(ModelError, match="up to 2 GiB"):
        input_second_moment(
            save(layer("Conv", normal(4, 3, 3, 3), 2, 3), tmp_path / "m.onnx"), "layer", _given(normal(1, 3, 4, 4))
        )
