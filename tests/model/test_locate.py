"""Which tensors are host weights, in which order, under which names: a listing that depends on use, not on names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper, inliner, numpy_helper

from onnxmark.model import open_model
from tests.model.models import OPSETS, constant, conv, every_node, info, model, runtime, save, tensor, weights

W = weights(6, 4, 3, 3)


def listed(made: onnx.ModelProto, tmp_path: Path):
    with open_model(save(made, tmp_path / "m.onnx")) as opened:
        return opened.sites()


def read(made: onnx.ModelProto, tmp_path: Path) -> np.ndarray:
    with open_model(save(made, tmp_path / "m.onnx")) as opened:
        (only,) = opened.weights().values()
        return only.values


def test_a_plain_convolution(tmp_path: Path) -> None:
    (site,) = listed(model([conv("w", name="c", group=2)], [tensor("w", W)]), tmp_path)
    assert (site.name, site.nodes, site.op, site.position, site.shape) == ("w", ("c",), "Conv", 0, (6, 4, 3, 3))
    assert (site.dtype, site.stored, site.group, site.problem) == ("float32", "initializer float32, raw data", 2, None)


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_transposed_convolution_is_the_gradient_of_a_convolution(tmp_path: Path, group: int, stride: int) -> None:
    """Canonical weights, flipped, give with an ordinary convolution what ConvTranspose gives (stride 1: exactly)."""
    stored = weights(4, 6 // group, 3, 3)
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], group=group, strides=[stride, stride])
    made = model([node], [tensor("w", stored)], opsets=OPSETS[:1], ir=10)
    canonical = read(made, tmp_path)
    assert canonical.shape == (6, 4 // group, 3, 3)
    x = weights(1, 4, 5, 5, seed=3)
    (expected,) = runtime(made, {"x": x})
    spread = np.zeros((1, 4, 4 * stride + 1, 4 * stride + 1), np.float32)
    spread[:, :, ::stride, ::stride] = x
    flipped = model([conv("k", group=group, pads=[2] * 4)], [tensor("k", canonical[:, :, ::-1, ::-1])], ir=10)
    (found,) = runtime(flipped, {"x": spread})
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("flip", [None, 0, 1])
def test_gemm(tmp_path: Path, flip: int | None) -> None:
    stored = weights(5, 3) if flip else weights(3, 5)
    attributes = {} if flip is None else {"transB": flip}
    made = model([helper.make_node("Gemm", ["x", "w"], ["y"], **attributes)], [tensor("w", stored)], ir=10)
    found = read(made, tmp_path)
    assert found.shape == (5, 3)
    x = weights(2, 3, seed=4)
    np.testing.assert_allclose(x @ found.T, runtime(made, {"x": x})[0], atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 5), (1, 3, 5), (1, 1, 3, 5)])
def test_matmul_by_a_constant(tmp_path: Path, shape: tuple[int, ...]) -> None:
    made = model([helper.make_node("MatMul", ["x", "w"], ["y"])], [tensor("w", weights(*shape))], ir=10)
    found = read(made, tmp_path)
    assert found.shape == (5, 3)
    x = weights(2, 3, seed=4)
    np.testing.assert_allclose(x @ found.T, runtime(made, {"x": x})[0].reshape(2, 5), atol=1e-5)


def test_matmul_of_a_constant(tmp_path: Path) -> None:
    made = model([helper.make_node("MatMul", ["w", "x"], ["y"])], [tensor("w", weights(5, 3))], ir=10)
    found = read(made, tmp_path)
    assert found.shape == (5, 3)
    x = weights(3, 2, seed=4)
    np.testing.assert_allclose(found @ x, runtime(made, {"x": x})[0], atol=1e-5)


def test_products_of_activations_and_with_vectors_are_no_sites(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("MatMul", ["x", "r"], ["a"]),
        helper.make_node("Gemm", ["r", "x"], ["b"]),
        helper.make_node("MatMul", ["x", "v"], ["c"]),
        helper.make_node("RandomNormal", [], ["n"], shape=[2, 2]),
        helper.make_node("MatMul", ["x", "n"], ["d"]),
    ]
    assert listed(model(nodes, [tensor("v", weights(4))]), tmp_path) == ()


def test_a_batch_of_matrices_is_a_site_with_a_problem(tmp_path: Path) -> None:
    made = model([helper.make_node("MatMul", ["x", "w"], ["y"])], [tensor("w", weights(2, 3, 5))])
    (site,) = listed(made, tmp_path)
    assert site.problem == "a batch of matrices, shape (2, 3, 5)"


def test_unfoldable_dense_weights_are_a_site_with_a_problem(tmp_path: Path) -> None:
    nodes = [helper.make_node("Foo", ["w"], ["k"], name="foo"), helper.make_node("MatMul", ["x", "k"], ["y"])]
    (site,) = listed(model(nodes, [tensor("w", weights(3, 5))]), tmp_path)
    assert site.problem == "passes through op 'Foo' at node 'foo', which is not folded"


def test_absent_weights(tmp_path: Path) -> None:
    made = model([conv("w"), helper.make_node("Conv", ["x"], ["z"], name="bare")], inputs=("x", "w"))
    absent, bare = listed(made, tmp_path)
    assert (absent.name, absent.shape, absent.stored) == ("w", (), "absent")
    assert absent.problem == "the graph input 'w' is not stored in the file"
    assert bare.problem == "the input is left out"


def test_initializer_that_is_an_input_too(tmp_path: Path) -> None:
    (site,) = listed(model([conv("w")], [tensor("w", W)], inputs=("x", "w")), tmp_path)
    assert site.stored == "initializer float32, raw data, also a graph input"
    assert site.problem is None


def test_shared_weights_are_one_site(tmp_path: Path) -> None:
    nodes = [
        conv("w", out="a", name="first"),
        helper.make_node("Identity", ["w"], ["v"]),
        conv("v", "a", name="second"),
    ]
    (site,) = listed(model(nodes, [tensor("w", W)]), tmp_path)
    assert site.nodes == ("first", "second")


def test_one_tensor_read_in_two_ways_is_two_sites(tmp_path: Path) -> None:
    square = tensor("w", weights(3, 3))
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], transB=1),
        helper.make_node("Gemm", ["a", "w"], ["b"], transB=0),
        helper.make_node("Gemm", ["b", "w#2"], ["c"], transB=1),
    ]
    sites = listed(model(nodes, [square, tensor("w#2", weights(4, 3))]), tmp_path)
    assert [site.name for site in sites] == ["w", "w#3", "w#2"]
    assert [site.nodes for site in sites] == [("Gemm_0",), ("Gemm_1",), ("Gemm_2",)]
    assert [site.position for site in sites] == [0, 1, 2]


def test_stored_in_words(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["d"], axis=0),
        helper.make_node("Transpose", ["d"], ["k"], perm=[3, 2, 0, 1]),
        conv("k", out="a"),
        constant("c", W),
        conv("c", out="b"),
    ]
    codes = np.zeros((3, 3, 4, 6), np.int8)
    made = model(nodes, [tensor("q", codes), helper.make_tensor("s", T.FLOAT, [3], [1, 2, 3])])
    first, second = listed(made, tmp_path)
    assert first.stored == "initializer int8, raw data → DequantizeLinear(axis=0) → Transpose(3,2,0,1)"
    assert (first.name, first.dtype, first.shape) == ("q", "int8", (6, 4, 3, 3))
    assert second.stored == "Constant node float32, raw data"


def branch(name: str, *nodes: onnx.NodeProto, inits=()) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), name, [], [info(nodes[-1].output[0])], list(inits))


def choice(then: onnx.GraphProto, other: onnx.GraphProto, name: str = "choose") -> onnx.NodeProto:
    return helper.make_node("If", ["c"], ["y"], name=name, then_branch=then, else_branch=other)


def test_weights_inside_and_outside_of_subgraphs(tmp_path: Path) -> None:
    made = model(
        [
            helper.make_node("Transpose", ["outer"], ["turned"], perm=[3, 2, 0, 1]),
            choice(
                branch("t", conv("turned", out="p", name="a")),
                branch("e", constant("k", W), conv("k", out="q", name=""), conv("inner", "q", "r", name="b"),
                       inits=[tensor("inner", weights(2, 6, 1, 1))]),
            ),
            conv("outer", "y", out="z", name="after"),
        ],
        [tensor("outer", weights(3, 3, 4, 6))], inputs=("x", "c"),
    )  # fmt: skip
    sites = listed(made, tmp_path)
    assert [(site.name, site.nodes) for site in sites] == [
        ("k", ("choose/else_branch/Conv_1",)),
        ("inner", ("choose/else_branch/b",)),
        ("outer", ("choose/then_branch/a",)),
        ("outer#2", ("after",)),
    ]
    assert sites[2].shape == (6, 4, 3, 3)


def test_an_inner_name_does_not_leak_out(tmp_path: Path) -> None:
    made = model(
        [choice(branch("t", constant("k", W), conv("k", out="p")), branch("e", conv("k", out="q", name="other")))]
    )
    outside, inside = listed(made, tmp_path)
    assert inside.problem is None
    assert outside.problem == "nothing in the file is named 'k'"


FUNCTION_OPSET = [helper.make_opsetid("", 17)]


def test_functions_are_followed_at_every_call(tmp_path: Path) -> None:
    inner = helper.make_node("Conv", ["a", "w"], ["o"], name="conv")
    group = onnx.AttributeProto(name="group", ref_attr_name="g", type=onnx.AttributeProto.INT)
    inner.attribute.append(group)
    outer = helper.make_node("Inner", ["a", "t"], ["o"], domain="local", name="call")
    outer.attribute.append(onnx.AttributeProto(name="g", ref_attr_name="h", type=onnx.AttributeProto.INT))
    turn = helper.make_node("Transpose", ["b"], ["t"], perm=[3, 2, 0, 1])
    functions = [
        helper.make_function("local", "Inner", ["a", "w"], ["o"], [inner], FUNCTION_OPSET, ["g"]),
        helper.make_function("local", "Outer", ["a", "b"], ["o"], [turn, outer], FUNCTION_OPSET, ["h"]),
    ]
    made = model(
        [
            helper.make_node("Outer", ["x", "w"], ["m"], domain="local", name="one", h=1),
            helper.make_node("Outer", ["m", "v"], ["y"], domain="local", name="two", h=2),
        ],
        [tensor("w", weights(3, 3, 4, 6)), tensor("v", weights(3, 3, 3, 2))],
        functions=functions, opsets=[*FUNCTION_OPSET, helper.make_opsetid("local", 1)], ir=8,
    )  # fmt: skip
    path = save(made, tmp_path / "m.onnx")
    with open_model(path) as opened:
        sites = opened.sites()
        found = opened.weights()
    assert [(site.name, site.nodes, site.group) for site in sites] == [
        ("w", ("one/call/conv",), 1), ("v", ("two/call/conv",), 2),
    ]  # fmt: skip
    inlined = inliner.inline_local_functions(made)
    with open_model(save(inlined, tmp_path / "inlined.onnx")) as opened:
        assert [site.group for site in opened.sites()] == [1, 2]
        for name, same in opened.weights().items():
            np.testing.assert_array_equal(found[name].values, same.values)


def test_weights_that_a_function_makes(tmp_path: Path) -> None:
    """A constant inside, returned; and one inside used by a convolution inside, which two calls share."""
    functions = [
        helper.make_function("local", "Make", [], ["o"], [constant("o", W)], FUNCTION_OPSET),
        helper.make_function(
            "local", "Layer", ["a"], ["o"], [constant("k", W + 1), conv("k", "a", "o", name="c")], FUNCTION_OPSET
        ),
    ]
    made = model(
        [
            helper.make_node("Make", [], ["w"], domain="local"), conv("w", out="a", name="plain"),
            helper.make_node("Layer", ["a"], ["b"], domain="local", name="p"),
            helper.make_node("Layer", ["b"], ["y"], domain="local", name="q"),
        ], functions=functions,
    )  # fmt: skip
    with open_model(save(made, tmp_path / "m.onnx")) as opened:
        first, second = opened.sites()
        assert first.nodes == ("plain",)
        assert second.nodes == ("p/c", "q/c")
        found = opened.weights()
    np.testing.assert_array_equal(found[first.name].values, W)
    np.testing.assert_array_equal(found[second.name].values, W + 1)


def test_fused_convolutions_as_onnx_runtime_saves_them(tmp_path: Path) -> None:
    import onnxruntime as ort

    made = model(
        [conv("w", out="a"), helper.make_node("Relu", ["a"], ["y"])], [tensor("w", W)], opsets=OPSETS[:1], ir=10
    )
    del made.graph.input[:]
    made.graph.input.append(info("x", [1, 4, 8, 8]))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    with open_model(tmp_path / "fused.onnx") as opened:
        (site,) = opened.sites()
        assert site.op == "FusedConv"
        np.testing.assert_array_equal(opened.read(site).values, W)


def test_real_models_weight_by_weight(wheel_models: dict[str, Path]) -> None:
    """By tensor name through onnx, for every convolution whose weight is stored as it is used."""
    compared = 0
    for path in wheel_models.values():
        reference = onnx.load(str(path))
        stored: dict[str, np.ndarray] = {}
        duplicated: set[str] = set()
        for node in every_node(reference.graph):
            if node.op_type == "Constant" and node.attribute[0].HasField("t"):
                duplicated |= {node.output[0]} & set(stored)
                stored[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        stored |= {t.name: numpy_helper.to_array(t) for t in reference.graph.initializer}
        with open_model(path) as opened:
            for site in opened.sites():
                assert site.problem is None
                found = opened.read(site).values
                if site.op == "Conv" and site.name in stored and "→" not in site.stored and site.name not in duplicated:
                    np.testing.assert_array_equal(found, stored[site.name].astype(np.float32))
                    compared += 1
    assert compared > 150
